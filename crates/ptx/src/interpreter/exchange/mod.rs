//! What the lanes of a warp exchange: shuffles, votes, matches, reductions.
//!
//! Everything here is a function of rows and of `active`, the lanes that execute the instruction and are in
//! its mask. What other lanes hold is not looked at, except that a shuffle that would read one is refused.

pub(crate) mod shuffle;

use super::row::{LANES, Mask, Row, lanes};
use crate::Type;
use crate::ast::Instruction;

/// What `vote.sync` asks of the predicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vote {
    All,
    Any,
    /// The same in all lanes.
    Uniform,
}

impl Vote {
    /// The question of a `vote.sync…pred`; none for a ballot.
    pub(crate) fn of(instruction: &Instruction) -> Option<Self> {
        match instruction.chosen("mode")? {
            "all" => Some(Self::All),
            "any" => Some(Self::Any),
            "uni" => Some(Self::Uniform),
            _ => None,
        }
    }
}

/// `vote.sync.{all,any,uni}.pred`: the answer, which every active lane gets.
pub(crate) fn vote(question: Vote, predicate: Mask, active: Mask) -> Mask {
    let yes = predicate & active;
    let answer = match question {
        Vote::All => yes == active,
        Vote::Any => yes != 0,
        Vote::Uniform => yes == 0 || yes == active,
    };
    if answer { active } else { 0 }
}

/// `vote.sync.ballot.b32`: the active lanes whose predicate is true.
pub(crate) fn ballot(predicate: Mask, active: Mask) -> Row {
    [u64::from(predicate & active); LANES]
}

/// `match.any.sync`: for each active lane, the active lanes that hold its value.
pub(crate) fn match_any(a: &Row, active: Mask) -> Row {
    let mut d = [0; LANES];
    let mut left = active;
    while let Some(first) = lanes(left).next() {
        let equal = holders(a, a[first], left);
        for lane in lanes(equal) {
            d[lane] = u64::from(equal);
        }
        left &= !equal;
    }
    d
}

/// `match.all.sync`: the active lanes if all hold the same value, else 0; and whether they do.
pub(crate) fn match_all(a: &Row, active: Mask) -> (Row, Mask) {
    let same = lanes(active).next().is_none_or(|first| holders(a, a[first], active) == active);
    let agreed = if same { active } else { 0 };
    ([u64::from(agreed); LANES], agreed)
}

/// The lanes among `active` that hold `value`.
fn holders(a: &Row, value: u64, active: Mask) -> Mask {
    lanes(active).filter(|&lane| a[lane] == value).fold(0, |mask, lane| mask | 1 << lane)
}

/// How `redux.sync` joins two values of 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduction {
    /// Modulo 2³², for both signs.
    Add,
    MinUnsigned,
    MaxUnsigned,
    MinSigned,
    MaxSigned,
    And,
    Or,
    Xor,
}

impl Reduction {
    /// The operation of a `redux.sync`.
    pub(crate) fn of(instruction: &Instruction) -> Option<Self> {
        match (instruction.chosen("op")?, instruction.ty("t")?) {
            ("add", _) => Some(Self::Add),
            ("min", Type::U32) => Some(Self::MinUnsigned),
            ("max", Type::U32) => Some(Self::MaxUnsigned),
            ("min", Type::S32) => Some(Self::MinSigned),
            ("max", Type::S32) => Some(Self::MaxSigned),
            ("and", _) => Some(Self::And),
            ("or", _) => Some(Self::Or),
            ("xor", _) => Some(Self::Xor),
            _ => None,
        }
    }

    fn join(self, x: u32, y: u32) -> u32 {
        match self {
            Self::Add => x.wrapping_add(y),
            Self::MinUnsigned => x.min(y),
            Self::MaxUnsigned => x.max(y),
            Self::MinSigned => x.cast_signed().min(y.cast_signed()).cast_unsigned(),
            Self::MaxSigned => x.cast_signed().max(y.cast_signed()).cast_unsigned(),
            Self::And => x & y,
            Self::Or => x | y,
            Self::Xor => x ^ y,
        }
    }
}

/// `redux.sync`: the values of the active lanes joined, the result in every lane.
pub(crate) fn reduce(operation: Reduction, a: &Row, active: Mask) -> Row {
    let joined = lanes(active).map(|lane| a[lane] as u32).reduce(|x, y| operation.join(x, y));
    [u64::from(joined.unwrap_or(0)); LANES]
}

#[cfg(test)]
mod tests;
