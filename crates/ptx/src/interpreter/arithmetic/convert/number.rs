//! Conversions of one number.

use crate::ast::Instruction;
use crate::interpreter::arithmetic::Rule;
use crate::interpreter::arithmetic::float::Float;
use crate::interpreter::arithmetic::half::{Bf16, F16};
use crate::interpreter::arithmetic::integer::Integer;
use crate::interpreter::arithmetic::lane::{flagged, map, typed};
use crate::interpreter::arithmetic::rounding::{Direction, Nearest, Rounding, integral, rounded};
use crate::types::Type;

/// `typed!` over all integers.
macro_rules! integer {
    ($ty:expr, $T:ident => $result:expr) => {
        typed!($ty, [
            U8 => u8, S8 => i8, U16 => u16, S16 => i16,
            U32 => u32, S32 => i32, U64 => u64, S64 => i64,
        ], $T => $result)
    };
}

/// Extended by the source's sign or cut; with `.sat` clamped.
pub(super) fn integer_to_integer(instruction: &Instruction, to: Type, from: Type) -> Option<Rule> {
    if instruction.has("sat") {
        return integer!(from, A => integer!(to, D => {
            Some(map!(|a: A| D::clamped(a.value())))
        }));
    }
    integer!(from, A => match to.bytes() {
        1 => Some(map!(|a: A| a.value() as u8)),
        2 => Some(map!(|a: A| a.value() as u16)),
        4 => Some(map!(|a: A| a.value() as u32)),
        _ => Some(map!(|a: A| a.value() as u64)),
    })
}

/// Always clamped, with or without `.sat`.
pub(super) fn float_to_integer(instruction: &Instruction, to: Type, from: Type) -> Option<Rule> {
    rounded!(instruction, R => match (from, instruction.has("ftz")) {
        (Type::F32, true) => integer!(to, D => Some(map!(|a: f32| {
            whole::<D, f32, R>(a.flushed::<true>())
        }))),
        _ => typed!(from, [F32 => f32, F64 => f64, F16 => F16, Bf16 => Bf16], A => {
            integer!(to, D => Some(map!(|a: A| whole::<D, A, R>(a))))
        }),
    })
}

/// The nearest integer of type `D` to the rounded number. NaN gives 0 between types of at most 32 bits, else
/// the sign bit alone.
#[inline(always)]
fn whole<D: Integer, A: Float, R: Rounding>(a: A) -> D {
    let exact = a.widen();
    // The cast truncates by itself.
    let rounded = if R::DIRECTION == Direction::Zero { exact } else { integral::<R>(exact) };
    let wide = A::BITS == 64 || D::BITS == 64;
    if wide && exact.is_nan() { D::of(1 << (D::BITS - 1)) } else { D::truncated(rounded) }
}

/// To the nearest or in the given direction.
pub(super) fn integer_to_float(instruction: &Instruction, to: Type, from: Type) -> Option<Rule> {
    rounded!(instruction, R => flagged!(instruction.has("sat"), SAT => {
        typed!(to, [F32 => f32, F64 => f64, F16 => F16, Bf16 => Bf16], D => integer!(from, A => {
            Some(map!(|a: A| D::from_integer::<A, R>(a).saturated::<SAT>()))
        }))
    }))
}

/// To a narrower or wider format, or with an integral rounding (`.rni` …) to an integer in the same.
pub(super) fn float_to_float(instruction: &Instruction, to: Type, from: Type) -> Option<Rule> {
    let flags = (instruction.has("ftz"), instruction.has("sat"));
    let to_integer = instruction.chosen("rnd").is_some_and(|rounding| rounding.ends_with('i'));
    rounded!(instruction, R => match (to, from) {
        (Type::F32, Type::F32) if to_integer => integral_float::<f32, R>(flags),
        (Type::F64, Type::F64) if to_integer => integral_float::<f64, R>(flags),
        (Type::F16, Type::F16) if to_integer => integral_float::<F16, R>(flags),
        (Type::F16, Type::F32) => float::<F16, f32, R>(flags),
        (Type::F16, Type::F64) => float::<F16, f64, R>(flags),
        (Type::Bf16, Type::F32) => float::<Bf16, f32, R>(flags),
        (Type::Bf16, Type::F64) => float::<Bf16, f64, R>(flags),
        (Type::Bf16, Type::F16) => float::<Bf16, F16, R>(flags),
        (Type::F32, Type::F64) => float::<f32, f64, R>(flags),
        _ => widening(to, from, flags),
    })
}

/// Nothing is rounded.
fn widening(to: Type, from: Type, flags: (bool, bool)) -> Option<Rule> {
    match (to, from) {
        (Type::F32, Type::F32) => float::<f32, f32, Nearest>(flags),
        (Type::F32, Type::F16) => float::<f32, F16, Nearest>(flags),
        (Type::F32, Type::Bf16) => float::<f32, Bf16, Nearest>(flags),
        (Type::F64, Type::F64) => float::<f64, f64, Nearest>(flags),
        (Type::F64, Type::F32) => float::<f64, f32, Nearest>(flags),
        (Type::F64, Type::F16) => float::<f64, F16, Nearest>(flags),
        (Type::F16, Type::F16) => float::<F16, F16, Nearest>(flags),
        _ => None,
    }
}

fn float<D: Float, A: Float, R: Rounding>((ftz, sat): (bool, bool)) -> Option<Rule> {
    flagged!(ftz, FTZ => flagged!(sat, SAT => Some(map!(|a: A| {
        let result = D::round::<R>(flushed_single::<A, FTZ>(a).widen());
        flushed_single::<D, FTZ>(result).saturated::<SAT>()
    }))))
}

fn integral_float<E: Float, R: Rounding>((ftz, sat): (bool, bool)) -> Option<Rule> {
    flagged!(ftz, FTZ => flagged!(sat, SAT => Some(map!(|a: E| {
        let result = integral::<R>(flushed_single::<E, FTZ>(a).widen());
        E::round::<Nearest>(result).saturated::<SAT>()
    }))))
}

/// Flushed, if it is an f32.
#[inline(always)]
fn flushed_single<E: Float, const FTZ: bool>(x: E) -> E {
    if E::BITS == 32 { x.flushed::<FTZ>() } else { x }
}
