//! Carry chains: integers longer than a register.
//!
//! A thread has one flag: the carry of sums, the borrow of differences.

use super::Rule;
use super::integer::Integer;
use super::lane::{Value, typed};
use crate::ast::Instruction;
use crate::interpreter::row::{LANES, Mask};
use crate::table::Opcode;

/// `chain!(|a: T, b: T, flag| …)`: a rule from an expression of sources and flag that gives the result and
/// the new flag.
macro_rules! chain {
    (|$($source:ident: $ty:ty),+; $flag:ident| $result:expr) => {
        Rule::Carry(|sources, flags, results| {
            let [$($source,)+ ..] = *sources;
            let mut new: Mask = 0;
            for lane in 0..LANES {
                $(let $source = <$ty as Value>::of($source[lane]);)+
                let $flag = flags >> lane & 1 == 1;
                let (result, flag) = $result;
                results[lane] = result.bits();
                new |= Mask::from(flag) << lane;
            }
            new
        })
    };
}

/// The rule of an instruction that reads or writes the flag.
pub(super) fn rule(instruction: &Instruction) -> Option<Rule> {
    let high = instruction.has("hi");
    typed!(instruction.ty("t")?, [U32 => u32, S32 => i32, U64 => u64, S64 => i64], T => {
        Some(match (instruction.opcode, high) {
            (Opcode::Add, _) => chain!(|a: T, b: T; _flag| sum(a, b, false)),
            (Opcode::Addc, _) => chain!(|a: T, b: T; carry| sum(a, b, carry)),
            (Opcode::Sub, _) => chain!(|a: T, b: T; _flag| difference(a, b, false)),
            (Opcode::Subc, _) => chain!(|a: T, b: T; borrow| difference(a, b, borrow)),
            (Opcode::Mad, false) => chain!(|a: T, b: T, c: T; _flag| sum(a.low(b), c, false)),
            (Opcode::Mad, true) => chain!(|a: T, b: T, c: T; _flag| sum(a.high(b), c, false)),
            (Opcode::Madc, false) => chain!(|a: T, b: T, c: T; carry| sum(a.low(b), c, carry)),
            (Opcode::Madc, true) => chain!(|a: T, b: T, c: T; carry| sum(a.high(b), c, carry)),
            _ => return None,
        })
    })
}

/// a + b + carry as unsigned integers, and the new carry.
#[inline(always)]
fn sum<T: Integer>(a: T, b: T, carry: bool) -> (T, bool) {
    let sum = u128::from(a.bits()) + u128::from(b.bits()) + u128::from(carry);
    (T::of(sum as u64), sum >> T::BITS != 0)
}

/// a − b − borrow as unsigned integers, and the new borrow.
#[inline(always)]
fn difference<T: Integer>(a: T, b: T, borrow: bool) -> (T, bool) {
    let difference = i128::from(a.bits()) - i128::from(b.bits()) - i128::from(borrow);
    (T::of(difference as u64), difference < 0)
}
