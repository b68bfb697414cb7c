//! The reference: attention in f64, one query after the other.
//!
//! Inputs are taken as they are, rounded to their types by the caller; nothing is rounded after.
//! All results are (B, H, S, ·), whatever the layout, packed ones with B = 1. With a [`Rounding`]
//! the same computation rounds every intermediate tensor: how far it is from the exact results tells
//! what an implementation in this type may be off.

use super::check::Sequence;
use super::{Inputs, Options, OutputGradients, Problem};
use crate::Result;
use crate::backend::Cpu;
use crate::element::Float;
use crate::parameter::Parameter;
use crate::tensor::View;

/// What attention gives, exact up to f64 rounding.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Exact {
    /// (B, H, Sq, Dv).
    pub out: Vec<f64>,
    /// (B, H, Sq).
    pub lse: Vec<f64>,
}

/// Gradients, exact up to f64 rounding.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ExactGradients {
    /// (B, H, Sq, D).
    pub q: Vec<f64>,
    /// (B, Hk, Sk, D).
    pub k: Vec<f64>,
    /// (B, Hk, Sk, Dv).
    pub v: Vec<f64>,
    /// As `bias`; empty where absent.
    pub bias: Vec<f64>,
    /// (H); empty where absent.
    pub sink: Vec<f64>,
}

/// How intermediate results are rounded.
#[derive(Clone, Copy, Debug)]
pub struct Rounding {
    /// Numbers of intermediate tensors.
    value: fn(f64) -> f64,
    /// Sums, at every term.
    sum: fn(f64) -> f64,
}

impl Rounding {
    /// Not at all.
    pub const NONE: Self = Self { value: |x| x, sum: |x| x };

    /// Tensors to the nearest numbers of a type, sums to those of f32 (f64 for f64).
    pub fn to<T: Float>() -> Self {
        Self { value: nearest::<T>, sum: nearest::<T::State> }
    }

    fn round(self, x: f64) -> f64 {
        (self.value)(x)
    }

    fn dot(self, x: &[f64], y: &[f64]) -> f64 {
        x.iter().zip(y).fold(0.0, |sum, (x, y)| (self.sum)(sum + x * y))
    }

    /// Adds a multiple.
    fn add(self, to: &mut [f64], factor: f64, values: &[f64]) {
        to.iter_mut().zip(values).for_each(|(to, value)| *to = (self.sum)(*to + factor * value));
    }
}

fn nearest<T: Float>(x: f64) -> f64 {
    T::from_f64(x).to_f64()
}

/// Merges two partial results of a query: o of the one under its share of the exponentials, and of
/// the other. What has seen nothing, L = -∞, contributes nothing, whatever its o.
///
/// ```text
/// M = max(L1, L2),  w = e^{L - M},  t = w1 + w2,  o = (w1 / t) o1 + (w2 / t) o2,  L = M + log t
/// ```
pub fn merge(first: (&[f64], f64), second: (&[f64], f64)) -> (Vec<f64>, f64) {
    let ((first, l1), (second, l2)) = (first, second);
    let most = l1.max(l2);
    if l1 == f64::NEG_INFINITY || l2 == f64::NEG_INFINITY {
        return match (l1 == l2, l1 == most) {
            (true, _) => (vec![0.0; first.len()], most),
            (_, true) => (first.to_vec(), l1),
            _ => (second.to_vec(), l2),
        };
    }
    let (w1, w2) = ((l1 - most).exp(), (l2 - most).exp());
    let sum = w1 + w2;
    let merged = first.iter().zip(second).map(|(o1, o2)| w1 / sum * o1 + w2 / sum * o2);
    (merged.collect(), most + sum.ln())
}

/// Evaluates attention in f64, merged into what came `before`, and with the sink if there is one.
///
/// # Errors
///
/// What [`Problem::check`] finds, and [`Error::Value`](crate::Error::Value) where packed sequences
/// do not cover all tokens.
pub fn forward<T: Float>(
    inputs: &Inputs<'_, Cpu, T>,
    options: &Options,
    before: Option<&Exact>,
    rounding: Rounding,
) -> Result<Exact> {
    let arrays = Arrays::read(inputs, options, rounding)?;
    let Problem { batch, heads, queries, value_width, .. } = arrays.problem;
    let rows = batch * heads * queries;
    // A query of no sequence sees nothing.
    let mut exact =
        Exact { out: vec![0.0; rows * value_width], lse: vec![f64::NEG_INFINITY; rows] };
    for (sequence, head, i) in arrays.rows() {
        let row = arrays.row(sequence, head, i);
        let (mut out, mut lse) = arrays.attend(sequence, head, i);
        let place = row * value_width..(row + 1) * value_width;
        if let Some(before) = before {
            (out, lse) = merge((&before.out[place.clone()], before.lse[row]), (&out, lse));
        }
        if let Some(&sink) = arrays.sink.get(head) {
            (out, lse) = merge((&out, lse), (&vec![0.0; value_width], sink));
        }
        for (to, x) in exact.out[place].iter_mut().zip(out) {
            *to = rounding.round(x);
        }
        exact.lse[row] = lse;
    }
    Ok(exact)
}

