//! The inner loop: all states of a block of channels through a few steps.
//!
//! ```text
//! h = a h + (Δ u) B,   y += C h
//! ```
//!
//! Rounding a decay close to 1 would cost a long memory its digits, and taking 1 from a decay
//! close to 0 would leave a trace of a state that is to be forgotten. So a is never formed alone:
//!
//! ```text
//! A differs over n:    a = scale (1 + above),   s = scale h,   h = s + (s above + (Δ u) B)
//! otherwise:           a = whole + rest, whole 1 or 0,   h = whole h + (rest h + (Δ u) B)
//! A_n = (n + 1) A_0:   rest = rest a_0 + whole rest_0,   from each state to the next
//! ```
//!
//! The last takes four operations of the multipliers for each state and step: (Δ u) B, h, the next
//! rest and y; besides a mask for whole, an addition, and B and C from the cache. The first takes
//! five and an exponential of fourteen.

use std::ops::Range;

use pulp::{NullaryFnOnce, Simd};

use super::call::Segment;
use super::maps::{Form, MapTile};
use super::tile::{TILE, rows};
use crate::backend::cpu::lanes::{self, Exp2, Powers, Split};

/// States that run through the steps together, enough to hide the latency of one another.
const TOGETHER: usize = 4;

/// Where decays come from. At each step the states of a run are asked for in order.
pub(super) trait Decay<S: Simd> {
    /// What a state keeps in registers over the steps.
    type State: Copy;
    /// What a step keeps in registers over the states.
    type Step: Copy;
    /// a, ready to multiply.
    type Factor: Factor<S>;
    fn state(&self, n: usize) -> Self::State;
    /// Step i, as the states before have left it.
    fn begin(&self, i: usize) -> Self::Step;
    /// a of the state, and on to the next state.
    fn factor(simd: S, state: Self::State, step: &mut Self::Step) -> Self::Factor;
    fn end(&mut self, i: usize, step: Self::Step);
}

/// A decay that is no number by itself.
pub(super) trait Factor<S: Simd>: Copy {
    /// a h + addend.
    fn times(self, simd: S, h: S::f32s, addend: S::f32s) -> S::f32s;
}

impl<S: Simd> Factor<S> for Exp2<S::f32s> {
    #[inline(always)]
    fn times(self, simd: S, h: S::f32s, addend: S::f32s) -> S::f32s {
        Exp2::times(self, simd, h, addend)
    }
}

impl<S: Simd> Factor<S> for Split<S::f32s> {
    #[inline(always)]
    fn times(self, simd: S, h: S::f32s, addend: S::f32s) -> S::f32s {
        simd.add_f32s(simd.and_f32s(self.kept, h), simd.mul_add_f32s(self.rest, h, addend))
    }
}

/// A differs over n: an exponential for each state and step.
pub(super) struct OwnDecay<'a, S: Simd> {
    pub step: &'a [S::f32s; TILE],
    pub a: &'a [S::f32s],
}

impl<S: Simd> Decay<S> for OwnDecay<'_, S> {
    type State = S::f32s;
    type Step = S::f32s;
    type Factor = Exp2<S::f32s>;
    #[inline(always)]
    fn state(&self, n: usize) -> S::f32s {
        self.a[n]
    }
    #[inline(always)]
    fn begin(&self, i: usize) -> S::f32s {
        self.step[i]
    }
    #[inline(always)]
    fn factor(simd: S, a: S::f32s, step: &mut S::f32s) -> Exp2<S::f32s> {
        lanes::exp2(simd, simd.mul_f32s(*step, a))
    }
    #[inline(always)]
    fn end(&mut self, _i: usize, _step: S::f32s) {}
}

/// Decays of the steps of a tile, made before the states run through it; the memory serves all
/// tiles of a block in turn.
#[repr(align(64))]
pub(super) struct DecayTile<S: Simd>([Powers<S::f32s>; TILE]);

impl<S: Simd> DecayTile<S> {
    pub fn new(simd: S) -> Self {
        let zero = simd.splat_f32s(0.0);
        let power = Split { kept: zero, rest: zero };
        Self([Powers { power, base: zero, offset: zero }; TILE])
    }
}

/// A is equal over n: one exponential for each step.
pub(super) struct SharedDecay<'a, S: Simd>(&'a DecayTile<S>);

