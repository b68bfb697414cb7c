//! Loads, stores and atomics, lane by lane.

use super::super::arithmetic;
use super::super::counters::Tally;
use super::super::decode::action::{Address, Atomic, Load, Place, Register, Store};
use super::super::fault::{Fault, FaultKind};
use super::super::memory::{self, Access, Loaded, Strength};
use super::super::row::{LANES, Mask, Row, lanes};
use super::atomic;
use super::step::mask_of;
use super::turn::Turn;
use super::windows;

/// What a request does, for the counters.
#[derive(Clone, Copy)]
enum Kind {
    Load,
    Store,
    Atomic,
}

/// A request as an instruction made it last, and what it counted.
pub(super) struct Pattern {
    active: Mask,
    /// Of the first lane, within a sector or a word.
    phase: u64,
    place: Place,
    /// Distances from the first lane.
    relative: Row,
    tally: Tally,
}

/// Most registers of a vector.
const MOST_ELEMENTS: usize = 8;

impl Turn<'_, '_> {
    pub fn load(&mut self, load: &Load, active: Mask) -> Result<(), Fault> {
        let addresses = self.addresses(load.address, active)?;
        let (size, count) = (load.ty.bytes(), load.to.len().min(MOST_ELEMENTS));
        let bytes = size * count as u32;
        self.count_access(load.address.place, &addresses, active, bytes, Kind::Load);
        let mut rows = [[0; LANES]; MOST_ELEMENTS];
        let mut undefined = [0 as Mask; MOST_ELEMENTS];
        let mut left = active;
        while left != 0 {
            let readers = self.readers(load, &addresses, left);
            left &= !readers;
            let access = self.access(addresses[Self::first(readers)], bytes, load.strength);
            let mut buffer = [0; 16];
            let loaded = self.load_lanes(load.address.place, readers, &access, &mut buffer)?;
            if let Strength::Strong(scope) = load.strength {
                let thread = self.thread(Self::first(readers));
                self.common.clocks.learn(thread, load.acquire, scope, loaded.seen.as_ref());
            }
            let whole = u128::from_le_bytes(buffer);
            for element in 0..count {
                let bits =
                    (whole >> (8 * size * element as u32)) as u64 & windows::low_bits(8 * size);
                lanes(readers).for_each(|lane| rows[element][lane] = bits);
                let unknown = loaded.undefined & low_ones(size) << (element as u32 * size) != 0;
                undefined[element] |= if unknown { readers } else { 0 };
            }
        }
        for ((&(to, register), row), undefined) in load.to.iter().zip(&mut rows).zip(undefined) {
            let Some(to) = to else { continue };
            if register.bytes() > size {
                arithmetic::extend(row, load.ty, register);
            }
            self.warp.write(to, row, !undefined, active);
        }
        Ok(())
    }

    /// The next lanes that read the same address with equal knowledge, which one access stands for; most
    /// often a single one.
    fn readers(&self, load: &Load, addresses: &Row, left: Mask) -> Mask {
        let first = Self::first(left);
        let single = 1 << first;
        let place = windows::resolve(load.address.place, addresses[first]).0;
        if load.strength != Strength::Weak || matches!(place, Place::Local | Place::Cluster) {
            return single;
        }
        let same = left & mask_of(addresses, |address| address == addresses[first]);
        let warp = self.warp.index as u32;
        if self.common.clocks.know_the_same(warp, same) { same } else { single }
    }

    pub fn store(&mut self, store: &Store, active: Mask) -> Result<(), Fault> {
        let addresses = self.addresses(store.address, active)?;
        let size = store.ty.bytes();
        let bytes = size * store.sources.len() as u32;
        self.count_access(store.address.place, &addresses, active, bytes, Kind::Store);
        for lane in lanes(active) {
            let mut whole = 0u128;
            for (element, &source) in store.sources.iter().enumerate() {
                let value = self.row(source)[lane] & windows::low_bits(8 * size);
                whole |= u128::from(value) << (8 * size * element as u32);
            }
            let unknown = self.unknown_bytes(&store.sources, lane, size);
            let access = self.access(addresses[lane], bytes, store.strength);
            let message = match store.strength {
                Strength::Strong(scope) => {
                    let thread = self.thread(lane);
                    self.common.clocks.publish(thread, store.release, scope)
                }
                _ => None,
            };
            let whole = &whole.to_le_bytes()[..bytes as usize];
            self.store_lane(store.address.place, lane, &access, whole, unknown, message)?;
        }
        self.progress();
        Ok(())
    }

