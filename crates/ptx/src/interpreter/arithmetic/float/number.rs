//! The floats that instructions compute in, and the operations that round.

use crate::interpreter::arithmetic::exact::Exact;
use crate::interpreter::arithmetic::half::{Bf16, F16, Format, decode, encode};
use crate::interpreter::arithmetic::integer::Integer;
use crate::interpreter::arithmetic::lane::Value;
use crate::interpreter::arithmetic::rounding::{
    CANONICAL, Direction, Rounding, nearest_sum, odd_sum, single,
};
use crate::types::Type;

/// A format that instructions compute in.
///
/// What is given here suits formats up to f32, whose products are exact in f64 and whose quotients and roots
/// keep far enough from midpoints that f64 does not hide on which side they are.
pub(in crate::interpreter::arithmetic) trait Float:
    Value
{
    /// Its type.
    const TYPE: Type;
    /// The canonical NaN.
    const NAN: Self;
    /// 1.
    const ONE: Self;
    /// The sign bit.
    const SIGN: u64;
    /// The exponent field.
    const EXPONENT: u64;

    /// The exact value.
    fn widen(self) -> f64;

    /// The number that an exact or rounded-to-odd value rounds to.
    fn round<R: Rounding>(exact: f64) -> Self;

    /// The number that an integer rounds to.
    #[inline(always)]
    fn from_integer<I: Integer, R: Rounding>(integer: I) -> Self {
        Self::round::<R>(integer.to_odd())
    }

    /// a + b
    #[inline(always)]
    fn add<R: Rounding>(self, b: Self) -> Self {
        Self::round::<R>(odd_sum::<R>(self.widen(), b.widen()))
    }

    /// a·b
    #[inline(always)]
    fn mul<R: Rounding>(self, b: Self) -> Self {
        Self::round::<R>(self.widen() * b.widen())
    }

    /// a·b + c, rounded once.
    #[inline(always)]
    fn fma<R: Rounding>(self, b: Self, c: Self) -> Self {
        Self::round::<R>(odd_sum::<R>(self.widen() * b.widen(), c.widen()))
    }

    /// a / b
    #[inline(always)]
    fn div<R: Rounding>(self, b: Self) -> Self {
        Self::round::<R>(self.widen() / b.widen())
    }

    /// √a
    #[inline(always)]
    fn sqrt<R: Rounding>(self) -> Self {
        Self::round::<R>(self.widen().sqrt())
    }

    /// −a, of a NaN too.
    #[inline(always)]
    fn negated(self) -> Self {
        Self::of(self.bits() ^ Self::SIGN)
    }

    /// |a|, of a NaN too.
    #[inline(always)]
    fn magnitude(self) -> Self {
        Self::of(self.bits() & !Self::SIGN)
    }

    /// Subnormals to zero, if `FTZ`.
    #[inline(always)]
    fn flushed<const FTZ: bool>(self) -> Self {
        let bits = self.bits();
        let flush = FTZ && bits & Self::EXPONENT == 0;
        Self::of(if flush { bits & Self::SIGN } else { bits })
    }

    /// Clamped to [0, 1], if `SAT`.
    #[inline(always)]
    fn saturated<const SAT: bool>(self) -> Self {
        let value = self.widen();
        match SAT {
            false => self,
            true if value >= 1.0 => Self::ONE,
            true if value > 0.0 => self,
            true => Self::of(0),
        }
    }

    /// Not below zero, if `RELU`.
    #[inline(always)]
    fn rectified<const RELU: bool>(self) -> Self {
        if RELU && self.widen() <= 0.0 { Self::of(0) } else { self }
    }

    /// The same, or the canonical NaN.
    #[inline(always)]
    fn canonical(self) -> Self {
        if self.widen().is_nan() { Self::NAN } else { self }
    }

    /// The lesser of both, −0 < +0. One NaN gives the other number, or with `NAN` a NaN.
    #[inline(always)]
    fn lesser<const NAN: bool>(self, b: Self) -> Self {
        let (x, y) = (self.widen(), b.widen());
        // Equal numbers have equal bits but for zeros, where one sign makes −0.
        let ordered = match x == y {
            true => Self::of(self.bits() | b.bits()),
            false => {
                if x < y {
                    self
                } else {
                    b
                }
            }
        };
        match (x.is_nan(), y.is_nan()) {
            (false, false) => ordered,
            (true, false) if !NAN => b,
            (false, true) if !NAN => self,
            _ => Self::NAN,
        }
    }

    /// The greater of both: the mirrored lesser.
    #[inline(always)]
    fn greater<const NAN: bool>(self, b: Self) -> Self {
        self.negated().lesser::<NAN>(b.negated()).negated().canonical()
    }

    /// `.xorsign.abs`: `magnitude`, with the product of the signs of a and b unless it is NaN.
    #[inline(always)]
    fn xorsigned(magnitude: Self, a: Self, b: Self) -> Self {
        let sign = (a.bits() ^ b.bits()) & Self::SIGN;
        Self::of(magnitude.bits() | sign).canonical()
    }
}

