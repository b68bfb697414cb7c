//! Which kernel runs, and how: pure functions of sizes and limits.

use super::{NAME, Options};
use crate::Result;
use crate::plan::{Plan, Schedule};
use crate::variant::{forced, no_such_variant};

/// Features of a block, or workgroup.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(super) const BLOCK_FEATURES: usize = 64;

/// Column blocks of a head; one where it has no features.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(super) fn columns(width: usize) -> usize {
    width.div_ceil(BLOCK_FEATURES).max(1)
}

#[cfg(feature = "wgpu")]
mod wgpu;
#[cfg(feature = "wgpu")]
pub(super) use wgpu::{wgpu, wgpu_variants};
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
pub(super) use cuda::{ChunkGradients, ChunkStates, Chunks, Parts, cuda, cuda_variants};

/// A pass of the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    Forward,
    Backward,
}

impl Pass {
    /// The variant that is forced for this pass: one that is named after the other pass leaves it
    /// alone.
    pub fn forced(self, options: &Options) -> Option<String> {
        let other = match self {
            Self::Forward => "scan_attention_backward",
            Self::Backward => "scan_attention_forward",
        };
        forced(NAME, options.variant.as_ref()).filter(|name| !name.starts_with(other))
    }
}

/// The plan of the CPU, which has one kernel for each element type.
pub(super) fn cpu(
    pass: Pass,
    variant: &'static str,
    tasks: usize,
    options: &Options,
) -> Result<Plan> {
    match pass.forced(options) {
        Some(asked) if asked != variant => {
            Err(no_such_variant(NAME, "cpu".to_owned(), &asked, [variant]))
        }
        _ => Ok(Plan {
            variant,
            schedule: Schedule::Serial,
            blocks: [u32::try_from(tasks).unwrap_or(u32::MAX), 1, 1],
            workspace: 0,
            reason: "the CPU walks time serially, heads of rows in parallel".to_owned(),
        }),
    }
}
