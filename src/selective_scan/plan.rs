//! Which kernel runs, and how: pure functions of sizes and limits.

use super::NAME;
use crate::Result;
pub use crate::plan::{Plan, Schedule};
use crate::variant::{forced, no_such_variant};

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
pub(super) use cuda::{Chunks, cuda, cuda_variants, spread_alike};
#[cfg(feature = "wgpu")]
mod wgpu;
#[cfg(feature = "wgpu")]
pub(super) use wgpu::{Spread, binds_directly, segment, wgpu, wgpu_variants};

/// The plan of the CPU, which has one kernel for each element type.
pub(super) fn cpu(variant: &'static str, tasks: usize, options: &super::Options) -> Result<Plan> {
    match forced(NAME, options.variant.as_ref()) {
        Some(asked) if asked != variant => {
            Err(no_such_variant(NAME, "cpu".to_owned(), &asked, [variant]))
        }
        _ => Ok(Plan {
            variant,
            schedule: Schedule::Serial,
            blocks: [u32::try_from(tasks).unwrap_or(u32::MAX), 1, 1],
            workspace: 0,
            reason: "the CPU walks time serially, rows and blocks of channels in parallel"
                .to_owned(),
        }),
    }
}
