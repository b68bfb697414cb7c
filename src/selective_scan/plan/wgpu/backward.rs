//! The plan of the backward pass on WebGPU devices.

use super::{Spread, no_room, segment};
use crate::Result;
use crate::backend::Limits;
use crate::selective_scan::kernels::BackwardWgsl;
use crate::selective_scan::{CHECKPOINT, NAME, Options, Plan, Problem, Schedule};
use crate::variant::no_such_variant;

/// Most bytes of the parts of dB and dC that workgroups leave to the sums behind them.
const PARTS: u64 = 1 << 26;

/// Chooses the kernel that has the least room for states that is enough.
pub(in crate::selective_scan) fn wgpu_backward(
    problem: &Problem,
    limits: &Limits,
    options: &Options,
    device: &str,
) -> Result<Plan> {
    let fitting = fitting(problem, limits);
    let best = fitting.iter().copied().min_by_key(|one| one.capacity());
    let best = best.ok_or_else(|| no_room(limits, device))?;
    let (spread, reason) = match options.backward_variant() {
        Some(asked) => {
            let found = fitting.iter().copied().find(|one| one.info.name == asked);
            let names = fitting.iter().map(|one| one.info.name);
            let none = || no_such_variant(NAME, device.to_owned(), &asked, names);
            (found.ok_or_else(none)?, "the variant was asked for".to_owned())
        }
        None => {
            let reason = format!(
                "{} is the least room for N = {} states; a workgroup walks {} channels of a row",
                best.capacity(),
                problem.states,
                best.channels()
            );
            (best, reason)
        }
    };
    let cut = Cut::new(problem, limits, spread);
    let workgroups = (problem.rows * problem.groups) as u64 * cut.side_by_side as u64;
    Ok(Plan {
        variant: spread.info.name,
        schedule: Schedule::Serial,
        blocks: crate::backend::wgpu::folded(workgroups, limits.grid).unwrap_or(limits.grid),
        workspace: 4 * Rooms::new(problem, spread, &cut).of(problem.batch),
        reason,
    })
}

/// Every variant that fits, the plan's own first; those with more room than needed would only idle.
pub(in crate::selective_scan) fn wgpu_backward_variants(
    problem: &Problem,
    limits: &Limits,
    options: &Options,
    device: &str,
) -> Result<Vec<&'static str>> {
    Ok(vec![wgpu_backward(problem, limits, options, device)?.variant])
}

fn fitting(problem: &Problem, limits: &Limits) -> Vec<Spread> {
    let spreads = BackwardWgsl::VARIANTS.iter().map(|one| Spread { info: one.info });
    spreads.filter(|one| one.fits(problem, limits)).collect()
}

/// How a pass is cut into dispatches, so that none walks too long and their parts of dB and dC
/// stay small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::selective_scan) struct Cut {
    /// Steps of a segment of time, a multiple of [`CHECKPOINT`].
    pub segment: usize,
    /// Blocks of channels of a group.
    pub blocks: usize,
    /// Those that are walked side by side; they leave parts of their own.
    pub side_by_side: usize,
}

impl Cut {
    pub fn new(problem: &Problem, limits: &Limits, spread: Spread) -> Self {
        let blocks = problem.group_channels().div_ceil(spread.channels() as usize);
        let budget = PARTS.min(limits.binding_bytes / 4);
        // Of a step of a block: dB and dC.
        let step = 8 * (problem.batch * problem.groups * problem.states) as u64;
        let steps = |blocks: usize| budget.checked_div(step.saturating_mul(blocks as u64));
        // A step costs several times as much as one of the forward pass, in loops too.
        let most = segment(limits) / 8;
        let unit = CHECKPOINT as u64;
        let segment = steps(blocks).unwrap_or(most) / unit * unit;
        let segment = segment.clamp(unit, most);
        let walked = segment.min(problem.steps as u64);
        let side_by_side = budget.checked_div(step.saturating_mul(walked));
        let side_by_side = side_by_side.map_or(blocks, |fit| (fit as usize).min(blocks)).max(1);
        Self { segment: segment as usize, blocks, side_by_side }
    }

    /// Steps that scratch has room for: whole tiles.
    pub fn length(&self, problem: &Problem) -> usize {
        self.segment.min(problem.steps).next_multiple_of(16)
    }
}

/// Words of scratch, as if every optional tensor were there.
#[derive(Clone, Copy, Debug)]
pub(in crate::selective_scan) struct Rooms {
    fixed: u64,
    /// Of each batch entry.
    pub entry: u64,
}

impl Rooms {
    pub fn new(problem: &Problem, spread: Spread, cut: &Cut) -> Self {
        let &Problem { channels, states, steps, groups, .. } = problem;
        let words = |sizes: &[usize]| {
            sizes.iter().fold(1u64, |words, &size| words.saturating_mul(size as u64))
        };
        let rows = if problem.packed { problem.rows } else { 1 };
        // A and constant maps; D and delta_bias.
        let fixed = words(&[channels, 3 * states + 2]);
        // h0, the carry, and the sums for dA and constant maps; those for dD and ddelta_bias.
        let row = words(&[channels, 5 * states + 1 + spread.lanes() as usize]);
        let saved = words(&[channels, states, problem.checkpoints()]);
        let maps = spread.capacity() as usize + states * cut.side_by_side;
        let entry = (rows as u64).saturating_mul(row + 1)
            + saved
            + words(&[2, groups, cut.length(problem), maps])
            + steps as u64
            + 1;
        Self { fixed, entry }
    }

    /// Words for so many batch entries.
    pub fn of(&self, entries: usize) -> u64 {
        self.fixed.saturating_add(self.entry.saturating_mul(entries as u64))
    }
}
