//! The functions of the special-function unit, in f64, with the error that the ISA admits.
//!
//! 2^x is a polynomial, because attention and scans spend their time there. The others are the platform's,
//! whose f64 results are within an ulp or so: rounded to f32 they differ from the correctly rounded value in
//! one case of some 10⁸.

use crate::types::Type;

/// A function of one number.
pub(super) trait Function {
    /// No result has a greater magnitude.
    const LIMIT: f64 = f64::INFINITY;

    /// f(x), special values included.
    fn value(x: f64) -> f64;

    /// How far results of type `ty` may lie from f(x) = `exact`; `ulp` is the distance between the numbers
    /// around it.
    fn bound(ty: Type, x: f64, exact: f64, ulp: f64) -> f64;

    /// Whether the ISA states f(x) exactly, other than as zero, infinity or NaN.
    fn stated(_x: f64) -> bool {
        false
    }
}

/// `ex2`
pub(super) struct Exp2;
/// `lg2`
pub(super) struct Log2;
/// `rcp`
pub(super) struct Reciprocal;
/// `rsqrt`
pub(super) struct ReciprocalRoot;
/// `sqrt`
pub(super) struct Root;
/// `sin`
pub(super) struct Sine;
/// `cos`
pub(super) struct Cosine;
/// `tanh`
pub(super) struct Tanh;

impl Function for Exp2 {
    fn value(x: f64) -> f64 {
        exp2(x)
    }

    fn bound(ty: Type, _x: f64, exact: f64, ulp: f64) -> f64 {
        match ty {
            Type::F16 => (-9.9f64).exp2() * exact,
            Type::Bf16 => (-7f64).exp2() * exact,
            _ => 2.0 * ulp,
        }
    }

    fn stated(x: f64) -> bool {
        x == 0.0
    }
}

impl Function for Log2 {
    fn value(x: f64) -> f64 {
        x.log2()
    }

    fn bound(_ty: Type, x: f64, exact: f64, _ulp: f64) -> f64 {
        let bound = (-22f64).exp2();
        if x > 0.5 && x < 2.0 { bound } else { bound * exact.abs() }
    }
}

impl Function for Reciprocal {
    fn value(x: f64) -> f64 {
        x.recip()
    }

    fn bound(_ty: Type, _x: f64, _exact: f64, ulp: f64) -> f64 {
        ulp
    }
}

impl Function for ReciprocalRoot {
    fn value(x: f64) -> f64 {
        x.sqrt().recip()
    }

    fn bound(ty: Type, _x: f64, exact: f64, ulp: f64) -> f64 {
        match ty {
            Type::F64 => ulp,
            _ => (-22.9f64).exp2() * exact.abs(),
        }
    }
}

impl Function for Root {
    fn value(x: f64) -> f64 {
        x.sqrt()
    }

    fn bound(_ty: Type, _x: f64, exact: f64, _ulp: f64) -> f64 {
        (-23f64).exp2() * exact
    }
}

impl Function for Sine {
    const LIMIT: f64 = 1.0;

    fn value(x: f64) -> f64 {
        x.sin()
    }

    fn bound(_ty: Type, x: f64, _exact: f64, _ulp: f64) -> f64 {
        periodic_bound(x)
    }
}

impl Function for Cosine {
    const LIMIT: f64 = 1.0;

    fn value(x: f64) -> f64 {
        x.cos()
    }

    fn bound(_ty: Type, x: f64, _exact: f64, _ulp: f64) -> f64 {
        periodic_bound(x)
    }
}

/// The absolute bound of sine and cosine. Far out none is documented: any value of the same sign is admitted.
fn periodic_bound(x: f64) -> f64 {
    match x.abs() / std::f64::consts::PI {
        ..=2.0 => (-20.5f64).exp2(),
        ..=100.0 => (-14.7f64).exp2(),
        _ => 2.0,
    }
}

impl Function for Tanh {
    const LIMIT: f64 = 1.0;

    fn value(x: f64) -> f64 {
        x.tanh()
    }

    fn bound(ty: Type, _x: f64, exact: f64, _ulp: f64) -> f64 {
        match ty {
            Type::F16 => (-10.987f64).exp2(),
            Type::Bf16 => (-8f64).exp2(),
            _ => (-11f64).exp2() * exact.abs(),
        }
    }

    fn stated(x: f64) -> bool {
        x.is_infinite() || x.abs() < f64::from(f32::MIN_POSITIVE)
    }
}

/// 2^x with a relative error below 10⁻¹⁴, from 0 for −∞ (2⁻¹⁰⁰⁰, far below what f32 holds) to as far above.
#[inline(always)]
fn exp2(x: f64) -> f64 {
    // Adding this leaves the integer nearest to x in the low bits.
    const MAGIC: f64 = 1.5 / f64::EPSILON;
    let x = x.clamp(-1000.0, 1000.0);
    let shifted = x + MAGIC;
    let rest = x - (shifted - MAGIC);
    let scale = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);

    // e^y = Σ y^k / k! for |y| ≤ ln 2 / 2; twelve terms leave 6·10⁻¹⁵.
    let y = rest * std::f64::consts::LN_2;
    let series = INVERSE_FACTORIALS.iter().rev().fold(0.0, |sum, term| sum * y + term);
    series * scale
}

const INVERSE_FACTORIALS: [f64; 12] = [
    1.0,
    1.0,
    1.0 / 2.0,
    1.0 / 6.0,
    1.0 / 24.0,
    1.0 / 120.0,
    1.0 / 720.0,
    1.0 / 5040.0,
    1.0 / 40320.0,
    1.0 / 362_880.0,
    1.0 / 3_628_800.0,
    1.0 / 39_916_800.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp2_is_nearly_exact() {
        for step in -160_000..160_000 {
            let x = f64::from(step) * 1e-3;
            let error = exp2(x) / x.exp2() - 1.0;
            assert!(error.abs() < 2e-14, "2^{x} is off by {error:e}");
        }
        for n in -160..128 {
            assert_eq!(exp2(f64::from(n)), f64::from(n).exp2());
        }
    }
}
