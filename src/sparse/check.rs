//! The checks of a matrix's arrays.

use rayon::prelude::*;

use super::{Fault, MAX_SIDE, Offset, fault};
use crate::Result;
use crate::backend::Backend;
use crate::check::Check;
use crate::tensor::View;

pub(super) const CHECK: Check = Check { operation: "matrix" };

/// Rows that a thread checks at a time.
const ROWS: usize = 4096;

/// Checks all that can be wrong, and tells whether columns are sorted, and unique.
pub(super) fn arrays<O: Offset>(
    [rows, cols]: [usize; 2],
    row_ptr: &[O],
    col: &[u32],
    val: Option<usize>,
) -> Result<(bool, bool)> {
    sides([rows, cols])?;
    pointers(rows, row_ptr.len())?;
    if let Some(first) = row_ptr.first().filter(|first| first.to_u64() != 0) {
        return Err(fault(Fault::RowPtrStart { got: first.to_u64() }));
    }
    if let Some(row) = (0..rows).find(|&row| row_ptr[row + 1].to_u64() < row_ptr[row].to_u64()) {
        return Err(fault(Fault::RowPtrNotMonotone { row }));
    }
    let last = row_ptr[rows].to_u64();
    if last != col.len() as u64 || val.is_some_and(|val| val != col.len()) {
        return Err(fault(Fault::LengthMismatch { row_ptr: last, col: col.len(), val }));
    }
    let order = columns(cols, row_ptr, col)?;
    entries::<O>(last)?;
    Ok(order)
}

/// Checks the lengths alone, as far as they are known without the arrays' contents.
pub(super) fn lengths(
    [rows, cols]: [usize; 2],
    row_ptr: usize,
    col: usize,
    val: Option<usize>,
) -> Result<()> {
    sides([rows, cols])?;
    pointers(rows, row_ptr)?;
    if val.is_some_and(|val| val != col) {
        return Err(fault(Fault::LengthMismatch { row_ptr: col as u64, col, val }));
    }
    Ok(())
}

/// An array of one axis without gaps.
pub(super) fn lines<B: Backend>(name: &str, view: &View<B>) -> Result<()> {
    CHECK.shape(name, view, &[("length", view.elements())])?;
    CHECK.contiguous(name, view)
}

/// The row pointers can count so many entries.
pub(crate) fn entries<O: Offset>(nnz: u64) -> Result<()> {
    match nnz > O::MOST_ENTRIES {
        true => Err(fault(Fault::TooManyEntries { nnz, limit: O::MOST_ENTRIES })),
        false => Ok(()),
    }
}

/// Columns fit their type.
pub(super) fn sides([rows, cols]: [usize; 2]) -> Result<()> {
    match rows.max(cols) > MAX_SIDE {
        true => Err(fault(Fault::DimensionTooLarge { rows, cols })),
        false => Ok(()),
    }
}

fn pointers(rows: usize, got: usize) -> Result<()> {
    let want = rows + 1;
    if got == want { Ok(()) } else { Err(fault(Fault::RowPtrLength { got, want })) }
}

/// What was found in some rows.
#[derive(Clone, Copy)]
struct Found {
    sorted: bool,
    unique: bool,
    /// The first entry outside the matrix: row and place.
    outside: Option<(usize, usize)>,
}

fn columns<O: Offset>(cols: usize, row_ptr: &[O], col: &[u32]) -> Result<(bool, bool)> {
    let rows = row_ptr.len() - 1;
    let all = Found { sorted: true, unique: true, outside: None };
    let found = (0..rows.div_ceil(ROWS))
        .into_par_iter()
        .map(|part| {
            let rows = part * ROWS..rows.min((part + 1) * ROWS);
            let mut sorting = Vec::new();
            rows.map(|row| row_columns(cols, row, row_ptr, col, &mut sorting)).fold(all, merge)
        })
        .reduce(|| all, merge);
    match found.outside {
        Some((row, pos)) => Err(fault(Fault::ColumnOutOfRange { row, pos, col: col[pos], cols })),
        None => Ok((found.sorted, found.unique)),
    }
}

fn merge(first: Found, second: Found) -> Found {
    Found {
        sorted: first.sorted && second.sorted,
        unique: first.unique && second.unique,
        outside: first.outside.into_iter().chain(second.outside).min(),
    }
}

/// One row; an unsorted one is sorted into `sorting` to see whether columns repeat.
fn row_columns<O: Offset>(
    cols: usize,
    row: usize,
    row_ptr: &[O],
    col: &[u32],
    sorting: &mut Vec<u32>,
) -> Found {
    let (start, end) = (row_ptr[row].to_usize(), row_ptr[row + 1].to_usize());
    let entries = &col[start..end];
    let outside = entries.iter().position(|&col| col as usize >= cols);
    let sorted = entries.is_sorted();
    let strictly = |entries: &[u32]| entries.windows(2).all(|pair| pair[0] < pair[1]);
    let unique = match sorted {
        true => strictly(entries),
        false => {
            sorting.clear();
            sorting.extend_from_slice(entries);
            sorting.sort_unstable();
            strictly(sorting)
        }
    };
    Found { sorted, unique, outside: outside.map(|i| (row, start + i)) }
}
