//! The plan of the backward pass on WebGPU devices.

use super::{Spread, no_room, segment};
use crate::Result;
use crate::backend::Limits;
use crate::selective_scan::kernels::BackwardWgsl;
use crate::selective_scan::{CHECKPOINT, NAME, Options, Plan, Problem, Schedule};
use crate::variant::no_such_variant;

/// Most bytes of the parts of dB and dC that workgroups leave to the sums behind them.
const PARTS: u64 = 1 << 26;

/// Steps of the longest tile.
const TILE: usize = 8;

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
    let workgroups = words(&[problem.rows, problem.groups, cut.side_by_side]);
    Ok(Plan {
        variant: spread.info.name,
        schedule: Schedule::Serial,
        blocks: crate::backend::wgpu::folded(workgroups, limits.grid).unwrap_or(limits.grid),
        workspace: Rooms::new(problem, spread, &cut).of(problem.batch).saturating_mul(4),
        reason,
    })
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
        let &Problem { batch, groups, states, steps, .. } = problem;
        let blocks = problem.group_channels().div_ceil(spread.channels() as usize);
        // As many of something as fit, where one of it has parts of so many numbers for dB and dC.
        let budget = PARTS.min(limits.binding_bytes / 4) / 8;
        let fitting = |numbers: &[usize], most: usize| {
            let fitting = budget.checked_div(words(numbers));
            fitting.map_or(most, |fitting| most.min(fitting as usize))
        };
        // A step costs several times as much as one of the forward pass, in iterations of loops too.
        let most = segment(limits) as usize / 8;
        let segment = fitting(&[batch, groups, states, blocks], most);
        let segment = (segment / CHECKPOINT * CHECKPOINT).max(CHECKPOINT);
        let side_by_side = fitting(&[batch, groups, states, segment.min(steps)], blocks).max(1);
        Self { segment, blocks, side_by_side }
    }

    /// Steps that scratch has room for: whole tiles.
    pub fn length(&self, problem: &Problem) -> usize {
        self.segment.min(problem.steps).next_multiple_of(TILE)
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
        let rows = if problem.packed { problem.rows } else { 1 };
        let length = cut.length(problem);
        let entry = [
            // Codes, or bounds.
            words(&[steps.max(rows + 1)]),
            // h0, the carry, and the sums for dA and constant maps; those for dD and ddelta_bias.
            words(&[rows, channels, 5 * states + 1 + spread.lanes() as usize]),
            // The states that the forward pass has saved.
            words(&[channels, states, problem.checkpoints()]),
            // B and C, and the parts of their gradients.
            words(&[2, groups, length, spread.capacity() as usize]),
            words(&[2, groups, length, states, cut.side_by_side]),
        ];
        Self {
            // A and constant maps; D and delta_bias.
            fixed: words(&[channels, 3 * states + 2]),
            entry: entry.into_iter().fold(0, u64::saturating_add),
        }
    }

    /// Words for so many batch entries.
    pub fn of(&self, entries: usize) -> u64 {
        self.fixed.saturating_add(self.entry.saturating_mul(entries as u64))
    }
}

fn words(sizes: &[usize]) -> u64 {
    sizes.iter().fold(1, |words, &size| words.saturating_mul(size as u64))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{limits, problem};
    use super::*;

    fn planned(problem: &Problem, units: u32) -> (Plan, Cut) {
        let limits = limits(8, units);
        let plan = wgpu_backward(problem, &limits, &Options::default(), "wgpu").unwrap();
        let info = fitting(problem, &limits).into_iter().find(|one| one.info.name == plan.variant);
        let cut = Cut::new(problem, &limits, info.unwrap());
        (plan, cut)
    }

    #[test]
    fn the_least_kernel_that_holds_the_states_is_chosen() {
        let expected =
            [(0, 4), (4, 4), (5, 8), (16, 16), (17, 32), (64, 64), (100, 128), (256, 256)];
        for (states, capacity) in expected {
            let (plan, _) = planned(&problem(2, 64, 100, states), 0);
            let (_, shape) = plan.variant.rsplit_once('_').unwrap();
            let (states, lanes) = shape.split_once('x').unwrap();
            let room = states.parse::<u32>().unwrap() * lanes.parse::<u32>().unwrap();
            assert_eq!(room, capacity, "{}", plan.variant);
        }
    }

    #[test]
    fn parts_stay_small_however_large_the_call() {
        for units in [0, 2] {
            for sizes in [[1, 64, 100, 16], [8, 2048, 2048, 16], [1, 5120, 1 << 18, 16]] {
                let [rows, channels, steps, states] = sizes;
                let (plan, cut) = planned(&problem(rows, channels, steps, states), units);
                assert!(cut.segment.is_multiple_of(CHECKPOINT) && cut.side_by_side >= 1);
                let parts = 8 * rows * cut.segment.min(steps) * states * cut.side_by_side;
                assert!(parts as u64 <= PARTS / 2, "{cut:?}");
                assert_eq!(plan.blocks, [(rows * cut.side_by_side) as u32, 1, 1]);
            }
        }
        // All at once where they fit.
        let (_, cut) = planned(&problem(1, 64, 100, 16), 0);
        assert_eq!((cut.blocks, cut.side_by_side), (4, 4));
    }

    #[test]
    fn a_variant_can_be_forced_if_it_fits() {
        let options = |name: &str| Options::default().with_variant(name);
        let name = "selective_scan_backward_serial_wgsl_f32_4x16";
        let limits = limits(8, 0);
        let plan = wgpu_backward(&problem(1, 3, 130, 9), &limits, &options(name), "wgpu").unwrap();
        assert_eq!(plan.variant, name);
        let error = wgpu_backward(&problem(1, 3, 130, 65), &limits, &options(name), "wgpu");
        let message = error.unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("4x32"), "{message}");
    }

    #[test]
    fn every_kernel_fits_the_default_limits() {
        for one in BackwardWgsl::VARIANTS {
            let info = one.info;
            assert!(info.shared_bytes <= 16384, "{}: {} bytes", info.name, info.shared_bytes);
            let number = |name| info.number(name).unwrap() as usize;
            assert!(64 % number("lanes") == 0 && number("states").is_multiple_of(4));
            assert!(TILE.is_multiple_of(number("tile")));
        }
    }
}
