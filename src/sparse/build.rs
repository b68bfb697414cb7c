//! Matrices made row by row, by several threads.

use rayon::prelude::*;

use super::{Csr, Offset, Value, check};
use crate::Result;
use crate::backend::Cpu;
use crate::backend::cpu::pages::large;

/// Some consecutive rows of a matrix that is being made.
pub(crate) struct Part<T> {
    /// Entries of each row that has ended.
    lengths: Vec<usize>,
    /// Entries of those rows together.
    ended: usize,
    pub col: Vec<u32>,
    /// Empty in a pattern.
    pub val: Vec<T>,
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self { lengths: Vec::new(), ended: 0, col: Vec::new(), val: Vec::new() }
    }
}

impl<T> Part<T> {
    /// Ends the row that holds all entries since the last one's end.
    pub fn end_row(&mut self) {
        self.lengths.push(self.col.len() - self.ended);
        self.ended = self.col.len();
    }
}

/// The matrix of these rows, each canonical, in the order of the parts.
pub(crate) fn assemble<T: Value, O: Offset>(
    shape: [usize; 2],
    parts: &[Part<T>],
    has_values: bool,
) -> Result<Csr<Cpu, T, O>> {
    let entries: usize = parts.iter().map(|part| part.col.len()).sum();
    check::entries::<O>(entries as u64)?;
    let row_ptr = row_ptr(parts.iter().flat_map(|part| part.lengths.iter().copied()));
    let cols: Vec<&[u32]> = parts.iter().map(|part| part.col.as_slice()).collect();
    let vals: Vec<&[T]> = parts.iter().map(|part| part.val.as_slice()).collect();
    let val = has_values.then(|| join(&vals));
    Csr::canonical_parts(shape, row_ptr, join(&cols), val)
}

/// Where rows of these lengths begin, and where the last ends.
fn row_ptr<O: Offset>(lengths: impl Iterator<Item = usize>) -> Vec<O> {
    let mut place = 0;
    let ends = lengths.map(|length| {
        place += length;
        O::saturating(place)
    });
    std::iter::once(O::saturating(0)).chain(ends).collect()
}

/// The pieces one after the other.
fn join<T: Copy + Send + Sync + bytemuck::Zeroable>(pieces: &[&[T]]) -> Vec<T> {
    let mut joined = large(vec![T::zeroed(); pieces.iter().map(|piece| piece.len()).sum()]);
    let mut rest = joined.as_mut_slice();
    let mut places = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let (place, after) = rest.split_at_mut(piece.len());
        places.push(place);
        rest = after;
    }
    places.into_par_iter().zip(pieces).for_each(|(place, piece)| place.copy_from_slice(piece));
    joined
}
