//! A position in the tokens, and the small steps every part of the parser takes.

use crate::ast::Immediate;
use crate::error::{Result, fail};
use crate::lexer::{Kind, Position, Token};

/// Reads tokens from front to back.
pub(crate) struct Cursor<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(tokens: Vec<Token<'a>>) -> Self {
        Self { tokens, at: 0 }
    }

    fn at(&self, index: usize) -> Token<'a> {
        const NOTHING: Token<'static> =
            Token { kind: Kind::End, text: "", position: Position { line: 1, column: 1 } };
        let last = self.tokens.last().copied().unwrap_or(NOTHING);
        self.tokens.get(index).copied().unwrap_or(last)
    }

    /// The next token.
    pub fn peek(&self) -> Token<'a> {
        self.at(self.at)
    }

    /// The token after the next.
    pub fn second(&self) -> Token<'a> {
        self.at(self.at + 1)
    }

    /// Where the next token begins.
    pub fn position(&self) -> Position {
        self.peek().position
    }

    /// Takes the next token; the end is never passed.
    pub fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        if token.kind != Kind::End {
            self.at += 1;
        }
        token
    }

    /// Takes `mark` if it comes.
    pub fn take(&mut self, mark: &str) -> bool {
        let found = self.peek().is(mark);
        if found {
            self.next();
        }
        found
    }

    /// Takes `.name` if it comes.
    pub fn take_dotted(&mut self, name: &str) -> bool {
        let token = self.peek();
        let found = token.kind == Kind::Dotted && token.text == name;
        if found {
            self.next();
        }
        found
    }

    /// Takes `mark`, which must come; `context` says after or for what.
    pub fn expect(&mut self, mark: &str, context: &str) -> Result<Token<'a>> {
        let token = self.peek();
        if token.is(mark) {
            return Ok(self.next());
        }
        fail(token.position, format!("expected `{mark}` {context}, found {}", token.shown()))
    }

    /// Takes the `;` that ends a statement; a missing one is reported where it belongs.
    pub fn expect_end(&mut self, what: &str) -> Result<()> {
        let token = self.peek();
        if self.take(";") {
            return Ok(());
        }
        let operators = ["+", "-", "*", "/", "<", ">", "?", "&", "^", "~", "("];
        if operators.iter().any(|mark| token.is(mark)) {
            return fail(
                token.position,
                format!(
                    "expected `,` or `;`, found {}: constant expressions are not supported, write the value",
                    token.shown()
                ),
            );
        }
        let before = self.at(self.at.saturating_sub(1)).end();
        let place = if before.line < token.position.line { before } else { token.position };
        fail(place, format!("expected `;` at the end of {what}, found {}", token.shown()))
    }

    /// Takes a name.
    pub fn name(&mut self, what: &str) -> Result<Token<'a>> {
        let token = self.peek();
        if token.kind == Kind::Word && token.text != "_" {
            return Ok(self.next());
        }
        fail(token.position, format!("expected {what}, found {}", token.shown()))
    }

    /// Takes an unsigned integer of 32 bits.
    pub fn count(&mut self, what: &str) -> Result<u32> {
        let token = self.peek();
        if token.kind != Kind::Number {
            return fail(token.position, format!("expected {what}, found {}", token.shown()));
        }
        self.next();
        match literal(token)? {
            Immediate::Integer(value) => match u32::try_from(value) {
                Ok(value) => Ok(value),
                Err(_) => fail(
                    token.position,
                    format!("{} is too large for {what}: at most 4294967295", token.shown()),
                ),
            },
            _ => fail(
                token.position,
                format!("expected an integer as {what}, found {}", token.shown()),
            ),
        }
    }

    /// Takes a literal with an optional minus.
    pub fn immediate(&mut self) -> Result<Immediate> {
        let sign = self.peek();
        let negative = self.take("-");
        let token = self.peek();
        if token.kind != Kind::Number {
            return fail(token.position, format!("expected a literal, found {}", token.shown()));
        }
        self.next();
        let value = literal(token)?;
        if !negative {
            return Ok(value);
        }
        match value {
            Immediate::Integer(value) if value <= 1 << 63 => Ok(Immediate::Integer(-value)),
            Immediate::Integer(_) => {
                fail(sign.position, format!("-{} does not fit 64 bits", token.text))
            }
            Immediate::Double(bits) if !is_bits(token.text) => {
                Ok(Immediate::Double((-f64::from_bits(bits)).to_bits()))
            }
            _ => fail(
                sign.position,
                format!(
                    "no sign may stand in front of {}: set its sign bit instead",
                    token.shown()
                ),
            ),
        }
    }
}

fn is_bits(text: &str) -> bool {
    matches!(text.as_bytes(), [b'0', b'f' | b'F' | b'd' | b'D', ..])
}

/// The value of a numeric literal without sign.
fn literal(token: Token<'_>) -> Result<Immediate> {
    let text = token.text;
    let wrong = |why: &str| fail(token.position, format!("{}: {why}", token.shown()));
    if is_bits(text) {
        let digits = text.get(2..).unwrap_or("");
        let single = matches!(text.as_bytes().get(1), Some(b'f' | b'F'));
        let wanted = if single { 8 } else { 16 };
        let value = u64::from_str_radix(digits, 16);
        return match value {
            Ok(value) if digits.len() == wanted && !digits.starts_with('+') => {
                Ok(match u32::try_from(value) {
                    Ok(bits) if single => Immediate::Single(bits),
                    _ => Immediate::Double(value),
                })
            }
            _ => wrong(&format!(
                "expected exactly {wanted} hexadecimal digits after `{}`",
                text.get(..2).unwrap_or("")
            )),
        };
    }
    let hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    if !hexadecimal && text.contains(['.', 'e', 'E']) {
        return match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Immediate::Double(value.to_bits())),
            Ok(_) => wrong("too large for an f64; infinity is 0f7F800000"),
            Err(_) => wrong("not a decimal; write e.g. 1.5 or 1e-5"),
        };
    }
    let plain = text.strip_suffix('U').unwrap_or(text);
    let binary = plain.starts_with("0b") || plain.starts_with("0B");
    let (digits, radix, kind) = match plain.get(2..) {
        Some(digits) if hexadecimal => (digits, 16, "hexadecimal"),
        Some(digits) if binary => (digits, 2, "binary"),
        _ if plain.len() > 1 && plain.starts_with('0') => (plain, 8, "octal"),
        _ => (plain, 10, "decimal"),
    };
    match u64::from_str_radix(digits, radix) {
        Ok(value) => Ok(Immediate::Integer(i128::from(value))),
        Err(why) if *why.kind() == std::num::IntErrorKind::PosOverflow => {
            wrong("does not fit 64 bits")
        }
        Err(_) if radix == 8 => {
            wrong("a leading 0 means octal, whose digits are 0 to 7; drop the 0 for decimal")
        }
        Err(_) => wrong(&format!("not a {kind} integer")),
    }
}
