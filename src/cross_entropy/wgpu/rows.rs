//! Dispatches of what reads rows of logits, given or computed.

use std::ops::Range;

use super::{find, grid, word};
use crate::Result;
use crate::backend::Backend;
use crate::backend::kernel::VariantInfo;
use crate::backend::wgpu::{Placed, Recorder, Slice, Wgpu, WgpuBuffer, workgroups};
use crate::cross_entropy::kernels::{
    CombineWgsl, CombineWgslParams, GradientWgsl, GradientWgslParams, StatisticsWgsl,
    StatisticsWgslParams,
};
use crate::cross_entropy::plan::part_columns;
use crate::cross_entropy::{NAME, Options, Plan, Problem, Reduction, STATISTICS};
use crate::element::DType;
use crate::tensor::View;

/// Rows of logits, or of their gradients.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    /// (T, columns).
    view: View<Wgpu>,
    stride: u32,
}

impl Lines {
    pub fn of(device: &Wgpu, view: &View<Wgpu>) -> Result<Self> {
        let stride = if view.shape()[0] > 1 { view.strides()[0] } else { 0 };
        Ok(Self { view: view.clone(), stride: word(device, "elements of a row", stride)? })
    }

    /// Computed logits: rows of so many numbers in a buffer.
    pub fn computed(
        device: &Wgpu,
        buffer: &WgpuBuffer,
        shape: [usize; 2],
        line: usize,
    ) -> Result<Self> {
        let strides = [line, 1];
        let view = View::from_buffer(device, buffer.clone(), DType::F32, 0, &shape, &strides)?;
        Self::of(device, &view)
    }

    /// Rows that one binding holds.
    fn at_once(&self, device: &Wgpu) -> usize {
        let row = u64::from(self.stride) * self.view.dtype().bytes() as u64;
        // A binding begins at a boundary below its first element.
        let most = device.limits().binding_bytes.saturating_sub(256);
        usize::try_from(most / row.max(1)).unwrap_or(usize::MAX).max(1)
    }

    fn part(&self, rows: &Range<usize>) -> Result<View<Wgpu>> {
        self.view.narrowed(0, rows.clone())
    }
}

/// A call whose rows are read.
pub(super) struct Rows<'a> {
    pub device: &'a Wgpu,
    pub plan: &'a Plan,
    pub problem: &'a Problem,
    pub options: &'a Options,
    /// The targets as columns.
    pub columns: &'a WgpuBuffer,
}

/// Rows that a dispatch takes, as its kernel is told of them.
struct Taken {
    rows: Range<usize>,
    count: u32,
    first: u32,
    workgroups: u32,
    grid: [u32; 3],
}

