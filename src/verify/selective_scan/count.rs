//! What the kernels of a scan do, by the interpreter.

use std::time::Instant;

use warpwright_ptx::interpreter::Options as Interpretation;

use super::Case;
use crate::Result;
use crate::backend::cuda::{Cuda, Interpreter};
use crate::backend::{Backend, Device, dispatch, on_backend};
use crate::element::{DType, Float};
use crate::selective_scan::{Inputs, NAME, Options, Problem, SelectiveScan, forward};
use crate::verify::count::Counted;

/// Runs one scan on an interpreter of its own and counts.
///
/// # Errors
///
/// As [`forward`].
pub fn count(
    case: &Case,
    dtype: DType,
    options: &Options,
    interpretation: Interpretation,
) -> Result<Counted> {
    let interpreter = Interpreter::new(interpretation);
    let device = Device::Cuda(Cuda::with_driver(interpreter.clone())?);
    dispatch!(NAME, &device, dtype, |backend, T| {
        count_on::<_, T>(backend, case, options, &interpreter)
    })
}

fn count_on<B: SelectiveScan<T> + Backend, T: Float>(
    backend: &B,
    case: &Case,
    options: &Options,
    interpreter: &Interpreter,
) -> Result<Counted> {
    let named = on_backend(backend, &case.tensors::<T>()?)?;
    let inputs = Inputs::<B, T>::from_named(&named)?;
    let problem = Problem::check(&inputs, options)?;
    let variant = backend.plan_forward(&problem, options)?.variant;
    let begun = Instant::now();
    forward(&inputs, options)?;
    let elapsed = begun.elapsed();
    let sizes = case.sizes;
    let elements = sizes.batch * sizes.channels * sizes.steps * sizes.states;
    Ok(Counted {
        variant,
        kernels: interpreter.take_counters(),
        least_bytes: problem.least_bytes(case.gate),
        elements: elements as u64,
        elapsed,
    })
}
