//! The forward pass on the CPU: online softmax over tiles of keys.
//!
//! A task has a tile of rows, queries of the heads that share keys, and goes through the tiles of
//! keys that some of them see:
//!
//! ```text
//! s = q kᵀ,  m' = max(m, s),  p = 2^{s - m'},  l = l 2^{m - m'} + Σ p,  w = w 2^{m - m'} + p v
//! ```

use std::f32::consts::LN_2;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::keys::{Form, Packed};
use super::parts::{Ends, PartTargets, Parts, Written};
use super::scores::{Query, Scores, largest, weights, within};
use super::tensors::{PANEL, Source, padded, read};
use crate::Result;
use crate::attention::check::Sequence;
use crate::attention::plan::{self, CPU_KEYS};
use crate::attention::{Inputs, Options, OutputsMut, Plan, Problem};
use crate::backend::Cpu;
use crate::backend::cpu::aligned::Aligned;
use crate::backend::cpu::product::{LANES, Left, Right, Sums, multiply};
use crate::element::DeviceFloat;

/// Numbers between rows of scores: no power of two, so that a column of them does not fall into
/// few sets of a cache.
pub(super) const LINE: usize = CPU_KEYS + LANES;

/// Runs the pass. The tensors have been checked.
pub(super) fn run<T: DeviceFloat>(
    plan: &Plan,
    problem: &Problem,
    inputs: &Inputs<'_, Cpu, T>,
    options: &Options,
    outputs: &OutputsMut<'_, Cpu, T>,
) -> Result<()> {
    let layout = options.layout;
    let sequences = problem.read_sequences(inputs)?;
    let (q, k, v) = (inputs.q.read()?, inputs.k.read()?, inputs.v.read()?);
    let bias = read(inputs.bias.map(|bias| bias.view()))?;
    let lines = outputs.lines(layout)?;
    let mut written = Written::new(&lines)?;
    let sink = inputs.sink.map(|sink| sink.to_f32()).transpose()?;
    let ends = written.ends(options.accumulate, sink)?;
    let tile = plan::Tile::of_cpu(problem);
    let sizes = [problem.batch, problem.kv_heads, problem.keys];
    let shared = problem.queries > tile.queries || problem.group() > tile.heads;
    let packed = |name, bytes, view, form| -> Result<Packed<'_, T>> {
        Ok(Packed::new(Source::new(name, bytes, view, layout)?, form, sizes, shared))
    };
    let splits = plan.splits as usize;
    let mut parts = Parts::new(problem, splits);
    let pass = Forward {
        problem,
        scores: Scores::new(problem, inputs, options, bias.as_deref())?,
        queries: Source::new("q", &q, inputs.q, layout)?,
        keys: packed("k", &k, inputs.k, Form::Panels)?,
        values: packed("v", &v, inputs.v, Form::Lines)?,
        parts: (splits > 1).then(|| parts.targets()),
        ends: &ends,
    };
    let arch = Arch::new();
    tasks(problem, &sequences, tile, splits)
        .into_par_iter()
        .for_each_init(Scratch::default, |scratch, task| {
            arch.dispatch(Tile { pass: &pass, task, scratch })
        });
    if splits > 1 {
        parts.merge(&ends);
    }
    Ok(())
}

/// A call.
struct Forward<'a, T> {
    problem: &'a Problem,
    scores: Scores<'a, T>,
    queries: Source<'a, T>,
    keys: Packed<'a, T>,
    values: Packed<'a, T>,
    parts: Option<PartTargets<'a>>,
    ends: &'a Ends<'a, T>,
}

/// Rows of a sequence, and a part of its keys.
struct Task<'a> {
    sequence: &'a Sequence,
    kv_head: usize,
    heads: Range<usize>,
    queries: Range<usize>,
    part: usize,
    /// Of the batch entry.
    keys: Range<usize>,
}

impl<'a> Task<'a> {
    fn rows(&self) -> usize {
        self.heads.len() * self.queries.len()
    }

