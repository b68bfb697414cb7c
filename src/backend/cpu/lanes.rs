//! Elementary functions over the lanes of a SIMD register, in f32.

use std::f32::consts::{LN_2, LOG2_E};

use pulp::Simd;

/// 1.5 · 2²³: adding it rounds to an integer, which then stands in the low bits of the sum.
const ROUND: f32 = 12_582_912.0;

/// (2^f - 1) / f for f in [-1/2, 1/2], to 2.1e-8; by interpolation at Chebyshev points, as the
/// other polynomials here.
const EXP2_M1: [f32; 6] =
    [LN_2, 0.240_226_5, 0.055_503_57, 0.009_618_057, 0.001_339_086_7, 0.000_154_614_48];

/// The same to 2.7e-10.
const EXP2_M1_BASE: [f32; 7] = [
    LN_2,
    0.240_226_5,
    0.055_504_11,
    0.009_618_057,
    0.001_333_350_2,
    0.000_154_614_45,
    0.000_015_297_324,
];

/// e^r for |r| <= ln(2) / 2, to 2.5e-9.
const EXP: [f32; 7] = [1.0, 1.0, 0.5, 0.166_664_15, 0.041_666_35, 0.008_375_125, 0.001_394_110_8];

/// log(1 + e) / e for e in [0, 1], to 5.3e-9.
const LOG_1P: [f32; 10] = [
    1.0,
    -0.499_998_93,
    0.333_297_1,
    -0.249_516_16,
    0.196_632_74,
    -0.152_696_67,
    0.105_436_236,
    -0.056_373_61,
    0.019_542_526,
    -0.003_176_057,
];

/// A power of two, split so that a product with it keeps its precision near 1:
/// 2^x = `scale` (1 + `above`).
#[derive(Clone, Copy)]
pub(crate) struct Exp2<V> {
    /// 2^round(x).
    pub scale: V,
    /// 2^(x - round(x)) - 1.
    pub above: V,
}

impl<V: Copy> Exp2<V> {
    /// 2^x h + `addend`.
    #[inline(always)]
    pub fn times<S: Simd<f32s = V>>(self, simd: S, h: V, addend: V) -> V {
        let scaled = simd.mul_f32s(self.scale, h);
        simd.add_f32s(scaled, simd.mul_add_f32s(scaled, self.above, addend))
    }
}

/// 2^x. Below -126.5 it is 0, from 127.5 on infinite.
#[inline(always)]
pub(crate) fn exp2<S: Simd>(simd: S, x: S::f32s) -> Exp2<S::f32s> {
    exp2_by(simd, x, &EXP2_M1)
}

#[inline(always)]
fn exp2_by<S: Simd>(simd: S, x: S::f32s, coefficients: &[f32]) -> Exp2<S::f32s> {
    // In this order a NaN passes through on x86.
    let x = simd.max_f32s(simd.splat_f32s(-127.0), x);
    // Beyond the range the scale is infinite, and `above` must not be negative then: inf - inf
    // would be no number.
    let beyond = simd.greater_than_or_equal_f32s(x, simd.splat_f32s(127.5));
    let x = simd.select_f32s(beyond, simd.splat_f32s(128.25), x);
    let (whole, scale) = round_and_scale(simd, x);
    let f = simd.sub_f32s(x, whole);
    Exp2 { scale, above: simd.mul_f32s(f, horner(simd, f, coefficients)) }
}

/// A power of two, split so that a product with it keeps its precision near 1 and near 0:
/// 2^x = whole + `rest` with whole 1 or 0.
#[derive(Clone, Copy)]
pub(crate) struct Split<V> {
    /// All bits where whole is 1, none where it is 0.
    pub kept: V,
    pub rest: V,
}

/// 2^x, for growth too.
#[inline(always)]
pub(crate) fn exp2_split<S: Simd>(simd: S, x: S::f32s) -> Split<S::f32s> {
    split(simd, x, exp2(simd, x), -1.0)
}

