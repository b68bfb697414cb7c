//! cp.async: copies from global to shared memory that run beside the thread until it waits.

use super::super::decode::action::{Address, Copy, Place};
use super::super::fault::{Fault, FaultKind, Other};
use super::super::memory::{Access, Scope, Site, Strength};
use super::super::row::{LANES, Mask, lanes};
use super::access::shared_offset;
use super::turn::Turn;

/// A copy on its way.
#[derive(Clone, Copy, Debug)]
struct Pending {
    source: u64,
    /// How many bytes are read; the rest becomes zero.
    taken: u32,
    destination: u64,
    bytes: u32,
    pc: usize,
}

impl Pending {
    /// The write that it is to shared memory, by the instruction that started it.
    fn access(&self) -> Access {
        let (address, bytes) = (self.destination, self.bytes);
        Access { address, bytes, strength: Strength::Weak, pc: self.pc as u32 }
    }
}

/// The copies of a warp's lanes that nobody has waited for.
#[derive(Default)]
pub(super) struct Copies {
    lanes: Vec<Groups>,
}

/// The copies of a lane: closed groups, oldest first, and the open one.
#[derive(Clone, Default)]
struct Groups {
    closed: Vec<Vec<Pending>>,
    open: Vec<Pending>,
}

impl Groups {
    fn all(&self) -> impl Iterator<Item = &Pending> {
        self.closed.iter().flatten().chain(&self.open)
    }
}

impl Copies {
    fn of(&mut self, lane: usize) -> &mut Groups {
        if self.lanes.is_empty() {
            self.lanes = vec![Groups::default(); LANES];
        }
        &mut self.lanes[lane]
    }

    /// The instruction of a copy of this lane whose source a write would change.
    pub fn check_source(&self, lane: usize, access: &Access) -> Result<(), usize> {
        let Some(groups) = self.lanes.get(lane) else { return Ok(()) };
        let end = access.address.saturating_add(u64::from(access.bytes));
        let touched = |copy: &&Pending| {
            copy.source < end && access.address < copy.source.saturating_add(u64::from(copy.taken))
        };
        match groups.all().find(touched) {
            Some(copy) => Err(copy.pc),
            None => Ok(()),
        }
    }
}

impl Turn<'_, '_> {
    pub fn copy(&mut self, copy: &Copy, active: Mask) -> Result<(), Fault> {
        let (to, from) = (self.addresses(copy.to, active)?, self.addresses(copy.from, active)?);
        if let Some(taken) = copy.taken {
            self.require(self.defined(&[taken]), active, "the source size")?;
        }
        let ignored = match copy.ignored {
            Some(condition) => {
                self.require(self.warp.known(condition), active, "the predicate")?;
                self.warp.holds(condition)
            }
            None => 0,
        };
        self.count_copy(copy, &from, &to, active & !ignored);
        for lane in lanes(active) {
            let taken = match copy.taken {
                _ if ignored >> lane & 1 == 1 => 0,
                Some(taken) => self.row(taken)[lane] as u32,
                None => copy.bytes,
            };
            if taken > copy.bytes {
                let message = format!(
                    "the source size {taken} is larger than the copy of {} bytes",
                    copy.bytes
                );
                return Err(self.fault(FaultKind::Undefined, lane, message));
            }
            let destination = shared_offset(self, lane, copy.to, to[lane])?;
            let pending =
                Pending { source: from[lane], taken, destination, bytes: copy.bytes, pc: self.pc };
            self.start(lane, pending)?;
        }
        Ok(())
    }

    /// Checks both ends, and hides the destination until the copy is done.
    fn start(&mut self, lane: usize, copy: Pending) -> Result<(), Fault> {
        if !copy.source.is_multiple_of(u64::from(copy.bytes)) {
            let message =
                format!("a copy of {0} bytes needs a source at a multiple of {0}", copy.bytes);
            return Err(self.fault_at(FaultKind::Misaligned, lane, copy.source, message));
        }
        self.read_source(lane, &copy)?;
        let site = Site { thread: self.grid_thread(lane), pc: self.pc as u32, asynchronous: true };
        let thread = self.thread(lane);
        let view = self.common.clocks.view(thread);
        let access = copy.access();
        let hidden = self.common.shared.poison(&view, &access, site);
        hidden.map_err(|fault| self.memory_fault(lane, fault))?;
        self.warp.copies.of(lane).open.push(copy);
        Ok(())
    }

