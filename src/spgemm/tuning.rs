//! How GPUs share the rows of a product out. Nothing here changes the result, but for the order of
//! sums that are not asked to keep one.

use std::ops::RangeInclusive;

/// How a row finds the slot of a column in its table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hash {
    /// The top bits of the column times 2³² over the golden ratio.
    #[default]
    Multiplicative,
    /// The low bits of the column (SMASH, version 2): columns a power of two apart collide.
    LowBits,
    /// The top bits of the column within the row's range (SMASH, version 1): keeps order.
    HighBits,
}

impl Hash {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Multiplicative, Self::LowBits, Self::HighBits];

    /// The name that the command line uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Multiplicative => "multiplicative",
            Self::LowBits => "low-bits",
            Self::HighBits => "high-bits",
        }
    }
}

/// How groups of threads come to their rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tokens {
    /// Dynamic where rows differ much, else static.
    #[default]
    Auto,
    /// A group for each row.
    Static,
    /// As many groups as the device holds at once; each takes the next row that is left.
    Dynamic,
}

impl Tokens {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Static, Self::Dynamic];

    /// The name that the command line uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Static => "static",
            Self::Dynamic => "dynamic",
        }
    }
}

/// How GPUs share the rows of a product out. Made by `Tuning::default()` and changed by field, to
/// study the parts one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tuning {
    /// How a row finds the slot of a column.
    pub hash: Hash,
    /// How groups of threads come to their rows.
    pub tokens: Tokens,
    /// The slots that tables may have; rows that need more go by windows of columns.
    pub slots: RangeInclusive<u32>,
    /// The columns of a window, a power of two from 32 on, where it is not the device's choice.
    pub window: Option<u32>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { hash: Hash::default(), tokens: Tokens::default(), slots: 0..=u32::MAX, window: None }
    }
}
