//! Large pages for large memory: a new page costs as much as writing it.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Asks the system for large pages under the memory of a vector, where there is much of it that
/// nobody has written yet. Only a hint: without it, nothing but time changes.
pub(crate) fn large<T>(mut values: Vec<T>) -> Vec<T> {
    #[cfg(target_os = "linux")]
    {
        let start = values.as_mut_ptr().addr().next_multiple_of(PAGE);
        let end = (values.as_mut_ptr().addr() + values.capacity() * size_of::<T>()) / PAGE * PAGE;
        if end.saturating_sub(start) >= LEAST {
            let first = values.as_mut_ptr().with_addr(start);
            // SAFETY: the pages lie within the vector's memory, whose contents stay as they are.
            // What is returned tells whether the hint was taken, which nothing depends on.
            let _ = unsafe { libc::madvise(first.cast(), end - start, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = &mut values;
    values
}

/// New memory that threads write from front to back, pieces of it at the same time, nobody knows
/// how far. What is much gets large pages. Two threads that meet in a new page would both clear
/// it, and the system throw one away; so each page is asked for by one thread before it is reached.
pub(crate) struct Front {
    /// The first byte, and the end of the last whole page.
    bytes: Range<usize>,
    /// The end of the pages that somebody has asked for.
    asked: AtomicUsize,
}

impl Front {
    /// The front at the beginning of memory that nobody has written.
    pub fn of<T>(values: &[T]) -> Self {
        let range = values.as_ptr_range();
        let bytes = range.start.addr()..range.end.addr() / PAGE * PAGE;
        let first = bytes.start.next_multiple_of(LARGE);
        Self { bytes, asked: AtomicUsize::new(first) }
    }

    /// The first `bytes` are about to be written: asks for the pages behind them that nobody has
    /// asked for.
    pub fn reach(&self, bytes: usize) {
        if bytes < FEW {
            return;
        }
        let wanted = (self.bytes.start.saturating_add(bytes + AHEAD)).min(self.bytes.end);
        loop {
            // Nothing is published by it: memory is the same with and without.
            let page = self.asked.load(Ordering::Relaxed);
            let end = (page + LARGE).min(self.bytes.end);
            if page >= wanted {
                return;
            }
            let mine = self.asked.compare_exchange(page, end, Ordering::Relaxed, Ordering::Relaxed);
            if mine.is_ok() {
                populate(page..end);
            }
        }
    }
}

/// Brings pages into memory, as writing would, a large one where there can be.
fn populate(bytes: Range<usize>) {
    #[cfg(target_os = "linux")]
    {
        let first = std::ptr::without_provenance_mut(bytes.start);
        for advice in [libc::MADV_HUGEPAGE, libc::MADV_POPULATE_WRITE] {
            // SAFETY: no content changes, whoever owns the pages; the kernel refuses others. What
            // is returned tells whether the hint was taken, which nothing depends on.
            let _ = unsafe { libc::madvise(first, bytes.len(), advice) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = bytes;
}

/// Bytes that may well be all: a large page for them would mostly be waste.
const FEW: usize = LARGE / 2;

/// Bytes that are asked for before they are reached.
const AHEAD: usize = LARGE;

/// Bytes of a usual page, or less.
const PAGE: usize = 4096;

/// Bytes of a large page.
const LARGE: usize = 2 << 20;

/// Bytes from which on it pays.
#[cfg(target_os = "linux")]
const LEAST: usize = 2 * LARGE;

#[cfg(test)]
mod tests {
    use super::{Front, LARGE, large};

    #[test]
    fn vectors_stay_as_they_are() {
        for length in [0usize, 1, 1000, 3_000_001] {
            let values: Vec<u32> = (0..length as u32).collect();
            assert_eq!(large(values.clone()), values);
        }
        assert!(large(Vec::<()>::with_capacity(5)).is_empty());
        assert_eq!(large(vec![0u8; 9_000_001]).iter().filter(|&&byte| byte != 0).count(), 0);
    }

    #[test]
    fn a_front_changes_nothing() {
        for length in [0, 5, LARGE, 5 * LARGE + 3] {
            let mut bytes = large(vec![0u8; length]);
            let front = Front::of(&bytes);
            bytes.iter_mut().step_by(1000).for_each(|byte| *byte = 1);
            for reached in [0, 1, length / 2, length, length + 9] {
                front.reach(reached);
            }
            let expected = (0..length).map(|i| u8::from(i.is_multiple_of(1000)));
            assert!(bytes.iter().copied().eq(expected), "{length} bytes");
        }
    }
}
