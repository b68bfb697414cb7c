//! mbarrier: barriers that live in shared memory. A phase ends when all its arrivals have come and as many
//! bytes as were expected.
//!
//! The object is kept beside the memory, whose eight bytes are closed to other accesses meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::decode::action::{Address, Arrive, ObjectBarrier, ObjectOperation, Place};
use super::super::fault::{Fault, FaultKind};
use super::super::memory::{Access, Knowledge, Message, Scope, Site, Strength};
use super::super::row::{LANES, Mask, lanes};
use super::cluster::Spot;
use super::turn::Turn;
use super::windows;

/// The most arrivals of a phase, and bits enough for them in a state.
pub(crate) const MOST_ARRIVALS: u32 = (1 << 20) - 1;
/// The most bytes that a phase may expect, or have got too early.
const MOST_BYTES: i64 = (1 << 20) - 1;

pub(super) struct Object {
    phase: u64,
    expected: u32,
    pending: u32,
    /// Bytes that are expected and have not come.
    bytes: i64,
    /// What those who arrived have released, in this phase and in the last complete one.
    arriving: Vec<Released>,
    arrived: Vec<Released>,
}

#[derive(Clone)]
enum Released {
    Arrival(Arc<Message>),
    /// An asynchronous operation is done.
    Operation(Arc<Knowledge>),
}

impl Object {
    fn new(count: u32) -> Self {
        Self {
            phase: 0,
            expected: count,
            pending: count,
            bytes: 0,
            arriving: Vec::new(),
            arrived: Vec::new(),
        }
    }

    /// More bytes are expected; a negative number of them has come.
    fn expect(&mut self, bytes: i64) -> Result<(), String> {
        self.bytes += bytes;
        if self.bytes.abs() > MOST_BYTES {
            return Err(format!("{} bytes in one phase: at most {MOST_BYTES} can be", self.bytes));
        }
        self.end_phase();
        Ok(())
    }

    fn end_phase(&mut self) {
        if self.pending == 0 && self.bytes == 0 {
            self.phase += 1;
            self.pending = self.expected;
            self.arrived = std::mem::take(&mut self.arriving);
        }
    }

    /// Bytes of an asynchronous operation have come.
    pub fn land(&mut self, bytes: u32, known: &Arc<Knowledge>) -> Result<(), String> {
        self.arriving.push(Released::Operation(Arc::clone(known)));
        self.expect(-i64::from(bytes))
    }
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

    pub fn get_mut(&mut self, offset: u64) -> Option<&mut Object> {
        self.objects.get_mut(&offset)
    }

