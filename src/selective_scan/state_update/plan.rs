//! Which kernel runs, and how: pure functions of sizes and limits.

use super::{NAME, Options};
use crate::Result;
use crate::plan::{Plan, Schedule};
use crate::variant::{forced, no_such_variant};

#[cfg(feature = "cuda")]
mod cuda;

#[cfg(feature = "cuda")]
pub(super) use cuda::{Spread, cuda};

/// The plan for the one kernel that a device has for these elements.
pub(super) fn only(
    device: &str,
    variant: &'static str,
    blocks: [u32; 3],
    reason: String,
    options: &Options,
) -> Result<Plan> {
    match forced(NAME, options.variant.as_ref()) {
        Some(asked) if asked != variant => {
            Err(no_such_variant(NAME, device.to_owned(), &asked, [variant]))
        }
        _ => Ok(Plan { variant, schedule: Schedule::Serial, blocks, workspace: 0, reason }),
    }
}
