//! The one error of this crate.

use crate::lexer::Position;

/// Why a module was refused: the first offence, where it stands, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ParseError {
    /// Line of the offending text, from 1.
    pub line: u32,
    /// Column of the offending text in characters, from 1.
    pub column: u32,
    /// What was expected, what came, and what to write instead.
    pub message: String,
}

/// The result of every parsing step.
pub(crate) type Result<T> = std::result::Result<T, ParseError>;

/// An error at `position`.
pub(crate) fn error(position: Position, message: impl Into<String>) -> ParseError {
    ParseError { line: position.line, column: position.column, message: message.into() }
}

/// An error at `position`, as the failure of any step.
pub(crate) fn fail<T>(position: Position, message: impl Into<String>) -> Result<T> {
    Err(error(position, message))
}
