//! The inner loop: all states of a block of channels down through a few steps.
//!
//! ```text
//! g = carry + dy C,   q = a h_{t-1},   carry = a g
//! w += g B,   dstep += A g q,   dA += Δ g q,   dB = g Δ u,   dC = dy h
//! ```

use std::array;
use std::ops::Range;

use pulp::{NullaryFnOnce, Simd};

use crate::selective_scan::cpu::call::Segment;
use crate::selective_scan::cpu::maps::{Form, MapTile};
use crate::selective_scan::cpu::recurrence::{Decay, Factor, Row};
use crate::selective_scan::cpu::tile::TILE;

/// States that run through the steps together, enough to hide the latency of one another.
const TOGETHER: usize = 4;

/// Where the products for dB or dC of a tile are summed.
pub(super) enum Sink<'a, V> {
    /// It is not asked for.
    Nowhere,
    /// Over the lanes, (N, t).
    Shared(&'a mut [f32]),
    /// Not at all: lanes are of different groups, (N, t).
    Lanes(&'a mut [V]),
    /// Over the steps, (N).
    Constant(&'a mut [V]),
}

impl<V: Copy> Sink<'_, V> {
    #[inline(always)]
    fn add<S: Simd<f32s = V>>(&mut self, simd: S, n: usize, i: usize, product: V) {
        match self {
            Self::Nowhere => {}
            Self::Shared(sums) => sums[n * TILE + i] = simd.reduce_sum_f32s(product),
            Self::Lanes(products) => products[n * TILE + i] = product,
            Self::Constant(sums) => sums[n] = simd.add_f32s(sums[n], product),
        }
    }
}

/// A block of channels on its way down through a tile.
pub(super) struct Reverse<'a, S: Simd> {
    pub simd: S,
    /// a_{t+1} g_{t+1} of each state.
    pub carry: &'a mut [S::f32s],
    /// h before the tile, and after each step, (N, t).
    pub before: &'a [S::f32s],
    pub history: &'a [S::f32s],
    /// A of each state, or one for all.
    pub a: &'a [S::f32s],
    pub size: &'a [S::f32s; TILE],
    pub taken: &'a [S::f32s; TILE],
    pub dy: &'a [S::f32s; TILE],
    pub w: &'a mut [S::f32s; TILE],
    pub dstep: &'a mut [S::f32s; TILE],
    pub da: &'a mut [S::f32s],
    pub b: &'a MapTile,
    pub c: &'a MapTile,
    pub db: Sink<'a, S::f32s>,
    pub dc: Sink<'a, S::f32s>,
}

/// h before a segment.
#[derive(Clone, Copy)]
enum Before {
    /// It begins with a reset.
    Zero,
    /// That before the tile.
    Tile,
    /// That after an earlier step; padding lies between.
    Step(usize),
}

