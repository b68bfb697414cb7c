//! Integer arithmetic: sums, products, quotients, extrema, packed pairs, byte products.
//!
//! Everything wraps unless `.sat` says otherwise. Division truncates towards zero; the quotient and the
//! remainder by zero are undefined ([`forbidden`]), here all ones.

use super::Rule;
use super::lane::{Value, elements, flagged, map, typed};
use crate::ast::Instruction;
use crate::interpreter::row::{Mask, Row};
use crate::table::Opcode;
use crate::types::Type;

/// The integers of one type.
pub(super) trait Integer: Value + Ord {
    /// 0
    const ZERO: Self;

    /// a + b
    fn plus(self, b: Self) -> Self;
    /// a − b
    fn minus(self, b: Self) -> Self;
    /// The low half of a·b.
    fn low(self, b: Self) -> Self;
    /// The high half of a·b.
    fn high(self, b: Self) -> Self;
    /// The bits of a·b, which has twice the width; of two 64-bit integers the low half.
    fn wide(self, b: Self) -> u64;
    /// a / b
    fn quotient(self, b: Self) -> Self;
    /// a − b·(a / b)
    fn remainder(self, b: Self) -> Self;
    /// Its value.
    fn value(self) -> i128;
    /// The nearest of this type's values.
    fn clamped(value: i128) -> Self;
    /// The nearest of this type's values to `x` without its fraction; 0 for NaN.
    fn truncated(x: f64) -> Self;
    /// Its value as an f64, rounded to odd beyond 2⁵³.
    fn to_odd(self) -> f64;
}

macro_rules! integers {
    ($($ty:ident $wide:ident $wide_bits:ident;)*) => { $(
        impl Integer for $ty {
            const ZERO: Self = 0;

            #[inline(always)]
            fn plus(self, b: Self) -> Self {
                self.wrapping_add(b)
            }

            #[inline(always)]
            fn minus(self, b: Self) -> Self {
                self.wrapping_sub(b)
            }

            #[inline(always)]
            fn low(self, b: Self) -> Self {
                self.wrapping_mul(b)
            }

            #[inline(always)]
            fn high(self, b: Self) -> Self {
                (($wide::from(self) * $wide::from(b)) >> $ty::BITS) as $ty
            }

            #[inline(always)]
            fn wide(self, b: Self) -> u64 {
                ($wide::from(self) * $wide::from(b)) as $wide_bits as u64
            }

            #[inline(always)]
            fn quotient(self, b: Self) -> Self {
                if b == 0 { !0 } else { self.wrapping_div(b) }
            }

            #[inline(always)]
            fn remainder(self, b: Self) -> Self {
                if b == 0 { !0 } else { self.wrapping_rem(b) }
            }

            #[inline(always)]
            fn value(self) -> i128 {
                i128::from(self)
            }

            #[inline(always)]
            fn clamped(value: i128) -> Self {
                value.clamp(i128::from(<$ty>::MIN), i128::from(<$ty>::MAX)) as $ty
            }

            #[inline(always)]
            fn truncated(x: f64) -> Self {
                x as $ty
            }

            #[inline(always)]
            fn to_odd(self) -> f64 {
                if $ty::BITS < 64 {
                    return self as f64;
                }
                let magnitude = self.value().unsigned_abs() as u64;
                let odd = match magnitude >> 53 {
                    0 => magnitude,
                    _ => magnitude & !0x7FF | u64::from(magnitude & 0x7FF != 0) << 11,
                };
                if self < Self::ZERO { -(odd as f64) } else { odd as f64 }
            }
        }
    )* };
}

integers! {
    u8 u16 u16;
    i8 i16 u16;
    u16 u32 u32;
    i16 i32 u32;
    u32 u64 u64;
    i32 i64 u64;
    u64 u128 u128;
    i64 i128 u128;
}

/// The rule of an instruction on integers.
pub(super) fn rule(instruction: &Instruction) -> Option<Rule> {
    match (instruction.opcode, instruction.ty("t")) {
        (Opcode::Dp4a | Opcode::Dp2a, _) => byte_products(instruction),
        (Opcode::Mul24 | Opcode::Mad24, Some(ty)) => product24(instruction, ty),
        (Opcode::Mul | Opcode::Mad, Some(ty)) => product(instruction, ty),
        (_, Some(Type::S32)) if instruction.has("sat") => saturated(instruction.opcode),
        (_, Some(ty)) => {
            elements!(ty, [
                U16 => u16: 1, S16 => i16: 1, U32 => u32: 1, S32 => i32: 1, U64 => u64: 1, S64 => i64: 1,
                U16x2 => u16: 2, S16x2 => i16: 2,
            ], T, N => match instruction.has("relu") {
                true => rectified::<T, N>(instruction.opcode),
                false => wrapping::<T, N>(instruction.opcode),
            })
        }
        _ => None,
    }
}

/// Lanes that divide by zero.
pub(super) fn forbidden(instruction: &Instruction) -> Option<fn(&[&Row; 4]) -> Mask> {
    if !matches!(instruction.opcode, Opcode::Div | Opcode::Rem) {
        return None;
    }
    typed!(instruction.ty("t")?, [
        U16 => u16, S16 => u16, U32 => u32, S32 => u32, U64 => u64, S64 => u64,
    ], T => Some(|sources| {
        let divisors = sources[1].iter().enumerate();
        divisors.fold(0, |mask, (lane, &bits)| mask | Mask::from(T::of(bits) == 0) << lane)
    }))
}

