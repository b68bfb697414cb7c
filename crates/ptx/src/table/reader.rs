//! Reads one line of the table into a [`Form`].

use super::{
    Choice, Count, Form, Immediates, Opcode, OperandRule, Pairing, Requirement, SETS, Shape,
    TypeRule,
};
use crate::types::{Space, Type};

/// Why a line of the table does not read: a mistake in this crate, found by its tests.
type Result<T> = std::result::Result<T, String>;

/// Reads `opcode .modifiers | operands ; version/target`.
pub(super) fn form(line: &str) -> Result<Form> {
    let (body, requirement) = line.split_once(';').unwrap_or((line, ""));
    let (head, operands) = body.split_once('|').unwrap_or((body, ""));
    let mut words = head.split_whitespace();
    let name = words.next().unwrap_or("");
    let opcode = Opcode::from_name(name).ok_or(format!("unknown opcode {name}"))?;
    let choices: Vec<Choice> = words.map(choice).collect::<Result<_>>()?;
    let operands =
        operands.split_whitespace().map(|text| operand(text, &choices)).collect::<Result<_>>()?;
    Ok(Form { opcode, choices, operands, requirement: self::requirement(requirement.trim())? })
}

/// Reads `7.0/80`, `8.0/90a` or nothing.
fn requirement(text: &str) -> Result<Requirement> {
    if text.is_empty() {
        return Ok(Requirement::default());
    }
    let wrong = || format!("requirement {text}");
    let (version, target) = text.split_once('/').ok_or_else(wrong)?;
    let (major, minor) = version.split_once('.').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
    Ok(Requirement {
        version: (number(major)?, number(minor)?),
        target: number(target.trim_end_matches('a'))?,
        specific: target.ends_with('a'),
    })
}

/// Reads `.name=a,b?`.
fn choice(text: &str) -> Result<Choice> {
    let inner = text.strip_prefix('.').ok_or(format!("modifier without dot: {text}"))?;
    let (inner, optional) = match inner.strip_suffix('?') {
        Some(inner) => (inner, true),
        None => (inner, false),
    };
    let (name, list) = inner.split_once('=').unwrap_or((inner, inner));
    let mut spellings = Vec::new();
    for one in list.split(',') {
        match one.strip_prefix('@') {
            Some(set) => {
                let found = SETS.iter().find(|(name, _)| *name == set);
                let (_, members) = found.ok_or(format!("unknown set {set}"))?;
                spellings.extend(members.split(',').map(str::to_owned));
            }
            None => spellings.push(one.to_owned()),
        }
    }
    Ok(Choice { name: name.to_owned(), spellings, optional })
}

fn index(choices: &[Choice], name: &str) -> Result<usize> {
    choices.iter().position(|choice| choice.name == name).ok_or(format!("no choice named {name}"))
}

fn operand(text: &str, choices: &[Choice]) -> Result<OperandRule> {
    let mut rest = text;
    let mut take = |mark: &str| match rest.strip_prefix(mark) {
        Some(after) => {
            rest = after;
            true
        }
        None => false,
    };
    let optional = take("?");
    let conditional = take("<");
    let mut when = None;
    if conditional {
        let (name, after) = rest.split_once('>').ok_or("`<` without `>`")?;
        when = Some(index(choices, name)?);
        rest = after;
    }
    let mut take = |mark: &str| match rest.strip_prefix(mark) {
        Some(after) => {
            rest = after;
            true
        }
        None => false,
    };
    let destination = take("+");
    let sink = take("_");
    let negatable = take("!");
    let relaxed = take("~");
    let moves = take("%");
    let immediates = match (take("&") || destination, take("#")) {
        (true, _) => Immediates::Never,
        (_, true) => Immediates::Only,
        _ => Immediates::Allowed,
    };
    let (rest, pairing) = match rest.split_once('/').filter(|(_, p)| p.ends_with("pred")) {
        Some((first, "pred")) => (first, Pairing::Required),
        Some((first, _)) => (first, Pairing::Optional),
        None => (rest, Pairing::Single),
    };
    let shape = if moves {
        Shape::MoveSource(type_rule(rest, choices)?)
    } else {
        shape(rest, choices, relaxed, immediates)?
    };
    Ok(OperandRule { shape, destination, sink, negatable, pairing, optional, when })
}

