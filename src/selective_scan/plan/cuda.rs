//! The plan of a CUDA device.

mod backward;

pub(in crate::selective_scan) use backward::{
    Parts, Summed, Walk, cuda_backward, cuda_backward_variants, dynamic_shared,
};

use std::cmp::Reverse;

use super::{Plan, Schedule};
use crate::backend::cuda::{Workspace, bytes, grid_length};
use crate::backend::kernel::{Language, VariantInfo};
use crate::backend::{Limits, Tier};
use crate::element::DType;
use crate::selective_scan::kernels::{ForwardChunkedPtx, ForwardPtx};
use crate::selective_scan::{Layout, NAME, Options, Problem};
use crate::variant::no_such_variant;
use crate::{Error, Result};

/// Steps that the kernels count, in 32 bits with a sign, with room for a tile behind the last.
const MOST_STEPS: usize = i32::MAX as usize - 256;

/// Blocks that keep a multiprocessor busy: as many fit on it at once.
const BLOCKS_PER_UNIT: u64 = 2;

/// Warps that keep the schedulers of a multiprocessor busy, one each: several channels of a thread
/// are independent work enough.
const SCHEDULERS: u64 = 4;

/// Shared memory that the system takes of every block; a multiprocessor has as much more than a
/// block can have.
const RESERVED: u64 = 1024;

/// Steps of a chunk are a multiple of this, which is a multiple of every kernel's tile.
const CHUNK_UNIT: u64 = 64;

/// Rows of fewer steps are not worth cutting.
const LEAST_CUT: usize = 512;

/// Chooses the kernel and the schedule for a CUDA device.
pub(in crate::selective_scan) fn cuda(
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    check_ability(device, problem)?;
    let Choice { spread, chunked, reason } = choose(device, limits, problem, options)?;
    let schedule = match chunked {
        true => Schedule::Chunked { chunk: chunk(limits, problem, spread) },
        false => Schedule::Serial,
    };
    let chunks = Chunks::of(schedule, problem);
    let blocks = spread.blocks(problem).saturating_mul(u64::from(chunks.count));
    let blocks = grid_length(NAME, device, limits, blocks)?;
    Ok(Plan {
        variant: spread.0.name,
        schedule,
        blocks: [blocks, 1, 1],
        workspace: workspace(problem, chunks),
        reason,
    })
}

/// Every variant that fits, the plan's own first; those with more room than needed would only idle.
pub(in crate::selective_scan) fn cuda_variants(
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Vec<&'static str>> {
    let planned = cuda(device, limits, problem, options)?.variant;
    let least = fitting(limits, problem, options).map(|(spread, _)| spread.padded()).min();
    let others = fitting(limits, problem, options)
        .filter(|(spread, _)| Some(spread.padded()) == least)
        .map(|(spread, _)| spread.0.name);
    Ok(std::iter::once(planned).chain(others.filter(|&name| name != planned)).collect())
}

/// The kernel that was chosen, and why.
struct Choice {
    spread: Spread,
    chunked: bool,
    reason: String,
}

