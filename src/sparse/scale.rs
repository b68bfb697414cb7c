//! Rows and columns times factors of their own.

use rayon::prelude::*;

use super::{Csr, Offset, Value, check};
use crate::backend::Cpu;
use crate::tensor::Tensor;
use crate::{Error, Result};

impl<T: Value, O: Offset> Csr<Cpu, T, O> {
    /// D A, where D is the diagonal matrix of the factors: d_i a_ij.
    ///
    /// ```
    /// use warpwright::sparse::Csr;
    ///
    /// // Each row of [1 3; 0 2] over its sum.
    /// let a = Csr::new([2, 2], vec![0u32, 2, 3], vec![0, 1, 1], vec![1.0f32, 3.0, 2.0])?;
    /// let over: Vec<f32> = a.row_sums()?.into_iter().map(|sum| 1.0 / sum).collect();
    /// assert_eq!(a.scaled_rows(&over)?.val().expect("values").to_vec()?, [0.25, 0.75, 1.0]);
    /// # Ok::<(), warpwright::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where there are not as many factors as rows.
    pub fn scaled_rows(&self, factors: &[T]) -> Result<Self> {
        check_factors("rows", self.rows, factors.len())?;
        self.map_entries(|row, _, value| factors[row].multiply(value))
    }

    /// A D, where D is the diagonal matrix of the factors: a_ij d_j.
    ///
    /// ```
    /// use warpwright::sparse::Csr;
    ///
    /// let a = Csr::new([2, 2], vec![0u32, 2, 3], vec![0, 1, 1], vec![1.0f32, 3.0, 2.0])?;
    /// let scaled = a.scaled_columns(&[10.0, 100.0])?;
    /// assert_eq!(scaled.val().expect("values").to_vec()?, [10.0, 300.0, 200.0]);
    /// # Ok::<(), warpwright::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where there are not as many factors as columns.
    pub fn scaled_columns(&self, factors: &[T]) -> Result<Self> {
        check_factors("columns", self.cols, factors.len())?;
        self.map_entries(|_, col, value| value.multiply(factors[col as usize]))
    }

    /// The same places with values that are made from row, column and value.
    fn map_entries(&self, map: impl Fn(usize, u32, T) -> T + Sync) -> Result<Self> {
        let reading = self.read()?;
        let (rows, map) = (reading.rows()?, &map);
        let mapped = |row| rows.row(row).map(move |(col, value)| map(row, col, value));
        let values: Vec<T> = (0..rows.len()).into_par_iter().flat_map_iter(mapped).collect();
        self.with_values(Tensor::from_vec(values, &[self.nnz()])?)
    }
}

fn check_factors(lines: &str, length: usize, found: usize) -> Result<()> {
    if length == found {
        return Ok(());
    }
    Err(Error::Shape {
        operation: check::CHECK.operation,
        tensor: "factors".to_owned(),
        expected: format!("{length}, as the matrix has {lines}"),
        found: found.to_string(),
    })
}