    pub fn atomic(&mut self, atomic: &Atomic, active: Mask) -> Result<(), Fault> {
        let addresses = self.addresses(atomic.address, active)?;
        let size = atomic.ty.bytes();
        let values = atomic.values();
        let elements = atomic.sources.len() / values;
        self.require(self.defined(&atomic.sources), active, "the operand of an atomic")?;
        let bytes = atomic.ty.bytes() * elements as u32;
        self.count_access(atomic.address.place, &addresses, active, bytes, Kind::Atomic);
        let mut rows = vec![[0; LANES]; elements];
        for lane in lanes(active) {
            for (element, row) in rows.iter_mut().enumerate() {
                let operands: [u64; 2] = std::array::from_fn(|value| {
                    let source = atomic.sources.get(element + value * elements);
                    source.map_or(0, |&source| self.row(source)[lane])
                });
                let address = addresses[lane].wrapping_add(element as u64 * u64::from(size));
                row[lane] = self.atomic_lane(atomic, lane, address, operands)?;
            }
        }
        for (to, row) in atomic.to.iter().zip(&rows) {
            if let Some(to) = to {
                self.warp.write(*to, row, Mask::MAX, active);
            }
        }
        Ok(())
    }

    /// The old value, after the new one was written.
    fn atomic_lane(
        &mut self,
        atomic: &Atomic,
        lane: usize,
        address: u64,
        operands: [u64; 2],
    ) -> Result<u64, Fault> {
        let access = self.access(address, atomic.ty.bytes(), Strength::Strong(atomic.scope));
        let (place, offset) = windows::resolve(atomic.address.place, address);
        let access = Access { address: offset, ..access };
        let thread = self.thread(lane);
        let message = self.common.clocks.publish(thread, atomic.release, atomic.scope);
        let flush = place == Place::Global;
        let mut changed = false;
        let mut update = |old: u128| {
            let new = atomic::combine(atomic.operation, atomic.ty, old as u64, operands, flush)?;
            changed = new != old as u64;
            Some(u128::from(new))
        };
        let common = &mut *self.common;
        let view = common.clocks.view(thread);
        let done = match place {
            Place::Global => common.memory.atomic(&view, &access, message, &mut update),
            Place::Shared => {
                if let Some(proxy) = &mut common.proxy {
                    proxy.write(thread, offset, access.bytes);
                }
                common.shared.atomic(&view, &access, message, &mut update)
            }
            Place::Cluster => {
                let spot = self.spot(lane, offset)?;
                let access = Access { address: spot.offset, ..access };
                let (clocks, shared) = self.clocks_and_shared(spot.rank);
                shared.atomic(&clocks.view(thread), &access, message, &mut update)
            }
            other => return Err(self.wrong_space(lane, address, other, "an atomic")),
        };
        let (old, loaded) = done.map_err(|fault| self.memory_fault(lane, fault))?;
        self.common.clocks.learn(thread, atomic.acquire, atomic.scope, loaded.seen.as_ref());
        if changed {
            self.progress();
        }
        Ok(old as u64)
    }

    pub fn access(&self, address: u64, bytes: u32, strength: Strength) -> Access {
        Access { address, bytes, strength, pc: self.pc as u32 }
    }

    /// Reads memory of any space for one lane.
    pub fn load_lane(
        &mut self,
        place: Place,
        lane: usize,
        access: &Access,
        buffer: &mut [u8; 16],
    ) -> Result<Loaded, Fault> {
        self.load_lanes(place, 1 << lane, access, buffer)
    }

    /// Reads memory of any space for lanes that know the same.
    fn load_lanes(
        &mut self,
        place: Place,
        readers: Mask,
        access: &Access,
        buffer: &mut [u8; 16],
    ) -> Result<Loaded, Fault> {
        let (place, offset) = windows::resolve(place, access.address);
        let access = &Access { address: offset, ..*access };
        let lane = Self::first(readers);
        let common = &mut *self.common;
        let view = common.clocks.view_of(self.warp.index as u32, readers);
        let loaded = match place {
            Place::Global => common.memory.load(&view, access, buffer),
            Place::Shared => common.shared.load(&view, access, buffer),
            Place::Cluster => return self.load_from_cluster(lane, access, buffer),
            Place::Local => return self.load_local(readers, access, buffer),
            Place::Const => return self.read_only(self.grid.constants, lane, access, buffer),
            Place::Param => return self.read_only(&self.grid.arguments, lane, access, buffer),
            Place::Generic => return Ok(Loaded::default()),
        };
        loaded.map_err(|fault| self.memory_fault(lane, fault))
    }

    fn load_local(
        &mut self,
        readers: Mask,
        access: &Access,
        buffer: &mut [u8; 16],
    ) -> Result<Loaded, Fault> {
        let lane = Self::first(readers);
        let start = self.local(lane, access)?;
        let bytes = access.bytes as usize;
        buffer[..bytes].copy_from_slice(&self.warp.local[start..][..bytes]);
        Ok(Loaded { undefined: self.warp.local_unknown(start, bytes), seen: None })
    }

