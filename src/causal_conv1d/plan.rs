//! Which kernel runs, and how: pure functions of sizes and limits.

use super::{NAME, Options, Pass};
use crate::Result;
use crate::plan::{Plan, Schedule};
use crate::variant::{forced, no_such_variant};

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
pub(super) use cuda::{Spans, cuda, cuda_variants, workspace};
#[cfg(feature = "wgpu")]
mod wgpu;
#[cfg(feature = "wgpu")]
pub(super) use wgpu::{Spans as WgpuSpans, wgpu};

/// The variant that is forced on a pass. One of another pass has no say in it, so that a call that
/// goes forward and backward may force either.
fn forced_on(pass: Pass, options: &Options) -> Option<String> {
    let others = match pass {
        Pass::Forward => ["causal_conv1d_backward_", "causal_conv1d_update_"],
        Pass::Backward => ["causal_conv1d_forward_", "causal_conv1d_update_"],
    };
    let of_other = |name: &String| others.iter().any(|other| name.starts_with(other));
    forced(NAME, options.variant.as_ref()).filter(|name| !of_other(name))
}

/// The plan of the CPU, which has one kernel for each pass and kind of element.
pub(super) fn cpu(
    pass: Pass,
    variant: &'static str,
    schedule: Schedule,
    tasks: usize,
    workspace: u64,
    options: &Options,
) -> Result<Plan> {
    match forced_on(pass, options) {
        Some(asked) if asked != variant => {
            Err(no_such_variant(NAME, "cpu".to_owned(), &asked, [variant]))
        }
        _ => Ok(Plan {
            variant,
            schedule,
            blocks: [u32::try_from(tasks).unwrap_or(u32::MAX), 1, 1],
            workspace,
            reason: "rows, blocks of channels and spans of time in parallel".to_owned(),
        }),
    }
}