/// The scores of each query, (B, H, Sq), but for those that are -∞, without sinks.
///
/// # Errors
///
/// As [`forward`].
pub(crate) fn scores<T: Float>(
    inputs: &Inputs<'_, Cpu, T>,
    options: &Options,
) -> Result<Vec<Vec<Score>>> {
    let arrays = Arrays::read(inputs, options, Rounding::NONE)?;
    Ok(arrays.rows().map(|(sequence, head, i)| arrays.scores(sequence, head, i)).collect())
}

/// The row terms δ, (B, H, Sq), of outputs and their gradients.
///
/// # Errors
///
/// Where gradients do not fit.
pub fn row_terms<T: Float>(
    problem: &Problem,
    outputs: &Exact,
    given: &OutputGradients<'_, Cpu, T>,
    rounding: Rounding,
) -> Result<Vec<f64>> {
    problem.check_given(given)?;
    let dout = problem.layout.heads_first(given.out)?.to_f64()?;
    let dlse = values(given.lse)?;
    let width = problem.value_width;
    let term = |(row, (dout, out)): (usize, (&[f64], &[f64]))| match outputs.lse[row] {
        f64::NEG_INFINITY => 0.0,
        _ => rounding.dot(dout, out) - dlse.get(row).unwrap_or(&0.0),
    };
    let rows = dout.chunks_exact(width).zip(outputs.out.chunks_exact(width));
    Ok(rows.enumerate().map(term).collect())
}

/// Evaluates gradients in f64, from row terms, the lse over all keys, and the gradient of `out`.
///
/// # Errors
///
/// As [`forward`].
pub fn backward<T: Float>(
    inputs: &Inputs<'_, Cpu, T>,
    options: &Options,
    [delta, lse]: [&[f64]; 2],
    dout: &View<Cpu>,
    rounding: Rounding,
) -> Result<ExactGradients> {
    let arrays = Arrays::read(inputs, options, rounding)?;
    let dout = options.layout.heads_first(dout)?.to_f64()?;
    let mut exact = ExactGradients {
        q: vec![0.0; arrays.q.len()],
        k: vec![0.0; arrays.k.len()],
        v: vec![0.0; arrays.v.len()],
        bias: vec![0.0; arrays.bias.len()],
        sink: vec![0.0; arrays.sink.len()],
    };
    for (sequence, head, i) in arrays.rows() {
        let row = arrays.row(sequence, head, i);
        if lse[row] == f64::NEG_INFINITY {
            continue;
        }
        let width = arrays.problem.value_width;
        let dout = &dout[row * width..][..width];
        arrays.attend_back((sequence, head, i), [delta[row], lse[row]], dout, &mut exact);
        if let Some(sink) = arrays.sink.get(head) {
            exact.sink[head] -= (sink - lse[row]).exp() * delta[row];
        }
    }
    for gradient in [&mut exact.q, &mut exact.k, &mut exact.v] {
        gradient.iter_mut().for_each(|x| *x = rounding.round(*x));
    }
    Ok(exact)
}

/// The inputs as f64, heads before tokens.
struct Arrays {
    problem: Problem,
    sequences: Vec<Sequence>,
    scale: f64,
    softcap: Option<f64>,
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    /// Empty where absent, as those below.
    bias: Vec<f64>,
    /// Distances in `bias` between batch entries and heads; 0 where these share it.
    bias_strides: [usize; 2],
    sink: Vec<f64>,
    slopes: Vec<f64>,
    rounding: Rounding,
}

/// A score of a pair that sees, and what it has to do with the product.
pub(crate) struct Score {
    pub key: usize,
    pub score: f64,
    /// ds / dx.
    pub slope: f64,
}

impl Arrays {
    fn read<T: Float>(
        inputs: &Inputs<'_, Cpu, T>,
        options: &Options,
        rounding: Rounding,
    ) -> Result<Self> {
        let problem = Problem::check(inputs, options)?;
        let heads_first = |view: &View<Cpu>| options.layout.heads_first(view)?.to_f64();
        let bias_strides = inputs.bias.map_or([0; 2], |bias| {
            let strides = bias.shape().contiguous_strides();
            [0, 1].map(|axis| if bias.shape()[axis] == 1 { 0 } else { strides[axis] })
        });
        Ok(Self {
            sequences: problem.read_sequences(inputs)?,
            scale: problem.scale(options),
            softcap: options.softcap.map(f64::from),
            q: heads_first(inputs.q)?,
            k: heads_first(inputs.k)?,
            v: heads_first(inputs.v)?,
            bias: values(inputs.bias)?,
            bias_strides,
            sink: values(inputs.sink)?,
            slopes: values(inputs.alibi_slopes)?,
            rounding,
            problem,
        })
    }

