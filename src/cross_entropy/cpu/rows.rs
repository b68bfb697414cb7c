//! Rows of logits, some columns at a time: what they tell of a token, and their gradients.

use std::f32::consts::LOG2_E;
use std::ops::Range;

use pulp::Simd;

use crate::Result;
use crate::backend::Cpu;
use crate::backend::cpu::lanes::{exp2, tanh};
use crate::cross_entropy::reference::{factor, targets};
use crate::cross_entropy::{Options, Problem, Reduction, STATISTICS};
use crate::parameter::{Indices, Parameter};
use crate::tensor::Tensor;

/// Columns of a piece, which stays in the first cache: every row is walked in such pieces, whose sums
/// start from zero.
pub(super) const PIECE: usize = 1024;

/// What some columns tell of a token. The largest logit is finite, so that a difference from it is no
/// number only where the logit is none.
#[derive(Clone, Copy)]
pub(super) struct Running {
    m: f32,
    s: f32,
    target: f32,
    sum: f32,
}

impl Running {
    /// Of no column.
    pub const NONE: Self = Self { m: f32::MIN, s: 0.0, target: 0.0, sum: 0.0 };

    /// The numbers as other ranks get them.
    pub fn numbers(self) -> [f32; STATISTICS] {
        [self.m, self.s, self.target, self.sum]
    }

    /// Takes in what other columns tell.
    #[inline(always)]
    pub fn merge(&mut self, other: Self) {
        let m = self.m.max(other.m);
        self.s = self.s * (self.m - m).exp() + other.s * (other.m - m).exp();
        self.m = m;
        self.target += other.target;
        self.sum += other.sum;
    }
}

/// What a piece tells, whose columns begin at `first` of the vocabulary. `piece` has `count` logits,
/// then room up to whole vectors.
#[inline(always)]
pub(super) fn told<S: Simd>(
    simd: S,
    piece: &mut [f32],
    (first, count): (usize, usize),
    target: Option<usize>,
    softcap: Option<f32>,
) -> Running {
    piece[count..].fill(0.0);
    if let Some(cap) = softcap {
        for z in S::as_mut_simd_f32s(piece).0 {
            *z = simd.mul_f32s(simd.splat_f32s(cap), bounded(simd, *z, cap));
        }
    }
    let (mut sum, mut most) = (simd.splat_f32s(0.0), simd.splat_f32s(f32::MIN));
    for z in S::as_simd_f32s(piece).0 {
        sum = simd.add_f32s(sum, *z);
    }
    let at = target.and_then(|target| target.checked_sub(first)).filter(|&at| at < count);
    let target = at.map_or(0.0, |at| piece[at]);
    piece[count..].fill(f32::NEG_INFINITY);
    for z in S::as_simd_f32s(piece).0 {
        most = simd.max_f32s(most, *z);
    }
    // The maximum may have met a number that is none, and forgotten the others.
    let m = match simd.reduce_max_f32s(most) {
        m if m.is_nan() => f32::MIN,
        m => m.clamp(f32::MIN, f32::MAX),
    };
    let mut s = simd.splat_f32s(0.0);
    for z in S::as_simd_f32s(piece).0 {
        s = simd.add_f32s(s, power(simd, simd.sub_f32s(*z, simd.splat_f32s(m))));
    }
    Running { m, s: simd.reduce_sum_f32s(s), target, sum: simd.reduce_sum_f32s(sum) }
}

/// tanh(z / c).
#[inline(always)]
fn bounded<S: Simd>(simd: S, z: S::f32s, cap: f32) -> S::f32s {
    tanh(simd, simd.div_f32s(z, simd.splat_f32s(cap)))
}

/// e^x.
#[inline(always)]
fn power<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let power = exp2(simd, simd.mul_f32s(x, simd.splat_f32s(LOG2_E)));
    simd.mul_add_f32s(power.scale, power.above, power.scale)
}

/// What the gradients of rows are made of.
pub(super) struct Slopes {
    targets: Vec<Option<usize>>,
    lse: Vec<f32>,
    /// The gradient of each token's loss.
    upstream: Vec<f32>,
    smoothing: f32,
    z_loss: f32,
    /// 1 / V.
    share: f32,
    softcap: Option<f32>,
}

impl Slopes {
    pub fn new(
        problem: &Problem,
        target: Indices<'_, Cpu>,
        options: &Options,
        lse: &Tensor<Cpu, f32>,
        dloss: Parameter<'_, Cpu>,
    ) -> Result<Self> {
        let targets = targets(problem, target, options)?;
        let (dloss, factor) = (dloss.to_f32()?, factor(problem, &targets) as f32);
        let upstream = match problem.reduction {
            Reduction::None => dloss,
            Reduction::Mean | Reduction::Sum => vec![dloss[0] * factor; problem.tokens],
        };
        Ok(Self {
            targets,
            lse: lse.to_vec()?,
            upstream,
            smoothing: options.label_smoothing,
            z_loss: options.z_loss,
            share: 1.0 / problem.vocabulary.max(1) as f32,
            softcap: options.softcap,
        })
    }

    /// Makes a token's logits of the columns from `first` on, of which there are `count`, their
    /// gradients. `piece` has whole vectors.
    #[inline(always)]
    pub fn turn<S: Simd>(
        &self,
        simd: S,
        token: usize,
        piece: &mut [f32],
        (first, count): (usize, usize),
    ) {
        let Some(target) = self.targets[token] else {
            piece[..count].fill(0.0);
            return;
        };
        let (g, lse) = (self.upstream[token], self.lse[token]);
        let of_power = if self.z_loss > 0.0 { g * (1.0 + 2.0 * self.z_loss * lse) } else { g };
        let of_all = -g * self.smoothing * self.share;
        let at = target.checked_sub(first).filter(|&at| at < count);
        let raw = at.map(|at| piece[at]);
        let [lse, of_power, of_all] = [lse, of_power, of_all].map(|x| simd.splat_f32s(x));
        for z in S::as_mut_simd_f32s(piece).0 {
            let Some(cap) = self.softcap else {
                *z = simd.mul_add_f32s(of_power, power(simd, simd.sub_f32s(*z, lse)), of_all);
                continue;
            };
            let (one, tanh) = (simd.splat_f32s(1.0), bounded(simd, *z, cap));
            let capped = simd.mul_f32s(simd.splat_f32s(cap), tanh);
            let slope = simd.mul_f32s(simd.sub_f32s(one, tanh), simd.add_f32s(one, tanh));
            let inner = power(simd, simd.sub_f32s(capped, lse));
            *z = simd.mul_f32s(slope, simd.mul_add_f32s(of_power, inner, of_all));
        }
        if let Some((at, raw)) = at.zip(raw) {
            let tanh = self.softcap.map_or(0.0, |cap| (raw / cap).tanh());
            piece[at] -= g * (1.0 - self.smoothing) * (1.0 - tanh) * (1.0 + tanh);
        }
    }
}

/// Pieces of some columns: where each begins, and how many it has.
pub(super) fn pieces(columns: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
    columns.clone().step_by(PIECE).map(move |first| (first, PIECE.min(columns.end - first)))
}
