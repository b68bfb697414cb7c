//! The arrays of a matrix on the CPU, for the time of a call.

use std::ops::Range;

use super::{Csr, Offset, Value};
use crate::Result;
use crate::backend::cpu::aligned::elements;
use crate::backend::{Cpu, ReadGuard};

/// Access to the arrays; nobody writes them meanwhile.
pub(crate) struct Reading<'a, T> {
    /// Row pointers as places: (rows + 1).
    places: Vec<usize>,
    col: ReadGuard<'a>,
    val: Option<ReadGuard<'a>>,
    value: std::marker::PhantomData<T>,
}

impl<'a, T: Value> Reading<'a, T> {
    pub fn of<O: Offset>(matrix: &'a Csr<Cpu, T, O>) -> Result<Self> {
        let row_ptr = matrix.row_ptr.read()?;
        let row_ptr = elements::<O>(super::check::CHECK, "row_ptr", &row_ptr)?;
        Ok(Self {
            places: row_ptr.iter().map(|place| place.to_usize()).collect(),
            col: matrix.col.read()?,
            val: matrix.val.as_ref().map(|val| val.read()).transpose()?,
            value: std::marker::PhantomData,
        })
    }

    pub fn rows(&self) -> Result<Rows<'_, T>> {
        let check = super::check::CHECK;
        Ok(Rows {
            places: &self.places,
            col: elements(check, "col", &self.col)?,
            val: self.val.as_ref().map(|val| elements(check, "val", val)).transpose()?,
        })
    }
}

/// The rows of a matrix.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, T> {
    /// Where each row's entries begin, and the end of the last.
    pub places: &'a [usize],
    pub col: &'a [u32],
    /// None in a pattern, whose values are all one.
    pub val: Option<&'a [T]>,
}

impl<'a, T: Value> Rows<'a, T> {
    pub fn len(&self) -> usize {
        self.places.len() - 1
    }

    /// The places of a row's entries.
    #[inline(always)]
    pub fn range(&self, row: usize) -> Range<usize> {
        self.places[row]..self.places[row + 1]
    }

    /// The columns of a row.
    #[inline(always)]
    pub fn columns(&self, row: usize) -> &'a [u32] {
        &self.col[self.range(row)]
    }

    /// The value of an entry.
    #[inline(always)]
    pub fn value(&self, place: usize) -> T {
        self.val.map_or(T::ONE, |val| val[place])
    }

    /// Columns and values of a row, in the order in which they are stored.
    #[inline(always)]
    pub fn row(&self, row: usize) -> impl Iterator<Item = (u32, T)> + use<'a, T> {
        let Self { col, .. } = *self;
        let rows = *self;
        self.range(row).map(move |place| (col[place], rows.value(place)))
    }
}
