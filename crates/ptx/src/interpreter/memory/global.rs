//! The memory of a device.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::allocation::{ALIGNMENT, Allocation, PAGE, Table};
use super::knowledge::Message;
use super::page::{Page, Write};
use super::view::View;
use super::{Access, Checks, Fault, Loaded, Strength};

/// Memory of one device, from an address on that no other device uses. Addresses are never used again, so
/// that a use after the end of an allocation is always found.
pub(crate) struct Global {
    checks: Checks,
    launches: AtomicU64,
    state: Mutex<State>,
}

struct State {
    next: u64,
    table: Arc<Table>,
}

impl Global {
    pub fn new(base: u64, checks: Checks) -> Self {
        let next = base.next_multiple_of(ALIGNMENT);
        let state = Mutex::new(State { next, table: Arc::default() });
        Self { checks, launches: AtomicU64::new(0), state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Undefined bytes, aligned to 256.
    pub fn allocate(&self, bytes: u64) -> Result<u64, Fault> {
        let mut state = self.state();
        let start = state.next;
        let end = start.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(ALIGNMENT));
        let next = end.and_then(|end| end.checked_add(ALIGNMENT));
        let next = next.ok_or(Fault::OutOfMemory { bytes })?;
        let allocation = Arc::new(Allocation::new(start, bytes, self.checks)?);
        state.next = next;
        Arc::make_mut(&mut state.table).live.push(allocation);
        Ok(start)
    }

    /// A launch that runs goes on with what it found.
    pub fn free(&self, address: u64) -> Result<(), Fault> {
        Arc::make_mut(&mut self.state().table).free(address)
    }

    fn find(&self, address: u64, bytes: usize) -> Result<(Arc<Allocation>, usize), Fault> {
        let state = self.state();
        let (at, offset) = state.table.find(address, bytes as u64)?;
        Ok((Arc::clone(&state.table.live[at]), offset))
    }

    /// The host writes.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        let (allocation, offset) = self.find(address, bytes.len())?;
        allocation.words.store(offset, bytes);
        allocation
            .each_page(offset, bytes.len(), |page, at, count| page.defined.set_range(at, count));
        Ok(())
    }

    /// The host reads; undefined bytes too.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Fault> {
        let (allocation, offset) = self.find(address, into.len())?;
        allocation.words.load(offset, into);
        Ok(())
    }

    /// The host copies within the device, undefined bytes as such. The ranges may overlap.
    pub fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), Fault> {
        let (source, read) = self.find(from, bytes)?;
        let (target, write) = self.find(to, bytes)?;
        let mut values = vec![0; bytes];
        source.words.load(read, &mut values);
        let mut defined = Vec::with_capacity(bytes);
        source.each_page(read, bytes, |page, at, count| {
            defined.extend((at..at + count).map(|at| page.defined.get(at)));
        });
        target.words.store(write, &values);
        let mut defined = defined.into_iter();
        target.each_page(write, bytes, |page, at, count| {
            for (at, defined) in (at..at + count).zip(defined.by_ref()) {
                page.defined.put(at, defined);
            }
        });
        Ok(())
    }

    /// A new grid: whatever was done before is ordered before all that it does. Each host thread that runs
    /// it takes a clone.
    pub fn begin_launch(&self) -> GlobalView {
        let launch = self.launches.fetch_add(1, Relaxed) + 1;
        GlobalView {
            table: Arc::clone(&self.state().table),
            checks: self.checks,
            launch,
            last: Cell::new(0),
        }
    }
}

/// The memory of a device as one host thread sees it during a launch.
#[derive(Clone)]
pub(crate) struct GlobalView {
    table: Arc<Table>,
    checks: Checks,
    launch: u64,
    /// The allocation of the last access.
    last: Cell<usize>,
}

impl GlobalView {
    #[inline]
    pub fn load(&self, view: &View, access: &Access, into: &mut [u8; 16]) -> Result<Loaded, Fault> {
        let (allocation, offset) = self.place(access)?;
        let into = &mut into[..access.bytes as usize];
        if self.unchecked(access) {
            allocation.words.load(offset, into);
            return Ok(Loaded::default());
        }
        allocation.with_page(offset, self.launch, |page| {
            allocation.words.load(offset, into);
            page.read(view, access, offset % PAGE)
        })
    }

    /// `undefined` has a bit for each byte whose value is undefined.
    #[inline]
    pub fn store(
        &self,
        view: &View,
        access: &Access,
        bytes: &[u8],
        undefined: u16,
        publish: Option<Arc<Message>>,
    ) -> Result<(), Fault> {
        let (allocation, offset) = self.place(access)?;
        if self.unchecked(access) {
            allocation.words.store(offset, bytes);
            return Ok(());
        }
        allocation.with_page(offset, self.launch, |page| {
            let write = Write { undefined, publish, atomic: false };
            put(allocation, page, view, access, offset, bytes, write)
        })
    }

    /// The update says what the old value becomes, or that it stays (a `cas` that fails). Gives the old value.
    pub fn atomic(
        &self,
        view: &View,
        access: &Access,
        publish: Option<Arc<Message>>,
        update: &mut dyn FnMut(u128) -> Option<u128>,
    ) -> Result<(u128, Loaded), Fault> {
        let (allocation, offset) = self.place(access)?;
        allocation.with_page(offset, self.launch, |page| {
            if page.undefined(access, offset % PAGE) != 0 {
                return Err(Fault::Undefined { address: access.address });
            }
            let mut old = [0; 16];
            allocation.words.load(offset, &mut old[..access.bytes as usize]);
            let old = u128::from_le_bytes(old);
            let Some(new) = update(old) else {
                return Ok((old, page.read(view, access, offset % PAGE)?));
            };
            let seen = page.seen(access, offset % PAGE, view);
            let write = Write { undefined: 0, publish, atomic: true };
            let new = &new.to_le_bytes()[..access.bytes as usize];
            put(allocation, page, view, access, offset, new, write)?;
            Ok((old, Loaded { undefined: 0, seen }))
        })
    }

    /// Weak accesses need no lock where nothing is recorded of them; strong ones are whole because of it.
    fn unchecked(&self, access: &Access) -> bool {
        let Checks { races, uninitialised } = self.checks;
        !races && !uninitialised && !matches!(access.strength, Strength::Strong(_))
    }

    #[inline]
    fn place(&self, access: &Access) -> Result<(&Allocation, usize), Fault> {
        let (address, bytes) = (access.address, access.bytes);
        if address & u64::from(bytes - 1) != 0 {
            return Err(Fault::Misaligned { address, bytes });
        }
        let offset = match self.table.within(self.last.get(), address, u64::from(bytes)) {
            Some(offset) => offset,
            None => {
                let (at, offset) = self.table.find(address, u64::from(bytes))?;
                self.last.set(at);
                offset
            }
        };
        Ok((&self.table.live[self.last.get()], offset))
    }
}

/// Writes under the page's lock.
fn put(
    allocation: &Allocation,
    page: &mut Page,
    view: &View,
    access: &Access,
    offset: usize,
    bytes: &[u8],
    write: Write,
) -> Result<(), Fault> {
    let mut old = [0; 16];
    let old = &mut old[..bytes.len()];
    allocation.words.load(offset, old);
    page.write(view, access, offset % PAGE, write, old == bytes)?;
    allocation.words.store(offset, bytes);
    Ok(())
}
