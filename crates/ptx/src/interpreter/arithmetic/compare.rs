//! Comparisons: `setp`, `set`, `testp`, and `slct`.
//!
//! The plain relations of floats hold between numbers only, `ne` too; those with a `u` also where either is
//! NaN.

use super::Rule;
use super::float::Float;
use super::half::{Bf16, F16};
use super::lane::{Value, elements, flagged, map, test, typed};
use crate::ast::Instruction;
use crate::table::Opcode;
use crate::types::Type;

/// A type that can be compared.
trait Ordered: Value {
    /// What stands for it in a comparison.
    type Key: PartialOrd;

    /// The key, of flushed subnormals if `FTZ`.
    fn key<const FTZ: bool>(self) -> Self::Key;
}

macro_rules! ordered {
    ($($ty:ident $key:ty: |$value:ident, $flush:ident| $result:expr;)*) => { $(
        impl Ordered for $ty {
            type Key = $key;

            #[inline(always)]
            fn key<const $flush: bool>(self) -> $key {
                let $value = self;
                $result
            }
        }
    )* };
}

ordered! {
    u16 u16: |value, FTZ| value;
    u32 u32: |value, FTZ| value;
    u64 u64: |value, FTZ| value;
    i16 i16: |value, FTZ| value;
    i32 i32: |value, FTZ| value;
    i64 i64: |value, FTZ| value;
    f32 f32: |value, FTZ| value.flushed::<FTZ>();
    f64 f64: |value, FTZ| value;
    F16 f64: |value, FTZ| value.flushed::<FTZ>().widen();
    Bf16 f64: |value, FTZ| value.widen();
}

/// The rule of a comparison, without its `.bool`.
pub(super) fn rule(instruction: &Instruction) -> Option<Rule> {
    match instruction.opcode {
        Opcode::Testp => class(instruction),
        Opcode::Slct => select(instruction),
        _ => comparison(instruction),
    }
}

fn comparison(instruction: &Instruction) -> Option<Rule> {
    let relation = instruction.chosen("cmp")?;
    elements!(instruction.ty("t")?, [
        B16 => u16: 1, U16 => u16: 1, B32 => u32: 1, U32 => u32: 1, B64 => u64: 1, U64 => u64: 1,
        S16 => i16: 1, S32 => i32: 1, S64 => i64: 1, F64 => f64: 1, Bf16 => Bf16: 1, Bf16x2 => Bf16: 2,
    ], T, N => related::<T, N, false>(relation))
    .or_else(|| {
        elements!(instruction.ty("t")?, [F32 => f32: 1, F16 => F16: 1, F16x2 => F16: 2], T, N => {
            flagged!(instruction.has("ftz"), FTZ => related::<T, N, FTZ>(relation))
        })
    })
}

fn related<T: Ordered, const N: usize, const FTZ: bool>(relation: &str) -> Option<Rule> {
    // `$holds` of the keys of both sources, and its complement.
    macro_rules! relation {
        (|$a:ident, $b:ident| $holds:expr) => {
            test!(N, |$a: T, $b: T| {
                let ($a, $b) = ($a.key::<FTZ>(), $b.key::<FTZ>());
                $holds
            })
        };
    }
    macro_rules! complement {
        (|$a:ident, $b:ident| $holds:expr) => {
            relation!(|$a, $b| {
                let holds = $holds;
                !holds
            })
        };
    }
    Some(match relation {
        "eq" => relation!(|a, b| a == b),
        "ne" => relation!(|a, b| (a < b) | (a > b)),
        "lt" | "lo" => relation!(|a, b| a < b),
        "le" | "ls" => relation!(|a, b| a <= b),
        "gt" | "hi" => relation!(|a, b| a > b),
        "ge" | "hs" => relation!(|a, b| a >= b),
        "equ" => complement!(|a, b| (a < b) | (a > b)),
        "neu" => complement!(|a, b| a == b),
        "ltu" => complement!(|a, b| a >= b),
        "leu" => complement!(|a, b| a > b),
        "gtu" => complement!(|a, b| a <= b),
        "geu" => complement!(|a, b| a < b),
        "num" => relation!(|a, b| a.partial_cmp(&b).is_some()),
        "nan" => complement!(|a, b| a.partial_cmp(&b).is_some()),
        _ => return None,
    })
}

/// `testp`: what kind of number it is.
fn class(instruction: &Instruction) -> Option<Rule> {
    let class = instruction.chosen("op")?;
    typed!(instruction.ty("t")?, [F32 => f32, F64 => f64], T => Some(match class {
        "finite" => test!(|a: T| a.is_finite()),
        "infinite" => test!(|a: T| a.is_infinite()),
        "number" => test!(|a: T| !a.is_nan()),
        "notanumber" => test!(|a: T| a.is_nan()),
        "normal" => test!(|a: T| a.is_normal()),
        "subnormal" => test!(|a: T| a.is_subnormal()),
        _ => return None,
    }))
}

/// `slct`: a if c ≥ 0, else b; b where c is NaN.
fn select(instruction: &Instruction) -> Option<Rule> {
    let float = instruction.ty("c")? == Type::F32;
    let ftz = instruction.has("ftz");
    // Data are bits of some width, which the register keeps.
    match (float, ftz) {
        (false, _) => Some(map!(|a: u64, b: u64, c: i32| if c >= 0 { a } else { b })),
        (true, false) => Some(map!(|a: u64, b: u64, c: f32| if c >= 0.0 { a } else { b })),
        (true, true) => {
            Some(map!(|a: u64, b: u64, c: f32| if c.flushed::<true>() >= 0.0 { a } else { b }))
        }
    }
}
