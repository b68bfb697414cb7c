//! The body of a kernel: blocks, labels, declarations and instructions.

use crate::ast::{Block, Guard, Instruction, Label, Operand, Statement};
use crate::check;
use crate::error::{Result, fail};
use crate::lexer::{Kind, Position, Token};
use crate::parser::Parser;
use crate::raw;
use crate::scope::Meaning;
use crate::table::Opcode;
use crate::types::Type;
use crate::value::{register_fits, unknown};
use crate::variable;

/// Deepest nesting of blocks; it bounds the recursion.
const DEEPEST: usize = 64;

/// A use of a label, decided when the blocks that may declare it end.
struct Use {
    name: String,
    wanted: Meaning,
    position: Position,
}

/// Parses the braces of a kernel and everything in them.
pub(crate) fn entry(parser: &mut Parser<'_>) -> Result<Block> {
    let (block, open) = block(parser, 1)?;
    match open.first() {
        Some(first) => Err(unknown_label(parser, first)),
        None => Ok(block),
    }
}

fn unknown_label(parser: &Parser<'_>, first: &Use) -> crate::ParseError {
    let what = first.wanted.what();
    match parser.scopes.find(&first.name) {
        Some(other) => crate::error::error(
            first.position,
            format!("expected a {what}, but `{}` is a {}", first.name, other.what()),
        ),
        None => {
            let mut why = unknown(&first.name, &parser.scopes, first.position);
            why.message = format!(
                "the {what} `{}` is not declared in this block or one around it",
                crate::lexer::clipped(&first.name)
            );
            why
        }
    }
}

/// Parses a block; uses of labels that it does not declare are handed to the block around it.
fn block(parser: &mut Parser<'_>, depth: usize) -> Result<(Block, Vec<Use>)> {
    let open = parser.cursor.expect("{", "to begin a block")?;
    if depth > DEEPEST {
        return fail(open.position, format!("blocks are nested more than {DEEPEST} deep"));
    }
    parser.scopes.enter();
    let mut uses = Vec::new();
    let mut statements = Vec::new();
    while !parser.cursor.peek().is("}") {
        if parser.cursor.peek().kind == Kind::End {
            return fail(open.position, "this `{` has no `}`: the text ends inside the block");
        }
        statement(parser, depth, &mut statements, &mut uses)?;
    }
    parser.cursor.next();
    let mut left = Vec::new();
    for one in uses {
        match parser.scopes.find_innermost(&one.name) {
            Some(meaning) if meaning == one.wanted => {}
            Some(_) => return Err(unknown_label(parser, &one)),
            None => left.push(one),
        }
    }
    parser.scopes.leave();
    let block = Block { statements, line: open.position.line };
    Ok((block, left))
}

fn statement(
    parser: &mut Parser<'_>,
    depth: usize,
    statements: &mut Vec<Statement>,
    uses: &mut Vec<Use>,
) -> Result<()> {
    let token = parser.cursor.peek();
    match token.kind {
        Kind::Dotted => directive(parser, token, statements),
        Kind::Mark if token.is("{") => {
            let (inner, left) = block(parser, depth + 1)?;
            uses.extend(left);
            statements.push(Statement::Block(inner));
            Ok(())
        }
        Kind::Word if parser.cursor.second().is(":") => label(parser, statements, uses),
        Kind::Word => {
            let instruction = instruction(parser, None, uses)?;
            statements.push(Statement::Instruction(instruction));
            Ok(())
        }
        Kind::Mark if token.is("@") => {
            let guard = guard(parser)?;
            let instruction = instruction(parser, Some(guard), uses)?;
            statements.push(Statement::Instruction(instruction));
            Ok(())
        }
        Kind::Mark if token.is(";") => {
            parser.cursor.next();
            Ok(())
        }
        _ => fail(
            token.position,
            format!(
                "expected an instruction, a label, a directive or `}}`, found {}",
                token.shown()
            ),
        ),
    }
}

