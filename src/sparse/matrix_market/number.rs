//! Values as text.
//!
//! Text is read as the nearest value, ties to even. What is written is the shortest decimal that
//! is read as the same value again.

use std::io::{self, Write};
use std::str::{FromStr, from_utf8};

use super::header::Field;
use crate::sparse::Value;

/// A type of values that files can hold.
pub trait Number: Value {
    /// The field of files that are written.
    const FIELD: Field;
    /// What a word must be that is read as this type, for messages.
    const EXPECTED: &'static str;

    /// The value of a word in a file of real numbers; none where this type has no such value.
    fn from_real(word: &[u8]) -> Option<Self>;

    /// The value of a word in a file of integers; none where this type has no such value.
    fn from_integer(word: &[u8]) -> Option<Self>;

    /// The negative, where this type has it.
    fn negative(self) -> Option<Self>;

    /// Writes the value as a word.
    ///
    /// # Errors
    ///
    /// The writer's.
    fn write(self, writer: &mut impl Write) -> io::Result<()>;
}

macro_rules! floats {
    ($($type:ty),*) => {
        $(
            impl Number for $type {
                const FIELD: Field = Field::Real;
                const EXPECTED: &'static str = "a number";

                #[inline]
                fn from_real(word: &[u8]) -> Option<Self> {
                    let text = from_utf8(word).ok()?;
                    text.parse().ok().or_else(|| fortran(text))
                }

                fn from_integer(word: &[u8]) -> Option<Self> {
                    let digits = word.strip_prefix(b"+").or(word.strip_prefix(b"-")).unwrap_or(word);
                    if digits.iter().all(u8::is_ascii_digit) { parsed(word) } else { None }
                }

                fn negative(self) -> Option<Self> {
                    Some(-self)
                }

                fn write(self, writer: &mut impl Write) -> io::Result<()> {
                    match (self.is_nan(), self.is_sign_negative()) {
                        (false, _) => write!(writer, "{self:?}"),
                        (true, false) => writer.write_all(b"nan"),
                        (true, true) => writer.write_all(b"-nan"),
                    }
                }
            }
        )*
    };
}

floats!(f32, f64);

macro_rules! integers {
    ($($type:ty, $expected:literal, $most:expr;)*) => {
        $(
            impl Number for $type {
                const FIELD: Field = Field::Integer;
                const EXPECTED: &'static str = $expected;

                fn from_real(word: &[u8]) -> Option<Self> {
                    let value = f64::from_real(word)?;
                    let fits = f64::from(Self::MIN) <= value && value <= f64::from($most);
                    (fits && value.fract() == 0.0).then_some(value as Self)
                }

                fn from_integer(word: &[u8]) -> Option<Self> {
                    parsed(word).filter(|value| *value <= $most)
                }

                fn negative(self) -> Option<Self> {
                    self.checked_neg()
                }

                fn write(self, writer: &mut impl Write) -> io::Result<()> {
                    write!(writer, "{}", self.min($most))
                }
            }
        )*
    };
}

integers! {
    i32, "an integer from -2147483648 to 2147483647", i32::MAX;
    u32, "an integer from 0 to 4294967295", u32::MAX;
    u8, "a truth value, 0 or 1", 1;
}

fn parsed<T: FromStr>(word: &[u8]) -> Option<T> {
    from_utf8(word).ok()?.parse().ok()
}

/// A number with an exponent of double precision as Fortran writes it: `1.5D-3`.
#[cold]
fn fortran<T: FromStr>(text: &str) -> Option<T> {
    text.contains(['d', 'D']).then(|| text.replace(['d', 'D'], "e").parse().ok()).flatten()
}
