//! How rows end: what parts of the keys gave is merged, with what came before and the sink, and
//! written.

use rayon::prelude::*;

use super::merge::merge_row;
use super::scores::Query;
use super::tensors::Target;
use crate::attention::check::Sequence;
use crate::attention::{MAX_WIDTH, Problem};
use crate::backend::cpu::disjoint::Disjoint;
use crate::element::DeviceFloat;

/// Where rows end.
pub(super) struct Ends<'a, T> {
    pub problem: &'a Problem,
    /// Whether rows are merged into what is there.
    pub accumulate: bool,
    /// (H).
    pub sink: Option<Vec<f32>>,
    pub out: Option<Target<'a, T>>,
    pub partial: Option<Target<'a, T>>,
    pub lse: Disjoint<'a, f32>,
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
    /// No other task touches this query of this head.
    pub unsafe fn finish(&self, query: Query<'_>, out: &mut [f32], mut lse: f32) {
        let (place, row) = (query.place(), query.row());
        let number = number(self.problem, query);
        // SAFETY: the caller's promise, here and below.
        unsafe {
            if let Some(partial) = self.partial.as_ref().filter(|_| self.accumulate) {
                let before = &mut [0.0; MAX_WIDTH][..out.len()];
                let mut before_lse = [0.0];
                partial.read(place, row, before);
                self.lse.read_run(number, &mut before_lse);
                merge_row((out, &mut lse), (before, before_lse[0]));
            }
            if let Some(sink) = &self.sink {
                let nothing = &[0.0; MAX_WIDTH][..out.len()];
                merge_row((out, &mut lse), (nothing, sink[query.head]));
            }
            self.lse.write(number, lse);
            for target in [&self.out, &self.partial].into_iter().flatten() {
                target.write(place, row, out);
            }
        }
    }
}

/// What parts of the keys gave, for each query of each head.
pub(super) struct Parts {
    out: Vec<f32>,
    lse: Vec<f32>,
    width: usize,
}

impl Parts {
    /// Room for so many parts; none where there is but one.
    pub fn new(problem: &Problem, parts: usize) -> Self {
        let rows = problem.batch * problem.heads * problem.queries;
        let rows = if parts > 1 { parts * rows } else { 0 };
        let width = problem.value_width;
        Self { out: vec![0.0; rows * width], lse: vec![0.0; rows], width }
    }

    /// To be written by tasks.
    pub fn targets(&mut self) -> PartTargets<'_> {
        let Self { out, lse, width } = self;
        PartTargets { out: Disjoint::new(out), lse: Disjoint::new(lse), width: *width }
    }

    /// Merges the parts of each row in their order, and ends the row.
    pub fn merge<T: DeviceFloat>(
        &self,
        problem: &Problem,
        sequences: &[Sequence],
        ends: &Ends<'_, T>,
    ) {
        let rows = problem.batch * problem.heads * problem.queries;
        let heads = sequences.par_iter().flat_map(|sequence| {
            (0..problem.heads).into_par_iter().map(move |head| (sequence, head))
        });
        heads.for_each(|(sequence, head)| {
            for token in 0..sequence.queries.len() {
                let query = Query { sequence, head, token };
                let first = number(problem, query);
                let part = |i: usize| (&self.out[i * self.width..][..self.width], self.lse[i]);
                let (out, mut lse) = part(first);
                let mut out = out.to_vec();
                for i in (first..self.lse.len()).step_by(rows).skip(1) {
                    merge_row((&mut out, &mut lse), part(i));
                }
                // SAFETY: a task for each head of each sequence.
                unsafe { ends.finish(query, &mut out, lse) };
            }
        });
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
