//! What a model reads, and what it is to answer.

/// Rows of equal length.
pub struct Batch {
    pub rows: usize,
    /// The symbol at each step, row by row.
    pub read: Vec<usize>,
    /// The right answer after each step; none where the step does not count, behind the end of a
    /// shorter row.
    pub wanted: Vec<Option<usize>>,
}
