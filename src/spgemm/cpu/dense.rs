//! A sum for each column.

use std::ops::RangeInclusive;

use super::accumulator::{Accumulator, Scaled};
use super::marks::Marks;
use crate::backend::cpu::pages::large;
use crate::sparse::Value;
use crate::spgemm::semiring::Ring;

/// One row of the product, at full width.
///
/// Where a row may fill much of its span, its columns are marked without asking whether they
/// were, and the marks are looked through at its end. Otherwise a column is listed when it is met
/// for the first time, and the list is sorted.
pub(super) struct Dense<T> {
    /// Between rows they are neutral, once that matters.
    sums: Vec<T>,
    neutral: T,
    are_neutral: bool,
    columns: Columns,
    marks: Marks,
    /// The number of the last row in which the column was listed.
    listed: Vec<u32>,
    /// The number of this row. No matrix has so many rows that they would repeat.
    row: u32,
    /// How many columns are listed.
    entries: usize,
    /// The columns that the mask names, marked. Empty until the first mask.
    named: Marks,
    mask: Vec<u32>,
    complement: bool,
}

/// How the columns of a row are known.
enum Columns {
    Marked { span: RangeInclusive<u32> },
    Listed,
}

/// Entries that a row may have, up to which its columns are listed without looking at its span.
const MOST_LISTED: usize = 32;

/// Columns of the span for each entry that a row may have, up to which they are marked.
const MARKS_PER_ENTRY: usize = 32;

impl<T: Value> Accumulator<T> for Dense<T> {
    fn new(cols: usize, neutral: T) -> Self {
        Self {
            sums: large(vec![T::ZERO; cols]),
            neutral,
            are_neutral: false,
            columns: Columns::Listed,
            marks: Marks::new(cols),
            listed: large(vec![0; cols]),
            row: 0,
            entries: 0,
            named: Marks::new(0),
            mask: Vec::new(),
            complement: false,
        }
    }

    #[inline(always)]
    fn begin(&mut self, upper: usize, span: impl FnOnce() -> Option<RangeInclusive<u32>>) {
        let span = if upper > MOST_LISTED { span() } else { None };
        self.columns = match span {
            Some(span) if span.clone().count() <= MARKS_PER_ENTRY * upper => {
                Columns::Marked { span }
            }
            _ => Columns::Listed,
        };
        if matches!(self.columns, Columns::Marked { .. }) && !self.are_neutral {
            self.sums.fill(self.neutral);
            self.are_neutral = true;
        }
        self.row += 1;
        self.entries = 0;
    }

    fn set_mask(&mut self, mask: &[u32], complement: bool) {
        if self.named.bytes().is_empty() {
            self.named = Marks::new(self.sums.len());
        }
        self.named.clear(&self.mask);
        self.named.set(mask);
        self.mask.clear();
        self.mask.extend_from_slice(mask);
        self.complement = complement;
    }

    #[inline(always)]
    fn add<'a, R: Ring<T>, const MASKED: bool>(
        &mut self,
        rows: impl Iterator<Item = Scaled<'a, T>>,
        list: &mut [u32],
    ) -> u64
    where
        T: 'a,
    {
        let (named, complement) = (&self.named, self.complement);
        let is_taken = |col| !MASKED || named.has(col) != complement;
        // One length for all, so that one check of a column does for all.
        let cols = self.sums.len();
        let sums = &mut self.sums[..cols];
        let mut products = 0;
        match self.columns {
            Columns::Marked { .. } => {
                let marks = &mut self.marks.bytes()[..cols];
                for row in rows {
                    products += row.columns.len() as u64;
                    row.products::<R>(|col, product| {
                        if is_taken(col) {
                            let sum = &mut sums[col as usize];
                            *sum = R::add(*sum, product);
                            marks[col as usize] = 1;
                        }
                    });
                }
            }
            Columns::Listed => {
                let listed = &mut self.listed[..cols];
                let (number, mut entries) = (self.row, self.entries);
                for row in rows {
                    products += row.columns.len() as u64;
                    row.products::<R>(|col, product| {
                        if is_taken(col) {
                            let (sum, listed) =
                                (&mut sums[col as usize], &mut listed[col as usize]);
                            if *listed == number {
                                *sum = R::add(*sum, product);
                            } else {
                                (*listed, *sum, list[entries]) = (number, product, col);
                                entries += 1;
                            }
                        }
                    });
                }
                self.entries = entries;
            }
        }
        products
    }

    fn finish(&mut self, col: &mut [u32], val: &mut [T]) -> usize {
        let taken = match &self.columns {
            Columns::Marked { span } => self.marks.take(span.clone(), col),
            Columns::Listed => {
                col[..self.entries].sort_unstable();
                self.entries
            }
        };
        self.take_sums(&col[..taken], val);
        taken
    }

    fn finish_known(&mut self, columns: &[u32], values: &mut [T]) {
        if matches!(self.columns, Columns::Marked { .. }) {
            self.marks.clear(columns);
        }
        self.take_sums(columns, values);
    }
}

impl<T: Value> Dense<T> {
    /// The sums of these columns, at the end of a row.
    fn take_sums(&mut self, columns: &[u32], values: &mut [T]) {
        if self.are_neutral {
            for (value, &col) in values.iter_mut().zip(columns) {
                *value = std::mem::replace(&mut self.sums[col as usize], self.neutral);
            }
        } else {
            for (value, &col) in values.iter_mut().zip(columns) {
                *value = self.sums[col as usize];
            }
        }
    }
}
