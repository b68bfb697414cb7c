//! From products to scores, and from scores to weights, a row at a time, in base 2.

use std::f32::consts::LOG2_E;
use std::ops::Range;

use pulp::Simd;

use super::tensors::{BiasSource, Place};
use crate::Result;
use crate::attention::check::Sequence;
use crate::attention::{Inputs, Options, Problem};
use crate::backend::Cpu;
use crate::backend::cpu::lanes::{exp2, tanh};
use crate::element::DeviceFloat;

/// What is done to products.
pub(super) struct Scores<'a, T> {
    /// From products to scores, or to what the softcap takes.
    factor: f32,
    /// c log2 e.
    softcap: Option<f32>,
    /// (H) or (S, H), times log2 e.
    slopes: Vec<f32>,
    bias: Option<BiasSource<'a, T>>,
    heads: usize,
}

/// A query of a head.
#[derive(Clone, Copy)]
pub(super) struct Query<'a> {
    pub sequence: &'a Sequence,
    pub head: usize,
    /// Among the tokens of its sequence.
    pub token: usize,
}

impl Query<'_> {
    /// The batch entry and head that it lies in.
    pub fn place(&self) -> Place {
        [self.sequence.batch, self.head]
    }

    /// Its number among the tokens of the batch entry.
    pub fn row(&self) -> usize {
        self.sequence.queries.start + self.token
    }
}

impl<'a, T: DeviceFloat> Scores<'a, T> {
    pub fn new(
        problem: &Problem,
        inputs: &Inputs<'a, Cpu, T>,
        options: &Options,
        bias: Option<&'a [u8]>,
    ) -> Result<Self> {
        let scale = problem.scale(options) as f32;
        let slopes = inputs.alibi_slopes.map(|slopes| slopes.to_f32()).transpose()?;
        let bias = bias.zip(inputs.bias);
        Ok(Self {
            factor: options.softcap.map_or(scale * LOG2_E, |cap| scale / cap),
            softcap: options.softcap.map(|cap| cap * LOG2_E),
            slopes: slopes.unwrap_or_default().iter().map(|slope| slope * LOG2_E).collect(),
            bias: bias.map(|(bytes, bias)| BiasSource::new(bytes, bias.view())).transpose()?,
            heads: problem.heads,
        })
    }

    /// Makes scores of a query's products with the keys from `first` on, -∞ for those that are not
    /// `seen`; both count the keys of the batch entry. `through` gets 1 - tanh² of each, where there
    /// is a softcap.
    #[inline(always)]
    pub fn row<S: Simd>(
        &self,
        simd: S,
        row: &mut [f32],
        query: Query<'_>,
        (first, seen): (usize, Range<usize>),
        through: Option<&mut [f32]>,
    ) {
        let factor = simd.splat_f32s(self.factor);
        let vectors = S::as_mut_simd_f32s(row).0;
        match (self.softcap, through) {
            (None, _) => {
                for x in vectors {
                    *x = simd.mul_f32s(*x, factor);
                }
            }
            (Some(cap), None) => {
                let cap = simd.splat_f32s(cap);
                for x in vectors {
                    *x = simd.mul_f32s(cap, tanh(simd, simd.mul_f32s(*x, factor)));
                }
            }
            (Some(cap), Some(through)) => {
                let (cap, one) = (simd.splat_f32s(cap), simd.splat_f32s(1.0));
                for (x, through) in vectors.iter_mut().zip(S::as_mut_simd_f32s(through).0) {
                    let bounded = tanh(simd, simd.mul_f32s(*x, factor));
                    *through =
                        simd.mul_f32s(simd.sub_f32s(one, bounded), simd.add_f32s(one, bounded));
                    *x = simd.mul_f32s(cap, bounded);
                }
            }
        }
        if !self.slopes.is_empty() {
            self.lean(row, query, first, &seen);
        }
        if let Some(bias) = &self.bias {
            let mut piece = [0.0; 64];
            for start in seen.clone().step_by(piece.len()) {
                let piece = &mut piece[..(seen.end - start).min(64)];
                bias.row(query.place(), query.token, start, piece);
                for (x, bias) in row[start - first..].iter_mut().zip(piece) {
                    // A bias of -∞ is a pair that does not see, whatever its score.
                    *x = if *bias == f32::NEG_INFINITY { *bias } else { *x + *bias * LOG2_E };
                }
            }
        }
        let end = first + row.len();
        row[..seen.start.clamp(first, end) - first].fill(f32::NEG_INFINITY);
        row[seen.end.clamp(first, end) - first..].fill(f32::NEG_INFINITY);
    }

    /// Takes off what the distance costs.
    #[inline(always)]
    fn lean(&self, row: &mut [f32], query: Query<'_>, first: usize, seen: &Range<usize>) {
        let sight = &query.sequence.sight;
        let number = if self.slopes.len() == self.heads { 0 } else { query.sequence.number };
        let slope = self.slopes[number * self.heads + query.head];
        let at = sight.queries.position(query.token) as i64 + sight.offset;
        let own = query.sequence.keys.start;
        for (keys, start, stride) in sight.keys.runs(seen.start - own..seen.end - own) {
            // Positions are below 2³⁰.
            let (mut distance, stride) = ((start as i64 - at) as i32, stride as i32);
            for x in &mut row[own + keys.start - first..own + keys.end - first] {
                *x -= slope * distance.abs() as f32;
                distance = distance.wrapping_add(stride);
            }
        }
    }
}

impl Query<'_> {
    /// The keys of the batch entry that it sees among `keys`.
    pub fn keys(&self, keys: &Range<usize>) -> Range<usize> {
        within(self.sequence, self.sequence.sight.keys_of(self.token), keys)
    }
}

/// Keys of a sequence as keys of its batch entry, those of them that are among `keys`.
pub(super) fn within(
    sequence: &Sequence,
    found: Range<usize>,
    keys: &Range<usize>,
) -> Range<usize> {
    let clamped = |key: usize| (sequence.keys.start + key).clamp(keys.start, keys.end);
    clamped(found.start)..clamped(found.end)
}

/// The largest of some scores and `most`.
#[inline(always)]
pub(super) fn largest<S: Simd>(simd: S, scores: &[f32], most: f32) -> f32 {
    let mut largest = simd.splat_f32s(most);
    for scores in S::as_simd_f32s(scores).0 {
        largest = simd.max_f32s(largest, *scores);
    }
    simd.reduce_max_f32s(largest)
}

/// Makes weights 2^(s - `reference`) of scores, and adds them up.
#[inline(always)]
pub(super) fn weights<S: Simd>(simd: S, scores: &mut [f32], reference: f32) -> f32 {
    let (reference, mut sum) = (simd.splat_f32s(reference), simd.splat_f32s(0.0));
    for x in S::as_mut_simd_f32s(scores).0 {
        let power = exp2(simd, simd.sub_f32s(*x, reference));
        *x = simd.mul_add_f32s(power.scale, power.above, power.scale);
        sum = simd.add_f32s(sum, *x);
    }
    simd.reduce_sum_f32s(sum)
}
