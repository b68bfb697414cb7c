//! Kept weights that make up for pruned ones, row by row:
//!
//! ```text
//! v = argmin (w - v)ᵀ H (w - v)   with v = 0 where w is pruned;   H_AA v_A = H_A: w
//! ```
//!
//! by conjugate gradients from w_A on, with H damped: λ mean(diag H) is added to its diagonal.
//! Outliers are exact whatever else is done; they take no part.

use std::ops::Range;

use super::calibration::Hessian;
use super::lanes::{dot, dot_within};
use super::quantize::{Quantized, Quantizer};
use super::row::Row;
use super::rows::Refit;

/// λ.
const DAMPING: f64 = 0.01;
const STEPS: usize = 50;
/// The residual to stop at, relative to H_A: w.
const RESIDUAL: f64 = 1e-4;

/// The refitted row; `None` where nothing is to be gained. `kept` are the columns of kept groups.
pub(super) fn refitted(
    hessian: Hessian<'_>,
    row: Row<'_>,
    kept: &[Range<usize>],
) -> Option<Vec<f32>> {
    let mut weights: Vec<f64> = row.values.iter().map(|&w| f64::from(w)).collect();
    row.outliers.iter().for_each(|&outlier| weights[outlier as usize] = 0.0);
    let system = System::new(hessian, row, kept);
    let mut pruned = weights.clone();
    kept.iter().for_each(|range| pruned[range.clone()].fill(0.0));
    // The kept weights, as they are, leave what the pruned ones did.
    let residual = system.of_kept(|i| dot(hessian.row(i), &pruned));
    let right = system.of_kept(|i| dot(hessian.row(i), &weights) + system.damping * weights[i]);
    let change = system.solve(residual, RESIDUAL * RESIDUAL * dot(&right, &right))?;
    let mut values = row.values.to_vec();
    for &i in &system.columns {
        values[i] = (weights[i] + change[i]) as f32;
    }
    values.iter().all(|value| value.is_finite()).then_some(values)
}

/// H_AA, damped. Vectors have a place for every column, and are 0 where it is not of A.
struct System<'a> {
    hessian: Hessian<'a>,
    damping: f64,
    kept: &'a [Range<usize>],
    /// A: columns of kept groups without outliers.
    columns: Vec<usize>,
    /// All columns.
    count: usize,
}

impl<'a> System<'a> {
    fn new(hessian: Hessian<'a>, row: Row<'_>, kept: &'a [Range<usize>]) -> Self {
        let is_outlier = |column: usize| row.outliers.binary_search(&(column as u32)).is_ok();
        let columns = kept.iter().cloned().flatten().filter(|&column| !is_outlier(column));
        Self {
            hessian,
            damping: DAMPING * hessian.mean(),
            kept,
            columns: columns.collect(),
            count: row.values.len(),
        }
    }

    /// The vector of these components.
    fn of_kept(&self, component: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut vector = vec![0.0; self.count];
        self.columns.iter().for_each(|&i| vector[i] = component(i));
        vector
    }

    /// The solution for this right side, up to a squared residual; `None` where no step is needed.
    fn solve(&self, mut residual: Vec<f64>, limit: f64) -> Option<Vec<f64>> {
        let mut square = dot(&residual, &residual);
        if square <= limit {
            return None;
        }
        let mut solution = vec![0.0; self.count];
        let mut direction = residual.clone();
        for _ in 0..STEPS {
            let image = self.of_kept(|i| {
                let product = dot_within(self.kept, self.hessian.row(i), &direction);
                product + self.damping * direction[i]
            });
            let curvature = dot(&direction, &image);
            if curvature <= 0.0 {
                break;
            }
            let step = square / curvature;
            let before = square;
            for &i in &self.columns {
                solution[i] += step * direction[i];
                residual[i] -= step * image[i];
            }
            square = dot(&residual, &residual);
            if square <= limit {
                break;
            }
            for &i in &self.columns {
                direction[i] = residual[i] + square / before * direction[i];
            }
        }
        Some(solution)
    }
}

/// Quantizes a row as it is and refitted, and takes what has the smaller error eᵀ H e.
pub(super) fn quantize(
    quantizer: &Quantizer<'_>,
    hessian: Hessian<'_>,
    row: Row<'_>,
    kept: &[u32],
) -> (Quantized, Refit) {
    let quantized = |values: &[f32]| {
        let mut errors: Vec<f64> = row.values.iter().map(|&w| f64::from(w)).collect();
        row.outliers.iter().for_each(|&outlier| errors[outlier as usize] = 0.0);
        let decoded = |column: usize, number: f64| errors[column] -= number;
        let quantized = quantizer.quantize(Row { values, ..row }, kept, decoded);
        (quantized, hessian.quadratic(&errors))
    };
    let (plain, before) = quantized(row.values);
    let columns = |&group: &u32| quantizer.format.group_columns(group as usize);
    let kept_columns: Vec<Range<usize>> = kept.iter().map(columns).collect();
    let unchanged = Refit { rows: 0, dropped: 0, before, after: before };
    let Some(values) = refitted(hessian, row, &kept_columns) else { return (plain, unchanged) };
    // Scales of the row as it was decided on the storage of all.
    let is_held = quantizer.beyond_storage(Row { values: &values, ..row }, kept).is_none();
    match is_held.then(|| quantized(&values)).filter(|(_, after)| *after < before) {
        Some((better, after)) => (better, Refit { rows: 1, after, ..unchanged }),
        None => (plain, Refit { dropped: 1, ..unchanged }),
    }
}
