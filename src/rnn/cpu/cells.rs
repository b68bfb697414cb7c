//! The cells on the lanes of a SIMD register, in f32.

use pulp::Simd;

use crate::backend::cpu::lanes::{exp_below, sigmoid, softplus, tanh};
use crate::rnn::{Activation, Cell, Options};

/// What the gates of some elements are made of; what the cell lacks is not read.
#[derive(Clone, Copy)]
pub(super) struct Gates<V> {
    /// W_k, in the order of the input's gates.
    pub input: [V; 4],
    /// (R_k h'), in the order of the recurrent gates.
    pub recurrent: [V; 4],
    /// b_k, in the order of the bias's gates.
    pub bias: [V; 4],
}

/// What a step gives.
#[derive(Clone, Copy)]
pub(super) struct Step<V> {
    /// h, c, n and m.
    pub states: [V; 4],
    /// In the order of what is kept for the backward pass.
    pub saved: [V; 5],
}

/// What a step backward needs.
#[derive(Clone, Copy)]
pub(super) struct Kept<V> {
    /// In the order of what the forward pass kept.
    pub saved: [V; 5],
    /// h', c' and n'.
    pub before: [V; 3],
    /// h, c and n.
    pub after: [V; 3],
}

/// What a step backward gives.
#[derive(Clone, Copy)]
pub(super) struct Back<V> {
    /// Gradients in the order of the bias's gates.
    pub gates: [V; 4],
    /// Of h', c' and n', but for what h' has by the recurrent matrix.
    pub before: [V; 3],
}

/// The states after a step.
#[inline(always)]
pub(super) fn step<S: Simd>(
    simd: S,
    options: &Options,
    gates: &Gates<S::f32s>,
    before: [S::f32s; 4],
) -> Step<S::f32s> {
    let zero = simd.splat_f32s(0.0);
    let mut step = match options.cell {
        Cell::Elman(activation) => {
            let a = sum(simd, gates, 0);
            let h = match activation {
                Activation::Tanh => tanh(simd, a),
                // In this order a NaN passes through on x86.
                Activation::Relu => simd.max_f32s(zero, a),
            };
            Step { states: [h, zero, zero, zero], saved: [h, zero, zero, zero, zero] }
        }
        Cell::Lstm => {
            let i = sigmoid(simd, sum(simd, gates, 0));
            let f = sigmoid(simd, sum(simd, gates, 1));
            let o = sigmoid(simd, sum(simd, gates, 3));
            let z = tanh(simd, sum(simd, gates, 2));
            let c = simd.mul_add_f32s(f, before[1], simd.mul_f32s(i, z));
            let h = simd.mul_f32s(o, tanh(simd, c));
            Step { states: [h, c, zero, zero], saved: [i, f, z, o, zero] }
        }
        Cell::Gru => {
            let Gates { input, recurrent, bias } = gates;
            let g = simd.add_f32s(recurrent[0], bias[0]);
            let r_bar = simd.add_f32s(simd.add_f32s(input[0], bias[1]), recurrent[1]);
            let z_bar = simd.add_f32s(simd.add_f32s(input[1], bias[2]), recurrent[2]);
            let (r, z) = (sigmoid(simd, r_bar), sigmoid(simd, z_bar));
            let q = tanh(simd, simd.mul_add_f32s(r, g, simd.add_f32s(input[2], bias[3])));
            let h = simd.mul_add_f32s(z, simd.sub_f32s(before[0], q), q);
            Step { states: [h, zero, zero, zero], saved: [r, z, q, g, zero] }
        }
        Cell::Slstm => slstm(simd, options.n_floor, gates, before),
    };
    if let Some(clip) = options.output_clip {
        step.states[0] = clamp(simd, step.states[0], clip);
    }
    step
}

#[inline(always)]
fn slstm<S: Simd>(
    simd: S,
    floor: f32,
    gates: &Gates<S::f32s>,
    [_, c, n, m]: [S::f32s; 4],
) -> Step<S::f32s> {
    let zero = simd.splat_f32s(0.0);
    let (i_bar, f_bar) = (sum(simd, gates, 0), sum(simd, gates, 1));
    let z = tanh(simd, sum(simd, gates, 2));
    let o = sigmoid(simd, sum(simd, gates, 3));
    let minus = simd.neg_f32s(f_bar);
    let forgets = sigmoid(simd, minus);
    let mut log = [minus];
    softplus(simd, &mut log);
    let l = simd.sub_f32s(m, log[0]);
    // Nothing has been seen by an empty element: what c' and m' are does not matter.
    let empty = simd.equal_f32s(n, zero);
    let larger = simd.select_f32s(simd.less_than_f32s(i_bar, l), l, i_bar);
    let is_number = simd.equal_f32s(l, l);
    let m = simd.select_f32s(empty, i_bar, simd.select_f32s(is_number, larger, l));
    let i = exp_below(simd, simd.sub_f32s(i_bar, m));
    let f = exp_below(simd, simd.sub_f32s(l, m));
    let f = simd.select_f32s(empty, zero, f);
    // A state may be infinite where nothing is kept of it.
    let gone = simd.equal_f32s(f, zero);
    let kept_c = simd.select_f32s(gone, zero, simd.mul_f32s(f, c));
    let kept_n = simd.select_f32s(gone, zero, simd.mul_f32s(f, n));
    let c = simd.mul_add_f32s(i, z, kept_c);
    let n = simd.max_f32s(simd.splat_f32s(floor), simd.add_f32s(kept_n, i));
    let h = simd.div_f32s(simd.mul_f32s(o, c), n);
    Step { states: [h, c, n, m], saved: [i, f, forgets, z, o] }
}

