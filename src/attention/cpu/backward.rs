//! The backward pass on the CPU.
//!
//! A task has a part of the keys of a head, and goes through them tile by tile, and for each
//! through the queries that see some of them: dk and dv of a tile of keys are its own, dq is added
//! up over its tiles, and over tasks in their order where there are several.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::bias;
use super::forward::{LINE, keys_of_part, tiles};
use super::rows;
use super::scores::{Query, within};
use super::tensors::{Target, padded};
use super::tile::{Claims, Scratch, Sources, Tile};
use crate::Result;
use crate::attention::check::{CHECK, Sequence};
use crate::attention::plan::CPU_ROWS;
use crate::attention::{GradientsMut, Inputs, Options, Plan, Problem};
use crate::backend::Cpu;
use crate::backend::cpu::aligned::{Aligned, elements_mut};
use crate::backend::cpu::disjoint::Disjoint;
use crate::backend::cpu::product::{Left, Right, Sums, multiply};
use crate::element::DeviceFloat;
use crate::tensor::Tensor;

/// Runs the pass. The tensors have been checked.
pub(super) fn run<T: DeviceFloat>(
    plan: &Plan,
    problem: &Problem,
    inputs: &Inputs<'_, Cpu, T>,
    options: &Options,
    rows: [&Tensor<Cpu, f32>; 2],
    dout: &Tensor<Cpu, T>,
    gradients: &GradientsMut<'_, Cpu, T>,
) -> Result<()> {
    let layout = options.layout;
    let sequences = problem.read_sequences(inputs)?;
    let claims = Claims::of(inputs, rows, dout)?;
    let sources = Sources::new(&claims, problem, inputs, options, dout, inputs.bias.is_some())?;
    let GradientsMut { q, k, v, .. } = gradients;
    let (mut dq, mut dk, mut dv) = (q.view().write()?, k.view().write()?, v.view().write()?);
    let parts = plan.splits as usize;
    let numbers = problem.batch * problem.heads * problem.queries * problem.width;
    let mut partial = vec![0.0; if parts > 1 { parts * numbers } else { 0 }];
    let pass = Backward {
        sources: &sources,
        scale: problem.scale(options) as f32,
        dq: Target::gradient("dq", &mut dq, q, layout)?,
        dk: Target::gradient("dk", &mut dk, k, layout)?,
        dv: Target::gradient("dv", &mut dv, v, layout)?,
        parts: (parts > 1).then(|| Disjoint::new(&mut partial)),
        numbers,
    };
    let arch = Arch::new();
    let tasks = tasks(problem, &sequences, parts);
    tasks.into_par_iter().for_each_init(Room::default, |room, task| {
        arch.dispatch(Run { pass: &pass, task, room });
    });
    if parts > 1 {
        let dq = pass.dq;
        add_parts(problem, &sequences, &partial, numbers, dq);
    }
    if let Some(dbias) = gradients.bias.as_deref() {
        bias::run(&sources, &sequences, dbias)?;
    }
    if let Some((dsink, sink)) = gradients.sink.as_deref().zip(inputs.sink) {
        let mut to = dsink.write()?;
        let to = elements_mut(CHECK, "dsink", &mut to)?;
        rows::sink(problem, &sink.to_f32()?, sources.lse, sources.delta, to);
    }
    Ok(())
}

/// A call.
struct Backward<'a, 'p, T> {
    sources: &'a Sources<'a, T>,
    scale: f32,
    dq: Target<'a, T>,
    dk: Target<'a, T>,
    dv: Target<'a, T>,
    /// dq of each part, (part, B, H, Sq, D).
    parts: Option<Disjoint<'p, f32>>,
    /// Numbers of a part.
    numbers: usize,
}

/// A part of the keys of a head.
struct Task<'a> {
    sequence: &'a Sequence,
    kv_head: usize,
    part: usize,
    /// Of the batch entry.
    keys: Range<usize>,
}

fn tasks<'a>(problem: &Problem, sequences: &'a [Sequence], parts: usize) -> Vec<Task<'a>> {
    let heads = sequences
        .iter()
        .flat_map(|sequence| (0..problem.kv_heads).map(move |kv_head| (sequence, kv_head)));
    let of_head = |(sequence, kv_head): (&'a Sequence, usize)| {
        (0..parts).map(move |part| {
            let keys = keys_of_part(&sequence.keys, part, parts);
            Task { sequence, kv_head, part, keys }
        })
    };
    heads.flat_map(of_head).collect()
}

/// Adds up dq of the parts, in their order.
fn add_parts<T: DeviceFloat>(
    problem: &Problem,
    sequences: &[Sequence],
    partial: &[f32],
    numbers: usize,
    dq: Target<'_, T>,
) {
    let heads = sequences
        .par_iter()
        .flat_map(|sequence| (0..problem.heads).into_par_iter().map(move |head| (sequence, head)));
    heads.for_each(|(sequence, head)| {
        let mut sum = vec![0.0; problem.width];
        for token in 0..sequence.queries.len() {
            let query = Query { sequence, head, token };
            let first = super::parts::number(problem, query) * problem.width;
            sum.fill(0.0);
            for part in partial.chunks_exact(numbers) {
                let part = &part[first..][..problem.width];
                sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
            }
            // SAFETY: a task for each head of each sequence.
            unsafe { dq.write(query.place(), query.row(), &sum) };
        }
    });
}

