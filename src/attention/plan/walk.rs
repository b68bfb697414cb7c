//! The plans of kernels of which a block, or workgroup, has a tile of rows, and walks what they meet.

use super::{Pass, Plan, Tile};
use crate::attention::{NAME, Options, Problem};
use crate::backend::kernel::VariantInfo;
use crate::variant::no_such_variant;
use crate::{Error, Result};

/// A device, as these plans see it.
pub(in crate::attention) struct Target {
    pub name: String,
    /// Its kernels.
    pub kernels: Vec<&'static VariantInfo>,
    /// Blocks that fill it.
    pub full: usize,
}

/// Keys of a tile of scores.
pub(in crate::attention) const COLUMNS: usize = 32;

/// Parts of the keys that are worth a merge of their results have so many.
const LEAST_PART: usize = 256;

/// Parts that one workgroup merges without being what all wait for.
const MOST_PARTS: usize = 64;

/// The rows of a variant's tile.
pub(in crate::attention) fn rows(info: &VariantInfo) -> usize {
    info.parameter("tile_rows").and_then(|rows| rows.parse().ok()).unwrap_or(1)
}

/// Features that a variant's lines may have.
pub(in crate::attention) fn width(info: &VariantInfo) -> usize {
    info.parameter("width").and_then(|width| width.parse().ok()).unwrap_or(0)
}

/// Chooses the kernel of a pass: the one with the narrowest lines that fit.
pub(in crate::attention) fn walk(
    target: &Target,
    pass: Pass,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    let fitting = fitting(target, pass, problem);
    let chosen = match pass.forced(options) {
        Some(asked) => match fitting.iter().find(|info| info.name == asked) {
            Some(chosen) => Some(chosen),
            None => {
                let names = fitting.iter().map(|info| info.name);
                return Err(no_such_variant(NAME, target.name.clone(), &asked, names));
            }
        },
        None => fitting.first(),
    };
    let Some(info) = chosen else {
        return Err(Error::Unsupported {
            operation: NAME,
            backend: target.name.clone(),
            what: format!("elements {}", problem.dtype),
            instead: "use `cpu`".to_owned(),
        });
    };
    let tile = Tile::of(problem, rows(info));
    let tiles = tile.count(problem);
    let splits = match (pass, options.splits) {
        (Pass::Backward, _) => 1,
        (_, Some(splits)) => splits.min(problem.keys.div_ceil(COLUMNS).max(1)),
        (_, None) if problem.sequences.is_some() => 1,
        (_, None) => {
            let most = (problem.keys / LEAST_PART).clamp(1, MOST_PARTS);
            (target.full / tiles.max(1)).clamp(1, most)
        }
    };
    let word = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let lines = problem.batch * problem.heads * problem.queries;
    let parts = if splits > 1 { splits * lines * (problem.value_width + 1) } else { 0 };
    Ok(Plan {
        variant: info.name,
        tile: [word(rows(info)), word(COLUMNS)],
        splits: word(splits),
        blocks: word(tiles.saturating_mul(splits)),
        workspace: 4 * (parts + 3 * lines) as u64,
        reason: format!(
            "lines of {} features, up to {}; {tiles} blocks for all keys, {} would fill the \
             device",
            problem.width.max(problem.value_width),
            width(info),
            target.full,
        ),
    })
}

/// Every variant of a pass that fits, the plan's own first.
pub(in crate::attention) fn walk_variants(
    target: &Target,
    pass: Pass,
    problem: &Problem,
    options: &Options,
) -> Result<Vec<&'static str>> {
    let planned = walk(target, pass, problem, options)?.variant;
    let others = fitting(target, pass, problem).into_iter().map(|info| info.name);
    Ok(std::iter::once(planned).chain(others.filter(|&name| name != planned)).collect())
}

/// Every kernel that can run the pass, narrow lines first; backward passes are named after what
/// gives dq.
fn fitting(target: &Target, pass: Pass, problem: &Problem) -> Vec<&'static VariantInfo> {
    let (stage, lines) = match pass {
        Pass::Forward => ("out", problem.value_width),
        Pass::Backward => ("dq", problem.width),
    };
    let element = problem.dtype.name();
    let fits = |info: &&VariantInfo| {
        info.parameter("element").is_none_or(|of| of == element)
            && info.parameter("stage") == Some(stage)
            && lines <= width(info)
    };
    let mut fitting: Vec<_> = target.kernels.iter().copied().filter(fits).collect();
    fitting.sort_by_key(|info| width(info));
    fitting
}
