//! A warp: registers of its lanes, and the groups of lanes that are at the same instruction.
//!
//! Every lane has a place in the program of its own. Lanes at the same place that run together are a group;
//! a branch parts a group, and groups that meet at an instruction join, at the latest where a `.sync`
//! instruction waits for them.

use super::super::decode::action::{Condition, Predicate, Register};
use super::super::decode::{Code, Special};
use super::super::row::{LANES, Mask, Row, lanes};
use super::copy::Copies;
use super::grid::Grid;

/// Why a group does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    No,
    /// For other lanes of the warp, at a `.sync` or `.aligned` instruction.
    Lanes,
    /// At the named barrier of the block.
    Barrier(usize),
}

/// Lanes at the same instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub pc: usize,
    pub lanes: Mask,
    pub waits: Waits,
}

pub(super) struct Warp {
    /// Its number in the block.
    pub index: usize,
    /// The lanes that exist and have not exited.
    pub live: Mask,
    pub groups: Vec<Group>,
    pub rows: Vec<Row>,
    /// For each row, the lanes in which something was written to it.
    pub defined: Vec<Mask>,
    pub predicates: Vec<Mask>,
    pub predicates_defined: Vec<Mask>,
    pub carry: Mask,
    pub carry_defined: Mask,
    /// Local memory of each lane, one after the other.
    pub local: Vec<u8>,
    /// Whether something was written to each byte of it.
    pub local_known: Vec<bool>,
    pub copies: Copies,
    /// Warp instructions so far.
    pub clock: u64,
}

impl Warp {
    pub fn new(index: usize, grid: &Grid<'_>, block: [u32; 3]) -> Self {
        let code = grid.code;
        let threads = grid.threads_per_block() as usize;
        let own = (threads - index * LANES).min(LANES);
        let live = if own == LANES { Mask::MAX } else { (1 << own) - 1 };
        let mut warp = Self {
            index,
            live,
            groups: vec![Group { pc: 0, lanes: live, waits: Waits::No }],
            rows: vec![[0; LANES]; code.rows],
            defined: vec![0; code.rows],
            predicates: vec![0; code.predicates],
            predicates_defined: vec![0; code.predicates],
            carry: 0,
            carry_defined: 0,
            local: vec![0; code.local_bytes as usize * LANES],
            local_known: vec![false; code.local_bytes as usize * LANES],
            copies: Copies::default(),
            clock: 0,
        };
        warp.fill(code, grid, block);
        warp
    }

    /// Constants and special registers.
    fn fill(&mut self, code: &Code, grid: &Grid<'_>, block: [u32; 3]) {
        for &(row, value) in &code.constants {
            self.rows[row as usize] = [value; LANES];
            self.defined[row as usize] = Mask::MAX;
        }
        for &(row, special) in &code.specials {
            let index = self.index;
            self.rows[row as usize] =
                std::array::from_fn(|lane| u64::from(value(special, grid, block, index, lane)));
            self.defined[row as usize] = Mask::MAX;
        }
    }

    /// The lanes among `among` in which a condition holds.
    pub fn holds(&self, condition: Condition) -> Mask {
        match condition {
            Condition::Constant(true) => Mask::MAX,
            Condition::Constant(false) => 0,
            Condition::Register { register, negated } => {
                let mask = self.predicates[register as usize];
                if negated { !mask } else { mask }
            }
        }
    }

    /// The lanes in which a condition has been written.
    pub fn known(&self, condition: Condition) -> Mask {
        match condition {
            Condition::Constant(_) => Mask::MAX,
            Condition::Register { register, .. } => self.predicates_defined[register as usize],
        }
    }

    /// Writes a row in some lanes.
    pub fn write(&mut self, to: Register, value: &Row, defined: Mask, active: Mask) {
        let to = to as usize;
        let row = &mut self.rows[to];
        if active == Mask::MAX {
            *row = *value;
        } else {
            for lane in lanes(active) {
                row[lane] = value[lane];
            }
        }
        self.defined[to] = (self.defined[to] & !active) | (defined & active);
    }

