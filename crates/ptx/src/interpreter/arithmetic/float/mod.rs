//! Float arithmetic: sums, products, quotients, roots, minima, signs.
//!
//! `.ftz` flushes subnormal sources and results to zero of the same sign; `.sat` clamps to [0, 1] and turns
//! NaN and −0 into +0; `.relu` turns negative results into +0. NaN results are canonical, except those of
//! `abs`, `neg` and `copysign`, which only touch the sign.

mod atomic;
mod number;

pub(crate) use atomic::{Joined, joined_halves};
pub(super) use number::Float;

use super::Rule;
use super::half::{Bf16, F16};
use super::lane::{elements, flagged, map};
use super::rounding::{Nearest, Rounding, rounded};
use crate::ast::Instruction;
use crate::table::Opcode;
use crate::types::Type;

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
