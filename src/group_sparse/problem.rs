//! The sizes of a product, as plans need them.

use std::sync::Arc;

use super::MOST_VECTORS;
use super::format::{Format, Matrix, Pattern};
use crate::Result;
use crate::element::DType;

/// The sizes of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The sides, the grouping and the coding.
    pub format: Format,
    /// Where each row's groups begin, and where the last one's end; (N + 1).
    pub row_ptr: Arc<[u32]>,
    /// The type of scales and offsets.
    pub scales: DType,
    /// How many outliers there are.
    pub outliers: usize,
    /// M, the vectors that are multiplied at once: 1 to [`MOST_VECTORS`].
    pub vectors: usize,
}

impl Problem {
    /// That of a matrix and so many vectors.
    pub fn of(matrix: &Matrix, vectors: usize) -> Self {
        let outliers = matrix.parts().outliers.as_ref().map_or(0, |outliers| outliers.col.len());
        Self {
            format: *matrix.format(),
            row_ptr: matrix.row_ptr().into(),
            scales: matrix.parts().scales.dtype(),
            outliers,
            vectors: vectors.clamp(1, MOST_VECTORS),
        }
    }

    /// That of a matrix which has so many groups in every row, or so many in all, spread evenly;
    /// scales are f16.
    ///
    /// # Errors
    ///
    /// [`Error::Option`](crate::Error::Option) where there is no such matrix.
    pub fn even(format: Format, kept: usize, vectors: usize) -> Result<Self> {
        format.check()?;
        let rows = format.rows;
        let of_row = match format.pattern {
            Pattern::Free => None,
            Pattern::Uniform(count) => Some(count),
            Pattern::Dense => Some(format.column_groups()),
        };
        let kept = of_row.map_or(kept, |count| count * rows) as u128;
        let row_ptr = (0..=rows).map(|row| (row as u128 * kept / rows as u128) as u32).collect();
        let vectors = vectors.clamp(1, MOST_VECTORS);
        Ok(Self { format, row_ptr, scales: DType::F16, outliers: 0, vectors })
    }

    /// The same with another number of vectors.
    pub fn with_vectors(&self, vectors: usize) -> Self {
        Self { vectors: vectors.clamp(1, MOST_VECTORS), ..self.clone() }
    }

    /// T, kept groups.
    pub fn kept(&self) -> usize {
        self.row_ptr[self.format.rows] as usize
    }
}
