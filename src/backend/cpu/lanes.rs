//! Elementary functions over the lanes of a SIMD register, in f32.

use std::f32::consts::{LN_2, LOG2_E};

use pulp::Simd;

/// 1.5 · 2²³: adding it rounds to an integer, which then stands in the low bits of the sum.
const ROUND: f32 = 12_582_912.0;

/// (2^f - 1) / f for f in [-1/2, 1/2], to 2.1e-8; by interpolation at Chebyshev points, as the
/// other polynomials here.
const EXP2_M1: [f32; 6] =
    [LN_2, 0.240_226_5, 0.055_503_57, 0.009_618_057, 0.001_339_086_7, 0.000_154_614_48];

/// (2^f - 1) / f for f in [-1/32, 31/32], to 9e-9.
const EXP2_M1_BASE: [f32; 7] = [
    LN_2,
    0.240_226_5,
    0.055_504_285,
    0.009_616_794,
    0.001_337_684_6,
    0.000_147_205_05,
    0.000_020_349_395,
];

/// (e^r - 1 - r) / r² for |r| <= ln(2) / 2, to 1.4e-7, which is 1.7e-8 of e^r.
const EXP_TAIL: [f32; 5] = [0.5, 0.166_665_76, 0.041_666_467, 0.008_363_175, 0.001_393_364_4];

/// 2 artanh(s) / s over s², for s² in [0, 1/9], to 1e-9.
const ARTANH: [f32; 6] = [2.0, 0.666_666_8, 0.399_986_95, 0.286_206_25, 0.213_942_68, 0.244_094_03];

/// A power of two, split so that a product with it keeps its precision near 1:
/// 2^x = `scale` (1 + `above`).
#[derive(Clone, Copy)]
pub(crate) struct Exp2<V> {
    /// 2^round(x).
    pub scale: V,
    /// 2^(x - round(x)) - 1.
    pub above: V,
}

/// 2^x. Below -126.5 it is 0, from 127.5 on infinite.
#[inline(always)]
pub(crate) fn exp2<S: Simd>(simd: S, x: S::f32s) -> Exp2<S::f32s> {
    // In this order a NaN passes through on x86.
    let x = simd.max_f32s(simd.splat_f32s(-127.0), x);
    // Beyond the range the scale is infinite, and `above` must not be negative then: inf - inf
    // would be no number.
    let beyond = simd.greater_than_or_equal_f32s(x, simd.splat_f32s(127.5));
    let x = simd.select_f32s(beyond, simd.splat_f32s(128.25), x);
    let (whole, scale) = round_and_scale(simd, x);
    let f = simd.sub_f32s(x, whole);
    Exp2 { scale, above: simd.mul_f32s(f, horner(simd, f, &EXP2_M1)) }
}

/// 2^x for x <= 0, to be raised to powers: `above` is positive but close to x = 0, so that powers
/// of (1 + `above`) lose no digits, and there the scale is 1, so that the distance from 1 keeps
/// its own.
#[inline(always)]
pub(crate) fn exp2_base<S: Simd>(simd: S, x: S::f32s) -> Exp2<S::f32s> {
    let x = simd.max_f32s(simd.splat_f32s(-127.0), x);
    let (whole, scale) = round_and_scale(simd, simd.sub_f32s(x, simd.splat_f32s(15.0 / 32.0)));
    let f = simd.sub_f32s(x, whole);
    Exp2 { scale, above: simd.mul_f32s(f, horner(simd, f, &EXP2_M1_BASE)) }
}

impl<V: Copy> Exp2<V> {
    /// The product of two powers.
    #[inline(always)]
    pub fn times<S: Simd<f32s = V>>(self, simd: S, other: Self) -> Self {
        let sum = simd.add_f32s(self.above, other.above);
        Self {
            scale: simd.mul_f32s(self.scale, other.scale),
            above: simd.mul_add_f32s(self.above, other.above, sum),
        }
    }
}