fn shape(text: &str, choices: &[Choice], relaxed: bool, immediates: Immediates) -> Result<Shape> {
    match text {
        "label" => return Ok(Shape::Label),
        "targets" => return Ok(Shape::Targets),
        "[]" => return Ok(Shape::Address(Space::Generic)),
        _ => {}
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return Ok(match Space::from_name(inner) {
            Some(space) if choices.iter().all(|choice| choice.name != inner) => {
                Shape::Address(space)
            }
            _ => Shape::AddressIn(index(choices, inner)?),
        });
    }
    if let Some(name) = text.strip_prefix("map:") {
        return Ok(Shape::Tensor(index(choices, name)?));
    }
    let (text, range) = match text.split_once(':') {
        Some((text, bounds)) => (text, Some(self::range(bounds)?)),
        None => (text, None),
    };
    let (text, count) = match text.split_once('*') {
        Some((text, many)) => (text, self::count(many, choices)?),
        None => (text, Count::One),
    };
    Ok(Shape::Value { ty: type_rule(text, choices)?, count, relaxed, immediates, range })
}

/// Reads `0..15` or `32..1024/32`.
fn range(text: &str) -> Result<(i64, i64, i64)> {
    let (bounds, step) = text.split_once('/').unwrap_or((text, "1"));
    let (first, last) = bounds.split_once("..").ok_or(format!("range {text}"))?;
    let number = |text: &str| text.parse::<i64>().map_err(|_| format!("range {text}"));
    Ok((number(first)?, number(last)?, number(step)?))
}

/// Reads `4`, `v` or `n/2`.
fn count(text: &str, choices: &[Choice]) -> Result<Count> {
    if let Ok(number) = text.parse() {
        return Ok(Count::Fixed(number));
    }
    match text.split_once('/') {
        Some((name, divisor)) => {
            let divisor = divisor.parse().map_err(|_| format!("count {text}"))?;
            Ok(Count::Columns(index(choices, name)?, divisor))
        }
        None => Ok(Count::Chosen(index(choices, text)?)),
    }
}

fn type_rule(text: &str, choices: &[Choice]) -> Result<TypeRule> {
    if let Some(name) = text.strip_prefix('2') {
        return Ok(TypeRule::Widened(index(choices, name)?));
    }
    match index(choices, text) {
        Ok(at) => Ok(TypeRule::Chosen(at)),
        Err(why) => Type::from_name(text).map(TypeRule::Fixed).ok_or(why),
    }
}

/// Whether `text` is the modifier `pattern`, which may leave the N of `m64n{8}k16` open.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('{') else {
        return pattern == text;
    };
    let Some((step, after)) = rest.split_once('}') else {
        return false;
    };
    let columns = text.strip_prefix(before).and_then(|text| text.strip_suffix(after));
    let Some(columns) = columns.filter(|digits| !digits.starts_with(['0', '+'])) else {
        return false;
    };
    match columns.parse::<u32>() {
        Ok(n @ 8..=256) if step == "8" => n % 8 == 0,
        Ok(n @ 8..=256) => n == 8 || n == 24 || n % 16 == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn open_shapes_take_only_their_columns() {
        assert!(matches("m64n{8}k16", "m64n8k16"));
        assert!(matches("m64n{8}k16", "m64n256k16"));
        assert!(matches("m64n{16}k32", "m64n24k32"));
        for refused in ["m64n40k32", "m64n56k32", "m64n264k32", "m64nk32", "m64n08k32"] {
            assert!(!matches("m64n{16}k32", refused), "{refused}");
        }
    }
}