fn directive(
    parser: &mut Parser<'_>,
    token: Token<'_>,
    statements: &mut Vec<Statement>,
) -> Result<()> {
    match token.text {
        "reg" => statements.push(Statement::Registers(variable::registers(parser)?)),
        "shared" | "local" => {
            let found = variable::declaration(parser, false)?;
            statements.extend(found.into_iter().map(Statement::Variable));
        }
        "pragma" => statements.push(pragma(parser)?),
        "loc" | "file" | "section" => parser.skip_debug()?,
        "branchtargets" => {
            return fail(
                token.position,
                "`.branchtargets` needs a label in front: `ts: .branchtargets L0, L1;`",
            );
        }
        "global" | "const" | "param" | "extern" => {
            return fail(
                token.position,
                format!("{} variables stand in the module, before the kernel", token.shown()),
            );
        }
        _ => {
            return fail(
                token.position,
                format!(
                    "unknown directive {} in a kernel: expected .reg, .shared or .pragma",
                    token.shown()
                ),
            );
        }
    }
    Ok(())
}

/// `.pragma "nounroll";`
fn pragma(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.cursor.next();
    let mut texts = Vec::new();
    loop {
        let token = parser.cursor.next();
        if token.kind != Kind::Text {
            return fail(
                token.position,
                format!("expected a string such as \"nounroll\", found {}", token.shown()),
            );
        }
        if token.text != "nounroll" {
            return fail(
                token.position,
                format!("unknown pragma, {}: only \"nounroll\" is known", token.shown()),
            );
        }
        texts.push(token.text.to_owned());
        if !parser.cursor.take(",") {
            parser.cursor.expect_end("this pragma")?;
            return Ok(Statement::Pragma(texts));
        }
    }
}

fn placed(token: Token<'_>) -> Label {
    Label { name: token.text.to_owned(), line: token.position.line, column: token.position.column }
}

/// `LOOP:` or `ts: .branchtargets L0, L1;`
fn label(
    parser: &mut Parser<'_>,
    statements: &mut Vec<Statement>,
    uses: &mut Vec<Use>,
) -> Result<()> {
    let name = parser.cursor.name("a label")?;
    parser.cursor.next();
    if !parser.cursor.take_dotted("branchtargets") {
        parser.scopes.declare(name.text, Meaning::Label, name.position)?;
        statements.push(Statement::Label(placed(name)));
        return Ok(());
    }
    parser.scopes.declare(name.text, Meaning::Targets, name.position)?;
    let mut labels = Vec::new();
    loop {
        let target = parser.cursor.name("a label")?;
        labels.push(placed(target));
        uses.push(Use {
            name: target.text.to_owned(),
            wanted: Meaning::Label,
            position: target.position,
        });
        if !parser.cursor.take(",") {
            parser.cursor.expect_end("this list of branch targets")?;
            break;
        }
    }
    statements.push(Statement::Targets { name: placed(name), labels });
    Ok(())
}

/// `@%p` or `@!%p`
fn guard(parser: &mut Parser<'_>) -> Result<Guard> {
    let at = parser.cursor.next().position;
    let negated = parser.cursor.take("!");
    let name = parser.cursor.name("a predicate after `@`")?;
    match parser.scopes.find(name.text) {
        Some(Meaning::Register(ty)) => {
            register_fits(name.text, ty, Type::Pred, false, name.position)?;
        }
        Some(other) => {
            return fail(
                name.position,
                format!("expected a predicate, but `{}` is a {}", name.text, other.what()),
            );
        }
        None => return Err(unknown(name.text, &parser.scopes, name.position)),
    }
    Ok(Guard { register: name.text.to_owned(), negated, line: at.line, column: at.column })
}

fn instruction(
    parser: &mut Parser<'_>,
    guard: Option<Guard>,
    uses: &mut Vec<Use>,
) -> Result<Instruction> {
    let raw = raw::instruction(&mut parser.cursor)?;
    let mut instruction = check::instruction(&raw, &parser.scopes, &parser.header)?;
    instruction.guard = guard;
    for placed in &instruction.operands {
        if let Operand::Label(name) = &placed.operand {
            uses.push(Use {
                name: name.clone(),
                wanted: match instruction.opcode {
                    Opcode::Brx => Meaning::Targets,
                    _ => Meaning::Label,
                },
                position: Position { line: placed.line, column: placed.column },
            });
        }
    }
    Ok(instruction)
}
