//! The rows of a product, in parts that threads take.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::backend::cpu::pages::large;
use crate::sparse::{Rows, Value};

/// Parts for each thread, so that none waits long for the last.
const PARTS_PER_THREAD: usize = 16;

/// How the rows of a product are dealt to threads, and what bounds them; values do not matter.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Consecutive rows of about as much work.
    rows: Vec<Range<usize>>,
    /// The most entries that each row can have.
    upper: Vec<u32>,
    /// Products of all rows.
    pub products: u64,
}

/// What makes the rows of a product in one thread, one row after the other.
pub(crate) trait RowMaker<T>: Send {
    /// Writes the columns of a row, ascending, and their values to the front of arrays that have
    /// room for them. How many there are.
    fn fill(&mut self, row: usize, col: &mut [u32], val: &mut [T]) -> usize;

    /// Writes the values of a row whose columns are known.
    fn write(&mut self, row: usize, columns: &[u32], values: &mut [T]);
}

impl Parts {
    /// Rows of so many products, and of at most so many entries.
    pub(super) fn new(products: &[u64], upper: Vec<u32>) -> Self {
        Self { rows: split(products), upper, products: products.iter().sum() }
    }

    /// The same rows where each takes so much work.
    pub(super) fn with_work(self, work: &[u64]) -> Self {
        Self { rows: split(work), ..self }
    }

    /// The most entries that a row can have.
    pub(super) fn upper(&self, row: usize) -> usize {
        self.upper[row] as usize
    }

    /// The most entries that the product can have.
    pub(super) fn most(&self) -> u64 {
        self.upper.iter().copied().map(u64::from).sum()
    }

    /// The most entries that each part can have.
    pub(super) fn room(&self) -> Vec<usize> {
        let room = |rows: &Range<usize>| rows.clone().map(|row| self.upper(row)).sum();
        self.rows.iter().map(room).collect()
    }

    /// The entries of each part, counted without keeping any.
    pub(super) fn entries<T: Value, M: RowMaker<T>>(
        &self,
        maker: impl Fn() -> M + Sync,
    ) -> Vec<usize> {
        let makers = Makers::new(maker);
        let count = |rows: &Range<usize>| {
            let most = rows.clone().map(|row| self.upper(row)).max().unwrap_or(0);
            let (mut col, mut val) = (vec![0; most], vec![T::ZERO; most]);
            makers.lend(|maker| rows.clone().map(|row| maker.fill(row, &mut col, &mut val)).sum())
        };
        self.rows.par_iter().map(count).collect()
    }

    /// Whether some rows, drawn evenly, have half as many entries as they can have.
    fn fills_half<T: Value, M: RowMaker<T>>(&self, maker: &mut M) -> bool {
        let step = self.upper.len().isqrt().max(1);
        let rows = (0..self.upper.len()).step_by(step);
        let most = rows.clone().map(|row| self.upper(row)).max().unwrap_or(0);
        let (mut col, mut val) = (vec![0; most], vec![T::ZERO; most]);
        let entries: usize = rows.clone().map(|row| maker.fill(row, &mut col, &mut val)).sum();
        2 * entries >= rows.map(|row| self.upper(row)).sum()
    }

