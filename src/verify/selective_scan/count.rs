//! What the kernels of a scan do, by the interpreter.

use std::time::Instant;

use warpwright_ptx::interpreter::Options as Interpretation;

use super::Case;
use crate::Result;
use crate::backend::cuda::{Cuda, Interpreter};
use crate::backend::{Backend, Device, dispatch, on_backend};
use crate::element::{DType, Float};
use crate::selective_scan::{
    Inputs, NAME, Options, OutputGradients, Problem, SelectiveScan, backward, forward,
};
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

/// The same with the backward pass, and the forward pass saving its states.
///
/// # Errors
///
/// As [`forward`].
pub fn count_both(
    case: &Case,
    dtype: DType,
    options: &Options,
    interpretation: Interpretation,
) -> Result<Counted> {
    let interpreter = Interpreter::new(interpretation);
    let device = Device::Cuda(Cuda::with_driver(interpreter.clone())?);
    dispatch!(NAME, &device, dtype, |backend, T| {
        count_both_on::<_, T>(backend, case, options, &interpreter)
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
    Ok(Counted {
        variant,
        kernels: interpreter.take_counters(),
        least_bytes: problem.least_bytes(case.gate),
        elements: case.elements(),
        elapsed: begun.elapsed(),
    })
}

fn count_both_on<B: SelectiveScan<T> + Backend, T: Float>(
    backend: &B,
    case: &Case,
    options: &Options,
    interpreter: &Interpreter,
) -> Result<Counted> {
    let options = &options.clone().with_save(true);
    let named = on_backend(backend, &case.tensors::<T>()?)?;
    let gradients = on_backend(backend, &case.output_gradients::<T>()?)?;
    let inputs = Inputs::<B, T>::from_named(&named)?;
    let outer = OutputGradients::<B, T>::from_named(&gradients)?;
    let problem = Problem::check(&inputs, options)?;
    let variant = backend.plan_backward(&problem, options)?.variant;
    let begun = Instant::now();
    if let Some(saved) = &forward(&inputs, options)?.saved {
        backward(&inputs, options, saved, &outer)?;
    }
    Ok(Counted {
        variant,
        kernels: interpreter.take_counters(),
        least_bytes: problem.least_bytes(case.gate) + problem.least_backward_bytes(case.gate),
        elements: case.elements(),
        elapsed: begun.elapsed(),
    })
}
