//! The plan of a CUDA device: how channels and entries are spread over blocks.

use super::only;
use crate::backend::Limits;
use crate::backend::cuda::grid_length;
use crate::backend::kernel::VariantInfo;
use crate::plan::Plan;
use crate::selective_scan::state_update::{NAME, Options, Problem};
use crate::{Error, Result};

/// States of a lane.
const STATES: usize = 8;

/// Channels of a tile that are worth its copy of B and C; they divide a block.
const TILE: u32 = 64;

/// Bytes of a channel's states, over the entries for which a thread keeps its A, that make A cost
/// little beside them. A itself has the same size for states of 16 bits as for those of 32.
const SHARED_A: usize = 32;

/// Blocks that give a multiprocessor enough loads to wait for.
const BLOCKS_PER_UNIT: u64 = 4;

/// Bytes of shared memory with which that many blocks and more fit on a multiprocessor.
const SHARED: u64 = 24 << 10;

/// Numbers that the kernel keeps of a point: step size, whole part, input, skip, gate.
const POINT: u64 = 5;

/// How a call is spread over blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::selective_scan::state_update) struct Spread {
    /// Threads of a channel, a power of 2.
    pub lanes: u32,
    /// Channels of a tile, a power of 2.
    pub tile: u32,
    /// Tiles of a group.
    pub tiles: u32,
    /// Entries of a block.
    pub entries: u32,
    pub blocks: u64,
    /// Bytes of shared memory.
    pub shared: u32,
}

impl Spread {
    /// As many channels and entries in a block as it takes to share maps and A, fewer where there
    /// would be too few blocks, or no room.
    pub fn of(problem: &Problem, threads: u32, units: u32) -> Self {
        let lanes = problem.states.div_ceil(STATES).next_power_of_two().clamp(2, 32) as u32;
        let columns = threads / lanes;
        let group = problem.channels() / problem.groups.max(1);
        let whole = u32::try_from(group).unwrap_or(u32::MAX).min(TILE).next_power_of_two();
        let sharing = SHARED_A / problem.state_dtype.bytes();
        let entries = if problem.a_tied { 1 } else { problem.batch.clamp(1, sharing) as u32 };
        let mut spread = Self::with(problem, lanes, whole.max(columns), entries);
        let enough = BLOCKS_PER_UNIT * u64::from(units.max(1));
        loop {
            let roomy = u64::from(spread.shared) <= SHARED;
            if roomy && spread.blocks >= enough {
                return spread;
            }
            // Of what is shared, the maps cost less than A.
            let Self { tile, entries, .. } = spread;
            spread = match (tile > columns, entries > 1) {
                (true, _) => Self::with(problem, lanes, tile / 2, entries),
                (_, true) => Self::with(problem, lanes, tile, entries / 2),
                _ => return spread,
            };
        }
    }

    fn with(problem: &Problem, lanes: u32, tile: u32, entries: u32) -> Self {
        let group = problem.channels() / problem.groups.max(1);
        let tiles = group.div_ceil(tile as usize) as u64;
        let parts = problem.batch.div_ceil(entries as usize) as u64;
        let lines = u64::from(entries) * problem.steps as u64;
        let maps = 2 * lines * u64::from(lanes) * STATES as u64;
        let words = POINT * lines * u64::from(tile) + maps + 2 * u64::from(entries);
        Self {
            lanes,
            tile,
            tiles: u32::try_from(tiles).unwrap_or(u32::MAX),
            entries,
            blocks: tiles.saturating_mul(problem.groups as u64).saturating_mul(parts),
            shared: u32::try_from(4 * words).unwrap_or(u32::MAX),
        }
    }
}

/// The plan for the one kernel of these elements.
pub(in crate::selective_scan::state_update) fn cuda(
    device: &str,
    limits: &Limits,
    info: &VariantInfo,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    let largest = problem.batch.max(problem.channels()).max(problem.slots);
    if largest > i32::MAX as usize {
        return Err(Error::Unsupported {
            operation: NAME,
            backend: device.to_owned(),
            what: format!("a size of {largest}"),
            instead: "split the batch, the channels or the slots".to_owned(),
        });
    }
    let spread = Spread::of(problem, info.block[0], limits.units);
    let blocks = grid_length(NAME, device, limits, spread.blocks)?;
    let Spread { lanes, tile, entries, .. } = spread;
    let mut reason = format!(
        "{lanes} lanes of {STATES} states hold N = {}; a block shares B and C among {tile} channels",
        problem.states
    );
    if entries > 1 {
        reason += &format!(" and A among {entries} entries");
    }
    only(device, info.name, [blocks, 1, 1], reason, options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::DType;

    fn spread(sizes: [usize; 6], a_tied: bool) -> Spread {
        let problem = Problem { a_tied, ..Problem::new(DType::F32, sizes).unwrap() };
        Spread::of(&problem, 128, 132)
    }

    #[test]
    fn lanes_hold_all_states() {
        for states in 0..=256 {
            let spread = spread([1, 1, 64, 1, states, 1], false);
            assert!(spread.lanes as usize * STATES >= states && spread.lanes <= 32);
            assert!(spread.tile >= 128 / spread.lanes);
        }
    }

    #[test]
    fn large_batches_share_a_and_small_ones_fill_the_device() {
        let mamba = |batch| spread([batch, 1, 5120, 1, 16, 1], false);
        assert_eq!((mamba(64).entries, mamba(64).tile, mamba(64).blocks), (8, 64, 640));
        assert_eq!((mamba(8).entries, mamba(8).blocks), (1, 640));
        assert_eq!((mamba(1).entries, mamba(1).blocks), (1, 80));
        let problem = Problem::new(DType::BF16, [256, 1, 5120, 1, 16, 1]).unwrap();
        let half = Problem { a_tied: false, state_dtype: DType::BF16, ..problem };
        assert_eq!(Spread::of(&half, 128, 132).entries, 16);
    }

    #[test]
    fn tied_calls_have_no_a_to_share() {
        let mamba2 = |batch| spread([batch, 1, 80, 64, 128, 8], true);
        assert_eq!((mamba2(64).entries, mamba2(64).tile, mamba2(64).blocks), (1, 64, 5120));
        assert_eq!((mamba2(1).tile, mamba2(1).blocks), (8, 640));
    }

    #[test]
    fn shared_memory_has_room_for_the_most_steps() {
        for states in [1, 16, 64, 128, 256] {
            for a_tied in [false, true] {
                let spread = spread([300, 16, 5120, 1, states, 1], a_tied);
                assert!(spread.shared <= 48 << 10, "{states}: {spread:?}");
            }
        }
    }
}
