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
    /// Its kernels, the better ones before others that are made for the same lines.
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
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "no other device has such"))]
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
            means(info),
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

/// What the kernel uses that not every device has.
fn means(info: &VariantInfo) -> &'static str {
    match info.capabilities {
        _ if is_of_tensor_cores(info) => ", on tensor cores",
        ["SHADER_FLOAT16"] => ", held in f16",
        ["SUBGROUP"] => ", by subgroups",
        _ => "",
    }
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
        && (shapes(info) || !problem.shapes(options))
}

/// Whether a kernel on tensor cores has scores that are more than scaled by a positive number.
pub(in crate::attention) fn shapes(info: &VariantInfo) -> bool {
    info.parameter("shapes") == Some("true")
}

/// Bytes of shared memory that a launch asks for.
pub(in crate::attention) fn shared(info: &VariantInfo) -> u32 {
    info.parameter("shared").and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use super::*;
    use crate::attention::Mask;
    use crate::attention::kernels::WalkPtx;
    use crate::element::DType;

    /// A device of so many multiprocessors and so much shared memory in a block.
    fn device(units: usize, kibibytes: u32) -> Target {
        let kernels = WalkPtx::VARIANTS.iter().map(|one| one.info).collect();
        Target { name: "cuda".to_owned(), kernels, full: 8 * units, units, shared: kibibytes << 10 }
    }

    fn h100() -> Target {
        device(132, 227)
    }

    fn planned(target: &Target, dtype: DType, sizes: [usize; 7], options: &Options) -> [Plan; 2] {
        let problem = Problem::new(dtype, sizes, options).unwrap();
        [Pass::Forward, Pass::Backward].map(|pass| walk(target, pass, &problem, options).unwrap())
    }

    /// Names of both passes, of B=2, H=8, Hk=2, 1024 tokens.
    fn names(target: &Target, dtype: DType, width: usize, options: &Options) -> [&'static str; 2] {
        let sizes = [2, 8, 2, 1024, 1024, width, width];
        planned(target, dtype, sizes, options).map(|plan| plan.variant)
    }

    #[test]
    fn tensor_cores_take_elements_of_16_bits() {
        let plain = Options::default();
        for (width, forward, backward) in [
            (17, "attention_forward_mma_bf16_d64", "attention_backward_dq_mma_bf16_d64"),
            (64, "attention_forward_mma_bf16_d64", "attention_backward_dq_mma_bf16_d64"),
            (80, "attention_forward_mma_bf16_d128", "attention_backward_dq_mma_bf16_d128"),
            (256, "attention_forward_mma_bf16_d256", "attention_backward_dq_mma_bf16_d256"),
            (257, "attention_forward_out_d512", "attention_backward_dq_d512"),
        ] {
            assert_eq!(names(&h100(), DType::BF16, width, &plain), [forward, backward], "{width}");
        }
        let walks = ["attention_forward_out_d128", "attention_backward_dq_d128"];
        assert_eq!(names(&h100(), DType::F32, 64, &plain), walks);
    }

    /// Softcaps and scales that are not positive go where there are registers for them.
    #[test]
    fn scores_that_are_more_than_scaled_have_their_kernels() {
        let backward = "attention_backward_dq_mma_f16_d128";
        let causal = Options::default().with_mask(Mask::causal());
        for options in [causal.clone().with_softcap(30.0), causal.clone().with_scale(0.0)] {
            let names = names(&h100(), DType::F16, 128, &options);
            assert_eq!(names, ["attention_forward_mma_f16_d128_shaped", backward]);
        }
        let names = names(&h100(), DType::F16, 128, &causal);
        assert_eq!(names, ["attention_forward_mma_f16_d128", backward]);
    }

    #[test]
    fn kernels_fit_the_shared_memory_of_a_block() {
        let plain = Options::default();
        let small = names(&device(82, 64), DType::F16, 128, &plain);
        assert_eq!(small, ["attention_forward_mma_f16_d128_shaped", "attention_backward_dq_d128"]);
        let wide = names(&device(82, 99), DType::F16, 256, &plain);
        assert_eq!(wide, ["attention_forward_mma_f16_d256", "attention_backward_dq_mma_f16_d256"]);
    }

    /// One query of four heads that share keys: parts of the keys fill the device.
    #[test]
    fn few_rows_split_the_keys() {
        let sizes = [1, 32, 8, 1, 16_384, 128, 128];
        let [forward, backward] = planned(&h100(), DType::BF16, sizes, &Options::default());
        assert_eq!((forward.splits, forward.blocks), (33, 264));
        assert_eq!(backward.splits, 1);
        let asked = Options::default().with_splits(3);
        let [forward, _] = planned(&h100(), DType::BF16, sizes, &asked);
        assert_eq!((forward.tile, forward.splits), ([128, 64], 3));
    }

    #[test]
    fn any_variant_that_fits_may_be_asked_for() {
        let options = Options::default().with_variant("attention_forward_out_d512");
        let [forward, backward] = names(&h100(), DType::F16, 64, &options);
        assert_eq!(forward, "attention_forward_out_d512");
        assert_eq!(backward, "attention_backward_dq_mma_f16_d64");
        let problem = Problem::new(DType::F16, [1, 1, 1, 1, 1, 65, 65], &options).unwrap();
        let narrow = Options::default().with_variant("attention_forward_mma_f16_d64");
        let refused = walk(&h100(), Pass::Forward, &problem, &narrow).unwrap_err().to_string();
        assert!(refused.contains("attention_forward_mma_f16_d128"), "{refused}");
    }
}
