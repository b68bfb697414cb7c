//! Counting: what the kernels of an operation do, by the interpreter, instruction by instruction.

use std::time::Duration;

use warpwright_ptx::interpreter::Counters;

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
    /// The elements that the operation's cost is stated for: B · D · L · N of a scan.
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
