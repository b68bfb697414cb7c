//! Sums over taps, in f32, on whole vectors.
//!
//! A tile is a list of numbers, and a tap reads the same list a few places further on: so the
//! taps come as slices, one for each distance in time. Weights repeat: those of a vector are those
//! of its column, and there are as many columns as vectors in a block of channels; a single one
//! where all numbers belong to one channel.

use pulp::Simd;

use crate::backend::cpu::lanes;
use crate::causal_conv1d::Activation;

/// Weights and bias of the channels of a tile, each (column, lane).
#[derive(Clone, Copy)]
pub(in crate::causal_conv1d) struct Weights<'a, const W: usize> {
    /// By distance: 0 meets the present step.
    pub taps: [&'a [f32]; W],
    pub bias: &'a [f32],
}

/// The vectors of some numbers; a rest that fills none is left out.
#[inline(always)]
fn vectors<S: Simd>(numbers: &[f32]) -> &[S::f32s] {
    S::as_simd_f32s(numbers).0
}

// No closures below: one that is not inlined does not have the instructions of the caller, and
// calls each of them as a function.

/// Vector `i` of each list.
#[inline(always)]
fn gather<V: Copy, const W: usize>(lists: [&[V]; W], i: usize) -> [V; W] {
    let mut gathered = [lists[0][i]; W];
    for d in 1..W {
        gathered[d] = lists[d][i];
    }
    gathered
}

/// As many vectors of each list.
#[inline(always)]
fn lists<S: Simd, const W: usize>(numbers: [&[f32]; W], count: usize) -> [&[S::f32s]; W] {
    let mut lists: [&[S::f32s]; W] = [&[]; W];
    for d in 0..W {
        lists[d] = &vectors::<S>(numbers[d])[..count];
    }
    lists
}

/// out_i = activation(bias + Σ_d w_d taps_d,i), the farthest tap first.
#[inline(always)]
pub(in crate::causal_conv1d) fn convolve<S: Simd, const W: usize>(
    simd: S,
    weights: Weights<'_, W>,
    taps: [&[f32]; W],
    activation: Activation,
    out: &mut [f32],
) {
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

/// e_i = dout_i activation'(pre_i), in place of dout.
#[inline(always)]
pub(in crate::causal_conv1d) fn before_activation<S: Simd, const W: usize>(
    simd: S,
    weights: Weights<'_, W>,
    taps: [&[f32]; W],
    activation: Activation,
    dout: &mut [f32],
) {
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

/// dx_i += Σ_d w_d e_{i+d}, the present step first; `ahead` holds e by distance.
#[inline(always)]
pub(in crate::causal_conv1d) fn spread<S: Simd, const W: usize>(
    simd: S,
    weights: Weights<'_, W>,
    ahead: [&[f32]; W],
    dx: &mut [f32],
) {
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

/// Adds Σ_i e_i taps_d,i to `dweight` for each distance, and Σ_i e_i to `dbias`; both (column, lane).
#[inline(always)]
pub(in crate::causal_conv1d) fn correlate<S: Simd, const W: usize>(
    simd: S,
    e: &[f32],
    taps: [&[f32]; W],
    dweight: &mut [&mut [f32]; W],
    dbias: &mut [f32],
) {
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
            let total = &mut S::as_mut_simd_f32s(dweight[d]).0[column];
            *total = simd.add_f32s(*total, sums[d]);
        }
        let total = &mut S::as_mut_simd_f32s(dbias).0[column];
        *total = simd.add_f32s(*total, sum);
    }
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
