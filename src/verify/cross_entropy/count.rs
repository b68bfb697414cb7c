//! What the kernels of a call do, by the interpreter.

use std::time::Instant;

use warpwright_ptx::interpreter::Options as Interpretation;

use super::Case;
use crate::Result;
use crate::backend::cuda::{Cuda, Interpreter};
use crate::backend::{Device, dispatch, on_backend};
use crate::cross_entropy::{CrossEntropy, Inputs, NAME, Problem, backward, forward, split};
use crate::element::{DType, Float};
use crate::parameter::Parameter;
use crate::verify::count::Counted;

/// Runs one pass, `forward` or `backward`, on an interpreter of its own and counts; `variant` is
/// forced where it is given.
///
/// # Errors
///
/// As the call.
pub fn count(
    case: &Case,
    pass: &str,
    dtype: DType,
    variant: Option<&str>,
    interpretation: Interpretation,
) -> Result<Counted> {
    let interpreter = Interpreter::new(interpretation);
    let device = Device::Cuda(Cuda::with_driver(interpreter.clone())?);
    dispatch!(NAME, &device, dtype, |backend, T| {
        count_on::<_, T>(backend, case, pass == "backward", variant, &interpreter)
    })
}

fn count_on<B: CrossEntropy<T>, T: Float>(
    backend: &B,
    case: &Case,
    is_backward: bool,
    forced: Option<&str>,
    interpreter: &Interpreter,
) -> Result<Counted> {
    let mut options = case.options();
    options.variant = forced.map(str::to_owned);
    let (inputs, dloss) = split(&case.tensors::<T>()?);
    let inputs = on_backend(backend, &inputs)?;
    let inputs = Inputs::<B, T>::from_named(&inputs)?;
    let problem = Problem::check(&inputs, &options)?;
    let plan = match is_backward {
        true => backend.plan_backward(&problem, &options)?,
        false => backend.plan_forward(&problem, &options)?,
    };
    let mut begun = Instant::now();
    let outputs = forward(&inputs, &options)?;
    if let Some(dloss) = dloss.filter(|_| is_backward) {
        let dloss = dloss.to_backend(backend)?;
        interpreter.take_counters();
        begun = Instant::now();
        backward(&inputs, &options, &outputs.lse, Parameter::from_view(&dloss)?)?;
    }
    let elapsed = begun.elapsed();
    Ok(Counted {
        variant: plan.variant,
        kernels: interpreter.take_counters(),
        least_bytes: match is_backward {
            true => problem.least_bytes_backward(),
            false => problem.least_bytes_forward(),
        },
        elements: (problem.tokens * problem.columns) as u64,
        elapsed,
    })
}
