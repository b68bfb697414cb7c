//! Counting: what the kernels of an operation do, by the interpreter, instruction by instruction.

use std::time::{Duration, Instant};

use warpwright_ptx::interpreter::{Counters, Options as Interpretation};

use super::selective_scan::Case;
use crate::Result;
use crate::backend::cuda::{Cuda, Interpreter};
use crate::backend::{Backend, Device, dispatch, on_backend};
use crate::element::{DType, Float};
use crate::selective_scan::{Inputs, NAME, Options, Problem, SelectiveScan, forward};

/// What one call did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Counted {
    /// The variant that the plan chose.
    pub variant: &'static str,
    /// A kernel each, in the order of their first launches.
    pub kernels: Vec<Counters>,
    /// The least bytes that the call can move.
    pub least_bytes: u64,
    /// B · D · L · N.
    pub elements: u64,
    /// The interpreter's own time.
    pub elapsed: Duration,
}

impl Counted {
    /// Instructions executed by threads.
    pub fn instructions(&self) -> u64 {
        self.kernels.iter().map(|kernel| kernel.total().threads).sum()
    }

    /// Bytes that went to and from global memory, in whole sectors.
    pub fn bytes(&self) -> u64 {
        self.kernels.iter().map(|kernel| kernel.total().global_bytes()).sum()
    }

    /// Instructions per element of the problem.
    pub fn instructions_per_element(&self) -> f64 {
        self.instructions() as f64 / self.elements.max(1) as f64
    }
}

/// Runs one scan on an interpreter of its own and counts.
///
/// # Errors
///
/// As [`forward`].
pub fn selective_scan(
    case: &Case,
    dtype: DType,
    options: &Options,
    interpretation: Interpretation,
) -> Result<Counted> {
    let interpreter = Interpreter::new(interpretation);
    let device = Device::Cuda(Cuda::with_driver(interpreter.clone())?);
    dispatch!(NAME, &device, dtype, |backend, T| {
        scan_on::<_, T>(backend, case, options, &interpreter)
    })
}

fn scan_on<B: SelectiveScan<T> + Backend, T: Float>(
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
