//! Parts of a square matrix, and its rows and columns in another order.

use super::{Csr, Fault, Offset, Reducer, Value, fault};
use crate::Result;
use crate::backend::{Backend, Cpu};

impl<B: Backend, T: Value, O: Offset> Csr<B, T, O> {
    /// The side of a square matrix.
    ///
    /// # Errors
    ///
    /// [`Error::Sparse`](crate::Error::Sparse) where it is not square.
    pub fn side(&self) -> Result<usize> {
        let [rows, cols] = self.shape();
        if rows == cols { Ok(rows) } else { Err(fault(Fault::NotSquare { rows, cols })) }
    }
}

impl<T: Value, O: Offset> Csr<Cpu, T, O> {
    /// The entries whose column is below the row by more than `distance`: 0 gives the strictly
    /// lower triangle, -1 the diagonal as well. Canonical.
    ///
    /// # Errors
    ///
    /// As [`canonical`](Self::canonical).
    pub fn lower(&self, distance: i64) -> Result<Self> {
        self.filtered(|row, col, _| row as i64 - i64::from(col) > distance)
    }

    /// The places of this matrix and of its transpose, without the diagonal: the neighbours of
    /// each vertex in the undirected graph that the matrix describes. Canonical.
    ///
    /// # Errors
    ///
    /// [`Error::Sparse`](crate::Error::Sparse) where the matrix is not square.
    pub fn undirected<U: Value>(&self) -> Result<Csr<Cpu, U, O>> {
        let side = self.side()?;
        let transposed = self.to_pattern::<U>().transposed()?;
        let (reading, mirror) = (self.read()?, transposed.read()?);
        let (rows, mirrored) = (reading.rows()?, mirror.rows()?);
        let (mut row_ptr, mut col) = (vec![O::saturating(0)], Vec::new());
        for row in 0..side {
            let both = rows.columns(row).iter().chain(mirrored.columns(row));
            col.extend(both.filter(|&&col| col as usize != row));
            row_ptr.push(O::saturating(col.len()));
        }
        Csr::pattern([side, side], row_ptr, col)?.canonical(Reducer::First)
    }

    /// The square matrix with row and column i moved to `place[i]`.
    ///
    /// # Errors
    ///
    /// [`Error::Sparse`](crate::Error::Sparse) where the matrix is not square, or `place` is not
    /// a permutation of its rows.
    pub fn relabelled(&self, place: &[u32]) -> Result<Self> {
        let side = self.side()?;
        let from = inverse(place, side)?;
        let reading = self.read()?;
        let rows = reading.rows()?;
        let (mut row_ptr, mut col, mut val) = (Vec::new(), Vec::new(), Vec::new());
        for &row in &from {
            row_ptr.push(O::saturating(col.len()));
            col.extend(rows.columns(row as usize).iter().map(|&col| place[col as usize]));
            val.extend(rows.val.iter().flat_map(|val| &val[rows.range(row as usize)]));
        }
        row_ptr.push(O::saturating(col.len()));
        let relabelled = match self.val.is_some() {
            true => Self::new([side, side], row_ptr, col, val)?,
            false => Self::pattern([side, side], row_ptr, col)?,
        };
        relabelled.canonical(Reducer::Sum)
    }
}

/// Who goes to each place.
fn inverse(place: &[u32], side: usize) -> Result<Vec<u32>> {
    let mut from = vec![u32::MAX; side];
    for (i, &place) in place.iter().enumerate() {
        match from.get_mut(place as usize) {
            Some(slot) if *slot == u32::MAX => *slot = i as u32,
            _ => return Err(not_a_permutation(side)),
        }
    }
    if place.len() == side { Ok(from) } else { Err(not_a_permutation(side)) }
}

fn not_a_permutation(side: usize) -> crate::Error {
    crate::Error::Option {
        operation: "matrix",
        option: "place".to_owned(),
        expected: format!("each of 0..{side} once"),
        found: "another list".to_owned(),
    }
}