/// round(x) and 2^round(x), for x in [-127.5, 128.25]; 2^-127 counts as 0, 2^128 as infinite.
#[inline(always)]
fn round_and_scale<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    // The exponent's bias rides along, so that the low byte is the exponent field itself.
    let shifted = simd.add_f32s(x, simd.splat_f32s(ROUND + 127.0));
    let whole = simd.sub_f32s(shifted, simd.splat_f32s(ROUND + 127.0));
    let bits = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    (whole, simd.transmute_f32s_u32s(bits))
}

#[inline(always)]
fn horner<S: Simd>(simd: S, x: S::f32s, coefficients: &[f32]) -> S::f32s {
    let mut descending = coefficients.iter().rev();
    let mut sum = simd.splat_f32s(descending.next().copied().unwrap_or(0.0));
    for &coefficient in descending {
        sum = simd.mul_add_f32s(sum, x, simd.splat_f32s(coefficient));
    }
    sum
}

/// e^x, to 2 ulp; below -87.6 it is 0, and it stays finite: above 88 it is e^88.
#[inline(always)]
fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // ln 2 in two parts, the first short enough that its product with an exponent is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = keep_above(simd, x, -88.0);
    let x = keep_below(simd, x, 88.0);
    let (whole, scale) = round_and_scale(simd, simd.mul_f32s(x, simd.splat_f32s(LOG2_E)));
    let r = simd.mul_add_f32s(whole, simd.splat_f32s(-LN2_HIGH), x);
    let r = simd.mul_add_f32s(whole, simd.splat_f32s(-LN2_LOW), r);
    let tail = simd.mul_f32s(simd.mul_f32s(r, r), horner(simd, r, &EXP_TAIL));
    simd.mul_f32s(scale, simd.add_f32s(simd.splat_f32s(1.0), simd.add_f32s(r, tail)))
}

/// max(x, bound), with a NaN kept.
#[inline(always)]
pub(crate) fn keep_above<S: Simd>(simd: S, x: S::f32s, bound: f32) -> S::f32s {
    let bound = simd.splat_f32s(bound);
    simd.select_f32s(simd.less_than_f32s(x, bound), bound, x)
}

/// min(x, bound), with a NaN kept.
#[inline(always)]
pub(crate) fn keep_below<S: Simd>(simd: S, x: S::f32s, bound: f32) -> S::f32s {
    let bound = simd.splat_f32s(bound);
    simd.select_f32s(simd.greater_than_f32s(x, bound), bound, x)
}

/// log(1 + e^x), to 4 ulp over the whole range, very negative x included.
///
/// With e = e^-|x| it is max(x, 0) + log(1 + e), and log(1 + e) = 2 artanh(e / (2 + e)): no
/// cancellation however small e is.
#[inline(always)]
pub(crate) fn softplus<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let e = exp(simd, simd.neg_f32s(simd.abs_f32s(x)));
    let s = simd.div_f32s(e, simd.add_f32s(e, simd.splat_f32s(2.0)));
    let log = simd.mul_f32s(s, horner(simd, simd.mul_f32s(s, s), &ARTANH));
    simd.add_f32s(keep_above(simd, x, 0.0), log)
}