    /// The query of a row.
    fn query(&self, row: usize) -> Query<'a> {
        let Self { sequence, heads, queries, .. } = self;
        let (head, token) = (row / queries.len(), row % queries.len());
        Query { sequence, head: heads.start + head, token: queries.start + token }
    }
}

/// All tasks, later queries first: under a causal mask they take the longest.
fn tasks<'a>(
    problem: &Problem,
    sequences: &'a [Sequence],
    tile: plan::Tile,
    splits: usize,
) -> Vec<Task<'a>> {
    let group = problem.group();
    let mut tasks = Vec::new();
    for (sequence, kv_head) in sequences
        .iter()
        .flat_map(|sequence| (0..problem.kv_heads).map(move |head| (sequence, head)))
    {
        let starts = (0..sequence.queries.len()).step_by(tile.queries).rev();
        for (query, head) in
            starts.flat_map(|query| (0..group).step_by(tile.heads).map(move |head| (query, head)))
        {
            let heads = kv_head * group + head..kv_head * group + (head + tile.heads).min(group);
            let queries = query..(query + tile.queries).min(sequence.queries.len());
            tasks.extend((0..splits).map(|part| Task {
                sequence,
                kv_head,
                heads: heads.clone(),
                queries: queries.clone(),
                part,
                keys: keys_of_part(&sequence.keys, part, splits),
            }));
        }
    }
    tasks
}

/// The keys of a part, cut between tiles of the batch entry.
pub(super) fn keys_of_part(keys: &Range<usize>, part: usize, parts: usize) -> Range<usize> {
    let tiles = keys.start / CPU_KEYS..keys.end.div_ceil(CPU_KEYS);
    let cut = |part: usize| {
        let tile = tiles.start + tiles.len() * part / parts;
        (tile * CPU_KEYS).clamp(keys.start, keys.end)
    };
    cut(part)..cut(part + 1)
}

/// Keys in the pieces that tiles of the batch entry cut them into.
pub(super) fn tiles(keys: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let first = keys.start / CPU_KEYS;
    let beyond = if keys.is_empty() { first } else { keys.end.div_ceil(CPU_KEYS) };
    (first..beyond)
        .map(move |tile| keys.start.max(tile * CPU_KEYS)..keys.end.min((tile + 1) * CPU_KEYS))
}

/// Keys in whole panels.
pub(super) fn whole_panels(keys: &Range<usize>) -> Range<usize> {
    keys.start / PANEL * PANEL..keys.end.next_multiple_of(PANEL)
}

/// Products of rows with keys that lie in panels, from the first of them on.
#[inline(always)]
pub(super) fn multiply_panels<S: Simd>(
    simd: S,
    rows: usize,
    left: &[f32],
    (line, width): (usize, usize),
    panels: &[f32],
    scores: &mut [f32],
) {
    let left = Left::Rows { values: left, line };
    for (i, panel) in panels.chunks_exact(width * PANEL).enumerate() {
        let right = Right { values: panel, line: PANEL };
        let sums = &mut Sums { values: &mut scores[i * PANEL..], line: LINE, add: false };
        multiply(simd, [rows, PANEL, width], left, right, sums);
    }
}

/// What a thread keeps between its tasks.
#[derive(Default)]
struct Scratch {
    queries: Aligned,
    scores: Aligned,
    /// w, a line for each row.
    sums: Aligned,
    keys: Aligned,
    values: Aligned,
}

/// m and l of a row.
#[derive(Clone, Copy)]
struct Softmax {
    most: f32,
    sum: f32,
}

/// A task at work.
struct Tile<'a, 'b, T> {
    pass: &'a Forward<'b, T>,
    task: Task<'a>,
    scratch: &'a mut Scratch,
}

