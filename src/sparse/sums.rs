//! Numbers that say what a matrix is like.

use super::{Csr, Offset, Reducer, Value};
use crate::Result;
use crate::backend::Cpu;

/// How many entries the rows of a matrix have; zeros where it has no rows.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct EntriesPerRow {
    /// Of the row that has fewest.
    pub least: usize,
    /// Of the row that has most.
    pub most: usize,
    /// All entries over all rows.
    pub mean: f64,
    /// Rows without any.
    pub empty: usize,
}

impl<T: Value, O: Offset> Csr<Cpu, T, O> {
    /// Σ_j a_ij of each row i, from left to right as it is stored; 0 of an empty one. Those of
    /// columns are the transpose's.
    ///
    /// ```
    /// use warpwright::sparse::Csr;
    ///
    /// let a = Csr::new([2, 2], vec![0u32, 2, 3], vec![0, 1, 1], vec![1.0f32, 2.0, 3.0])?;
    /// assert_eq!(a.row_sums()?, [3.0, 3.0]);
    /// assert_eq!(a.transposed()?.row_sums()?, [1.0, 5.0]);
    /// # Ok::<(), warpwright::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InUse`](crate::Error::InUse) while another call writes the arrays.
    pub fn row_sums(&self) -> Result<Vec<T>> {
        let reading = self.read()?;
        let rows = reading.rows()?;
        let sum = |row| rows.row(row).fold(T::ZERO, |sum, (_, value)| sum.add(value));
        Ok((0..rows.len()).map(sum).collect())
    }

    /// √(Σ_ij a_ij²), the norm of Frobenius; no square leaves the range of numbers.
    ///
    /// ```
    /// use warpwright::sparse::Csr;
    ///
    /// let a = Csr::new([2, 2], vec![0u32, 1, 2], vec![0, 1], vec![3e300, 4e300])?;
    /// assert!((a.norm()? / 5e300 - 1.0).abs() < 1e-15);
    /// # Ok::<(), warpwright::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InUse`](crate::Error::InUse) while another call writes the arrays.
    pub fn norm(&self) -> Result<f64> {
        let canonical = self.canonical(Reducer::Sum)?;
        let reading = canonical.read()?;
        let rows = reading.rows()?;
        let values = (0..canonical.nnz()).map(|place| rows.value(place).to_f64());
        Ok(values.fold(0.0, f64::hypot))
    }

    /// How many entries the rows have.
    ///
    /// ```
    /// use warpwright::sparse::Csr;
    ///
    /// let a = Csr::<_, f32>::pattern([2, 3], vec![0u32, 3, 3], vec![0, 1, 2])?;
    /// let found = a.entries_per_row()?;
    /// assert_eq!((found.least, found.most, found.mean, found.empty), (0, 3, 1.5, 1));
    /// # Ok::<(), warpwright::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InUse`](crate::Error::InUse) while another call writes the arrays.
    pub fn entries_per_row(&self) -> Result<EntriesPerRow> {
        let reading = self.read()?;
        let rows = reading.rows()?;
        let lengths = (0..rows.len()).map(|row| rows.range(row).len());
        Ok(EntriesPerRow {
            least: lengths.clone().min().unwrap_or(0),
            most: lengths.clone().max().unwrap_or(0),
            mean: self.nnz() as f64 / rows.len().max(1) as f64,
            empty: lengths.filter(|&length| length == 0).count(),
        })
    }
}
