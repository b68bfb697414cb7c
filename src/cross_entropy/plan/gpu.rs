//! The plans of GPUs, CUDA's and WebGPU's, which have kernels of the same forms.

use std::ops::Range;

use super::{Pass, Plan};
use crate::backend::Limits;
use crate::backend::kernel::VariantInfo;
use crate::cross_entropy::{NAME, Options, Problem, STATISTICS};
use crate::element::DType;
use crate::variant::no_such_variant;
use crate::{Error, Result};

/// Bytes of the logits that are computed at once.
const LOGITS: usize = 256 << 20;

/// Columns of a tile of a product: those that are there at once are a multiple of it.
const TILE: usize = 64;

/// Rows of at most so many columns go to a warp, or as few threads.
const SHORT: usize = 1024;

/// A block's least part of a row, in columns: what each of its threads looks up of the row is little
/// next to that. The backward pass, which has nothing to merge, has parts of just this.
const PART: usize = 8192;

/// The most that kernels count in 32 bits, with room for a tile behind.
const MOST: usize = i32::MAX as usize - 512;

/// Chooses the kernel of a pass among those of a device, of `T` or, where logits are computed, f32.
pub(in crate::cross_entropy) fn gpu(
    pass: Pass,
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
    kernels: &[&'static VariantInfo],
) -> Result<Plan> {
    check_ability(device, problem)?;
    let chunks = Chunks::of(limits, problem);
    let fitting = fitting(problem, kernels);
    let is_short = chunks.columns <= SHORT;
    let info = match pass.forced(options) {
        Some(asked) => match fitting.iter().find(|info| info.name == asked) {
            Some(info) => info,
            None => {
                let names = fitting.iter().map(|info| info.name);
                return Err(no_such_variant(NAME, device.to_owned(), &asked, names));
            }
        },
        None => match fitting.iter().find(|info| is_whole_block(info) != is_short) {
            Some(info) => info,
            None => return Err(unsupported(device, format!("elements {}", problem.dtype))),
        },
    };
    let of_row = parts(pass, limits, problem.tokens, chunks.columns, info);
    let rows = info.block[0] / info.number("lanes").unwrap_or(1).max(1);
    let units = problem.tokens as u64 * u64::from(of_row);
    let reason = match problem.width {
        Some(_) => format!("{} columns' logits are there at once, in f32", chunks.columns),
        None => format!("rows of {} columns are read once, {rows} by a block", chunks.columns),
    };
    Ok(Plan {
        variant: info.name,
        columns: chunks.columns,
        parts: of_row,
        blocks: u32::try_from(units.div_ceil(u64::from(rows.max(1)))).unwrap_or(u32::MAX),
        workspace: workspace(pass, problem, chunks, of_row),
        reason,
    })
}

/// Every variant of a pass that fits, the plan's own first.
pub(in crate::cross_entropy) fn gpu_variants(
    plan: &Plan,
    problem: &Problem,
    kernels: &[&'static VariantInfo],
) -> Vec<&'static str> {
    let others = fitting(problem, kernels).into_iter().map(|info| info.name);
    std::iter::once(plan.variant).chain(others.filter(|&name| name != plan.variant)).collect()
}

/// The kernels that read the logits' type: f32 where they are computed.
fn fitting(problem: &Problem, kernels: &[&'static VariantInfo]) -> Vec<&'static VariantInfo> {
    let element = if problem.width.is_some() { DType::F32 } else { problem.dtype };
    let fits = |info: &&&VariantInfo| info.parameter("element") == Some(element.name());
    kernels.iter().filter(fits).copied().collect()
}

/// Whether all threads of a block share a row.
fn is_whole_block(info: &VariantInfo) -> bool {
    info.number("lanes") == Some(info.block[0])
}

/// Parts that a row is cut into.
fn parts(pass: Pass, limits: &Limits, tokens: usize, columns: usize, info: &VariantInfo) -> u32 {
    if !is_whole_block(info) {
        return 1;
    }
    let parts = match pass {
        Pass::Backward => columns.div_ceil(PART),
        Pass::Forward => {
            let full = 4 * if limits.units == 0 { 132 } else { limits.units as usize };
            full.div_ceil(tokens.max(1)).min(columns.div_ceil(PART))
        }
    };
    let parts = parts.max(1);
    // Parts are rounded up to whole vectors, so that there may be fewer of them.
    let of_part = part_columns(columns, parts);
    u32::try_from(columns.div_ceil(of_part).max(1)).unwrap_or(1)
}

/// Columns of a part, whole vectors of any type.
pub(in crate::cross_entropy) fn part_columns(columns: usize, parts: usize) -> usize {
    columns.div_ceil(parts.max(1)).next_multiple_of(8).max(8)
}

/// The columns whose logits are there at once, one after the other.
#[derive(Clone, Copy, Debug)]
pub(in crate::cross_entropy) struct Chunks {
    /// Of all chunks, those of this rank.
    all: usize,
    /// Of a chunk; the last one may have fewer.
    pub columns: usize,
}

impl Chunks {
    fn of(limits: &Limits, problem: &Problem) -> Self {
        let all = problem.columns;
        if problem.width.is_none() {
            return Self { all, columns: all };
        }
        let bytes = LOGITS.min(usize::try_from(limits.binding_bytes).unwrap_or(LOGITS));
        let at_once = bytes / 4 / problem.tokens.max(1) / TILE * TILE;
        Self { all, columns: at_once.clamp(TILE, MOST).min(all) }
    }

    /// Those of a plan.
    pub fn planned(plan: &Plan, problem: &Problem) -> Self {
        Self { all: problem.columns, columns: plan.columns }
    }

    /// Numbers from a computed token's logits to the next one's: whole vectors.
    pub fn line(self) -> usize {
        self.columns.next_multiple_of(4)
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.all.div_ceil(self.columns.max(1))
    }

    /// The columns of each.
    pub fn ranges(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.count()).map(move |i| i * self.columns..self.all.min((i + 1) * self.columns))
    }
}

/// The most that a call may need.
fn workspace(pass: Pass, problem: &Problem, chunks: Chunks, parts: u32) -> u64 {
    let tokens = problem.tokens as u64;
    let logits = match problem.width {
        Some(_) => tokens.saturating_mul(chunks.line() as u64),
        None => 0,
    };
    // Columns of targets, and statistics or what the upstream gradient is multiplied with.
    let rest = match pass {
        Pass::Forward => {
            let told = (chunks.count() as u64).saturating_mul(u64::from(parts));
            tokens.saturating_mul(1 + if told == 1 { 0 } else { told * STATISTICS as u64 })
        }
        Pass::Backward => {
            let sums = match problem.width.filter(|_| problem.dtype != DType::F32) {
                Some(width) if chunks.count() > 1 => tokens.saturating_mul(width as u64),
                _ => 0,
            };
            sums + 2 * tokens + 1
        }
    };
    4 * logits.saturating_add(rest)
}

/// What the kernels can do.
fn check_ability(device: &str, problem: &Problem) -> Result<()> {
    let &Problem { tokens, vocabulary, width, .. } = problem;
    match [tokens, vocabulary, width.unwrap_or(0)].into_iter().find(|&size| size > MOST) {
        None => Ok(()),
        Some(_) => Err(unsupported(device, format!("T = {tokens} and V = {vocabulary}"))),
    }
}

fn unsupported(device: &str, what: String) -> Error {
    Error::Unsupported {
        operation: NAME,
        backend: device.to_owned(),
        what,
        instead: "use `cpu`".to_owned(),
    }
}

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use super::*;
    use crate::cross_entropy::kernels::{GradientPtx, StatisticsPtx};

    fn planned(pass: Pass, dtype: DType, sizes: [usize; 3]) -> Plan {
        let problem = Problem::new(dtype, sizes, &Options::default()).unwrap();
        let kernels: Vec<_> = match pass {
            Pass::Forward => StatisticsPtx::VARIANTS.iter().map(|one| one.info).collect(),
            Pass::Backward => GradientPtx::VARIANTS.iter().map(|one| one.info).collect(),
        };
        gpu(pass, "cuda", &Limits::of_h100(), &problem, &Options::default(), &kernels).unwrap()
    }

    #[test]
    fn long_rows_go_to_blocks_and_short_ones_to_warps() {
        let plan = planned(Pass::Forward, DType::BF16, [8192, 128_000, 0]);
        assert_eq!((plan.variant, plan.parts), ("cross_entropy_forward_block_bf16", 1));
        assert_eq!((plan.blocks, plan.workspace), (8192, 4 * 8192));
        let plan = planned(Pass::Forward, DType::F32, [8192, 1000, 0]);
        assert_eq!((plan.variant, plan.blocks), ("cross_entropy_forward_warp_f32", 1024));
        let plan = planned(Pass::Backward, DType::F16, [100, 128_000, 0]);
        assert_eq!((plan.variant, plan.parts), ("cross_entropy_backward_block_f16", 16));
    }

    #[test]
    fn few_rows_are_cut() {
        let plan = planned(Pass::Forward, DType::BF16, [1, 128_000, 0]);
        assert_eq!((plan.parts, plan.blocks), (16, 16), "{plan}");
        let plan = planned(Pass::Forward, DType::BF16, [64, 128_000, 0]);
        assert_eq!(plan.parts, 9, "{plan}");
    }

    #[test]
    fn computed_logits_are_few_at_a_time() {
        let plan = planned(Pass::Backward, DType::BF16, [8192, 131_072, 4096]);
        assert_eq!((plan.variant, plan.columns), ("cross_entropy_backward_block_f32", 8192));
        // Logits, the sums of dx, targets and a factor.
        let tokens = 8192 * (8192 + 4096 + 2) + 1;
        assert_eq!(plan.workspace, 4 * tokens);
        let plan = planned(Pass::Forward, DType::F32, [1 << 22, 100, 8]);
        assert_eq!(plan.columns, 64, "a tile at least");
    }

    #[test]
    fn what_does_not_fit_says_so() {
        let problem = Problem::new(DType::F32, [3, 5, 0], &Options::default()).unwrap();
        let kernels: Vec<_> = StatisticsPtx::VARIANTS.iter().map(|one| one.info).collect();
        let plan = |name: &str| {
            let options = Options::default().with_variant(name);
            gpu(Pass::Forward, "cuda", &Limits::of_h100(), &problem, &options, &kernels)
        };
        let error = plan("cross_entropy_forward_fast").unwrap_err().to_string();
        assert!(error.contains("use cross_entropy_forward_block_f32 or"), "{error}");
        // A variant of the other pass leaves this one alone.
        assert!(plan("cross_entropy_backward_block_f32").is_ok());
    }
}
