//! The entries of a file, as they are listed.

use std::io::BufRead;

use super::lines::{Lines, Words, shown};
use super::{Duplicates, Fault, Field, Format, Header, Number, ReadOptions, Symmetry};
use crate::Result;

/// Entries in the order of the file; of a symmetric matrix only those on or below the diagonal.
pub struct Entries<T> {
    pub row: Vec<u32>,
    pub col: Vec<u32>,
    /// Empty in a pattern.
    pub val: Vec<T>,
    /// The line of each; empty but where duplicates are an error.
    pub line: Vec<usize>,
}

/// Entries for which memory is taken on the size's word alone; for more, as they come.
const TRUSTED: u64 = 1 << 16;

impl<T> Entries<T> {
    fn new(expected: u64) -> Self {
        let some = expected.min(TRUSTED) as usize;
        let (row, col) = (Vec::with_capacity(some), Vec::with_capacity(some));
        Self { row, col, val: Vec::new(), line: Vec::new() }
    }
}

/// Reads all entries, to the end of the file.
pub fn read<T: Number, R: BufRead>(
    header: &Header,
    options: &ReadOptions,
    lines: &mut Lines<R>,
) -> Result<Entries<T>> {
    let mut entries = Entries::new(header.entries);
    let mut next = Next::new(header, options.lenient);
    for found in 0..header.entries {
        if !lines.advance_to_words()? {
            let expected = header.entries;
            return Err(lines.fault(Fault::TooFewEntries { expected, found }));
        }
        let (row, col, val) = next.entry::<T>(lines.words()).map_err(|kind| lines.fault(kind))?;
        entries.row.push(row);
        entries.col.push(col);
        entries.val.extend(val);
        if options.duplicates == Duplicates::Error {
            entries.line.push(lines.number());
        }
    }
    match lines.advance_to_words()? {
        false => Ok(entries),
        true => {
            let (expected, found) = (header.entries, shown(lines.words().next()));
            Err(lines.fault(Fault::TooManyEntries { expected, found }))
        }
    }
}

/// Makes entries of lines.
struct Next<'a> {
    header: &'a Header,
    lenient: bool,
    /// Row and column of the next entry of an array.
    place: (u32, u32),
}

impl<'a> Next<'a> {
    fn new(header: &'a Header, lenient: bool) -> Self {
        Self { header, lenient, place: (header.symmetry.first_row(0), 0) }
    }

    /// Row, column and, but in a pattern, value of the entry in a line.
    #[inline(always)]
    fn entry<T: Number>(&mut self, mut words: Words<'_>) -> Result<(u32, u32, Option<T>), Fault> {
        let Header { format, field, rows, cols, .. } = *self.header;
        let (row, col) = match format {
            Format::Array => self.advance(),
            Format::Coordinate => {
                (index(words.next(), "row", rows)?, index(words.next(), "column", cols)?)
            }
        };
        let val = match field {
            Field::Pattern => None,
            _ => Some(value(words.next(), field)?),
        };
        match words.next() {
            None => self.listed(row, col, val),
            word => Err(bad_number("the end of the line", word)),
        }
    }

    /// The place of the next entry of an array: down the column, then to the next one.
    fn advance(&mut self) -> (u32, u32) {
        let (row, col) = self.place;
        self.place = match (row as usize + 1) < self.header.rows {
            true => (row + 1, col),
            false => (self.header.symmetry.first_row(col + 1), col + 1),
        };
        (row, col)
    }

    /// The listed entry that gives this one, and one that has an image where it needs it.
    #[inline(always)]
    fn listed<T: Number>(
        &self,
        row: u32,
        col: u32,
        val: Option<T>,
    ) -> Result<(u32, u32, Option<T>), Fault> {
        let symmetry = self.header.symmetry;
        let is_listed = symmetry.lists(row, col);
        let is_allowed = is_listed || self.lenient && symmetry.lists(col, row);
        if !is_allowed {
            return Err(wrong_triangle(symmetry, row, col));
        }
        let image = match val.map(|value| (value, symmetry.image(value))) {
            Some((value, None)) => return Err(no_image(value)),
            both => both.and_then(|(_, image)| image),
        };
        Ok(if is_listed { (row, col, val) } else { (col, row, image) })
    }
}

/// An index, counted from 0.
#[inline(always)]
fn index(word: Option<&[u8]>, side: &'static str, limit: usize) -> Result<u32, Fault> {
    let digits = word.map(|word| word.strip_prefix(b"+").unwrap_or(word)).unwrap_or_default();
    let mut index = 0u64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return Err(bad_index(side, word));
        }
        // Digits beyond the longest side do not matter, only that there are some.
        index = (index.saturating_mul(10)).saturating_add(u64::from(digit - b'0'));
    }
    match index {
        _ if digits.is_empty() => Err(bad_index(side, word)),
        0 => Err(Fault::IndexZero { side }),
        _ if index > limit as u64 => {
            Err(Fault::IndexOutOfRange { side, limit, found: shown(word) })
        }
        _ => Ok((index - 1) as u32),
    }
}

#[inline(always)]
fn value<T: Number>(word: Option<&[u8]>, field: Field) -> Result<T, Fault> {
    let value = match field {
        Field::Integer => word.and_then(T::from_integer),
        _ => word.and_then(T::from_real),
    };
    value.ok_or_else(|| bad_number(T::EXPECTED, word))
}

#[cold]
fn bad_index(side: &'static str, word: Option<&[u8]>) -> Fault {
    bad_number(if side == "row" { "a row from 1" } else { "a column from 1" }, word)
}

#[cold]
fn bad_number(expected: &'static str, word: Option<&[u8]>) -> Fault {
    Fault::BadNumber { expected, found: shown(word) }
}

#[cold]
fn wrong_triangle(symmetry: Symmetry, row: u32, col: u32) -> Fault {
    let expected = if symmetry.lists(0, 0) { "on or below" } else { "below" };
    Fault::WrongTriangle { expected, row: row as usize + 1, col: col as usize + 1 }
}

#[cold]
fn no_image<T: Number>(value: T) -> Fault {
    let expected = "a number whose negative is of the type of values, too";
    Fault::BadNumber { expected, found: format!("`{value:?}`") }
}