/// The kernel that is forced; else the highest tier of those with the least room for states that
/// has enough, with the most channels in a thread that still leave warps for every scheduler.
fn choose(device: &str, limits: &Limits, problem: &Problem, options: &Options) -> Result<Choice> {
    if let Some(asked) = options.forward_variant() {
        return match fitting(limits, problem, options).find(|(spread, _)| spread.0.name == asked) {
            Some((spread, chunked)) => {
                Ok(Choice { spread, chunked, reason: "the variant was asked for".to_owned() })
            }
            None => {
                let names = fitting(limits, problem, options).map(|(spread, _)| spread.0.name);
                Err(no_such_variant(NAME, device.to_owned(), &asked, names))
            }
        };
    }
    let units = u64::from(limits.units.max(1));
    let best = |cuts: bool| {
        fitting(limits, problem, options)
            .filter(|&(spread, chunked)| {
                let busy = spread.warps_per_unit(limits, problem) >= SCHEDULERS;
                chunked == cuts && (spread.channels() == 1 || busy)
            })
            .map(|(spread, _)| spread)
            .min_by_key(|spread| {
                (spread.padded(), Reverse(spread.channels()), Reverse(spread.tier()))
            })
    };
    let serial =
        best(false).ok_or_else(|| unsupported(device, format!("elements {}", problem.dtype)))?;
    let room = format!("{} is the least room for N = {} states", serial.padded(), problem.states);
    // The first pass costs nearly as much as the scan: cutting has to win more than that.
    let idle = serial.blocks(problem) * 4 <= units * BLOCKS_PER_UNIT && problem.steps >= LEAST_CUT;
    match best(true).filter(|_| idle) {
        Some(spread) => Ok(Choice {
            spread,
            chunked: true,
            reason: format!(
                "{room}; {} blocks do not fill {} multiprocessors, but {} steps can be cut",
                serial.blocks(problem),
                limits.units,
                problem.steps
            ),
        }),
        None => Ok(Choice {
            spread: serial,
            chunked: false,
            reason: format!(
                "{room}; a block walks {} channels of a row through time, {} of them in a thread, \
                 with {} warps on a multiprocessor",
                serial.block_channels(),
                serial.channels(),
                serial.warps_per_unit(limits, problem)
            ),
        }),
    }
}