    /// Those that threads may wait for, told in a report.
    pub fn describe(&self) -> String {
        let one = |(offset, object): (&u64, &Object)| {
            let arrived = object.expected - object.pending.min(object.expected);
            format!(
                "mbarrier at {offset:#x}: phase {}, {arrived} of {} arrived, {} bytes missing",
                object.phase, object.expected, object.bytes
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
            let spot = self.object_spot(lane, barrier.address, addresses[lane])?;
            match &barrier.operation {
                ObjectOperation::Init { count } => {
                    let count = self.row(*count)[lane] as u32;
                    self.object_init(lane, spot, count)?;
                }
                ObjectOperation::Invalidate => {
                    self.object(lane, spot)?;
                    self.common.objects.objects.remove(&spot.offset);
                    self.object_bytes(lane, spot.offset, false)?;
                }
                ObjectOperation::Arrive(arrive) => {
                    row[lane] = self.object_arrival(lane, spot, arrive)?;
                }
                ObjectOperation::Bytes { count, complete } => {
                    let bytes = i64::from(self.row(*count)[lane] as u32);
                    self.object_expect(lane, spot, if *complete { -bytes } else { bytes })?;
                }
                ObjectOperation::Test { state, parity, acquire, .. } => {
                    self.require(self.defined(&[*state]), 1 << lane, "the phase to wait for")?;
                    let state = self.row(*state)[lane];
                    let over = self.object_test(lane, spot, state, *parity, *acquire)?;
                    held |= Mask::from(over) << lane;
                }
            }
        }
        match &barrier.operation {
            ObjectOperation::Arrive(Arrive { to: Some(to), .. }) => {
                self.warp.write(*to, &row, Mask::MAX, active)
            }
            ObjectOperation::Test { to, .. } => {
                self.warp.write_predicate(*to, held, Mask::MAX, active)
            }
            _ => {}
        }
        Ok(())
    }

    /// Where an object lies, however its address is written.
    pub fn object_spot(&self, lane: usize, address: Address, value: u64) -> Result<Spot, Fault> {
        match windows::resolve(address.place, value) {
            (Place::Shared, offset) => Ok(Spot { rank: self.peers.own(), offset }),
            (Place::Cluster, address) => self.spot(lane, address),
            (place, _) => {
                let message = format!(
                    "an address in shared memory is needed, this one is .{}",
                    windows::name(place)
                );
                Err(self.fault_at(FaultKind::WrongSpace, lane, value, message))
            }
        }
    }

    fn object(&mut self, lane: usize, spot: Spot) -> Result<&mut Object, Fault> {
        let message = "no mbarrier was initialised there".to_owned();
        let missing = self.fault_at(FaultKind::Barrier, lane, spot.offset, message);
        self.side(spot.rank).objects.get_mut(spot.offset).ok_or(missing)
    }

    fn object_init(&mut self, lane: usize, spot: Spot, count: u32) -> Result<(), Fault> {
        let offset = spot.offset;
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
        self.common.objects.objects.insert(offset, Object::new(count));
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

    fn object_arrival(&mut self, lane: usize, spot: Spot, arrive: &Arrive) -> Result<u64, Fault> {
        let numbers = [arrive.count, arrive.bytes];
        for register in numbers.into_iter().flatten() {
            self.require(self.defined(&[register]), 1 << lane, "the number of an arrival")?;
        }
        let [count, bytes] =
            numbers.map(|number| number.map(|register| self.row(register)[lane] as u32));
        let count = count.unwrap_or(1);
        if arrive.open && self.object(lane, spot)?.pending <= count {
            let message = "`.noComplete` promises that the phase goes on, and this arrival ends it";
            return Err(self.fault_at(FaultKind::Barrier, lane, spot.offset, message.to_owned()));
        }
        if let Some(bytes) = bytes {
            self.object_expect(lane, spot, i64::from(bytes))?;
        }
        self.object_arrive(lane, spot, count, arrive.drop, arrive.release)
    }

    fn object_expect(&mut self, lane: usize, spot: Spot, bytes: i64) -> Result<(), Fault> {
        let done = self.object(lane, spot)?.expect(bytes);
        self.progress();
        done.map_err(|message| self.fault_at(FaultKind::Barrier, lane, spot.offset, message))
    }

    /// The state before: the phase that the arrival counts for, and what was pending.
    pub fn object_arrive(
        &mut self,
        lane: usize,
        spot: Spot,
        count: u32,
        drop: bool,
        release: Option<Scope>,
    ) -> Result<u64, Fault> {
        let thread = self.thread(lane);
        let message = release.and_then(|scope| self.common.clocks.publish(thread, true, scope));
        let object = self.object(lane, spot)?;
        let (phase, pending) = (object.phase, object.pending);
        if count > pending {
            let message = format!("{count} arrivals, where the phase waits for {pending} more");
            return Err(self.fault_at(FaultKind::Barrier, lane, spot.offset, message));
        }
        object.pending -= count;
        object.arriving.extend(message.map(Released::Arrival));
        if drop {
            object.expected -= count;
        }
        object.end_phase();
        self.progress();
        Ok(phase << MOST_ARRIVALS.count_ones() | u64::from(pending))
    }

    /// Whether the phase of a state, or of a parity, is over.
    fn object_test(
        &mut self,
        lane: usize,
        spot: Spot,
        state: u64,
        parity: bool,
        acquire: Option<Scope>,
    ) -> Result<bool, Fault> {
        let object = self.object(lane, spot)?;
        let asked = state >> MOST_ARRIVALS.count_ones();
        let over = match parity {
            true => object.phase & 1 != state & 1,
            false => object.phase != asked,
        };
        let lag = object.phase.saturating_sub(asked);
        if !parity && lag > 1 {
            let message = format!(
                "the state is {lag} phases old: only the current one and the last can be asked for"
            );
            return Err(self.fault_at(FaultKind::Barrier, lane, spot.offset, message));
        }
        if !over {
            return Ok(false);
        }
        let arrived = object.arrived.clone();
        let thread = self.thread(lane);
        for released in &arrived {
            match (released, acquire) {
                (Released::Arrival(message), Some(scope)) => {
                    self.common.clocks.learn(thread, true, scope, Some(message));
                }
                (Released::Arrival(_), None) => {}
                // Whoever waits for an operation knows what it did, in whichever scope.
                (Released::Operation(known), _) => self.common.clocks.leave(&[thread], known),
            }
        }
        Ok(true)
    }
}
