//! What the kernels of a call do, by the interpreter.

use std::time::Instant;

use warpwright_ptx::interpreter::Options as Interpretation;

use super::Case;
use crate::Result;
use crate::attention::{
    Attention, Inputs, NAME, OutputGradients, Plan, Problem, backward, forward, split,
};
use crate::backend::cuda::{Cuda, Interpreter};
use crate::backend::{Cpu, Device, dispatch, on_backend};
use crate::element::{DType, Float};
use crate::verify::count::Counted;

/// The plans of both passes on an interpreter, which does not depend on how it interprets.
///
/// # Errors
///
/// As the call.
pub fn plans(case: &Case, dtype: DType) -> Result<[Plan; 2]> {
    let interpreter = Interpreter::new(Interpretation::default());
    let device = Device::Cuda(Cuda::with_driver(interpreter)?);
    let options = case.options();
    dispatch!(NAME, &device, dtype, |backend, T| {
        let (inputs, _) = split(&case.tensors::<T>()?);
        let problem = Problem::check(&Inputs::<Cpu, T>::from_named(&inputs)?, &options)?;
        Ok([
            Attention::<T>::plan_forward(backend, &problem, &options)?,
            Attention::<T>::plan_backward(backend, &problem, &options)?,
        ])
    })
}

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

fn count_on<B: Attention<T>, T: Float>(
    backend: &B,
    case: &Case,
    is_backward: bool,
    forced: Option<&str>,
    interpreter: &Interpreter,
) -> Result<Counted> {
    let mut options = case.options();
    options.variant = forced.map(str::to_owned);
    let (inputs, given) = split(&case.tensors::<T>()?);
    let (inputs, given) = (on_backend(backend, &inputs)?, on_backend(backend, &given)?);
    let inputs = Inputs::<B, T>::from_named(&inputs)?;
    let given = OutputGradients::<B, T>::new(given["dout"].as_typed()?);
    let problem = Problem::check(&inputs, &options)?;
    let plan = match is_backward {
        true => backend.plan_backward(&problem, &options)?,
        false => backend.plan_forward(&problem, &options)?,
    };
    let mut begun = Instant::now();
    let outputs = forward(&inputs, &options)?;
    if is_backward {
        interpreter.take_counters();
        begun = Instant::now();
        backward(&inputs, &options, &outputs.saved(), &given)?;
    }
    let elapsed = begun.elapsed();
    let super::Sizes { batch, heads, queries, keys, .. } = case.sizes;
    Ok(Counted {
        variant: plan.variant,
        kernels: interpreter.take_counters(),
        least_bytes: match is_backward {
            true => problem.least_bytes_backward(),
            false => problem.least_bytes_forward(),
        },
        elements: (batch * heads * queries * keys) as u64,
        elapsed,
    })
}