fn wrapping<T: Integer, const N: usize>(opcode: Opcode) -> Option<Rule> {
    Some(match opcode {
        Opcode::Add => map!(N, |a: T, b: T| a.plus(b)),
        Opcode::Sub => map!(N, |a: T, b: T| a.minus(b)),
        Opcode::Div => map!(N, |a: T, b: T| a.quotient(b)),
        Opcode::Rem => map!(N, |a: T, b: T| a.remainder(b)),
        Opcode::Sad => map!(N, |a: T, b: T, c: T| c.plus(a.max(b).minus(a.min(b)))),
        Opcode::Min => map!(N, |a: T, b: T| a.min(b)),
        Opcode::Max => map!(N, |a: T, b: T| a.max(b)),
        Opcode::Abs => map!(N, |a: T| if a < T::ZERO { T::ZERO.minus(a) } else { a }),
        Opcode::Neg => map!(N, |a: T| T::ZERO.minus(a)),
        _ => return None,
    })
}

/// `.relu`: not below zero.
fn rectified<T: Integer, const N: usize>(opcode: Opcode) -> Option<Rule> {
    Some(match opcode {
        Opcode::Min => map!(N, |a: T, b: T| a.min(b).max(T::ZERO)),
        Opcode::Max => map!(N, |a: T, b: T| a.max(b).max(T::ZERO)),
        _ => return None,
    })
}

/// `.sat.s32`
fn saturated(opcode: Opcode) -> Option<Rule> {
    Some(match opcode {
        Opcode::Add => map!(|a: i32, b: i32| a.saturating_add(b)),
        Opcode::Sub => map!(|a: i32, b: i32| a.saturating_sub(b)),
        _ => return None,
    })
}

/// `mul mad`
fn product(instruction: &Instruction, ty: Type) -> Option<Rule> {
    let adds = instruction.opcode == Opcode::Mad;
    if instruction.has("wide") {
        return typed!(ty, [U16 => u16, S16 => i16, U32 => u32, S32 => i32], T => Some(match adds {
            false => map!(|a: T, b: T| a.wide(b)),
            // A sum of 32 bits is cut to them.
            true => map!(|a: T, b: T, c: u64| {
                a.wide(b).wrapping_add(c) & (u64::MAX >> (64 - 2 * T::BITS))
            }),
        }));
    }
    if instruction.has("sat") {
        return Some(map!(|a: i32, b: i32, c: i32| a.high(b).saturating_add(c)));
    }
    typed!(ty, [
        U16 => u16, S16 => i16, U32 => u32, S32 => i32, U64 => u64, S64 => i64,
    ], T => Some(match (adds, instruction.has("hi")) {
        (false, false) => map!(|a: T, b: T| a.low(b)),
        (false, true) => map!(|a: T, b: T| a.high(b)),
        (true, false) => map!(|a: T, b: T, c: T| a.low(b).plus(c)),
        (true, true) => map!(|a: T, b: T, c: T| a.high(b).plus(c)),
    }))
}

/// `mul24 mad24`: products of the low 24 bits; `.lo` are their low 32 bits, `.hi` the high 32 of 48.
fn product24(instruction: &Instruction, ty: Type) -> Option<Rule> {
    let adds = instruction.opcode == Opcode::Mad24;
    if instruction.has("sat") {
        return Some(map!(|a: u32, b: u32, c: i32| {
            (((low24::<true>(a) * low24::<true>(b)) >> 16) as i32).saturating_add(c)
        }));
    }
    flagged!(ty == Type::S32, SIGNED => Some(match (adds, instruction.has("hi")) {
        (false, false) => map!(|a: u32, b: u32| (low24::<SIGNED>(a) * low24::<SIGNED>(b)) as u32),
        (false, true) => map!(|a: u32, b: u32| ((low24::<SIGNED>(a) * low24::<SIGNED>(b)) >> 16) as u32),
        (true, false) => map!(|a: u32, b: u32, c: u32| {
            ((low24::<SIGNED>(a) * low24::<SIGNED>(b)) as u32).wrapping_add(c)
        }),
        (true, true) => map!(|a: u32, b: u32, c: u32| {
            (((low24::<SIGNED>(a) * low24::<SIGNED>(b)) >> 16) as u32).wrapping_add(c)
        }),
    }))
}

/// The integer in the low 24 bits.
#[inline(always)]
fn low24<const SIGNED: bool>(bits: u32) -> i64 {
    let up = bits << 8;
    if SIGNED { i64::from(up as i32 >> 8) } else { i64::from(up >> 8) }
}

/// `dp4a dp2a`: c + Σ aᵢ·bᵢ over the bytes of both, or over the halves of a and the low or high two bytes
/// of b. The types say only which of a and b are signed.
fn byte_products(instruction: &Instruction) -> Option<Rule> {
    let signed = |choice| instruction.ty(choice) == Some(Type::S32);
    let high = instruction.has("hi");
    flagged!(signed("at"), A => flagged!(signed("bt"), B => Some(match instruction.opcode {
        Opcode::Dp4a => map!(|a: u32, b: u32, c: u32| {
            (0..4).fold(c, |sum, at| {
                sum.wrapping_add(part::<8, A>(a, at).wrapping_mul(part::<8, B>(b, at)))
            })
        }),
        _ => flagged!(high, HIGH => map!(|a: u32, b: u32, c: u32| {
            (0..2).fold(c, |sum, at| {
                let b = part::<8, B>(b, at + 2 * u32::from(HIGH));
                sum.wrapping_add(part::<16, A>(a, at).wrapping_mul(b))
            })
        })),
    })))
}

/// The `at`-th part of `BITS` bits, extended.
#[inline(always)]
fn part<const BITS: u32, const SIGNED: bool>(word: u32, at: u32) -> u32 {
    let top = word << (32 - BITS - BITS * at);
    if SIGNED { (top as i32 >> (32 - BITS)) as u32 } else { top >> (32 - BITS) }
}
