//! What the kernels of a convolution do, by the interpreter.

use std::time::Instant;

use warpwright_ptx::interpreter::Options as Interpretation;

use super::Case;
use crate::Result;
use crate::backend::cuda::{Cuda, Interpreter};
use crate::backend::{Device, dispatch, on_backend};
use crate::causal_conv1d::{
    CausalConv1d, Inputs, NAME, Options, OutputGradients, Pass, Problem, backward, forward,
};
use crate::element::{DType, Float};
use crate::verify::count::Counted;

/// Runs one pass on an interpreter of its own and counts.
///
/// # Errors
///
/// As [`forward`] and [`backward`].
pub fn count(
    case: &Case,
    pass: Pass,
    dtype: DType,
    options: &Options,
    interpretation: Interpretation,
) -> Result<Counted> {
    let interpreter = Interpreter::new(interpretation);
    let device = Device::Cuda(Cuda::with_driver(interpreter.clone())?);
    dispatch!(NAME, &device, dtype, |backend, T| {
        count_on::<_, T>(backend, case, pass, options, &interpreter)
    })
}

fn count_on<B: CausalConv1d<T>, T: Float>(
    backend: &B,
    case: &Case,
    pass: Pass,
    options: &Options,
    interpreter: &Interpreter,
) -> Result<Counted> {
    let named = on_backend(backend, &case.tensors::<T>()?)?;
    let inputs = Inputs::<B, T>::from_named(&named)?;
    let problem = Problem::check(&inputs, options)?;
    let variant = backend.plan(pass, &problem, options)?.variant;
    let begun = Instant::now();
    match (pass, OutputGradients::<B, T>::from_named(&named)?) {
        (Pass::Backward, Some(gradients)) => {
            backward(&inputs, &gradients, options)?;
        }
        _ => {
            forward(&inputs, options)?;
        }
    }
    let elapsed = begun.elapsed();
    let elements = problem.batch * problem.channels * problem.steps;
    Ok(Counted {
        variant,
        kernels: interpreter.take_counters(),
        least_bytes: problem.least_bytes(pass),
        elements: elements as u64,
        elapsed,
    })
}