/// Every kernel that can run the problem, and whether it begins a chunked schedule. Packed
/// sequences are never cut: their bounds lie on the device, and they are many already.
fn fitting(
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> impl Iterator<Item = (Spread, bool)> {
    let serial = ForwardPtx::VARIANTS.iter().map(|variant| (Spread(variant.info), false));
    let chunked = ForwardChunkedPtx::VARIANTS.iter().map(|variant| (Spread(variant.info), true));
    serial.chain(chunked).filter(move |&(spread, chunked)| {
        spread.fits(limits, problem, options) && !(chunked && problem.packed)
    })
}

/// Steps of a chunk, so that the chunks of all channels just fill the device.
fn chunk(limits: &Limits, problem: &Problem, spread: Spread) -> u32 {
    let full = u64::from(limits.units.max(1)) * BLOCKS_PER_UNIT;
    let chunks = full.div_ceil(spread.blocks(problem).max(1));
    let steps = (problem.steps as u64).div_ceil(chunks).next_multiple_of(CHUNK_UNIT);
    // No more than the steps, whose number has been checked.
    u32::try_from(steps.max(CHUNK_UNIT)).unwrap_or(u32::MAX)
}

/// How a kernel spreads channels and states over threads.
#[derive(Clone, Copy, Debug)]
struct Spread(&'static VariantInfo);

impl Spread {
    /// States that there is room for.
    fn padded(self) -> usize {
        number(self.0, "padded")
    }

    /// Channels of a thread.
    fn channels(self) -> usize {
        number(self.0, "channels")
    }

    /// Channels of a block.
    fn block_channels(self) -> usize {
        self.channels() * self.0.block[0] as usize / number(self.0, "lanes").max(1)
    }

    /// Blocks that walk all rows in one span.
    fn blocks(self, problem: &Problem) -> u64 {
        let group_blocks = problem.group_channels().div_ceil(self.block_channels().max(1));
        [problem.rows, problem.groups, group_blocks]
            .into_iter()
            .try_fold(1u64, |blocks, factor| blocks.checked_mul(factor as u64))
            .unwrap_or(u64::MAX)
    }

    /// Warps of these blocks that a multiprocessor gets and has shared memory for at once.
    fn warps_per_unit(self, limits: &Limits, problem: &Problem) -> u64 {
        let shared = u64::from(limits.shared_bytes) + RESERVED;
        let room = shared / (u64::from(self.0.shared_bytes) + RESERVED);
        let share = self.blocks(problem) / u64::from(limits.units.max(1));
        room.min(share) * u64::from(self.0.block[0] / 32)
    }

    fn tier(self) -> Option<Tier> {
        match self.0.language {
            Language::Ptx(tier) => Some(tier),
            Language::Wgsl => None,
        }
    }

    /// Whether the kernel can run the problem on a device. With several channels of a thread it
    /// spares the registers for constant maps and for the tests which channels exist, and the
    /// instructions for accurate decays.
    fn fits(self, limits: &Limits, problem: &Problem, options: &Options) -> bool {
        let unusual = problem.b_constant
            || problem.c_constant
            || problem.a_per_channel
            || options.keeps_decays_accurate();
        let usual = !unusual && problem.group_channels().is_multiple_of(self.block_channels());
        self.tier() <= limits.tier
            && self.0.parameter("element") == Some(problem.dtype.name())
            && self.0.parameter("layout") == Some(layout(problem))
            && self.padded() >= problem.states
            && (usual || self.channels() == 1)
    }
}

/// Whether kernels of different passes are made for the same tensors and spread alike.
pub(in crate::selective_scan) fn spread_alike(one: &VariantInfo, other: &VariantInfo) -> bool {
    ["element", "layout", "padded", "channels"]
        .iter()
        .all(|name| one.parameter(name) == other.parameter(name))
}

fn layout(problem: &Problem) -> &'static str {
    match problem.layout {
        Layout::Bdl => "bdl",
        Layout::Bld => "bld",
    }
}

/// The spans of time that are walked side by side.
#[derive(Clone, Copy, Debug)]
pub(in crate::selective_scan) struct Chunks {
    /// Chunks of a row.
    pub count: u32,
    /// Steps of a chunk; the last one may have fewer.
    pub steps: u32,
}

impl Chunks {
    pub fn of(schedule: Schedule, problem: &Problem) -> Self {
        // The plan has refused more steps.
        let steps = u32::try_from(problem.steps).unwrap_or(u32::MAX);
        match schedule {
            Schedule::Serial => Self { count: 1, steps },
            Schedule::Chunked { chunk } => {
                Self { count: steps.div_ceil(chunk.max(1)).max(1), steps: chunk }
            }
        }
    }

    /// Room for the states between the chunks, and for each chunk's sum of step sizes.
    pub fn take(self, problem: &Problem, workspace: &mut Workspace) -> (u64, u64) {
        let lines = [problem.rows, problem.channels, self.count as usize];
        let states = [lines.as_slice(), &[problem.states]].concat();
        (workspace.take(bytes(&states, 4)), workspace.take(bytes(&lines, 4)))
    }
}

/// What the kernels can do.
fn check_ability(device: &str, problem: &Problem) -> Result<()> {
    if problem.steps > MOST_STEPS || u32::try_from(problem.channels).is_err() {
        let what = format!("L = {} and D = {}", problem.steps, problem.channels);
        return Err(unsupported(device, what));
    }
    Ok(())
}

/// The most that a call may need.
fn workspace(problem: &Problem, chunks: Chunks) -> u64 {
    let mut workspace = reads(problem);
    if chunks.count > 1 {
        chunks.take(problem, &mut workspace);
    }
    workspace.bytes()
}

/// The most that the inputs of a call may need: which parameters have 16 bits, and whether there is
/// a `seq_idx`, only the tensors tell.
fn reads(problem: &Problem) -> Workspace {
    let &Problem { batch, channels, steps, states, rows, .. } = problem;
    let mut workspace = Workspace::default();
    if problem.dtype != DType::F32 {
        let maps = 1 + usize::from(problem.b_constant) + usize::from(problem.c_constant);
        for _ in 0..maps {
            workspace.take(bytes(&[channels, states], 4));
        }
        for _d_and_delta_bias in 0..2 {
            workspace.take(bytes(&[channels], 4));
        }
        workspace.take(bytes(&[rows, channels, states], 4));
    }
    if !problem.packed {
        workspace.take(bytes(&[batch, steps], 1));
    }
    workspace
}

/// A whole number among a variant's parameters; 0 where there is none.
fn number(info: &VariantInfo, name: &str) -> usize {
    info.number(name).map_or(0, |value| value as usize)
}

fn unsupported(device: &str, what: String) -> Error {
    Error::Unsupported {
        operation: NAME,
        backend: device.to_owned(),
        what,
        instead: "use wgpu or cpu".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn problem() -> Problem {
        Problem {
            batch: 8,
            channels: 2048,
            steps: 1024,
            states: 16,
            groups: 1,
            rows: 8,
            layout: Layout::Bdl,
            dtype: DType::F32,
            a_per_channel: false,
            b_constant: false,
            c_constant: false,
            packed: false,
            save: false,
        }
    }

    fn plan(problem: &Problem) -> Result<Plan> {
        cuda("cuda:0", &Limits::of_h100(), problem, &Options::default())
    }

    #[test]
    fn every_state_size_has_the_least_room_that_holds_it() {
        for states in 0..=crate::selective_scan::MAX_STATES {
            let chosen = plan(&Problem { states, ..problem() }).unwrap();
            let padded = states.next_power_of_two().max(4);
            let name = format!("selective_scan_forward_serial_f32_bdl_n{padded}x1");
            assert_eq!(chosen.variant, name, "{states}");
        }
    }

    #[test]
    fn every_form_of_activations_has_a_kernel() {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            for (layout, name) in [(Layout::Bdl, "bdl"), (Layout::Bld, "bld")] {
                let chosen = plan(&Problem { dtype, layout, ..problem() }).unwrap();
                assert!(chosen.variant.contains(&format!("_{dtype}_{name}_")), "{chosen}");
            }
        }
    }

    #[test]
    fn blocks_cover_rows_groups_and_channels() {
        // 2 lanes of a channel, 64 channels of a block.
        assert_eq!(plan(&problem()).unwrap().blocks, [8 * 2048 / 64, 1, 1]);
        // Too short to be cut into chunks.
        let groups = Problem { groups: 4, channels: 4 * 65, steps: 64, ..problem() };
        assert_eq!(plan(&groups).unwrap().blocks, [8 * 4 * 2, 1, 1]);
        let packed =
            Problem { batch: 1, rows: 1000, packed: true, a_per_channel: true, ..problem() };
        assert_eq!(plan(&packed).unwrap().blocks, [1000 * 32, 1, 1]);
        assert_eq!(plan(&Problem { batch: 0, rows: 0, ..problem() }).unwrap().blocks, [0, 1, 1]);
        assert_eq!(plan(&Problem { channels: 0, groups: 0, ..problem() }).unwrap().blocks[0], 0);
        let many = plan(&Problem { batch: 1 << 32, rows: 1 << 32, ..problem() }).unwrap_err();
        assert!(many.to_string().contains("split the batch"), "{many}");
    }

    #[test]
    fn threads_take_four_channels_where_there_are_many() {
        // 128 channels of a warp, four warps for each of 132 multiprocessors.
        let variant = |problem: &Problem| plan(problem).unwrap().variant;
        let many = Problem { batch: 1, rows: 1, channels: 128 * 528, ..problem() };
        assert!(variant(&many).ends_with("_n16x4"));
        assert!(variant(&Problem { channels: 128 * 527, ..many.clone() }).ends_with("_n16x1"));
        // Constant maps need the registers; A as (D) has no use for them; blocks have to be full.
        assert!(variant(&Problem { b_constant: true, ..many.clone() }).ends_with("_n16x1"));
        assert!(variant(&Problem { channels: 128 * 528 + 64, ..many.clone() }).ends_with("_n16x1"));
        assert!(variant(&Problem { a_per_channel: true, ..many.clone() }).ends_with("_n16x1"));
        // Clamped or not, accurate decays take instructions.
        for options in [
            Options::default().with_delta_clamp(0.0, 1.0),
            Options::default().with_accurate_decays(true),
        ] {
            let accurate = cuda("cuda:0", &Limits::of_h100(), &many, &options).unwrap();
            assert!(accurate.variant.ends_with("_n16x1"), "{accurate}");
        }
        // Where shared memory holds no four blocks, schedulers would stand idle.
        let small = Limits { shared_bytes: 99 << 10, ..Limits::of_h100() };
        let narrow = cuda("cuda:0", &small, &many, &Options::default()).unwrap();
        assert!(narrow.variant.ends_with("_n16x1"), "{narrow}");
    }

    #[test]
    fn long_rows_of_few_channels_are_cut() {
        let few = Problem { batch: 1, rows: 1, channels: 1536, steps: 1 << 14, ..problem() };
        let chosen = plan(&few).unwrap();
        // 24 blocks on 132 multiprocessors: 11 chunks of 1490 steps, rounded up.
        assert_eq!(chosen.variant, "selective_scan_forward_chunked_f32_bdl_n16x1");
        assert_eq!(chosen.schedule, Schedule::Chunked { chunk: 1536 });
        assert_eq!(chosen.blocks, [24 * 11, 1, 1]);
        let (carries, sums) = (4 * 1536 * 11 * 16, 4 * 1536 * 11);
        assert_eq!(chosen.workspace, (1 << 14) + carries + sums);
        let serial = [
            Problem { steps: 511, ..few.clone() },
            Problem { channels: 67 * 64, ..few.clone() },
            Problem { packed: true, ..few },
        ];
        for problem in serial {
            assert_eq!(plan(&problem).unwrap().schedule, Schedule::Serial);
        }
    }

    #[test]
    fn workspace_holds_codes_and_widened_parameters() {
        assert_eq!(plan(&problem()).unwrap().workspace, 8 * 1024);
        let bf16 = plan(&Problem { dtype: DType::BF16, ..problem() }).unwrap();
        let (a, channel, h0) = (4 * 2048 * 16, 4 * 2048, 4 * 8 * 2048 * 16);
        assert_eq!(bf16.workspace, a + 2 * channel + h0 + 8 * 1024);
        let packed = Problem { batch: 1, packed: true, ..problem() };
        assert_eq!(plan(&packed).unwrap().workspace, 0);
    }

    #[test]
    fn what_has_no_kernel_says_where_it_runs() {
        let refused =
            [Problem { dtype: DType::F64, ..problem() }, Problem { steps: 1 << 31, ..problem() }];
        for problem in refused {
            let error = plan(&problem).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }));
            assert!(error.to_string().ends_with("use wgpu or cpu"), "{error}");
        }
    }

    #[test]
    fn a_variant_can_be_forced_where_it_fits() {
        let force = |name: &str, problem: &Problem| {
            cuda("cuda:0", &Limits::of_h100(), problem, &Options::default().with_variant(name))
        };
        let larger = force("selective_scan_forward_serial_f32_bdl_n64x1", &problem()).unwrap();
        assert!(larger.variant.ends_with("n64x1"));
        let smaller = force("selective_scan_forward_serial_f32_bdl_n8x1", &problem()).unwrap_err();
        assert!(smaller.to_string().contains("f32_bdl_n16x1 or"), "{smaller}");

        let chunked = "selective_scan_forward_chunked_f32_bdl_n16x1";
        let short = Problem { steps: 100, ..problem() };
        let cut = force(chunked, &short).unwrap();
        assert_eq!((cut.schedule, cut.blocks[0]), (Schedule::Chunked { chunk: 64 }, 256 * 2));
        assert!(force(chunked, &Problem { packed: true, ..short.clone() }).is_err());
        let all = cuda_variants("cuda:0", &Limits::of_h100(), &short, &Options::default()).unwrap();
        assert_eq!(all[0], plan(&short).unwrap().variant);
        assert!(all.contains(&chunked) && all.iter().filter(|&&name| name == all[0]).count() == 1);
    }
}
