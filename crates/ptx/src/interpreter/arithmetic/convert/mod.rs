//! `cvt`: integers, floats, halves and the packed formats into each other.
//!
//! Between numbers every conversion is: read exactly, round once in the given direction, clamp. `.ftz`
//! flushes whichever side is f32. `.sat` clamps integers to their range and floats to [0, 1].

mod number;
mod pack;

use super::Rule;
use crate::ast::Instruction;
use crate::types::Type;

/// The rule of a `cvt`.
pub(super) fn rule(instruction: &Instruction) -> Option<Rule> {
    let (to, from) = (instruction.ty("d")?, instruction.ty("a")?);
    match (to, from) {
        _ if instruction.has("pack") => pack::integers(to),
        (Type::Tf32, _) => pack::tf32(instruction),
        (Type::E4m3x2 | Type::E5m2x2, _) => pack::bytes(instruction, to, from),
        (Type::F16x2, Type::E4m3x2 | Type::E5m2x2) => pack::from_bytes(instruction, from),
        (Type::F16x2 | Type::Bf16x2, _) => pack::halves(instruction, to),
        _ if instruction.has("relu") || instruction.has("satfinite") => pack::half(instruction, to),
        _ => match (is_integer(to), is_integer(from)) {
            (true, true) => number::integer_to_integer(instruction, to, from),
            (true, false) => number::float_to_integer(instruction, to, from),
            (false, true) => number::integer_to_float(instruction, to, from),
            (false, false) => number::float_to_float(instruction, to, from),
        },
    }
}

fn is_integer(ty: Type) -> bool {
    ty.class() == crate::types::Class::Integer
}
