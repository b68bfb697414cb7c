//! One element of a cell at one step: what it becomes, and its gradients.

use crate::rnn::{Activation, Cell};

/// h, c, n and m; those that the cell lacks are 0.
pub(super) type States = [f64; 4];

/// What the gates of an element are made of; those that the cell lacks are 0.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gates {
    /// W_k, in the order of the input's gates.
    pub input: [f64; 4],
    /// (R_k h'), in the order of the recurrent gates.
    pub recurrent: [f64; 4],
    /// b_k, in the order of the bias's gates.
    pub bias: [f64; 4],
}

/// Gradients of an element's gates, and of the states before the step.
pub(super) struct Gradients {
    pub gates: Gates,
    /// Of h', c' and n', but for what h' has by the recurrent matrix.
    pub before: [f64; 3],
}

/// The states after a step, h before any clip.
pub(super) fn step(cell: Cell, floor: f64, gates: &Gates, before: States) -> States {
    match cell {
        Cell::Elman(activation) => [elman(activation, gates), 0.0, 0.0, 0.0],
        Cell::Lstm => {
            let [i, f, z, o] = lstm(gates);
            let c = f * before[1] + i * z;
            [o * c.tanh(), c, 0.0, 0.0]
        }
        Cell::Gru => {
            let Gru { z, q, .. } = Gru::of(gates);
            [z * before[0] + (1.0 - z) * q, 0.0, 0.0, 0.0]
        }
        Cell::Slstm => {
            let gates = Slstm::of(gates, before);
            let (c, n) = gates.advance(floor, before);
            [gates.o * c / n, c, n, gates.m]
        }
    }
}

/// The gradients of a step, of which those of the states after it are `total`.
pub(super) fn back(
    cell: Cell,
    floor: f64,
    gates: &Gates,
    before: States,
    total: [f64; 3],
) -> Gradients {
    match cell {
        Cell::Elman(activation) => {
            let h = elman(activation, gates);
            let slope = match activation {
                Activation::Tanh => 1.0 - h * h,
                Activation::Relu => f64::from(u8::from(h > 0.0)),
            };
            Gradients::alike([total[0] * slope, 0.0, 0.0, 0.0], [0.0; 3])
        }
        Cell::Lstm => lstm_back(gates, before, total),
        Cell::Gru => gru_back(gates, before, total[0]),
        Cell::Slstm => slstm_back(floor, gates, before, total),
    }
}

impl Gradients {
    /// Of a cell whose gates all have input, matrix and bias.
    fn alike(gates: [f64; 4], before: [f64; 3]) -> Self {
        Self { gates: Gates { input: gates, recurrent: gates, bias: gates }, before }
    }
}

impl Gates {
    /// Pre-activations of a cell whose gates all have input, matrix and bias.
    fn sums(&self) -> [f64; 4] {
        std::array::from_fn(|k| self.input[k] + self.recurrent[k] + self.bias[k])
    }
}

fn elman(activation: Activation, gates: &Gates) -> f64 {
    let [a, ..] = gates.sums();
    match activation {
        Activation::Tanh => a.tanh(),
        Activation::Relu => larger(a, 0.0),
    }
}

/// i, f, z, o.
fn lstm(gates: &Gates) -> [f64; 4] {
    let [i, f, z, o] = gates.sums();
    [sigmoid(i), sigmoid(f), z.tanh(), sigmoid(o)]
}

fn lstm_back(gates: &Gates, before: States, total: [f64; 3]) -> Gradients {
    let [i, f, z, o] = lstm(gates);
    let tanh_c = (f * before[1] + i * z).tanh();
    let dc = total[1] + total[0] * o * (1.0 - tanh_c * tanh_c);
    let gates = [
        dc * z * i * (1.0 - i),
        dc * before[1] * f * (1.0 - f),
        dc * i * (1.0 - z * z),
        total[0] * tanh_c * o * (1.0 - o),
    ];
    Gradients::alike(gates, [0.0, dc * f, 0.0])
}

