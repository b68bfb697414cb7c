//! Operands against the form of the table: names resolved, types, counts and literals checked.

use crate::ast::{Base, Immediate, Instruction, Operand, PlacedOperand};
use crate::error::{ParseError, Result, error, fail};
use crate::lexer::{Position, Token};
use crate::matching::{Candidate, Header, candidates, opcode};
use crate::raw::{RawInstruction, RawKind, RawOperand};
use crate::scope::{Meaning, Scopes, special};
use crate::table::{Count, Immediates, OperandRule, Pairing, Shape, TypeRule};
use crate::types::{Space, Type};
use crate::value::{literal, register_fits, unknown};

/// Matches `raw` to the table and resolves its operands. Labels are left to the end of their block.
pub(crate) fn instruction(
    raw: &RawInstruction<'_>,
    scopes: &Scopes,
    header: &Header,
) -> Result<Instruction> {
    let opcode = opcode(raw.opcode)?;
    let mut best: Option<(usize, ParseError)> = None;
    for candidate in candidates(opcode, raw, header)? {
        let checker = Checker { raw, scopes, candidate: &candidate };
        match checker.operands() {
            Ok((operands, rules)) => {
                return Ok(Instruction {
                    guard: None,
                    opcode,
                    modifiers: raw.modifiers.iter().map(|m| m.text.to_owned()).collect(),
                    operands,
                    line: raw.opcode.position.line,
                    column: raw.opcode.position.column,
                    form: candidate.index,
                    chosen: candidate.chosen,
                    rules,
                });
            }
            Err((depth, why)) => {
                if best.as_ref().is_none_or(|(deepest, _)| depth > *deepest) {
                    best = Some((depth, why));
                }
            }
        }
    }
    match best {
        Some((_, why)) => Err(why),
        None => fail(raw.opcode.position, format!("`{opcode}` has no form here")),
    }
}

/// Operands, and the index of the rule that admits each.
type Checked = (Vec<PlacedOperand>, Vec<usize>);

/// One instruction against one form.
struct Checker<'i> {
    raw: &'i RawInstruction<'i>,
    scopes: &'i Scopes,
    candidate: &'i Candidate,
}

