//! The gradients that are sums over what workgroups have left in scratch.

use super::super::{parts::Part, word};
use super::maps::Map;
use super::places::Places;
use super::{Call, for_element};
use crate::Result;
use crate::backend::kernel::common::{SumWgsl, SumWgslParams};
use crate::backend::wgpu::{Recorder, Slice, Wgpu, workgroups};
use crate::element::{DType, DeviceFloat};
use crate::selective_scan::kernels::BackwardWgslParams;
use crate::selective_scan::{GradientsMut, NAME, Problem};
use crate::tensor::View;

/// Parts in scratch of a gradient that is their sum.
struct Sum {
    /// The first word.
    at: u32,
    count: usize,
    /// Words from part to part, and within a part from line to line.
    part_stride: usize,
    line_stride: usize,
    /// Lines in each of two axes, and numbers of a line in two more.
    sizes: [usize; 4],
    /// What is there already counts too.
    goes_on: bool,
}

impl<T: DeviceFloat> Call<'_, T> {
    /// Variable dB and dC of the segment: sums over blocks of channels.
    pub(super) fn record_map_sums(
        &self,
        recorder: &mut Recorder<'_>,
        part: &Part,
        scratch: Slice<'_>,
        walk: &BackwardWgslParams,
    ) -> Result<()> {
        let &Self { problem, gradients, cut, .. } = self;
        let &Problem { states, groups, .. } = problem;
        let maps = [
            (gradients.db.as_deref(), problem.b_constant, walk.db_at),
            (gradients.dc.as_deref(), problem.c_constant, walk.dc_at),
        ];
        for (view, constant, at) in maps {
            let Some(view) = view.filter(|_| !constant) else { continue };
            let batch = part.batch.len();
            let line = cut.length(problem) * states;
            let start = walk.start as usize;
            let sum = Sum {
                at,
                count: cut.blocks.min(cut.side_by_side),
                part_stride: batch * groups * line,
                line_stride: line,
                sizes: [batch, groups, cut.segment.min(problem.steps - start), states],
                goes_on: false,
            };
            let map = Map::of(self, view, part)?;
            let target = Map { at: map.at + walk.start * map.time, ..map };
            self.record_sum(recorder, scratch, &sum, &target, view.dtype())?;
        }
        Ok(())
    }

    /// Sums over the rows.
    pub(super) fn record_sums(
        &self,
        recorder: &mut Recorder<'_>,
        part: &Part,
        scratch: Slice<'_>,
        places: &Places,
        goes_on: bool,
    ) -> Result<()> {
        let &Self { device, problem, gradients, .. } = self;
        let &Problem { states, a_per_channel, .. } = problem;
        let GradientsMut { da, db, dc, dd, ddelta_bias, .. } = gradients;
        let lanes = self.spread.lanes() as usize;
        let sums: [(Option<&View<Wgpu>>, u32, usize); 5] = [
            (da.as_deref().map(|da| &**da), places.da, if a_per_channel { states } else { 1 }),
            (db.as_deref().filter(|_| problem.b_constant), places.map_sums[0], 1),
            (dc.as_deref().filter(|_| problem.c_constant), places.map_sums[1], 1),
            (dd.as_deref().map(|dd| &**dd), places.dd, 1),
            (ddelta_bias.as_deref().map(|bias| &**bias), places.ddelta_bias, lanes),
        ];
        for (view, at, of_row) in sums {
            let Some(view) = view.filter(|view| view.elements() > 0) else { continue };
            let numbers = view.elements();
            let sum = Sum {
                at,
                count: part.rows.len() * of_row,
                part_stride: numbers,
                line_stride: 0,
                sizes: [1, 1, 1, numbers],
                goes_on,
            };
            let slice = Slice::new(view.buffer(), view.byte_range());
            let at = (slice.skipped(device) / 4) as u32;
            let target = Map { slice: Some(slice), at, state: 1, ..Map::ABSENT };
            self.record_sum(recorder, scratch, &sum, &target, DType::F32)?;
        }
        Ok(())
    }

    fn record_sum(
        &self,
        recorder: &mut Recorder<'_>,
        scratch: Slice<'_>,
        sum: &Sum,
        target: &Map<'_>,
        dtype: DType,
    ) -> Result<()> {
        let device = self.device;
        let Some(out) = target.slice else { return Ok(()) };
        let variant = for_element(device, SumWgsl::VARIANTS, dtype)?;
        let [_, lines, steps, width] = sum.sizes;
        let count = word(device, "elements", sum.sizes.iter().product())?;
        let params = SumWgslParams {
            count,
            heads: word(device, "groups", lines)?,
            steps: word(device, "steps", steps)?,
            width: word(device, "elements", width)?,
            parts: word(device, "parts", sum.count)?,
            line_stride: word(device, "elements", sum.line_stride)?,
            part_stride: word(device, "elements", sum.part_stride)?,
            parts_at: sum.at,
            out_at: target.at,
            out_batch: target.batch,
            out_head: target.group,
            out_time: target.time,
            out_width: target.state,
            goes_on: sum.goes_on.into(),
        };
        let grid = workgroups(NAME, device, count, variant.info.block[0])?;
        SumWgsl { params, scratch, out }.record(recorder, variant, grid)
    }
}
