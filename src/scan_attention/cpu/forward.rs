//! The forward scan on the CPU: a task for each head of each row.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::heads::{
    Initial, ScoreLines, Source, StateBytes, StateTarget, Target, numbers, padded, score_bytes,
};
use super::tile::{Scores, Tile};
use crate::Result;
use crate::backend::Cpu;
use crate::backend::cpu::aligned::Aligned;
use crate::backend::cpu::disjoint::Disjoint;
use crate::element::DeviceFloat;
use crate::resets::Step;
use crate::scan_attention::{Inputs, Options, OutputsMut, Problem, TILE};

/// Runs the scan. The inputs have been checked, values included.
pub(super) fn run<T: DeviceFloat>(
    problem: &Problem,
    inputs: &Inputs<'_, Cpu, T>,
    options: &Options,
    outputs: &OutputsMut<'_, Cpu, T>,
) -> Result<()> {
    let (scores, v) = (score_bytes(inputs)?, inputs.v.read()?);
    let mut o = outputs.o.write()?;
    let mut lse = outputs.lse.as_ref().map(|lse| lse.write()).transpose()?;
    let mut carry = outputs.carry.as_deref().map(StateBytes::claim).transpose()?;
    let saved = outputs.saved.as_deref();
    let mut states =
        saved.map(|saved| StateBytes::of([&saved.m, &saved.u, &saved.w])).transpose()?;
    let kept = saved.and_then(|saved| saved.scores.as_ref());
    let mut kept = kept.map(|kept| kept.write()).transpose()?;
    let scan = Scan::<T> {
        problem,
        scores: ScoreLines::new(inputs, problem, options, &scores)?,
        v: Source::new("v", &v, inputs.v, options)?,
        initial: Initial::new(inputs.carry.as_ref(), problem)?,
        tokens: Tokens::new(problem, inputs)?,
        o: Target::new("o", &mut o, outputs.o, options)?,
        lse: numbers("lse", lse.as_mut())?,
        carry: carry.as_mut().map(StateBytes::target).transpose()?,
        states: states.as_mut().map(StateBytes::target).transpose()?,
        kept: numbers("saved scores", kept.as_mut())?,
    };
    let rows = inputs.resets.rows(problem.batch, problem.steps)?;
    let arch = Arch::new();
    (0..rows.len() * problem.heads).into_par_iter().for_each_init(
        Scratch::default,
        |scratch, i| {
            let (row, head) = (i / problem.heads, i % problem.heads);
            let (batch, span) = rows[row].clone();
            arch.dispatch(Head { scan: &scan, scratch, row, batch, head, span });
        },
    );
    Ok(())
}

/// What every step means, (B, L).
pub(super) struct Tokens {
    pub meanings: Vec<Step>,
    pub taken: Vec<bool>,
}

impl Tokens {
    pub fn new<T: DeviceFloat>(problem: &Problem, inputs: &Inputs<'_, Cpu, T>) -> Result<Self> {
        let meanings = inputs.resets.meanings(problem.batch, problem.steps)?;
        let mask = inputs.mask.map(|mask| mask.to_vec()).transpose()?;
        let is_taken = |(i, meaning): (usize, &Step)| {
            *meaning != Step::Padding && mask.as_ref().is_none_or(|mask| mask[i] != 0)
        };
        let taken = meanings.iter().enumerate().map(is_taken).collect();
        Ok(Self { meanings, taken })
    }

    /// Steps of a batch entry.
    pub fn of(&self, first: usize, steps: Range<usize>) -> (&[Step], &[bool]) {
        let range = first + steps.start..first + steps.end;
        (&self.meanings[range.clone()], &self.taken[range])
    }
}

/// The tiles of a span: they end at multiples of [`TILE`].
pub(super) fn tiles(span: Range<usize>) -> impl DoubleEndedIterator<Item = Range<usize>> {
    let first = span.start / TILE;
    let beyond = if span.is_empty() { first } else { span.end.div_ceil(TILE) };
    (first..beyond).map(move |tile| span.start.max(tile * TILE)..span.end.min((tile + 1) * TILE))
}

/// A call, ready to be run by tasks.
struct Scan<'a, T> {
    problem: &'a Problem,
    scores: ScoreLines<'a, T>,
    v: Source<'a, T>,
    initial: Option<Initial>,
    tokens: Tokens,
    o: Target<'a, T>,
    lse: Option<Disjoint<'a, f32>>,
    carry: Option<StateTarget<'a>>,
    states: Option<StateTarget<'a>>,
    kept: Option<Disjoint<'a, f32>>,
}

/// What a thread keeps between its tasks, all in f32.
struct Scratch<T> {
    w: Aligned,
    keys: Aligned,
    values: Aligned,
    outputs: Aligned,
    rounded: Vec<T>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        let [w, keys, values, outputs] = [(); 4].map(|()| Aligned::default());
        Self { w, keys, values, outputs, rounded: Vec::new() }
    }
}