    /// The rows of the product, where each part has at most so many entries.
    pub(super) fn fill<T: Value, M: RowMaker<T>>(
        &self,
        maker: impl Fn() -> M + Sync,
        room: &[usize],
    ) -> Filled<T> {
        let most = room.iter().sum();
        let mut lengths = vec![0; self.upper.len()];
        let (mut col, mut val) = (vec![0; most], vec![T::ZERO; most]);
        let makers = Makers::new(maker);
        // Of large pages parts that fill little would waste most.
        if makers.lend(|maker| self.fills_half(maker)) {
            (col, val) = (large(col), large(val));
        }
        let mut work = Vec::with_capacity(room.len());
        let mut rest = (lengths.as_mut_slice(), col.as_mut_slice(), val.as_mut_slice());
        for (rows, &room) in self.rows.iter().zip(room) {
            let (lengths, cols, vals) = rest;
            let (lengths, more_lengths) = lengths.split_at_mut(rows.len());
            let (cols, more_cols) = cols.split_at_mut(room);
            let (vals, more_vals) = vals.split_at_mut(room);
            work.push((rows.clone(), lengths, cols, vals));
            rest = (more_lengths, more_cols, more_vals);
        }
        let fill = |(rows, lengths, col, val): (Range<usize>, &mut [u32], &mut [u32], &mut [T])| {
            let mut at = 0;
            makers.lend(|maker| {
                for (row, length) in rows.zip(lengths) {
                    let entries = maker.fill(row, &mut col[at..], &mut val[at..]);
                    *length = entries as u32;
                    at += entries;
                }
            });
            at
        };
        let entries: Vec<usize> = work.into_par_iter().map(fill).collect();
        rayon::join(|| pack(&mut col, room, &entries), || pack(&mut val, room, &entries));
        Filled { lengths, col, val }
    }

    /// The values of the product, whose places are those of `structure`.
    pub(super) fn values<T: Value, M: RowMaker<T>>(
        &self,
        maker: impl Fn() -> M + Sync,
        structure: Rows<'_, u32>,
        values: &mut [T],
    ) {
        let (mut rest, mut work) = (values, Vec::with_capacity(self.rows.len()));
        for rows in &self.rows {
            let entries = structure.places[rows.end] - structure.places[rows.start];
            let (own, after) = rest.split_at_mut(entries);
            work.push((rows.clone(), own));
            rest = after;
        }
        let makers = Makers::new(maker);
        work.into_par_iter().for_each(|(rows, mut values)| {
            makers.lend(|maker| {
                for row in rows {
                    let columns = structure.columns(row);
                    let (own, after) = values.split_at_mut(columns.len());
                    maker.write(row, columns, own);
                    values = after;
                }
            });
        });
    }
}

/// What makes rows, lent to one part after another: as many as there are threads, for each may
/// be as large as a row is wide.
struct Makers<M, F> {
    make: F,
    idle: Mutex<Vec<M>>,
}

impl<M, F: Fn() -> M> Makers<M, F> {
    fn new(make: F) -> Self {
        Self { make, idle: Mutex::default() }
    }

    fn lend<R>(&self, work: impl FnOnce(&mut M) -> R) -> R {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let found = idle().pop();
        let mut maker = found.unwrap_or_else(&self.make);
        let result = work(&mut maker);
        idle().push(maker);
        result
    }
}

/// The rows of a product.
pub(super) struct Filled<T> {
    /// Entries of each row.
    pub lengths: Vec<u32>,
    pub col: Vec<u32>,
    pub val: Vec<T>,
}

/// Moves the entries of parts together, each of which has had so much room.
fn pack<T: Copy>(values: &mut Vec<T>, room: &[usize], entries: &[usize]) {
    let (mut from, mut to) = (0, 0);
    for (room, &entries) in room.iter().zip(entries) {
        if from != to {
            values.copy_within(from..from + entries, to);
        }
        from += room;
        to += entries;
    }
    values.truncate(to);
    values.shrink_to_fit();
}

/// Rows in parts of about as much work; rows without any count a little too.
fn split(work: &[u64]) -> Vec<Range<usize>> {
    let parts = (rayon::current_num_threads() * PARTS_PER_THREAD) as u64;
    let total = work.iter().sum::<u64>() + work.len() as u64;
    let most = total.div_ceil(parts).max(1);
    let (mut ranges, mut start, mut taken) = (Vec::new(), 0, 0);
    for (row, &work_of_row) in work.iter().enumerate() {
        taken += work_of_row + 1;
        if taken >= most || row + 1 == work.len() {
            ranges.push(start..row + 1);
            (start, taken) = (row + 1, 0);
        }
    }
    ranges
}
