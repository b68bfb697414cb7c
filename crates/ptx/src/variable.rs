//! Declarations of variables and registers.

use crate::ast::{Initial, Registers, Variable};
use crate::error::{Result, fail};
use crate::lexer::{Kind, Token};
use crate::parser::{Parser, declarable};
use crate::scope::{Meaning, Scopes};
use crate::types::{Space, Type};
use crate::value::{literal, unknown};

/// Most dimensions of an array, and nesting of its initialiser.
const MOST_EXTENTS: usize = 8;

/// Takes `.align N` if it comes.
pub(crate) fn align(parser: &mut Parser<'_>) -> Result<Option<u32>> {
    if !parser.cursor.take_dotted("align") {
        return Ok(None);
    }
    let at = parser.cursor.position();
    let bytes = parser.cursor.count("an alignment")?;
    match bytes.is_power_of_two() {
        true => Ok(Some(bytes)),
        false => fail(at, format!("{bytes} is no alignment: expected a power of two")),
    }
}

/// Takes the type of something in memory.
pub(crate) fn ty(parser: &mut Parser<'_>, what: &str) -> Result<Type> {
    match any_type(parser, what)? {
        (Type::Pred, token) => {
            fail(token.position, format!("{what} cannot be .pred: only registers can"))
        }
        (found, _) => Ok(found),
    }
}

fn any_type<'a>(parser: &mut Parser<'a>, what: &str) -> Result<(Type, Token<'a>)> {
    let token = parser.cursor.peek();
    if token.kind == Kind::Dotted {
        parser.cursor.next();
        if let Some(found) = declarable(token.text) {
            return Ok((found, token));
        }
        let advice = match Type::from_name(token.text) {
            Some(encoded) => format!("declare it .b{}", 8 * encoded.bytes()),
            None if matches!(token.text, "v2" | "v4") => "use single registers in braces".into(),
            None => "write e.g. .b32".into(),
        };
        return fail(token.position, format!("{} is no type of {what}: {advice}", token.shown()));
    }
    fail(token.position, format!("expected the type of {what}, found {}", token.shown()))
}

/// `.reg .f32 %acc<8>, %scale;`
pub(crate) fn registers(parser: &mut Parser<'_>) -> Result<Vec<Registers>> {
    parser.cursor.next();
    let (ty, token) = any_type(parser, "a register")?;
    if ty.bytes() == 1 {
        return fail(
            token.position,
            format!("{} is no type of a register: use .b16", token.shown()),
        );
    }
    let mut found = Vec::new();
    loop {
        let name = parser.cursor.name("a register's name")?;
        let count = match parser.cursor.take("<") {
            true => {
                let count = parser.cursor.count("the number of registers")?;
                parser.cursor.expect(">", "after the number of registers")?;
                Some(count)
            }
            false => None,
        };
        match count {
            Some(count) => parser.scopes.declare_range(name.text, count, ty, name.position)?,
            None => parser.scopes.declare(name.text, Meaning::Register(ty), name.position)?,
        }
        found.push(Registers {
            name: name.text.to_owned(),
            count,
            ty,
            line: name.position.line,
            column: name.position.column,
        });
        if !parser.cursor.take(",") {
            parser.cursor.expect_end("this declaration")?;
            return Ok(found);
        }
    }
}

/// `.shared .align 16 .b8 tile[4096];` with any number of names.
pub(crate) fn declaration(parser: &mut Parser<'_>, external: bool) -> Result<Vec<Variable>> {
    let space = Space::from_name(parser.cursor.next().text).unwrap_or(Space::Generic);
    let align = align(parser)?;
    let ty = ty(parser, "a variable")?;
    let mut found = Vec::new();
    loop {
        let name = parser.cursor.name("a variable's name")?;
        let extents = extents(parser)?;
        let dynamic = extents.first() == Some(&0);
        if dynamic && !(external && space == Space::Shared) && !parser.cursor.peek().is("=") {
            return fail(
                name.position,
                format!("`{}[]` has no size: only `.extern .shared` arrays may", name.text),
            );
        }
        let mut variable = Variable {
            name: name.text.to_owned(),
            space,
            ty,
            align: align.unwrap_or(ty.bytes()),
            extents,
            external,
            initial: Vec::new(),
            line: name.position.line,
            column: name.position.column,
        };
        let size = (!dynamic).then(|| variable.size());
        parser.scopes.declare(name.text, Meaning::Variable(space, size), name.position)?;
        initialiser(parser, &mut variable)?;
        found.push(variable);
        if !parser.cursor.take(",") {
            parser.cursor.expect_end("this declaration")?;
            return Ok(found);
        }
    }
}

