//! What each group of the matrix is worth:
//!
//! ```text
//! Σ_k h_k w_k²       over its elements that are no outliers; h = 1 for `magnitude`
//! ```

use super::lanes::Elements;
use super::options::Options;
use super::outliers::Found;
use super::range::{Ends, Ranges};
use super::row::Row;
use super::weights::Weights;
use crate::group_sparse::format::{Format, ScaleScope};

/// What groups are worth, row by row; (N, ⌈K/G⌉).
pub(super) struct Worth {
    /// Below 0 for groups that count as all zero.
    pub groups: Vec<f64>,
    /// Groups that count as all zero.
    pub zero: u64,
    /// Those of them that are not, but whose scale f32 does not hold.
    pub underflowed: u64,
}

/// What a group is worth that counts as all zero: less than any other.
const NOTHING: f64 = -1.0;

/// What every group is worth.
pub(super) fn of_groups(
    weights: &Weights<'_>,
    outliers: &Found,
    h: Option<&[f64]>,
    format: &Format,
    options: &Options,
    ranges: &Ranges,
) -> Worth {
    let rows = weights.map(|row, values| {
        let row = Row { values, outliers: outliers.row(row) };
        let mut elements = Elements::default();
        let mut underflowed = 0;
        let mut of_group = |group| {
            elements.clear();
            row.gather(format.group_columns(group), h, &mut elements);
            elements.finish();
            let ends = Ends::of(elements.values());
            // With a scale per row a group has none of its own that could underflow.
            let underflows = format.scope == ScaleScope::Group && ranges.underflows(ends);
            underflowed += u64::from(underflows);
            match elements.values().len() {
                _ if ends.is_zero() || underflows => NOTHING,
                count if options.normalize_mean => elements.energy() / count as f64,
                _ => elements.energy(),
            }
        };
        let groups: Vec<f64> = (0..format.column_groups()).map(&mut of_group).collect();
        (groups, underflowed)
    });
    let underflowed = rows.iter().map(|(_, underflowed)| underflowed).sum();
    let groups: Vec<f64> = rows.into_iter().flat_map(|(groups, _)| groups).collect();
    let zero = groups.iter().filter(|&&worth| worth < 0.0).count() as u64;
    Worth { groups, zero, underflowed }
}
