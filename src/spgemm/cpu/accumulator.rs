//! Where the products of one row are summed.

use crate::sparse::Value;
use crate::spgemm::semiring::Ring;

/// A row of the product while it is summed. The first product at a column is stored as it is; so
/// sums do not depend on a neutral element.
pub(super) trait Accumulator<T: Value>: Send {
    /// An accumulator for rows of so many columns.
    fn new(cols: usize) -> Self;

    /// A row of at most `upper` entries begins. Where `mask` is given, only its columns are
    /// taken, or with `complement` only the others.
    fn begin(&mut self, upper: usize, mask: Option<&[u32]>, complement: bool);

    /// Adds the products of one entry of A with a row of B; no values are all one.
    fn add<R: Ring<T>, const MASKED: bool>(&mut self, a: T, columns: &[u32], values: Option<&[T]>);

    /// Ends the row: its columns, ascending, and their values come to the front of arrays that
    /// have room for them. How many there are.
    fn finish(&mut self, col: &mut [u32], val: &mut [T]) -> usize;

    /// Ends the row, whose columns are known.
    fn finish_known(&mut self, columns: &[u32], values: &mut [T]);
}
