//! Where the products of one row are summed.

use std::ops::RangeInclusive;

use crate::sparse::Value;
use crate::spgemm::semiring::Ring;

/// A row of B and the entry of A that multiplies it.
pub(super) struct Scaled<'a, T> {
    pub factor: T,
    pub columns: &'a [u32],
    /// As many as columns; none are all one.
    pub values: Option<&'a [T]>,
}

impl<T: Value> Scaled<'_, T> {
    /// Calls `each` with the column and the value of each product.
    #[inline(always)]
    pub fn products<R: Ring<T>>(self, mut each: impl FnMut(u32, T)) {
        match self.values {
            Some(values) => {
                for (&col, &value) in self.columns.iter().zip(values) {
                    each(col, R::multiply(self.factor, value));
                }
            }
            None => {
                for &col in self.columns {
                    each(col, R::multiply(self.factor, T::ONE));
                }
            }
        }
    }
}

/// A row of the product while it is summed, from left to right.
pub(super) trait Accumulator<T: Value>: Send {
    /// An accumulator for rows of so many columns, and sums that begin at `neutral`.
    fn new(cols: usize, neutral: T) -> Self;

    /// A row of at most `upper` entries begins, whose columns lie within the span, if it is known.
    fn begin(&mut self, upper: usize, span: impl FnOnce() -> Option<RangeInclusive<u32>>);

    /// What is added as masked to this row is taken at these columns only, or with `complement`
    /// only at the others.
    fn set_mask(&mut self, mask: &[u32], complement: bool);

    /// Adds rows, one after the other. How many products these are, whatever a mask lets through.
    /// Until the row ends, `list` is the accumulator's: it has room for all columns of the row.
    fn add<'a, R: Ring<T>, const MASKED: bool>(
        &mut self,
        rows: impl Iterator<Item = Scaled<'a, T>>,
        list: &mut [u32],
    ) -> u64
    where
        T: 'a;

    /// Ends the row: its columns, ascending, and their values come to the front of arrays that
    /// have room for them; `col` was the list. How many there are.
    fn finish(&mut self, col: &mut [u32], val: &mut [T]) -> usize;

    /// Ends the row, whose columns are known.
    fn finish_known(&mut self, columns: &[u32], values: &mut [T]);
}
