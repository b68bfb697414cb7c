//! The backward pass on the CPU: a task for each head of keys and values of each row. It walks the
//! tiles from the last one down, each for all query heads that share it: the steps inside a tile
//! are made again from the saved state before it, then x and y run through it backwards.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::forward::{Tokens, sum, tiles};
use super::heads::{
    Initial, ScoreLines, ScoreTarget, Source, StateBytes, StateTarget, Target, add_scaled,
    optional, padded, score_bytes,
};
use super::tile::{Scores, Tile, fading};
use crate::Result;
use crate::backend::Cpu;
use crate::backend::cpu::aligned::Aligned;
use crate::element::DeviceFloat;
use crate::resets::Step;
use crate::scan_attention::{
    Gradients, Inputs, Options, OutputGradients, Problem, Saved, ScoreGradients, TILE,
};

/// Runs the backward pass. The inputs have been checked, values included.
pub(super) fn run<T: DeviceFloat>(
    problem: &Problem,
    inputs: &Inputs<'_, Cpu, T>,
    options: &Options,
    saved: &Saved<Cpu, T>,
    given: &OutputGradients<'_, Cpu, T>,
    gradients: &Gradients<Cpu, T>,
) -> Result<()> {
    let (scores, v) = (score_bytes(inputs)?, inputs.v.read()?);
    let d_o = given.o.map(|o| o.read()).transpose()?;
    let mut dv = gradients.v.write()?;
    let (ds, dk) = match &gradients.scores {
        ScoreGradients::Given(ds) => (Some(ds), None),
        ScoreGradients::Keys { k, .. } => (None, Some(k)),
    };
    let mut ds_bytes = ds.map(|ds| ds.write()).transpose()?;
    let mut dk_bytes = dk.map(|dk| dk.write()).transpose()?;
    let mut carry = gradients.carry.as_ref().map(StateBytes::claim).transpose()?;
    let scan = Scan::<T> {
        problem,
        scores: ScoreLines::new(inputs, problem, options, &scores)?,
        v: Source::new("v", &v, inputs.v, options)?,
        d_o: match (&d_o, given.o) {
            (Some(bytes), Some(o)) => Some(Source::new("do", bytes, o, options)?),
            _ => None,
        },
        tokens: Tokens::new(problem, inputs)?,
        initial: Initial::new(inputs.carry.as_ref(), problem)?,
        before: [saved.m.to_vec()?, saved.u.to_vec()?, saved.w.to_vec()?],
        du: optional(given.u)?,
        dw: optional(given.w)?,
        dv: Target::new("dv", &mut dv, &gradients.v, options)?,
        ds: match (&mut ds_bytes, ds) {
            (Some(bytes), Some(ds)) => Some(ScoreTarget::new(bytes, ds)?),
            _ => None,
        },
        dk: match (&mut dk_bytes, dk) {
            (Some(bytes), Some(dk)) => Some(Target::new("dk", bytes, dk, options)?),
            _ => None,
        },
        carry: carry.as_mut().map(StateBytes::target).transpose()?,
    };
    let rows = inputs.resets.rows(problem.batch, problem.steps)?;
    let arch = Arch::new();
    let tasks = rows.len() * problem.value_heads;
    let partial = (0..tasks).into_par_iter().map_init(Scratch::default, |scratch, i| {
        let (row, shared) = (i / problem.value_heads, i % problem.value_heads);
        let (batch, span) = rows[row].clone();
        arch.dispatch(Group { scan: &scan, scratch, row, batch, shared, span })
    });
    let partial: Vec<Vec<f64>> = partial.collect();
    match &gradients.scores {
        ScoreGradients::Keys { q, .. } => q.write_f64(&sum_queries(problem, &partial)),
        ScoreGradients::Given(_) => Ok(()),
    }
}