/// Splits 2^x: whole is 1 from `near` on.
#[inline(always)]
fn split<S: Simd>(simd: S, x: S::f32s, power: Exp2<S::f32s>, near: f32) -> Split<S::f32s> {
    let kept = simd.greater_than_or_equal_f32s(x, simd.splat_f32s(near));
    let kept = simd.select_u32s(kept, simd.splat_u32s(u32::MAX), simd.splat_u32s(0));
    let kept = simd.transmute_f32s_u32s(kept);
    let whole = simd.and_f32s(kept, simd.splat_f32s(1.0));
    let apart = simd.sub_f32s(power.scale, whole);
    Split { kept, rest: simd.mul_add_f32s(power.scale, power.above, apart) }
}

/// The powers of 2^x, one after the other, all split alike:
///
/// ```text
/// rest_1 = 2^x - whole,   rest_(n+1) = rest_n 2^x + whole rest_1
/// ```
#[derive(Clone, Copy)]
pub(crate) struct Powers<V> {
    pub power: Split<V>,
    /// 2^x.
    pub base: V,
    /// whole rest_1.
    pub offset: V,
}

impl<V: Copy> Powers<V> {
    /// On to the next power.
    #[inline(always)]
    pub fn advance<S: Simd<f32s = V>>(&mut self, simd: S) {
        self.power.rest = simd.mul_add_f32s(self.power.rest, self.base, self.offset);
    }
}

/// The first of `count` powers of 2^x, for x <= 0. They are split as 1 + rest where the last of
/// them is at least 1/16, so that the state loses few digits to it; elsewhere already the first
/// is so far from 1 that it may be rounded.
#[inline(always)]
pub(crate) fn exp2_powers<S: Simd>(simd: S, x: S::f32s, count: usize) -> Powers<S::f32s> {
    let exp2 = exp2_by(simd, x, &EXP2_M1_BASE);
    let power = split(simd, x, exp2, -4.0 / count as f32);
    Powers {
        power,
        base: simd.mul_add_f32s(exp2.scale, exp2.above, exp2.scale),
        offset: simd.and_f32s(power.kept, power.rest),
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

/// e^x for x in [-88, 88], to 2 ulp; below -87.6 it is 0.
#[inline(always)]
fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // ln 2 in two parts, the first short enough that its product with an exponent is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let (whole, scale) = round_and_scale(simd, simd.mul_f32s(x, simd.splat_f32s(LOG2_E)));
    let r = simd.mul_add_f32s(whole, simd.splat_f32s(-LN2_HIGH), x);
    let r = simd.mul_add_f32s(whole, simd.splat_f32s(-LN2_LOW), r);
    simd.mul_f32s(scale, horner(simd, r, &EXP))
}

/// e^x for x <= 0, to 2 ulp; below -87.6 it is 0, a NaN stays a NaN.
#[inline(always)]
pub(crate) fn exp_below<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // In this order a NaN passes through on x86.
    exp(simd, simd.max_f32s(simd.splat_f32s(-88.0), x))
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

/// log(1 + e^x) in place of each x, to 4 ulp over the whole range, very negative x included.
///
/// With e = e^-|x| it is max(x, 0) + log(1 + e): no cancellation however small e is. Several
/// vectors go through together, to hide the latency of one another.
#[inline(always)]
pub(crate) fn softplus<S: Simd, const K: usize>(simd: S, values: &mut [S::f32s; K]) {
    let mut powers = *values;
    for power in &mut powers {
        let below = simd.neg_f32s(simd.abs_f32s(*power));
        *power = exp(simd, simd.max_f32s(simd.splat_f32s(-88.0), below));
    }
    for (value, e) in values.iter_mut().zip(powers) {
        let log = simd.mul_f32s(e, horner(simd, e, &LOG_1P));
        *value = simd.add_f32s(keep_above(simd, *value, 0.0), log);
    }
}

/// x / (1 + e^-x), without overflow; 0 below -88.
#[inline(always)]
pub(crate) fn silu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    unless_far_below(simd, x, simd.div_f32s(x, one_and_exp(simd, x)))
}

/// 1 / (1 + e^-x), without overflow; 0 below -88.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    unless_far_below(simd, x, simd.div_f32s(simd.splat_f32s(1.0), one_and_exp(simd, x)))
}

