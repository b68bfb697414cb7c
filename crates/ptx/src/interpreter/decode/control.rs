//! Branches and ends.

use super::action::Action;
use super::names::Meaning;
use super::{Decoder, text};
use crate::ast::{Instruction, Operand};
use crate::interpreter::fault::Fault;
use crate::table::Opcode;
use crate::types::Type;

impl Decoder<'_> {
    pub(super) fn control(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        let uniform = instruction.has("uni");
        match instruction.opcode {
            Opcode::Bra => {
                let Meaning::Label(target) = self.label(instruction, 0)? else {
                    return self.unsupported("a branch needs a label");
                };
                Ok(Action::Branch { target, uniform })
            }
            Opcode::Brx => {
                let operand = self.operand(instruction, 0)?.clone();
                let index = self.source(&operand, Type::U32)?;
                let Meaning::Targets(list) = self.label(instruction, 1)? else {
                    return self.unsupported("brx.idx needs a list of targets");
                };
                let targets = self.names.targets.get(list).cloned().unwrap_or_default();
                Ok(Action::BranchIndexed { index, targets, uniform })
            }
            Opcode::Trap => Ok(Action::Trap("the kernel executed `trap`")),
            Opcode::Brkpt => Ok(Action::Trap("the kernel executed `brkpt`")),
            _ => Ok(Action::Exit),
        }
    }

    fn label(&mut self, instruction: &Instruction, at: usize) -> Result<Meaning, Fault> {
        match self.operand(instruction, at)? {
            Operand::Label(name) => match self.names.find(name) {
                Some(meaning) => Ok(meaning),
                None => self.unsupported(format!("`{name}` is no label")),
            },
            other => self.unsupported(format!("{other:?} is no target of `{}`", text(instruction))),
        }
    }
}
