//! Instructions written out, parsed and computed.

mod conformance;
mod forms;
mod noise;
mod rounding;

use std::fmt::Write;

use super::{Rule, rule, spread, truth};
use crate::ast::Instruction;
use crate::interpreter::row::{LANES, Row};
use crate::table::{
    Choice, Form, Immediates, Opcode, OperandRule, Pairing, Shape, TypeRule, forms,
};
use crate::types::Type;

/// The instruction of this opcode with these modifiers (`add.rn.f32`), if it exists.
fn parsed(head: &str) -> Option<Instruction> {
    let (name, modifiers) = head.split_once('.').unwrap_or((head, ""));
    let modifiers: Vec<&str> = modifiers.split('.').collect();
    let opcode = Opcode::from_name(name)?;
    forms(opcode).iter().find_map(|form| {
        let spelled = filled(&form.choices, &modifiers)?;
        let operands: Vec<String> = form
            .operands
            .iter()
            .enumerate()
            .map(|(at, rule)| operand(rule, &spelled, at))
            .collect::<Option<_>>()?;
        let module = crate::parse(&module(&format!("{head} {};", operands.join(", ")))).ok()?;
        module.entries[0].instructions().first().copied().cloned()
    })
}

fn module(line: &str) -> String {
    format!(
        ".version 9.0\n.target sm_90a\n.address_size 64\n.visible .entry k() {{\n\
         .reg .pred %p<8>; .reg .b16 %h<8>; .reg .b32 %r<8>; .reg .b64 %d<8>;\n{line}\nret;\n}}\n"
    )
}

/// The spelling of every choice, `None` where it is left out, if the modifiers fill them all.
fn filled<'m>(choices: &[Choice], modifiers: &[&'m str]) -> Option<Vec<Option<&'m str>>> {
    let Some((choice, rest)) = choices.split_first() else {
        return modifiers.is_empty().then(Vec::new);
    };
    let here = modifiers.split_first().filter(|(first, _)| choice.admits(first));
    let taken = here.and_then(|(first, left)| Some((Some(*first), filled(rest, left)?)));
    let (spelled, mut all) = match taken {
        Some(taken) => taken,
        None if choice.optional => (None, filled(rest, modifiers)?),
        None => return None,
    };
    all.insert(0, spelled);
    Some(all)
}

/// An untyped register of the right size.
fn operand(rule: &OperandRule, spelled: &[Option<&str>], at: usize) -> Option<String> {
    let Shape::Value { ty, immediates, .. } = rule.shape else {
        return None;
    };
    let named = |choice: usize| Type::from_name(spelled.get(choice).copied()??);
    let ty = match ty {
        TypeRule::Fixed(ty) => ty,
        TypeRule::Chosen(choice) => named(choice)?,
        TypeRule::Widened(choice) => named(choice)?.widened()?,
    };
    let mut text = match ty.bytes() {
        _ if immediates == Immediates::Only => "0".to_owned(),
        0 => format!("%p{at}"),
        1 | 2 => format!("%h{at}"),
        4 => format!("%r{at}"),
        _ => format!("%d{at}"),
    };
    if rule.pairing == Pairing::Required {
        write!(text, "|%p7").ok()?;
    }
    Some(text)
}

/// The four source rows, the same value in every lane.
fn broadcast(sources: &[u64]) -> [Row; 4] {
    std::array::from_fn(|at| [sources.get(at).copied().unwrap_or(0); LANES])
}

/// What an instruction gives for these sources, without noise and without a carry.
fn compute(head: &str, sources: &[u64]) -> u64 {
    let instruction = parsed(head).unwrap_or_else(|| panic!("{head} does not exist"));
    let rows = broadcast(sources);
    let rows = rows.each_ref();
    let mut results = [!0; LANES];
    match rule(&instruction).unwrap_or_else(|| panic!("{head} has no rule")) {
        Rule::Map(map) => map(&rows, &mut results),
        Rule::Approximate(function) => function(&rows, None, &mut results),
        Rule::Carry(chain) => {
            chain(&rows, 0, &mut results);
        }
        Rule::Test(test) if instruction.opcode == Opcode::Set => {
            spread(test(&rows), truth(&instruction).expect("set has types"), &mut results);
        }
        Rule::Test(test) => {
            let [mask, _] = test(&rows);
            assert!(mask == 0 || mask == u32::MAX, "{head}: lanes differ");
            return u64::from(mask & 1);
        }
    }
    assert!(results.iter().all(|&bits| bits == results[0]), "{head}: lanes differ");
    results[0]
}

/// An endless row of bits (SplitMix64).
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
