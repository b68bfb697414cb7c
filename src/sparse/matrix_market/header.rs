//! The header and the size: what a file is about to hold.

use std::io::BufRead;

use super::lines::{Lines, Words, fault, shown};
use super::{Fault, ReadOptions, Symmetry};
use crate::Result;
use crate::sparse::{MAX_SIDE, Offset};

/// How entries are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The stored entries, each with its row and column.
    Coordinate,
    /// All entries, column after column.
    Array,
}

/// What kind of values entries have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// Real numbers; `double` in some files.
    Real,
    /// Integers.
    Integer,
    /// Complex numbers.
    Complex,
    /// None.
    Pattern,
}

/// What a file says of itself before its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub(super) format: Format,
    pub(super) field: Field,
    pub(super) symmetry: Symmetry,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) entries: u64,
    /// The number of the line of the size.
    pub(super) line: usize,
}

/// Reads the header and the size of a file, up to where its entries begin, so that the type of
/// values can be chosen for [`read_entries`](super::read_entries).
///
/// # Errors
///
/// [`Error::MatrixMarket`](crate::Error::MatrixMarket) where they are wrong, and
/// [`Error::Io`](crate::Error::Io) where the reader fails.
pub fn read_header(reader: &mut impl BufRead) -> Result<Header> {
    let mut lines = Lines::new(reader, 0);
    if !lines.advance()? {
        let found = "the end of the file".to_owned();
        return Err(lines.fault(Fault::BadHeader { expected: BANNER, found }));
    }
    let kind = kind(lines.words()).map_err(|kind| lines.fault(kind))?;
    loop {
        if !lines.advance_to_words()? {
            return Err(lines.fault(bad_size(SIZE, "the end of the file".to_owned())));
        }
        if !lines.words().next().is_some_and(|word| word.starts_with(b"%")) {
            return size(kind, &lines).map_err(|kind| lines.fault(kind));
        }
    }
}

impl Header {
    /// How entries are listed.
    pub fn format(&self) -> Format {
        self.format
    }

    /// What kind of values they have.
    pub fn field(&self) -> Field {
        self.field
    }

    /// Which entries are left out.
    pub fn symmetry(&self) -> Symmetry {
        self.symmetry
    }

    /// Rows and columns of the matrix.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// Entries that follow: without those that the symmetry leaves out.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The matrix can be read into row pointers `O` and within the limits of `options`.
    pub(super) fn check<O: Offset>(&self, options: &ReadOptions) -> Result<()> {
        let limited = |limit: u64, what: &str, found: String| {
            Err(fault(self.line, bad_size(format!("at most {limit} {what}"), found)))
        };
        if self.field == Field::Complex {
            let what = "complex values";
            let instead = "keep real and imaginary parts in two files";
            return Err(fault(1, Fault::Unsupported { what, instead }));
        }
        let side = self.rows.max(self.cols);
        if side > options.max_side {
            return limited(options.max_side as u64, "rows or columns", side.to_string());
        }
        if self.entries > O::MOST_ENTRIES {
            let what = format!("entries for row pointers {}", O::DTYPE);
            return limited(O::MOST_ENTRIES, &what, self.entries.to_string());
        }
        Ok(())
    }
}

const BANNER: &str = "`%%MatrixMarket`";
const SIZE: &str = "rows, columns and, in a coordinate file, entries";

/// Format, field and symmetry from the words of the header.
fn kind(mut words: Words<'_>) -> Result<(Format, Field, Symmetry), Fault> {
    choice(&mut words, BANNER, &[("%%MatrixMarket", ())])?;
    choice(&mut words, "`matrix`", &[("matrix", ())])?;
    let formats = [("coordinate", Format::Coordinate), ("array", Format::Array)];
    let format = choice(&mut words, "`coordinate` or `array`", &formats)?;
    let fields = [
        ("real", Field::Real),
        ("double", Field::Real),
        ("integer", Field::Integer),
        ("complex", Field::Complex),
        ("pattern", Field::Pattern),
    ];
    let expected = "`real`, `double`, `integer`, `complex` or, in a coordinate file, `pattern`";
    let fields = if format == Format::Array { &fields[..4] } else { &fields[..] };
    let field = choice(&mut words, expected, fields)?;
    let symmetries = [
        ("general", Symmetry::General),
        ("symmetric", Symmetry::Symmetric),
        ("skew-symmetric", Symmetry::SkewSymmetric),
        ("hermitian", Symmetry::Hermitian),
    ];
    let (expected, symmetries) = match field {
        Field::Pattern => ("`general` or `symmetric` for a pattern", &symmetries[..2]),
        Field::Complex => {
            ("`general`, `symmetric`, `skew-symmetric` or `hermitian`", &symmetries[..])
        }
        _ => ("`general`, `symmetric` or `skew-symmetric` for such values", &symmetries[..3]),
    };
    let symmetry = choice(&mut words, expected, symmetries)?;
    match words.next() {
        None => Ok((format, field, symmetry)),
        word => Err(Fault::BadHeader { expected: "no fifth keyword", found: shown(word) }),
    }
}

/// The meaning of the next word, whose case does not matter.
fn choice<T: Copy>(
    words: &mut Words<'_>,
    expected: &'static str,
    choices: &[(&str, T)],
) -> Result<T, Fault> {
    let word = words.next();
    let meant = |(name, _): &&(&str, T)| {
        word.is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    };
    let chosen = choices.iter().find(meant).map(|(_, choice)| *choice);
    chosen.ok_or_else(|| Fault::BadHeader { expected, found: shown(word) })
}

/// The header, from the line of the size.
fn size<R: BufRead>(
    (format, field, symmetry): (Format, Field, Symmetry),
    lines: &Lines<R>,
) -> Result<Header, Fault> {
    let mut words = lines.words();
    let (rows, cols) = (side(words.next())?, side(words.next())?);
    if symmetry != Symmetry::General && rows != cols {
        return Err(bad_size("as many rows as columns", format!("{rows} x {cols}")));
    }
    let entries = match format {
        Format::Coordinate => number(words.next(), "a number of entries")?,
        Format::Array => symmetry.array_entries(rows as u64, cols as u64),
    };
    match words.next() {
        None => Ok(Header { format, field, symmetry, rows, cols, entries, line: lines.number() }),
        word => Err(bad_size("no more numbers", shown(word))),
    }
}

fn side(word: Option<&[u8]>) -> Result<usize, Fault> {
    let side = number(word, "a number of rows or columns")?;
    let fits = usize::try_from(side).ok().filter(|side| *side <= MAX_SIDE);
    fits.ok_or_else(|| bad_size(format!("at most {MAX_SIDE} rows or columns"), shown(word)))
}

fn number(word: Option<&[u8]>, expected: &str) -> Result<u64, Fault> {
    let text = word.and_then(|word| std::str::from_utf8(word).ok());
    let number = text.and_then(|text| text.parse().ok());
    number.ok_or_else(|| bad_size(expected, shown(word)))
}

fn bad_size(expected: impl Into<String>, found: String) -> Fault {
    Fault::BadSize { expected: expected.into(), found }
}