    /// The bytes of the source, zeros behind those that are taken. A size that is no power of two is
    /// read in parts.
    fn read_source(&mut self, lane: usize, copy: &Pending) -> Result<([u8; 16], u16), Fault> {
        let mut bytes = [0; 16];
        let mut unknown = 0;
        let mut at = 0;
        for part in [16u32, 8, 4, 2, 1] {
            if copy.taken - at < part {
                continue;
            }
            let mut buffer = [0; 16];
            let access = Access {
                address: copy.source + u64::from(at),
                bytes: part,
                strength: Strength::Weak,
                pc: copy.pc as u32,
            };
            unknown |= self.load_lane(Place::Global, lane, &access, &mut buffer)?.undefined << at;
            bytes[at as usize..][..part as usize].copy_from_slice(&buffer[..part as usize]);
            at += part;
        }
        Ok((bytes, unknown))
    }

    pub fn copy_commit(&mut self, active: Mask) {
        for lane in lanes(active) {
            let groups = self.warp.copies.of(lane);
            let open = std::mem::take(&mut groups.open);
            groups.closed.push(open);
        }
    }

    /// Waits until at most `pending` groups are on their way: the older ones arrive now.
    pub fn copy_wait(&mut self, pending: usize, active: Mask) -> Result<(), Fault> {
        for lane in lanes(active) {
            let groups = self.warp.copies.of(lane);
            let done = groups.closed.len().saturating_sub(pending);
            let mut arrived: Vec<Pending> = groups.closed.drain(..done).flatten().collect();
            // wait_all is a wait for the open group too.
            if pending == 0 {
                arrived.append(&mut groups.open);
            }
            for copy in arrived {
                self.settle(lane, &copy)?;
            }
        }
        Ok(())
    }

    /// What a lane has copied so far arrives.
    pub fn settle_all(&mut self, lane: usize) -> Result<(), Fault> {
        let groups = std::mem::take(self.warp.copies.of(lane));
        for copy in groups.all() {
            self.settle(lane, copy)?;
        }
        Ok(())
    }

    fn settle(&mut self, lane: usize, copy: &Pending) -> Result<(), Fault> {
        let (bytes, unknown) = self.read_source(lane, copy)?;
        let thread = self.thread(lane);
        let view = self.common.clocks.view(thread);
        let access = copy.access();
        let bytes = &bytes[..copy.bytes as usize];
        if let Some(proxy) = &mut self.common.proxy {
            proxy.write(thread, access.address, access.bytes);
        }
        let settled = self.common.shared.settle(&view, &access, bytes, unknown);
        settled.map_err(|fault| self.memory_fault(lane, fault))
    }

    /// A thread must not end before its copies.
    pub fn check_exit(&self, active: Mask) -> Result<(), Fault> {
        for lane in lanes(active) {
            let Some(copy) =
                self.warp.copies.lanes.get(lane).and_then(|groups| groups.all().next())
            else {
                continue;
            };
            let message =
                "the thread ends before an asynchronous copy that it started: wait for it";
            let mut fault =
                self.fault_at(FaultKind::AsyncPending, lane, copy.destination, message.to_owned());
            fault.other = Some(self.own_site(lane, copy.pc));
            return Err(fault);
        }
        Ok(())
    }

    pub fn source_overwritten(&self, lane: usize, address: u64, pc: usize) -> Fault {
        let message =
            "the source of an asynchronous copy is overwritten before the copy is waited for";
        let mut fault = self.fault_at(FaultKind::AsyncPending, lane, address, message.to_owned());
        fault.other = Some(self.own_site(lane, pc));
        fault
    }

    /// Another instruction of the same thread.
    fn own_site(&self, lane: usize, pc: usize) -> Other {
        self.grid.other(Site { thread: self.grid_thread(lane), pc: pc as u32, asynchronous: true })
    }

    /// The thread of a lane within the grid.
    pub fn grid_thread(&self, lane: usize) -> u32 {
        self.block * self.grid.threads_per_block() + self.thread(lane)
    }

    fn count_copy(&mut self, copy: &Copy, from: &[u64; LANES], to: &[u64; LANES], active: Mask) {
        let tally = self.tally();
        tally.load(from, active, copy.bytes);
        tally.shared(to, active, copy.bytes);
    }

    pub fn copy_arrive(
        &mut self,
        address: Address,
        counted: bool,
        active: Mask,
    ) -> Result<(), Fault> {
        let addresses = self.addresses(address, active)?;
        for lane in lanes(active) {
            self.settle_all(lane)?;
            // Without `.noinc` the count is raised by one first: nothing changes but the order of memory.
            let spot = self.object_spot(lane, address, addresses[lane])?;
            self.object_arrive(lane, spot, u32::from(counted), false, Some(Scope::Block))?;
        }
        Ok(())
    }
}