impl Rows<'_> {
    /// What some columns tell of each token, into parts from the part `first` on.
    pub fn record_statistics(
        &self,
        recorder: &mut Recorder<'_>,
        columns: Range<usize>,
        logits: &Lines,
        statistics: Placed<'_>,
        first: usize,
    ) -> Result<()> {
        let device = self.device;
        let named = |info: &VariantInfo| info.name == self.plan.variant;
        let variant = find(device, StatisticsWgsl::VARIANTS, named)?;
        let first = word(device, "statistics", first * self.problem.tokens * STATISTICS)?;
        for taken in self.taken(variant.info, logits.at_once(device))? {
            let part = logits.part(&taken.rows)?;
            let placed = Placed::of(device, &part);
            let params = StatisticsWgslParams {
                workgroups: taken.workgroups,
                rows: taken.count,
                first_row: taken.first,
                tokens: word(device, "tokens", self.problem.tokens)?,
                width: word(device, "columns", columns.len())?,
                first: word(device, "columns", self.problem.first + columns.start)?,
                parts: self.plan.parts,
                part_columns: self.part_columns()?,
                logits_at: placed.at,
                logits_stride: logits.stride,
                statistics_at: statistics.at + first,
                softcap: self.options.softcap.unwrap_or(0.0),
            };
            let columns = Slice::whole(self.columns);
            StatisticsWgsl { params, logits: placed.slice, columns, statistics: statistics.slice }
                .record(recorder, variant, taken.grid)?;
        }
        Ok(())
    }

    /// The gradients of the logits of some columns; `upstream` is lse, the loss's gradient and what
    /// that is multiplied with.
    pub fn record_gradient(
        &self,
        recorder: &mut Recorder<'_>,
        columns: Range<usize>,
        [logits, to]: [&Lines; 2],
        [lse, dloss, factor]: [Placed<'_>; 3],
    ) -> Result<()> {
        let device = self.device;
        let named = |info: &VariantInfo| info.name == self.plan.variant;
        let variant = find(device, GradientWgsl::VARIANTS, named)?;
        let smoothing = self.options.label_smoothing;
        let at_once = logits.at_once(device).min(to.at_once(device));
        for taken in self.taken(variant.info, at_once)? {
            let (from, into) = (logits.part(&taken.rows)?, to.part(&taken.rows)?);
            let (from, into) = (Placed::of(device, &from), Placed::of(device, &into));
            let params = GradientWgslParams {
                workgroups: taken.workgroups,
                rows: taken.count,
                first_row: taken.first,
                width: word(device, "columns", columns.len())?,
                first: word(device, "columns", self.problem.first + columns.start)?,
                parts: self.plan.parts,
                part_columns: self.part_columns()?,
                logits_at: from.at,
                logits_stride: logits.stride,
                gradients_at: into.at,
                gradients_stride: to.stride,
                lse_at: lse.at,
                dloss_at: dloss.at,
                dloss_step: (self.problem.reduction == Reduction::None).into(),
                has_factor: (self.problem.reduction == Reduction::Mean).into(),
                softcap: self.options.softcap.unwrap_or(0.0),
                smoothing,
                share: smoothing / self.problem.vocabulary.max(1) as f32,
                z_loss: self.options.z_loss,
            };
            GradientWgsl {
                params,
                logits: from.slice,
                gradients: into.slice,
                columns: Slice::whole(self.columns),
                lse: lse.slice,
                dloss: dloss.slice,
                factor: factor.slice,
            }
            .record(recorder, variant, taken.grid)?;
        }
        Ok(())
    }

    fn part_columns(&self) -> Result<u32> {
        let columns = part_columns(self.plan.columns, self.plan.parts as usize);
        word(self.device, "columns of a part", columns)
    }

    /// The rows of each dispatch.
    fn taken(&self, info: &VariantInfo, at_once: usize) -> Result<Vec<Taken>> {
        let tokens = self.problem.tokens;
        let of_group = info.block[0] / info.number("lanes").unwrap_or(1).max(1);
        let one = |first: usize| {
            let rows = first..tokens.min(first.saturating_add(at_once));
            let units = rows.len() * self.plan.parts as usize;
            let (workgroups, grid) = grid(self.device, units.div_ceil(of_group.max(1) as usize))?;
            let count = word(self.device, "rows", rows.len())?;
            Ok(Taken { first: word(self.device, "rows", first)?, rows, count, workgroups, grid })
        };
        (0..tokens).step_by(at_once).map(one).collect()
    }
}

/// What parts of the columns, or ranks, tell.
pub(super) struct Merge<'a> {
    pub device: &'a Wgpu,
    pub problem: &'a Problem,
    pub options: &'a Options,
    pub statistics: Placed<'a>,
    pub parts: usize,
    pub columns: &'a WgpuBuffer,
}

impl Merge<'_> {
    /// Merges it: into the same of all, or into lse where there is a place for losses.
    pub fn record(
        &self,
        recorder: &mut Recorder<'_>,
        result: Placed<'_>,
        losses: Option<Placed<'_>>,
    ) -> Result<()> {
        if self.problem.tokens == 0 {
            return Ok(());
        }
        let variant = &CombineWgsl::VARIANTS[0];
        let tokens = word(self.device, "tokens", self.problem.tokens)?;
        let grid = workgroups(NAME, self.device, tokens, variant.info.block[0])?;
        let smoothing = self.options.label_smoothing;
        let columns = Slice::whole(self.columns);
        let params = CombineWgslParams {
            tokens,
            parts: word(self.device, "parts", self.parts)?,
            merges: losses.is_none().into(),
            statistics_at: self.statistics.at,
            result_at: result.at,
            losses_at: losses.map_or(0, |losses| losses.at),
            smoothing,
            share: smoothing / self.problem.vocabulary.max(1) as f32,
            z_loss: self.options.z_loss,
        };
        // Bound in place of what is absent.
        let losses = losses.map_or(columns, |losses| losses.slice);
        let (statistics, result) = (self.statistics.slice, result.slice);
        CombineWgsl { params, statistics, columns, result, losses }.record(recorder, variant, grid)
    }
}
