//! Allocations of device memory: where they lie, and what they hold.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::page::Page;
use super::words::Words;
use super::{Checks, Fault};

/// Every allocation begins at a multiple of this, and has at least as much unused behind it.
pub(super) const ALIGNMENT: u64 = 256;
/// Bytes of a page: what is checked under one lock.
pub(super) const PAGE: usize = 1024;
/// Freed allocations that are remembered.
const REMEMBERED: usize = 4096;

/// A page and the launch that last touched it.
struct Slot {
    launch: u64,
    page: Page,
}

pub(super) struct Allocation {
    pub start: u64,
    pub len: u64,
    pub words: Words,
    pages: Vec<Mutex<Slot>>,
}

impl Allocation {
    pub fn new(start: u64, len: u64, checks: Checks) -> Result<Self, Fault> {
        let full = || Fault::OutOfMemory { bytes: len };
        let words = Words::new(len).ok_or_else(full)?;
        let count = usize::try_from(len.div_ceil(PAGE as u64)).map_err(|_| full())?;
        let mut pages = Vec::new();
        pages.try_reserve_exact(count).map_err(|_| full())?;
        pages.resize_with(count, || Mutex::new(Slot { launch: 0, page: Page::new(PAGE, checks) }));
        Ok(Self { start, len, words, pages })
    }

    /// The page of an offset, as the launch finds it.
    pub fn with_page<T>(&self, offset: usize, launch: u64, act: impl FnOnce(&mut Page) -> T) -> T {
        let mut slot = lock(&self.pages[offset / PAGE]);
        if slot.launch != launch {
            slot.launch = launch;
            slot.page.begin();
        }
        act(&mut slot.page)
    }

    /// Goes through a range page by page: with the page, the offset in it, and how many bytes.
    pub fn each_page(
        &self,
        offset: usize,
        bytes: usize,
        mut act: impl FnMut(&mut Page, usize, usize),
    ) {
        let mut at = offset;
        while at < offset + bytes {
            let count = (PAGE - at % PAGE).min(offset + bytes - at);
            act(&mut lock(&self.pages[at / PAGE]).page, at % PAGE, count);
            at += count;
        }
    }
}

fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which allocations there are, by address, and which there were.
#[derive(Clone, Default)]
pub(super) struct Table {
    pub live: Vec<Arc<Allocation>>,
    /// Start and length, the latest last.
    freed: VecDeque<(u64, u64)>,
}

impl Table {
    /// Where a range lies: which allocation, and the offset in it.
    pub fn find(&self, address: u64, bytes: u64) -> Result<(usize, usize), Fault> {
        let after = self.live.partition_point(|one| one.start <= address);
        if let Some(at) = after.checked_sub(1)
            && let Some(offset) = self.within(at, address, bytes)
        {
            return Ok((at, offset));
        }
        Err(self.miss(address, bytes, after))
    }

    /// The offset of a range in an allocation, if it lies there.
    pub fn within(&self, at: usize, address: u64, bytes: u64) -> Option<usize> {
        let one = self.live.get(at)?;
        let offset = address.checked_sub(one.start)?;
        (offset.checked_add(bytes)? <= one.len).then_some(offset as usize)
    }

    fn miss(&self, address: u64, bytes: u64, after: usize) -> Fault {
        let inside = |&&(start, len): &&(u64, u64)| address.wrapping_sub(start) < len;
        if let Some(&(start, len)) = self.freed.iter().rev().find(inside) {
            return Fault::Freed { address, start, len };
        }
        let before = after.checked_sub(1).and_then(|at| self.live.get(at));
        let gap = |one: &&Arc<Allocation>| match address.checked_sub(one.start) {
            Some(offset) => offset.saturating_sub(one.len),
            None => one.start - address,
        };
        let nearest = before.into_iter().chain(self.live.get(after)).min_by_key(gap);
        Fault::OutOfBounds { address, bytes, nearest: nearest.map(|one| (one.start, one.len)) }
    }

    pub fn free(&mut self, address: u64) -> Result<(), Fault> {
        let Ok(at) = self.live.binary_search_by_key(&address, |one| one.start) else {
            return Err(match self.freed.iter().rev().find(|&&(start, _)| start == address) {
                Some(&(start, len)) => Fault::Freed { address, start, len },
                None => Fault::NotAllocated { address },
            });
        };
        let one = self.live.remove(at);
        if self.freed.len() == REMEMBERED {
            self.freed.pop_front();
        }
        self.freed.push_back((one.start, one.len));
        Ok(())
    }
}
