//! How rows end: what parts of the keys gave is merged, with what came before and the sink, and
//! written.

use rayon::prelude::*;

use super::merge::merge_row;
use super::scores::Query;
use super::tensors::{PartSource, Place, Target};
use crate::Result;
use crate::attention::{Layout, MAX_WIDTH, OutputLines, Problem};
use crate::backend::cpu::disjoint::Disjoint;
use crate::backend::{Cpu, WriteGuard};
use crate::element::DeviceFloat;
use crate::tensor::View;

/// The memory of outputs, while rows end there.
pub(super) struct Written<'a> {
    lines: &'a OutputLines<Cpu>,
    out: Option<WriteGuard<'a>>,
    partial: Option<WriteGuard<'a>>,
    lse: WriteGuard<'a>,
}

impl<'a> Written<'a> {
    pub fn new(lines: &'a OutputLines<Cpu>) -> Result<Self> {
        let [out, partial] = [&lines.out, &lines.partial].map(Option::as_ref);
        Ok(Self {
            lines,
            out: out.map(View::write).transpose()?,
            partial: partial.map(View::write).transpose()?,
            lse: lines.lse.write()?,
        })
    }

    /// Where rows end; merged into what is there if `accumulate` says so.
    pub fn ends<T: DeviceFloat>(
        &mut self,
        accumulate: bool,
        sink: Option<Vec<f32>>,
    ) -> Result<Ends<'_, T>> {
        let Self { lines, out, partial, lse } = self;
        let (out, partial) =
            (out.as_mut().zip(lines.out.as_ref()), partial.as_mut().zip(lines.partial.as_ref()));
        let layout = Layout::Bhsd;
        Ok(Ends {
            accumulate,
            sink,
            out: out
                .map(|(bytes, view)| Target::rounded("out", bytes, view, layout))
                .transpose()?,
            partial: partial
                .map(|(bytes, view)| Target::partial("partial", bytes, view, layout))
                .transpose()?,
            lse: Target::partial("lse", lse, &lines.lse, layout)?,
        })
    }
}

/// Where rows end.
pub(super) struct Ends<'a, T> {
    /// Whether rows are merged into what is there.
    accumulate: bool,
    /// (H).
    sink: Option<Vec<f32>>,
    out: Option<Target<'a, T>>,
    partial: Option<Target<'a, T>>,
    lse: Target<'a, T>,
}

/// The number of a query of a head among all.
pub(super) fn number(problem: &Problem, query: Query<'_>) -> usize {
    let [batch, head] = query.place();
    (batch * problem.heads + head) * problem.queries + query.row()
}

impl<T: DeviceFloat> Ends<'_, T> {
    /// Ends a row.
    ///
    /// # Safety
    ///
    /// No other task touches this token of this head.
    pub unsafe fn finish(&self, place: Place, token: usize, out: &mut [f32], mut lse: f32) {
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(partial) = self.partial.as_ref().filter(|_| self.accumulate) {
                let before = &mut [0.0; MAX_WIDTH][..out.len()];
                let mut before_lse = [0.0];
                partial.read(place, token, before);
                self.lse.read(place, token, &mut before_lse);
                merge_row((out, &mut lse), (before, before_lse[0]));
            }
            if let Some(sink) = &self.sink {
                let nothing = &[0.0; MAX_WIDTH][..out.len()];
                merge_row((out, &mut lse), (nothing, sink[place[1]]));
            }
            self.lse.write(place, token, &[lse]);
            for target in [&self.out, &self.partial].into_iter().flatten() {
                target.write(place, token, out);
            }
        }
    }
}

/// Merges the parts of each row in their order, and ends the row. `sizes` are B, H, Sq, N and Dv.
pub(super) fn merge<T: DeviceFloat>(
    sizes: [usize; 5],
    [out, lse]: [PartSource<'_, T>; 2],
    ends: &Ends<'_, T>,
) {
    let [batch, heads, queries, parts, width] = sizes;
    let lines = || [vec![0.0; width], vec![0.0; width]];
    let rows = (0..batch * heads * queries).into_par_iter().with_min_len(LEAST_ROWS);
    rows.for_each_init(lines, |[sum, line], row| {
        let (place, token) = ([row / queries / heads, row / queries % heads], row % queries);
        let (mut sum_lse, mut line_lse) = (f32::NEG_INFINITY, [0.0]);
        sum.fill(0.0);
        for part in 0..parts {
            out.line(part, place, token, line);
            lse.line(part, place, token, &mut line_lse);
            merge_row((sum, &mut sum_lse), (line, line_lse[0]));
        }
        // SAFETY: each row is one task's.
        unsafe { ends.finish(place, token, sum, sum_lse) };
    });
}

/// Rows that are worth a task.
const LEAST_ROWS: usize = 64;

/// What parts of the keys gave, for each query of each head.
pub(super) struct Parts {
    out: Vec<f32>,
    lse: Vec<f32>,
    /// B, H, Sq, parts and Dv.
    sizes: [usize; 5],
}

impl Parts {
    /// Room for so many parts; none where there is but one.
    pub fn new(problem: &Problem, parts: usize) -> Self {
        let &Problem { batch, heads, queries, value_width, .. } = problem;
        let rows = if parts > 1 { parts * batch * heads * queries } else { 0 };
        let sizes = [batch, heads, queries, parts, value_width];
        Self { out: vec![0.0; rows * value_width], lse: vec![0.0; rows], sizes }
    }

    /// To be written by tasks.
    pub fn targets(&mut self) -> PartTargets<'_> {
        let Self { out, lse, sizes } = self;
        PartTargets { out: Disjoint::new(out), lse: Disjoint::new(lse), width: sizes[4] }
    }

    /// Merges the parts of each row in their order, and ends the row.
    pub fn merge<T: DeviceFloat>(&self, ends: &Ends<'_, T>) {
        let [batch, heads, queries, _, width] = self.sizes;
        let rows = [batch, heads, queries];
        let out = PartSource::of_lines(&self.out, rows, width);
        merge(self.sizes, [out, PartSource::of_lines(&self.lse, rows, 1)], ends);
    }
}

/// Where tasks leave what a part of the keys gave.
#[derive(Clone, Copy)]
pub(super) struct PartTargets<'a> {
    out: Disjoint<'a, f32>,
    lse: Disjoint<'a, f32>,
    width: usize,
}

impl PartTargets<'_> {
    /// Leaves a row of a part.
    ///
    /// # Safety
    ///
    /// No other task has this query of this head in this part.
    pub unsafe fn leave(
        &self,
        problem: &Problem,
        part: usize,
        query: Query<'_>,
        out: &[f32],
        lse: f32,
    ) {
        let rows = problem.batch * problem.heads * problem.queries;
        let row = part * rows + number(problem, query);
        // SAFETY: the caller's promise.
        unsafe {
            self.out.write_run(row * self.width, out);
            self.lse.write(row, lse);
        }
    }
}
