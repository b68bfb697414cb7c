//! `shfl.sync`: each lane reads a register of another lane of its segment.
//!
//! `c` holds two fields: `clamp`, its low five bits, and `seg`, five bits from bit 8, which are the bits of the
//! lane number that stay fixed and so cut the warp into segments. With `bval` = `b` mod 32 and
//! `bound = (lane & seg) | (clamp & ~seg)`, the source of a lane is
//!
//! | mode | source | in range if |
//! |---|---|---|
//! | up | `lane − bval` | source ≥ bound |
//! | down | `lane + bval` | source ≤ bound |
//! | bfly | `lane ^ bval` | source ≤ bound |
//! | idx | `(lane & seg) \| (bval & ~seg)` | source ≤ bound |
//!
//! Out of range, a lane keeps its own value and its predicate is false.

use crate::ast::Instruction;
use crate::interpreter::row::{LANES, Mask, Row, lanes};

/// How the source lane follows from `b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

impl Shuffle {
    /// The mode of a `shfl.sync`.
    pub(crate) fn of(instruction: &Instruction) -> Option<Self> {
        match instruction.chosen("mode")? {
            "up" => Some(Self::Up),
            "down" => Some(Self::Down),
            "bfly" => Some(Self::Butterfly),
            "idx" => Some(Self::Index),
            _ => None,
        }
    }

    /// The lane that `lane` reads; none if that is out of range.
    fn source(self, lane: usize, b: u64, c: u64) -> Option<usize> {
        let (offset, clamp, segment) =
            ((b & 31) as usize, (c & 31) as usize, (c >> 8 & 31) as usize);
        let first = lane & segment;
        let bound = first | (clamp & !segment);
        let source = match self {
            Self::Up => return lane.checked_sub(offset).filter(|&source| source >= bound),
            Self::Down => lane + offset,
            Self::Butterfly => lane ^ offset,
            Self::Index => first | (offset & !segment),
        };
        (source <= bound).then_some(source)
    }
}

/// What a shuffle gives to the active lanes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shuffled {
    /// The values: `d`.
    pub(crate) values: Row,
    /// The lanes whose source was in range: `p`.
    pub(crate) in_range: Mask,
    /// The lane that each lane's value comes from.
    pub(crate) sources: [u8; LANES],
}

/// A lane would read one that does not take part: undefined behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inactive {
    pub(crate) reader: usize,
    pub(crate) source: usize,
}

/// `shfl.sync d|p, a, b, c` for the active lanes.
pub(crate) fn shuffle(
    mode: Shuffle,
    a: &Row,
    b: &Row,
    c: &Row,
    active: Mask,
) -> Result<Shuffled, Inactive> {
    let mut result = Shuffled { values: [0; LANES], in_range: 0, sources: [0; LANES] };
    for reader in lanes(active) {
        let found = mode.source(reader, b[reader], c[reader]);
        let source = found.unwrap_or(reader);
        if active >> source & 1 == 0 {
            return Err(Inactive { reader, source });
        }
        result.values[reader] = a[source];
        result.in_range |= Mask::from(found.is_some()) << reader;
        result.sources[reader] = source as u8;
    }
    Ok(result)
}