fn extents(parser: &mut Parser<'_>) -> Result<Vec<u32>> {
    let mut extents = Vec::new();
    while parser.cursor.peek().is("[") {
        let open = parser.cursor.next();
        if extents.len() == MOST_EXTENTS {
            return fail(open.position, format!("an array has at most {MOST_EXTENTS} dimensions"));
        }
        if extents.is_empty() && parser.cursor.take("]") {
            extents.push(0);
            continue;
        }
        let at = parser.cursor.position();
        match parser.cursor.count("an extent")? {
            0 => return fail(at, "an extent is at least 1"),
            extent => extents.push(extent),
        }
        parser.cursor.expect("]", "after an extent")?;
    }
    Ok(extents)
}

fn initialiser(parser: &mut Parser<'_>, variable: &mut Variable) -> Result<()> {
    let sign = parser.cursor.peek();
    if !parser.cursor.take("=") {
        return Ok(());
    }
    let refused = matches!(variable.space, Space::Shared | Space::Local) || variable.external;
    if refused || matches!(variable.ty, Type::F16 | Type::F16x2) {
        return fail(
            sign.position,
            format!(
                "a .{} variable of type .{} cannot be initialised: store into it at run time",
                variable.space.name(),
                variable.ty.name()
            ),
        );
    }
    let most = match variable.extents.first() {
        Some(0) => u64::MAX,
        _ => variable.size() / u64::from(variable.ty.bytes().max(1)),
    };
    let mut depth = 0usize;
    loop {
        while parser.cursor.peek().is("{") {
            let open = parser.cursor.next();
            depth += 1;
            if depth > variable.extents.len() {
                return fail(open.position, "more braces than the array has dimensions");
            }
        }
        let at = parser.cursor.position();
        let value = initial(parser, variable.ty)?;
        variable.initial.push(value);
        if variable.initial.len() as u64 > most {
            return fail(at, format!("too many values: `{}` has {most}", variable.name));
        }
        while depth > 0 && parser.cursor.take("}") {
            depth -= 1;
        }
        if depth == 0 {
            break;
        }
        parser.cursor.expect(",", "or `}` between initial values")?;
    }
    if let Some(first) = variable.extents.first_mut()
        && *first == 0
    {
        *first = u32::try_from(variable.initial.len()).unwrap_or(u32::MAX);
    }
    Ok(())
}

fn initial(parser: &mut Parser<'_>, ty: Type) -> Result<Initial> {
    let token = parser.cursor.peek();
    if token.kind != Kind::Word {
        let value = parser.cursor.immediate()?;
        literal(value, ty, token.position)?;
        return Ok(Initial::Literal(value));
    }
    parser.cursor.next();
    let generic = token.text == "generic" && parser.cursor.take("(");
    let name = match generic {
        true => parser.cursor.name("a variable")?,
        false => token,
    };
    if generic {
        parser.cursor.expect(")", "after the variable")?;
    }
    refuse_non_variable(&parser.scopes, name)?;
    Ok(Initial::Address { name: name.text.to_owned(), generic })
}

fn refuse_non_variable(scopes: &Scopes, name: Token<'_>) -> Result<()> {
    match scopes.find(name.text) {
        Some(Meaning::Variable(..)) => Ok(()),
        Some(other) => fail(
            name.position,
            format!("expected a variable, but `{}` is a {}", name.text, other.what()),
        ),
        None => Err(unknown(name.text, scopes, name.position)),
    }
}
