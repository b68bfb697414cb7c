//! Which form of the table an instruction's modifiers have.

use crate::error::{ParseError, Result, error, fail};
use crate::lexer::Token;
use crate::raw::RawInstruction;
use crate::table::{Form, MODIFIERS, Opcode, Requirement, forms};
use crate::types::{Class, Type};

/// A form whose modifiers are those of the instruction.
pub(crate) struct Candidate {
    /// Index among the opcode's forms.
    pub index: usize,
    pub form: &'static Form,
    /// For every choice, the modifier that fills it.
    pub chosen: Vec<Option<usize>>,
}

/// The header of the module, which decides what is there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Header {
    pub version: (u32, u32),
    pub target: u32,
    pub specific: bool,
}

impl Header {
    fn meets(&self, need: &Requirement) -> bool {
        self.version >= need.version
            && self.target >= need.target
            && (!need.specific || (self.specific && self.target == need.target))
    }
}

/// The opcode of an instruction.
pub(crate) fn opcode(token: Token<'_>) -> Result<Opcode> {
    if let Some(found) = Opcode::from_name(token.text) {
        return Ok(found);
    }
    let advice = match token.text {
        "call" => "functions are not supported: let a template expand their code in place",
        "wmma" => "write `mma.sync`, whose fragments are documented",
        "tex" | "tld4" | "txq" | "suld" | "sust" | "sured" | "suq" => {
            "textures and surfaces are not supported"
        }
        _ => "it is not in the table of this crate, or misspelt",
    };
    fail(token.position, format!("unknown instruction {}: {advice}", token.shown()))
}

/// All forms with the instruction's modifiers that the header admits, in the table's order.
pub(crate) fn candidates(
    opcode: Opcode,
    raw: &RawInstruction<'_>,
    header: &Header,
) -> Result<Vec<Candidate>> {
    let mut found = Vec::new();
    let mut furthest = Mismatch::default();
    for (index, form) in forms(opcode).iter().enumerate() {
        match matched(form, &raw.modifiers) {
            Ok(chosen) => found.push(Candidate { index, form, chosen }),
            Err(mismatch) => furthest.merge(mismatch),
        }
    }
    if found.is_empty() {
        return Err(furthest.explain(opcode, raw));
    }
    let needed = found.first().map(|first| first.form.requirement);
    found.retain(|candidate| header.meets(&candidate.form.requirement));
    if let (true, Some(need)) = (found.is_empty(), needed) {
        return Err(unmet(&spelling(raw), raw.opcode, &need, header));
    }
    for modifier in &raw.modifiers {
        let need = MODIFIERS.iter().find(|(name, _)| *name == modifier.text);
        if let Some((name, need)) = need
            && !header.meets(need)
        {
            return Err(unmet(&format!(".{name}"), *modifier, need, header));
        }
    }
    combination(opcode, raw)?;
    Ok(found)
}

/// Refuses modifiers that are legal each and not together; forms for every pair would hide the rule.
fn combination(opcode: Opcode, raw: &RawInstruction<'_>) -> Result<()> {
    let find = |accept: &dyn Fn(&str) -> bool| raw.modifiers.iter().find(|one| accept(one.text));
    if matches!(opcode, Opcode::Ld | Opcode::St | Opcode::Atom | Opcode::Red) {
        let hint = find(&|text| text.starts_with("L2::"));
        let space =
            find(&|text| text.starts_with("shared") || matches!(text, "local" | "const" | "param"));
        if let (Some(hint), Some(space)) = (hint, space) {
            return fail(
                hint.position,
                format!("{} is for global memory, not {}", hint.shown(), space.shown()),
            );
        }
        let cop = find(&|text| matches!(text, "ca" | "cg" | "cs" | "lu" | "cv" | "wb" | "wt"));
        if let (Some(policy), Some(cop)) = (find(&|text| text.starts_with("L1::")), cop) {
            return fail(
                policy.position,
                format!("{} excludes {}: keep one", policy.shown(), cop.shown()),
            );
        }
    }
    if let (Opcode::Cvt, Some(sat), [.., to, from]) =
        (opcode, find(&|text| text == "sat"), raw.modifiers.as_slice())
    {
        let whole = Type::from_name(from.text).is_some_and(|ty| ty.class() == Class::Integer);
        if whole && to.text == from.text {
            return fail(sat.position, "`.sat` between equal integer types does nothing: drop it");
        }
    }
    Ok(())
}

fn spelling(raw: &RawInstruction<'_>) -> String {
    let mut text = raw.opcode.text.to_owned();
    for modifier in raw.modifiers.iter().take(20) {
        text.push('.');
        text.push_str(modifier.text);
    }
    text
}

fn unmet(what: &str, at: Token<'_>, need: &Requirement, header: &Header) -> ParseError {
    let suffix = |specific| if specific { "a" } else { "" };
    error(
        at.position,
        format!(
            "`{what}` needs `.version {}.{}` and `.target sm_{}{}`; this module says {}.{} and sm_{}{}",
            need.version.0,
            need.version.1,
            need.target,
            suffix(need.specific),
            header.version.0,
            header.version.1,
            header.target,
            suffix(header.specific),
        ),
    )
}