/// dq, from the parts of all tasks in their order.
fn sum_queries(problem: &Problem, partial: &[Vec<f64>]) -> Vec<f64> {
    let length = problem.group() * problem.key_width.unwrap_or(0);
    let mut dq = vec![0.0; problem.value_heads * length];
    for (i, part) in partial.iter().enumerate() {
        let own = &mut dq[i % problem.value_heads * length..][..length];
        own.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    dq
}

/// A call, ready to be run by tasks.
struct Scan<'a, T> {
    problem: &'a Problem,
    scores: ScoreLines<'a, T>,
    v: Source<'a, T>,
    d_o: Option<Source<'a, T>>,
    tokens: Tokens,
    initial: Option<Initial>,
    /// m, u and w before each tile.
    before: [Vec<f32>; 3],
    du: Option<Vec<f32>>,
    dw: Option<Vec<f32>>,
    dv: Target<'a, T>,
    ds: Option<ScoreTarget<'a, T>>,
    dk: Option<Target<'a, T>>,
    carry: Option<StateTarget<'a>>,
}

impl<T> Scan<'_, T> {
    /// m, u and w before the steps of a tile.
    fn state_before(&self, steps: &Range<usize>, [row, batch, head]: [usize; 3]) -> Before<'_> {
        let Problem { heads, width, .. } = *self.problem;
        if steps.start.is_multiple_of(TILE) {
            let [m, u, w] = &self.before;
            let tile = (batch * heads + head) * self.problem.tiles() + steps.start / TILE;
            return (m[tile], u[tile], Some(&w[tile * width..][..width]));
        }
        // A packed sequence begins here.
        match &self.initial {
            Some(initial) => {
                let (m, u, w) = initial.state(row * heads + head);
                (m, u, Some(w))
            }
            None => (f32::NEG_INFINITY, 0.0, None),
        }
    }
}

/// m, u, and w if it is not zero.
type Before<'a> = (f32, f32, Option<&'a [f32]>);

/// What a thread keeps between its tasks, all in f32.
struct Scratch<T> {
    /// x of each query head.
    x: Aligned,
    w: Aligned,
    keys: Aligned,
    values: Aligned,
    d_o: Aligned,
    dv: Aligned,
    dk: Aligned,
    dq: Aligned,
    rounded: Vec<T>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        let [x, w, keys, values, d_o, dv, dk, dq] = [(); 8].map(|()| Aligned::default());
        Self { x, w, keys, values, d_o, dv, dk, dq, rounded: Vec::new() }
    }
}

/// What goes backwards in time of one head, besides x.
#[derive(Clone, Copy)]
struct Beyond {
    /// The gradient of u.
    y: f32,
    /// m of the step that x and y belong to; none behind the last one, where nothing fades.
    m: Option<f32>,
    /// Whether that step is a reset, which lets nothing through.
    cut: bool,
}

/// A task: the query heads of one row that share keys and values.
struct Group<'a, 'scan, T> {
    scan: &'a Scan<'scan, T>,
    scratch: &'a mut Scratch<T>,
    row: usize,
    batch: usize,
    shared: usize,
    span: Range<usize>,
}

impl<T: DeviceFloat> WithSimd for Group<'_, '_, T> {
    /// dq of the task's heads.
    type Output = Vec<f64>;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) -> Vec<f64> {
        let Self { scan, row, batch, shared, .. } = self;
        let (problem, span) = (scan.problem, self.span.clone());
        let key_width = problem.key_width.unwrap_or(0);
        let mut beyond = self.begin();
        let mut dq = vec![0.0; problem.group() * key_width];
        for steps in tiles(span).rev() {
            let width = padded(problem.width);
            let Scratch { values, dv, dk, .. } = &mut *self.scratch;
            values.reset(steps.len() * width);
            dv.reset(steps.len() * width);
            dk.reset(steps.len() * padded(key_width));
            let (_, taken) = scan.tokens.of(batch * problem.steps, steps.clone());
            scan.v.load(values, [batch, shared], steps.clone(), |i| taken[i]);
            for (member, beyond) in beyond.iter_mut().enumerate() {
                let ds = self.run_tile(simd, member, steps.clone(), beyond);
                self.end_tile(simd, member, steps.clone(), &ds, &mut dq);
            }
            let Scratch { dv, dk, rounded, .. } = &mut *self.scratch;
            // SAFETY: a task for each head of values and row, whose steps are disjoint.
            unsafe {
                scan.dv.store(dv, rounded, [batch, shared], steps.clone());
                if let Some(target) = &scan.dk {
                    target.store(dk, rounded, [batch, shared], steps);
                }
            }
        }
        for (member, beyond) in beyond.into_iter().enumerate() {
            self.end(row, member, beyond);
        }
        dq
    }
}