impl<T: DeviceFloat> WithSimd for Tile<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let problem = self.pass.problem;
        let Task { sequence, queries, keys, .. } = &self.task;
        let rows = self.task.rows();
        self.scratch.queries.resize(rows * problem.width);
        for row in 0..rows {
            let query = self.task.query(row);
            let line = &mut self.scratch.queries[row * problem.width..][..problem.width];
            self.pass.queries.line(query.place(), query.row(), line);
        }
        self.scratch.scores.resize(rows * LINE);
        self.scratch.sums.reset(rows * padded(problem.value_width));
        let mut softmax = vec![Softmax { most: f32::NEG_INFINITY, sum: 0.0 }; rows];
        let seen = within(sequence, sequence.sight.keys_of_any(queries.clone()), keys);
        for keys in tiles(seen) {
            self.advance(simd, keys, &mut softmax);
        }
        for (row, softmax) in softmax.into_iter().enumerate() {
            self.finish(row, softmax);
        }
    }
}

impl<T: DeviceFloat> Tile<'_, '_, T> {
    /// Takes in keys of one tile.
    #[inline(always)]
    fn advance<S: Simd>(&mut self, simd: S, keys: Range<usize>, softmax: &mut [Softmax]) {
        let Forward { problem, .. } = *self.pass;
        let (rows, place) = (self.task.rows(), [self.task.sequence.batch, self.task.kv_head]);
        let columns = whole_panels(&keys);
        let end = columns.end.min(problem.keys);
        let Scratch { queries, scores, keys: panels, .. } = &mut *self.scratch;
        let panels = self.pass.keys.tokens(place, columns.start..end, panels);
        let width = problem.width;
        multiply_panels(simd, rows, queries, (width, width), panels, scores);
        for (row, softmax) in softmax.iter_mut().enumerate() {
            self.weigh(simd, row, &keys, &columns, softmax);
        }
        let Scratch { scores, values, sums, .. } = &mut *self.scratch;
        let (before, line) = (keys.start - columns.start, padded(problem.value_width));
        let values = self.pass.values.tokens(place, columns.start..end, values);
        let right = Right { values: &values[before * line..], line };
        let left = Left::Rows { values: &scores[before..], line: LINE };
        let sums = &mut Sums { values: sums, line, add: true };
        multiply(simd, [rows, line, keys.len()], left, right, sums);
    }

    /// Makes weights of a row's products, and rescales what it has.
    #[inline(always)]
    fn weigh<S: Simd>(
        &mut self,
        simd: S,
        row: usize,
        keys: &Range<usize>,
        columns: &Range<usize>,
        softmax: &mut Softmax,
    ) {
        let query = self.task.query(row);
        let seen = query.keys(keys);
        let (line, sums) = (padded(self.pass.problem.value_width), &mut self.scratch.sums);
        let scores = &mut self.scratch.scores[row * LINE..][..columns.len()];
        if seen.is_empty() {
            return scores.fill(0.0);
        }
        self.pass.scores.row(simd, scores, query, (columns.start, seen), None);
        let most = largest(simd, scores, softmax.most);
        let reference = if most == f32::NEG_INFINITY { 0.0 } else { most };
        let kept = (softmax.most - reference).exp2();
        let sum = weights(simd, scores, reference);
        *softmax = Softmax { most, sum: softmax.sum.mul_add(kept, sum) };
        if kept != 1.0 {
            let kept = simd.splat_f32s(kept);
            for x in S::as_mut_simd_f32s(&mut sums[row * line..][..line]).0 {
                *x = simd.mul_f32s(*x, kept);
            }
        }
    }

    /// Hands on what a row has.
    #[inline(always)]
    fn finish(&mut self, row: usize, Softmax { most, sum }: Softmax) {
        let width = self.pass.problem.value_width;
        let out = &mut self.scratch.sums[row * padded(width)..][..width];
        // Nothing was seen, or nothing but scores of -∞; the largest of NaN and these is -∞ too, but
        // the sum is NaN then.
        let lse = if most == f32::NEG_INFINITY && sum == 0.0 {
            out.fill(0.0);
            most
        } else {
            out.iter_mut().for_each(|x| *x /= sum);
            most.mul_add(LN_2, sum.ln())
        };
        let query = self.task.query(row);
        // SAFETY: a task has rows of its own, of one part.
        unsafe {
            match &self.pass.parts {
                Some(parts) => parts.leave(self.pass.problem, self.task.part, query, out, lse),
                None => self.pass.ends.finish(query.place(), query.row(), out, lse),
            }
        }
    }
}
