//! mbarrier.

use super::action::{Action, Arrive, ObjectBarrier, ObjectOperation};
use super::memory::scope;
use super::operand::place;
use super::{Decoder, text};
use crate::ast::{Instruction, Operand};
use crate::interpreter::execute::MOST_ARRIVALS;
use crate::interpreter::fault::Fault;
use crate::interpreter::memory::Scope;
use crate::types::Type;

impl Decoder<'_> {
    pub(super) fn object_barrier(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        if instruction.has("pending_count") {
            return self.pending_count(instruction);
        }
        let arrives = matches!(instruction.chosen("op"), Some("arrive" | "arrive_drop"));
        let waits = instruction.has("test_wait") || instruction.has("try_wait");
        let operand = self.operand(instruction, usize::from(waits || arrives))?.clone();
        let address = self.address(&operand, place(instruction.chosen("ss")))?;
        let operation = match instruction.chosen("op") {
            Some("arrive" | "arrive_drop") => ObjectOperation::Arrive(self.arrival(instruction)?),
            Some(op @ ("expect_tx" | "complete_tx")) => ObjectOperation::Bytes {
                count: self.word(instruction, 1)?,
                complete: op == "complete_tx",
            },
            _ if instruction.has("init") => {
                ObjectOperation::Init { count: self.word(instruction, 1)? }
            }
            _ if instruction.has("inval") => ObjectOperation::Invalidate,
            _ if waits => self.wait(instruction)?,
            _ => return self.unsupported(format!("`{}` is not executed yet", text(instruction))),
        };
        Ok(Action::ObjectBarrier(ObjectBarrier { address, operation }))
    }

    /// The low bits of a state.
    fn pending_count(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        let operand = self.operand(instruction, 1)?.clone();
        let source = self.source(&operand, Type::B64)?;
        let to = self.register(self.operand(instruction, 0)?)?;
        let bits = MOST_ARRIVALS.count_ones();
        Ok(Action::Unpack { source, bits, to: vec![Some(to)] })
    }

    fn arrival(&mut self, instruction: &Instruction) -> Result<Arrive, Fault> {
        let number = match instruction.operands.len() > 2 {
            true => Some(self.word(instruction, 2)?),
            false => None,
        };
        let expects = instruction.has("expect_tx");
        Ok(Arrive {
            count: number.filter(|_| !expects),
            bytes: number.filter(|_| expects),
            drop: instruction.chosen("op") == Some("arrive_drop"),
            open: instruction.has("noComplete"),
            release: ordered_in(instruction),
            to: self.destination(self.operand(instruction, 0)?)?.map(|(to, _)| to),
        })
    }

    fn wait(&mut self, instruction: &Instruction) -> Result<ObjectOperation, Fault> {
        let parity = instruction.has("parity");
        let operand = self.operand(instruction, 2)?.clone();
        let state = self.source(&operand, if parity { Type::U32 } else { Type::B64 })?;
        let Operand::Register { name, .. } = self.operand(instruction, 0)? else {
            return self.unsupported("a wait into the sink");
        };
        let to = self.predicate_named(name)?;
        Ok(ObjectOperation::Test { state, parity, acquire: ordered_in(instruction), to })
    }
}

/// The scope of a release or acquire: both are the default, in the block.
fn ordered_in(instruction: &Instruction) -> Option<Scope> {
    let cluster = instruction.has("cluster") || instruction.chosen("scope") == Some("cluster");
    let scope = if cluster { scope("cluster") } else { scope("cta") };
    (!instruction.has("relaxed")).then_some(scope)
}