/// x / (1 + e^-x), without overflow.
#[inline(always)]
pub(crate) fn silu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let e = exp(simd, simd.neg_f32s(x));
    simd.div_f32s(x, simd.add_f32s(simd.splat_f32s(1.0), e))
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, WithSimd};

    use super::*;

    /// Applies a function to each of some numbers, with every lane holding the same.
    struct Apply<'a> {
        function: Function,
        numbers: &'a [f32],
    }

    #[derive(Clone, Copy)]
    enum Function {
        Exp2,
        /// The third power of 2^x.
        Cube,
        Softplus,
        Silu,
    }

    impl WithSimd for Apply<'_> {
        type Output = Vec<f32>;
        fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
            let apply = |&x: &f32| {
                let x = simd.splat_f32s(x);
                let y = match self.function {
                    Function::Exp2 => {
                        let power = exp2(simd, x);
                        simd.mul_add_f32s(power.scale, power.above, power.scale)
                    }
                    Function::Cube => {
                        let base = exp2_base(simd, x);
                        let cube = base.times(simd, base).times(simd, base);
                        simd.mul_add_f32s(cube.scale, cube.above, cube.scale)
                    }
                    Function::Softplus => softplus(simd, x),
                    Function::Silu => silu(simd, x),
                };
                bytemuck::cast_slice(std::slice::from_ref(&y))[0]
            };
            self.numbers.iter().map(apply).collect()
        }
    }

    fn worst_ulps(function: Function, numbers: &[f32], exact: impl Fn(f64) -> f64) -> f64 {
        let found = Arch::new().dispatch(Apply { function, numbers });
        let ulps = |(&x, &y): (&f32, &f32)| {
            let exact = exact(f64::from(x));
            let ulp = 2f64.powf(exact.abs().log2().floor().max(-126.0) - 23.0);
            (f64::from(y) - exact).abs() / ulp
        };
        numbers.iter().zip(&found).map(ulps).fold(0.0, f64::max)
    }

    fn range(from: f32, to: f32) -> Vec<f32> {
        let steps = 200_001;
        (0..steps).map(|i| from + (to - from) * i as f32 / (steps - 1) as f32).collect()
    }

    #[test]
    fn exp2_is_accurate() {
        let worst = worst_ulps(Function::Exp2, &range(-126.0, 127.0), f64::exp2);
        assert!(worst <= 1.5, "{worst} ulp");
    }

    #[test]
    fn exp2_overflows_to_infinity() {
        let numbers = [127.5, 127.7, 128.0, 1e4, f32::INFINITY];
        let found = Arch::new().dispatch(Apply { function: Function::Exp2, numbers: &numbers });
        assert!(found.iter().all(|y| *y == f32::INFINITY), "{found:?}");
    }

    #[test]
    fn powers_keep_their_digits() {
        for (from, to) in [(-40.0, 0.0), (-1.0, 0.0), (-1e-3, 0.0)] {
            let worst = worst_ulps(Function::Cube, &range(from, to), |x| (3.0 * x).exp2());
            assert!(worst <= 4.0, "{worst} ulp between {from} and {to}");
        }
    }

    #[test]
    fn softplus_is_accurate_over_the_whole_range() {
        let exact = |x: f64| if x > 20.0 { x } else { x.exp().ln_1p() };
        for (from, to) in [(-87.0, -15.0), (-15.0, 1.0), (-1e-3, 1e-3), (0.0, 30.0), (30.0, 1e6)] {
            let worst = worst_ulps(Function::Softplus, &range(from, to), exact);
            assert!(worst <= 4.0, "{worst} ulp between {from} and {to}");
        }
    }

    #[test]
    fn silu_is_accurate_and_finite() {
        let exact = |x: f64| x / (1.0 + (-x).exp());
        for (from, to) in [(-80.0, 0.0), (0.0, 100.0)] {
            let worst = worst_ulps(Function::Silu, &range(from, to), exact);
            assert!(worst <= 5.0, "{worst} ulp between {from} and {to}");
        }
        let numbers = [-f32::MAX, -1e4, -90.0, f32::MAX];
        let found = Arch::new().dispatch(Apply { function: Function::Silu, numbers: &numbers });
        assert!(found.iter().all(|y| y.is_finite()), "{found:?}");
        assert!(found[1].abs() < 1e-30 && found[3] == f32::MAX, "{found:?}");
    }

    #[test]
    fn a_nan_stays_a_nan() {
        for function in [Function::Exp2, Function::Cube, Function::Softplus, Function::Silu] {
            let found = Arch::new().dispatch(Apply { function, numbers: &[f32::NAN] });
            assert!(found[0].is_nan());
        }
    }
}
