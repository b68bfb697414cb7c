//! The plan of the backward pass on a CUDA device.

use std::cmp::Reverse;

use super::{check_ability, layout, number, unsupported};
use crate::backend::cuda::{bytes, grid_length};
use crate::backend::kernel::{Language, VariantInfo};
use crate::backend::{Limits, Tier};
use crate::element::DType;
use crate::selective_scan::kernels::{BackwardGeneralPtx, BackwardPtx};
use crate::selective_scan::{CHECKPOINT, NAME, Options, Plan, Problem, Schedule};
use crate::variant::no_such_variant;
use crate::{Error, Result};

/// Chooses the kernel that has the least room for states that is enough: of those, one that is made
/// for the usual form of a call, with as many threads as fit, of the highest tier.
pub(in crate::selective_scan) fn cuda_backward(
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    check_ability(device, problem)?;
    let fitting: Vec<_> = fitting(limits, problem, options).collect();
    let (info, chosen) = match options.backward_variant() {
        Some(asked) => {
            let found = fitting.iter().copied().find(|info| info.name == asked);
            let names = fitting.iter().map(|info| info.name);
            let none = || no_such_variant(NAME, device.to_owned(), &asked, names);
            (found.ok_or_else(none)?, "the variant was asked for".to_owned())
        }
        None => {
            let preference = |info: &&VariantInfo| {
                let large = Reverse((info.block[0], tier(info)));
                (number(info, "padded"), is_general(info), large)
            };
            let best = fitting.iter().copied().min_by_key(preference);
            let info = best.ok_or_else(|| no_kernel(device, limits, problem))?;
            let room = number(info, "padded");
            (info, format!("{room} is the least room for N = {} states", problem.states))
        }
    };
    let walk = Walk::filling(info, limits, problem);
    Ok(Plan {
        variant: info.name,
        schedule: Schedule::Serial,
        blocks: [grid_length(NAME, device, limits, walk.blocks(problem))?, 1, 1],
        workspace: workspace(walk, problem),
        reason: format!(
            "{chosen}; a block walks {} channels of a row, {} at a time; the sums of {} are one",
            walk.block_channels(),
            columns(info),
            walk.cluster(problem)
        ),
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
    let room = |info: &&VariantInfo| number(info, "padded");
    let least = fitting(limits, problem, options).map(|info| room(&info)).min();
    let others = fitting(limits, problem, options)
        .filter(|info| Some(room(info)) == least)
        .map(|info| info.name);
    Ok(std::iter::once(planned).chain(others.filter(|&name| name != planned)).collect())
}

fn fitting(
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> impl Iterator<Item = &'static VariantInfo> {
    let usual = BackwardPtx::VARIANTS.iter().map(|variant| variant.info);
    let general = BackwardGeneralPtx::VARIANTS.iter().map(|variant| variant.info);
    usual.chain(general).filter(|info| {
        tier(info) <= limits.tier
            && dynamic_shared(info) <= limits.shared_bytes
            && number(info, "checkpoint") == CHECKPOINT
            && problem.dtype != DType::F64
            && number(info, "padded") >= problem.states
            && (is_general(info) || is_for(info, problem, options))
    })
}

fn tier(info: &VariantInfo) -> Option<Tier> {
    match info.language {
        Language::Ptx(tier) => Some(tier),
        Language::Wgsl => None,
    }
}

/// Whether a kernel is for every form of a call.
fn is_general(info: &VariantInfo) -> bool {
    info.parameter("layout").is_none()
}

/// Whether a kernel for the usual form of a call is for this one.
fn is_for(info: &VariantInfo, problem: &Problem, options: &Options) -> bool {
    let unusual = problem.a_per_channel
        || problem.b_constant
        || problem.c_constant
        || problem.states == 0
        || options.keeps_decays_accurate();
    !unusual
        && info.parameter("element") == Some(problem.dtype.name())
        && info.parameter("layout") == Some(layout(problem))
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

/// Channels that a block takes at a time.
fn columns(info: &VariantInfo) -> usize {
    (info.block[0] as usize / number(info, "lanes").max(1)).max(1)
}

/// A kernel that walks rows down, and how many rounds of channels a block takes.
#[derive(Clone, Copy, Debug)]
pub(in crate::selective_scan) struct Walk {
    info: &'static VariantInfo,
    rounds: usize,
}

impl Walk {
    /// As many rounds as make the blocks share B, C and the sums of their gradients, while the
    /// device is as busy as it can be: a multiprocessor has a block at a time.
    fn filling(info: &'static VariantInfo, limits: &Limits, problem: &Problem) -> Self {
        let most = number(info, "most_rounds").max(1);
        let walks = (1..=most).map(|rounds| Self::balanced(info, rounds, problem));
        let time = |walk: &Self| {
            let waves = walk.blocks(problem).div_ceil(u64::from(limits.units.max(1)));
            waves.saturating_mul(walk.rounds as u64)
        };
        let best = walks.min_by_key(|walk| (time(walk), Reverse(walk.rounds)));
        best.unwrap_or(Self { info, rounds: 1 })
    }

    /// Blocks of at most so many rounds, and as equal as can be.
    fn balanced(info: &'static VariantInfo, most: usize, problem: &Problem) -> Self {
        let rounds = problem.group_channels().div_ceil(columns(info));
        let group_blocks = rounds.div_ceil(most).max(1);
        Self { info, rounds: rounds.div_ceil(group_blocks).max(1) }
    }

    /// That of a plan.
    pub fn of(info: &'static VariantInfo, plan: &Plan, problem: &Problem) -> Self {
        let rows = problem.rows.saturating_mul(problem.groups).max(1);
        let group_blocks = (plan.blocks[0] as usize / rows).max(1);
        let rounds = problem.group_channels().div_ceil(columns(info));
        Self { info, rounds: rounds.div_ceil(group_blocks).max(1) }
    }

    pub fn rounds(self) -> usize {
        self.rounds
    }

    /// Channels of a block.
    fn block_channels(self) -> usize {
        columns(self.info) * self.rounds
    }

    /// Blocks that share a group.
    fn group_blocks(self, problem: &Problem) -> usize {
        problem.group_channels().div_ceil(self.block_channels())
    }

    /// Blocks of a group that run as a cluster and leave one sum for dB, and for dC: a pair, which
    /// any two neighbouring multiprocessors can be, where the tier has it and none is left alone.
    pub fn cluster(self, problem: &Problem) -> u32 {
        let pairs = tier(self.info) == Some(Tier::Sm90a);
        if pairs && self.group_blocks(problem).is_multiple_of(2) { 2 } else { 1 }
    }

    /// Parts of a group's dB, and of its dC.
    fn map_parts(self, problem: &Problem) -> u64 {
        self.group_blocks(problem) as u64 / u64::from(self.cluster(problem))
    }

    fn blocks(self, problem: &Problem) -> u64 {
        bytes(&[problem.rows, problem.groups, self.group_blocks(problem)], 1)
    }
}

/// The most that a call may need: all gradients but that of the initial state, which then is in the
/// workspace, and parameters of 16 bits or a `seq_idx`.
fn workspace(walk: Walk, problem: &Problem) -> u64 {
    let &Problem { channels, states, rows, .. } = problem;
    let mut workspace = super::reads(problem);
    let state = bytes(&[rows, channels, states], 4);
    if problem.dtype != DType::F32 {
        workspace.take(state);
    }
    if !is_general(walk.info) {
        workspace.take(state);
    }
    for summed in Summed::ALL {
        workspace.take(Parts::of(summed, walk, problem).bytes());
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
    /// Parts: of rows, or of the blocks, or pairs of blocks, of a group.
    pub count: u64,
    /// Numbers of the gradient.
    pub numbers: u64,
    /// Numbers in a part that belong to one of the gradient.
    pub length: u32,
}

impl Parts {
    pub fn of(summed: Summed, walk: Walk, problem: &Problem) -> Self {
        let &Problem { channels, states, rows, .. } = problem;
        let (channels, states, rows) = (channels as u64, states as u64, rows as u64);
        let per_state = Self { count: rows, numbers: channels * states, length: 1 };
        let per_channel = Self { numbers: channels, ..per_state };
        let per_point =
            Self { count: rows * number(walk.info, "point_sums") as u64, ..per_channel };
        let map = |constant: bool| match constant {
            true => per_state,
            false => Self {
                count: walk.map_parts(problem),
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
            Summed::Skip | Summed::DeltaBias => per_point,
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

#[cfg(test)]
mod tests {
    use super::super::tests::problem;
    use super::*;
    use crate::selective_scan::Layout;

    fn plan(limits: &Limits, problem: &Problem) -> Plan {
        cuda_backward("cuda:0", limits, problem, &Options::default()).unwrap()
    }

    #[test]
    fn the_usual_kernel_has_as_many_threads_as_shared_memory_allows() {
        let chosen = |shared_kib: u32| {
            plan(&Limits { shared_bytes: shared_kib << 10, ..Limits::of_h100() }, &problem())
                .variant
        };
        assert_eq!(chosen(227), "selective_scan_backward_f32_bdl_n16_pairs");
        assert_eq!(chosen(163), "selective_scan_backward_f32_bdl_n16_128");
        assert_eq!(chosen(99), "selective_scan_backward_general_n16");
        let bf16 = Problem { dtype: DType::BF16, layout: Layout::Bld, ..problem() };
        assert_eq!(
            plan(&Limits::of_h100(), &bf16).variant,
            "selective_scan_backward_bf16_bld_n16_pairs"
        );
        let blackwell = Limits { tier: Some(Tier::Sm80), ..Limits::of_h100() };
        assert!(plan(&blackwell, &problem()).variant.ends_with("f32_bdl_n16_256"));
    }

    #[test]
    fn other_forms_of_a_call_take_the_general_kernel() {
        let tied = Problem { a_per_channel: true, ..problem() };
        let constant = Problem { c_constant: true, ..problem() };
        let stateless = Problem { states: 0, ..problem() };
        for problem in [tied, constant, stateless] {
            assert!(plan(&Limits::of_h100(), &problem).variant.ends_with("general_n16"));
        }
        let wide = Problem { states: 17, ..problem() };
        assert!(plan(&Limits::of_h100(), &wide).variant.ends_with("general_n64"));
        let options = Options::default().with_accurate_decays(true);
        let accurate = cuda_backward("cuda:0", &Limits::of_h100(), &problem(), &options).unwrap();
        assert!(accurate.variant.ends_with("general_n16"), "{accurate}");
        let all =
            cuda_backward_variants("cuda:0", &Limits::of_h100(), &problem(), &Options::default())
                .unwrap();
        let ends = ["f32_bdl_n16_pairs", "f32_bdl_n16_128", "f32_bdl_n16_256", "general_n16"];
        assert!(all.len() == 4 && all.iter().zip(ends).all(|(name, end)| name.ends_with(end)));
    }

    #[test]
    fn blocks_take_as_many_rounds_as_leave_the_device_busy() {
        // 8 rows of 32 rounds of 64 channels on 132 multiprocessors: two rounds in one wave, not
        // one in two.
        let chosen = plan(&Limits::of_h100(), &problem());
        assert_eq!(chosen.blocks, [8 * 16, 1, 1]);
        assert_eq!(Walk::of(chosen_info(&chosen), &chosen, &problem()).rounds(), 2);
        // Few channels are spread out; many share B and C as far as a block can have them.
        let few = Problem { batch: 1, rows: 1, ..problem() };
        assert_eq!(plan(&Limits::of_h100(), &few).blocks, [32, 1, 1]);
        let many = Problem { batch: 528, rows: 528, ..problem() };
        assert_eq!(plan(&Limits::of_h100(), &many).blocks, [528 * 4, 1, 1]);
        // 33 rounds: 11 blocks of 3 leave nobody idle, as 4 blocks of 8 and one of 1 would.
        let odd = Problem { channels: 33 * 64, ..many };
        let chosen = plan(&Limits::of_h100(), &odd);
        assert_eq!(chosen.blocks, [528 * 11, 1, 1]);
        assert_eq!(Walk::of(chosen_info(&chosen), &chosen, &odd).rounds(), 3);
        for empty in [
            Problem { channels: 0, groups: 0, ..problem() },
            Problem { batch: 0, rows: 0, ..problem() },
        ] {
            assert_eq!(plan(&Limits::of_h100(), &empty).blocks, [0, 1, 1]);
        }
    }

    #[test]
    fn pairs_of_blocks_leave_one_sum() {
        let parts = |limits: &Limits, problem: &Problem| {
            let chosen = plan(limits, problem);
            let walk = Walk::of(chosen_info(&chosen), &chosen, problem);
            (walk.cluster(problem), Parts::of(Summed::B, walk, problem).count)
        };
        assert_eq!(parts(&Limits::of_h100(), &problem()), (2, 8));
        let blackwell = Limits { tier: Some(Tier::Sm80), ..Limits::of_h100() };
        assert_eq!(parts(&blackwell, &problem()), (1, 16));
        // Three blocks to a group: none is left alone.
        let odd = Problem { channels: 3 * 64, ..problem() };
        assert_eq!(parts(&Limits::of_h100(), &odd), (1, 3));
    }

    fn chosen_info(plan: &Plan) -> &'static VariantInfo {
        let variant =
            BackwardPtx::VARIANTS.iter().find(|variant| variant.info.name == plan.variant);
        variant.unwrap().info
    }
}
