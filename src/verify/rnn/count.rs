//! What the kernels of a call do, by the interpreter.

use std::time::Instant;

use warpwright_ptx::interpreter::Options as Interpretation;

use super::Case;
use crate::Result;
use crate::backend::cuda::{Cuda, Interpreter};
use crate::backend::{Device, dispatch, on_backend};
use crate::element::{DType, Float};
use crate::rnn::{
    Inputs, NAME, OutputGradients, Outputs, Problem, Rnn, Save, backward, forward, split,
};
use crate::verify::count::Counted;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Pass {
    /// With nothing kept.
    Forward,
    /// With what the backward pass needs kept.
    Training,
    Backward,
}

/// Runs one pass on an interpreter of its own and counts; `variant` is forced where it is given.
///
/// # Errors
///
/// As the call.
pub fn count(
    case: &Case,
    pass: Pass,
    dtype: DType,
    variant: Option<&str>,
    interpretation: Interpretation,
) -> Result<Counted> {
    let interpreter = Interpreter::new(interpretation);
    let device = Device::Cuda(Cuda::with_driver(interpreter.clone())?);
    dispatch!(NAME, &device, dtype, |backend, T| {
        count_on::<_, T>(backend, case, pass, variant, &interpreter)
    })
}

fn count_on<B: Rnn<T>, T: Float>(
    backend: &B,
    case: &Case,
    pass: Pass,
    forced: Option<&str>,
    interpreter: &Interpreter,
) -> Result<Counted> {
    let mut options = case.options().with_states(false);
    if pass == Pass::Forward {
        options.save = Save::Nothing;
    }
    options.variant = forced.map(str::to_owned);
    let (inputs, given) = split(&case.tensors::<T>()?);
    let (inputs, given) = (on_backend(backend, &inputs)?, on_backend(backend, &given)?);
    let inputs = Inputs::<B, T>::from_named(&inputs)?;
    let given = OutputGradients::<B, T>::from_named(&given)?;
    let problem = Problem::check(&inputs, &options)?;
    let plan = match pass {
        Pass::Backward => backend.plan_backward(&problem, &options)?,
        _ => backend.plan_forward(&problem, &options)?,
    };
    let mut begun = Instant::now();
    let Outputs { h, saved, .. } = forward(&inputs, &options)?;
    if let (Pass::Backward, Some(saved)) = (pass, &saved) {
        interpreter.take_counters();
        begun = Instant::now();
        backward(&inputs, &options, &h, saved, &given)?;
    }
    let elapsed = begun.elapsed();
    Ok(Counted {
        variant: plan.variant,
        kernels: interpreter.take_counters(),
        least_bytes: match pass {
            Pass::Backward => problem.least_bytes_backward(),
            _ => problem.least_bytes_forward(),
        },
        elements: (problem.batch * problem.steps * problem.heads * problem.width) as u64,
        elapsed,
    })
}
