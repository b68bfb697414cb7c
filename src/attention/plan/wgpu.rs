//! The plans of WebGPU devices: 128 invocations have a tile of rows, and walk what they meet.

use super::{Pass, Plan, Tile};
use crate::attention::kernels::{BackwardWgsl, ForwardWgsl};
use crate::attention::{NAME, Options, Problem};
use crate::backend::Limits;
use crate::backend::kernel::VariantInfo;
use crate::variant::no_such_variant;
use crate::{Error, Result};

/// Workgroups that fill a hardware device: WebGPU does not tell how many units there are, so this
/// is what a large one needs, 132 units of 4.
const FULL: usize = 132 * 4;

/// Workgroups that keep a core of a software device busy.
const FULL_PER_CORE: usize = 2;

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
pub(in crate::attention) fn wgpu(
    pass: Pass,
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    let fitting = fitting(pass, problem);
    let chosen = match pass.forced(options) {
        Some(asked) => match fitting.iter().find(|info| info.name == asked) {
            Some(chosen) => Some(chosen),
            None => {
                let names = fitting.iter().map(|info| info.name);
                return Err(no_such_variant(NAME, device.to_owned(), &asked, names));
            }
        },
        None => fitting.first(),
    };
    let Some(info) = chosen else {
        return Err(Error::Unsupported {
            operation: NAME,
            backend: device.to_owned(),
            what: format!("elements {}", problem.dtype),
            instead: "use `cpu`".to_owned(),
        });
    };
    let tile = Tile::of(problem, rows(info));
    let tiles = tile.count(problem);
    let full = if limits.units == 0 { FULL } else { limits.units as usize * FULL_PER_CORE };
    let splits = match (pass, options.splits) {
        (Pass::Backward, _) => 1,
        (_, Some(splits)) => splits.min(problem.keys.div_ceil(COLUMNS).max(1)),
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
        tile: [word(rows(info)), word(COLUMNS)],
        splits: word(splits),
        blocks: word(tiles.saturating_mul(splits)),
        workspace: 4 * (parts + 3 * lines) as u64,
        reason: format!(
            "lines of {} features, up to {}; {tiles} workgroups for all keys, {full} would fill \
             the device",
            problem.width.max(problem.value_width),
            width(info),
        ),
    })
}

/// Every variant of a pass that fits, the plan's own first.
pub(in crate::attention) fn wgpu_variants(
    pass: Pass,
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Vec<&'static str>> {
    let planned = wgpu(pass, device, limits, problem, options)?.variant;
    let others = fitting(pass, problem).into_iter().map(|info| info.name);
    Ok(std::iter::once(planned).chain(others.filter(|&name| name != planned)).collect())
}

/// Every kernel that can run the pass, narrow lines first; backward passes are named after what
/// gives dq.
fn fitting(pass: Pass, problem: &Problem) -> Vec<&'static VariantInfo> {
    let all: Vec<&'static VariantInfo> = match pass {
        Pass::Forward => ForwardWgsl::VARIANTS.iter().map(|one| one.info).collect(),
        Pass::Backward => BackwardWgsl::VARIANTS.iter().map(|one| one.info).collect(),
    };
    let lines = match pass {
        Pass::Forward => problem.value_width,
        Pass::Backward => problem.width,
    };
    let stage = if pass == Pass::Forward { "forward" } else { "dq" };
    let fits = |info: &&VariantInfo| {
        info.parameter("element") == Some(problem.dtype.name())
            && info.parameter("stage") == Some(stage)
            && lines <= width(info)
    };
    let mut fitting: Vec<_> = all.into_iter().filter(fits).collect();
    fitting.sort_by_key(|info| width(info));
    fitting
}
