//! The plan of the backward pass on a CUDA device.

use super::{check_ability, number, unsupported};
use crate::backend::Limits;
use crate::backend::cuda::{bytes, grid_length};
use crate::backend::kernel::{Language, VariantInfo};
use crate::element::DType;
use crate::selective_scan::kernels::BackwardGeneralPtx;
use crate::selective_scan::{CHECKPOINT, NAME, Options, Plan, Problem, Schedule};
use crate::variant::no_such_variant;
use crate::{Error, Result};

/// Chooses the kernel that has the least room for states that is enough.
pub(in crate::selective_scan) fn cuda_backward(
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    check_ability(device, problem)?;
    let fitting: Vec<_> = fitting(limits, problem).collect();
    let (info, reason) = match options.backward_variant() {
        Some(asked) => {
            let found = fitting.iter().copied().find(|info| info.name == asked);
            let names = fitting.iter().map(|info| info.name);
            let none = || no_such_variant(NAME, device.to_owned(), &asked, names);
            (found.ok_or_else(none)?, "the variant was asked for".to_owned())
        }
        None => {
            let best = fitting.iter().copied().min_by_key(|info| number(info, "padded"));
            let info = best.ok_or_else(|| no_kernel(device, limits, problem))?;
            let reason = format!(
                "{} is the least room for N = {} states; a block walks {} channels of a row",
                number(info, "padded"),
                problem.states,
                block_channels(info)
            );
            (info, reason)
        }
    };
    let walks = [problem.rows, problem.groups, group_blocks(info, problem)];
    Ok(Plan {
        variant: info.name,
        schedule: Schedule::Serial,
        blocks: [grid_length(NAME, device, limits, bytes(&walks, 1))?, 1, 1],
        workspace: workspace(info, problem),
        reason,
    })
}

/// Every variant that fits, the plan's own first; those with more room than needed would only idle.
pub(in crate::selective_scan) fn cuda_backward_variants(
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Vec<&'static str>> {
    let planned = cuda_backward(device, limits, problem, options)?.variant;
    let least = fitting(limits, problem).map(|info| number(info, "padded")).min();
    let others = fitting(limits, problem)
        .filter(|info| Some(number(info, "padded")) == least)
        .map(|info| info.name);
    Ok(std::iter::once(planned).chain(others.filter(|&name| name != planned)).collect())
}

fn fitting(limits: &Limits, problem: &Problem) -> impl Iterator<Item = &'static VariantInfo> {
    BackwardGeneralPtx::VARIANTS.iter().map(|variant| variant.info).filter(|info| {
        let tier = match info.language {
            Language::Ptx(tier) => Some(tier),
            Language::Wgsl => None,
        };
        tier <= limits.tier
            && dynamic_shared(info) <= limits.shared_bytes
            && number(info, "checkpoint") == CHECKPOINT
            && problem.dtype != DType::F64
            && number(info, "padded") >= problem.states
    })
}

fn no_kernel(device: &str, limits: &Limits, problem: &Problem) -> Error {
    let &Problem { dtype, states, .. } = problem;
    let what = match dtype {
        DType::F64 => format!("elements {dtype}"),
        _ => format!("N = {states} with {} bytes of shared memory", limits.shared_bytes),
    };
    unsupported(device, what)
}

/// Bytes of shared memory that a launch asks for.
pub(in crate::selective_scan) fn dynamic_shared(info: &VariantInfo) -> u32 {
    info.number("dynamic_shared").unwrap_or(0)
}

/// Channels of a block.
fn block_channels(info: &VariantInfo) -> usize {
    info.block[0] as usize / number(info, "lanes").max(1)
}

/// Blocks that share a group.
fn group_blocks(info: &VariantInfo, problem: &Problem) -> usize {
    problem.group_channels().div_ceil(block_channels(info).max(1))
}

/// The most that a call may need: all gradients, and parameters of 16 bits or a `seq_idx`.
fn workspace(info: &VariantInfo, problem: &Problem) -> u64 {
    let &Problem { channels, states, rows, .. } = problem;
    let mut workspace = super::reads(problem);
    if problem.dtype != DType::F32 {
        workspace.take(bytes(&[rows, channels, states], 4));
    }
    for summed in Summed::ALL {
        workspace.take(Parts::of(summed, info, problem).bytes());
    }
    workspace.bytes()
}

/// An input whose gradient is a sum over blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::selective_scan) enum Summed {
    A,
    B,
    C,
    /// `D`.
    Skip,
    DeltaBias,
}

impl Summed {
    const ALL: [Self; 5] = [Self::A, Self::B, Self::C, Self::Skip, Self::DeltaBias];
}

/// What blocks leave to the second pass of one gradient: parts of as many numbers as it has, each a
/// sum of some more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::selective_scan) struct Parts {
    /// Parts: of rows, or of the blocks of a group.
    pub count: u64,
    /// Numbers of the gradient.
    pub numbers: u64,
    /// Numbers in a part that belong to one of the gradient.
    pub length: u32,
}

impl Parts {
    pub fn of(summed: Summed, info: &VariantInfo, problem: &Problem) -> Self {
        let &Problem { channels, states, rows, .. } = problem;
        let (channels, states, rows) = (channels as u64, states as u64, rows as u64);
        let per_state = Self { count: rows, numbers: channels * states, length: 1 };
        let per_channel = Self { numbers: channels, ..per_state };
        let map = |constant: bool| match constant {
            true => per_state,
            false => Self {
                count: group_blocks(info, problem) as u64,
                numbers: Self::map_elements(problem),
                length: 1,
            },
        };
        match summed {
            // No state: a sum of nothing.
            Summed::A if problem.a_per_channel && states == 0 => Self { count: 0, ..per_channel },
            Summed::A if problem.a_per_channel => {
                // At most 256.
                Self { length: u32::try_from(states).unwrap_or(u32::MAX), ..per_channel }
            }
            Summed::A => per_state,
            Summed::B => map(problem.b_constant),
            Summed::C => map(problem.c_constant),
            Summed::Skip | Summed::DeltaBias => per_channel,
        }
    }

    /// The elements of a variable `B` or `C`.
    pub fn map_elements(problem: &Problem) -> u64 {
        bytes(&[problem.batch, problem.groups, problem.states, problem.steps], 1)
    }

    pub fn bytes(self) -> u64 {
        [self.count, self.numbers, self.length.into()]
            .into_iter()
            .fold(DType::F32.bytes() as u64, u64::saturating_mul)
    }
}
