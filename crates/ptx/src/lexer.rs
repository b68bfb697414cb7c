//! Text to tokens. Comments and white space vanish; every token keeps its line and column.

use crate::error::{Result, fail};

/// A place in the text; both counts start at 1, columns count characters (the text is ASCII).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub line: u32,
    pub column: u32,
}

/// What a token is; its spelling is in [`Token::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `name`, `%name`, `_name`, `$name`, and the sink `_`.
    Word,
    /// `.name`, `.name::name`: a directive, modifier or field. `text` has no leading dot.
    Dotted,
    /// Any numeric literal, unsigned; what it means is decided by the parser.
    Number,
    /// A string; `text` has no quotes.
    Text,
    /// One character of punctuation.
    Mark,
    /// The end of the module.
    End,
}

/// A token and where it begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    pub position: Position,
}

impl Token<'_> {
    /// Whether this is the punctuation `mark`.
    pub fn is(&self, mark: &str) -> bool {
        self.kind == Kind::Mark && self.text == mark
    }

    /// The token as an error message shows it.
    pub fn shown(&self) -> String {
        match self.kind {
            Kind::End => "the end of the text".into(),
            Kind::Dotted => format!("`.{}`", clipped(self.text)),
            Kind::Text => format!("the string \"{}\"", clipped(self.text)),
            _ => format!("`{}`", clipped(self.text)),
        }
    }

    /// The place just behind the token: where a forgotten `;` belongs.
    pub fn end(&self) -> Position {
        let quotes = match self.kind {
            Kind::Dotted => 1,
            Kind::Text => 2,
            _ => 0,
        };
        let length = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        Position {
            line: self.position.line,
            column: self.position.column.saturating_add(length + quotes),
        }
    }
}

/// A spelling short enough for a message, whatever the text holds.
pub(crate) fn clipped(text: &str) -> &str {
    text.get(..60).unwrap_or(text)
}

/// Splits `source` into tokens; the last one is always [`Kind::End`].
pub(crate) fn tokens(source: &str) -> Result<Vec<Token<'_>>> {
    let mut lexer = Lexer { source, at: 0, line: 1, line_start: 0 };
    lexer.refuse_non_ascii()?;
    let mut found = Vec::new();
    loop {
        let token = lexer.next()?;
        found.push(token);
        if token.kind == Kind::End {
            return Ok(found);
        }
    }
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: u32,
    line_start: usize,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$'
}

impl<'a> Lexer<'a> {
    fn byte(&self, ahead: usize) -> Option<u8> {
        self.source.as_bytes().get(self.at + ahead).copied()
    }

    fn position(&self) -> Position {
        Position {
            line: self.line,
            column: u32::try_from(self.at - self.line_start).unwrap_or(u32::MAX - 1) + 1,
        }
    }

    fn step(&mut self) {
        if self.byte(0) == Some(b'\n') {
            self.line = self.line.saturating_add(1);
            self.line_start = self.at + 1;
        }
        self.at += 1;
    }

    fn take_while(&mut self, accept: impl Fn(u8) -> bool) {
        while self.byte(0).is_some_and(&accept) {
            self.step();
        }
    }

