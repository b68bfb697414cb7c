//! The inner loop: all states of a block of channels through a few steps.
//!
//! ```text
//! h = a h + (Δ u) B,   y += C h
//! ```
//!
//! With a = scale (1 + above) and s = scale h it is h = s + (s above + (Δ u) B): where the decay
//! is close to 1, its distance from 1 keeps all its digits.

use std::array;
use std::ops::Range;

use pulp::Simd;

use super::block::{Form, MapTile};
use super::tile::TILE;
use crate::backend::cpu::lanes::{self, Exp2};

/// States that run through the steps together, enough to hide the latency of one another.
const TOGETHER: usize = 4;

/// The vectors of an array of lanes.
#[inline(always)]
pub(super) fn rows<S: Simd>(values: &[f32]) -> &[S::f32s] {
    S::as_simd_f32s(values).0
}

/// The same for writing.
#[inline(always)]
pub(super) fn rows_mut<S: Simd>(values: &mut [f32]) -> &mut [S::f32s] {
    S::as_mut_simd_f32s(values).0
}

/// Where decays come from: a value for each state at a time, prepared once per run of steps.
/// States are asked for in order.
pub(super) trait Decay<S: Simd> {
    /// What is kept in registers for state n.
    type Row: Copy;
    fn row(&self, n: usize) -> Self::Row;
    /// The decay at step i.
    fn at(&mut self, simd: S, row: Self::Row, i: usize) -> Exp2<S::f32s>;
}

/// A differs over n: an exponential for each state and step.
#[derive(Clone, Copy)]
pub(super) struct OwnDecay<'a, S: Simd> {
    pub step: &'a [S::f32s],
    pub a: &'a [S::f32s],
}

impl<S: Simd> Decay<S> for OwnDecay<'_, S> {
    type Row = S::f32s;
    #[inline(always)]
    fn row(&self, n: usize) -> S::f32s {
        self.a[n]
    }
    #[inline(always)]
    fn at(&mut self, simd: S, a: S::f32s, i: usize) -> Exp2<S::f32s> {
        lanes::exp2(simd, simd.mul_f32s(self.step[i], a))
    }
}

/// A is equal over n: one exponential for each step, made before.
pub(super) struct SharedDecay<'a, S: Simd> {
    pub decay: &'a [Exp2<S::f32s>],
}

impl<S: Simd> Decay<S> for SharedDecay<'_, S> {
    type Row = ();
    #[inline(always)]
    fn row(&self, _n: usize) {}
    #[inline(always)]
    fn at(&mut self, _simd: S, _row: (), i: usize) -> Exp2<S::f32s> {
        self.decay[i]
    }
}

/// A_n = (n + 1) A_0: the decays are the powers of one exponential for each step, made before.
pub(super) struct PowerDecay<'a, S: Simd> {
    pub base: &'a [Exp2<S::f32s>],
    /// The decay of the next state; at first the base itself.
    pub next: &'a mut [Exp2<S::f32s>],
}

impl<S: Simd> Decay<S> for PowerDecay<'_, S> {
    type Row = ();
    #[inline(always)]
    fn row(&self, _n: usize) {}
    #[inline(always)]
    fn at(&mut self, simd: S, _row: (), i: usize) -> Exp2<S::f32s> {
        let decay = self.next[i];
        self.next[i] = decay.times(simd, self.base[i]);
        decay
    }
}

/// B or C of one state over the steps.
trait Row<S: Simd>: Copy {
    fn at(self, simd: S, i: usize) -> S::f32s;
}

#[derive(Clone, Copy)]
struct SharedRow<'a>(&'a [f32]);

impl<S: Simd> Row<S> for SharedRow<'_> {
    #[inline(always)]
    fn at(self, simd: S, i: usize) -> S::f32s {
        simd.splat_f32s(self.0[i])
    }
}

#[derive(Clone, Copy)]
struct LaneRow<'a, S: Simd> {
    values: &'a [S::f32s],
    /// 0 where the map is constant in time, else 1.
    stride: usize,
}

