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

/// What makes the rows of a product in one thread, part by part.
pub(crate) trait PartMaker<T>: Send {
    /// Makes rows whose entries nobody knows.
    fn fill(&mut self, rows: Range<usize>, made: &mut Made<T>);

    /// Writes the values of rows whose columns are those of `structure`.
    fn write(&mut self, rows: Range<usize>, structure: Rows<'_, u32>, values: &mut [T]);
}

/// Rows that are made, one after the other, and memory for more.
pub(crate) struct Made<T> {
    /// Entries up to the end of each row.
    pub ends: Vec<usize>,
    /// As many entries as the last end says, and room.
    pub col: Vec<u32>,
    pub val: Vec<T>,
    /// What a mask takes out too.
    pub products: u64,
}

impl<T: Value> Made<T> {
    pub fn new() -> Self {
        Self { ends: Vec::new(), col: Vec::new(), val: Vec::new(), products: 0 }
    }

    /// No rows; the memory stays.
    pub fn clear(&mut self) {
        self.ends.clear();
        self.products = 0;
    }

    /// Room for the columns and the values of the next row, which has at most so many entries.
    #[inline(always)]
    pub fn room(&mut self, most: usize) -> (&mut [u32], &mut [T]) {
        let (start, end) = (self.entries(), self.entries() + most);
        if self.col.len() < end {
            self.col.resize(end, 0);
            self.val.resize(end, T::ZERO);
        }
        (&mut self.col[start..end], &mut self.val[start..end])
    }

    /// The next row has so many entries, at the front of its room.
    #[inline(always)]
    pub fn end_row(&mut self, entries: usize) {
        self.ends.push(self.entries() + entries);
    }

    /// Entries of all rows.
    #[inline(always)]
    pub fn entries(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }
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
    pub(super) fn values<T: Value, M: PartMaker<T>>(
        &self,
        maker: impl Fn() -> M + Sync,
        structure: Rows<'_, u32>,
        values: &mut [T],
    ) {
        let (mut rest, mut work) = (values, Vec::with_capacity(self.rows.len()));
        for rows in &self.rows {
            let entries = rows.clone().map(|row| structure.range(row).len()).sum();
            work.push((rows.clone(), split_off(&mut rest, entries)));
        }
        let makers = Makers::new(maker);
        work.into_par_iter()
            .for_each(|(rows, values)| makers.lend(|maker| maker.write(rows, structure, values)));
    }
}

/// Each of these rows, its columns, and its values, of which `values` has those of all.
pub(super) fn known_rows<'a, T>(
    rows: Range<usize>,
    structure: Rows<'a, u32>,
    values: &'a mut [T],
) -> impl Iterator<Item = (usize, &'a [u32], &'a mut [T])> {
    let mut rest = values;
    rows.map(move |row| {
        let columns = structure.columns(row);
        (row, columns, split_off(&mut rest, columns.len()))
    })
}

/// The first of these, which are taken from there.
pub(super) fn split_off<'a, T>(rest: &mut &'a mut [T], length: usize) -> &'a mut [T] {
    let (taken, after) = std::mem::take(rest).split_at_mut(length);
    *rest = after;
    taken
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
