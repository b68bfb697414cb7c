//! Sums over taps, in f32, on whole vectors.
//!
//! A tile is a list of numbers, and a tap reads the same list a few places further on: so the
//! taps come as slices, one for each distance in time. Weights repeat: those of a vector are those
//! of its column, and there are as many columns as vectors in a block of channels; a single one
//! where all numbers belong to one channel.
//!
//! Each sum is a piece of code of its own, for every width, so that the element types of calls
//! share it. There are no closures in it: one that is not inlined lacks the instructions of its
//! caller, and calls each of them as a function.

use pulp::{NullaryFnOnce, Simd};

use crate::backend::cpu::aligned::Aligned;
use crate::backend::cpu::lanes;
use crate::causal_conv1d::{Activation, MAX_WIDTH};

/// Numbers by distance: 0 meets the present step. As many as there are taps.
pub(in crate::causal_conv1d) type Taps<'a> = [&'a [f32]; MAX_WIDTH];

/// Which way the taps of a step reach. Masks belong to the later of the two steps of a tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::causal_conv1d) enum Reach {
    /// To earlier steps: the numbers begin W - 1 steps before the first one.
    Back,
    /// To later steps: the numbers begin with the first one.
    Ahead,
}

impl Reach {
    /// Numbers once for each tap, `stride` of them to a step.
    pub fn taps(self, width: usize, numbers: &[f32], stride: usize) -> Taps<'_> {
        std::array::from_fn(|d| match self {
            _ if d >= width => &[],
            Self::Back => &numbers[(width - 1 - d) * stride..],
            Self::Ahead => &numbers[d * stride..],
        })
    }
}

/// Weights and bias of the channels of a tile, each (column, lane).
#[derive(Clone, Copy)]
pub(in crate::causal_conv1d) struct Weights<'a> {
    pub width: usize,
    pub taps: Taps<'a>,
    pub bias: &'a [f32],
}

impl<'a> Weights<'a> {
    /// Of columns by distance, those of the bias last.
    pub fn new(width: usize, columns: &'a [Aligned; MAX_WIDTH + 1]) -> Self {
        Self { width, taps: std::array::from_fn(|d| &*columns[d]), bias: &columns[MAX_WIDTH] }
    }
}

/// out_i = activation(bias + Σ_d w_d taps_d,i), the farthest tap first.
pub(in crate::causal_conv1d) struct Convolve<'a, S> {
    pub simd: S,
    pub weights: Weights<'a>,
    pub taps: Taps<'a>,
    pub activation: Activation,
    pub out: &'a mut [f32],
}

/// e_i = dout_i activation'(pre_i), in place of dout.
pub(in crate::causal_conv1d) struct BeforeActivation<'a, S> {
    pub simd: S,
    pub weights: Weights<'a>,
    pub taps: Taps<'a>,
    pub activation: Activation,
    pub dout: &'a mut [f32],
}

/// dx_i += Σ_d w_d e_{i+d}, the present step first; `ahead` holds e by distance.
pub(in crate::causal_conv1d) struct Spread<'a, S> {
    pub simd: S,
    pub weights: Weights<'a>,
    pub ahead: Taps<'a>,
    pub dx: &'a mut [f32],
}

/// Adds Σ_i e_i taps_d,i to `dweight` for each distance, and Σ_i e_i to `dbias`; both (column, lane).
pub(in crate::causal_conv1d) struct Correlate<'a, S> {
    pub simd: S,
    pub width: usize,
    pub e: &'a [f32],
    pub taps: Taps<'a>,
    pub dweight: &'a mut [Aligned],
    pub dbias: &'a mut [f32],
}

macro_rules! for_every_width {
    ($($sum:ident of $($width:ident).+;)*) => {
        $(impl<S: Simd> $sum<'_, S> {
            /// Runs it with the vectors of its instructions.
            #[inline(always)]
            pub fn run(self) {
                self.simd.vectorize(self);
            }
        }

        impl<S: Simd> NullaryFnOnce for $sum<'_, S> {
            type Output = ();

            #[inline(always)]
            fn call(self) {
                match self.$($width).+ {
                    1 => self.of_width::<1>(),
                    2 => self.of_width::<2>(),
                    3 => self.of_width::<3>(),
                    4 => self.of_width::<4>(),
                    5 => self.of_width::<5>(),
                    6 => self.of_width::<6>(),
                    7 => self.of_width::<7>(),
                    _ => self.of_width::<8>(),
                }
            }
        })*
    };
}

for_every_width! {
    Convolve of weights.width;
    BeforeActivation of weights.width;
    Spread of weights.width;
    Correlate of width;
}

