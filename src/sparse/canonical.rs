//! Rows in order, without repeated columns.

use rayon::prelude::*;

use super::build::{Part, assemble};
use super::{Csr, Offset, Rows, Value};
use crate::Result;
use crate::backend::Cpu;
use crate::tensor::Tensor;

/// What becomes of several entries at one place, from left to right as they are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reducer {
    /// Their sum; integers wrap, truth values are joined by "or".
    #[default]
    Sum,
    /// The first.
    First,
    /// The last.
    Last,
    /// The largest.
    Max,
}

impl Reducer {
    fn of<T: Value>(self) -> fn(T, T) -> T {
        match self {
            Self::Sum => T::add,
            Self::First => |first, _| first,
            Self::Last => |_, last| last,
            Self::Max => T::larger,
        }
    }
}

/// Rows that a thread takes at a time.
const ROWS: usize = 1024;

impl<T: Value, O: Offset> Csr<Cpu, T, O> {
    /// The same matrix with columns that ascend strictly in every row. Zeros stay. A canonical
    /// matrix is returned as it is, sharing its memory.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`](crate::Error::InUse) while another call writes the arrays.
    pub fn canonical(&self, reducer: Reducer) -> Result<Self> {
        if self.is_canonical() {
            return Ok(self.clone());
        }
        let reduce = reducer.of::<T>();
        self.map_rows(|_, entries, sorting: &mut Vec<(u32, T)>, part| {
            sorting.clear();
            sorting.extend(entries);
            sorting.sort_by_key(|(col, _)| *col);
            for same in sorting.chunk_by(|a, b| a.0 == b.0) {
                part.col.push(same[0].0);
                part.val.extend(same.iter().map(|(_, value)| *value).reduce(reduce));
            }
        })
    }

    /// The same matrix with columns that never descend in any row; those that a row holds twice
    /// stay in the order in which they are stored. A sorted matrix is returned as it is, sharing its
    /// memory.
    ///
    /// # Errors
    ///
    /// As [`canonical`](Self::canonical).
    pub fn sorted(&self) -> Result<Self> {
        if self.sorted {
            return Ok(self.clone());
        }
        let sorted = self.map_rows(|_, entries, sorting: &mut Vec<(u32, T)>, part| {
            sorting.clear();
            sorting.extend(entries);
            sorting.sort_by_key(|(col, _)| *col);
            part.col.extend(sorting.iter().map(|(col, _)| *col));
            part.val.extend(sorting.iter().map(|(_, value)| *value));
        })?;
        Ok(Self { unique: self.unique, ..sorted })
    }

    /// A canonical matrix without the entries for which `keep`, of row, column and value, is
    /// false.
    ///
    /// # Errors
    ///
    /// As [`canonical`](Self::canonical).
    pub fn filtered(&self, keep: impl Fn(usize, u32, T) -> bool + Sync) -> Result<Self> {
        let canonical = self.canonical(Reducer::Sum)?;
        canonical.map_rows(|row, entries, (): &mut (), part| {
            for (col, value) in entries.filter(|(col, value)| keep(row, *col, *value)) {
                part.col.push(col);
                part.val.push(value);
            }
        })
    }

    /// Without entries that are exactly zero.
    ///
    /// # Errors
    ///
    /// As [`canonical`](Self::canonical).
    pub fn without_zeros(&self) -> Result<Self> {
        self.filtered(|_, _, value| !value.is_zero())
    }

    /// Without entries whose magnitude is at most `tolerance`; NaNs stay.
    ///
    /// # Errors
    ///
    /// As [`canonical`](Self::canonical).
    pub fn without_small(&self, tolerance: f64) -> Result<Self> {
        self.filtered(|_, _, value| {
            let magnitude = value.to_f64().abs();
            magnitude > tolerance || magnitude.is_nan()
        })
    }

    /// The same places with values that are made from these; a pattern's are ones.
    ///
    /// # Errors
    ///
    /// As [`canonical`](Self::canonical).
    pub fn map_values<U: Value>(&self, map: impl Fn(T) -> U + Sync) -> Result<Csr<Cpu, U, O>> {
        let reading = self.read()?;
        let rows = reading.rows()?;
        let values: Vec<U> =
            (0..self.nnz()).into_par_iter().map(|place| map(rows.value(place))).collect();
        self.with_values(Tensor::from_vec(values, &[self.nnz()])?)
    }

    /// A matrix of the same shape whose rows are made from this one's.
    fn map_rows<S: Default>(
        &self,
        each: impl Fn(usize, &mut dyn Iterator<Item = (u32, T)>, &mut S, &mut Part<T>) + Sync,
    ) -> Result<Self> {
        let reading = self.read()?;
        let rows: Rows<'_, T> = reading.rows()?;
        let has_values = self.val.is_some();
        let parts: Vec<Part<T>> = (0..rows.len().div_ceil(ROWS))
            .into_par_iter()
            .map(|number| {
                let (mut part, mut scratch) = (Part::default(), S::default());
                for row in number * ROWS..rows.len().min((number + 1) * ROWS) {
                    each(row, &mut rows.row(row), &mut scratch, &mut part);
                    part.end_row();
                }
                if !has_values {
                    part.val.clear();
                }
                part
            })
            .collect();
        assemble(self.shape(), &parts, has_values)
    }
}
