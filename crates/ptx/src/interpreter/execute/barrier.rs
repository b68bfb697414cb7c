//! The sixteen named barriers of a block.

use std::sync::Arc;

use super::super::decode::action::{Barrier, BarrierKind};
use super::super::fault::{Fault, FaultKind};
use super::super::memory::Knowledge;
use super::super::row::{LANES, Mask, lanes};
use super::block::Block;
use super::turn::{Flow, Turn};
use super::warp::Waits;

/// A barrier while threads come to it.
#[derive(Clone, Default)]
pub(super) struct Named {
    /// The number of threads that complete it; `None` stands for all of the block.
    expected: Option<u32>,
    /// The lanes of each warp that have come, to wait or not.
    arrived: Vec<(usize, Mask)>,
    waiting: Vec<Waiting>,
    /// What those who only arrive have released.
    released: Vec<Arc<Knowledge>>,
    /// What `bar.red` has counted: lanes whose predicate holds, and all of them.
    held: u32,
    asked: u32,
    /// The instruction that came first.
    pc: usize,
}

#[derive(Clone, Copy)]
struct Waiting {
    warp: usize,
    lanes: Mask,
    kind: BarrierKind,
}

impl Named {
    pub fn used(&self) -> bool {
        !self.arrived.is_empty()
    }

    pub fn pc(&self) -> usize {
        self.pc
    }

    /// Threads that have come, as the hardware counts them: an aligned arrival is a whole warp.
    fn count(&self) -> u32 {
        self.arrived.iter().map(|(_, lanes)| lanes.count_ones()).sum()
    }

    pub fn describe(&self, live: u32) -> String {
        let expected = match self.expected {
            Some(count) => count.to_string(),
            None => format!("all {live} live"),
        };
        format!("{} of {expected} threads have come", self.count())
    }
}

impl Turn<'_, '_> {
    pub fn barrier(&mut self, barrier: &Barrier, active: Mask, group: Mask) -> Result<Flow, Fault> {
        if barrier.aligned && !self.whole_warp(active, group)? {
            return Ok(Flow::WaitForLanes);
        }
        self.require(self.defined(&[barrier.id]), active, "the barrier's number")?;
        let first = Self::first(active);
        let id = self.row(barrier.id)[first];
        let expected = barrier.threads.map(|threads| self.row(threads)[first] as u32);
        for lane in lanes(active) {
            let same = self.row(barrier.id)[lane] == id
                && barrier
                    .threads
                    .is_none_or(|threads| Some(self.row(threads)[lane] as u32) == expected);
            if !same {
                let message = "number or count of the barrier differ among the lanes of a warp";
                return Err(self.fault(FaultKind::Barrier, lane, message));
            }
        }
        let Some(place) = usize::try_from(id).ok().filter(|&id| id < self.common.barriers.len())
        else {
            let message = format!("barrier {id}: there are 16, from 0");
            return Err(self.fault(FaultKind::Barrier, first, message));
        };
        self.arrive(place, barrier, expected, active)?;
        self.progress();
        match barrier.kind {
            BarrierKind::Arrive => Ok(Flow::Next),
            _ => Ok(Flow::WaitAtBarrier(place)),
        }
    }