/// The gradients of a step, of which those of the states after it are `total`.
#[inline(always)]
pub(super) fn back<S: Simd>(
    simd: S,
    options: &Options,
    kept: &Kept<S::f32s>,
    mut total: [S::f32s; 3],
) -> Back<S::f32s> {
    let zero = simd.splat_f32s(0.0);
    if let Some(clip) = options.output_clip {
        let within = simd.less_than_or_equal_f32s(
            simd.abs_f32s(candidate(simd, options.cell, kept)),
            simd.splat_f32s(clip),
        );
        total[0] = simd.select_f32s(within, total[0], zero);
    }
    match options.cell {
        Cell::Elman(activation) => {
            let h = if options.output_clip.is_some() { kept.saved[0] } else { kept.after[0] };
            let gate = match activation {
                Activation::Tanh => simd.mul_f32s(total[0], less_square(simd, h)),
                Activation::Relu => {
                    simd.select_f32s(simd.greater_than_f32s(h, zero), total[0], zero)
                }
            };
            Back { gates: [gate, zero, zero, zero], before: [zero; 3] }
        }
        Cell::Lstm => {
            let [i, f, z, o, _] = kept.saved;
            let tanh_c = tanh(simd, kept.after[1]);
            let through = simd.mul_f32s(simd.mul_f32s(total[0], o), less_square(simd, tanh_c));
            let dc = simd.add_f32s(total[1], through);
            let gates = [
                product(simd, [dc, z, slope(simd, i)]),
                product(simd, [dc, kept.before[1], slope(simd, f)]),
                product(simd, [dc, i, less_square(simd, z)]),
                product(simd, [total[0], tanh_c, slope(simd, o)]),
            ];
            Back { gates, before: [zero, simd.mul_f32s(dc, f), zero] }
        }
        Cell::Gru => {
            let [r, z, q, g, _] = kept.saved;
            let rest = simd.sub_f32s(simd.splat_f32s(1.0), z);
            let dz = product(simd, [total[0], simd.sub_f32s(kept.before[0], q), slope(simd, z)]);
            let dn = product(simd, [total[0], rest, less_square(simd, q)]);
            let dr = product(simd, [dn, g, slope(simd, r)]);
            let gates = [simd.mul_f32s(dn, r), dr, dz, dn];
            Back { gates, before: [simd.mul_f32s(total[0], z), zero, zero] }
        }
        Cell::Slstm => {
            let [i, f, forgets, z, o] = kept.saved;
            let [_, c, n] = kept.after;
            let y = simd.div_f32s(c, n);
            let share = simd.div_f32s(simd.mul_f32s(total[0], o), n);
            let dc = simd.add_f32s(total[1], share);
            let dn = simd.sub_f32s(total[2], simd.mul_f32s(share, y));
            let gone = simd.equal_f32s(f, zero);
            let of_states =
                simd.mul_add_f32s(dc, kept.before[1], simd.mul_f32s(dn, kept.before[2]));
            let df = product(simd, [f, of_states, forgets]);
            let gates = [
                simd.mul_f32s(i, simd.mul_add_f32s(dc, z, dn)),
                simd.select_f32s(gone, zero, df),
                product(simd, [dc, i, less_square(simd, z)]),
                product(simd, [total[0], y, slope(simd, o)]),
            ];
            Back { gates, before: [zero, simd.mul_f32s(dc, f), simd.mul_f32s(dn, f)] }
        }
    }
}

/// h before it was clipped.
#[inline(always)]
fn candidate<S: Simd>(simd: S, cell: Cell, kept: &Kept<S::f32s>) -> S::f32s {
    match cell {
        Cell::Elman(_) => kept.saved[0],
        Cell::Lstm => simd.mul_f32s(kept.saved[3], tanh(simd, kept.after[1])),
        Cell::Gru => {
            let [_, z, q, ..] = kept.saved;
            simd.mul_add_f32s(z, simd.sub_f32s(kept.before[0], q), q)
        }
        Cell::Slstm => simd.div_f32s(simd.mul_f32s(kept.saved[4], kept.after[1]), kept.after[2]),
    }
}

/// The pre-activation of a cell whose gates all have input, matrix and bias.
#[inline(always)]
fn sum<S: Simd>(simd: S, gates: &Gates<S::f32s>, k: usize) -> S::f32s {
    simd.add_f32s(simd.add_f32s(gates.input[k], gates.bias[k]), gates.recurrent[k])
}

#[inline(always)]
fn product<S: Simd>(simd: S, [x, y, z]: [S::f32s; 3]) -> S::f32s {
    simd.mul_f32s(simd.mul_f32s(x, y), z)
}

/// x (1 - x), the slope of the sigmoid that gave x.
#[inline(always)]
fn slope<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.mul_f32s(x, simd.sub_f32s(simd.splat_f32s(1.0), x))
}

/// 1 - x².
#[inline(always)]
fn less_square<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.sub_f32s(simd.splat_f32s(1.0), x), simd.add_f32s(simd.splat_f32s(1.0), x))
}

/// x within this magnitude; a NaN stays a NaN.
#[inline(always)]
pub(super) fn clamp<S: Simd>(simd: S, x: S::f32s, clip: f32) -> S::f32s {
    let below = simd.max_f32s(simd.splat_f32s(-clip), x);
    simd.min_f32s(simd.splat_f32s(clip), below)
}
