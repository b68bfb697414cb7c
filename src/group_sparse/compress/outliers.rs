//! Elements that lie far from the mean, to be stored apart:
//!
//! ```text
//! |w - μ| >= n σ
//! ```
//!
//! with μ the mean and σ the deviation (of the population) of the matrix or of the row.

use rayon::prelude::*;

use super::options::{OutlierRule, Scope};
use super::weights::Weights;

/// Where the outliers lie, and what made them.
#[derive(Default)]
pub(super) struct Found {
    /// The columns of each row, ascending.
    columns: Vec<Vec<u32>>,
    /// Mean and deviation of the matrix, where they are those of the rule.
    pub moments: Option<(f64, f64)>,
    /// Whether there were more than the rule allows.
    pub capped: bool,
}

impl Found {
    /// The outliers of a row.
    pub fn row(&self, row: usize) -> &[u32] {
        self.columns.get(row).map_or(&[], Vec::as_slice)
    }

    pub fn count(&self) -> usize {
        self.columns.iter().map(Vec::len).sum()
    }
}

/// An element, with its distance from the mean.
struct Far {
    distance: f64,
    row: u32,
    column: u32,
}

/// The outliers by this rule.
pub(super) fn find(weights: &Weights<'_>, rule: &OutlierRule) -> Found {
    let (moments, mut far) = match rule.scope {
        Scope::Tensor => {
            let moments = of_matrix(weights);
            (Some(moments), weights.map(|row, values| beyond(row, values, moments, rule.n_sigma)))
        }
        Scope::Row => {
            let far = |row, values: &[f32]| beyond(row, values, of_row(values), rule.n_sigma);
            (None, weights.map(far))
        }
    };
    let most = (rule.max_fraction * (weights.rows as f64 * weights.columns as f64)) as usize;
    let capped = far.iter().map(Vec::len).sum::<usize>() > most;
    if capped {
        far = vec![farthest(far, most)];
    }
    let mut columns = vec![Vec::new(); weights.rows];
    for far in far.into_iter().flatten() {
        columns[far.row as usize].push(far.column);
    }
    Found { columns, moments, capped }
}

/// So many of the farthest, of equals the first ones; in the order of the matrix.
fn farthest(far: Vec<Vec<Far>>, count: usize) -> Vec<Far> {
    let mut far: Vec<Far> = far.into_iter().flatten().collect();
    let place = |far: &Far| (far.row, far.column);
    far.par_sort_unstable_by(|a, b| {
        b.distance.total_cmp(&a.distance).then_with(|| place(a).cmp(&place(b)))
    });
    far.truncate(count);
    far.par_sort_unstable_by_key(place);
    far
}

/// Mean and deviation of all elements: sums of rows, then of these.
fn of_matrix(weights: &Weights<'_>) -> (f64, f64) {
    let count = weights.rows as f64 * weights.columns as f64;
    let mean = weights.map(|_, row| sum(row)).into_iter().sum::<f64>() / count;
    let squares = weights.map(|_, row| squares(row, mean)).into_iter().sum::<f64>();
    (mean, (squares / count).sqrt())
}

fn of_row(row: &[f32]) -> (f64, f64) {
    let count = row.len() as f64;
    let mean = sum(row) / count;
    (mean, (squares(row, mean) / count).sqrt())
}

fn sum(row: &[f32]) -> f64 {
    row.iter().map(|&w| f64::from(w)).sum()
}

fn squares(row: &[f32], mean: f64) -> f64 {
    let square = |&w: &f32| {
        let distance = f64::from(w) - mean;
        distance * distance
    };
    row.iter().map(square).sum()
}

/// The elements at least so many deviations from the mean; none where all are equal.
fn beyond(row: usize, values: &[f32], (mean, deviation): (f64, f64), n: f64) -> Vec<Far> {
    let limit = n * deviation;
    let far = |(column, &w): (usize, &f32)| {
        let distance = (f64::from(w) - mean).abs();
        let is_far = limit > 0.0 && distance >= limit;
        is_far.then_some(Far { distance, row: row as u32, column: column as u32 })
    };
    values.iter().enumerate().filter_map(far).collect()
}