/// How far the best form came, and what it wanted there.
#[derive(Default)]
struct Mismatch {
    at: usize,
    expected: Vec<&'static str>,
    /// Whether a form ends here.
    complete: bool,
}

impl Mismatch {
    fn merge(&mut self, other: Self) {
        if other.at > self.at {
            *self = other;
        } else if other.at == self.at {
            self.complete |= other.complete;
            for one in other.expected {
                if !self.expected.contains(&one) {
                    self.expected.push(one);
                }
            }
        }
    }

    fn explain(&self, opcode: Opcode, raw: &RawInstruction<'_>) -> ParseError {
        if let Some(advice) = advice(opcode, raw) {
            return error(raw.opcode.position, advice);
        }
        let mut expected: Vec<String> =
            self.expected.iter().take(16).map(|one| format!("`.{one}`")).collect();
        if self.expected.len() > 16 {
            expected.push("…".into());
        }
        if self.complete {
            expected.push("the operands".into());
        }
        let expected = expected.join(", ");
        match raw.modifiers.get(self.at) {
            Some(modifier) => error(
                modifier.position,
                format!("`{opcode}` does not take {} here: expected {expected}", modifier.shown()),
            ),
            None => error(
                raw.modifiers.last().unwrap_or(&raw.opcode).end(),
                format!("`{}` is incomplete: expected {expected}", spelling(raw)),
            ),
        }
    }
}

/// Fills the choices of `form` from the left; optional ones take a modifier whenever they can.
fn matched(
    form: &'static Form,
    modifiers: &[Token<'_>],
) -> std::result::Result<Vec<Option<usize>>, Mismatch> {
    let mut at = 0;
    let mut chosen = Vec::with_capacity(form.choices.len());
    let mut expected: Vec<&'static str> = Vec::new();
    for choice in &form.choices {
        let next = modifiers.get(at);
        if next.is_some_and(|modifier| choice.admits(modifier.text)) {
            chosen.push(Some(at));
            at += 1;
            expected.clear();
            continue;
        }
        expected.extend(choice.spellings.iter().map(String::as_str));
        if !choice.optional {
            return Err(Mismatch { at, expected, complete: false });
        }
        chosen.push(None);
    }
    if at < modifiers.len() {
        return Err(Mismatch { at, expected, complete: true });
    }
    Ok(chosen)
}

/// What to write instead, for the mistakes that deserve more than a list of modifiers.
fn advice(opcode: Opcode, raw: &RawInstruction<'_>) -> Option<String> {
    let has = |names: &[&str]| raw.modifiers.iter().any(|modifier| names.contains(&modifier.text));
    let rounded = has(&["rn", "rz", "rm", "rp", "rna", "rni", "rzi", "rmi", "rpi"]);
    let last = raw.modifiers.last().map(|modifier| modifier.text);
    let float = matches!(last, Some("f16" | "f16x2" | "bf16" | "bf16x2" | "f32" | "f64"));
    match opcode {
        Opcode::Add | Opcode::Sub | Opcode::Mul if float && !rounded => Some(format!(
            "`{0}` has no rounding, so ptxas may fuse it with a neighbour: write `{opcode}.rn` or `fma.rn`",
            spelling(raw)
        )),
        Opcode::Fma | Opcode::Mad | Opcode::Div | Opcode::Rcp | Opcode::Sqrt
            if float && !rounded && !has(&["approx", "full", "lo", "hi", "wide"]) =>
        {
            Some(format!(
                "`{}` needs a rounding: write `{opcode}.rn` (or .rz .rm .rp)",
                spelling(raw)
            ))
        }
        Opcode::Cvt => conversion(raw, rounded),
        Opcode::Shfl | Opcode::Vote | Opcode::Match if !has(&["sync"]) => Some(format!(
            "`{opcode}` without `.sync` does not exist on these targets: write `{opcode}.sync` with a member mask",
        )),
        Opcode::Ld | Opcode::St if has(&["volatile"]) => {
            Some(format!("`{opcode}.volatile` is not supported: write `{opcode}.relaxed.sys`"))
        }
        _ => None,
    }
}

/// Why the rounding of a conversion is wrong, if that is what is wrong.
fn conversion(raw: &RawInstruction<'_>, rounded: bool) -> Option<String> {
    let mut types = raw.modifiers.iter().rev();
    let from = Type::from_name(types.next()?.text)?;
    let to = Type::from_name(types.next()?.text)?;
    let whole = |ty: Type| ty.class() == Class::Integer;
    let text = spelling(raw);
    match (whole(from), whole(to)) {
        (false, true) if !rounded => {
            Some(format!("`{text}` needs an integer rounding: .rni .rzi .rmi or .rpi"))
        }
        (true, true) if rounded => Some(format!(
            "`{text}` cannot round: drop the rounding, it is an error between integers"
        )),
        (true, false) if !rounded => Some(format!("`{text}` needs a rounding: .rn .rz .rm or .rp")),
        (false, false) if !rounded && from.bytes() > to.bytes() => {
            Some(format!("`{text}` narrows and needs a rounding: .rn .rz .rm or .rp"))
        }
        (false, false) if rounded && from.bytes() < to.bytes() => {
            Some(format!("`{text}` widens and is exact: drop the rounding"))
        }
        _ => None,
    }
}