    fn since(&self, start: usize) -> &'a str {
        self.source.get(start..self.at).unwrap_or("")
    }

    fn refuse_non_ascii(&self) -> Result<()> {
        let Some(at) = self.source.bytes().position(|byte| !byte.is_ascii()) else {
            return Ok(());
        };
        let before = self.source.get(..at).unwrap_or("");
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        let character = self.source.get(at..).and_then(|rest| rest.chars().next());
        fail(
            Position {
                line: u32::try_from(line).unwrap_or(u32::MAX),
                column: u32::try_from(at - start).unwrap_or(u32::MAX - 1) + 1,
            },
            format!(
                "non-ASCII character `{}`: PTX is ASCII, in comments too; spell it out",
                character.unwrap_or('?').escape_default()
            ),
        )
    }

    fn skip_blank(&mut self) -> Result<()> {
        loop {
            self.take_while(|byte| byte.is_ascii_whitespace() || byte == 0x0b);
            match (self.byte(0), self.byte(1)) {
                (Some(b'/'), Some(b'/')) => self.take_while(|byte| byte != b'\n'),
                (Some(b'/'), Some(b'*')) => self.skip_comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn skip_comment(&mut self) -> Result<()> {
        let opened = self.position();
        self.at += 2;
        while self.byte(0).is_some() {
            if self.byte(0) == Some(b'*') && self.byte(1) == Some(b'/') {
                self.at += 2;
                return Ok(());
            }
            self.step();
        }
        fail(opened, "unterminated comment: this `/*` has no `*/`; comments do not nest")
    }

    fn next(&mut self) -> Result<Token<'a>> {
        self.skip_blank()?;
        let position = self.position();
        let start = self.at;
        let Some(byte) = self.byte(0) else {
            return Ok(Token { kind: Kind::End, text: "", position });
        };
        // `.2d` directly behind a name is a modifier; `.5` behind anything else is a number.
        let joined = start > 0
            && self.source.as_bytes().get(start - 1).is_some_and(|&before| is_word(before));
        let next = self.byte(1).unwrap_or(b' ');
        match byte {
            b'0'..=b'9' => Ok(self.number(position)),
            b'.' if next.is_ascii_digit() && !joined => Ok(self.number(position)),
            b'.' if is_word(next) => Ok(self.dotted(position)),
            b'"' => self.string(position),
            b'_' | b'$' | b'%' | b'a'..=b'z' | b'A'..=b'Z' => self.word(position),
            b'#' => fail(
                position,
                "`#` begins a preprocessor line, which is not supported: expand the text first",
            ),
            b'.' => fail(position, "expected a directive or modifier after `.`, e.g. `.reg`"),
            _ if byte.is_ascii_punctuation() => {
                self.step();
                Ok(Token { kind: Kind::Mark, text: self.since(start), position })
            }
            _ => fail(position, format!("control character 0x{byte:02x} in the text: remove it")),
        }
    }

    fn word(&mut self, position: Position) -> Result<Token<'a>> {
        let start = self.at;
        self.step();
        self.take_while(is_word);
        let text = self.since(start);
        if text == "%" || text == "$" {
            return fail(position, format!("expected a name after `{text}`, e.g. `{text}state0`"));
        }
        Ok(Token { kind: Kind::Word, text, position })
    }

    fn dotted(&mut self, position: Position) -> Token<'a> {
        self.step();
        let start = self.at;
        self.take_while(is_word);
        while self.byte(0) == Some(b':')
            && self.byte(1) == Some(b':')
            && self.byte(2).is_some_and(is_word)
        {
            self.at += 2;
            self.take_while(is_word);
        }
        Token { kind: Kind::Dotted, text: self.since(start), position }
    }

    /// Takes everything that looks like one literal; `1e-5` includes its sign, `0x1e-5` does not.
    fn number(&mut self, position: Position) -> Token<'a> {
        let start = self.at;
        let prefixed = self.byte(0) == Some(b'0')
            && self.byte(1).is_some_and(|byte| b"xXfFdDbB".contains(&byte));
        if !prefixed {
            self.take_while(|byte| byte.is_ascii_digit());
            if self.byte(0) == Some(b'.') {
                self.step();
                self.take_while(|byte| byte.is_ascii_digit());
            }
            let exponent = matches!(self.byte(0), Some(b'e' | b'E'));
            if exponent && matches!(self.byte(1), Some(b'+' | b'-')) {
                self.at += 2;
            }
        }
        self.take_while(is_word);
        Token { kind: Kind::Number, text: self.since(start), position }
    }

    fn string(&mut self, position: Position) -> Result<Token<'a>> {
        self.step();
        let start = self.at;
        self.take_while(|byte| byte != b'"' && byte != b'\n');
        let text = self.since(start);
        if self.byte(0) != Some(b'"') {
            return fail(position, "unterminated string: expected `\"` before the end of the line");
        }
        self.step();
        Ok(Token { kind: Kind::Text, text, position })
    }
}
