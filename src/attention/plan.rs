//! Which kernel runs, and how: pure functions of sizes and limits.

use std::fmt;

use super::{NAME, Options, Problem};
use crate::Result;
use crate::variant::{forced, no_such_variant};

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod walk;
#[cfg(feature = "wgpu")]
mod wgpu;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(super) use walk::{Stage, Target, Walked, keys, rows, walk, walk_variants, width};
#[cfg(feature = "cuda")]
pub(super) use walk::{is_of_tensor_cores, shapes, shared};
#[cfg(feature = "wgpu")]
pub(super) use wgpu::{runs, target};

/// The kernel that was chosen for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Plan {
    /// The variant, as listed by `warpwright list`.
    pub variant: &'static str,
    /// Rows and keys of a tile of scores; rows are queries of one or more heads.
    pub tile: [u32; 2],
    /// Parts of the keys that are worked on side by side and merged.
    pub splits: u32,
    /// Blocks, or tasks, side by side.
    pub blocks: u32,
    /// Bytes of memory that the call needs besides its tensors.
    pub workspace: u64,
    /// Why, in a sentence.
    pub reason: String,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variant, tile: [rows, keys], splits, blocks, workspace, reason } = self;
        writeln!(f, "variant    {variant}")?;
        writeln!(f, "tile       {rows} rows x {keys} keys")?;
        writeln!(f, "splits     {splits}")?;
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
            Self::Forward => "attention_backward",
            Self::Backward => "attention_forward",
        };
        forced(NAME, options.variant.as_ref()).filter(|name| !name.starts_with(other))
    }
}

/// Rows of a tile of the CPU: a multiple of the rows whose sums stay in registers.
pub(super) const CPU_ROWS: usize = 96;

/// Keys of a tile of the CPU: scores, keys and values of a tile fit in a core's second cache.
pub(super) const CPU_KEYS: usize = 256;

/// Tasks that keep the cores of a machine busy to the end.
const CPU_TASKS: usize = 32;

/// The queries and the heads of a group that a tile has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub queries: usize,
    pub heads: usize,
}

impl Tile {
    /// For the CPU: all heads that share keys, as far as there is room, so that these are read once,
    /// and queries for the rest of it.
    pub fn of_cpu(problem: &Problem) -> Self {
        let heads = problem.group().clamp(1, CPU_ROWS);
        Self { queries: (CPU_ROWS / heads).min(problem.queries.max(1)), heads }
    }

    /// For GPUs: queries, and heads where these leave rows of the tile free. How many queries packed
    /// sequences have is not known.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub fn of(problem: &Problem, rows: usize) -> Self {
        if problem.sequences.is_some() {
            return Self { queries: rows, heads: 1 };
        }
        let queries = problem.queries.clamp(1, rows);
        Self { queries, heads: (rows / queries).clamp(1, problem.group().max(1)) }
    }

    /// Tiles of all queries of all heads.
    pub fn count(self, problem: &Problem) -> usize {
        tiles(problem, problem.queries, self.queries)
            * problem.kv_heads
            * problem.group().div_ceil(self.heads)
    }
}

/// Tiles of the tokens of all sequences, or the most that there may be where these are packed.
pub(super) fn tiles(problem: &Problem, tokens: usize, of_tile: usize) -> usize {
    match problem.sequences {
        Some(sequences) => tokens.div_ceil(of_tile) + sequences,
        None => problem.batch * tokens.div_ceil(of_tile),
    }
}

/// Parts of the keys that the CPU works on side by side. They depend on sizes alone, so that
/// results do not depend on the number of threads.
fn cpu_splits(tasks: usize, problem: &Problem, options: &Options) -> usize {
    let tiles = problem.keys.div_ceil(CPU_KEYS).max(1);
    options.splits.unwrap_or_else(|| (CPU_TASKS / tasks.max(1)).max(1)).min(tiles)
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
    let tile = Tile::of_cpu(problem);
    let &Problem { batch, heads, kv_heads, queries, value_width, width, .. } = problem;
    let sequences = problem.sequences.unwrap_or(batch);
    let tasks = match pass {
        Pass::Forward => tile.count(problem),
        Pass::Backward => sequences * kv_heads,
    };
    let splits = cpu_splits(tasks, problem, options);
    let of_part = match pass {
        Pass::Forward => value_width + 1,
        Pass::Backward => width,
    };
    let parts = if splits > 1 { splits * batch * heads * queries * of_part } else { 0 };
    let word = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Ok(Plan {
        variant,
        tile: [word(tile.queries * tile.heads), word(CPU_KEYS)],
        splits: word(splits),
        blocks: word(tasks * splits),
        workspace: (parts * size_of::<f32>()) as u64,
        reason: match splits {
            1 => format!("{tasks} tasks keep all cores busy"),
            _ => format!("{tasks} tasks alone would not keep all cores busy"),
        },
    })
}