/// The hyperbolic tangent, to 4 ulp over the whole range: with e = e^(-2|x|) - 1, which has all its
/// digits near 0, it is -e / (2 + e), with the sign of x.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let sign = simd.and_f32s(x, simd.splat_f32s(-0.0));
    let power = exp2(simd, simd.mul_f32s(simd.abs_f32s(x), simd.splat_f32s(-2.0 * LOG2_E)));
    let below = simd.sub_f32s(power.scale, simd.splat_f32s(1.0));
    let e = simd.mul_add_f32s(power.scale, power.above, below);
    let tanh = simd.div_f32s(simd.abs_f32s(e), simd.add_f32s(simd.splat_f32s(2.0), e));
    // Its sign bit is 0, and free; a NaN does not mind.
    simd.or_f32s(tanh, sign)
}

/// The derivative of silu: s (1 + x (1 - s)) with s = sigmoid(x).
///
/// 1 - s is taken as s e^-x: the subtraction would lose its digits, and x multiplies the loss.
#[inline(always)]
pub(crate) fn silu_slope<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (one, minus) = (simd.splat_f32s(1.0), minus_in_range(simd, x));
    let e = exp(simd, minus);
    let s = simd.div_f32s(one, simd.add_f32s(one, e));
    let slope = simd.sub_f32s(one, simd.mul_f32s(minus, simd.mul_f32s(e, s)));
    unless_far_below(simd, x, simd.mul_f32s(s, slope))
}

/// 1 + e^-x, finite.
#[inline(always)]
fn one_and_exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.add_f32s(simd.splat_f32s(1.0), exp(simd, minus_in_range(simd, x)))
}

/// -x, brought to where its exponential is finite.
#[inline(always)]
fn minus_in_range<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let least = simd.max_f32s(simd.splat_f32s(-88.0), simd.neg_f32s(x));
    simd.min_f32s(simd.splat_f32s(88.0), least)
}

