//! The rows of a product, in parts that threads take.

use std::ops::Range;

use rayon::prelude::*;

use crate::sparse::{Part, Rows, Value};

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

/// What makes the rows of a product in one thread.
pub(crate) trait RowMaker<T> {
    /// Appends the columns of a row, ascending, and their values.
    fn append(&mut self, row: usize, col: &mut Vec<u32>, val: &mut Vec<T>);

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

    /// Entries of the product, counted without keeping any.
    pub(super) fn entries<T: Value, M: RowMaker<T>>(&self, maker: impl Fn() -> M + Sync) -> u64 {
        let count = |rows: &Range<usize>| {
            let (mut maker, mut col, mut val) = (maker(), Vec::new(), Vec::new());
            let mut entries = 0;
            for row in rows.clone() {
                maker.append(row, &mut col, &mut val);
                entries += col.len() as u64;
                col.clear();
                val.clear();
            }
            entries
        };
        self.rows.par_iter().map(count).sum()
    }

    /// The rows of the product.
    pub(super) fn rows<T: Value, M: RowMaker<T>>(
        &self,
        maker: impl Fn() -> M + Sync,
    ) -> Vec<Part<T>> {
        let make = |rows: &Range<usize>| {
            let (mut maker, mut part) = (maker(), Part::default());
            for row in rows.clone() {
                maker.append(row, &mut part.col, &mut part.val);
                part.end_row();
            }
            part
        };
        self.rows.par_iter().map(make).collect()
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
        work.into_par_iter().for_each(|(rows, mut values)| {
            let mut maker = maker();
            for row in rows {
                let columns = structure.columns(row);
                let (own, after) = values.split_at_mut(columns.len());
                maker.write(row, columns, own);
                values = after;
            }
        });
    }
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
