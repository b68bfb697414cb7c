//! Whether a register or literal may stand where an instruction works on a type.

use crate::ast::Immediate;
use crate::error::{ParseError, Result, error, fail};
use crate::lexer::{Position, clipped};
use crate::scope::Scopes;
use crate::types::{Class, Type};

/// The error for a name that nothing declares.
pub(crate) fn unknown(name: &str, scopes: &Scopes, at: Position) -> ParseError {
    let name = clipped(name);
    match scopes.out_of_range(name) {
        Some(range) => error(at, format!("`{name}` is not declared: {range}")),
        None => error(
            at,
            format!("`{name}` is not declared: declare it before its first use, e.g. with `.reg`"),
        ),
    }
}

/// Refuses a register of type `declared` where `wanted` is worked on.
pub(crate) fn register_fits(
    name: &str,
    declared: Type,
    wanted: Type,
    relaxed: bool,
    at: Position,
) -> Result<()> {
    if declared.holds(wanted, relaxed) {
        return Ok(());
    }
    let advice = match (wanted.class(), wanted.bytes()) {
        (Class::Encoded, bytes) => format!("declare it .b{}", 8 * bytes),
        (Class::Predicate, _) => "declare it .pred".into(),
        (_, bytes) if declared.bytes() == bytes => {
            format!("declare it .{} or .b{}", wanted.name(), 8 * bytes)
        }
        _ => "the sizes differ; convert with cvt or declare another".into(),
    };
    fail(
        at,
        format!(
            "`{name}` is .{}, the instruction works on .{}: {advice}",
            declared.name(),
            wanted.name()
        ),
    )
}

/// Refuses a literal that `ty` cannot hold, or that is of the other kind.
pub(crate) fn literal(value: Immediate, ty: Type, at: Position) -> Result<()> {
    match value {
        Immediate::Integer(value) => integer(value, ty, at),
        _ if ty.is_float() => Ok(()),
        Immediate::Single(_) if ty == Type::B32 => Ok(()),
        _ if halves(ty) => no_immediates(ty, at),
        _ => fail(
            at,
            format!(
                "a float literal where an integer of type .{} is needed: write its bits as 0x…",
                ty.name()
            ),
        ),
    }
}

fn integer(value: i128, ty: Type, at: Position) -> Result<()> {
    if ty.is_float() {
        return fail(
            at,
            format!(
                "the integer {value} where a float of type .{} is needed: write e.g. 0f3F800000 or {value}.0",
                ty.name()
            ),
        );
    }
    if halves(ty) {
        return no_immediates(ty, at);
    }
    let (least, most) = match ty.bytes() {
        0 => (0, 1),
        bytes => {
            let bits = 8 * bytes.min(8);
            (-(1i128 << (bits - 1)), (1i128 << bits) - 1)
        }
    };
    if value < least || value > most {
        return fail(
            at,
            format!(
                "{value} does not fit .{} and would be cut silently: expected {least} to {most}",
                ty.name()
            ),
        );
    }
    Ok(())
}

/// The types whose instructions take no immediates at all.
fn halves(ty: Type) -> bool {
    ty.class() == Class::Encoded || matches!(ty, Type::F16 | Type::F16x2)
}

fn no_immediates(ty: Type, at: Position) -> Result<()> {
    let size = 8 * ty.bytes();
    fail(
        at,
        format!(
            "instructions on .{} take no immediates: `mov.b{size}` the bits into a register first",
            ty.name()
        ),
    )
}