impl<S: Simd> Reverse<'_, S> {
    /// Runs all states down through the segments.
    pub fn run(self, segments: &[Segment], decay: &mut impl Decay<S>) {
        self.simd.vectorize(Run { reverse: self, segments, decay });
    }

    #[inline(always)]
    fn segment(&mut self, segment: &Segment, before: Before, decay: &mut impl Decay<S>) {
        let steps = segment.steps.start..segment.steps.end.min(TILE);
        let (b, c) = (self.b, self.c);
        match (b.form == Form::Shared, c.form == Form::Shared) {
            (true, true) => self.pass(steps, before, decay, |n| b.shared(n), |n| c.shared(n)),
            (true, false) => self.pass(steps, before, decay, |n| b.shared(n), |n| c.lanes(n)),
            (false, true) => self.pass(steps, before, decay, |n| b.lanes(n), |n| c.shared(n)),
            (false, false) => self.pass(steps, before, decay, |n| b.lanes(n), |n| c.lanes(n)),
        }
        if segment.from_zero {
            self.carry.fill(self.simd.splat_f32s(0.0));
        }
    }

    #[inline(always)]
    fn pass<B: Row<S>, C: Row<S>>(
        &mut self,
        steps: Range<usize>,
        before: Before,
        decay: &mut impl Decay<S>,
        b: impl Fn(usize) -> B,
        c: impl Fn(usize) -> C,
    ) {
        let together = self.carry.len() / TOGETHER * TOGETHER;
        for n in (0..together).step_by(TOGETHER) {
            self.states::<TOGETHER, _, _, _>(n, steps.clone(), before, decay, &b, &c);
        }
        for n in together..self.carry.len() {
            self.states::<1, _, _, _>(n, steps.clone(), before, decay, &b, &c);
        }
    }

    /// Runs K states from `n` on down through the steps, the carries in registers.
    #[inline(always)]
    fn states<const K: usize, D: Decay<S>, B: Row<S>, C: Row<S>>(
        &mut self,
        n: usize,
        steps: Range<usize>,
        before: Before,
        decay: &mut D,
        b: &impl Fn(usize) -> B,
        c: &impl Fn(usize) -> C,
    ) {
        let simd = self.simd;
        let zero = simd.splat_f32s(0.0);
        let states: [_; K] = array::from_fn(|k| decay.state(n + k));
        let a: [_; K] = array::from_fn(|k| self.a[(n + k).min(self.a.len() - 1)]);
        let b: [B; K] = array::from_fn(|k| b(n + k));
        let c: [C; K] = array::from_fn(|k| c(n + k));
        let before: [_; K] = array::from_fn(|k| match before {
            Before::Zero => zero,
            Before::Tile => self.before[n + k],
            Before::Step(i) => self.history[(n + k) * TILE + i],
        });
        let mut carry: [S::f32s; K] = array::from_fn(|k| self.carry[n + k]);
        let mut da = [zero; K];
        let first = steps.start;
        for i in steps.rev() {
            let mut step = decay.begin(i);
            let (dy, taken, size) = (self.dy[i], self.taken[i], self.size[i]);
            let (mut w, mut dstep) = (self.w[i], self.dstep[i]);
            for k in 0..K {
                let place = (n + k) * TILE + i;
                let h_before = if i > first { self.history[place - 1] } else { before[k] };
                let factor = D::factor(simd, states[k], &mut step);
                let g = simd.mul_add_f32s(dy, c[k].at(simd, i), carry[k]);
                let gq = simd.mul_f32s(g, factor.times(simd, h_before, zero));
                carry[k] = factor.times(simd, g, zero);
                w = simd.mul_add_f32s(g, b[k].at(simd, i), w);
                dstep = simd.mul_add_f32s(a[k], gq, dstep);
                da[k] = simd.mul_add_f32s(size, gq, da[k]);
                self.db.add(simd, n + k, i, simd.mul_f32s(g, taken));
                self.dc.add(simd, n + k, i, simd.mul_f32s(dy, self.history[place]));
            }
            (self.w[i], self.dstep[i]) = (w, dstep);
            decay.end(i, step);
        }
        for k in 0..K {
            self.carry[n + k] = carry[k];
            self.da[n + k] = simd.add_f32s(self.da[n + k], da[k]);
        }
    }
}

/// A piece of code of its own, so that the element types of calls share it.
struct Run<'a, 'r, S: Simd, D> {
    reverse: Reverse<'r, S>,
    segments: &'a [Segment],
    decay: &'a mut D,
}

impl<S: Simd, D: Decay<S>> NullaryFnOnce for Run<'_, '_, S, D> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        for (i, segment) in self.segments.iter().enumerate().rev() {
            let before = match (segment.from_zero, i.checked_sub(1)) {
                (true, _) => Before::Zero,
                (false, None) => Before::Tile,
                (false, Some(earlier)) => Before::Step(self.segments[earlier].steps.end - 1),
            };
            self.reverse.segment(segment, before, self.decay);
        }
    }
}
