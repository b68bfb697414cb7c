//! How a file is to be read or written.

use crate::sparse::MAX_SIDE;

/// What becomes of several entries at one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Duplicates {
    /// Their sum, from the first to the last; the matrix is canonical. Integers wrap, truth values
    /// are joined by "or", and places of a pattern are one.
    #[default]
    Sum,
    /// An error; the matrix is canonical.
    Error,
    /// All of them, in the order of the file; so are the entries of each row.
    Keep,
}

/// How a file is to be read. Made by `ReadOptions::default()` and the `with_…` methods.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadOptions {
    /// Whether entries above the diagonal of a symmetric matrix are taken for their mirror images
    /// below it. One that is given in both triangles is a duplicate.
    pub lenient: bool,
    /// What becomes of several entries at one place.
    pub duplicates: Duplicates,
    /// The most rows or columns. A file of a few bytes may announce 2^31 - 1 rows, and they take
    /// memory even without entries: for files from strangers, this bounds it.
    pub max_side: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { lenient: false, duplicates: Duplicates::default(), max_side: MAX_SIDE }
    }
}

impl ReadOptions {
    /// With entries above the diagonal of a symmetric matrix allowed.
    pub fn with_lenient(mut self, lenient: bool) -> Self {
        self.lenient = lenient;
        self
    }

    /// With this treatment of several entries at one place.
    pub fn with_duplicates(mut self, duplicates: Duplicates) -> Self {
        self.duplicates = duplicates;
        self
    }

    /// With at most so many rows and columns.
    pub fn with_max_side(mut self, max_side: usize) -> Self {
        self.max_side = max_side;
        self
    }
}

/// How a file is to be written. Made by `WriteOptions::default()` and the `with_…` methods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteOptions {
    /// Whether only the lower triangle is written, of a matrix that must be symmetric.
    pub symmetric: bool,
}

impl WriteOptions {
    /// With the lower triangle of a symmetric matrix, or all of any matrix.
    pub fn with_symmetric(mut self, symmetric: bool) -> Self {
        self.symmetric = symmetric;
        self
    }
}
