//! Loads, stores and atomics, lane by lane.

use super::super::arithmetic;
use super::super::decode::action::{Address, Atomic, Load, Place, Register, Store};
use super::super::fault::{Fault, FaultKind};
use super::super::memory::{self, Access, Loaded, Strength};
use super::super::row::{LANES, Mask, Row, lanes};
use super::atomic;
use super::turn::Turn;
use super::windows;

/// Most registers of a vector.
const MOST_ELEMENTS: usize = 8;

impl Turn<'_, '_> {
    pub fn load(&mut self, load: &Load, active: Mask) -> Result<(), Fault> {
        let addresses = self.addresses(load.address, active)?;
        let (size, count) = (load.ty.bytes() as usize, load.to.len().min(MOST_ELEMENTS));
        let bytes = (size * count) as u32;
        self.count_access(load.address.place, &addresses, active, bytes, true);
        let mut rows = [[0; LANES]; MOST_ELEMENTS];
        let mut undefined = [0 as Mask; MOST_ELEMENTS];
        for lane in lanes(active) {
            let mut buffer = [0; 16];
            let access = self.access(addresses[lane], bytes, load.strength);
            let loaded = self.load_lane(load.address.place, lane, &access, &mut buffer)?;
            if let Strength::Strong(scope) = load.strength {
                let thread = self.thread(lane);
                self.common.clocks.learn(thread, load.acquire, scope, loaded.seen.as_ref());
            }
            let missing = low_ones(size);
            for element in 0..count {
                rows[element][lane] = bits(&buffer[element * size..][..size]);
                let unknown = loaded.undefined >> (element * size) & missing != 0;
                undefined[element] |= Mask::from(unknown) << lane;
            }
        }
        for ((&(to, register), row), undefined) in load.to.iter().zip(&mut rows).zip(undefined) {
            let Some(to) = to else { continue };
            if register.bytes() > load.ty.bytes() {
                arithmetic::extend(row, load.ty, register);
            }
            self.warp.write(to, row, !undefined, active);
        }
        Ok(())
    }

    pub fn store(&mut self, store: &Store, active: Mask) -> Result<(), Fault> {
        let addresses = self.addresses(store.address, active)?;
        let size = store.ty.bytes() as usize;
        let bytes = (size * store.sources.len()) as u32;
        self.count_access(store.address.place, &addresses, active, bytes, false);
        for lane in lanes(active) {
            let mut buffer = [0; 16];
            for (element, &source) in store.sources.iter().enumerate() {
                let value = self.row(source)[lane].to_le_bytes();
                buffer[element * size..][..size].copy_from_slice(&value[..size]);
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
            self.store_lane(
                store.address.place,
                lane,
                &access,
                &buffer[..bytes as usize],
                unknown,
                message,
            )?;
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
        self.count_atomic(atomic, &addresses, active, elements as u32);
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

    /// Reads memory of any space.
    pub fn load_lane(
        &mut self,
        place: Place,
        lane: usize,
        access: &Access,
        buffer: &mut [u8; 16],
    ) -> Result<Loaded, Fault> {
        let (place, offset) = windows::resolve(place, access.address);
        let access = &Access { address: offset, ..*access };
        let thread = self.thread(lane);
        let view = self.common.clocks.view(thread);
        let loaded = match place {
            Place::Global => self.common.memory.load(&view, access, buffer),
            Place::Shared => self.common.shared.load(&view, access, buffer),
            Place::Cluster => return self.load_from_cluster(lane, access, buffer),
            Place::Local => {
                let start = self.local(lane, access)?;
                let bytes = access.bytes as usize;
                buffer[..bytes].copy_from_slice(&self.warp.local[start..][..bytes]);
                return Ok(Loaded { undefined: self.warp.local_unknown(start, bytes), seen: None });
            }
            Place::Const => return self.read_only(self.grid.constants, lane, access, buffer),
            Place::Param => return self.read_only(&self.grid.arguments, lane, access, buffer),
            Place::Generic => return Ok(Loaded::default()),
        };
        loaded.map_err(|fault| self.memory_fault(lane, fault))
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
    pub fn unknown_bytes(&self, sources: &[Register], lane: usize, size: usize) -> u16 {
        sources.iter().enumerate().fold(0, |mask, (element, &source)| {
            match self.warp.defined[source as usize] >> lane & 1 {
                1 => mask,
                _ => mask | low_ones(size) << (element * size),
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

    fn count_access(
        &mut self,
        place: Place,
        addresses: &Row,
        active: Mask,
        bytes: u32,
        load: bool,
    ) {
        match self.space(place, addresses, active) {
            Place::Global if load => self.tally().load(addresses, active, bytes),
            Place::Global => self.tally().store(addresses, active, bytes),
            Place::Shared => self.tally().shared(addresses, active, bytes),
            Place::Cluster => self.count_in_cluster(addresses, active, bytes),
            _ => {}
        }
    }

    fn count_atomic(&mut self, atomic: &Atomic, addresses: &Row, active: Mask, elements: u32) {
        let bytes = atomic.ty.bytes() * elements;
        match self.space(atomic.address.place, addresses, active) {
            Place::Global => self.tally().atomic(addresses, active, bytes),
            _ => self.tally().shared_atomic(addresses, active, bytes),
        }
    }

    /// The space that a request goes to: that of its first lane.
    fn space(&self, place: Place, addresses: &Row, active: Mask) -> Place {
        windows::resolve(place, addresses[Self::first(active)]).0
    }
}

/// The little-endian number in some bytes.
fn bits(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(whole)
}

/// As many low ones as an element has bytes.
fn low_ones(bytes: usize) -> u16 {
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
