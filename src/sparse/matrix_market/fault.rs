//! What can be wrong with a Matrix Market file.

use super::lines::LONGEST;

/// What is wrong with a file, or with a line of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The first line is no header.
    #[error("expected {expected} in the header, found {found}")]
    BadHeader {
        /// What would be right at that place.
        expected: &'static str,
        /// What came, or its beginning.
        found: String,
    },
    /// The line of the matrix's size makes no sense.
    #[error("expected {expected} in the line of the size, found {found}")]
    BadSize {
        /// What would be right.
        expected: String,
        /// What came.
        found: String,
    },
    /// The line of an entry has something else in the place of an index or a value, or too much.
    #[error("expected {expected}, found {found}")]
    BadNumber {
        /// What would be right at that place.
        expected: &'static str,
        /// What came.
        found: String,
    },
    /// An index is zero: the files count from one.
    #[error("expected a {side} from 1, found 0; the indices of these files begin with 1")]
    IndexZero {
        /// `row` or `column`.
        side: &'static str,
    },
    /// An entry lies outside the matrix.
    #[error("expected a {side} of at most {limit}, found {found}")]
    IndexOutOfRange {
        /// `row` or `column`.
        side: &'static str,
        /// The rows or columns that there are.
        limit: usize,
        /// The index that came.
        found: String,
    },
    /// The file ends early.
    #[error("expected {expected} entries, as the size says, found the end after {found}")]
    TooFewEntries {
        /// The entries that the size announces.
        expected: u64,
        /// The entries that came.
        found: u64,
    },
    /// The file goes on after its last entry.
    #[error("expected the end after {expected} entries, as the size says, found {found}")]
    TooManyEntries {
        /// The entries that the size announces.
        expected: u64,
        /// What came.
        found: String,
    },
    /// An entry lies where the symmetry leaves it to its mirror image, or has none.
    #[error("expected an entry {expected} the diagonal, found row {row}, column {col}")]
    WrongTriangle {
        /// `on or below` or `below`.
        expected: &'static str,
        /// Its row, from 1.
        row: usize,
        /// Its column, from 1.
        col: usize,
    },
    /// An entry comes again, where that was forbidden.
    #[error("expected each entry once, found row {row}, column {col} again")]
    Duplicate {
        /// Its row, from 1.
        row: usize,
        /// Its column, from 1.
        col: usize,
    },
    /// A line is too long to be one of such a file.
    #[error("expected lines of at most {LONGEST} bytes, found a longer one")]
    LineTooLong,
    /// The file is right, but what it holds cannot be represented.
    #[error("{what} are not supported; {instead}")]
    Unsupported {
        /// What the file holds.
        what: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
}
