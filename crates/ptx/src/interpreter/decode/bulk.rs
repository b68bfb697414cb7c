//! Bulk copies, and stores that complete on an mbarrier.

use super::action::{Action, Address, Bulk, Place, RemoteStore};
use super::memory::atomic_operation;
use super::operand::place;
use super::{Decoder, text};
use crate::ast::Instruction;
use crate::interpreter::fault::Fault;
use crate::types::Type;

impl Decoder<'_> {
    pub(super) fn bulk(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        if instruction.has("tensor") {
            return self.unsupported(format!("`{}` is not executed yet", text(instruction)));
        }
        if instruction.has("commit_group") {
            return Ok(Action::BulkCommit);
        }
        if instruction.has("wait_group") {
            let pending = self.literal(instruction, 0)?;
            return Ok(Action::BulkWait { pending, read: instruction.has("read") });
        }
        if instruction.has("prefetch") {
            return Ok(Action::Nothing);
        }
        let (to, from) =
            (self.operand(instruction, 0)?.clone(), self.operand(instruction, 1)?.clone());
        let to = self.address(&to, place(instruction.chosen("d")))?;
        let from = self.address(&from, place(instruction.chosen("s")))?;
        let bytes = self.word(instruction, 2)?;
        let object = match instruction.has("bulk_group") {
            true => None,
            false => Some(self.object_address(instruction, 3)?),
        };
        let ranks = match instruction.has("multicast::cluster") {
            true => {
                let operand = self.operand(instruction, 4)?.clone();
                Some(self.source(&operand, Type::B16)?)
            }
            false => None,
        };
        let combine = match (instruction.has("reduce"), atomic_operation(instruction)) {
            (true, Some(operation)) => instruction.ty("t").map(|ty| (operation, ty)),
            _ => None,
        };
        Ok(Action::Bulk(Bulk { to, from, bytes, object, ranks, combine }))
    }

    /// st.async and red.async
    pub(super) fn remote_store(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        let ty = instruction.ty("t").unwrap_or(Type::B32);
        let to = self.operand(instruction, 0)?.clone();
        let to = self.address(&to, Place::Cluster)?;
        let sources = self.words(instruction, 1, ty)?;
        let object = self.object_address(instruction, 2)?;
        let combine = atomic_operation(instruction);
        Ok(Action::RemoteStore(RemoteStore { to, object, ty, sources, combine }))
    }

    fn object_address(&mut self, instruction: &Instruction, at: usize) -> Result<Address, Fault> {
        let operand = self.operand(instruction, at)?.clone();
        self.address(&operand, Place::Cluster)
    }
}