impl<'a, S: Simd> SharedDecay<'a, S> {
    #[inline(always)]
    pub fn new(simd: S, tile: &'a mut DecayTile<S>, step: &[S::f32s; TILE], a: S::f32s) -> Self {
        for (powers, &step) in tile.0.iter_mut().zip(step) {
            powers.power = lanes::exp2_split(simd, simd.mul_f32s(step, a));
        }
        Self(tile)
    }
}

impl<S: Simd> Decay<S> for SharedDecay<'_, S> {
    type State = ();
    type Step = Split<S::f32s>;
    type Factor = Split<S::f32s>;
    #[inline(always)]
    fn state(&self, _n: usize) {}
    #[inline(always)]
    fn begin(&self, i: usize) -> Self::Step {
        self.0.0[i].power
    }
    #[inline(always)]
    fn factor(_simd: S, _state: (), step: &mut Self::Step) -> Split<S::f32s> {
        *step
    }
    #[inline(always)]
    fn end(&mut self, _i: usize, _step: Self::Step) {}
}

/// A_n = (n + 1) A_0: the powers of one exponential for each step.
pub(super) struct PowerDecay<'a, S: Simd>(&'a mut DecayTile<S>);

impl<'a, S: Simd> PowerDecay<'a, S> {
    #[inline(always)]
    pub fn new(simd: S, tile: &'a mut DecayTile<S>, step: &[S::f32s; TILE], a: &[S::f32s]) -> Self {
        for (powers, &step) in tile.0.iter_mut().zip(step) {
            *powers = lanes::exp2_powers(simd, simd.mul_f32s(step, a[0]), a.len());
        }
        Self(tile)
    }
}

impl<S: Simd> Decay<S> for PowerDecay<'_, S> {
    type State = ();
    type Step = Powers<S::f32s>;
    type Factor = Split<S::f32s>;
    #[inline(always)]
    fn state(&self, _n: usize) {}
    #[inline(always)]
    fn begin(&self, i: usize) -> Self::Step {
        self.0.0[i]
    }
    #[inline(always)]
    fn factor(simd: S, _state: (), step: &mut Self::Step) -> Split<S::f32s> {
        let power = step.power;
        step.advance(simd);
        power
    }
    #[inline(always)]
    fn end(&mut self, i: usize, step: Self::Step) {
        self.0.0[i].power.rest = step.power.rest;
    }
}

/// B or C of one state over the steps.
pub(super) trait Row<S: Simd>: Copy {
    fn at(self, simd: S, i: usize) -> S::f32s;
}

impl<S: Simd> Row<S> for &[f32; TILE] {
    #[inline(always)]
    fn at(self, simd: S, i: usize) -> S::f32s {
        simd.splat_f32s(self[i])
    }
}

#[derive(Clone, Copy)]
pub(super) struct LaneRow<'a, S: Simd> {
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

/// What becomes of the states on the way.
pub(super) trait Keep<S: Simd> {
    /// h of state n after step i.
    fn keep(&mut self, n: usize, i: usize, h: S::f32s);
}

/// Nothing: the forward pass needs the last one alone.
impl<S: Simd> Keep<S> for () {
    #[inline(always)]
    fn keep(&mut self, _n: usize, _i: usize, _h: S::f32s) {}
}

/// All states of a tile, (N, t).
pub(super) struct History<'a, V>(pub &'a mut [V]);

impl<S: Simd> Keep<S> for History<'_, S::f32s> {
    #[inline(always)]
    fn keep(&mut self, n: usize, i: usize, h: S::f32s) {
        self.0[n * TILE + i] = h;
    }
}

/// A block of channels on its way through a tile.
pub(super) struct Recurrence<'a, S: Simd, K> {
    pub simd: S,
    /// h of each state.
    pub state: &'a mut [S::f32s],
    /// Δ u of each step.
    pub input: &'a [S::f32s; TILE],
    /// y of each step, to be added to.
    pub output: &'a mut [S::f32s; TILE],
    pub b: &'a MapTile,
    pub c: &'a MapTile,
    pub history: K,
}