impl Checker<'_> {
    /// The text of the modifier that fills a choice.
    fn chosen(&self, choice: usize) -> Option<&str> {
        let at = (*self.candidate.chosen.get(choice)?)?;
        self.raw.modifiers.get(at).map(|modifier| modifier.text)
    }

    /// Checks all operands; a failure says how many were right before it.
    fn operands(&self) -> std::result::Result<Checked, (usize, ParseError)> {
        let rules = self.active().map_err(|why| (0, why))?;
        let mut operands = Vec::with_capacity(rules.len());
        for ((_, rule), raw) in rules.iter().zip(&self.raw.operands) {
            let operand = self
                .operand(rule, raw)
                // Any wrong operand is nearer than a wrong number of them.
                .map_err(|why| (1 + operands.len(), why))?;
            operands.push(PlacedOperand {
                operand,
                line: raw.position.line,
                column: raw.position.column,
            });
        }
        Ok((operands, rules.into_iter().map(|(at, _)| at).collect()))
    }

    /// The rules that apply, given the modifiers and the number of operands.
    fn active(&self) -> Result<Vec<(usize, OperandRule)>> {
        let rules = self.candidate.form.operands.iter().copied().enumerate();
        let present: Vec<_> = rules
            .filter(|(_, rule)| rule.when.is_none_or(|choice| self.chosen(choice).is_some()))
            .collect();
        let given = self.raw.operands.len();
        let most = present.len();
        if given == most {
            return Ok(present);
        }
        let least = present.iter().filter(|(_, rule)| !rule.optional).count();
        if given == least {
            let needed = present.into_iter().filter(|(_, rule)| !rule.optional);
            return Ok(needed.collect());
        }
        let wanted = match most - least {
            0 => least.to_string(),
            _ => format!("{least} or {most}"),
        };
        let extra = self.raw.operands.get(most);
        fail(
            extra.map_or(self.raw.opcode.position, |operand| operand.position),
            format!(
                "`{}` takes {wanted} operands in this form, found {given}",
                self.raw.opcode.text
            ),
        )
    }

    fn operand(&self, rule: &OperandRule, raw: &RawOperand<'_>) -> Result<Operand> {
        if let RawKind::Pair(first, second) = &raw.kind {
            if rule.pairing == Pairing::Single {
                return fail(raw.position, "a second destination `|p` is not possible here");
            }
            let first =
                self.operand(&OperandRule { pairing: Pairing::Optional, ..*rule }, first)?;
            let second = self.element(Type::Pred, second, rule, true, false)?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        if rule.pairing == Pairing::Required {
            return fail(raw.position, format!("expected a pair `d|p`, found {}", raw.shown()));
        }
        match rule.shape {
            Shape::Value { ty, count, relaxed, .. } => {
                self.value(rule, self.ty(ty, raw.position)?, count, relaxed, raw)
            }
            Shape::MoveSource(ty) => self.move_source(self.ty(ty, raw.position)?, rule, raw),
            Shape::Address(space) => self.address(space, raw),
            Shape::AddressIn(choice) => {
                let space = self.chosen(choice).and_then(Space::from_name);
                self.address(space.unwrap_or(Space::Generic), raw)
            }
            Shape::Tensor(choice) => self.tensor(choice, raw),
            Shape::Label | Shape::Targets => match raw.kind {
                RawKind::Name { name, field: None, offset: None } => {
                    Ok(Operand::Label(name.to_owned()))
                }
                _ => fail(raw.position, format!("expected a label, found {}", raw.shown())),
            },
        }
    }

    fn ty(&self, rule: TypeRule, at: Position) -> Result<Type> {
        let found = match rule {
            TypeRule::Fixed(ty) => Some(ty),
            TypeRule::Chosen(choice) => self.chosen(choice).and_then(Type::from_name),
            TypeRule::Widened(choice) => {
                self.chosen(choice).and_then(Type::from_name).and_then(Type::widened)
            }
        };
        found.ok_or_else(|| error(at, "this form has no such operand"))
    }

    /// A plain value, or a vector of as many as the form says.
    fn value(
        &self,
        rule: &OperandRule,
        ty: Type,
        count: Count,
        relaxed: bool,
        raw: &RawOperand<'_>,
    ) -> Result<Operand> {
        let count = match count {
            Count::One => None,
            Count::Fixed(count) => Some(count),
            Count::Chosen(choice) => self.chosen(choice).map(digits),
            Count::Columns(choice, divisor) => {
                let columns = self.chosen(choice).map_or(0, columns);
                Some(columns / divisor.max(1))
            }
        };
        let Some(count) = count else {
            return self.element(ty, raw, rule, rule.destination, relaxed);
        };
        let RawKind::Vector(elements) = &raw.kind else {
            return fail(
                raw.position,
                format!("expected {count} elements in braces, found {}", raw.shown()),
            );
        };
        if elements.len() != count {
            return fail(
                raw.position,
                format!("expected {count} elements in braces, found {}", elements.len()),
            );
        }
        self.refuse_wide(ty, count, raw)?;
        let mut seen: Vec<&str> = Vec::new();
        let mut resolved = Vec::with_capacity(count);
        for element in elements {
            if let (true, RawKind::Name { name, .. }) = (rule.destination, &element.kind) {
                if seen.contains(name) {
                    return fail(
                        element.position,
                        format!(
                            "`{name}` stands twice in this destination: which value it keeps is undefined"
                        ),
                    );
                }
                seen.push(name);
            }
            resolved.push(self.element(ty, element, rule, rule.destination, relaxed)?);
        }
        Ok(Operand::Vector(resolved))
    }

    /// `ld` and `st` move at most 16 bytes; the tensor cores' fragments are wider.
    fn refuse_wide(&self, ty: Type, count: usize, raw: &RawOperand<'_>) -> Result<()> {
        let bytes = ty.bytes() as usize * count;
        if matches!(self.raw.opcode.text, "ld" | "st" | "atom" | "red") && bytes > 16 {
            return fail(
                raw.position,
                format!("a vector access moves at most 16 bytes, this one {bytes}: split it"),
            );
        }
        Ok(())
    }

    fn element(
        &self,
        ty: Type,
        raw: &RawOperand<'_>,
        rule: &OperandRule,
        destination: bool,
        relaxed: bool,
    ) -> Result<Operand> {
        match raw.kind {
            RawKind::Sink if rule.sink || rule.pairing != Pairing::Single => Ok(Operand::Sink),
            RawKind::Sink => fail(raw.position, "`_` cannot stand here: name a register"),
            _ if rule.sink && !rule.destination => fail(
                raw.position,
                format!("expected `_`, found {}: this form returns nothing", raw.shown()),
            ),
            RawKind::Name { name: "WARP_SZ", field: None, offset: None } => {
                self.immediate(Immediate::Integer(32), ty, rule, destination, raw)
            }
            RawKind::Name { name, field: None, offset: None } => {
                if let Shape::Value { immediates: Immediates::Only, .. } = rule.shape {
                    return fail(
                        raw.position,
                        format!("expected an immediate, found `{name}`: it must be a constant"),
                    );
                }
                let declared = self.register(name, raw.position)?;
                register_fits(name, declared, ty, relaxed, raw.position)?;
                Ok(Operand::Register { name: name.to_owned(), ty: declared })
            }
            RawKind::Literal(value) => self.immediate(value, ty, rule, destination, raw),
            RawKind::Not(name) if rule.negatable => {
                let declared = self.register(name, raw.position)?;
                register_fits(name, declared, Type::Pred, false, raw.position)?;
                Ok(Operand::Negated(name.to_owned()))
            }
            _ => fail(
                raw.position,
                format!(
                    "expected a register{} of type .{}, found {}",
                    if destination { "" } else { " or literal" },
                    ty.name(),
                    raw.shown()
                ),
            ),
        }
    }

    fn immediate(
        &self,
        value: Immediate,
        ty: Type,
        rule: &OperandRule,
        destination: bool,
        raw: &RawOperand<'_>,
    ) -> Result<Operand> {
        let (allowed, range) = match rule.shape {
            Shape::Value { immediates, range, .. } => (immediates != Immediates::Never, range),
            _ => (true, None),
        };
        if destination || !allowed {
            return fail(raw.position, format!("expected a register, found {}", raw.shown()));
        }
        literal(value, ty, raw.position)?;
        if let (Some((first, last, step)), Immediate::Integer(value)) = (range, value) {
            let (first, last, step) = (i128::from(first), i128::from(last), i128::from(step));
            if value < first || value > last || (value - first) % step.max(1) != 0 {
                let steps = match step {
                    1 => String::new(),
                    _ => format!(" in steps of {step}"),
                };
                return fail(
                    raw.position,
                    format!("{value} is out of range: expected {first} to {last}{steps}"),
                );
            }
        }
        Ok(Operand::Immediate(value))
    }

    /// The declared type of a register.
    fn register(&self, name: &str, at: Position) -> Result<Type> {
        match self.scopes.find(name) {
            Some(Meaning::Register(ty)) => Ok(ty),
            Some(other) => {
                fail(at, format!("expected a register, but `{name}` is a {}", other.what()))
            }
            None if special(name).is_some() => fail(
                at,
                format!("`{name}` is a special register, which only `mov` reads: copy it first"),
            ),
            None => Err(unknown(name, self.scopes, at)),
        }
    }

    fn move_source(&self, ty: Type, rule: &OperandRule, raw: &RawOperand<'_>) -> Result<Operand> {
        let RawKind::Name { name, field, offset } = raw.kind else {
            return self.element(ty, raw, rule, false, false);
        };
        if let Some((components, own)) = special(name) {
            return self.special(name, field, (components, own), ty, raw);
        }
        match self.scopes.find(name) {
            Some(Meaning::Variable(space, _)) if field.is_none() => {
                if !matches!(ty.bytes(), 4 | 8) || ty.is_float() || ty == Type::F16x2 {
                    return fail(
                        raw.position,
                        format!(
                            "the address of `{name}` has 32 or 64 bits, the instruction works on .{}",
                            ty.name()
                        ),
                    );
                }
                Ok(Operand::Symbol { name: name.to_owned(), space, offset: offset.unwrap_or(0) })
            }
            _ => self.element(ty, raw, rule, false, false),
        }
    }

    fn special(
        &self,
        name: &str,
        field: Option<&str>,
        (components, own): (bool, Type),
        ty: Type,
        raw: &RawOperand<'_>,
    ) -> Result<Operand> {
        let at = raw.position;
        if self.raw.opcode.text != "mov" {
            return fail(at, format!("`{name}` is read by `mov` only: copy it first"));
        }
        if components != matches!(field, Some("x" | "y" | "z")) {
            return fail(
                at,
                match components {
                    true => format!("`{name}` has components: write {name}.x, .y or .z"),
                    false => format!("`{name}` has no components: drop the field"),
                },
            );
        }
        let narrowed = own == Type::U32 && matches!(ty, Type::U16 | Type::B16 | Type::S16);
        if ty.is_float() || !(own.holds(ty, false) || narrowed) {
            return fail(
                at,
                format!("`{name}` is .{}, the instruction works on .{}", own.name(), ty.name()),
            );
        }
        let field = field.map(|field| format!(".{field}")).unwrap_or_default();
        Ok(Operand::Special(format!("{name}{field}")))
    }

    fn address(&self, space: Space, raw: &RawOperand<'_>) -> Result<Operand> {
        let RawKind::Address { base, offset, coordinates: None } = &raw.kind else {
            return fail(
                raw.position,
                format!("expected an address in brackets, found {}", raw.shown()),
            );
        };
        let base = match base {
            Some(base) => self.base(*base, *offset, space)?,
            None => Base::Zero,
        };
        Ok(Operand::Address { base, offset: *offset })
    }

    fn base(&self, base: Token<'_>, offset: i64, space: Space) -> Result<Base> {
        let (name, at) = (base.text, base.position);
        if let Some(Meaning::Variable(own, size)) = self.scopes.find(name) {
            if own != space {
                return fail(
                    at,
                    format!(
                        "`{name}` lives in .{}, the instruction addresses {} memory: name the space",
                        own.name(),
                        space.name()
                    ),
                );
            }
            let inside = |size| u64::try_from(offset).is_ok_and(|offset| offset < size);
            if let Some(size) = size.filter(|&size| !inside(size)) {
                return fail(at, format!("`{name}` has {size} bytes: {offset} lies outside"));
            }
            return Ok(Base::Symbol(name.to_owned()));
        }
        let ty = self.register(name, at)?;
        let wide = matches!(space, Space::Generic | Space::Global);
        let whole = !matches!(ty, Type::F32 | Type::F64 | Type::F16x2);
        if !whole || !(ty.bytes() == 8 || (ty.bytes() == 4 && !wide)) {
            return fail(
                at,
                format!(
                    "an address in {} memory needs a {} integer register, `{name}` is .{}",
                    space.name(),
                    if wide { "64-bit" } else { "32- or 64-bit" },
                    ty.name()
                ),
            );
        }
        Ok(Base::Register(name.to_owned()))
    }

    fn tensor(&self, choice: usize, raw: &RawOperand<'_>) -> Result<Operand> {
        let rank = self.chosen(choice).map_or(0, digits);
        let RawKind::Address { base: Some(base), coordinates: Some(coordinates), .. } = &raw.kind
        else {
            return fail(
                raw.position,
                format!("expected a tensor map `[map,{{c0,…}}]`, found {}", raw.shown()),
            );
        };
        if coordinates.len() != rank {
            return fail(
                raw.position,
                format!("expected {rank} coordinates, found {}", coordinates.len()),
            );
        }
        let base = self.base(*base, 0, Space::Generic)?;
        let plain = OperandRule {
            shape: Shape::MoveSource(TypeRule::Fixed(Type::S32)),
            destination: false,
            sink: false,
            negatable: false,
            pairing: Pairing::Single,
            optional: false,
            when: None,
        };
        let coordinates = coordinates
            .iter()
            .map(|one| self.element(Type::S32, one, &plain, false, false))
            .collect::<Result<_>>()?;
        Ok(Operand::Tensor { base, coordinates })
    }
}

/// The number in `v4`, `x2` or `3d`.
fn digits(modifier: &str) -> usize {
    let number = modifier.trim_matches(|c: char| !c.is_ascii_digit());
    number.parse().unwrap_or(0)
}

/// The N of `m64n128k16`.
fn columns(shape: &str) -> usize {
    let after = shape.split_once('n').map_or("", |(_, after)| after);
    let number = after.split_once('k').map_or("", |(number, _)| number);
    number.parse().unwrap_or(0)
}