struct Gru {
    g: f64,
    r: f64,
    z: f64,
    q: f64,
}

impl Gru {
    fn of(gates: &Gates) -> Self {
        let Gates { input, recurrent, bias } = gates;
        let g = recurrent[0] + bias[0];
        let r = sigmoid(input[0] + recurrent[1] + bias[1]);
        let z = sigmoid(input[1] + recurrent[2] + bias[2]);
        let q = (input[2] + bias[3] + r * g).tanh();
        Self { g, r, z, q }
    }
}

fn gru_back(gates: &Gates, before: States, total: f64) -> Gradients {
    let Gru { g, r, z, q } = Gru::of(gates);
    let dz = total * (before[0] - q) * z * (1.0 - z);
    let dn = total * (1.0 - z) * (1.0 - q * q);
    let dr = dn * g * r * (1.0 - r);
    let gates = Gates {
        input: [dr, dz, dn, 0.0],
        recurrent: [dn * r, dr, dz, 0.0],
        bias: [dn * r, dr, dz, dn],
    };
    Gradients { gates, before: [total * z, 0.0, 0.0] }
}

struct Slstm {
    i: f64,
    f: f64,
    z: f64,
    o: f64,
    m: f64,
    /// σ(-f̄).
    forgets: f64,
}

impl Slstm {
    fn of(gates: &Gates, [_, _, n, m]: States) -> Self {
        let [i_bar, f_bar, z_bar, o_bar] = gates.sums();
        let (z, o, forgets) = (z_bar.tanh(), sigmoid(o_bar), sigmoid(-f_bar));
        if n == 0.0 {
            // Nothing has been seen: what c' and m' are does not matter.
            let m = i_bar;
            return Self { i: (i_bar - m).exp(), f: 0.0, z, o, m, forgets };
        }
        let l = log_sigmoid(f_bar) + m;
        let m = larger(i_bar, l);
        Self { i: (i_bar - m).exp(), f: (l - m).exp(), z, o, m, forgets }
    }

    /// c and n.
    fn advance(&self, floor: f64, [_, c, n, _]: States) -> (f64, f64) {
        // An empty element's c' may be infinite.
        let kept = |x: f64| if self.f == 0.0 { 0.0 } else { self.f * x };
        (kept(c) + self.i * self.z, larger(kept(n) + self.i, floor))
    }
}

fn slstm_back(floor: f64, gates: &Gates, before: States, total: [f64; 3]) -> Gradients {
    let gates = Slstm::of(gates, before);
    let (c, n) = gates.advance(floor, before);
    let Slstm { i, f, z, o, forgets, .. } = gates;
    let y = c / n;
    let dc = total[1] + total[0] * o / n;
    let dn = total[2] - total[0] * o * y / n;
    let kept = |x: f64| if f == 0.0 { 0.0 } else { f * x };
    let gates = [
        i * (dc * z + dn),
        kept(dc * before[1] + dn * before[2]) * forgets,
        dc * i * (1.0 - z * z),
        total[0] * y * o * (1.0 - o),
    ];
    Gradients::alike(gates, [0.0, dc * f, dn * f])
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// log σ(x), to the last digits on both sides.
fn log_sigmoid(x: f64) -> f64 {
    smaller(x, 0.0) - (-x.abs()).exp().ln_1p()
}

/// The larger one; NaN where either is.
fn larger(x: f64, y: f64) -> f64 {
    if x.is_nan() || x > y { x } else { y }
}

/// The smaller one; NaN where either is.
fn smaller(x: f64, y: f64) -> f64 {
    if x.is_nan() || x < y { x } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithm_of_the_sigmoid_keeps_its_digits() {
        assert_eq!(log_sigmoid(-800.0), -800.0);
        assert!((log_sigmoid(40.0) + (-40f64).exp()).abs() < 1e-30);
        assert!((log_sigmoid(0.0) + 2f64.ln()).abs() < 1e-16);
        assert!(log_sigmoid(f64::NAN).is_nan() && larger(0.0, f64::NAN).is_nan());
    }
}
