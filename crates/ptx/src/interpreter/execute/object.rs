//! mbarrier: barriers that live in shared memory. A phase ends when all its arrivals have come.
//!
//! The object is kept beside the memory, whose eight bytes are closed to other accesses meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::decode::action::{ObjectBarrier, ObjectOperation};
use super::super::fault::{Fault, FaultKind};
use super::super::memory::{Access, Message, Scope, Site, Strength};
use super::super::row::{LANES, Mask, lanes};
use super::access::shared_offset;
use super::turn::Turn;

/// The most arrivals of a phase.
const MOST_ARRIVALS: u32 = (1 << 20) - 1;

struct Object {
    phase: u64,
    expected: u32,
    pending: u32,
    /// What those who arrived have released, in this phase and in the last complete one.
    arriving: Vec<Arc<Message>>,
    arrived: Vec<Arc<Message>>,
}

/// The mbarriers of a block by their offsets.
#[derive(Default)]
pub(super) struct Objects {
    objects: BTreeMap<u64, Object>,
}

impl Objects {
    /// Whether an mbarrier lies at an address.
    pub fn covers(&self, address: u64) -> bool {
        self.objects.range(..=address).next_back().is_some_and(|(start, _)| address < start + 8)
    }

    /// Those that threads may wait for, told in a report.
    pub fn describe(&self) -> String {
        let one = |(offset, object): (&u64, &Object)| {
            let arrived = object.expected - object.pending.min(object.expected);
            format!(
                "mbarrier at {offset:#x}: phase {}, {arrived} of {} arrived",
                object.phase, object.expected
            )
        };
        self.objects.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}

impl Turn<'_, '_> {
    pub fn object_barrier(&mut self, barrier: &ObjectBarrier, active: Mask) -> Result<(), Fault> {
        let addresses = self.addresses(barrier.address, active)?;
        let mut row = [0; LANES];
        let mut held = 0;
        for lane in lanes(active) {
            let offset = shared_offset(self, lane, barrier.address, addresses[lane])?;
            match &barrier.operation {
                ObjectOperation::Init { count } => {
                    let count = self.row(*count)[lane] as u32;
                    self.object_init(lane, offset, count)?;
                }
                ObjectOperation::Invalidate => {
                    self.object(lane, offset)?;
                    self.common.objects.objects.remove(&offset);
                    self.object_bytes(lane, offset, false)?;
                }
                ObjectOperation::Arrive { count, drop, .. } => {
                    let count = count.map_or(1, |count| self.row(count)[lane] as u32);
                    row[lane] = self.object_arrive(lane, offset, count, *drop)?;
                }
                ObjectOperation::Test { state, parity, .. } => {
                    let state = self.row(*state)[lane];
                    held |= Mask::from(self.object_test(lane, offset, state, *parity)?) << lane;
                }
            }
        }
        match &barrier.operation {
            ObjectOperation::Arrive { to: Some(to), .. } => {
                self.warp.write(*to, &row, Mask::MAX, active)
            }
            ObjectOperation::Test { to, .. } => {
                self.warp.write_predicate(*to, held, Mask::MAX, active)
            }
            _ => {}
        }
        Ok(())
    }

    fn object(&mut self, lane: usize, offset: u64) -> Result<&mut Object, Fault> {
        if !self.common.objects.objects.contains_key(&offset) {
            let message = "no mbarrier was initialised there".to_owned();
            return Err(self.fault_at(FaultKind::Barrier, lane, offset, message));
        }
        match self.common.objects.objects.get_mut(&offset) {
            Some(object) => Ok(object),
            None => Err(self.grid.fault(FaultKind::Barrier, self.pc, "no mbarrier")),
        }
    }

    fn object_init(&mut self, lane: usize, offset: u64, count: u32) -> Result<(), Fault> {
        let refused = if !offset.is_multiple_of(8) {
            Some("an mbarrier needs an address that is a multiple of 8".to_owned())
        } else if !(1..=MOST_ARRIVALS).contains(&count) {
            Some(format!("an mbarrier counts 1 to {MOST_ARRIVALS} arrivals, not {count}"))
        } else if self.common.objects.covers(offset) {
            Some("an mbarrier lies there already: invalidate it first".to_owned())
        } else {
            None
        };
        if let Some(message) = refused {
            return Err(self.fault_at(FaultKind::Barrier, lane, offset, message));
        }
        self.object_bytes(lane, offset, true)?;
        let object = Object {
            phase: 0,
            expected: count,
            pending: count,
            arriving: Vec::new(),
            arrived: Vec::new(),
        };
        self.common.objects.objects.insert(offset, object);
        Ok(())
    }

    /// Closes the bytes of an object to other accesses, or opens them again.
    fn object_bytes(&mut self, lane: usize, offset: u64, close: bool) -> Result<(), Fault> {
        let thread = self.thread(lane);
        let site = Site { thread: self.grid_thread(lane), pc: self.pc as u32, asynchronous: false };
        let view = self.common.clocks.view(thread);
        let access =
            Access { address: offset, bytes: 8, strength: Strength::Weak, pc: self.pc as u32 };
        let done = match close {
            true => self.common.shared.poison(&view, &access, site),
            // What an object leaves behind is opaque.
            false => self.common.shared.settle(&view, &access, &[0; 8], 0xFF),
        };
        done.map_err(|fault| self.memory_fault(lane, fault))
    }

    /// The state before: the phase that the arrival counts for.
    pub fn object_arrive(
        &mut self,
        lane: usize,
        offset: u64,
        count: u32,
        drop: bool,
    ) -> Result<u64, Fault> {
        let thread = self.thread(lane);
        let message = self.common.clocks.publish(thread, true, Scope::Block);
        let object = self.object(lane, offset)?;
        let (phase, pending) = (object.phase, object.pending);
        if count > pending {
            let message = format!("{count} arrivals, where the phase waits for {pending} more");
            return Err(self.fault_at(FaultKind::Barrier, lane, offset, message));
        }
        object.pending -= count;
        object.arriving.extend(message);
        if drop {
            object.expected -= 1;
        }
        if object.pending == 0 {
            object.phase += 1;
            object.pending = object.expected;
            object.arrived = std::mem::take(&mut object.arriving);
        }
        self.progress();
        Ok(phase)
    }

    /// Whether the phase of a state, or of a parity, is over.
    fn object_test(
        &mut self,
        lane: usize,
        offset: u64,
        state: u64,
        parity: bool,
    ) -> Result<bool, Fault> {
        let object = self.object(lane, offset)?;
        let over = match parity {
            true => object.phase & 1 != state & 1,
            false => object.phase != state,
        };
        let lag = object.phase.saturating_sub(state);
        if !parity && lag > 1 {
            let message = format!(
                "the state is {lag} phases old: only the current one and the last can be asked for"
            );
            return Err(self.fault_at(FaultKind::Barrier, lane, offset, message));
        }
        if over {
            let arrived = object.arrived.clone();
            let thread = self.thread(lane);
            for message in &arrived {
                self.common.clocks.learn(thread, true, Scope::Block, Some(message));
            }
        }
        Ok(over)
    }
}
