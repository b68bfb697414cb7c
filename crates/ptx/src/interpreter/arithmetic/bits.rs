//! Bits: logic, shifts, counts, fields, permutations.
//!
//! Shift amounts are never taken modulo the width: from the width on, everything is shifted out.

use super::Rule;
use super::lane::{flagged, map, typed};
use crate::ast::Instruction;
use crate::table::Opcode;
use crate::types::Type;

/// Where nothing is found.
const NONE: u32 = u32::MAX;

/// The rule of an instruction on bits.
pub(super) fn rule(instruction: &Instruction) -> Option<Rule> {
    let (opcode, ty) = (instruction.opcode, instruction.ty("t")?);
    match opcode {
        Opcode::And | Opcode::Or | Opcode::Xor | Opcode::Not | Opcode::Cnot => logic(opcode, ty),
        Opcode::Lop3 => Some(map!(|a: u32, b: u32, c: u32, table: u8| lop3(a, b, c, table))),
        Opcode::Shl | Opcode::Shr => shift(opcode, ty),
        Opcode::Popc | Opcode::Clz | Opcode::Brev => count(opcode, ty),
        Opcode::Bfind => bfind(instruction.has("shiftamt"), ty),
        Opcode::Bfe | Opcode::Bfi => field(opcode, ty),
        Opcode::Bmsk | Opcode::Szext => clamped(instruction, ty),
        Opcode::Shf => funnel(instruction),
        Opcode::Prmt => permute(instruction.chosen("mode")),
        Opcode::Fns => Some(map!(|mask: u32, base: u32, offset: i32| fns(mask, base, offset))),
        _ => None,
    }
}

fn logic(opcode: Opcode, ty: Type) -> Option<Rule> {
    typed!(ty, [B16 => u16, B32 => u32, B64 => u64], T => Some(match opcode {
        Opcode::And => map!(|a: T, b: T| a & b),
        Opcode::Or => map!(|a: T, b: T| a | b),
        Opcode::Xor => map!(|a: T, b: T| a ^ b),
        Opcode::Not => map!(|a: T| !a),
        Opcode::Cnot => map!(|a: T| T::from(a == 0)),
        _ => return None,
    }))
}

/// Every bit of the result is the table's at the index abc.
#[inline(always)]
fn lop3(a: u32, b: u32, c: u32, table: u8) -> u32 {
    (0..8).fold(0, |result, at| {
        let term = (if at & 4 == 0 { !a } else { a })
            & (if at & 2 == 0 { !b } else { b })
            & (if at & 1 == 0 { !c } else { c });
        result | if table >> at & 1 == 0 { 0 } else { term }
    })
}

fn shift(opcode: Opcode, ty: Type) -> Option<Rule> {
    if opcode == Opcode::Shl {
        return typed!(ty, [B16 => u16, B32 => u32, B64 => u64], T => Some(
            map!(|a: T, b: u32| if b < T::BITS { a << b } else { 0 })
        ));
    }
    typed!(ty, [
        B16 => u16, B32 => u32, B64 => u64, U16 => u16, U32 => u32, U64 => u64,
    ], T => Some(map!(|a: T, b: u32| if b < T::BITS { a >> b } else { 0 })))
    .or_else(|| {
        typed!(ty, [S16 => i16, S32 => i32, S64 => i64], T => Some(
            map!(|a: T, b: u32| a >> b.min(T::BITS - 1))
        ))
    })
}

fn count(opcode: Opcode, ty: Type) -> Option<Rule> {
    typed!(ty, [B32 => u32, B64 => u64], T => Some(match opcode {
        Opcode::Popc => map!(|a: T| a.count_ones()),
        Opcode::Clz => map!(|a: T| a.leading_zeros()),
        Opcode::Brev => map!(|a: T| a.reverse_bits()),
        _ => return None,
    }))
}

/// The most significant bit that differs from the sign, counted from bit 0 or, as a shift amount, from the
/// top.
fn bfind(shift_amount: bool, ty: Type) -> Option<Rule> {
    flagged!(shift_amount, SHIFT => {
        typed!(ty, [U32 => u32, U64 => u64], T => {
            Some(map!(|a: T| leading::<SHIFT>(a.leading_zeros(), T::BITS)))
        })
        .or_else(|| typed!(ty, [S32 => i32, S64 => i64], T => {
            Some(map!(|a: T| leading::<SHIFT>((a ^ (a >> (T::BITS - 1))).leading_zeros(), T::BITS)))
        }))
    })
}

#[inline(always)]
fn leading<const SHIFT: bool>(zeros: u32, width: u32) -> u32 {
    match zeros {
        _ if zeros == width => NONE,
        _ if SHIFT => zeros,
        _ => width - 1 - zeros,
    }
}

