//! Atomics of halves.

use super::number::Float;
use crate::interpreter::arithmetic::half::{Bf16, F16};
use crate::interpreter::arithmetic::rounding::Nearest;
use crate::types::Type;

/// What an atomic does with the old value and the operand.
#[derive(Clone, Copy)]
pub(crate) enum Joined {
    Sum,
    Lesser,
    Greater,
}

/// One atomic of `ty`, a half or a pair of them: the sum rounded to nearest, or an extremum.
pub(crate) fn joined_halves(how: Joined, ty: Type, old: u64, operand: u64) -> u64 {
    let one = match ty {
        Type::F16 | Type::F16x2 => join::<F16>,
        _ => join::<Bf16>,
    };
    match ty.bytes() {
        2 => one(how, old, operand),
        _ => one(how, old & 0xFFFF, operand & 0xFFFF) | one(how, old >> 16, operand >> 16) << 16,
    }
}

fn join<E: Float>(how: Joined, old: u64, operand: u64) -> u64 {
    let (a, b) = (E::of(old), E::of(operand));
    match how {
        Joined::Sum => a.add::<Nearest>(b).canonical(),
        Joined::Lesser => a.lesser::<false>(b),
        Joined::Greater => a.greater::<false>(b),
    }
    .bits()
}