    /// Writes memory of any space that can be written.
    pub fn store_lane(
        &mut self,
        place: Place,
        lane: usize,
        access: &Access,
        bytes: &[u8],
        unknown: u16,
        message: Option<std::sync::Arc<memory::Message>>,
    ) -> Result<(), Fault> {
        let (place, offset) = windows::resolve(place, access.address);
        let access = &Access { address: offset, ..*access };
        if unknown != 0 && place == Place::Global {
            self.suspect(lane, offset);
        }
        let thread = self.thread(lane);
        let view = self.common.clocks.view(thread);
        let stored = match place {
            Place::Global => {
                self.warp
                    .copies
                    .check_source(lane, access)
                    .map_err(|pc| self.source_overwritten(lane, access.address, pc))?;
                self.common.memory.store(&view, access, bytes, unknown, message)
            }
            Place::Shared => {
                if let Some(proxy) = &mut self.common.proxy {
                    proxy.write(thread, access.address, access.bytes);
                }
                self.common.shared.store(&view, access, bytes, unknown, message)
            }
            Place::Cluster => {
                return self.store_to_cluster(lane, access, bytes, unknown, message);
            }
            Place::Local => {
                let start = self.local(lane, access)?;
                self.warp.local[start..][..bytes.len()].copy_from_slice(bytes);
                self.warp.set_local_known(start, bytes.len(), unknown);
                return Ok(());
            }
            other => return Err(self.wrong_space(lane, access.address, other, "a store")),
        };
        stored.map_err(|fault| self.memory_fault(lane, fault))
    }

    /// A value that nobody has written goes to global memory.
    pub fn suspect(&mut self, lane: usize, address: u64) {
        if self.grid.options.uninitialised && self.common.suspect.is_none() {
            let mut message = "a value that nothing was written to before is stored".to_owned();
            if self.common.products[self.warp.index].in_use() {
                message.push_str(" (registers of a product are unwritten until it is waited for)");
            }
            let fault = self.fault_at(FaultKind::Uninitialised, lane, address, message);
            self.common.suspect = Some(fault);
        }
    }

    /// Where an access begins in the local memory of the warp.
    fn local(&self, lane: usize, access: &Access) -> Result<usize, Fault> {
        let own = self.grid.code.local_bytes;
        self.check_range(own, lane, access, "local memory")?;
        Ok((lane as u64 * own + access.address) as usize)
    }

    fn read_only(
        &self,
        memory: &[u8],
        lane: usize,
        access: &Access,
        buffer: &mut [u8; 16],
    ) -> Result<Loaded, Fault> {
        self.check_range(memory.len() as u64, lane, access, "read-only memory")?;
        let bytes = access.bytes as usize;
        buffer[..bytes].copy_from_slice(&memory[access.address as usize..][..bytes]);
        Ok(Loaded::default())
    }

    fn check_range(
        &self,
        length: u64,
        lane: usize,
        access: &Access,
        what: &str,
    ) -> Result<(), Fault> {
        let bytes = u64::from(access.bytes);
        if access.address.checked_add(bytes).is_none_or(|end| end > length) {
            let message = format!("{bytes} bytes lie outside the {length} of {what}");
            return Err(self.fault_at(FaultKind::OutOfBounds, lane, access.address, message));
        }
        if !access.address.is_multiple_of(bytes.max(1)) {
            let message = format!("an access of {bytes} bytes needs a multiple of {bytes}");
            return Err(self.fault_at(FaultKind::Misaligned, lane, access.address, message));
        }
        Ok(())
    }

    /// A bit for each byte of a store that comes from an unwritten register.
    pub fn unknown_bytes(&self, sources: &[Register], lane: usize, size: u32) -> u16 {
        sources.iter().enumerate().fold(0, |mask, (element, &source)| {
            match self.warp.defined[source as usize] >> lane & 1 {
                1 => mask,
                _ => mask | low_ones(size) << (element as u32 * size),
            }
        })
    }

    pub fn wrong_space(&self, lane: usize, address: u64, place: Place, what: &str) -> Fault {
        let message =
            format!("{what} in .{} memory, which cannot be written", windows::name(place));
        self.fault_at(FaultKind::WrongSpace, lane, address, message)
    }

