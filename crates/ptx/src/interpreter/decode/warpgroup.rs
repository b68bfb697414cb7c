//! wgmma and setmaxnreg.

use super::action::{Action, Factor, Multiply, Warpgroup};
use super::{Decoder, text};
use crate::ast::{Immediate, Instruction, Operand};
use crate::interpreter::fault::Fault;
use crate::interpreter::tensor::product::Product;
use crate::table::Opcode;
use crate::types::Type;

impl Decoder<'_> {
    pub(super) fn warpgroup(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        Ok(Action::Warpgroup(if instruction.opcode == Opcode::Setmaxnreg {
            Warpgroup::Registers
        } else if instruction.has("fence") {
            Warpgroup::Fence
        } else if instruction.has("commit_group") {
            Warpgroup::Commit
        } else if instruction.has("wait_group") {
            Warpgroup::Wait(self.literal(instruction, 0)?)
        } else {
            Warpgroup::Multiply(Box::new(self.multiply(instruction)?))
        }))
    }

    /// Behind D, A, B and the predicate come the signs of A and B, then, for each factor in memory, whether it
    /// is transposed; integers have neither.
    fn multiply(&mut self, instruction: &Instruction) -> Result<Multiply, Fault> {
        let Some(product) = Product::of_warpgroup(instruction) else {
            return self.unsupported(format!("`{}` is not executed yet", text(instruction)));
        };
        let to = self.registers(instruction, 0)?;
        let keep = self.condition(self.operand(instruction, 3)?)?;
        let negated = self.flag(instruction, 4, -1) != self.flag(instruction, 5, -1);
        let in_registers = matches!(self.operand(instruction, 1)?, Operand::Vector(_));
        let (left, transposed) = match in_registers {
            true => (Factor::Registers(self.words(instruction, 1, Type::B32)?), 6),
            false => (self.described(instruction, 1, self.flag(instruction, 6, 1))?, 7),
        };
        let right = self.described(instruction, 2, self.flag(instruction, transposed, 1))?;
        Ok(Multiply { product, to, left, right, keep, negated })
    }

    fn described(
        &mut self,
        instruction: &Instruction,
        at: usize,
        mn_major: bool,
    ) -> Result<Factor, Fault> {
        let operand = self.operand(instruction, at)?.clone();
        Ok(Factor::Memory { descriptor: self.source(&operand, Type::B64)?, mn_major })
    }

    /// Whether the literal at this place, if there is one, has this value.
    fn flag(&self, instruction: &Instruction, at: usize, value: i32) -> bool {
        let operand = instruction.operands.get(at).map(|placed| &placed.operand);
        let bits = u64::from(value.cast_unsigned());
        matches!(operand, Some(Operand::Immediate(literal @ Immediate::Integer(_)))
            if literal.bits(Type::S32) == bits)
    }
}
