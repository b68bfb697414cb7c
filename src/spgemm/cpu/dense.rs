//! A value for each column, and a bit that says whether it is taken.

use super::accumulator::Accumulator;
use crate::sparse::Value;
use crate::spgemm::semiring::Ring;

/// One row of the product, at full width.
pub(super) struct Dense<T> {
    values: Vec<T>,
    /// A bit per column: taken.
    taken: Vec<u64>,
    /// The taken columns, in the order in which they were.
    columns: Vec<u32>,
    /// A bit per column: let through. Empty until the first mask.
    passes: Vec<u64>,
    /// The columns whose bits differ from what the others have.
    masked: Vec<u32>,
    complement: bool,
}

/// Words of the bitmap that are looked through for each entry rather than sorting the columns.
const WORDS_PER_ENTRY: usize = 4;

#[inline(always)]
fn bit(col: u32) -> (usize, u64) {
    (col as usize / 64, 1 << (col % 64))
}

impl<T: Value> Accumulator<T> for Dense<T> {
    fn new(cols: usize) -> Self {
        Self {
            values: vec![T::ZERO; cols],
            taken: vec![0; cols.div_ceil(64)],
            columns: Vec::new(),
            passes: Vec::new(),
            masked: Vec::new(),
            complement: false,
        }
    }

    fn begin(&mut self, _upper: usize, mask: Option<&[u32]>, complement: bool) {
        let Some(mask) = mask else { return };
        self.passes.resize(self.taken.len(), 0);
        self.clear_mask();
        for &col in mask {
            let (word, bit) = bit(col);
            self.passes[word] |= bit;
        }
        self.masked.extend_from_slice(mask);
        self.complement = complement;
    }

    #[inline(always)]
    fn add<R: Ring<T>, const MASKED: bool>(&mut self, a: T, columns: &[u32], values: Option<&[T]>) {
        for (i, &col) in columns.iter().enumerate() {
            let (word, bit) = bit(col);
            if MASKED && (self.passes[word] & bit != 0) == self.complement {
                continue;
            }
            let product = R::multiply(a, values.map_or(T::ONE, |values| values[i]));
            let value = &mut self.values[col as usize];
            if self.taken[word] & bit == 0 {
                self.taken[word] |= bit;
                self.columns.push(col);
                *value = product;
            } else {
                *value = R::add(*value, product);
            }
        }
    }

    fn finish(&mut self, col: &mut [u32], val: &mut [T]) -> usize {
        let entries = self.columns.len();
        if entries == 0 {
            return 0;
        }
        let col = &mut col[..entries];
        // A loop, which becomes a few vector instructions; `Iterator::min` calls its comparison.
        let (mut low, mut high) = (u32::MAX, 0);
        for &column in &self.columns {
            (low, high) = (low.min(column), high.max(column));
        }
        let words = low as usize / 64..=high as usize / 64;
        if words.clone().count() <= WORDS_PER_ENTRY * entries {
            let mut places = col.iter_mut();
            for word in words {
                let mut bits = std::mem::take(&mut self.taken[word]);
                while bits != 0 {
                    if let Some(place) = places.next() {
                        *place = (word * 64) as u32 + bits.trailing_zeros();
                    }
                    bits &= bits - 1;
                }
            }
        } else {
            self.columns.sort_unstable();
            col.copy_from_slice(&self.columns);
            for &column in &self.columns {
                self.taken[column as usize / 64] = 0;
            }
        }
        for (value, &column) in val.iter_mut().zip(col.iter()) {
            *value = self.values[column as usize];
        }
        self.columns.clear();
        entries
    }

    fn finish_known(&mut self, columns: &[u32], values: &mut [T]) {
        for (&column, value) in columns.iter().zip(values) {
            self.taken[column as usize / 64] = 0;
            *value = self.values[column as usize];
        }
        self.columns.clear();
    }
}

impl<T> Dense<T> {
    fn clear_mask(&mut self) {
        for &col in &self.masked {
            self.passes[col as usize / 64] = 0;
        }
        self.masked.clear();
    }
}