    /// A refusal of the memory, told by the names of the launch.
    pub fn memory_fault(&self, lane: usize, fault: memory::Fault) -> Fault {
        let (kind, address, other) = match fault {
            memory::Fault::OutOfBounds { address, .. }
                if address < self.grid.shared_bytes().max(1 << 16)
                    && address > 0
                    && self.addresses_global() =>
            {
                (FaultKind::WrongSpace, address, None)
            }
            memory::Fault::OutOfBounds { address, .. } => (FaultKind::OutOfBounds, address, None),
            memory::Fault::Misaligned { address, .. } => (FaultKind::Misaligned, address, None),
            memory::Fault::Freed { address, .. } => (FaultKind::UseAfterFree, address, None),
            memory::Fault::Race { address, other, .. } => (FaultKind::Race, address, Some(other)),
            memory::Fault::ReadOnlyWritten { address, other, .. } => {
                (FaultKind::ReadOnlyWritten, address, Some(other))
            }
            memory::Fault::Pending { address, other } if self.common.objects.covers(address) => {
                (FaultKind::Barrier, address, Some(other))
            }
            memory::Fault::Pending { address, other } => {
                (FaultKind::AsyncPending, address, Some(other))
            }
            memory::Fault::Undefined { address } => (FaultKind::Uninitialised, address, None),
            memory::Fault::NotAllocated { address } => (FaultKind::OutOfBounds, address, None),
            memory::Fault::OutOfMemory { .. } => (FaultKind::Launch, 0, None),
        };
        let hint = match kind {
            FaultKind::WrongSpace => {
                "; it looks like an offset in shared memory: name the space `.shared`"
            }
            FaultKind::Barrier => {
                "; an mbarrier lies there: only mbarrier instructions may touch it"
            }
            _ => "",
        };
        let mut told = self.fault_at(kind, lane, address, format!("{fault}{hint}"));
        told.other = other.map(|site| self.grid.other(site));
        told
    }

    /// Whether the instruction that runs addresses global memory, in name or generically.
    fn addresses_global(&self) -> bool {
        let line = self.grid.code.blank.all().get(self.pc);
        line.is_some_and(|line| !line.text.contains("shared"))
    }

    /// Counts a request. Most instructions ask in the same pattern again and again, whose count is kept.
    fn count_access(
        &mut self,
        place: Place,
        addresses: &Row,
        active: Mask,
        bytes: u32,
        kind: Kind,
    ) {
        let place = self.space(place, addresses, active);
        if place == Place::Cluster {
            return self.count_in_cluster(addresses, active, bytes);
        }
        if !matches!(place, Place::Global | Place::Shared) {
            return;
        }
        let first = addresses[Self::first(active)];
        // Banks look the same from every word, sectors from every 32 bytes.
        let phase = if place == Place::Global { first % 32 } else { first % 4 };
        let relative: Row = std::array::from_fn(|lane| match active >> lane & 1 {
            1 => addresses[lane].wrapping_sub(first),
            _ => 0,
        });
        let known = &mut self.common.patterns[self.pc];
        let same = |known: &Pattern| {
            known.active == active
                && known.phase == phase
                && known.place == place
                && known.relative == relative
        };
        if !known.as_deref().is_some_and(same) {
            let mut tally = Tally::default();
            match (place, kind) {
                (Place::Global, Kind::Load) => tally.load(addresses, active, bytes),
                (Place::Global, Kind::Store) => tally.store(addresses, active, bytes),
                (Place::Global, Kind::Atomic) => tally.atomic(addresses, active, bytes),
                (_, Kind::Atomic) => tally.shared_atomic(addresses, active, bytes),
                _ => tally.shared(addresses, active, bytes),
            }
            *known = Some(Box::new(Pattern { active, phase, place, relative, tally }));
        }
        if let Some(known) = known {
            self.common.tallies[self.pc] += known.tally;
        }
    }

    /// The space that a request goes to: that of its first lane.
    fn space(&self, place: Place, addresses: &Row, active: Mask) -> Place {
        windows::resolve(place, addresses[Self::first(active)]).0
    }
}

/// As many low ones as an element has bytes.
fn low_ones(bytes: u32) -> u16 {
    ((1u32 << bytes) - 1) as u16
}

impl Atomic {
    /// Registers of each element: cas compares with a second one.
    fn values(&self) -> usize {
        use super::super::decode::action::AtomicOperation::CompareAndSwap;
        if self.operation == CompareAndSwap { 2 } else { 1 }
    }
}

/// The place of an address in shared memory, however it is written.
pub(super) fn shared_offset(
    turn: &Turn<'_, '_>,
    lane: usize,
    address: Address,
    value: u64,
) -> Result<u64, Fault> {
    match windows::resolve(address.place, value) {
        (Place::Shared | Place::Cluster, offset) => Ok(offset),
        (place, _) => {
            let message = format!(
                "an address in shared memory is needed, this one is .{}",
                windows::name(place)
            );
            Err(turn.fault_at(FaultKind::WrongSpace, lane, value, message))
        }
    }
}