    /// Writes a predicate in some lanes.
    pub fn write_predicate(&mut self, to: Predicate, value: Mask, defined: Mask, active: Mask) {
        let to = to as usize;
        self.predicates[to] = (self.predicates[to] & !active) | (value & active);
        self.predicates_defined[to] = (self.predicates_defined[to] & !active) | (defined & active);
    }

    /// A bit for each unwritten byte of local memory.
    pub fn local_unknown(&self, start: usize, bytes: usize) -> u16 {
        let known = self.local_known[start..][..bytes].iter().enumerate();
        known.fold(0, |mask, (byte, &known)| mask | u16::from(!known) << byte)
    }

    /// Notes which bytes of a store to local memory are written values.
    pub fn set_local_known(&mut self, start: usize, bytes: usize, unknown: u16) {
        for byte in 0..bytes {
            self.local_known[start + byte] = unknown >> byte & 1 == 0;
        }
    }

    /// Joins all groups at the instruction of `index` that do not wait at a barrier into it, and gives the
    /// new index of the group and whether any came.
    pub fn join(&mut self, index: usize) -> (usize, bool) {
        let pc = self.groups[index].pc;
        let mut joined = 0;
        let mut found = 0;
        self.groups.retain(|group| {
            let here = group.pc == pc && !matches!(group.waits, Waits::Barrier(_));
            if here {
                joined |= group.lanes;
                found += 1;
            }
            !here
        });
        self.groups.push(Group { pc, lanes: joined, waits: Waits::No });
        (self.groups.len() - 1, found > 1)
    }

    /// Lanes end. Groups that wait for lanes look again, since fewer are missing now.
    pub fn exit(&mut self, gone: Mask) {
        self.live &= !gone;
        for group in &mut self.groups {
            group.lanes &= !gone;
            if group.waits == Waits::Lanes {
                group.waits = Waits::No;
            }
        }
        self.groups.retain(|group| group.lanes != 0);
    }
}

/// What a lane reads from a special register.
fn value(special: Special, grid: &Grid<'_>, block: [u32; 3], warp: usize, lane: usize) -> u32 {
    let thread = (warp * LANES + lane) as u32;
    let [width, height, _] = grid.block;
    let cluster = grid.cluster.unwrap_or([1; 3]);
    let below = |lane: usize| ((1u64 << lane) - 1) as u32;
    match special {
        Special::Thread(0) => thread % width,
        Special::Thread(1) => thread / width % height,
        Special::Thread(_) => thread / width / height,
        Special::Threads(axis) => grid.block[axis],
        Special::Block(axis) => block[axis],
        Special::Blocks(axis) => grid.blocks[axis],
        Special::Cluster(axis) => block[axis] / cluster[axis],
        Special::Clusters(axis) => grid.blocks[axis] / cluster[axis],
        Special::BlockInCluster(axis) => block[axis] % cluster[axis],
        Special::BlocksInCluster(axis) => cluster[axis],
        Special::RankInCluster => {
            let [x, y, z] = std::array::from_fn(|axis| block[axis] % cluster[axis]);
            x + cluster[0] * (y + cluster[1] * z)
        }
        Special::SizeOfCluster => cluster.iter().product(),
        Special::Lane => lane as u32,
        // Not the warp's place in the block: a kernel that takes it for that must fail.
        Special::Warp => (grid.warps_per_block() - 1 - warp) as u32,
        Special::Warps => grid.warps_per_block() as u32,
        Special::MaskEqual => 1 << lane,
        Special::MaskLess => below(lane),
        Special::MaskLessOrEqual => below(lane + 1),
        Special::MaskGreater => !below(lane + 1),
        Special::MaskGreaterOrEqual => !below(lane),
        Special::Multiprocessor => grid.linear(block) % grid.multiprocessors,
        Special::Multiprocessors => grid.multiprocessors,
        Special::Grid => grid.number as u32,
        Special::DynamicShared => grid.dynamic_shared,
        Special::TotalShared => grid.shared_bytes() as u32,
    }
}
