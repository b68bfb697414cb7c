//! The codes of a row's kept groups.

use super::lanes::Elements;
use super::range::{Ends, Fit, Ranges};
use super::row::Row;
use crate::group_sparse::format::{Format, Mode, ScaleScope, set_code};

/// How rows become codes.
pub(super) struct Quantizer<'a> {
    pub format: Format,
    pub ranges: Ranges,
    /// How much columns weigh; (K).
    pub h: Option<&'a [f64]>,
}

/// The arrays of a row.
#[derive(Default)]
pub(super) struct Quantized {
    pub codes: Vec<u8>,
    pub scales: Vec<f32>,
    pub zeros: Vec<u8>,
    pub offsets: Vec<f32>,
    /// w - D of the outliers, before it is rounded to their type.
    pub outliers: Vec<f32>,
    /// Elements whose code was clamped.
    pub clipped: u64,
    /// Groups that are not zero, but count as that for a row's scale that f32 does not hold.
    pub underflowed: u64,
}

impl Quantizer<'_> {
    /// Quantizes the kept groups of a row. `decoded` is told the column and the decoded value D
    /// of every element of theirs that is no outlier.
    pub fn quantize(
        &self,
        row: Row<'_>,
        kept: &[u32],
        mut decoded: impl FnMut(usize, f64),
    ) -> Quantized {
        let mut quantized = Quantized {
            outliers: row.outliers.iter().map(|&column| row.values[column as usize]).collect(),
            codes: Vec::with_capacity(kept.len() * self.format.group_bytes()),
            ..Quantized::default()
        };
        let mut elements = Elements::default();
        let mut of_row = None;
        if self.format.scope == ScaleScope::Row {
            self.gather(row, kept, &mut elements);
            let underflows = self.ranges.underflows(Ends::of(elements.values()));
            quantized.underflowed = if underflows { kept.len() as u64 } else { 0 };
            of_row = Some(self.fit(&elements, &mut quantized));
        }
        for &group in kept {
            let fit = of_row.unwrap_or_else(|| {
                self.gather(row, &[group], &mut elements);
                self.fit(&elements, &mut quantized)
            });
            self.encode(row, group as usize, fit, &mut quantized, &mut decoded);
        }
        quantized
    }

    /// The first group, and its scale or offset, that the storage does not hold.
    pub fn beyond_storage(&self, row: Row<'_>, kept: &[u32]) -> Option<(Option<u32>, f32)> {
        let mut elements = Elements::default();
        let mut beyond = |groups: &[u32]| {
            self.gather(row, groups, &mut elements);
            self.ranges.beyond_storage(Ends::of(elements.values()))
        };
        match self.format.scope {
            ScaleScope::Row => beyond(kept).map(|value| (None, value)),
            ScaleScope::Group => {
                kept.iter().find_map(|&group| Some((Some(group), beyond(&[group])?)))
            }
        }
    }

    fn gather(&self, row: Row<'_>, groups: &[u32], elements: &mut Elements) {
        elements.clear();
        for &group in groups {
            row.gather(self.format.group_columns(group as usize), self.h, elements);
        }
        elements.finish();
    }

    /// The fit of the elements, which is noted.
    fn fit(&self, elements: &Elements, quantized: &mut Quantized) -> Fit {
        let fit = self.ranges.fit(elements);
        quantized.scales.push(fit.line.scale);
        match self.format.mode {
            Mode::Sym => {}
            Mode::Asym => quantized.zeros.push(fit.zero),
            Mode::Affine => quantized.offsets.push(fit.line.offset),
        }
        quantized.clipped += elements.clipped(fit.line);
        fit
    }

    fn encode(
        &self,
        row: Row<'_>,
        group: usize,
        fit: Fit,
        quantized: &mut Quantized,
        decoded: &mut impl FnMut(usize, f64),
    ) {
        let columns = self.format.group_columns(group);
        let zero = f32::from(fit.zero);
        let number = |c: f32| f64::from(fit.line.scale) * f64::from(c) + f64::from(fit.line.offset);
        let start = quantized.codes.len();
        quantized.codes.resize(start + self.format.group_bytes(), 0);
        let codes = &mut quantized.codes[start..];
        let mut set = |element, c: f32| {
            set_code(self.format.bits, codes, element, (c + zero) as u8);
        };
        let mut outliers = row.outliers_in(&columns).iter().peekable();
        let mut next = row.outliers.partition_point(|&o| (o as usize) < columns.start);
        for (element, column) in columns.clone().enumerate() {
            let w = row.values[column];
            if outliers.next_if(|&&outlier| outlier as usize == column).is_some() {
                let c = self.nearest_to_zero(fit);
                set(element, c);
                quantized.outliers[next] = (f64::from(w) - number(c)) as f32;
                next += 1;
                continue;
            }
            let c = fit.line.nearest(w);
            set(element, c);
            decoded(column, number(c));
        }
        // Behind the last column.
        let tail = f32::from(self.format.zero_code(fit.zero)) - zero;
        (columns.len()..self.format.group).for_each(|element| set(element, tail));
    }

    /// The code of the number nearest to 0, of equals the lower one.
    fn nearest_to_zero(&self, fit: Fit) -> f32 {
        if self.format.mode != Mode::Affine {
            return 0.0;
        }
        let size = |code: u8| {
            (f64::from(fit.line.scale) * f64::from(code) + f64::from(fit.line.offset)).abs()
        };
        let codes = 0..=self.format.largest_code();
        let best = codes.reduce(|best, code| if size(code) < size(best) { code } else { best });
        f32::from(best.unwrap_or(0))
    }
}
