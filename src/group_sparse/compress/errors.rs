//! What a compressed matrix makes of the weights: errors of every row, from what is stored.

use rayon::prelude::*;

use super::calibration::Importance;
use super::outliers::Found;
use super::weights::Weights;
use crate::group_sparse::format::Matrix;

/// Sums over elements, of a row or of all.
#[derive(Clone, Copy, Default)]
pub(super) struct Errors {
    /// Σ w².
    pub energy: f64,
    /// Σ (w - What)² where groups are pruned, where they are quantized, and where outliers lie.
    pub pruned: f64,
    pub quantized: f64,
    pub outlier: f64,
    /// Σ (w - What)ᵀ H (w - What) and Σ wᵀ H w, up to a factor; h where there is no H.
    pub weighted: f64,
    pub weighted_energy: f64,
    /// The largest |w - What|, and the first column where it is.
    pub largest: f64,
    pub column: usize,
}

impl Errors {
    /// Σ (w - What)².
    pub fn squares(&self) -> f64 {
        self.pruned + self.quantized + self.outlier
    }
}

/// Rows that H is read for at once.
const BLOCK: usize = 8;

/// The errors of every row.
pub(super) fn of_rows(
    weights: &Weights<'_>,
    matrix: &Matrix,
    outliers: &Found,
    importance: &Importance<'_>,
) -> Vec<Errors> {
    let of_block = |block: usize| {
        let rows = block * BLOCK..((block + 1) * BLOCK).min(weights.rows);
        let mut values = Vec::new();
        let mut parts = Vec::with_capacity(rows.len());
        for row in rows {
            weights.load(row, &mut values);
            let values: Vec<f64> = values.iter().map(|&w| f64::from(w)).collect();
            let (mut errors, differences) = of_row(&values, matrix, row, outliers.row(row));
            if let Some(h) = importance.h.as_ref().filter(|_| importance.hessian.is_none()) {
                errors.weighted = diagonal(h, &differences);
                errors.weighted_energy = diagonal(h, &values);
            }
            parts.push((errors, differences, values));
        }
        if let Some(hessian) = importance.hessian {
            for i in 0..weights.columns {
                for (errors, differences, values) in &mut parts {
                    errors.weighted += hessian.term(i, differences);
                    errors.weighted_energy += hessian.term(i, values);
                }
            }
        }
        parts.into_iter().map(|(errors, ..)| errors).collect::<Vec<_>>()
    };
    let blocks = (0..weights.rows.div_ceil(BLOCK)).into_par_iter();
    blocks.map(of_block).collect::<Vec<_>>().concat()
}

fn diagonal(h: &[f64], e: &[f64]) -> f64 {
    h.iter().zip(e).map(|(h, e)| h * (e * e)).sum()
}

/// The sums of a row, and its differences w - What.
fn of_row(values: &[f64], matrix: &Matrix, row: usize, outliers: &[u32]) -> (Errors, Vec<f64>) {
    let format = matrix.format();
    let mut differences = values.to_vec();
    let mut is_kept = vec![false; values.len()];
    for kept in matrix.row(row) {
        let coding = matrix.coding(row, kept);
        for (element, column) in format.group_columns(matrix.column_group(kept)).enumerate() {
            differences[column] -= coding.exact(matrix.code(kept, element));
            is_kept[column] = true;
        }
    }
    for (column, value) in matrix.outliers(row) {
        differences[column] -= f64::from(value);
    }
    let mut errors = Errors::default();
    let mut outliers = outliers.iter().peekable();
    for (column, (&w, &e)) in values.iter().zip(&differences).enumerate() {
        errors.energy += w * w;
        let sum = match outliers.next_if(|&&outlier| outlier as usize == column) {
            Some(_) => &mut errors.outlier,
            None if is_kept[column] => &mut errors.quantized,
            None => &mut errors.pruned,
        };
        *sum += e * e;
        if e.abs() > errors.largest {
            (errors.largest, errors.column) = (e.abs(), column);
        }
    }
    (errors, differences)
}
