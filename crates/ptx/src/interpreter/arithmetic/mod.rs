//! What instructions compute, lane by lane: integers, floats, halves, conversions, comparisons, approximations.
//!
//! An instruction's [`Rule`] is found once, when it is decoded: opcode, types, rounding and flags select
//! one function that is compiled for just that combination and runs over the 32 lanes without a branch on
//! any of them. Nothing here knows registers, masks of active lanes or memory.
//!
//! Floats follow one scheme. Every format up to f32 computes in f64, exactly or **rounded to odd**
//! ([`rounding`]), which any rounding to the format's own precision turns into the right result, so sum,
//! product and fma round once in all four directions. f64 itself rounds to nearest in hardware and in the
//! other directions by integers ([`exact`]).

mod approximate;
mod bits;
mod carry;
mod compare;
mod convert;
mod exact;
mod float;
mod half;
mod integer;
mod lane;
mod rounding;
mod special;

#[cfg(test)]
mod tests;

pub(crate) use float::{Joined, joined_halves};

use super::row::{Mask, Row, lanes};
use crate::ast::Instruction;
use crate::table::Opcode;
use crate::types::{Class, Type};

/// How an instruction computes its results from its sources.
///
/// Source rows come in the order of the text, at most four; unused ones are zero. Immediates are rows too.
/// Sources wider than the instruction's type are cut to it.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    /// d = f(a, b, c, e) in every lane.
    Map(fn(&[&Row; 4], &mut Row)),
    /// Predicates: a comparison and its complement, or for packed types those of the low and the high
    /// half. A `.bool` operand is not yet combined. `set` is such a rule too; its masks become values by
    /// [`truth`] and [`spread`].
    Test(fn(&[&Row; 4]) -> [Mask; 2]),
    /// Carry chains: takes the carry or borrow of every lane and gives the new one, which is kept only
    /// with `.cc`. `add.cc`, `sub.cc` and `mad.cc` ignore the one they get.
    Carry(fn(&[&Row; 4], Mask, &mut Row) -> Mask),
    /// Approximations: the value rounded to nearest or, given a row of random bits, one moved by them
    /// within the documented bound.
    Approximate(fn(&[&Row; 4], Option<&Row>, &mut Row)),
}

/// The rule of an arithmetic instruction; `None` for all others.
///
/// `None` too for `fma.oob`, because the encoding of the NaN that it looks for is not documented.
pub(crate) fn rule(instruction: &Instruction) -> Option<Rule> {
    use Opcode as O;
    match instruction.opcode {
        O::Cvt => convert::rule(instruction),
        O::Setp | O::Set | O::Testp | O::Slct => compare::rule(instruction),
        O::Addc | O::Subc | O::Madc => carry::rule(instruction),
        O::Add | O::Sub | O::Mad if instruction.has("cc") => carry::rule(instruction),
        O::Ex2 | O::Lg2 | O::Rsqrt | O::Sin | O::Cos | O::Tanh => approximate::rule(instruction),
        O::Rcp | O::Sqrt | O::Div if instruction.has("approx") || instruction.has("full") => {
            approximate::rule(instruction)
        }
        _ => match instruction.ty("t") {
            Some(ty) if is_float(ty) => float::rule(instruction, ty),
            _ => integer::rule(instruction).or_else(|| bits::rule(instruction)),
        },
    }
}

fn is_float(ty: Type) -> bool {
    matches!(ty.class(), Class::Float) || matches!(ty, Type::Bf16 | Type::Bf16x2)
}

/// The lanes whose sources the ISA leaves undefined, for instructions that have such sources: division of
/// integers by zero.
pub(crate) fn forbidden(instruction: &Instruction) -> Option<fn(&[&Row; 4]) -> Mask> {
    integer::forbidden(instruction)
}

/// What `set` writes for its two masks: the bits that a lane of each contributes. The first mask of a
/// scalar, combined with `.bool`, is all that counts.
pub(crate) fn truth(instruction: &Instruction) -> Option<[u64; 2]> {
    let (result, source) = (instruction.ty("d")?, instruction.ty("t")?);
    let one = match result {
        Type::F32 => 0x3F80_0000,
        Type::F16 | Type::F16x2 => 0x3C00,
        _ if source == Type::F16x2 || result.bytes() == 2 => 0xFFFF,
        _ => 0xFFFF_FFFF,
    };
    Some(if source == Type::F16x2 { [one, one << 16] } else { [one, 0] })
}

/// The results of `set` in all lanes.
pub(crate) fn spread(masks: [Mask; 2], truth: [u64; 2], results: &mut Row) {
    results.fill(0);
    for (mask, truth) in masks.into_iter().zip(truth) {
        for lane in lanes(mask) {
            results[lane] |= truth;
        }
    }
}

/// Extends results of type `ty` to the register that takes them, as `cvt` and `ld` do: by the sign for
/// `.s`, else by zeros.
pub(crate) fn extend(row: &mut Row, ty: Type, register: Type) {
    let signed = matches!(ty, Type::S8 | Type::S16 | Type::S32 | Type::S64);
    if !signed || ty.bytes() >= register.bytes() {
        return;
    }
    let unused = 64 - 8 * ty.bytes();
    let above = 64 - 8 * register.bytes().min(8);
    for bits in row {
        let extended = ((*bits << unused) as i64 >> unused) as u64;
        *bits = extended << above >> above;
    }
}
