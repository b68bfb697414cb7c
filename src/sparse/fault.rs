//! What can be wrong with the arrays of a matrix.

/// What is wrong with a matrix, in the order in which it is looked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A side is too long.
    #[error("expected sides of at most 2147483647, found {rows} x {cols}")]
    DimensionTooLarge {
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
    },
    /// There is not one row pointer more than rows.
    #[error("expected {want} row pointers, one more than rows, found {got}")]
    RowPtrLength {
        /// The length that came.
        got: usize,
        /// The length that would be right.
        want: usize,
    },
    /// The first row does not begin at the first entry.
    #[error("expected 0 as the first row pointer, found {got}")]
    RowPtrStart {
        /// The first row pointer.
        got: u64,
    },
    /// A row ends before it begins.
    #[error("expected row pointers that ascend, found row {row} to end before it begins")]
    RowPtrNotMonotone {
        /// The first such row.
        row: usize,
    },
    /// Row pointers, columns and values do not agree on the number of entries.
    #[error("expected as many columns and values as the last row pointer says, {row_ptr}, found {col} columns and {} values", val.map_or_else(|| "no".to_owned(), |val| val.to_string()))]
    LengthMismatch {
        /// The last row pointer.
        row_ptr: u64,
        /// Columns.
        col: usize,
        /// Values; none in a pattern.
        val: Option<usize>,
    },
    /// An entry lies outside the matrix.
    #[error("expected columns below {cols}, found {col} in row {row}, at entry {pos}")]
    ColumnOutOfRange {
        /// The row.
        row: usize,
        /// The entry's place in the array of columns.
        pos: usize,
        /// Its column.
        col: u32,
        /// The columns that there are.
        cols: usize,
    },
    /// More entries than the row pointers can count.
    #[error(
        "expected at most {limit} entries for row pointers of this type, found {nnz}; use row pointers u64"
    )]
    TooManyEntries {
        /// The entries.
        nnz: u64,
        /// The most that fit.
        limit: u64,
    },
    /// Columns repeat or descend where the call needs them to ascend.
    #[error(
        "expected columns that ascend in every row, found them unsorted or repeated; make it canonical first"
    )]
    NotCanonical,
    /// A square matrix is needed.
    #[error("expected a square matrix, found {rows} x {cols}")]
    NotSquare {
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
    },
    /// Entries lie elsewhere than in the matrix that a plan was made for.
    #[error("expected the pattern that the plan was made for, found another one")]
    PatternMismatch,
}
