//! The entries that a symmetric file leaves out, as those on the other side of the diagonal tell
//! them.

use super::Number;

/// Which entries are left out, as others tell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Symmetry {
    /// None.
    General,
    /// Those above the diagonal, equal to those below.
    Symmetric,
    /// Those above the diagonal, negatives of those below, and the diagonal, which is zero.
    SkewSymmetric,
    /// Those above the diagonal, conjugates of those below.
    Hermitian,
}

impl Symmetry {
    /// Whether files list an entry at this place.
    #[inline(always)]
    pub(super) fn lists(self, row: u32, col: u32) -> bool {
        match self {
            Self::General => true,
            Self::Symmetric | Self::Hermitian => row >= col,
            Self::SkewSymmetric => row > col,
        }
    }

    /// Whether an entry that is listed has an image that is not.
    #[inline(always)]
    pub(super) fn mirrors(self, row: u32, col: u32) -> bool {
        self != Self::General && row != col
    }

    /// The value of the image on the other side of the diagonal, where the type has it.
    #[inline(always)]
    pub(super) fn image<T: Number>(self, value: T) -> Option<T> {
        if self == Self::SkewSymmetric { value.negative() } else { Some(value) }
    }

    /// The first row that an array lists of a column.
    pub(super) fn first_row(self, col: u32) -> u32 {
        match self {
            Self::General => 0,
            Self::Symmetric | Self::Hermitian => col,
            Self::SkewSymmetric => col + 1,
        }
    }

    /// The entries that an array lists; it is square where there is a symmetry.
    pub(super) fn array_entries(self, rows: u64, cols: u64) -> u64 {
        match self {
            Self::General => rows * cols,
            Self::Symmetric | Self::Hermitian => rows * (rows + 1) / 2,
            Self::SkewSymmetric => rows * rows.saturating_sub(1) / 2,
        }
    }
}
