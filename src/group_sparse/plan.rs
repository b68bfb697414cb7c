//! Which kernel runs, and who computes what: pure functions of sizes and limits.

use std::fmt;

use super::partition::Partition;
use super::{NAME, Options, Problem, Scheme};
use crate::Result;
use crate::variant::{forced, no_such_variant};

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(super) use gpu::*;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
pub(super) use cuda::*;
#[cfg(feature = "wgpu")]
mod wgpu;
#[cfg(feature = "wgpu")]
pub(super) use wgpu::*;

/// The kernel that was chosen for a product, and how its work is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Plan {
    /// The variant, as listed by `warpwright list`.
    pub variant: &'static str,
    /// Whether shares are even or whole rows.
    pub scheme: Scheme,
    /// Workers: tasks, warps or workgroups.
    pub workers: usize,
    /// Even shares are multiples of so many items: kept groups, or chunks of 16 bytes of codes.
    pub quantum: usize,
    /// Rows of a worker, where shares are whole rows.
    pub rows: usize,
    /// Vectors that are multiplied with each decoded weight.
    pub vectors: usize,
    /// Blocks, workgroups, or tasks, side by side.
    pub blocks: u32,
    /// Bytes of memory that a product keeps besides its tensors.
    pub workspace: u64,
    /// Why, in a sentence.
    pub reason: String,
}

impl Plan {
    /// The shares of the workers, of rows of items.
    pub(super) fn partition<'a>(&self, row_ptr: &'a [u32]) -> Partition<'a> {
        match self.scheme {
            Scheme::TaskCentric => Partition::even(row_ptr, self.workers, self.quantum),
            Scheme::DataCentric => Partition::by_rows(row_ptr, self.rows),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variant, scheme, workers, rows, vectors, blocks, workspace, reason, .. } = self;
        writeln!(f, "variant    {variant}")?;
        match scheme {
            Scheme::TaskCentric => writeln!(f, "scheme     {scheme}, {workers} even shares")?,
            Scheme::DataCentric => writeln!(f, "scheme     {scheme}, {rows} rows each")?,
        }
        writeln!(f, "vectors    {vectors} at once")?;
        writeln!(f, "blocks     {blocks}")?;
        writeln!(f, "workspace  {workspace} bytes")?;
        write!(f, "because    {reason}")
    }
}

/// Shares of whole rows may be so much larger than their mean.
const BALANCED: f64 = 1.05;

/// Bytes of codes that a task of the CPU reads: enough that handing it out does not show.
const CPU_SHARE: usize = 16 << 10;

/// The plan of the CPU, which has one kernel. It does not look at the number of threads, so that sums
/// go in the same order with any.
pub(super) fn cpu(
    variant: &'static str,
    device: &str,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    if let Some(asked) = forced(NAME, options.variant.as_ref()).filter(|asked| asked != variant) {
        return Err(no_such_variant(NAME, device.to_owned(), &asked, [variant]));
    }
    let format = &problem.format;
    let share = CPU_SHARE.div_ceil(format.group_bytes());
    let even = problem.kept().div_ceil(share).max(1);
    let rows = (format.rows / even).max(1);
    let imbalance = super::partition::imbalance(&problem.row_ptr, rows);
    let is_balanced = imbalance <= BALANCED && even <= format.rows;
    let scheme = options.scheme.unwrap_or(match is_balanced {
        true => Scheme::DataCentric,
        false => Scheme::TaskCentric,
    });
    let workers = match scheme {
        Scheme::TaskCentric => options.workers.unwrap_or(even),
        Scheme::DataCentric => format.rows.div_ceil(rows),
    };
    Ok(Plan {
        variant,
        scheme,
        workers,
        quantum: 1,
        rows,
        vectors: problem.vectors,
        blocks: u32::try_from(workers).unwrap_or(u32::MAX),
        workspace: 0,
        reason: format!("the largest share of {rows} whole rows is {imbalance:.2} of the mean"),
    })
}
