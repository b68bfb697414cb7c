//! Dispatches that decode rows.

use std::ops::Range;

use super::held::{OutlierPart, Part};
use super::{ABSENT, Held, grid, kind, recorded, rows_at_once, stride, word, words_of_row};
use crate::Result;
use crate::backend::wgpu::{Placed, Recorder, Slice, Wgpu};
use crate::group_sparse::kernels::{DecompressWgsl, DecompressWgslParams};
use crate::tensor::View;

/// Decodes rows into a tensor of as many.
pub(super) fn launch(
    device: &Wgpu,
    held: &Held,
    rows: Range<usize>,
    dense: &View<Wgpu>,
) -> Result<()> {
    let at_once = rows_at_once(device, dense);
    recorded(device, DecompressWgsl::VARIANTS[0].info.name, |recorder| {
        for part in &held.parts {
            for outliers in &held.outliers {
                let both = common(&common(&part.rows, &outliers.rows), &rows);
                for first in both.clone().step_by(at_once) {
                    let own = first..both.end.min(first + at_once);
                    let to = dense.narrowed(0, own.start - rows.start..own.end - rows.start)?;
                    Launch { device, held, part, outliers, rows: own }.record(recorder, &to)?;
                }
            }
        }
        Ok(())
    })
}

/// What two ranges have in common.
fn common(left: &Range<usize>, right: &Range<usize>) -> Range<usize> {
    left.start.max(right.start)..left.end.min(right.end)
}

/// Rows of one part, and of one part of the outliers.
struct Launch<'a> {
    device: &'a Wgpu,
    held: &'a Held,
    part: &'a Part,
    outliers: &'a OutlierPart,
    rows: Range<usize>,
}

impl Launch<'_> {
    fn record(&self, recorder: &mut Recorder<'_>, dense: &View<Wgpu>) -> Result<()> {
        let Self { device, held, part, outliers, rows } = self;
        let geometry = held.geometry;
        let words = words_of_row(dense.dtype(), held.format.columns);
        let count = rows.len() * words;
        let to = Placed::of(device, dense);
        let params = DecompressWgslParams {
            count: word(device, "words", count)?,
            words: word(device, "words of a row", words)?,
            first_row: word(device, "rows", rows.start - part.rows.start)?,
            columns: word(device, "columns", held.format.columns)?,
            bits: geometry.bits,
            group: geometry.group as u32,
            chunk: geometry.chunk as u32,
            segment: geometry.segment as u32,
            rows_at: word(device, "places", part.rows_at())?,
            columns_at: word(device, "places", part.columns_at())?,
            column_bytes: held.column_bytes,
            mode: held.mode(),
            kind: kind(held.scale_dtype),
            has_inverse: held.permutation.is_some().into(),
            outliers_at: word(device, "rows", rows.start - outliers.rows.start)?,
            outlier_columns_at: word(device, "outliers", outliers.columns_at())?,
            values_at: word(device, "outliers", outliers.values_at())?,
            value_kind: held.outlier_dtype.map_or(ABSENT, kind),
            dense_kind: kind(dense.dtype()),
            dense_at: to.at,
            dense_stride: stride(device, dense)?,
        };
        let [codes, high, places, scales, beside] = part.slices();
        // Bound in place of what is absent.
        let permutation = held.permutation.as_ref();
        let inverse = permutation.map_or(codes, |permutation| Slice::whole(&permutation.inverse));
        let outliers = outliers.buffer.as_ref().map_or(codes, Slice::whole);
        let variant = &DecompressWgsl::VARIANTS[0];
        let grid = grid(device, count.div_ceil(variant.info.block[0] as usize))?;
        let dense = to.slice;
        DecompressWgsl { params, codes, high, places, scales, beside, inverse, outliers, dense }
            .record(recorder, variant, grid)
    }
}