    fn arrive(
        &mut self,
        id: usize,
        barrier: &Barrier,
        expected: Option<u32>,
        active: Mask,
    ) -> Result<(), Fault> {
        if let Some(count) = expected.filter(|count| *count == 0 || !count.is_multiple_of(32)) {
            let message = format!("a barrier counts a multiple of 32 threads, not {count}");
            return Err(self.fault(FaultKind::Barrier, Self::first(active), message));
        }
        let (warp, pc) = (self.warp.index, self.pc);
        // An aligned arrival counts for a whole warp, whatever lanes have exited or never were.
        let lanes = if barrier.aligned { Mask::MAX } else { active };
        let named = &self.common.barriers[id];
        let problem = if named.used() && named.expected != expected {
            Some(format!(
                "barrier {id} was entered with another count before ({})",
                named.describe(0)
            ))
        } else if named.arrived.iter().any(|&(other, came)| other == warp && came & lanes != 0) {
            Some(format!("barrier {id}: the same threads arrive twice in one phase"))
        } else if expected.is_some_and(|most| named.count() + lanes.count_ones() > most) {
            Some(format!(
                "barrier {id}: more threads arrive than it counts ({})",
                named.describe(0)
            ))
        } else {
            None
        };
        if let Some(message) = problem {
            let mut fault = self.fault(FaultKind::Barrier, Self::first(active), message);
            if named.used() {
                let thread = named
                    .arrived
                    .first()
                    .map_or(0, |&(warp, lanes)| warp * LANES + Self::first(lanes));
                let site = self.block * self.grid.threads_per_block() + thread as u32;
                fault.other = Some(self.grid.other(super::super::memory::Site {
                    thread: site,
                    pc: named.pc as u32,
                    asynchronous: false,
                }));
            }
            return Err(fault);
        }
        let held = match barrier.kind {
            BarrierKind::Count { condition, .. }
            | BarrierKind::All { condition, .. }
            | BarrierKind::Any { condition, .. } => Some(self.asked(condition, active)? & active),
            BarrierKind::Sync | BarrierKind::Arrive => None,
        };
        let released = match barrier.kind {
            BarrierKind::Arrive => {
                let threads: Vec<u32> = self::lanes(active).map(|lane| self.thread(lane)).collect();
                Some(Arc::new(self.common.clocks.arrive(&threads)))
            }
            _ => None,
        };
        let named = &mut self.common.barriers[id];
        named.released.extend(released);
        if !named.used() {
            named.expected = expected;
            named.pc = pc;
        }
        named.arrived.push((warp, lanes));
        if let Some(held) = held {
            named.held += held.count_ones();
            named.asked += active.count_ones();
        }
        if barrier.kind != BarrierKind::Arrive {
            named.waiting.push(Waiting { warp, lanes: active, kind: barrier.kind });
        }
        Ok(())
    }
}

impl Block<'_> {
    /// Lets go those whose barriers are complete; says whether there were any.
    pub fn complete_barriers(&mut self) -> bool {
        let mut any = false;
        for id in 0..self.common.barriers.len() {
            if self.common.barriers[id].used() && self.complete(id) {
                self.release(id);
                self.common.completed += 1;
                any = true;
            }
        }
        any
    }

    fn complete(&self, id: usize) -> bool {
        let named = &self.common.barriers[id];
        match named.expected {
            Some(expected) => named.count() >= expected,
            None => self.warps.iter().all(|warp| {
                let came = named.arrived.iter().filter(|(index, _)| *index == warp.index);
                let came = came.fold(0, |mask, (_, lanes)| mask | lanes);
                warp.live & !came == 0
            }),
        }
    }

    fn release(&mut self, id: usize) {
        let named = std::mem::take(&mut self.common.barriers[id]);
        match named.expected {
            None => self.common.clocks.barrier(),
            Some(_) => {
                let threads = |warp: usize, mask: Mask| {
                    let most = self.grid.threads_per_block();
                    lanes(mask)
                        .map(move |lane| (warp * LANES + lane) as u32)
                        .filter(move |&thread| thread < most)
                };
                let waiting: Vec<u32> =
                    named.waiting.iter().flat_map(|one| threads(one.warp, one.lanes)).collect();
                self.common.clocks.barrier_among(&waiting, &waiting);
                for known in &named.released {
                    self.common.clocks.leave(&waiting, known);
                }
            }
        }
        for Waiting { warp, lanes, kind } in named.waiting {
            let warp = &mut self.warps[warp];
            match kind {
                BarrierKind::Count { to, .. } => {
                    warp.write(to, &[u64::from(named.held); LANES], Mask::MAX, lanes);
                }
                BarrierKind::All { to, .. } => {
                    let value = if named.held == named.asked { Mask::MAX } else { 0 };
                    warp.write_predicate(to, value, Mask::MAX, lanes);
                }
                BarrierKind::Any { to, .. } => {
                    let value = if named.held > 0 { Mask::MAX } else { 0 };
                    warp.write_predicate(to, value, Mask::MAX, lanes);
                }
                BarrierKind::Sync | BarrierKind::Arrive => {}
            }
            for group in &mut warp.groups {
                if group.waits == Waits::Barrier(id) && group.lanes & lanes != 0 {
                    group.waits = Waits::No;
                    group.pc += 1;
                }
            }
        }
    }
}
