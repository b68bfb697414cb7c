//! Matrix Market files.
//!
//! ```text
//! %%MatrixMarket matrix coordinate real symmetric     the header
//! % a stiffness matrix                                comments
//! 3 3 4                                               rows, columns, entries
//! 1 1  2.5                                            row, column from 1, value
//! 2 1 -1
//! 2 2  2.5D0
//! 3 3  nan
//! ```
//!
//! The header's words, in any case, are:
//!
//! - `coordinate`, entries with their places, or `array`, all values down the columns without;
//! - `real` (or `double`), `integer`, `complex`, or `pattern`: places without values;
//! - `general`, `symmetric`, `skew-symmetric` or `hermitian`: of all but the first, only entries on
//!   or below the diagonal are listed, and their mirror images meant as well; a skew-symmetric
//!   matrix has none on the diagonal.
//!
//! A pattern is neither an array nor skew-symmetric; only complex values are hermitian. Complex
//! files are understood by [`read_header`], but no matrix holds their entries yet.
//!
//! Blank lines may be anywhere, comments before the size. Numbers may have a plus sign and an
//! exponent after `e` or `d`; `nan` and `inf` are numbers. Explicit zeros are entries.
//!
//! A file is read line by line, into the type of values that the caller asks for: each as the
//! nearest value of `f32` or `f64`, exactly into `i32`, `u32`, or `u8` for truth values, where
//! anything else is an error. Memory is taken as entries arrive, whatever the size announces: for
//! those that are listed, and for the matrix.
//!
//! ```
//! use warpwright::sparse::matrix_market::{self, ReadOptions, WriteOptions};
//! use warpwright::sparse::{Csr, Reducer};
//! use warpwright::Cpu;
//!
//! let file = "%%MatrixMarket matrix coordinate integer symmetric\n2 2 2\n1 1 5\n2 1 -7\n";
//! let matrix: Csr<Cpu, f32> = matrix_market::read(file.as_bytes(), &ReadOptions::default())?;
//! assert_eq!(matrix.val().expect("values").to_vec()?, [5.0, -7.0, -7.0]);
//!
//! let mut written = Vec::new();
//! matrix_market::write(&matrix, &mut written, &WriteOptions::default().with_symmetric(true))?;
//! let expected = "%%MatrixMarket matrix coordinate real symmetric\n2 2 2\n1 1 5.0\n2 1 -7.0\n";
//! assert_eq!(written, expected.as_bytes());
//! # Ok::<(), warpwright::Error>(())
//! ```

mod entries;
mod fault;
mod header;
mod lines;
mod number;
mod options;
mod rows;
mod symmetry;
#[cfg(test)]
mod tests;
mod write;

use std::io::BufRead;

pub use fault::Fault;
pub use header::{Field, Format, Header, read_header};
pub use number::Number;
pub use options::{Duplicates, ReadOptions, WriteOptions};
pub use symmetry::Symmetry;
pub use write::write;

use super::{Csr, Offset};
use crate::{Cpu, Result};
use lines::Lines;

/// Reads a file, with values of type `T`; a pattern has none.
///
/// # Errors
///
/// [`Error::MatrixMarket`](crate::Error::MatrixMarket) with the first line that is wrong,
/// [`Error::Io`](crate::Error::Io) where the reader fails, [`Error::Sparse`](crate::Error::Sparse)
/// where a symmetric matrix has more entries than row pointers `O` can count, and
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory) where its rows do not fit.
pub fn read<T: Number, O: Offset>(
    mut reader: impl BufRead,
    options: &ReadOptions,
) -> Result<Csr<Cpu, T, O>> {
    let header = read_header(&mut reader)?;
    read_entries(&header, reader, options)
}

/// Reads the rest of a file from which [`read_header`] has read.
///
/// ```
/// use warpwright::Cpu;
/// use warpwright::sparse::Csr;
/// use warpwright::sparse::matrix_market::{Field, ReadOptions, read_entries, read_header};
///
/// let mut file = "%%MatrixMarket matrix array integer general\n2 1\n3\n-4\n".as_bytes();
/// let header = read_header(&mut file)?;
/// let options = ReadOptions::default();
/// match header.field() {
///     Field::Integer => {
///         let matrix: Csr<Cpu, i32> = read_entries(&header, file, &options)?;
///         assert_eq!(matrix.val().expect("values").to_vec()?, [3, -4]);
///     }
///     _ => drop(read_entries::<f64, u32>(&header, file, &options)?),
/// }
/// # Ok::<(), warpwright::Error>(())
/// ```
///
/// # Errors
///
/// As [`read`].
pub fn read_entries<T: Number, O: Offset>(
    header: &Header,
    reader: impl BufRead,
    options: &ReadOptions,
) -> Result<Csr<Cpu, T, O>> {
    header.check::<O>(options)?;
    let mut lines = Lines::new(reader, header.line);
    let entries = entries::read(header, options, &mut lines)?;
    rows::matrix(header, options.duplicates, entries)
}
