//! An instruction as it is written, before names and types are known.

use crate::ast::Immediate;
use crate::cursor::Cursor;
use crate::error::{Result, fail};
use crate::lexer::{Kind, Position, Token};
use crate::table::Opcode;

/// The parts of an instruction.
pub(crate) struct RawInstruction<'a> {
    pub opcode: Token<'a>,
    pub modifiers: Vec<Token<'a>>,
    pub operands: Vec<RawOperand<'a>>,
}

/// An operand and where it begins.
pub(crate) struct RawOperand<'a> {
    pub kind: RawKind<'a>,
    pub position: Position,
}

pub(crate) enum RawKind<'a> {
    /// A name, with a field behind a dot and an added offset.
    Name {
        name: &'a str,
        field: Option<&'a str>,
        offset: Option<i64>,
    },
    Literal(Immediate),
    Sink,
    Not(&'a str),
    Address {
        base: Option<Token<'a>>,
        offset: i64,
        coordinates: Option<Vec<RawOperand<'a>>>,
    },
    Vector(Vec<RawOperand<'a>>),
    Pair(Box<RawOperand<'a>>, Box<RawOperand<'a>>),
}

impl RawOperand<'_> {
    /// What this is, for an error message.
    pub fn shown(&self) -> String {
        match &self.kind {
            RawKind::Name { name, field, .. } => {
                let field = field.map(|field| format!(".{field}")).unwrap_or_default();
                format!("`{}{field}`", crate::lexer::clipped(name))
            }
            RawKind::Literal(Immediate::Integer(value)) => format!("the integer {value}"),
            RawKind::Literal(_) => "a float literal".into(),
            RawKind::Sink => "`_`".into(),
            RawKind::Not(name) => format!("`!{name}`"),
            RawKind::Address { coordinates: None, .. } => "an address".into(),
            RawKind::Address { .. } => "a tensor map with coordinates".into(),
            RawKind::Vector(elements) => format!("a vector of {}", elements.len()),
            RawKind::Pair(..) => "a pair".into(),
        }
    }
}

/// Most elements of a vector: the accumulators of wgmma's widest tile.
const MOST_ELEMENTS: usize = 128;

/// Reads everything up to and with the `;`.
pub(crate) fn instruction<'a>(cursor: &mut Cursor<'a>) -> Result<RawInstruction<'a>> {
    let opcode = cursor.name("an instruction")?;
    let mut modifiers = Vec::new();
    while cursor.peek().kind == Kind::Dotted {
        modifiers.push(cursor.next());
    }
    let mut operands = Vec::new();
    if starts_operand(cursor.peek()) && !begins_next(cursor, opcode) {
        operands.push(operand(cursor)?);
        while cursor.take(",") {
            operands.push(operand(cursor)?);
        }
    }
    cursor.expect_end("this instruction")?;
    Ok(RawInstruction { opcode, modifiers, operands })
}

/// Whether the next line's instruction comes instead of an operand: a `;` was forgotten.
fn begins_next(cursor: &Cursor<'_>, opcode: Token<'_>) -> bool {
    let (next, second) = (cursor.peek(), cursor.second());
    next.position.line > opcode.position.line
        && Opcode::from_name(next.text).is_some()
        && (second.kind == Kind::Dotted || second.is(";"))
}

fn starts_operand(token: Token<'_>) -> bool {
    match token.kind {
        Kind::Word | Kind::Number => true,
        Kind::Mark => ["{", "[", "!", "-", "+", "(", "~"].iter().any(|mark| token.is(mark)),
        _ => false,
    }
}

fn operand<'a>(cursor: &mut Cursor<'a>) -> Result<RawOperand<'a>> {
    let token = cursor.peek();
    if token.is("{") {
        return vector(cursor);
    }
    if token.is("[") {
        return address(cursor);
    }
    let first = simple(cursor)?;
    if !cursor.take("|") {
        return Ok(first);
    }
    let position = first.position;
    let second = simple(cursor)?;
    Ok(RawOperand { kind: RawKind::Pair(Box::new(first), Box::new(second)), position })
}

