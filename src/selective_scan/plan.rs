//! Which kernel runs, and how: pure functions of sizes and limits.

use super::NAME;
use crate::Result;
pub use crate::plan::{Plan, Schedule};
use crate::variant::{forced, no_such_variant};

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
pub(super) use cuda::{
    Chunks, Parts, Summed, Walk, cuda, cuda_backward, cuda_backward_variants, cuda_variants,
    dynamic_shared, spread_alike,
};
#[cfg(feature = "wgpu")]
mod wgpu;
#[cfg(feature = "wgpu")]
pub(super) use wgpu::{
    Cut, Rooms, Spread, binds_directly, segment, wgpu, wgpu_backward, wgpu_variants,
};

/// The plan of the CPU, which has one kernel for each element type.
pub(super) fn cpu(variant: &'static str, tasks: usize, options: &super::Options) -> Result<Plan> {
    on_cpu(variant, tasks, 0, options.forward_variant())
}

/// The same for the backward pass.
pub(super) fn cpu_backward(
    variant: &'static str,
    tasks: usize,
    workspace: u64,
    options: &super::Options,
) -> Result<Plan> {
    on_cpu(variant, tasks, workspace, options.backward_variant())
}

fn on_cpu(
    variant: &'static str,
    tasks: usize,
    workspace: u64,
    forced: Option<String>,
) -> Result<Plan> {
    match forced {
        Some(asked) if asked != variant => {
            Err(no_such_variant(NAME, "cpu".to_owned(), &asked, [variant]))
        }
        _ => Ok(Plan {
            variant,
            schedule: Schedule::Serial,
            blocks: [u32::try_from(tasks).unwrap_or(u32::MAX), 1, 1],
            workspace,
            reason: "the CPU walks time serially, rows and blocks of channels in parallel"
                .to_owned(),
        }),
    }
}

impl super::Options {
    /// The variant that is forced for the forward pass: one that is not of the backward pass.
    pub(super) fn forward_variant(&self) -> Option<String> {
        forced(NAME, self.variant.as_ref()).filter(|name| !of_backward(name))
    }

    /// The variant that is forced for the backward pass.
    pub(super) fn backward_variant(&self) -> Option<String> {
        forced(NAME, self.variant.as_ref()).filter(|name| of_backward(name))
    }
}

fn of_backward(variant: &str) -> bool {
    variant.starts_with("selective_scan_backward_")
}
