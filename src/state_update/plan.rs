//! Which kernel runs, and how: pure functions of sizes and limits.

use super::{NAME, Options};
use crate::Result;
use crate::plan::{Plan, Schedule};
use crate::variant::{forced, no_such_variant};

/// The plan of the CPU, which has one kernel for each element type.
pub(super) fn cpu(variant: &'static str, tasks: usize, options: &Options) -> Result<Plan> {
    match forced(NAME, options.variant.as_ref()) {
        Some(asked) if asked != variant => {
            Err(no_such_variant(NAME, "cpu".to_owned(), &asked, [variant]))
        }
        _ => Ok(Plan {
            variant,
            schedule: Schedule::Serial,
            blocks: [u32::try_from(tasks).unwrap_or(u32::MAX), 1, 1],
            workspace: 0,
            reason: "the states of a channel lie across the lanes, batch entries and blocks of \
                     channels in parallel"
                .to_owned(),
        }),
    }
}