/// A register, literal, sink, negated predicate or name: whatever may stand in a vector or pair.
fn simple<'a>(cursor: &mut Cursor<'a>) -> Result<RawOperand<'a>> {
    let token = cursor.peek();
    let position = token.position;
    let kind = if token.is("-") || token.kind == Kind::Number {
        RawKind::Literal(cursor.immediate()?)
    } else if cursor.take("!") {
        RawKind::Not(cursor.name("a predicate after `!`")?.text)
    } else if token.kind == Kind::Word && token.text == "_" {
        cursor.next();
        RawKind::Sink
    } else if token.kind == Kind::Word {
        name(cursor)?
    } else if token.is("+") {
        return fail(position, "a literal has no `+` in front: drop it");
    } else if token.is("(") || token.is("~") {
        return fail(
            position,
            format!(
                "{} begins a constant expression, which is not supported: write the value",
                token.shown()
            ),
        );
    } else {
        return fail(position, format!("expected an operand, found {}", token.shown()));
    };
    Ok(RawOperand { kind, position })
}

fn name<'a>(cursor: &mut Cursor<'a>) -> Result<RawKind<'a>> {
    let name = cursor.next().text;
    let field = (cursor.peek().kind == Kind::Dotted).then(|| cursor.next().text);
    let offset = match cursor.take("+") {
        true => Some(offset(cursor)?),
        false => None,
    };
    Ok(RawKind::Name { name, field, offset })
}

/// The integer behind `+`, which may be negative: `[r+-4]`.
fn offset(cursor: &mut Cursor<'_>) -> Result<i64> {
    let token = cursor.peek();
    if token.kind == Kind::Word {
        return fail(
            token.position,
            format!(
                "expected an integer after `+`, found {}: add registers with an instruction",
                token.shown()
            ),
        );
    }
    let position = token.position;
    match cursor.immediate()? {
        Immediate::Integer(value) => match i32::try_from(value) {
            Ok(value) => Ok(i64::from(value)),
            Err(_) => {
                fail(position, format!("the offset {value} does not fit a signed 32-bit integer"))
            }
        },
        _ => fail(position, "expected an integer after `+`, found a float"),
    }
}

fn vector<'a>(cursor: &mut Cursor<'a>) -> Result<RawOperand<'a>> {
    let position = cursor.next().position;
    let mut elements = vec![simple(cursor)?];
    while cursor.take(",") {
        if elements.len() == MOST_ELEMENTS {
            return fail(
                cursor.position(),
                format!("a vector has at most {MOST_ELEMENTS} elements"),
            );
        }
        elements.push(simple(cursor)?);
    }
    cursor.expect("}", "at the end of a vector")?;
    Ok(RawOperand { kind: RawKind::Vector(elements), position })
}

fn address<'a>(cursor: &mut Cursor<'a>) -> Result<RawOperand<'a>> {
    let position = cursor.next().position;
    let token = cursor.peek();
    let mut coordinates = None;
    let mut added = 0;
    let base = if token.kind == Kind::Word {
        let base = cursor.name("a register or variable")?;
        if cursor.take("+") {
            added = offset(cursor)?;
        } else if cursor.peek().is("-") {
            return fail(
                cursor.position(),
                "`-` is no address operator: write the offset as `+-`, e.g. `[%a+-4]`",
            );
        } else if cursor.take(",") {
            coordinates = Some(self::coordinates(cursor)?);
        }
        Some(base)
    } else {
        match cursor.immediate()? {
            Immediate::Integer(value) => match i64::try_from(value) {
                Ok(value) if value >= 0 => added = value,
                _ => return fail(token.position, format!("{value} is no address")),
            },
            _ => return fail(token.position, "a float literal is no address"),
        }
        None
    };
    cursor.expect("]", "at the end of an address")?;
    Ok(RawOperand { kind: RawKind::Address { base, offset: added, coordinates }, position })
}

fn coordinates<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<RawOperand<'a>>> {
    if !cursor.peek().is("{") {
        let token = cursor.peek();
        return fail(
            token.position,
            format!("expected the coordinates `{{c0,…}}` of a tensor map, found {}", token.shown()),
        );
    }
    match vector(cursor)?.kind {
        RawKind::Vector(elements) => Ok(elements),
        _ => Ok(Vec::new()),
    }
}