impl<S: Simd> Row<S> for LaneRow<'_, S> {
    #[inline(always)]
    fn at(self, _simd: S, i: usize) -> S::f32s {
        self.values[i * self.stride]
    }
}

/// A block of channels on its way through some steps of a tile.
pub(super) struct Recurrence<'a, S: Simd> {
    pub simd: S,
    /// h of each state.
    pub state: &'a mut [S::f32s],
    /// Δ u of each step.
    pub input: &'a [S::f32s],
    /// y of each step, to be added to.
    pub output: &'a mut [S::f32s],
    /// The place of the first step in the tile.
    pub first: usize,
}

impl<S: Simd> Recurrence<'_, S> {
    /// Runs all states through the steps.
    #[inline(always)]
    pub fn run(mut self, decay: &mut impl Decay<S>, b: &MapTile, c: &MapTile) {
        let steps = self.first..self.first + self.input.len();
        let shared = |map: &'_ MapTile| map.form == Form::Shared;
        match (shared(b), shared(c)) {
            (true, true) => self.pass(decay, |n| b.shared(n, &steps), |n| c.shared(n, &steps)),
            (true, false) => self.pass(decay, |n| b.shared(n, &steps), |n| c.lanes(n, &steps)),
            (false, true) => self.pass(decay, |n| b.lanes(n, &steps), |n| c.shared(n, &steps)),
            (false, false) => self.pass(decay, |n| b.lanes(n, &steps), |n| c.lanes(n, &steps)),
        }
    }

    #[inline(always)]
    fn pass<B: Row<S>, C: Row<S>>(
        &mut self,
        decay: &mut impl Decay<S>,
        b: impl Fn(usize) -> B,
        c: impl Fn(usize) -> C,
    ) {
        let together = self.state.len() / TOGETHER * TOGETHER;
        for n in (0..together).step_by(TOGETHER) {
            self.states::<TOGETHER, _, _>(n, decay, &b, &c);
        }
        for n in together..self.state.len() {
            self.states::<1, _, _>(n, decay, &b, &c);
        }
    }

    /// Runs K states from `n` on through the steps, h in registers.
    #[inline(always)]
    fn states<const K: usize, B: Row<S>, C: Row<S>>(
        &mut self,
        n: usize,
        decay: &mut impl Decay<S>,
        b: &impl Fn(usize) -> B,
        c: &impl Fn(usize) -> C,
    ) {
        let simd = self.simd;
        let decays: [_; K] = array::from_fn(|k| decay.row(n + k));
        let b: [B; K] = array::from_fn(|k| b(n + k));
        let c: [C; K] = array::from_fn(|k| c(n + k));
        let mut h: [S::f32s; K] = array::from_fn(|k| self.state[n + k]);
        for (i, (&input, output)) in self.input.iter().zip(&mut *self.output).enumerate() {
            let mut y = *output;
            for k in 0..K {
                let a = decay.at(simd, decays[k], i);
                let s = simd.mul_f32s(a.scale, h[k]);
                let taken = simd.mul_f32s(input, b[k].at(simd, i));
                h[k] = simd.add_f32s(s, simd.mul_add_f32s(s, a.above, taken));
                y = simd.mul_add_f32s(c[k].at(simd, i), h[k], y);
            }
            *output = y;
        }
        self.state[n..n + K].copy_from_slice(&h);
    }
}

impl MapTile {
    #[inline(always)]
    fn shared(&self, n: usize, steps: &Range<usize>) -> SharedRow<'_> {
        SharedRow(&self.values[n * TILE..][steps.clone()])
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, n: usize, steps: &Range<usize>) -> LaneRow<'_, S> {
        let values = rows::<S>(&self.values);
        match self.form {
            Form::Constant => LaneRow { values: &values[n..=n], stride: 0 },
            Form::Shared | Form::Lanes => {
                LaneRow { values: &values[n * TILE..][steps.clone()], stride: 1 }
            }
        }
    }
}
