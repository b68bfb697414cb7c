//! A row of weights, with the outliers that are not to be looked at.

use std::ops::Range;

use super::lanes::Elements;

/// A row's weights and the columns of its outliers.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub values: &'a [f32],
    pub outliers: &'a [u32],
}

impl<'a> Row<'a> {
    /// The outliers among these columns.
    pub fn outliers_in(&self, columns: &Range<usize>) -> &'a [u32] {
        let below = |end: usize| self.outliers.partition_point(|&column| (column as usize) < end);
        &self.outliers[below(columns.start)..below(columns.end)]
    }

    /// Adds the elements of these columns that are no outliers, with h as their weights.
    pub fn gather(&self, columns: Range<usize>, h: Option<&[f64]>, elements: &mut Elements) {
        let mut add = |part: Range<usize>| {
            elements.extend(&self.values[part.clone()], h.map(|h| &h[part]));
        };
        let mut first = columns.start;
        for &outlier in self.outliers_in(&columns) {
            add(first..outlier as usize);
            first = outlier as usize + 1;
        }
        add(first..columns.end);
    }
}
