//! A hash table that is as large as the row may need: for matrices too wide to hold a row.

use std::ops::RangeInclusive;

use super::accumulator::{Accumulator, Scaled};
use crate::sparse::Value;
use crate::spgemm::semiring::Ring;

/// One row of the product in a table with linear probing.
pub(super) struct Hash<T> {
    keys: Vec<u32>,
    values: Vec<T>,
    /// 32 - log2 of the slots in use.
    shift: u32,
    /// The slots that are taken.
    slots: Vec<u32>,
    sorting: Vec<(u32, T)>,
    /// Sorted, without repetitions.
    mask: Vec<u32>,
    complement: bool,
}

/// No column is that large.
const EMPTY: u32 = u32::MAX;

/// 2^32 over the golden ratio.
const FACTOR: u32 = 2_654_435_769;

impl<T: Value> Accumulator<T> for Hash<T> {
    fn new(_cols: usize, _neutral: T) -> Self {
        Self {
            keys: Vec::new(),
            values: Vec::new(),
            shift: 0,
            slots: Vec::new(),
            sorting: Vec::new(),
            mask: Vec::new(),
            complement: false,
        }
    }

    fn begin(&mut self, upper: usize, _span: impl FnOnce() -> Option<RangeInclusive<u32>>) {
        // At most half full. A row has at most 2^31 entries, so the table fits its 32-bit hash.
        let slots = (2 * upper.min(1 << 31)).next_power_of_two().max(2);
        self.shift = 32 - slots.ilog2().min(32);
        if self.keys.len() < slots {
            self.keys.resize(slots, EMPTY);
            self.values.resize(slots, T::ZERO);
        }
    }

    fn set_mask(&mut self, mask: &[u32], complement: bool) {
        self.mask.clear();
        self.mask.extend_from_slice(mask);
        self.mask.sort_unstable();
        self.complement = complement;
    }

    #[inline(always)]
    fn add<'a, R: Ring<T>, const MASKED: bool>(
        &mut self,
        rows: impl Iterator<Item = Scaled<'a, T>>,
        _list: &mut [u32],
    ) -> u64
    where
        T: 'a,
    {
        let last = (u32::MAX >> self.shift) as usize;
        let mut products = 0;
        for row in rows {
            products += row.columns.len() as u64;
            row.products::<R>(|col, product| {
                if MASKED && self.mask.binary_search(&col).is_ok() == self.complement {
                    return;
                }
                let mut slot = (col.wrapping_mul(FACTOR) >> self.shift) as usize;
                while self.keys[slot] != col && self.keys[slot] != EMPTY {
                    slot = (slot + 1) & last;
                }
                if self.keys[slot] == EMPTY {
                    self.keys[slot] = col;
                    self.values[slot] = product;
                    self.slots.push(slot as u32);
                } else {
                    self.values[slot] = R::add(self.values[slot], product);
                }
            });
        }
        products
    }

    fn finish(&mut self, col: &mut [u32], val: &mut [T]) -> usize {
        self.drain();
        for ((col, val), entry) in col.iter_mut().zip(val).zip(&self.sorting) {
            (*col, *val) = *entry;
        }
        self.sorting.len()
    }

    fn finish_known(&mut self, _columns: &[u32], values: &mut [T]) {
        self.drain();
        for (value, (_, found)) in values.iter_mut().zip(&self.sorting) {
            *value = *found;
        }
    }
}

impl<T: Value> Hash<T> {
    /// The entries of the row in order; the table is empty again.
    fn drain(&mut self) {
        self.sorting.clear();
        for slot in self.slots.drain(..) {
            let key = std::mem::replace(&mut self.keys[slot as usize], EMPTY);
            self.sorting.push((key, self.values[slot as usize]));
        }
        self.sorting.sort_unstable_by_key(|(col, _)| *col);
    }
}
