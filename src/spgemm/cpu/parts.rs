//! The rows of a product, in parts that threads take.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::sparse::{Rows, Value};

/// Parts for each thread: so many that none waits long for the last, and that what a part leaves
/// stays in a cache, even where rows reach more than they seem to.
const PARTS_PER_THREAD: u64 = 128;

/// Work that is not worth another part.
const LITTLE_WORK: u64 = 128;

/// How the rows of a product are dealt to threads; values do not matter.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Consecutive rows of about as much work.
    rows: Vec<Range<usize>>,
}

/// A row that is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub entries: usize,
    pub products: u64,
}

/// What makes the rows of a product in one thread, one row after the other.
pub(crate) trait RowMaker<T>: Send {
    /// The most entries that a row can have.
    fn bound(&self, row: usize) -> usize;

    /// Writes the columns of a row of at most so many entries, ascending, and their values to the
    /// front of arrays that have room for them.
    fn fill(&mut self, row: usize, upper: usize, col: &mut [u32], val: &mut [T]) -> Row;

    /// Writes the values of a row whose columns are known.
    fn write(&mut self, row: usize, columns: &[u32], values: &mut [T]);
}

impl Parts {
    /// So many rows of so much work each, and of `most` work in a part unless a row alone has more.
    pub(super) fn new(rows: usize, work: impl Fn(usize) -> u64 + Sync, most: u64) -> Self {
        let threads = rayon::current_num_threads();
        // Rows without any work take a little too.
        let work = |row| work(row) + 1;
        let total: u64 = (0..rows).into_par_iter().map(work).sum();
        let most = most.min(total / (threads as u64 * PARTS_PER_THREAD)).max(LITTLE_WORK);
        let share = rows.div_ceil(threads).max(1);
        let shares = (0..rows.div_ceil(share)).into_par_iter();
        let split = |at| split(at * share..rows.min((at + 1) * share), work, most);
        Self { rows: shares.flat_map_iter(split).collect() }
    }

    /// The rows of each part.
    pub(super) fn rows(&self) -> &[Range<usize>] {
        &self.rows
    }

    /// How many rows the product has.
    pub(super) fn len(&self) -> usize {
        self.rows.last().map_or(0, |rows| rows.end)
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
            let entries = rows.clone().map(|row| structure.range(row).len()).sum();
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
pub(super) struct Makers<M, F> {
    make: F,
    idle: Mutex<Vec<M>>,
}

impl<M, F: Fn() -> M> Makers<M, F> {
    pub fn new(make: F) -> Self {
        Self { make, idle: Mutex::default() }
    }

    pub fn lend<R>(&self, work: impl FnOnce(&mut M) -> R) -> R {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let found = idle().pop();
        let mut maker = found.unwrap_or_else(&self.make);
        let result = work(&mut maker);
        idle().push(maker);
        result
    }
}

/// The rows in parts of so much work, or of one row that has more.
fn split(rows: Range<usize>, work: impl Fn(usize) -> u64, most: u64) -> Vec<Range<usize>> {
    let (mut parts, mut start, mut taken) = (Vec::new(), rows.start, 0);
    for row in rows.clone() {
        taken += work(row);
        if taken >= most || row + 1 == rows.end {
            parts.push(start..row + 1);
            (start, taken) = (row + 1, 0);
        }
    }
    parts
}
