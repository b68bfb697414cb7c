//! What the kernels of all ranks do, by the interpreter.

use std::time::Instant;

use warpwright_ptx::interpreter::Options as Interpretation;

use super::{Case, time};
use crate::Result;
use crate::backend::cuda::{Cuda, Interpreter};
use crate::backend::{Device, dispatch};
use crate::element::DType;
use crate::ring::{NAME, Pass, run_threads};
use crate::verify::attention::Sizes;
use crate::verify::count::Counted;

/// Runs the forward pass, or both where `pass` is `backward`, on an interpreter of its own, which
/// all ranks share, and counts.
///
/// # Errors
///
/// As the call.
pub(super) fn count(
    case: &Case,
    pass: &str,
    dtype: DType,
    interpretation: Interpretation,
) -> Result<Counted> {
    let interpreter = Interpreter::new(interpretation);
    let device = Device::Cuda(Cuda::with_driver(interpreter.clone())?);
    let (ring, options, problem) = (case.ring()?, case.options(), case.call.problem(dtype)?);
    let begun = Instant::now();
    dispatch!(NAME, &device, dtype, |backend, T| {
        let tensors = time::tensors::<T>(case, pass)?;
        run_threads::<_, T>(backend, &tensors, &ring, &options).map(drop)
    })?;
    let elapsed = begun.elapsed();
    let (pass, least_bytes) = match pass {
        "backward" => {
            (Pass::Backward, problem.least_bytes_forward() + problem.least_bytes_backward())
        }
        _ => (Pass::Forward, problem.least_bytes_forward()),
    };
    let Sizes { batch, heads, queries, keys, .. } = case.call.sizes;
    Ok(Counted {
        variant: ring.chosen(&case.shards(dtype)?, pass).name(),
        kernels: interpreter.take_counters(),
        least_bytes,
        elements: (batch * heads * queries * keys) as u64,
        elapsed,
    })
}
