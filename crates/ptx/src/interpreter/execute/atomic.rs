//! What an atomic writes, from what was there.

use super::super::arithmetic::{Joined, joined_halves};
use super::super::decode::action::AtomicOperation;
use crate::types::Type;

/// The new value; `None` where the comparison of a cas fails. `flush`: f32 sums in global memory flush
/// subnormals, as the L2's adders do; those in shared memory keep them.
pub(super) fn combine(
    operation: AtomicOperation,
    ty: Type,
    old: u64,
    [a, b]: [u64; 2],
    flush: bool,
) -> Option<u64> {
    let signed = matches!(ty, Type::S32 | Type::S64);
    let ordered = |value: u64| match ty.bytes() {
        4 if signed => i64::from(value as u32 as i32),
        _ => value as i64,
    };
    let less = match signed {
        true => ordered(a) < ordered(old),
        false => a < old,
    };
    Some(match operation {
        AtomicOperation::Add => return Some(add(ty, old, a, flush)),
        AtomicOperation::Min | AtomicOperation::Max if is_half(ty) => {
            let how =
                if operation == AtomicOperation::Max { Joined::Greater } else { Joined::Lesser };
            joined_halves(how, ty, old, a)
        }
        AtomicOperation::Min => {
            if less {
                a
            } else {
                old
            }
        }
        AtomicOperation::Max => {
            if less {
                old
            } else {
                a
            }
        }
        AtomicOperation::Increment => {
            if old >= a {
                0
            } else {
                old + 1
            }
        }
        AtomicOperation::Decrement => {
            if old == 0 || old > a {
                a
            } else {
                old - 1
            }
        }
        AtomicOperation::And => old & a,
        AtomicOperation::Or => old | a,
        AtomicOperation::Xor => old ^ a,
        AtomicOperation::Exchange => a,
        AtomicOperation::CompareAndSwap => return (old == a).then_some(b),
    })
}

fn is_half(ty: Type) -> bool {
    matches!(ty, Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2)
}

fn add(ty: Type, old: u64, a: u64, flush: bool) -> u64 {
    match ty {
        Type::F32 => {
            let [old, a] = [old, a].map(|bits| flushed(f32::from_bits(bits as u32), flush));
            let sum = flushed(old + a, flush);
            u64::from(if sum.is_nan() { 0x7FFF_FFFF } else { sum.to_bits() })
        }
        Type::F64 => (f64::from_bits(old) + f64::from_bits(a)).to_bits(),
        _ if is_half(ty) => joined_halves(Joined::Sum, ty, old, a),
        _ if ty.bytes() == 4 => u64::from((old as u32).wrapping_add(a as u32)),
        _ => old.wrapping_add(a),
    }
}

fn flushed(value: f32, flush: bool) -> f32 {
    if flush && value.is_subnormal() { 0f32.copysign(value) } else { value }
}