impl<T: DeviceFloat> Group<'_, '_, T> {
    /// The query head of a number in the group.
    fn head(&self, member: usize) -> usize {
        self.shared * self.scan.problem.group() + member
    }

    /// Gradients of the state behind the last step.
    fn begin(&mut self) -> Vec<Beyond> {
        let Self { scan, row, .. } = *self;
        let Problem { heads, width, .. } = *scan.problem;
        let group = scan.problem.group();
        self.scratch.x.reset(group * padded(width));
        for member in 0..group {
            let state = row * heads + self.head(member);
            if let Some(dw) = &scan.dw {
                self.scratch.x[member * padded(width)..][..width]
                    .copy_from_slice(&dw[state * width..][..width]);
            }
        }
        let y = |member| {
            let state = row * heads + self.head(member);
            scan.du.as_ref().map_or(0.0, |du| du[state])
        };
        let beyond = |member| Beyond { y: y(member), m: None, cut: false };
        (0..group).map(beyond).collect()
    }

    /// Runs x and y of a head through a tile; adds to dv, and gives ds.
    #[inline(always)]
    fn run_tile<S: Simd>(
        &mut self,
        simd: S,
        member: usize,
        steps: Range<usize>,
        beyond: &mut Beyond,
    ) -> [f32; TILE] {
        let (head, count) = (self.head(member), steps.len());
        let Self { scan, row, batch, .. } = *self;
        let problem = scan.problem;
        let width = padded(problem.width);
        let (meanings, taken) = scan.tokens.of(batch * problem.steps, steps.clone());
        let Scratch { x, w, keys, values, d_o, dv, .. } = &mut *self.scratch;
        let mut scores = [0.0; TILE];
        let scores = &mut scores[..count];
        scan.scores.load(simd, problem, scores, keys, [batch, head], steps.start);
        let (m0, u0, w0) = scan.state_before(&steps, [row, batch, head]);
        let tile = Tile::new(simd, &Scores { values: scores, meanings, taken }, m0, u0);
        d_o.reset(count * width);
        if let Some(source) = &scan.d_o {
            source.load(d_o, [batch, head], steps, |i| meanings[i] != Step::Padding);
        }

        // do · o, with o made again.
        w.reset(width);
        if let Some(w0) = w0 {
            w[..problem.width].copy_from_slice(w0);
        }
        let vectors = width / S::F32_LANES;
        let (values, d_o) = (S::as_simd_f32s(values).0, S::as_simd_f32s(d_o).0);
        let mut products = [simd.splat_f32s(0.0); TILE];
        sum(simd, &tile, meanings, values, S::as_mut_simd_f32s(w).0, |at, o| {
            let sum = &mut products[at / vectors];
            *sum = simd.mul_add_f32s(d_o[at], o, *sum);
        });

        // y, and what lets x through: nothing before a reset.
        let next = beyond.m.unwrap_or(tile.m[count - 1]);
        let fading = fading(simd, &tile.m[..count], next);
        let mut y = [0.0; TILE];
        let cut = beyond.cut;
        let cut = |i: usize| meanings.get(i + 1).map_or(cut, |next| *next == Step::Reset);
        for i in (0..count).rev() {
            let product = simd.reduce_sum_f32s(products[i]);
            let kept = if cut(i) { 0.0 } else { fading[i] * beyond.y };
            beyond.y = kept - product * tile.inverse[i];
            y[i] = beyond.y;
        }
        beyond.m = Some(tile.m[0]);
        beyond.cut = meanings[0] == Step::Reset;

        // x, dv and x · v.
        let x = S::as_mut_simd_f32s(&mut x[member * width..][..width]).0;
        let dv = S::as_mut_simd_f32s(dv).0;
        let mut products = [simd.splat_f32s(0.0); TILE];
        for (column, x) in x.iter_mut().enumerate() {
            for i in (0..count).rev() {
                let at = i * vectors + column;
                let own = simd.mul_f32s(d_o[at], simd.splat_f32s(tile.inverse[i]));
                *x = match cut(i) {
                    true => own,
                    false => simd.mul_add_f32s(*x, simd.splat_f32s(fading[i]), own),
                };
                let weight = simd.splat_f32s(tile.weight[i] * tile.inside[i]);
                dv[at] = simd.mul_add_f32s(weight, *x, dv[at]);
                products[i] = simd.mul_add_f32s(*x, values[at], products[i]);
            }
        }
        let mut ds = [0.0; TILE];
        for i in (0..count).filter(|&i| taken[i]) {
            let product = simd.reduce_sum_f32s(products[i]);
            ds[i] = tile.weight[i] * tile.inside[i] * (product + y[i]);
        }
        ds
    }