/// What a thread keeps between its tasks.
#[derive(Default)]
struct Room {
    scratch: Scratch,
    /// Of all queries of the heads that share the keys.
    dq: Aligned,
    dk: Aligned,
    dv: Aligned,
    lines: Aligned,
}

/// A task at work.
struct Run<'a, T> {
    pass: &'a Backward<'a, 'a, T>,
    task: Task<'a>,
    room: &'a mut Room,
}

impl<T: DeviceFloat> WithSimd for Run<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let problem = self.pass.sources.problem;
        let queries = self.task.sequence.queries.len();
        self.room.dq.reset(problem.group() * queries * padded(problem.width));
        for keys in tiles(self.task.keys.clone()) {
            self.tile(simd, keys);
        }
        self.store_queries();
    }
}

impl<T: DeviceFloat> Run<'_, T> {
    /// One tile of keys, with all queries that see some of them.
    #[inline(always)]
    fn tile<S: Simd>(&mut self, simd: S, keys: Range<usize>) {
        let problem = self.pass.sources.problem;
        let Task { sequence, kv_head, .. } = self.task;
        self.room.dk.reset(keys.len() * padded(problem.width));
        self.room.dv.reset(keys.len() * padded(problem.value_width));
        let own = keys.start - sequence.keys.start..keys.end - sequence.keys.start;
        let seeing = sequence.sight.queries_of_any(own);
        for head in 0..problem.group() {
            for first in seeing.clone().step_by(CPU_ROWS) {
                let queries = first..(first + CPU_ROWS).min(seeing.end);
                let seen = within(sequence, sequence.sight.keys_of_any(queries.clone()), &keys);
                if !seen.is_empty() {
                    let head = kv_head * problem.group() + head;
                    self.pairs(simd, &Tile { sequence, head, queries, keys: seen }, &keys);
                }
            }
        }
        let (scale, place) = (self.pass.scale, [sequence.batch, kv_head]);
        self.room.dk.iter_mut().for_each(|x| *x *= scale);
        for (target, lines, width) in [
            (self.pass.dk, &self.room.dk, problem.width),
            (self.pass.dv, &self.room.dv, problem.value_width),
        ] {
            for (line, key) in lines.chunks_exact(padded(width)).zip(keys.clone()) {
                // SAFETY: a task has keys of its own.
                unsafe { target.write(place, key, &line[..width]) };
            }
        }
    }

    /// A tile of pairs: what it adds to all gradients. `keys` are those that dk and dv are of.
    #[inline(always)]
    fn pairs<S: Simd>(&mut self, simd: S, tile: &Tile<'_>, keys: &Range<usize>) {
        let sources = self.pass.sources;
        let problem = sources.problem;
        let Room { scratch, dq, dk, dv, lines } = &mut *self.room;
        tile.load(sources, scratch);
        tile.differentiate(simd, sources, scratch, true);
        let (rows, count, columns) = (tile.queries.len(), tile.keys.len(), tile.columns());
        let before = tile.keys.start - columns.start;
        let (line, value_line) = (padded(problem.width), padded(problem.value_width));
        let first = tile.keys.start - keys.start;
        // dv += Pᵀ dout
        let left = Left::Columns { values: &scratch.weights[before..], line: LINE };
        let right = Right { values: &scratch.dout, line: value_line };
        let to = &mut Sums { values: &mut dv[first * value_line..], line: value_line, add: true };
        multiply(simd, [count, value_line, rows], left, right, to);
        // dk += dxᵀ q
        let left = Left::Columns { values: &scratch.gradients[before..], line: LINE };
        let right = Right { values: &scratch.queries, line };
        let to = &mut Sums { values: &mut dk[first * line..], line, add: true };
        multiply(simd, [count, line, rows], left, right, to);
        // dq += dx k
        let tokens = columns.start..columns.end.min(problem.keys);
        let lines = sources.key_lines.tokens(tile.place(problem), tokens, lines);
        let left = Left::Rows { values: &scratch.gradients[before..], line: LINE };
        let right = Right { values: &lines[before * line..], line };
        let head = tile.head % problem.group();
        let first = head * tile.sequence.queries.len() + tile.queries.start;
        let to = &mut Sums { values: &mut dq[first * line..], line, add: true };
        multiply(simd, [rows, line, count], left, right, to);
    }

    /// Hands on dq.
    fn store_queries(&mut self) {
        let Backward { sources, scale, dq, parts, numbers, .. } = self.pass;
        let (problem, sequence) = (sources.problem, self.task.sequence);
        let line = padded(problem.width);
        self.room.dq.iter_mut().for_each(|x| *x *= scale);
        let queries = sequence.queries.len();
        for (i, line) in self.room.dq.chunks_exact(line).enumerate() {
            let head = self.task.kv_head * problem.group() + i / queries;
            let query = Query { sequence, head, token: i % queries };
            let line = &line[..problem.width];
            // SAFETY: a task has heads of its own, or a part of its own.
            unsafe {
                match parts {
                    None => dq.write(query.place(), query.row(), line),
                    Some(parts) => {
                        let first = super::parts::number(problem, query) * problem.width;
                        parts.write_run(self.task.part * numbers + first, line);
                    }
                }
            }
        }
    }
}