impl<S: Simd> Convolve<'_, S> {
    #[inline(always)]
    fn of_width<const W: usize>(self) {
        let Self { simd, weights, taps, activation, out } = self;
        let out = S::as_mut_simd_f32s(out).0;
        let bias = vectors::<S>(weights.bias);
        let weights = lists::<S, W>(weights.taps, bias.len());
        let taps = lists::<S, W>(taps, out.len());
        for column in 0..bias.len() {
            let weight = gather(weights, column);
            for i in (column..out.len()).step_by(bias.len()) {
                let sum = sum_of_taps(simd, bias[column], weight, gather(taps, i));
                out[i] = match activation {
                    Activation::None => sum,
                    Activation::Silu => lanes::silu(simd, sum),
                };
            }
        }
    }
}

impl<S: Simd> BeforeActivation<'_, S> {
    #[inline(always)]
    fn of_width<const W: usize>(self) {
        let Self { simd, weights, taps, activation, dout } = self;
        if activation == Activation::None {
            return;
        }
        let e = S::as_mut_simd_f32s(dout).0;
        let bias = vectors::<S>(weights.bias);
        let weights = lists::<S, W>(weights.taps, bias.len());
        let taps = lists::<S, W>(taps, e.len());
        for column in 0..bias.len() {
            let weight = gather(weights, column);
            for i in (column..e.len()).step_by(bias.len()) {
                let sum = sum_of_taps(simd, bias[column], weight, gather(taps, i));
                e[i] = simd.mul_f32s(e[i], lanes::silu_slope(simd, sum));
            }
        }
    }
}

impl<S: Simd> Spread<'_, S> {
    #[inline(always)]
    fn of_width<const W: usize>(self) {
        let Self { simd, weights, ahead, dx } = self;
        let dx = S::as_mut_simd_f32s(dx).0;
        let columns = weights.bias.len() / S::F32_LANES;
        let weights = lists::<S, W>(weights.taps, columns);
        let ahead = lists::<S, W>(ahead, dx.len());
        for column in 0..columns {
            let weight = gather(weights, column);
            for i in (column..dx.len()).step_by(columns) {
                let e = gather(ahead, i);
                let mut sum = dx[i];
                for d in 0..W {
                    sum = simd.mul_add_f32s(weight[d], e[d], sum);
                }
                dx[i] = sum;
            }
        }
    }
}

impl<S: Simd> Correlate<'_, S> {
    #[inline(always)]
    fn of_width<const W: usize>(self) {
        let Self { simd, e, taps, dweight, dbias, .. } = self;
        let length = e.len();
        let (e, rest) = S::as_simd_f32s(e);
        // A rest that fills no vector is there only for a single channel, which has every lane.
        for (lane, &e) in rest.iter().enumerate() {
            let i = length - rest.len() + lane;
            for d in 0..W {
                dweight[d][lane] = e.mul_add(taps[d][i], dweight[d][lane]);
            }
            dbias[lane] += e;
        }
        let taps = lists::<S, W>(taps, e.len());
        let columns = dbias.len() / S::F32_LANES;
        for column in 0..columns {
            let mut sums = [simd.splat_f32s(0.0); W];
            let mut sum = simd.splat_f32s(0.0);
            for i in (column..e.len()).step_by(columns) {
                for d in 0..W {
                    sums[d] = simd.mul_add_f32s(e[i], taps[d][i], sums[d]);
                }
                sum = simd.add_f32s(sum, e[i]);
            }
            for d in 0..W {
                let total = &mut S::as_mut_simd_f32s(&mut dweight[d]).0[column];
                *total = simd.add_f32s(*total, sums[d]);
            }
            let total = &mut S::as_mut_simd_f32s(dbias).0[column];
            *total = simd.add_f32s(*total, sum);
        }
    }
}

/// The vectors of some numbers; a rest that fills none is left out.
#[inline(always)]
fn vectors<S: Simd>(numbers: &[f32]) -> &[S::f32s] {
    S::as_simd_f32s(numbers).0
}

/// As many vectors of each of the first lists.
#[inline(always)]
fn lists<'a, S: Simd, const W: usize>(numbers: Taps<'a>, count: usize) -> [&'a [S::f32s]; W] {
    let mut lists: [&[S::f32s]; W] = [&[]; W];
    for d in 0..W {
        lists[d] = &vectors::<S>(numbers[d])[..count];
    }
    lists
}

/// Vector `i` of each list.
#[inline(always)]
fn gather<V: Copy, const W: usize>(lists: [&[V]; W], i: usize) -> [V; W] {
    let mut gathered = [lists[0][i]; W];
    for d in 1..W {
        gathered[d] = lists[d][i];
    }
    gathered
}

#[inline(always)]
fn sum_of_taps<S: Simd, const W: usize>(
    simd: S,
    bias: S::f32s,
    weight: [S::f32s; W],
    tap: [S::f32s; W],
) -> S::f32s {
    let mut sum = bias;
    for d in (0..W).rev() {
        sum = simd.mul_add_f32s(weight[d], tap[d], sum);
    }
    sum
}
