//! Entries in compressed rows, by counting rows.
//!
//! The sort is stable, and so are the mirror images, which follow their originals: an ordinary
//! file, column after column, becomes canonical without another one.

use super::entries::Entries;
use super::lines::fault;
use super::{Duplicates, Fault, Field, Header, Number, Symmetry};
use crate::sparse::{Csr, Offset, Reducer, entries as check_entries};
use crate::{Cpu, Error, Result};

/// The matrix of these entries and of those that the symmetry left out.
pub fn matrix<T: Number, O: Offset>(
    header: &Header,
    duplicates: Duplicates,
    entries: Entries<T>,
) -> Result<Csr<Cpu, T, O>> {
    let matrix: Csr<Cpu, T, O> = sorted(header, &entries)?;
    if duplicates == Duplicates::Error && !matrix.is_unique() {
        return Err(first_duplicate(&entries));
    }
    drop(entries);
    match duplicates {
        Duplicates::Keep => Ok(matrix),
        Duplicates::Sum | Duplicates::Error => matrix.canonical(Reducer::Sum),
    }
}

fn sorted<T: Number, O: Offset>(header: &Header, entries: &Entries<T>) -> Result<Csr<Cpu, T, O>> {
    let Header { rows, cols, symmetry, .. } = *header;
    let mut places = places(rows, symmetry, entries)?;
    let nnz = places[rows];
    check_entries::<O>(nnz as u64)?;
    let row_ptr = places.iter().copied().map(O::saturating).collect();
    let mut col = vec![0; nnz];
    let mut val = vec![T::ZERO; if entries.val.is_empty() { 0 } else { nnz }];
    for (entry, (&i, &j)) in entries.row.iter().zip(&entries.col).enumerate() {
        let value = entries.val.get(entry).copied();
        let mut put = |i: u32, j: u32, value: Option<T>| {
            let place = &mut places[i as usize];
            col[*place] = j;
            if let Some(value) = value {
                val[*place] = value;
            }
            *place += 1;
        };
        put(i, j, value);
        if symmetry.mirrors(i, j) {
            put(j, i, value.and_then(|value| symmetry.image(value)));
        }
    }
    match header.field {
        Field::Pattern => Csr::pattern([rows, cols], row_ptr, col),
        _ => Csr::new([rows, cols], row_ptr, col, val),
    }
}

/// Where each row begins, and the end of the last.
fn places<T>(rows: usize, symmetry: Symmetry, entries: &Entries<T>) -> Result<Vec<usize>> {
    let mut places: Vec<usize> = Vec::new();
    places.try_reserve_exact(rows + 1).map_err(|_| Error::OutOfMemory {
        device: "cpu".to_owned(),
        asked: (rows as u64 + 1) * size_of::<usize>() as u64,
        available: None,
    })?;
    places.resize(rows + 1, 0);
    for (&i, &j) in entries.row.iter().zip(&entries.col) {
        places[i as usize + 1] += 1;
        if symmetry.mirrors(i, j) {
            places[j as usize + 1] += 1;
        }
    }
    for i in 0..rows {
        places[i + 1] += places[i];
    }
    Ok(places)
}

/// The first entry in the file whose place an earlier one has.
fn first_duplicate<T>(entries: &Entries<T>) -> Error {
    let place = |entry: usize| (entries.row[entry], entries.col[entry]);
    let mut order: Vec<usize> = (0..entries.row.len()).collect();
    order.sort_by_key(|&entry| place(entry));
    let again = order.windows(2).filter(|pair| place(pair[0]) == place(pair[1]));
    let entry = again.map(|pair| pair[1]).min().unwrap_or_default();
    let (row, col) = place(entry);
    fault(entries.line[entry], Fault::Duplicate { row: row as usize + 1, col: col as usize + 1 })
}