    /// Writes ds, or what it means for keys and query.
    #[inline(always)]
    fn end_tile<S: Simd>(
        &mut self,
        simd: S,
        member: usize,
        steps: Range<usize>,
        ds: &[f32; TILE],
        dq: &mut [f64],
    ) {
        let (head, ds) = (self.head(member), &ds[..steps.len()]);
        let Self { scan, batch, shared, .. } = *self;
        if let Some(target) = &scan.ds {
            // SAFETY: the heads and steps of tasks are disjoint.
            unsafe { target.store(ds, [batch, head], steps.start) };
        }
        let ScoreLines::Keys { q, k, scale } = &scan.scores else { return };
        let key_width = scan.problem.key_width.unwrap_or(0);
        if key_width == 0 {
            return;
        }
        let width = padded(key_width);
        let Scratch { keys, dk, dq: part, .. } = &mut *self.scratch;
        keys.reset(steps.len() * width);
        k.load(keys, [batch, shared], steps, |_| true);
        part.reset(width);
        for (i, &ds) in ds.iter().enumerate() {
            let scaled = scale * ds;
            add_scaled(simd, &mut dk[i * width..][..width], scaled, &q[head * width..][..width]);
            add_scaled(simd, part, scaled, &keys[i * width..][..width]);
        }
        let own = &mut dq[member * key_width..][..key_width];
        own.iter_mut().zip(&**part).for_each(|(sum, part)| *sum += f64::from(*part));
    }

    /// Gradients of the state before the first step.
    fn end(&self, row: usize, member: usize, beyond: Beyond) {
        let scan = self.scan;
        let (Some(initial), Some(target)) = (&scan.initial, &scan.carry) else { return };
        let width = scan.problem.width;
        let state = row * scan.problem.heads + self.head(member);
        let (m0, u0, w0) = initial.state(state);
        let fades = match beyond.m {
            None => 1.0,
            Some(m) => (m0 - m.max(f32::MIN)).exp(),
        };
        let x = &self.scratch.x[member * padded(width)..][..width];
        // What is cut off is 0, whatever it was.
        let through = |x: f32| if beyond.cut { 0.0 } else { x * fades };
        let dw0: Vec<f32> = x.iter().map(|&x| through(x)).collect();
        let du0 = through(beyond.y);
        let product: f32 = w0.iter().zip(&dw0).map(|(w, dw)| w * dw).sum();
        // SAFETY: a task for each head and row.
        unsafe { target.write(state, u0 * du0 + product, du0, &dw0) };
    }
}
