//! Files of matrices.

use std::io::{self, BufWriter, Write};

use super::{Field, Number, WriteOptions};
use crate::sparse::{Csr, Fault, Offset, Rows, fault};
use crate::{Cpu, Error, Result};

/// Writes a matrix as a coordinate file, row after row: as `real`, `integer` or `pattern`, as its
/// values are. Truth values are written as 0 and 1.
///
/// [`read`](super::read) gives the same matrix again, bit for bit; one that is not canonical if
/// duplicates are [kept](super::Duplicates::Keep). Of a NaN, only the sign is preserved.
///
/// # Errors
///
/// [`Error::Io`] where the writer fails, and [`Error::InUse`] while another call writes the
/// arrays. With [`symmetric`](WriteOptions::symmetric), [`Error::Sparse`] where the matrix is not
/// square or not canonical, and [`Error::Option`] where it differs from its transpose.
pub fn write<T: Number, O: Offset>(
    matrix: &Csr<Cpu, T, O>,
    writer: impl Write,
    options: &WriteOptions,
) -> Result<()> {
    let reading = matrix.read()?;
    let rows = reading.rows()?;
    if options.symmetric {
        matrix.side()?;
        if !matrix.is_canonical() {
            return Err(fault(Fault::NotCanonical));
        }
        check_symmetry(&rows)?;
    }
    put(&rows, matrix.shape(), writer, options).map_err(|reason| Error::Io {
        what: "Matrix Market, writing".to_owned(),
        reason: reason.to_string(),
    })
}

fn put<T: Number>(
    rows: &Rows<'_, T>,
    [height, width]: [usize; 2],
    writer: impl Write,
    options: &WriteOptions,
) -> io::Result<()> {
    let mut writer = BufWriter::new(writer);
    let field = match (rows.val.is_some(), T::FIELD) {
        (false, _) => "pattern",
        (true, Field::Integer) => "integer",
        (true, _) => "real",
    };
    let symmetry = if options.symmetric { "symmetric" } else { "general" };
    let is_written = |row: usize, col: u32| !options.symmetric || col as usize <= row;
    let places =
        (0..rows.len()).flat_map(|row| rows.columns(row).iter().map(move |col| (row, *col)));
    let entries = places.filter(|&(row, col)| is_written(row, col)).count();
    writeln!(writer, "%%MatrixMarket matrix coordinate {field} {symmetry}")?;
    writeln!(writer, "{height} {width} {entries}")?;
    for row in 0..rows.len() {
        for (col, value) in rows.row(row).filter(|(col, _)| is_written(row, *col)) {
            write!(writer, "{} {}", row + 1, u64::from(col) + 1)?;
            if rows.val.is_some() {
                writer.write_all(b" ")?;
                value.write(&mut writer)?;
            }
            writer.write_all(b"\n")?;
        }
    }
    writer.flush()
}

/// Every entry of a square canonical matrix has a mirror image of the same bits.
fn check_symmetry<T: Number>(rows: &Rows<'_, T>) -> Result<()> {
    for row in 0..rows.len() {
        for (col, value) in rows.row(row) {
            let mirror = rows.columns(col as usize).binary_search(&(row as u32));
            let mirror = mirror.map(|place| rows.value(rows.range(col as usize).start + place));
            if !mirror.is_ok_and(|m| bytemuck::bytes_of(&m) == bytemuck::bytes_of(&value)) {
                return Err(Error::Option {
                    operation: "Matrix Market",
                    option: "symmetric".to_owned(),
                    expected: "a matrix that equals its transpose".to_owned(),
                    found: format!(
                        "{value:?} in row {row}, column {col}, and {} in row {col}, column {row}",
                        mirror
                            .map_or_else(|_| "nothing".to_owned(), |mirror| format!("{mirror:?}"))
                    ),
                });
            }
        }
    }
    Ok(())
}
