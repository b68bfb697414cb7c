//! Loads, stores, atomics and asynchronous copies.

use super::action::{Action, Atomic, AtomicOperation, Copy, Load, Store};
use super::operand::place;
use super::{Decoder, text};
use crate::ast::{Instruction, Operand};
use crate::interpreter::fault::Fault;
use crate::interpreter::memory::{Scope, Strength};
use crate::table::Opcode;
use crate::types::Type;

impl Decoder<'_> {
    pub(super) fn memory(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        match instruction.opcode {
            Opcode::Ld => self.load(instruction),
            Opcode::St if !instruction.has("async") => self.store(instruction),
            Opcode::Atom => self.atomic(instruction, true),
            Opcode::Red if !instruction.has("async") => self.atomic(instruction, false),
            Opcode::Cp if !instruction.has("bulk") && !instruction.has("reduce") => {
                self.copy(instruction)
            }
            _ => self.unsupported(format!("`{}` is not executed yet", text(instruction))),
        }
    }

    fn load(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        let ty = instruction.ty("t").unwrap_or(Type::B32);
        let operand = self.operand(instruction, 1)?.clone();
        let address = self.address(&operand, place(named_space(instruction)))?;
        let to = Self::elements(self.operand(instruction, 0)?)
            .iter()
            .map(|one| match self.destination(one)? {
                Some((register, declared)) => Ok((Some(register), declared)),
                None => Ok((None, ty)),
            })
            .collect::<Result<_, Fault>>()?;
        let strength = match instruction.chosen("scope") {
            Some(scope) => Strength::Strong(self::scope(scope)),
            None if instruction.has("nc") => Strength::ReadOnly,
            None => Strength::Weak,
        };
        Ok(Action::Load(Load { address, ty, strength, acquire: instruction.has("acquire"), to }))
    }

    fn store(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        let ty = instruction.ty("t").unwrap_or(Type::B32);
        let operand = self.operand(instruction, 0)?.clone();
        let address = self.address(&operand, place(named_space(instruction)))?;
        let values = self.operand(instruction, 1)?.clone();
        let sources = Self::elements(&values)
            .iter()
            .map(|value| self.source(value, ty))
            .collect::<Result<_, Fault>>()?;
        let strength = match instruction.chosen("scope") {
            Some(scope) => Strength::Strong(self::scope(scope)),
            None => Strength::Weak,
        };
        Ok(Action::Store(Store {
            address,
            ty,
            strength,
            release: instruction.has("release"),
            sources,
        }))
    }

    fn atomic(&mut self, instruction: &Instruction, returns: bool) -> Result<Action, Fault> {
        let ty = instruction.ty("t").unwrap_or(Type::B32);
        let operation = match instruction.chosen("op") {
            Some("add") => AtomicOperation::Add,
            Some("min") => AtomicOperation::Min,
            Some("max") => AtomicOperation::Max,
            Some("inc") => AtomicOperation::Increment,
            Some("dec") => AtomicOperation::Decrement,
            Some("and") => AtomicOperation::And,
            Some("or") => AtomicOperation::Or,
            Some("xor") => AtomicOperation::Xor,
            Some("exch") => AtomicOperation::Exchange,
            Some("cas") => AtomicOperation::CompareAndSwap,
            _ => return self.unsupported(format!("`{}` is not executed", text(instruction))),
        };
        if ty == Type::B128 {
            return self.unsupported("128-bit atomics are not executed");
        }
        let first = usize::from(returns);
        let to = match returns {
            true => Self::elements(self.operand(instruction, 0)?)
                .iter()
                .map(|one| Ok(self.destination(one)?.map(|(to, _)| to)))
                .collect::<Result<_, Fault>>()?,
            false => Vec::new(),
        };
        let operand = self.operand(instruction, first)?.clone();
        let address = self.address(&operand, place(named_space(instruction)))?;
        let values = match operation {
            AtomicOperation::CompareAndSwap => 2,
            _ => 1,
        };
        let mut sources = Vec::new();
        for at in first + 1..=first + values {
            let value = self.operand(instruction, at)?.clone();
            for element in Self::elements(&value) {
                sources.push(self.source(element, ty)?);
            }
        }
        let semantics = instruction.chosen("sem");
        Ok(Action::Atomic(Atomic {
            address,
            operation,
            ty,
            scope: instruction.chosen("scope").map_or(Scope::Device, self::scope),
            acquire: matches!(semantics, Some("acquire" | "acq_rel")),
            release: matches!(semantics, Some("release" | "acq_rel")),
            to,
            sources,
        }))
    }

    fn copy(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        if instruction.has("commit_group") {
            return Ok(Action::CopyCommit);
        }
        if instruction.has("wait_all") {
            return Ok(Action::CopyWait(0));
        }
        if instruction.has("wait_group") {
            let count = self.literal(instruction, 0)?;
            return Ok(Action::CopyWait(usize::try_from(count).unwrap_or(usize::MAX)));
        }
        if instruction.has("mbarrier") {
            let operand = self.operand(instruction, 0)?.clone();
            let address = self.address(&operand, place(instruction.chosen("ss")))?;
            return Ok(Action::CopyArrive { address, counted: instruction.has("noinc") });
        }
        let (to, from) =
            (self.operand(instruction, 0)?.clone(), self.operand(instruction, 1)?.clone());
        let to = self.address(&to, place(instruction.chosen("d")))?;
        let from = self.address(&from, place(Some("global")))?;
        let bytes = u32::try_from(self.literal(instruction, 2)?).unwrap_or(0);
        let hinted = usize::from(instruction.has("L2::cache_hint"));
        let (mut taken, mut ignored) = (None, None);
        if instruction.operands.len() > 3 + hinted {
            let operand = self.operand(instruction, 3)?.clone();
            match self.operand_type(instruction, 3) {
                Some(Type::Pred) => ignored = Some(self.condition(&operand)?),
                _ => taken = Some(self.source(&operand, Type::U32)?),
            }
        }
        Ok(Action::Copy(Copy { to, from, bytes, taken, ignored }))
    }

    fn literal(&self, instruction: &Instruction, at: usize) -> Result<u64, Fault> {
        match self.operand(instruction, at)? {
            Operand::Immediate(value) => Ok(value.bits(Type::U32)),
            other => self.unsupported(format!("{other:?} is no literal")),
        }
    }
}

/// The space that an instruction names, whether as a choice or as a fixed modifier.
fn named_space(instruction: &Instruction) -> Option<&str> {
    instruction.chosen("ss").or_else(|| instruction.has("global").then_some("global"))
}

/// The scope of this name.
pub(super) fn scope(name: &str) -> Scope {
    match name {
        "cta" => Scope::Block,
        "cluster" => Scope::Cluster,
        "gpu" | "gl" => Scope::Device,
        _ => Scope::System,
    }
}
