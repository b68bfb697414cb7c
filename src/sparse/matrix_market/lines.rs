//! Lines of a stream, and the words of a line.
//!
//! Only one line is in memory, and never more than [`LONGEST`] bytes of it.

use std::io::{BufRead, Read};

use super::Fault;
use crate::{Error, Result};

/// The most bytes of a line, its end apart.
pub const LONGEST: usize = 1 << 20;

/// The lines of a stream, one at a time.
pub struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    number: usize,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `reader`, of which `number` have been read before.
    pub fn new(reader: R, number: usize) -> Self {
        Self { reader, line: Vec::new(), number }
    }

    /// Goes on to the next line, if there is one. Reads not a byte beyond its end.
    pub fn advance(&mut self) -> Result<bool> {
        self.line.clear();
        let mut limited = (&mut self.reader).take(LONGEST as u64 + 1);
        match limited.read_until(b'\n', &mut self.line) {
            Ok(0) => return Ok(false),
            Ok(_) => self.number += 1,
            Err(reason) => return Err(unreadable(self.number + 1, &reason)),
        }
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        }
        if self.line.len() > LONGEST { Err(self.fault(Fault::LineTooLong)) } else { Ok(true) }
    }

    /// Goes on to the next line that is not blank, if there is one.
    pub fn advance_to_words(&mut self) -> Result<bool> {
        while self.advance()? {
            if !self.line.iter().all(|&byte| is_space(byte)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The number of the line, from 1; 0 before the first.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The words of the line.
    pub fn words(&self) -> Words<'_> {
        Words { rest: &self.line }
    }

    /// The error of a fault in the line.
    #[cold]
    pub fn fault(&self, kind: Fault) -> Error {
        fault(self.number, kind)
    }
}

/// The error of a fault in a line; what is missing at the beginning is missing in the first.
#[cold]
pub fn fault(line: usize, kind: Fault) -> Error {
    Error::MatrixMarket { line: line.max(1), kind }
}

#[cold]
fn unreadable(line: usize, reason: &std::io::Error) -> Error {
    Error::Io { what: format!("Matrix Market, reading line {line}"), reason: reason.to_string() }
}

/// The words of a line that are left, with blanks between them.
pub struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    #[inline(always)]
    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.rest.iter().position(|&byte| !is_space(byte))?;
        let rest = &self.rest[start..];
        let end = rest.iter().position(|&byte| is_space(byte)).unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.rest = rest;
        Some(word)
    }
}

#[inline(always)]
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

/// What stands in the place of a word, as messages show it.
#[cold]
pub fn shown(word: Option<&[u8]>) -> String {
    const MOST: usize = 40;
    let Some(word) = word else { return "the end of the line".to_owned() };
    let mark = if word.len() > MOST { "…" } else { "" };
    let text = String::from_utf8_lossy(&word[..word.len().min(MOST)]);
    format!("`{}{mark}`", text.escape_debug())
}
