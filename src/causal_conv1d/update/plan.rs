//! Which kernel runs, and how: pure functions of sizes and limits.

use super::NAME;
use crate::Result;
use crate::causal_conv1d::Options;
use crate::plan::{Plan, Schedule};
use crate::variant::{forced, no_such_variant};

/// The plan for the one kernel that a device has for a kind of element.
pub(super) fn only(
    device: &str,
    variant: &'static str,
    blocks: [u32; 3],
    options: &Options,
) -> Result<Plan> {
    match forced(NAME, options.variant.as_ref()) {
        Some(asked) if asked != variant => {
            Err(no_such_variant(NAME, device.to_owned(), &asked, [variant]))
        }
        _ => Ok(Plan {
            variant,
            schedule: Schedule::Serial,
            blocks,
            workspace: 0,
            reason: "there is one kernel for these elements".to_owned(),
        }),
    }
}