macro_rules! halves {
    ($($half:ident $one:literal $exponent:literal;)*) => { $(
        impl Float for $half {
            const TYPE: Type = Type::$half;
            const NAN: Self = Self(<Self as Format>::NAN as u16);
            const ONE: Self = Self($one);
            const SIGN: u64 = <Self as Format>::SIGN;
            const EXPONENT: u64 = $exponent;

            #[inline(always)]
            fn widen(self) -> f64 {
                decode::<Self>(self.bits())
            }

            #[inline(always)]
            fn round<R: Rounding>(exact: f64) -> Self {
                Self::of(encode::<Self, R, false>(exact))
            }
        }
    )* };
}

halves! {
    F16 0x3C00 0x7C00;
    Bf16 0x3F80 0x7F80;
}

impl Float for f32 {
    const TYPE: Type = Type::F32;
    const NAN: Self = CANONICAL;
    const ONE: Self = 1.0;
    const SIGN: u64 = 1 << 31;
    const EXPONENT: u64 = 0x7F80_0000;

    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn round<R: Rounding>(exact: f64) -> Self {
        single::<R>(exact)
    }

    // Sum and product to nearest are the hardware's, several times faster than by f64.

    #[inline(always)]
    fn add<R: Rounding>(self, b: Self) -> Self {
        match R::DIRECTION {
            Direction::Nearest => (self + b).canonical(),
            _ => single::<R>(odd_sum::<R>(self.widen(), b.widen())),
        }
    }

    #[inline(always)]
    fn mul<R: Rounding>(self, b: Self) -> Self {
        match R::DIRECTION {
            Direction::Nearest => (self * b).canonical(),
            _ => single::<R>(self.widen() * b.widen()),
        }
    }

    #[inline(always)]
    fn canonical(self) -> Self {
        if self.is_nan() { CANONICAL } else { self }
    }
}

/// The result in direction `R`: `nearest` for NaN, infinite operands (or a division by zero) and exact
/// zeros, whose sign it has; else what integers give.
#[inline(always)]
fn directed<R: Rounding>(nearest: f64, infinite: bool, exact: impl Fn() -> Exact) -> f64 {
    if R::DIRECTION == Direction::Nearest || infinite || nearest.is_nan() {
        return nearest.canonical();
    }
    let exact = exact();
    if exact.is_zero() { nearest } else { exact.round::<R>() }
}

impl Float for f64 {
    const TYPE: Type = Type::F64;
    const NAN: Self = f64::NAN;
    const ONE: Self = 1.0;
    const SIGN: u64 = 1 << 63;
    const EXPONENT: u64 = 0x7FF0_0000_0000_0000;

    #[inline(always)]
    fn widen(self) -> f64 {
        self
    }

    /// For exact values only.
    #[inline(always)]
    fn round<R: Rounding>(exact: f64) -> Self {
        exact.canonical()
    }

    #[inline(always)]
    fn from_integer<I: Integer, R: Rounding>(integer: I) -> Self {
        match I::BITS {
            64 => Exact::integer(integer.value()).round::<R>(),
            _ => integer.to_odd(),
        }
    }

    #[inline(always)]
    fn add<R: Rounding>(self, b: Self) -> Self {
        let infinite = self.is_infinite() || b.is_infinite();
        let exact = || Exact::sum(Exact::of(self), Exact::of(b));
        directed::<R>(nearest_sum::<R>(self, b), infinite, exact)
    }

    #[inline(always)]
    fn mul<R: Rounding>(self, b: Self) -> Self {
        let infinite = self.is_infinite() || b.is_infinite();
        directed::<R>(self * b, infinite, || Exact::product(Exact::of(self), Exact::of(b)))
    }

    #[inline(always)]
    fn fma<R: Rounding>(self, b: Self, c: Self) -> Self {
        // The mirrored one has the sign that an exact zero has downwards.
        let nearest = match R::DIRECTION {
            Direction::Down => -(-self).mul_add(b, -c),
            _ => self.mul_add(b, c),
        };
        let infinite = self.is_infinite() || b.is_infinite() || c.is_infinite();
        let exact = || Exact::sum(Exact::product(Exact::of(self), Exact::of(b)), Exact::of(c));
        directed::<R>(nearest, infinite, exact)
    }

    #[inline(always)]
    fn div<R: Rounding>(self, b: Self) -> Self {
        let infinite = self.is_infinite() || b.is_infinite() || b == 0.0;
        directed::<R>(self / b, infinite, || Exact::quotient(Exact::of(self), Exact::of(b)))
    }

    #[inline(always)]
    fn sqrt<R: Rounding>(self) -> Self {
        directed::<R>(f64::sqrt(self), self.is_infinite(), || Exact::root(Exact::of(self)))
    }

    #[inline(always)]
    fn canonical(self) -> Self {
        if self.is_nan() { f64::NAN } else { self }
    }
}
