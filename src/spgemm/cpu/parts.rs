//! The rows of a product, in parts that threads take.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::sparse::{Rows, Value};

/// Parts for each thread, at least, so that none waits long for the last.
const PARTS_PER_THREAD: usize = 16;

/// Entries that a part may have, unless one row alone may have more: they are to stay in a cache
/// until their place in the product is known.
const MOST_IN_PART: u64 = 1 << 14;

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
        Self { rows: split(products, &upper), upper, products: products.par_iter().sum() }
    }

    /// The same rows where each takes so much work.
    pub(super) fn with_work(self, work: &[u64]) -> Self {
        Self { rows: split(work, &self.upper), ..self }
    }

    /// How many rows the product has.
    pub(super) fn len(&self) -> usize {
        self.upper.len()
    }

    /// The rows of each part.
    pub(super) fn rows(&self) -> &[Range<usize>] {
        &self.rows
    }

    /// The most entries that a row can have.
    pub(super) fn upper(&self, row: usize) -> usize {
        self.upper[row] as usize
    }

    /// The most entries that these rows can have.
    pub(super) fn most(&self, rows: Range<usize>) -> u64 {
        self.upper[rows].iter().copied().map(u64::from).sum()
    }

    /// The entries of all rows, counted without keeping any.
    pub(super) fn entries<T: Value, M: RowMaker<T>>(&self, maker: impl Fn() -> M + Sync) -> u64 {
        let makers = Makers::new(maker);
        let count = |rows: &Range<usize>| {
            let most = rows.clone().map(|row| self.upper(row)).max().unwrap_or(0);
            let (mut col, mut val) = (vec![0; most], vec![T::ZERO; most]);
            let mut entries = 0;
            makers.lend(|maker| {
                for row in rows.clone() {
                    entries += maker.fill(row, &mut col, &mut val) as u64;
                }
            });
            entries
        };
        self.rows.par_iter().map(count).sum()
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

/// Rows in parts of about as much work, rows without any count a little too, and of not too many
/// entries.
fn split(work: &[u64], upper: &[u32]) -> Vec<Range<usize>> {
    let threads = rayon::current_num_threads();
    let total = work.par_iter().sum::<u64>() + work.len() as u64;
    let most = total.div_ceil((threads * PARTS_PER_THREAD) as u64).max(1);
    let share = work.len().div_ceil(threads).max(1);
    let shares = (0..work.len().div_ceil(share)).into_par_iter();
    let split = |at| split_some(work, upper, at * share..work.len().min((at + 1) * share), most);
    shares.flat_map_iter(split).collect()
}

/// Some of the rows in parts of `most` work, or a row's more.
fn split_some(work: &[u64], upper: &[u32], rows: Range<usize>, most: u64) -> Vec<Range<usize>> {
    let (mut parts, mut start, mut taken, mut entries) = (Vec::new(), rows.start, 0, 0);
    for row in rows.clone() {
        taken += work[row] + 1;
        entries += u64::from(upper[row]);
        if taken >= most || entries >= MOST_IN_PART || row + 1 == rows.end {
            parts.push(start..row + 1);
            (start, taken, entries) = (row + 1, 0, 0);
        }
    }
    parts
}
