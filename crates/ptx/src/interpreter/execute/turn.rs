//! A turn of a warp: one group of lanes runs until it waits, ends, or its time is up.

use super::super::counters::Tally;
use super::super::decode::Code;
use super::super::decode::action::{Register, Step};
use super::super::fault::{Fault, FaultKind};
use super::super::options::Schedule;
use super::super::row::{LANES, Mask, Row, lanes};
use super::block::Common;
use super::grid::Grid;
use super::warp::{Group, Waits, Warp};

/// What a step does to the group that took it.
pub(super) enum Flow {
    /// On to the next instruction.
    Next,
    /// Some lanes go elsewhere, the others on.
    Jump {
        taken: Mask,
        target: usize,
    },
    /// The lanes of each mask go to its place.
    Scatter(Vec<(usize, Mask)>),
    Exit(Mask),
    /// Other lanes must come first; the step is tried again then.
    WaitForLanes,
    /// The block's barrier of this number lets the group go on.
    WaitAtBarrier(usize),
}

/// A warp with all that its instructions may touch.
pub(super) struct Turn<'a, 'g> {
    pub grid: &'a Grid<'g>,
    /// The block's number in the grid.
    pub block: u32,
    pub warp: &'a mut Warp,
    pub common: &'a mut Common,
    /// The instruction that runs.
    pub pc: usize,
}