impl<S: Simd, H: Keep<S>> Recurrence<'_, S, H> {
    /// Runs all states through the segments.
    pub fn run(self, segments: &[Segment], decay: &mut impl Decay<S>) {
        self.simd.vectorize(Run { recurrence: self, segments, decay });
    }

    #[inline(always)]
    fn segment(&mut self, segment: &Segment, decay: &mut impl Decay<S>) {
        if segment.from_zero {
            self.state.fill(self.simd.splat_f32s(0.0));
        }
        // The bound is for the compiler, which then checks no place in a tile.
        let steps = segment.steps.start..segment.steps.end.min(TILE);
        let (b, c) = (self.b, self.c);
        match (b.form == Form::Shared, c.form == Form::Shared) {
            (true, true) => self.pass(steps, decay, |n| b.shared(n), |n| c.shared(n)),
            (true, false) => self.pass(steps, decay, |n| b.shared(n), |n| c.lanes(n)),
            (false, true) => self.pass(steps, decay, |n| b.lanes(n), |n| c.shared(n)),
            (false, false) => self.pass(steps, decay, |n| b.lanes(n), |n| c.lanes(n)),
        }
    }

    #[inline(always)]
    fn pass<B: Row<S>, C: Row<S>>(
        &mut self,
        steps: Range<usize>,
        decay: &mut impl Decay<S>,
        b: impl Fn(usize) -> B,
        c: impl Fn(usize) -> C,
    ) {
        let together = self.state.len() / TOGETHER * TOGETHER;
        for n in (0..together).step_by(TOGETHER) {
            self.states::<TOGETHER, _, _, _>(n, steps.clone(), decay, &b, &c);
        }
        for n in together..self.state.len() {
            self.states::<1, _, _, _>(n, steps.clone(), decay, &b, &c);
        }
    }

    /// Runs K states from `n` on through the steps, h in registers.
    #[inline(always)]
    fn states<const K: usize, D: Decay<S>, B: Row<S>, C: Row<S>>(
        &mut self,
        n: usize,
        steps: Range<usize>,
        decay: &mut D,
        b: &impl Fn(usize) -> B,
        c: &impl Fn(usize) -> C,
    ) {
        let simd = self.simd;
        let (mut states, mut rows) = ([decay.state(n); K], [(b(n), c(n)); K]);
        let mut h = [self.state[n]; K];
        for k in 1..K {
            states[k] = decay.state(n + k);
            rows[k] = (b(n + k), c(n + k));
            h[k] = self.state[n + k];
        }
        for i in steps {
            let mut step = decay.begin(i);
            // Summed by themselves first: where the sum over all states cancels, fewer roundings
            // meet its large parts.
            let mut y = simd.splat_f32s(0.0);
            for k in 0..K {
                let taken = simd.mul_f32s(self.input[i], rows[k].0.at(simd, i));
                h[k] = D::factor(simd, states[k], &mut step).times(simd, h[k], taken);
                let read = rows[k].1.at(simd, i);
                self.history.keep(n + k, i, h[k]);
                y = match k {
                    0 => simd.mul_f32s(read, h[k]),
                    _ => simd.mul_add_f32s(read, h[k], y),
                };
            }
            self.output[i] = simd.add_f32s(self.output[i], y);
            decay.end(i, step);
        }
        self.state[n..n + K].copy_from_slice(&h);
    }
}

/// A piece of code of its own, so that the element types of calls share it.
struct Run<'a, 'r, S: Simd, H, D> {
    recurrence: Recurrence<'r, S, H>,
    segments: &'a [Segment],
    decay: &'a mut D,
}

impl<S: Simd, H: Keep<S>, D: Decay<S>> NullaryFnOnce for Run<'_, '_, S, H, D> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        for segment in self.segments {
            self.recurrence.segment(segment, self.decay);
        }
    }
}

impl MapTile {
    #[inline(always)]
    pub(super) fn shared(&self, n: usize) -> &[f32; TILE] {
        &self.values.as_chunks().0[n]
    }

    #[inline(always)]
    pub(super) fn lanes<S: Simd>(&self, n: usize) -> LaneRow<'_, S> {
        let values = rows::<S>(&self.values);
        match self.form {
            Form::Constant => LaneRow { values: &values[n..=n], stride: 0 },
            Form::Shared | Form::Lanes => {
                LaneRow { values: &values[n * TILE..][..TILE], stride: 1 }
            }
        }
    }
}
