//! What the kernel of an update does, by the interpreter.

use std::time::Instant;

use warpwright_ptx::interpreter::Options as Interpretation;

use super::Case;
use crate::Result;
use crate::backend::cuda::{Cuda, Interpreter};
use crate::backend::{Device, dispatch, on_backend};
use crate::element::{DType, Float};
use crate::selective_scan::state_update::{Inputs, NAME, Problem, State, StateUpdate, update};
use crate::verify::count::Counted;

/// Runs an update on an interpreter of its own and counts.
///
/// # Errors
///
/// As the call.
pub fn count(case: &Case, dtype: DType, interpretation: Interpretation) -> Result<Counted> {
    let interpreter = Interpreter::new(interpretation);
    let device = Device::Cuda(Cuda::with_driver(interpreter.clone())?);
    dispatch!(NAME, &device, dtype, |backend, T| count_on::<_, T>(backend, case, &interpreter))
}

fn count_on<B: StateUpdate<T>, T: Float>(
    backend: &B,
    case: &Case,
    interpreter: &Interpreter,
) -> Result<Counted> {
    let options = case.options();
    let named = on_backend(backend, &case.tensors::<T>()?)?;
    let mut state = named["state"].clone();
    let inputs = Inputs::<B, T>::from_named(&named)?;
    let problem = Problem::check(&State::from_view(&mut state)?, &inputs, &options)?;
    let variant = backend.plan(&problem, &options)?.variant;
    let begun = Instant::now();
    update(State::from_view(&mut state)?, &inputs, &options)?;
    let elapsed = begun.elapsed();
    let elements = problem.batch * problem.steps * problem.channels() * problem.states;
    Ok(Counted {
        variant,
        kernels: interpreter.take_counters(),
        least_bytes: problem.least_bytes(case.gate),
        elements: elements as u64,
        elapsed,
    })
}