/// `bfe bfi`: the low bytes of the last two sources are a position and a length.
fn field(opcode: Opcode, ty: Type) -> Option<Rule> {
    if opcode == Opcode::Bfi {
        return typed!(ty, [B32 => u32, B64 => u64], T => Some(
            map!(|a: T, b: T, position: u8, length: u8| {
                let field = below(length).checked_shl(u32::from(position)).unwrap_or(0) as T;
                let a = a.bits().checked_shl(u32::from(position)).unwrap_or(0) as T;
                (b & !field) | (a & field)
            })
        ));
    }
    // A shift that keeps the sign fills the bits beyond the top; so does the extension behind it.
    typed!(ty, [U32 => u32, U64 => u64], T => Some(map!(|a: T, position: u8, length: u8| {
        (a.bits().checked_shr(u32::from(position)).unwrap_or(0) & below(length)) as T
    })))
    .or_else(|| {
        typed!(ty, [S32 => i32, S64 => i64], T => Some(
            map!(|a: T, position: u8, length: u8| {
                let rest = a as i64 >> position.min(63);
                sign_extended(rest, u32::from(length)) as T
            })
        ))
    })
}

/// The bits below `length`.
#[inline(always)]
fn below(length: u8) -> u64 {
    1u64.checked_shl(u32::from(length)).unwrap_or(0).wrapping_sub(1)
}

/// The low `length` bits and their sign.
#[inline(always)]
fn sign_extended(value: i64, length: u32) -> i64 {
    match length {
        0 => 0,
        1..=63 => value << (64 - length) >> (64 - length),
        _ => value,
    }
}

/// `bmsk szext`: amounts are clamped to 32 or taken modulo 32.
fn clamped(instruction: &Instruction, ty: Type) -> Option<Rule> {
    flagged!(instruction.has("clamp"), CLAMP => Some(match (instruction.opcode, ty) {
        (Opcode::Bmsk, _) => map!(|a: u32, b: u32| {
            let ones = (1u64 << amount::<CLAMP>(b)) - 1;
            (ones << amount::<CLAMP>(a)) as u32
        }),
        (_, Type::S32) => map!(|a: i32, b: u32| {
            sign_extended(i64::from(a), amount::<CLAMP>(b)) as i32
        }),
        _ => map!(|a: u32, b: u32| a & ((1u64 << amount::<CLAMP>(b)) - 1) as u32),
    }))
}

#[inline(always)]
fn amount<const CLAMP: bool>(amount: u32) -> u32 {
    if CLAMP { amount.min(32) } else { amount & 31 }
}

/// `shf`: the upper word of b:a shifted left, or the lower of it shifted right.
fn funnel(instruction: &Instruction) -> Option<Rule> {
    let left = instruction.has("l");
    flagged!(instruction.has("clamp"), CLAMP => flagged!(left, LEFT => Some(
        map!(|a: u32, b: u32, c: u32| {
            let both = u64::from(b) << 32 | u64::from(a);
            let amount = amount::<CLAMP>(c);
            if LEFT { ((both << amount) >> 32) as u32 } else { (both >> amount) as u32 }
        })
    )))
}

/// `prmt`: a nibble of the selector per byte of the result; the modes expand the low two bits of c to four nibbles.
fn permute(mode: Option<&str>) -> Option<Rule> {
    Some(match mode {
        None => map!(|a: u32, b: u32, c: u32| selected(a, b, |at| c >> (4 * at) & 15)),
        Some("f4e") => map!(|a: u32, b: u32, c: u32| selected(a, b, |at| (c & 3) + at)),
        Some("b4e") => {
            map!(|a: u32, b: u32, c: u32| selected(a, b, |at| (c & 3).wrapping_sub(at) & 7))
        }
        Some("rc8") => map!(|a: u32, b: u32, c: u32| selected(a, b, |_| c & 3)),
        Some("ecl") => map!(|a: u32, b: u32, c: u32| selected(a, b, |at| at.max(c & 3))),
        Some("ecr") => map!(|a: u32, b: u32, c: u32| selected(a, b, |at| at.min(c & 3))),
        Some("rc16") => {
            map!(|a: u32, b: u32, c: u32| selected(a, b, |at| 2 * (c & 1) + (at & 1)))
        }
        _ => return None,
    })
}

/// Byte `at` of the result is the byte of b:a that the low three bits of the nibble pick, or with its
/// fourth that byte's sign in every bit.
#[inline(always)]
fn selected(a: u32, b: u32, nibble: impl Fn(u32) -> u32) -> u32 {
    let both = u64::from(b) << 32 | u64::from(a);
    (0..4).fold(0, |result, at| {
        let nibble = nibble(at);
        let byte = (both >> (8 * (nibble & 7))) as u8;
        let byte = if nibble & 8 == 0 { byte } else { (byte as i8 >> 7) as u8 };
        result | u32::from(byte) << (8 * at)
    })
}

/// The |`offset`|-th set bit at or above `base`, downwards if `offset` is negative; with 0 `base` itself, if
/// set.
fn fns(mask: u32, base: u32, offset: i32) -> u32 {
    let set = |at: &u32| mask >> at & 1 == 1;
    let rank = (offset.unsigned_abs() as usize).saturating_sub(1);
    let found = match (base, offset) {
        (32.., _) => None,
        (_, 0) => Some(base).filter(set),
        (_, 1..) => (base..32).filter(set).nth(rank),
        _ => (0..=base).rev().filter(set).nth(rank),
    };
    found.unwrap_or(NONE)
}
