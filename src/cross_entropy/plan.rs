//! Which kernel runs, and how: pure functions of sizes and limits.

use std::fmt;

use super::{NAME, Options, Problem};
use crate::Result;
use crate::variant::{forced, no_such_variant};

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(super) use gpu::{Chunks, gpu, gpu_variants, part_columns};

/// The kernel that was chosen for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Plan {
    /// The variant, as listed by `warpwright list`.
    pub variant: &'static str,
    /// Columns whose logits are there at once; all of them where the logits are given.
    pub columns: usize,
    /// Parts of a token's columns that are worked on side by side.
    pub parts: u32,
    /// Blocks, workgroups, or tasks, side by side.
    pub blocks: u32,
    /// Bytes of memory that the call needs besides its tensors.
    pub workspace: u64,
    /// Why, in a sentence.
    pub reason: String,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variant, columns, parts, blocks, workspace, reason } = self;
        writeln!(f, "variant    {variant}")?;
        writeln!(f, "columns    {columns} at once, in {parts} parts")?;
        writeln!(f, "blocks     {blocks}")?;
        writeln!(f, "workspace  {workspace} bytes")?;
        write!(f, "because    {reason}")
    }
}

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
            Self::Forward => "cross_entropy_backward",
            Self::Backward => "cross_entropy_forward",
        };
        forced(NAME, options.variant.as_ref()).filter(|name| !name.starts_with(other))
    }
}

/// Numbers of the logits that are computed at once: bytes that a CPU's last cache may hold.
const CPU_LOGITS: usize = 4 << 20;

/// Columns that a task of the CPU reads of a token, or makes of a linear layer.
pub(super) const CPU_PART: usize = 16_384;

/// Columns that a task of the CPU makes of a linear layer: whole vectors of numbers of weights that
/// the second cache holds.
pub(super) fn cpu_columns(width: usize) -> usize {
    ((1 << 18) / width.max(1)).clamp(16, 512) / 16 * 16
}

/// The plan of the CPU, which has one kernel for each element type.
pub(super) fn cpu(
    pass: Pass,
    variant: &'static str,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    if let Some(asked) = pass.forced(options).filter(|asked| asked != variant) {
        return Err(no_such_variant(NAME, "cpu".to_owned(), &asked, [variant]));
    }
    let &Problem { tokens, columns, .. } = problem;
    let Some(width) = problem.width else {
        let parts = columns.div_ceil(CPU_PART).max(1);
        return Ok(Plan {
            variant,
            columns,
            parts: u32::try_from(parts).unwrap_or(u32::MAX),
            blocks: u32::try_from(tokens * parts).unwrap_or(u32::MAX),
            workspace: 0,
            reason: "rows are read once, a part of one per task".to_owned(),
        });
    };
    let at_once = cpu_columns(width);
    let group = match pass {
        Pass::Forward => at_once,
        Pass::Backward => (CPU_LOGITS / tokens.max(1) / at_once).clamp(1, 64) * at_once,
    };
    let features = width.next_multiple_of(16);
    // x, and backward logits, the weight and dx.
    let numbers = match pass {
        Pass::Forward => tokens * features,
        Pass::Backward => 2 * tokens * features + group * (tokens + features),
    };
    Ok(Plan {
        variant,
        columns: group.min(columns),
        parts: 1,
        blocks: u32::try_from(columns.div_ceil(at_once)).unwrap_or(u32::MAX),
        workspace: 4 * numbers as u64,
        reason: format!(
            "a task makes the logits of {at_once} columns, whose weights stay in cache"
        ),
    })
}
