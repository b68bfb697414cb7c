//! The plans of kernels of which a block, or workgroup, has a tile of rows, and walks what they meet.

use std::cmp::Reverse;

use super::{Pass, Plan, Tile, tiles};
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
    /// Multiprocessors, of a device that has kernels for tensor cores.
    pub units: usize,
    /// Most bytes of shared memory in a block.
    pub shared: u32,
}

impl Target {
    /// Blocks of a kernel that fill the device.
    fn full(&self, info: &VariantInfo) -> usize {
        number(info, "resident").map_or(self.full, |blocks| blocks * self.units)
    }
}

/// Parts of the keys that are worth a merge of their results have so many.
const LEAST_PART: usize = 256;

/// Parts that one workgroup merges without being what all wait for.
const MOST_PARTS: usize = 64;

fn number(info: &VariantInfo, parameter: &str) -> Option<usize> {
    info.parameter(parameter)?.parse().ok()
}

/// The rows of a variant's tile.
pub(in crate::attention) fn rows(info: &VariantInfo) -> usize {
    number(info, "tile_rows").unwrap_or(1)
}

/// The others that a variant's tile has at a time.
pub(in crate::attention) fn keys(info: &VariantInfo) -> usize {
    number(info, "tile_keys").unwrap_or(1)
}

/// Features that a variant's lines may have.
pub(in crate::attention) fn width(info: &VariantInfo) -> usize {
    number(info, "width").unwrap_or(0)
}

/// What a walk gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::attention) enum Stage {
    Out,
    Dq,
    /// Both of them, on tensor cores.
    DkDv,
    Dk,
    Dv,
    Dbias,
}

impl Stage {
    /// As `variants.toml` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Dq => "dq",
            Self::DkDv => "dkdv",
            Self::Dk => "dk",
            Self::Dv => "dv",
            Self::Dbias => "dbias",
        }
    }
}

/// How the blocks of a walk share the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::attention) struct Walked {
    pub tile: Tile,
    /// Tiles of the heads of a group.
    pub head_tiles: usize,
    /// Tiles of the tokens of all sequences; for a bias, which they share, of those of one.
    pub tiles: usize,
}

impl Walked {
    /// Of a kernel whose tile has so many rows: queries of one or more heads, or keys of one.
    pub fn new(problem: &Problem, stage: Stage, rows: usize) -> Self {
        let tile = match stage {
            Stage::Out | Stage::Dq => Tile::of(problem, rows),
            Stage::DkDv | Stage::Dk | Stage::Dv | Stage::Dbias => Tile { queries: rows, heads: 1 },
        };
        let (head_tiles, tiles) = match stage {
            Stage::Out | Stage::Dq => {
                let tiles = tiles(problem, problem.queries, tile.queries);
                (problem.group().div_ceil(tile.heads), tiles)
            }
            Stage::DkDv | Stage::Dk | Stage::Dv => (1, tiles(problem, problem.keys, rows)),
            Stage::Dbias => (1, problem.queries.div_ceil(rows)),
        };
        Self { tile, head_tiles, tiles }
    }
}

/// Chooses the kernel of a pass: the one with the narrowest lines that fit.
pub(in crate::attention) fn walk(
    target: &Target,
    pass: Pass,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    let fitting = fitting(target, pass, problem, options);
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
    let (tiles, full) = (tile.count(problem), target.full(info));
    let splits = match (pass, options.splits) {
        (Pass::Backward, _) => 1,
        (_, Some(splits)) => splits.min(problem.keys.div_ceil(keys(info)).max(1)),
        (_, None) if problem.sequences.is_some() => 1,
        (_, None) => {
            let most = (problem.keys / LEAST_PART).clamp(1, MOST_PARTS);
            (full / tiles.max(1)).clamp(1, most)
        }
    };
    let word = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let lines = problem.batch * problem.heads * problem.queries;
    let parts = if splits > 1 { splits * lines * (problem.value_width + 1) } else { 0 };
    Ok(Plan {
        variant: info.name,
        tile: [word(rows(info)), word(keys(info))],
        splits: word(splits),
        blocks: word(tiles.saturating_mul(splits)),
        workspace: 4 * (parts + 3 * lines) as u64,
        reason: format!(
            "lines of {} features, up to {}{}; {tiles} blocks for all keys, {full} would fill \
             the device",
            problem.width.max(problem.value_width),
            width(info),
            if is_of_tensor_cores(info) { ", on tensor cores" } else { "" },
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
    let others = fitting(target, pass, problem, options).into_iter().map(|info| info.name);
    Ok(std::iter::once(planned).chain(others.filter(|&name| name != planned)).collect())
}

/// Whether the kernel's products are those of tensor cores.
pub(in crate::attention) fn is_of_tensor_cores(info: &VariantInfo) -> bool {
    info.parameter("shared").is_some()
}

/// Every kernel that can run the pass: first those on tensor cores, narrow lines first; backward
/// passes are named after what gives dq.
fn fitting(
    target: &Target,
    pass: Pass,
    problem: &Problem,
    options: &Options,
) -> Vec<&'static VariantInfo> {
    let (stage, lines) = match pass {
        Pass::Forward => (Stage::Out, problem.value_width),
        Pass::Backward => (Stage::Dq, problem.width),
    };
    let element = problem.dtype.name();
    let fits = |info: &&VariantInfo| {
        info.parameter("element").is_none_or(|of| of == element)
            && info.parameter("stage") == Some(stage.name())
            && match is_of_tensor_cores(info) {
                true => fits_tensor_cores(target, problem, options, info),
                false => lines <= width(info),
            }
    };
    let mut fitting: Vec<_> = target.kernels.iter().copied().filter(fits).collect();
    fitting.sort_by_key(|info| (!is_of_tensor_cores(info), width(info), Reverse(rows(info))));
    fitting
}

fn fits_tensor_cores(
    target: &Target,
    problem: &Problem,
    options: &Options,
    info: &VariantInfo,
) -> bool {
    problem.width.max(problem.value_width) <= width(info)
        && shared(info) <= target.shared
        && (info.parameter("shapes") == Some("true") || !problem.shapes(options))
}

/// Bytes of shared memory that a launch asks for.
pub(in crate::attention) fn shared(info: &VariantInfo) -> u32 {
    info.parameter("shared").and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}
