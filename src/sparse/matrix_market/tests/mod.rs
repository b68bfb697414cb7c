//! Files that are right, files that are not, and what is written.

mod damage;
mod faults;
mod files;
mod options;
mod written;

use super::{Number, ReadOptions, read};
use crate::sparse::Csr;
use crate::{Cpu, Error, Result};

/// The matrix of a file.
fn parse<T: Number>(text: impl AsRef<[u8]>) -> Result<Csr<Cpu, T>> {
    read(text.as_ref(), &ReadOptions::default())
}

/// Row pointers, columns and, but in a pattern, values.
type Arrays<T> = (Vec<u32>, Vec<u32>, Option<Vec<T>>);

fn arrays<T: Number>(matrix: Csr<Cpu, T>) -> Arrays<T> {
    matrix.into_arrays().expect("not in use")
}

/// The matrix row by row, with zeros where nothing is stored.
fn dense<T: Number>(text: impl AsRef<[u8]>) -> Vec<Vec<T>> {
    let matrix: Csr<Cpu, T> = parse(text).expect("a right file");
    let reading = matrix.read().expect("not in use");
    let rows = reading.rows().expect("arrays");
    let mut dense = vec![vec![T::ZERO; matrix.shape()[1]]; matrix.shape()[0]];
    for (i, line) in dense.iter_mut().enumerate() {
        for (col, value) in rows.row(i) {
            line[col as usize] = value;
        }
    }
    dense
}

/// The number of the line that is wrong, and what is wrong there.
fn refused<T: Number>(text: impl AsRef<[u8]>, options: &ReadOptions) -> (usize, String) {
    match read::<T, u32>(text.as_ref(), options) {
        Err(Error::MatrixMarket { line, kind }) => (line, kind.to_string()),
        other => panic!("expected a fault, found {other:?}"),
    }
}
