//! Float arithmetic: sums, products, quotients, roots, minima, signs.
//!
//! `.ftz` flushes subnormal sources and results to zero of the same sign; `.sat` clamps to [0, 1] and turns
//! NaN and −0 into +0; `.relu` turns negative results into +0. NaN results are canonical, except those of
//! `abs`, `neg` and `copysign`, which only touch the sign.

use super::Rule;
use super::exact::Exact;
use super::half::{Bf16, F16, Format, decode, encode};
use super::integer::Integer;
use super::lane::{Value, elements, flagged, map};
use super::rounding::{
    CANONICAL, Direction, Nearest, Rounding, nearest_sum, odd_sum, rounded, single,
};
use crate::ast::Instruction;
use crate::table::Opcode;
use crate::types::Type;

/// A format that instructions compute in.
///
/// What is given here suits formats up to f32, whose products are exact in f64 and whose quotients and roots
/// keep far enough from midpoints that f64 does not hide on which side they are.
pub(super) trait Float: Value {
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
            true if value >= 1.0 => Self::ONE,
            true if !(value > 0.0) => Self::of(0),
            _ => self,
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

/// The rule of an instruction on floats.
pub(super) fn rule(instruction: &Instruction, ty: Type) -> Option<Rule> {
    match instruction.opcode {
        Opcode::Rcp | Opcode::Sqrt | Opcode::Div => root_or_quotient(instruction, ty),
        Opcode::Min | Opcode::Max => extremum(instruction, ty),
        Opcode::Abs | Opcode::Neg | Opcode::Copysign => sign(instruction, ty),
        _ => match ty {
            Type::F32 => flagged!(instruction.has("ftz"), FTZ => single_sum::<FTZ>(instruction)),
            Type::F64 => {
                rounded!(instruction, R => sum::<f64, R, 1, false, false, false>(instruction.opcode))
            }
            _ => half_sum(instruction, ty),
        },
    }
}

/// Sums and products of f32.
fn single_sum<const FTZ: bool>(instruction: &Instruction) -> Option<Rule> {
    let opcode = instruction.opcode;
    rounded!(instruction, R => match instruction.has("sat") {
        true => sum::<f32, R, 1, FTZ, true, false>(opcode),
        false => sum::<f32, R, 1, FTZ, false, false>(opcode),
    })
}

/// Sums and products of halves, all to nearest. `.oob` is left out: see [`super::rule`].
fn half_sum(instruction: &Instruction, ty: Type) -> Option<Rule> {
    let opcode = instruction.opcode;
    let [ftz, sat, relu] = ["ftz", "sat", "relu"].map(|flag| instruction.has(flag));
    if instruction.has("oob") {
        return None;
    }
    elements!(ty, [F16 => F16: 1, F16x2 => F16: 2], E, N => flagged!(ftz, FTZ => match (sat, relu) {
        (true, _) => sum::<E, Nearest, N, FTZ, true, false>(opcode),
        (_, true) => sum::<E, Nearest, N, FTZ, false, true>(opcode),
        _ => sum::<E, Nearest, N, FTZ, false, false>(opcode),
    }))
    .or_else(|| {
        elements!(ty, [Bf16 => Bf16: 1, Bf16x2 => Bf16: 2], E, N => flagged!(relu, RELU => {
            sum::<E, Nearest, N, false, false, RELU>(opcode)
        }))
    })
}

/// `add sub mul fma mad` on `N` elements of type `E`.
fn sum<
    E: Float,
    R: Rounding,
    const N: usize,
    const FTZ: bool,
    const SAT: bool,
    const RELU: bool,
>(
    opcode: Opcode,
) -> Option<Rule> {
    Some(match opcode {
        Opcode::Add => map!(N, |a: E, b: E| finished::<E, FTZ, SAT, RELU>(
            a.flushed::<FTZ>().add::<R>(b.flushed::<FTZ>())
        )),
        Opcode::Sub => map!(N, |a: E, b: E| finished::<E, FTZ, SAT, RELU>(
            a.flushed::<FTZ>().add::<R>(b.flushed::<FTZ>().negated())
        )),
        Opcode::Mul => map!(N, |a: E, b: E| finished::<E, FTZ, SAT, RELU>(
            a.flushed::<FTZ>().mul::<R>(b.flushed::<FTZ>())
        )),
        Opcode::Fma | Opcode::Mad => {
            map!(N, |a: E, b: E, c: E| finished::<E, FTZ, SAT, RELU>(
                a.flushed::<FTZ>().fma::<R>(b.flushed::<FTZ>(), c.flushed::<FTZ>())
            ))
        }
        _ => return None,
    })
}

/// What flags do to a rounded result.
#[inline(always)]
fn finished<E: Float, const FTZ: bool, const SAT: bool, const RELU: bool>(result: E) -> E {
    result.flushed::<FTZ>().saturated::<SAT>().rectified::<RELU>()
}

/// `rcp sqrt div` with IEEE rounding.
fn root_or_quotient(instruction: &Instruction, ty: Type) -> Option<Rule> {
    let opcode = instruction.opcode;
    rounded!(instruction, R => match ty {
        Type::F32 => flagged!(instruction.has("ftz"), FTZ => quotient::<f32, R, FTZ>(opcode)),
        Type::F64 => quotient::<f64, R, false>(opcode),
        _ => None,
    })
}

fn quotient<E: Float, R: Rounding, const FTZ: bool>(opcode: Opcode) -> Option<Rule> {
    Some(match opcode {
        Opcode::Rcp => map!(|a: E| E::ONE.div::<R>(a.flushed::<FTZ>()).flushed::<FTZ>()),
        Opcode::Sqrt => map!(|a: E| a.flushed::<FTZ>().sqrt::<R>().flushed::<FTZ>()),
        Opcode::Div => {
            map!(|a: E, b: E| { a.flushed::<FTZ>().div::<R>(b.flushed::<FTZ>()).flushed::<FTZ>() })
        }
        _ => return None,
    })
}

/// [`elements!`] with every float type.
macro_rules! every_element {
    ($ty:expr, $E:ident, $N:ident => $result:expr) => {
        elements!($ty, [
            F32 => f32: 1, F64 => f64: 1,
            F16 => F16: 1, F16x2 => F16: 2, Bf16 => Bf16: 1, Bf16x2 => Bf16: 2,
        ], $E, $N => $result)
    };
}

/// `min max`, which may work on magnitudes and put the product of the signs in front.
fn extremum(instruction: &Instruction, ty: Type) -> Option<Rule> {
    let (least, crossed) = (instruction.opcode == Opcode::Min, instruction.has("xorsign"));
    every_element!(ty, E, N => flagged!(instruction.has("ftz"), FTZ => {
        flagged!(instruction.has("NaN"), NAN => Some(match (least, crossed) {
            (true, false) => map!(N, |a: E, b: E| {
                a.flushed::<FTZ>().lesser::<NAN>(b.flushed::<FTZ>())
            }),
            (false, false) => map!(N, |a: E, b: E| {
                a.flushed::<FTZ>().greater::<NAN>(b.flushed::<FTZ>())
            }),
            (true, true) => map!(N, |a: E, b: E| {
                let (x, y) = (a.flushed::<FTZ>().magnitude(), b.flushed::<FTZ>().magnitude());
                E::xorsigned(x.lesser::<NAN>(y), a, b)
            }),
            (false, true) => map!(N, |a: E, b: E| {
                let (x, y) = (a.flushed::<FTZ>().magnitude(), b.flushed::<FTZ>().magnitude());
                E::xorsigned(x.greater::<NAN>(y), a, b)
            }),
        }))
    }))
}

/// `abs neg copysign`
fn sign(instruction: &Instruction, ty: Type) -> Option<Rule> {
    if instruction.opcode == Opcode::Copysign {
        return elements!(ty, [F32 => f32: 1, F64 => f64: 1], E, N => {
            Some(map!(N, |a: E, b: E| b.copysign(a)))
        });
    }
    every_element!(ty, E, N => flagged!(instruction.has("ftz"), FTZ => match instruction.opcode {
        Opcode::Abs => Some(map!(N, |a: E| a.flushed::<FTZ>().magnitude())),
        Opcode::Neg => Some(map!(N, |a: E| a.flushed::<FTZ>().negated())),
        _ => None,
    }))
}

/// What an atomic of halves does with the old value and the operand.
#[derive(Clone, Copy)]
pub(crate) enum Joined {
    Sum,
    Lesser,
    Greater,
}

/// One atomic of `ty`, a half or a pair of them: the sum rounded to nearest, or an extremum.
pub(crate) fn joined_halves(how: Joined, ty: Type, old: u64, operand: u64) -> u64 {
    fn join<E: Float>(how: Joined, old: u64, operand: u64) -> u64 {
        let (a, b) = (E::of(old), E::of(operand));
        match how {
            Joined::Sum => a.add::<Nearest>(b).canonical(),
            Joined::Lesser => a.lesser::<false>(b),
            Joined::Greater => a.greater::<false>(b),
        }
        .bits()
    }
    let one = match ty {
        Type::F16 | Type::F16x2 => join::<F16>,
        _ => join::<Bf16>,
    };
    match ty.bytes() {
        2 => one(how, old, operand),
        _ => one(how, old & 0xFFFF, operand & 0xFFFF) | one(how, old >> 16, operand >> 16) << 16,
    }
}