impl<'g> Turn<'_, 'g> {
    /// Runs at most `budget` instructions; says how many ran.
    pub fn run(&mut self, budget: u32) -> Result<u32, Fault> {
        let code: &'g Code = self.grid.code;
        let Some(mut index) = self.choose() else { return Ok(0) };
        for ran in 1..=budget {
            let Group { pc, lanes, .. } = self.warp.groups[index];
            let Some(step) = code.steps.get(pc) else {
                return Err(self.grid.fault(
                    FaultKind::Branch,
                    pc,
                    "the end of the kernel was passed",
                ));
            };
            self.pc = pc;
            self.warp.clock += 1;
            let active = self.guarded(step, lanes)?;
            let flow = match active {
                0 => Flow::Next,
                _ => self.step(step, active, lanes)?,
            };
            self.count(active, &flow);
            match self.follow(index, flow) {
                Some(next) => index = next,
                None => return Ok(ran),
            }
        }
        Ok(budget)
    }

    /// The lanes in which the guard holds.
    fn guarded(&self, step: &Step, lanes: Mask) -> Result<Mask, Fault> {
        let Some(guard) = step.guard else { return Ok(lanes) };
        self.require(self.warp.known(guard), lanes, "the guard")?;
        Ok(lanes & self.warp.holds(guard))
    }

    fn count(&mut self, active: Mask, flow: &Flow) {
        // An instruction that waits is counted when it is done.
        if matches!(flow, Flow::WaitForLanes) {
            return;
        }
        let live = self.warp.live;
        self.tally().issue(active, live);
    }

    /// What the instruction that runs has counted.
    pub fn tally(&mut self) -> &mut Tally {
        &mut self.common.tallies[self.pc]
    }

    /// Moves the group on; gives the group that runs next, if this turn goes on.
    fn follow(&mut self, index: usize, flow: Flow) -> Option<usize> {
        match flow {
            Flow::Next => self.warp.groups[index].pc += 1,
            Flow::Jump { taken, target } => self.part(index, vec![(target, taken)]),
            Flow::Scatter(targets) => self.part(index, targets),
            Flow::Exit(gone) => {
                self.warp.groups[index].pc += 1;
                self.warp.exit(gone);
                self.progress();
                return None;
            }
            Flow::WaitForLanes => {
                let (index, came) = self.warp.join(index);
                if came {
                    return Some(index);
                }
                self.warp.groups[index].waits = Waits::Lanes;
                return None;
            }
            Flow::WaitAtBarrier(id) => {
                self.warp.groups[index].waits = Waits::Barrier(id);
                return None;
            }
        }
        match self.warp.groups.len() {
            1 => Some(0),
            _ => self.reconsider(index),
        }
    }

    /// Lanes of a group go to several places; those that are not named go on.
    fn part(&mut self, index: usize, targets: Vec<(usize, Mask)>) {
        let group = self.warp.groups[index];
        let mut left = group.lanes;
        let mut parts = Vec::with_capacity(targets.len());
        for (pc, lanes) in targets {
            left &= !lanes;
            parts.push(Group { pc, lanes, waits: Waits::No });
        }
        if left != 0 {
            parts.push(Group { pc: group.pc + 1, lanes: left, waits: Waits::No });
        }
        if parts.len() > 1 {
            self.tally().diverge();
        }
        let first = parts.remove(0);
        self.warp.groups[index] = first;
        self.warp.groups.extend(parts);
    }

    /// The group whose turn it is.
    fn choose(&mut self) -> Option<usize> {
        let ready = |warp: &Warp, index: usize| warp.groups[index].waits == Waits::No;
        let count = self.warp.groups.len();
        if count == 1 && self.grid.options.schedule == Schedule::Converged {
            return ready(self.warp, 0).then_some(0);
        }
        let candidates: Vec<usize> = (0..count).filter(|&index| ready(self.warp, index)).collect();
        if candidates.is_empty() {
            return None;
        }
        match self.grid.options.schedule {
            Schedule::Converged => {
                // The one behind the others first, so that they meet; every fourth turn another, so
                // that a group which spins does not keep the one that it waits for from running.
                let index = match self.warp.clock % 4 {
                    3 => candidates[self.common.random.below(candidates.len())],
                    _ => *candidates.iter().min_by_key(|&&index| self.warp.groups[index].pc)?,
                };
                Some(self.warp.join(index).0)
            }
            Schedule::Shuffled => {
                let mut index = candidates[self.common.random.below(candidates.len())];
                if self.common.random.once_in(2) {
                    index = self.warp.join(index).0;
                }
                self.split(index);
                Some(index)
            }
        }
    }

    /// Parts a group at random now and then: nothing keeps lanes together but `.sync`.
    fn split(&mut self, index: usize) {
        let group = self.warp.groups[index];
        let away = group.lanes & self.common.random.next() as Mask;
        if away == 0 || away == group.lanes || !self.common.random.once_in(4) {
            return;
        }
        self.warp.groups[index].lanes &= !away;
        self.warp.groups.push(Group { lanes: away, ..group });
    }

    /// The group that runs on among several: in the converged schedule the one furthest behind.
    fn reconsider(&mut self, index: usize) -> Option<usize> {
        if self.grid.options.schedule == Schedule::Shuffled {
            return Some(index);
        }
        let pc = self.warp.groups[index].pc;
        let others = || self.warp.groups.iter().enumerate().filter(|&(other, _)| other != index);
        if others().any(|(_, group)| group.pc == pc && !matches!(group.waits, Waits::Barrier(_))) {
            return Some(self.warp.join(index).0);
        }
        let behind = others()
            .filter(|(_, group)| group.waits == Waits::No && group.pc < pc)
            .min_by_key(|(_, group)| group.pc);
        Some(behind.map_or(index, |(other, _)| other))
    }

    pub fn progress(&mut self) {
        self.common.progress = true;
    }

    /// The rows of the sources.
    pub fn rows(&self, sources: &[Register; 4]) -> [&Row; 4] {
        sources.map(|source| &self.warp.rows[source as usize])
    }

    pub fn row(&self, source: Register) -> &Row {
        &self.warp.rows[source as usize]
    }

    pub fn defined(&self, sources: &[Register]) -> Mask {
        sources.iter().fold(Mask::MAX, |mask, &source| mask & self.warp.defined[source as usize])
    }

    /// Refuses values that were never written where they matter.
    pub fn require(&self, defined: Mask, active: Mask, what: &str) -> Result<(), Fault> {
        let missing = active & !defined;
        if missing == 0 || !self.grid.options.uninitialised {
            return Ok(());
        }
        let message =
            format!("{what} holds a value that nothing was written to before: write it first");
        Err(self.fault(FaultKind::Uninitialised, missing.trailing_zeros() as usize, message))
    }

    /// The thread of a lane within its block.
    pub fn thread(&self, lane: usize) -> u32 {
        (self.warp.index * LANES + lane) as u32
    }

    /// A fault of a lane at the instruction that runs.
    pub fn fault(&self, kind: FaultKind, lane: usize, message: impl Into<String>) -> Fault {
        let mut fault = self.grid.fault(kind, self.pc, message);
        fault.block = Some(self.grid.place(self.block));
        fault.thread = Some(self.grid.thread(self.thread(lane)));
        fault
    }

    /// A fault of a lane that is about memory.
    pub fn fault_at(&self, kind: FaultKind, lane: usize, address: u64, message: String) -> Fault {
        Fault { address: Some(address), ..self.fault(kind, lane, message) }
    }

    /// The first lane of a mask.
    pub fn first(mask: Mask) -> usize {
        lanes(mask).next().unwrap_or(0)
    }
}
