//! A product entry by entry, at the places of a mask: c_ij is the product of row i of A and row j
//! of Bᵀ, which meet where both have an entry.
//!
//! Columns of canonical rows ascend, so entries meet in the order in which the row of A is
//! stored; each is met once, since no column repeats. The sum is therefore the same, to the bit,
//! as that of the row.

use std::ops::Range;

use rayon::prelude::*;

use super::parts::{Made, PartMaker, known_rows};
use super::rows::Call;
use crate::Result;
use crate::backend::Cpu;
use crate::sparse::{Csr, Offset, Rows, Value};
use crate::spgemm::Options;
use crate::spgemm::semiring::{Ring, with_ring};

/// How many products of a whole row are made in about the time of a step of a search.
const PRODUCTS_PER_STEP: u64 = 4;

/// The transpose of B, of which α = 0 leaves the places alone.
pub(super) fn transposed<T: Value, O: Offset>(
    b: &Csr<Cpu, T, O>,
    options: &Options,
) -> Result<Csr<Cpu, T, O>> {
    if options.alpha == 0.0 { b.to_pattern().transposed() } else { b.transposed() }
}

/// Steps of the searches of each row, where they pay: where they, and the entries of B and of the
/// mask that are to be gone through, are few beside so many products.
pub(super) fn steps<T: Value>(call: &Call<'_, T>, products: u64) -> Option<Vec<u64>> {
    let mask = call.operands.mask?;
    let most = products / PRODUCTS_PER_STEP;
    let entries = (call.problem.nnz_b + mask.col.len()) as u64;
    if entries >= most {
        return None;
    }
    let mut lengths = vec![0u32; call.problem.cols];
    for &col in call.operands.b.col {
        lengths[col as usize] += 1;
    }
    let steps_of_row = |row: usize| {
        let length = call.operands.a.range(row).len() as u32;
        let columns = mask.columns(row).iter();
        columns.map(|&col| search_steps(length, lengths[col as usize])).sum()
    };
    let steps: Vec<u64> = (0..mask.len()).into_par_iter().map(steps_of_row).collect();
    (entries + steps.iter().sum::<u64>() < most).then_some(steps)
}

/// Steps to look for each entry of the shorter row in the longer one.
fn search_steps(length: u32, other: u32) -> u64 {
    let (shorter, longer) = (length.min(other), length.max(other));
    u64::from(shorter) * u64::from(u32::BITS - longer.leading_zeros())
}

/// Makes rows entry by entry.
pub(super) struct Dots<'a, T> {
    pub call: &'a Call<'a, T>,
    /// Bᵀ.
    pub transposed: Rows<'a, T>,
}

impl<T: Value> Dots<'_, T> {
    /// The entry at a place, if there is one.
    fn entry<R: Ring<T>>(&self, row: usize, col: u32) -> Option<T> {
        let (left, right) = (self.call.operands.a, self.transposed);
        let (start, other) = (left.range(row).start, right.range(col as usize).start);
        let mut sum = None;
        meet(left.columns(row), right.columns(col as usize), |i, j| {
            let product = R::multiply(self.call.left(start + i), right.value(other + j));
            sum = Some(sum.map_or(product, |sum| R::add(sum, product)));
        });
        sum
    }
}

impl<T: Value> PartMaker<T> for Dots<'_, T> {
    fn fill(&mut self, rows: Range<usize>, made: &mut Made<T>) {
        let mask = self.call.operands.mask;
        for row in rows {
            let columns = mask.map(|mask| mask.columns(row)).unwrap_or_default();
            let (col, val) = made.room(columns.len());
            let mut entries = 0;
            with_ring!(self.call.semiring, |R| for &column in columns {
                if let Some(value) = self.entry::<R>(row, column) {
                    (col[entries], val[entries]) = (column, value);
                    entries += 1;
                }
            });
            made.end_row(entries);
            made.products += self.call.operands.products(row);
        }
    }

    fn write(&mut self, rows: Range<usize>, structure: Rows<'_, u32>, values: &mut [T]) {
        for (row, columns, values) in known_rows(rows, structure, values) {
            with_ring!(
                self.call.semiring,
                |R| for (&column, value) in columns.iter().zip(values) {
                    if let Some(entry) = self.entry::<R>(row, column) {
                        *value = entry;
                    }
                }
            );
        }
    }
}

/// Calls `each` with the places of the columns that two ascending rows share, in order.
fn meet(columns: &[u32], others: &[u32], mut each: impl FnMut(usize, usize)) {
    match columns.len() <= others.len() {
        true => search(columns, others, each),
        false => search(others, columns, |j, i| each(i, j)),
    }
}

/// Looks for each column of the shorter row in what is left of the longer one.
fn search(shorter: &[u32], longer: &[u32], mut each: impl FnMut(usize, usize)) {
    let mut from = 0;
    for (i, col) in shorter.iter().enumerate() {
        from += longer[from..].partition_point(|other| other < col);
        match longer.get(from) {
            Some(other) if other == col => each(i, from),
            Some(_) => {}
            None => return,
        }
    }
}
