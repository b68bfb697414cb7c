//! Bytes that several host threads may read and write at once.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// What fresh memory holds: a NaN in every float format, and no plausible index.
const FRESH: u32 = u32::MAX;

pub(super) struct Words(Vec<AtomicU32>);

impl Words {
    /// Room for so many bytes, or nothing where the machine has none.
    pub fn new(bytes: u64) -> Option<Self> {
        let count = usize::try_from(bytes.div_ceil(4)).ok()?;
        let mut words = Vec::new();
        words.try_reserve_exact(count).ok()?;
        words.resize_with(count, || AtomicU32::new(FRESH));
        Some(Self(words))
    }

    pub fn load(&self, offset: usize, into: &mut [u8]) {
        if offset.is_multiple_of(4) && into.len().is_multiple_of(4) {
            for (chunk, word) in into.chunks_exact_mut(4).zip(&self.0[offset / 4..]) {
                chunk.copy_from_slice(&word.load(Relaxed).to_le_bytes());
            }
            return;
        }
        for (at, byte) in (offset..).zip(into) {
            *byte = self.0[at / 4].load(Relaxed).to_le_bytes()[at % 4];
        }
    }

    pub fn store(&self, offset: usize, bytes: &[u8]) {
        let head = bytes.len().min(offset.next_multiple_of(4) - offset);
        let (head, rest) = bytes.split_at(head);
        self.store_part(offset, head);
        let whole = rest.chunks_exact(4);
        self.store_part(offset + bytes.len() - whole.remainder().len(), whole.remainder());
        for (chunk, word) in whole.zip(&self.0[offset.div_ceil(4)..]) {
            let mut value = [0; 4];
            value.copy_from_slice(chunk);
            word.store(u32::from_le_bytes(value), Relaxed);
        }
    }

    /// Less than a word, within a word; the other bytes of it may be written meanwhile.
    fn store_part(&self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let (mut value, mut mask) = ([0; 4], [0; 4]);
        for (at, &byte) in (offset % 4..).zip(bytes) {
            value[at] = byte;
            mask[at] = 0xFF;
        }
        let (value, mask) = (u32::from_le_bytes(value), u32::from_le_bytes(mask));
        let put = |old: u32| Some(old & !mask | value);
        // It cannot fail, as `put` always gives a value.
        let _ = self.0[offset / 4].fetch_update(Relaxed, Relaxed, put);
    }
}
