//! Launches of what reads rows of logits, given or computed.

use std::ops::Range;

use crate::Result;
use crate::backend::cuda::{Address, Cuda, Grid, Stream, linear, only, variant, word};
use crate::backend::kernel::VariantInfo;
use crate::cross_entropy::kernels::{CombinePtx, GradientPtx, StatisticsPtx};
use crate::cross_entropy::plan::part_columns;
use crate::cross_entropy::{NAME, Options, Plan, Problem, Reduction, STATISTICS};
use crate::element::Element;
use crate::tensor::{Tensor, View};

/// Rows of logits, or of their gradients: the first element, and elements from row to row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    pub address: Address,
    pub stride: u64,
}

impl From<&View<Cuda>> for Lines {
    fn from(view: &View<Cuda>) -> Self {
        Self { address: Address::of(view), stride: view.strides()[0] as u64 }
    }
}

impl<T: Element> From<&Tensor<Cuda, T>> for Lines {
    fn from(tensor: &Tensor<Cuda, T>) -> Self {
        Self::from(&**tensor)
    }
}

/// A call whose rows are read.
pub(super) struct Rows<'a> {
    pub stream: &'a Stream,
    pub plan: &'a Plan,
    pub problem: &'a Problem,
    pub options: &'a Options,
    /// The targets as columns.
    pub columns: Address,
}

impl Rows<'_> {
    /// What some columns tell of each token, into parts from the part `first` on.
    pub fn statistics(
        &self,
        columns: Range<usize>,
        logits: Lines,
        statistics: Address,
        first: usize,
    ) -> Result<()> {
        let kernel = variant(NAME, StatisticsPtx::VARIANTS, |info| info.name == self.plan.variant)?;
        let part = (self.problem.tokens * STATISTICS * 4) as u64;
        StatisticsPtx {
            logits: logits.address,
            columns: self.columns,
            statistics: statistics.plus(first as u64 * part),
            logits_stride: logits.stride,
            rows: word(self.problem.tokens),
            width: word(columns.len()),
            first: word(self.problem.first + columns.start),
            parts: self.plan.parts,
            part_columns: word(self.part_columns()),
            softcap: self.options.softcap.unwrap_or(0.0),
        }
        .launch(self.stream, kernel, self.grid(kernel.info)?)
    }

    /// The gradients of the logits of some columns; `upstream` is lse, the loss's gradient and what
    /// that is multiplied with.
    pub fn gradient(
        &self,
        columns: Range<usize>,
        [logits, to]: [Lines; 2],
        [lse, dloss, factor]: [Address; 3],
    ) -> Result<()> {
        let kernel = variant(NAME, GradientPtx::VARIANTS, |info| info.name == self.plan.variant)?;
        let smoothing = self.options.label_smoothing;
        GradientPtx {
            logits: logits.address,
            gradients: to.address,
            columns: self.columns,
            lse,
            dloss,
            factor,
            logits_stride: logits.stride,
            gradients_stride: to.stride,
            rows: word(self.problem.tokens),
            width: word(columns.len()),
            first: word(self.problem.first + columns.start),
            parts: self.plan.parts,
            part_columns: word(self.part_columns()),
            dloss_step: (self.problem.reduction == Reduction::None).into(),
            softcap: self.options.softcap.unwrap_or(0.0),
            smoothing,
            share: smoothing / self.problem.vocabulary.max(1) as f32,
            z_loss: self.options.z_loss,
        }
        .launch(self.stream, kernel, self.grid(kernel.info)?)
    }

    fn part_columns(&self) -> usize {
        part_columns(self.plan.columns, self.plan.parts as usize)
    }

    fn grid(&self, info: &VariantInfo) -> Result<Grid> {
        let rows = info.block[0] / info.number("lanes").unwrap_or(1).max(1);
        let units = self.problem.tokens as u64 * u64::from(self.plan.parts);
        linear(NAME, self.stream, units.div_ceil(u64::from(rows.max(1))))
    }
}

/// What parts of the columns, or ranks, tell.
pub(super) struct Merge<'a> {
    pub stream: &'a Stream,
    pub problem: &'a Problem,
    pub options: &'a Options,
    pub statistics: Address,
    pub parts: usize,
    pub columns: Address,
}

impl Merge<'_> {
    /// Merges it: into the same of all, or into lse and losses.
    pub fn launch(&self, merged: Address, lse: Address, losses: Address) -> Result<()> {
        let kernel = only(NAME, CombinePtx::VARIANTS)?;
        let tokens = self.problem.tokens as u64;
        let grid = linear(NAME, self.stream, tokens.div_ceil(u64::from(kernel.info.block[0])))?;
        let smoothing = self.options.label_smoothing;
        CombinePtx {
            statistics: self.statistics,
            columns: self.columns,
            merged,
            lse,
            losses,
            rows: word(self.problem.tokens),
            parts: word(self.parts),
            smoothing,
            share: smoothing / self.problem.vocabulary.max(1) as f32,
            z_loss: self.options.z_loss,
        }
        .launch(self.stream, kernel, grid)
    }
}