    /// Every query of every head, by its place in its sequence.
    fn rows(&self) -> impl Iterator<Item = (&Sequence, usize, usize)> {
        let heads = 0..self.problem.heads;
        self.sequences.iter().flat_map(move |sequence| {
            let queries = move |head| (0..sequence.queries.len()).map(move |i| (sequence, head, i));
            heads.clone().flat_map(queries)
        })
    }

    /// The number of a query of a head among all.
    fn row(&self, sequence: &Sequence, head: usize, i: usize) -> usize {
        (sequence.batch * self.problem.heads + head) * self.problem.queries
            + sequence.queries.start
            + i
    }

    /// The number of a key of the head that a query head uses.
    fn key(&self, sequence: &Sequence, head: usize, j: usize) -> usize {
        let head = head / self.problem.group();
        (sequence.batch * self.problem.kv_heads + head) * self.problem.keys
            + sequence.keys.start
            + j
    }

    /// The place of a pair in `bias`.
    fn pair(&self, sequence: &Sequence, head: usize, i: usize, j: usize) -> usize {
        let [batches, heads] = self.bias_strides;
        batches * sequence.batch + heads * head + i * self.problem.keys + j
    }

    /// The scores of a query, but for those that are -∞.
    fn scores(&self, sequence: &Sequence, head: usize, i: usize) -> Vec<Score> {
        let (width, round) = (self.problem.width, |x| self.rounding.round(x));
        let query = &self.q[self.row(sequence, head, i) * width..][..width];
        let slope = match self.slopes.len() {
            0 => 0.0,
            one if one == self.problem.heads => self.slopes[head],
            _ => self.slopes[sequence.number * self.problem.heads + head],
        };
        let seen = (0..sequence.keys.len()).filter(|&j| sequence.sight.sees(i, j));
        let score = |j| {
            let key = self.key(sequence, head, j);
            let x = round(self.scale * self.rounding.dot(query, &self.k[key * width..][..width]));
            let (mut score, mut through) = (x, 1.0);
            if let Some(cap) = self.softcap {
                let bounded = (x / cap).tanh();
                (score, through) = (round(cap * bounded), 1.0 - bounded * bounded);
            }
            if slope != 0.0 {
                score = round(score - slope * sequence.sight.distance(i, j).abs() as f64);
            }
            if !self.bias.is_empty() {
                let bias = self.bias[self.pair(sequence, head, i, j)];
                // A bias of -∞ is a pair that does not see, whatever its score.
                score = if bias == f64::NEG_INFINITY { bias } else { round(score + bias) };
            }
            Score { key: j, score, slope: through }
        };
        seen.map(score).filter(|one| one.score != f64::NEG_INFINITY).collect()
    }

    /// The result and lse of a query over the keys that it sees.
    fn attend(&self, sequence: &Sequence, head: usize, i: usize) -> (Vec<f64>, f64) {
        let scores = self.scores(sequence, head, i);
        let width = self.problem.value_width;
        let mut out = vec![0.0; width];
        if scores.is_empty() {
            return (out, f64::NEG_INFINITY);
        }
        let most = scores.iter().fold(f64::NEG_INFINITY, |most, one| most.max(one.score));
        let sum =
            scores.iter().fold(0.0, |sum, one| (self.rounding.sum)(sum + (one.score - most).exp()));
        for one in &scores {
            let weight = self.rounding.round((one.score - most).exp() / sum);
            let key = self.key(sequence, head, one.key);
            self.rounding.add(&mut out, weight, &self.v[key * width..][..width]);
        }
        (out, most + sum.ln())
    }

    /// Adds the gradients of a query.
    fn attend_back(
        &self,
        (sequence, head, i): (&Sequence, usize, usize),
        [delta, lse]: [f64; 2],
        dout: &[f64],
        exact: &mut ExactGradients,
    ) {
        let Problem { width, value_width, .. } = self.problem;
        let round = |x| self.rounding.round(x);
        let query = self.row(sequence, head, i) * width;
        for Score { key: j, score, slope } in self.scores(sequence, head, i) {
            let key = self.key(sequence, head, j);
            let value = key * value_width..(key + 1) * value_width;
            let weight = round((score - lse).exp());
            let through = round(self.rounding.dot(dout, &self.v[value.clone()]));
            let ds = round(weight * (through - delta));
            self.rounding.add(&mut exact.v[value], weight, dout);
            if !self.bias.is_empty() {
                exact.bias[self.pair(sequence, head, i, j)] += ds;
            }
            let dx = self.scale * round(ds * slope);
            let key = key * width..(key + 1) * width;
            self.rounding.add(&mut exact.q[query..query + width], dx, &self.k[key.clone()]);
            self.rounding.add(&mut exact.k[key], dx, &self.q[query..query + width]);
        }
    }
}

fn values(tensor: Option<Parameter<'_, Cpu>>) -> Result<Vec<f64>> {
    Ok(tensor.map(|tensor| tensor.to_f64()).transpose()?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
