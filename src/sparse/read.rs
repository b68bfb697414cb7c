//! The arrays of a matrix on the CPU, for the time of a call.

use std::ops::Range;

use super::{Csr, Offset, Value};
use crate::Result;
use crate::backend::cpu::aligned::elements;
use crate::backend::{Cpu, ReadGuard};
use crate::element::DType;

/// Access to the arrays; nobody writes them meanwhile.
pub(crate) struct Reading<'a, T> {
    row_ptr: ReadGuard<'a>,
    /// The type of row pointers.
    offset: DType,
    col: ReadGuard<'a>,
    val: Option<ReadGuard<'a>>,
    sorted: bool,
    value: std::marker::PhantomData<T>,
}

impl<'a, T: Value> Reading<'a, T> {
    pub fn of<O: Offset>(matrix: &'a Csr<Cpu, T, O>) -> Result<Self> {
        Ok(Self {
            row_ptr: matrix.row_ptr.read()?,
            offset: O::DTYPE,
            col: matrix.col.read()?,
            val: matrix.val.as_ref().map(|val| val.read()).transpose()?,
            sorted: matrix.sorted,
            value: std::marker::PhantomData,
        })
    }

    pub fn rows(&self) -> Result<Rows<'_, T>> {
        let check = super::check::CHECK;
        Ok(Rows {
            places: match self.offset {
                DType::U64 => Places::Wide(elements(check, "row_ptr", &self.row_ptr)?),
                _ => Places::Narrow(elements(check, "row_ptr", &self.row_ptr)?),
            },
            col: elements(check, "col", &self.col)?,
            val: self.val.as_ref().map(|val| elements(check, "val", val)).transpose()?,
            sorted: self.sorted,
        })
    }
}

/// Where each row's entries begin, and the end of the last: row pointers of either type.
#[derive(Clone, Copy)]
pub(crate) enum Places<'a> {
    Narrow(&'a [u32]),
    Wide(&'a [u64]),
}

impl Places<'_> {
    /// The places of the entries of a row.
    #[inline(always)]
    pub fn of(self, row: usize) -> Range<usize> {
        #[inline(always)]
        fn ends<O: Offset>(places: &[O], row: usize) -> Range<usize> {
            let ends = &places[row..row + 2];
            ends[0].to_usize()..ends[1].to_usize()
        }
        match self {
            Self::Narrow(places) => ends(places, row),
            Self::Wide(places) => ends(places, row),
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Narrow(places) => places.len(),
            Self::Wide(places) => places.len(),
        }
    }
}

/// The rows of a matrix.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, T> {
    pub places: Places<'a>,
    pub col: &'a [u32],
    /// None in a pattern, whose values are all one.
    pub val: Option<&'a [T]>,
    /// Whether the columns of each row ascend.
    pub sorted: bool,
}

impl<'a, T: Value> Rows<'a, T> {
    pub fn len(&self) -> usize {
        self.places.len() - 1
    }

    /// The places of a row's entries.
    #[inline(always)]
    pub fn range(&self, row: usize) -> Range<usize> {
        self.places.of(row)
    }

    /// The columns of a row.
    #[inline(always)]
    pub fn columns(&self, row: usize) -> &'a [u32] {
        &self.col[self.range(row)]
    }

    /// The columns of a row, and as many values; none in a pattern.
    #[inline(always)]
    pub fn entries(&self, row: usize) -> (&'a [u32], Option<&'a [T]>) {
        let range = self.range(row);
        (&self.col[range.clone()], self.val.map(|val| &val[range]))
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