/// The same number, or 0 where x is so far below 0 that e^-x leaves the range.
#[inline(always)]
fn unless_far_below<S: Simd>(simd: S, x: S::f32s, number: S::f32s) -> S::f32s {
    let far_below = simd.less_than_f32s(x, simd.splat_f32s(-88.0));
    simd.select_f32s(far_below, simd.splat_f32s(0.0), number)
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
        /// 2^x that powers are made of.
        Base,
        /// The third power of 2^x.
        Cube,
        /// What it is above 1.
        CubeLess1,
        Softplus,
        Silu,
        SiluSlope,
        Sigmoid,
        Tanh,
    }

    fn cube<S: Simd>(simd: S, x: S::f32s) -> Split<S::f32s> {
        let mut powers = exp2_powers(simd, x, 16);
        powers.advance(simd);
        powers.advance(simd);
        powers.power
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
                    Function::Base => exp2_powers(simd, x, 16).base,
                    Function::Cube => {
                        let cube = cube(simd, x);
                        let whole = simd.and_f32s(cube.kept, simd.splat_f32s(1.0));
                        simd.add_f32s(whole, cube.rest)
                    }
                    Function::CubeLess1 => cube(simd, x).rest,
                    Function::Softplus => {
                        let mut values = [x];
                        softplus(simd, &mut values);
                        values[0]
                    }
                    Function::Silu => silu(simd, x),
                    Function::SiluSlope => silu_slope(simd, x),
                    Function::Sigmoid => sigmoid(simd, x),
                    Function::Tanh => tanh(simd, x),
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

    fn worst_relative(function: Function, numbers: &[f32], exact: impl Fn(f64) -> f64) -> f64 {
        let found = Arch::new().dispatch(Apply { function, numbers });
        let relative = |(&x, &y): (&f32, &f32)| {
            let exact = exact(f64::from(x));
            ((f64::from(y) - exact) / exact).abs()
        };
        numbers.iter().zip(&found).map(relative).fold(0.0, f64::max)
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
        // The specification's bound of a decay, three times, and two roundings.
        const BASE: f64 = 1.2e-7;
        const CUBE: f64 = 3.0 * BASE + 2.0 * (f32::EPSILON / 2.0) as f64;
        for (from, to) in [(-40.0, 0.0), (-1.0, 0.0), (-1e-3, 0.0)] {
            let numbers = range(from, to);
            let base = worst_relative(Function::Base, &numbers, f64::exp2);
            assert!(base <= BASE, "2^x: {base:e} between {from} and {to}");
            let cube = worst_relative(Function::Cube, &numbers, |x| (3.0 * x).exp2());
            assert!(cube <= CUBE, "its cube: {cube:e} between {from} and {to}");
        }
    }

    #[test]
    fn powers_near_one_keep_the_digits_of_their_distance_from_it() {
        let exact = |x: f64| (3.0 * x * std::f64::consts::LN_2).exp_m1();
        for (from, to) in [(-0.25, 0.0), (-1e-3, -1e-9), (-1e-7, -1e-12)] {
            let worst = worst_ulps(Function::CubeLess1, &range(from, to), exact);
            assert!(worst <= 4.0, "{worst} ulp between {from} and {to}");
        }
    }

    #[test]
    fn powers_far_below_forget_the_state() {
        let numbers = [-127.0, -1e4, f32::NEG_INFINITY];
        let found = Arch::new().dispatch(Apply { function: Function::Cube, numbers: &numbers });
        assert_eq!(found, [0.0; 3]);
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
    fn sigmoid_is_accurate_and_finite() {
        let exact = |x: f64| 1.0 / (1.0 + (-x).exp());
        let worst = worst_ulps(Function::Sigmoid, &range(-80.0, 100.0), exact);
        assert!(worst <= 4.0, "{worst} ulp");
        let numbers = [-f32::MAX, f32::MAX];
        let found = Arch::new().dispatch(Apply { function: Function::Sigmoid, numbers: &numbers });
        assert!(found[0].abs() < 1e-30 && found[1] == 1.0, "{found:?}");
    }

    #[test]
    fn tanh_is_accurate_over_the_whole_range() {
        for (from, to) in [(-1e-6, 1e-6), (-0.2, 0.2), (-1.0, 1.0), (-20.0, 20.0), (-1e6, 1e6)] {
            let worst = worst_ulps(Function::Tanh, &range(from, to), f64::tanh);
            assert!(worst <= 4.0, "{worst} ulp between {from} and {to}");
        }
        let numbers = [f32::NEG_INFINITY, -f32::MAX, -0.0, 0.0, f32::MAX];
        let found = Arch::new().dispatch(Apply { function: Function::Tanh, numbers: &numbers });
        assert_eq!(found, [-1.0, -1.0, 0.0, 0.0, 1.0]);
        assert!(found[2].is_sign_negative() && found[3].is_sign_positive());
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
        assert_eq!(found, [0.0, 0.0, 0.0, f32::MAX]);
    }

    #[test]
    fn the_slope_of_silu_is_accurate_and_finite() {
        let exact = |x: f64| {
            let s = 1.0 / (1.0 + (-x).exp());
            s * (1.0 + x * (1.0 - s))
        };
        let numbers = range(-100.0, 100.0);
        let found =
            Arch::new().dispatch(Apply { function: Function::SiluSlope, numbers: &numbers });
        for (&x, &y) in numbers.iter().zip(&found) {
            let difference = (f64::from(y) - exact(f64::from(x))).abs();
            assert!(difference <= 3e-7, "at {x}: {difference:e}");
        }
        let numbers = [-f32::MAX, -1e4, 1e4, f32::MAX];
        let found =
            Arch::new().dispatch(Apply { function: Function::SiluSlope, numbers: &numbers });
        assert_eq!(found, [0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn a_nan_stays_a_nan() {
        for function in [
            Function::Exp2,
            Function::Cube,
            Function::Softplus,
            Function::Silu,
            Function::SiluSlope,
            Function::Sigmoid,
            Function::Tanh,
        ] {
            let found = Arch::new().dispatch(Apply { function, numbers: &[f32::NAN] });
            assert!(found[0].is_nan());
        }
    }
}
