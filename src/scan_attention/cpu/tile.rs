//! What the steps of a tile do to the state of one head: numbers that all features share.
//!
//! Within the tile sums start from nothing: m', u', w'. With (m0, u0, w0) before the tile,
//!
//! ```text
//! m'_t = max(m'_{t-1}, s_t)
//! w'_t = keep_t w'_{t-1} + weight_t v_t      keep_t = e^{m'_{t-1} - m'_t},  weight_t = e^{s_t - m'_t}
//! w_t  = before_t w0 + inside_t w'_t         before_t = e^{m0 - m_t},  inside_t = e^{m'_t - m_t}
//! ```
//!
//! with m_t = max(m0, m'_t), and u as w with v = 1. At a reset m', u', w' and (m0, u0, w0) are set
//! to nothing, whatever they were.

use pulp::Simd;

use crate::backend::cpu::lanes;
use crate::resets::Step;
use crate::scan_attention::TILE;

/// Stands for -∞ where it is subtracted: e^{-∞ - LEAST} is 0, and no number comes near it.
const LEAST: f32 = f32::MIN;

/// Exponents, or exponentials, of the steps of a tile.
type Lane = [f32; TILE];

/// What the steps of a tile do; see the [module](self).
pub(super) struct Tile {
    pub keep: Lane,
    pub weight: Lane,
    pub before: Lane,
    pub inside: Lane,
    pub m: Lane,
    pub u: Lane,
    /// 1 / u, or 0 where nothing has been seen.
    pub inverse: Lane,
}

/// The scores of a tile, and which of them count.
pub(super) struct Scores<'a> {
    /// Not read where the token is not taken.
    pub values: &'a [f32],
    pub meanings: &'a [Step],
    pub taken: &'a [bool],
}

impl Tile {
    /// The steps after a state with `m0` and `u0`.
    #[inline(always)]
    pub fn new<S: Simd>(simd: S, scores: &Scores<'_>, m0: f32, u0: f32) -> Self {
        let zero = [0.0; TILE];
        let [mut keep, mut weight, mut before, mut inside, mut m] = [zero; 5];
        let (mut outer, mut inner) = (m0, f32::NEG_INFINITY);
        for (i, (&meaning, &taken)) in scores.meanings.iter().zip(scores.taken).enumerate() {
            if meaning == Step::Reset {
                (outer, inner) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
            }
            let score = if taken { scores.values[i] } else { f32::NEG_INFINITY };
            let largest = larger(inner, score);
            keep[i] = inner - larger(largest, LEAST);
            weight[i] = score - larger(largest, LEAST);
            inner = largest;
            m[i] = larger(outer, inner);
            before[i] = outer - larger(m[i], LEAST);
            inside[i] = inner - larger(m[i], LEAST);
        }
        for exponents in [&mut keep, &mut weight, &mut before, &mut inside] {
            exponentials(simd, exponents);
        }
        let (mut u, mut inverse) = (zero, zero);
        let (mut outer, mut inner) = (u0, 0.0);
        for (i, &meaning) in scores.meanings.iter().enumerate() {
            if meaning == Step::Reset {
                (outer, inner) = (0.0, 0.0);
            }
            inner = inner * keep[i] + weight[i];
            u[i] = before[i] * outer + inside[i] * inner;
            inverse[i] = if u[i] == 0.0 { 0.0 } else { 1.0 / u[i] };
        }
        Self { keep, weight, before, inside, m, u, inverse }
    }
}

/// The maximum, or a NaN where one of the two is.
#[inline(always)]
fn larger(x: f32, y: f32) -> f32 {
    if x.is_nan() || x > y { x } else { y }
}

/// e^x in place of each x <= 0.
#[inline(always)]
pub(super) fn exponentials<S: Simd>(simd: S, exponents: &mut Lane) {
    for x in S::as_mut_simd_f32s(exponents).0 {
        *x = lanes::exp_below(simd, *x);
    }
}

/// e^{m_t - m_{t+1}} of each step of a tile, with `beyond` for m behind its last step; in what
/// `larger` gives, -∞ to -∞ is 0.
#[inline(always)]
pub(super) fn fading<S: Simd>(simd: S, m: &[f32], beyond: f32) -> Lane {
    let mut fading = [0.0; TILE];
    for (i, &own) in m.iter().enumerate() {
        let next = m.get(i + 1).copied().unwrap_or(beyond);
        // Where a reset in between lowers m, the caller passes over what this gives.
        fading[i] = own - larger(next, LEAST);
    }
    exponentials(simd, &mut fading);
    fading
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, WithSimd};

    use super::*;

    struct Make<'a>(Scores<'a>, f32, f32);

    impl WithSimd for Make<'_> {
        type Output = Tile;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Tile {
            Tile::new(simd, &self.0, self.1, self.2)
        }
    }

    #[test]
    fn nothing_seen_is_nothing() {
        let values = [f32::NEG_INFINITY, 0.0, 3.0, f32::NAN];
        let meanings = [Step::Ordinary; 4];
        let taken = [true, false, true, false];
        let scores = Scores { values: &values, meanings: &meanings, taken: &taken };
        let tile = Arch::new().dispatch(Make(scores, f32::NEG_INFINITY, 0.0));
        assert_eq!(tile.u[..4], [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(tile.inverse[..4], [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(tile.m[..4], [f32::NEG_INFINITY, f32::NEG_INFINITY, 3.0, 3.0]);
        assert_eq!(tile.before[..4], [0.0; 4]);
    }

    #[test]
    fn a_reset_forgets_even_a_nan() {
        let values = [f32::NAN, 1.0, 1.0];
        let meanings = [Step::Ordinary, Step::Reset, Step::Ordinary];
        let scores = Scores { values: &values, meanings: &meanings, taken: &[true; 3] };
        let tile = Arch::new().dispatch(Make(scores, 7.0, 2.0));
        assert!(tile.u[0].is_nan() && tile.m[0].is_nan());
        assert_eq!((tile.u[1], tile.u[2], tile.m[2]), (1.0, 2.0, 1.0));
        assert_eq!(tile.before[1..3], [0.0; 2]);
    }
}
