//! Which kernel runs, and how: pure functions of sizes and limits.

use std::fmt;

use super::{NAME, Options, Problem};
use crate::Result;
use crate::variant::{forced, no_such_variant};

mod layout;
pub use layout::{Binding, Cost, Tiling};

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
mod tiler;
#[cfg(feature = "cuda")]
pub(super) use cuda::{cuda, cuda_variants};

#[cfg(feature = "wgpu")]
mod wgpu;
#[cfg(feature = "wgpu")]
pub(super) use wgpu::{
    ITERATIONS, ROWS, history_steps, padded_gates, steps_at_once, wgpu, wgpu_variants,
};

/// How heads of rows are run through time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Path {
    /// All steps at once: a block, or a task, has a head of some rows and never waits for others.
    Resident,
    /// One step after the other: all blocks, or tasks, share each of them.
    Stepwise,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resident => "a head of some rows by itself, all steps at once",
            Self::Stepwise => "all together, one step after the other",
        })
    }
}

/// The kernel that was chosen for a call.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[must_use]
pub struct Plan {
    /// The variant, as listed by `warpwright list`.
    pub variant: &'static str,
    /// How time is walked.
    pub path: Path,
    /// Rows that a block, or a task, has.
    pub rows: u32,
    /// Blocks, or tasks, side by side.
    pub blocks: u32,
    /// Bytes of memory that the call needs besides its tensors.
    pub workspace: u64,
    /// Why, in a sentence.
    pub reason: String,
    /// The layouts of a CUDA device that fit, the chosen one first, then by their cost.
    pub layouts: Vec<Tiling>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variant, path, rows, blocks, workspace, reason, layouts } = self;
        writeln!(f, "variant    {variant}")?;
        writeln!(f, "path       {path}")?;
        writeln!(f, "blocks     {blocks}, of {rows} rows each")?;
        writeln!(f, "workspace  {workspace} bytes")?;
        write!(f, "because    {reason}")?;
        layout::write_table(f, layouts)
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
            Self::Forward => "rnn_backward",
            Self::Backward => "rnn_forward",
        };
        forced(NAME, options.variant.as_ref()).filter(|name| !name.starts_with(other))
    }
}

/// Bytes of a head's matrices that are read again at every step by one task without harm: about
/// the second cache of a core.
const MATRICES_OF_A_TASK: usize = 1 << 20;

/// The plan of the CPU, which has one kernel for each element type.
pub(super) fn cpu(
    pass: Pass,
    variant: &'static str,
    threads: usize,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    if let Some(asked) = pass.forced(options).filter(|asked| asked != variant) {
        return Err(no_such_variant(NAME, "cpu".to_owned(), &asked, [variant]));
    }
    let &Problem { cell, batch, heads, width, .. } = problem;
    let gates = cell.recurrent_gates().len();
    let matrices = gates * width * width * size_of::<f32>();
    let resident = matrices <= MATRICES_OF_A_TASK || threads == 1;
    let groups = match resident {
        true => threads.div_ceil(heads.max(1)).min(batch.div_ceil(LEAST_ROWS)).max(1),
        false => 1,
    };
    let rows = batch.div_ceil(groups);
    let (path, reason) = match resident {
        true => (Path::Resident, format!("{matrices} bytes of matrices stay in a core's cache")),
        false => (
            Path::Stepwise,
            format!("{matrices} bytes of matrices are shared out to {threads} threads"),
        ),
    };
    let word = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let blocks = if rows == 0 { 0 } else { heads * batch.div_ceil(rows) };
    Ok(Plan {
        variant,
        path,
        rows: word(rows),
        blocks: word(blocks),
        workspace: 0,
        reason,
        layouts: Vec::new(),
    })
}

/// Rows that share what is read of the matrices.
const LEAST_ROWS: usize = 6;
