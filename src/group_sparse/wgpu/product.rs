//! Dispatches of a product.

use super::{ABSENT, Held, Kept, grid, kind, recorded, rows_at_once, stride, word, words_of_row};
use crate::Result;
use crate::backend::wgpu::{Placed, Recorder, Slice, Wgpu, refused};
use crate::group_sparse::kernels::{
    FinishWgsl, FinishWgslParams, ProductWgsl, ProductWgslParams, StageWgsl, StageWgslParams,
};
use crate::group_sparse::wgpu::held::OutlierPart;
use crate::group_sparse::{NAME, Plan, Product};
use crate::tensor::View;

/// Runs a product, as many vectors at once as buffers hold.
pub(super) fn launch(
    device: &Wgpu,
    product: &Product<Wgpu>,
    x: &View<Wgpu>,
    bias: Option<&View<Wgpu>>,
    y: &View<Wgpu>,
) -> Result<()> {
    let (plan, kept) = (product.plan(), product.kept());
    let at_once = kept.work.at_once.min(rows_at_once(device, x)).min(rows_at_once(device, y));
    let vectors = x.shape()[0];
    recorded(device, plan.variant, |recorder| {
        for first in (0..vectors).step_by(at_once) {
            let run = first..vectors.min(first + at_once);
            let (x, y) = (x.narrowed(0, run.clone())?, y.narrowed(0, run.clone())?);
            let held = product.weights().held();
            let runs = run.len().div_ceil(plan.vectors);
            Launch { device, held, plan, kept, vectors: run.len(), runs }
                .record(recorder, &x, bias, &y)?;
        }
        Ok(())
    })
}

/// A product with as many vectors as there is room for.
struct Launch<'a> {
    device: &'a Wgpu,
    held: &'a Held,
    plan: &'a Plan,
    kept: &'a Kept,
    vectors: usize,
    /// Runs of as many vectors as the kernel takes.
    runs: usize,
}

impl Launch<'_> {
    fn record(
        &self,
        recorder: &mut Recorder<'_>,
        x: &View<Wgpu>,
        bias: Option<&View<Wgpu>>,
        y: &View<Wgpu>,
    ) -> Result<()> {
        self.record_stage(recorder, x)?;
        self.record_products(recorder)?;
        for outliers in &self.held.outliers {
            self.record_finish(recorder, outliers, bias, y)?;
        }
        Ok(())
    }

    fn record_stage(&self, recorder: &mut Recorder<'_>, x: &View<Wgpu>) -> Result<()> {
        let Self { device, held, kept, .. } = *self;
        let x_of = Placed::of(device, x);
        let permutation = held.permutation.as_ref();
        let count = self.runs * self.plan.vectors * kept.work.staged;
        let params = StageWgslParams {
            count: word(device, "staged numbers", count)?,
            staged: word(device, "columns", kept.work.staged)?,
            columns: word(device, "columns", held.format.columns)?,
            run: self.plan.vectors as u32,
            vectors: self.vectors as u32,
            kind: kind(x.dtype()),
            x_at: x_of.at,
            x_stride: stride(device, x)?,
            has_perm: permutation.is_some().into(),
        };
        let staged = Slice::whole(&kept.staged);
        // Bound in place of what is absent.
        let perm = permutation.map_or(x_of.slice, |permutation| Slice::whole(&permutation.perm));
        let variant = &StageWgsl::VARIANTS[0];
        let grid = grid(device, count.div_ceil(variant.info.block[0] as usize))?;
        StageWgsl { params, x: x_of.slice, perm, staged }.record(recorder, variant, grid)
    }

    fn record_products(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let Self { device, held, kept, plan, .. } = *self;
        let found = ProductWgsl::VARIANTS.iter().find(|one| one.info.name == plan.variant);
        let planned =
            || refused(NAME, device, "a plan that was made for another device".to_owned());
        let variant = found.ok_or_else(planned)?;
        let geometry = held.geometry;
        let row_chunks = geometry.chunks_of_row(held.format.column_groups());
        for (part, shares) in held.parts.iter().zip(&kept.work.of_parts) {
            let count = shares.len() * self.runs;
            let params = ProductWgslParams {
                workgroups: word(device, "workgroups", count)?,
                runs: self.runs as u32,
                first_share: word(device, "shares", shares.start)?,
                line: word(device, "sums", kept.work.line())?,
                heads_at: word(device, "rows", held.format.rows)?,
                staged: word(device, "numbers of x", kept.work.staged * plan.vectors / 4)?,
                tiles: word(device, "tiles", part.tiles)?,
                columns_at: word(device, "places", part.columns_at())?,
                column_bytes: held.column_bytes,
                row_chunks: word(device, "chunks of a row", row_chunks)?,
                step_mask: geometry.segment as u32 / 4 - 1,
                pair_shift: (geometry.segment / 8).ilog2(),
                group_shift: geometry.segments_of_group().ilog2(),
                mode: held.mode(),
                kind: kind(held.scale_dtype),
            };
            let [codes, high, places, scales, beside] = part.slices();
            ProductWgsl {
                params,
                codes,
                high,
                places,
                scales,
                beside,
                plan: Slice::whole(&kept.plan),
                staged: Slice::whole(&kept.staged),
                sums: Slice::whole(&kept.sums),
            }
            .record(recorder, variant, grid(device, count)?)?;
        }
        Ok(())
    }

    fn record_finish(
        &self,
        recorder: &mut Recorder<'_>,
        outliers: &OutlierPart,
        bias: Option<&View<Wgpu>>,
        y: &View<Wgpu>,
    ) -> Result<()> {
        let Self { device, held, kept, .. } = *self;
        let rows = outliers.rows.clone();
        let words = words_of_row(y.dtype(), rows.len());
        let count = self.vectors * words;
        let to = Placed::of(device, y);
        let sums = Slice::whole(&kept.sums);
        let bias_of = bias.map(|bias| Placed::of(device, bias));
        let params = FinishWgslParams {
            count: word(device, "words of y", count)?,
            words: word(device, "words of y", words)?,
            rows: word(device, "rows", rows.len())?,
            first_row: word(device, "rows", rows.start)?,
            run: self.plan.vectors as u32,
            line: word(device, "sums", kept.work.line())?,
            heads_at: word(device, "rows", held.format.rows)?,
            joins_at: word(device, "shares", 4 * kept.work.shares.len())?,
            staged: word(device, "columns", kept.work.staged)?,
            columns_at: word(device, "outliers", outliers.columns_at())?,
            values_at: word(device, "outliers", outliers.values_at())?,
            value_kind: held.outlier_dtype.map_or(ABSENT, kind),
            bias_kind: bias.map_or(ABSENT, |bias| kind(bias.dtype())),
            bias_at: bias_of.map_or(0, |bias| bias.at),
            y_kind: kind(y.dtype()),
            y_at: to.at + word(device, "rows", rows.start)?,
            y_stride: stride(device, y)?,
        };
        // Bound in place of what is absent.
        let bias = bias_of.map_or(sums, |bias| bias.slice);
        let outliers = outliers.buffer.as_ref().map_or(sums, Slice::whole);
        let variant = &FinishWgsl::VARIANTS[0];
        let grid = grid(device, count.div_ceil(variant.info.block[0] as usize))?;
        let (plan, staged) = (Slice::whole(&kept.plan), Slice::whole(&kept.staged));
        FinishWgsl { params, sums, plan, staged, outliers, bias, y: to.slice }
            .record(recorder, variant, grid)
    }
}
