//! What can be wrong with a Matrix Market file.

/// What is wrong with a file, or with a line of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The first line is no header.
    #[error("expected `%%MatrixMarket matrix coordinate|array FIELD SYMMETRY`, found `{found}`")]
    BadHeader {
        /// The line, or its beginning.
        found: String,
    },
}
