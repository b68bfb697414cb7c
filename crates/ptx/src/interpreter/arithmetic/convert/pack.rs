//! Conversions to the formats of tensor cores: halves with `.relu` and `.satfinite`, pairs, bytes, tf32, and
//! `cvt.pack`. The first source is the upper half of a pair.

use crate::ast::Instruction;
use crate::interpreter::arithmetic::Rule;
use crate::interpreter::arithmetic::half::{Bf16, E4m3, E5m2, F16, Format, decode, encode};
use crate::interpreter::arithmetic::integer::Integer;
use crate::interpreter::arithmetic::lane::{flagged, map, typed};
use crate::interpreter::arithmetic::rounding::{CANONICAL, Nearest, Rounding, rounded};
use crate::types::Type;

/// `x` in format `F`: with `RELU` not below zero, with `FINITE` never infinite.
#[inline(always)]
fn narrow<F: Format, R: Rounding, const RELU: bool, const FINITE: bool>(x: f64) -> u64 {
    encode::<F, R, FINITE>(if RELU && x <= 0.0 { 0.0 } else { x })
}

/// One half from an f32.
pub(super) fn half(instruction: &Instruction, to: Type) -> Option<Rule> {
    let (relu, finite) = (instruction.has("relu"), instruction.has("satfinite"));
    typed!(to, [F16 => F16, Bf16 => Bf16], F => rounded!(instruction, R => {
        flagged!(relu, RELU => flagged!(finite, FINITE => Some(map!(|a: f32| {
            narrow::<F, R, RELU, FINITE>(a.into())
        }))))
    }))
}

/// Two halves from two f32.
pub(super) fn halves(instruction: &Instruction, to: Type) -> Option<Rule> {
    let (relu, finite) = (instruction.has("relu"), instruction.has("satfinite"));
    typed!(to, [F16x2 => F16, Bf16x2 => Bf16], F => rounded!(instruction, R => {
        flagged!(relu, RELU => flagged!(finite, FINITE => Some(map!(|a: f32, b: f32| {
            let upper = narrow::<F, R, RELU, FINITE>(a.into());
            upper << 16 | narrow::<F, R, RELU, FINITE>(b.into())
        }))))
    }))
}

/// Two bytes from two f32 or from a pair of f16.
pub(super) fn bytes(instruction: &Instruction, to: Type, from: Type) -> Option<Rule> {
    typed!(to, [E4m3x2 => E4m3, E5m2x2 => E5m2], F => flagged!(instruction.has("relu"), RELU => {
        Some(match from {
            Type::F16x2 => map!(|a: u32| {
                let half = |bits: u32| {
                    narrow::<F, Nearest, RELU, true>(decode::<F16>(u64::from(bits & 0xFFFF)))
                };
                half(a >> 16) << 8 | half(a)
            }),
            _ => map!(|a: f32, b: f32| {
                let upper = narrow::<F, Nearest, RELU, true>(a.into());
                upper << 8 | narrow::<F, Nearest, RELU, true>(b.into())
            }),
        })
    }))
}

/// A pair of f16 from two bytes, exactly.
pub(super) fn from_bytes(instruction: &Instruction, from: Type) -> Option<Rule> {
    typed!(from, [E4m3x2 => E4m3, E5m2x2 => E5m2], F => flagged!(instruction.has("relu"), RELU => {
        Some(map!(|a: u16| {
            let byte = |bits: u16| {
                narrow::<F16, Nearest, RELU, false>(decode::<F>(u64::from(bits & 0xFF)))
            };
            byte(a >> 8) << 16 | byte(a)
        }))
    }))
}

/// The 13 bits of an f32 that tf32 lacks.
const DROPPED: u32 = 0x1FFF;

/// tf32 is an f32 whose 13 low bits are zero. A carry out of the fraction is the next binade, or infinity.
pub(super) fn tf32(instruction: &Instruction) -> Option<Rule> {
    let (relu, finite) = (instruction.has("relu"), instruction.has("satfinite"));
    flagged!(relu, RELU => flagged!(finite, FINITE => match instruction.chosen("rnd") {
        None => Some(map!(|a: f32| cut::<RELU, FINITE>(a, 0x1000))),
        Some("rz") => Some(map!(|a: f32| cut::<RELU, FINITE>(a, 0))),
        _ => Some(map!(|a: f32| cut::<RELU, FINITE>(a, 0xFFF + (a.to_bits() >> 13 & 1)))),
    }))
}

/// `a` as tf32, where `half` added to the dropped bits carries if the magnitude goes up.
#[inline(always)]
fn cut<const RELU: bool, const FINITE: bool>(a: f32, half: u32) -> u32 {
    let infinity = f32::INFINITY.to_bits();
    let sign = a.to_bits() & 1 << 31;
    let magnitude = a.abs().to_bits();
    let rounded = (magnitude.min(infinity) + half) & !DROPPED;
    match rounded.min(infinity) {
        _ if a.is_nan() => CANONICAL.to_bits(),
        _ if RELU && a <= 0.0 => 0,
        beyond if FINITE && beyond == infinity => sign | (infinity - 1) & !DROPPED,
        rounded => sign | rounded,
    }
}

/// `cvt.pack.sat`: two clamped integers; bytes go below the low half of the third source.
pub(super) fn integers(to: Type) -> Option<Rule> {
    typed!(to, [S8 => i8, U8 => u8], D => Some(map!(|a: i32, b: i32, c: u32| {
        let (a, b) = (D::clamped(a.into()).bits(), D::clamped(b.into()).bits());
        u64::from(c & 0xFFFF) << 16 | a << 8 | b
    })))
    .or_else(|| {
        typed!(to, [S16 => i16, U16 => u16], D => Some(map!(|a: i32, b: i32| {
            D::clamped(a.into()).bits() << 16 | D::clamped(b.into()).bits()
        })))
    })
}