/// A task: one head of one row.
struct Head<'a, 'scan, T> {
    scan: &'a Scan<'scan, T>,
    scratch: &'a mut Scratch<T>,
    row: usize,
    batch: usize,
    head: usize,
    span: Range<usize>,
}

impl<T: DeviceFloat> WithSimd for Head<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { scan, scratch, row, batch, head, span } = self;
        let problem = scan.problem;
        let state = row * problem.heads + head;
        let line = batch * problem.heads + head;
        let width = padded(problem.width);
        scratch.w.reset(width);
        let (mut m, mut u) = (f32::NEG_INFINITY, 0.0);
        if let Some(initial) = &scan.initial {
            let (m0, u0, w0) = initial.state(state);
            (m, u) = (m0, u0);
            scratch.w[..problem.width].copy_from_slice(w0);
        }
        for steps in tiles(span) {
            if let Some(states) = scan.states.as_ref().filter(|_| steps.start.is_multiple_of(TILE))
            {
                let tile = line * problem.tiles() + steps.start / TILE;
                // SAFETY: a task for each head and row, a tile's first step in one of them.
                unsafe { states.write(tile, m, u, &scratch.w[..problem.width]) };
            }
            let (meanings, taken) = scan.tokens.of(batch * problem.steps, steps.clone());
            let mut scores = [0.0; TILE];
            let scores = &mut scores[..steps.len()];
            let place = [batch, head];
            scan.scores.load(simd, problem, scores, &mut scratch.keys, place, steps.start);
            let tile = Tile::new(simd, &Scores { values: scores, meanings, taken }, m, u);
            (m, u) = (tile.m[steps.len() - 1], tile.u[steps.len() - 1]);
            scratch.values.reset(steps.len() * width);
            scratch.outputs.reset(steps.len() * width);
            let shared = [batch, head / problem.group()];
            scan.v.load(&mut scratch.values, shared, steps.clone(), |i| taken[i]);
            let values = S::as_simd_f32s(&scratch.values).0;
            let outputs = S::as_mut_simd_f32s(&mut scratch.outputs).0;
            let w = S::as_mut_simd_f32s(&mut scratch.w).0;
            sum(simd, &tile, meanings, values, w, |i, o| outputs[i] = o);
            // SAFETY: a task for each head and row, whose steps are disjoint.
            unsafe {
                scan.o.store(&scratch.outputs, &mut scratch.rounded, place, steps.clone());
                let first = line * problem.steps + steps.start;
                if let Some(lse) = &scan.lse {
                    for (i, meaning) in meanings.iter().enumerate() {
                        lse.write(first + i, log_sum(*meaning, tile.m[i], tile.u[i]));
                    }
                }
                if let Some(kept) = &scan.kept {
                    kept.write_run(first, scores);
                }
            }
        }
        if let Some(carry) = &scan.carry {
            // SAFETY: a task for each head and row.
            unsafe { carry.write(state, m, u, &scratch.w[..problem.width]) };
        }
    }
}

/// m + log u; nothing has been seen by padding.
fn log_sum(meaning: Step, m: f32, u: f32) -> f32 {
    match meaning {
        Step::Padding => f32::NEG_INFINITY,
        _ => m + u.ln(),
    }
}

/// Runs the state through a tile, vector by vector of its features, and hands on o of each step
/// and vector; the numbers of vectors count through the lines.
#[inline(always)]
pub(super) fn sum<S: Simd>(
    simd: S,
    tile: &Tile,
    meanings: &[Step],
    values: &[S::f32s],
    w: &mut [S::f32s],
    mut output: impl FnMut(usize, S::f32s),
) {
    let zero = simd.splat_f32s(0.0);
    let (vectors, last) = (w.len(), meanings.len() - 1);
    for (column, w) in w.iter_mut().enumerate() {
        let (mut outer, mut inner) = (*w, zero);
        for (i, &meaning) in meanings.iter().enumerate() {
            if meaning == Step::Reset {
                (outer, inner) = (zero, zero);
            }
            let at = i * vectors + column;
            let weighted = simd.mul_f32s(simd.splat_f32s(tile.weight[i]), values[at]);
            inner = simd.mul_add_f32s(inner, simd.splat_f32s(tile.keep[i]), weighted);
            let before = simd.splat_f32s(tile.before[i] * tile.inverse[i]);
            let inside = simd.splat_f32s(tile.inside[i] * tile.inverse[i]);
            let o = simd.mul_add_f32s(before, outer, simd.mul_f32s(inside, inner));
            output(at, if meaning == Step::Padding { zero } else { o });
        }
        let inside = simd.mul_f32s(simd.splat_f32s(tile.inside[last]), inner);
        *w = simd.mul_add_f32s(simd.splat_f32s(tile.before[last]), outer, inside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_end_at_multiples_of_their_length() {
        let all = |span| tiles(span).collect::<Vec<_>>();
        assert_eq!(all(0..70), [0..32, 32..64, 64..70]);
        assert_eq!(all(40..66), [40..64, 64..66]);
        assert_eq!(all(30..64), [30..32, 32..64]);
        assert!(all(40..40).is_empty());
        assert!(all(64..64).is_empty());
    }
}
