//! Bulk copies, and stores that complete on an mbarrier.

use super::action::{Action, Address, Bulk, BulkTensor, Place, Register, RemoteStore};
use super::memory::atomic_operation;
use super::operand::place;
use super::{Decoder, text};
use crate::ast::{Instruction, Operand};
use crate::interpreter::fault::Fault;
use crate::types::Type;

impl Decoder<'_> {
    pub(super) fn bulk(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
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
        if instruction.has("tensor") {
            return self.bulk_tensor(instruction);
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
        let ranks = self.ranks(instruction, 4)?;
        let combine = match (instruction.has("reduce"), atomic_operation(instruction)) {
            (true, Some(operation)) => instruction.ty("t").map(|ty| (operation, ty)),
            _ => None,
        };
        Ok(Action::Bulk(Bulk { to, from, bytes, object, ranks, combine }))
    }

    fn bulk_tensor(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        // A load names its destination first, a store its map.
        let loads = !instruction.has("bulk_group");
        let (tensor, shared) = if loads { (1, 0) } else { (0, 1) };
        let space = place(instruction.chosen(if loads { "d" } else { "s" }));
        let Operand::Tensor { base, coordinates } = self.operand(instruction, tensor)?.clone()
        else {
            return self.unsupported(format!("`{}` without a map", text(instruction)));
        };
        let map = self.address(&Operand::Address { base, offset: 0 }, Place::Generic)?;
        let coordinates = coordinates.iter().map(|one| self.source(one, Type::S32));
        let coordinates = coordinates.collect::<Result<_, _>>()?;
        let operand = self.operand(instruction, shared)?.clone();
        let shared = self.address(&operand, space)?;
        let object = match loads {
            true => Some(self.object_address(instruction, 2)?),
            false => None,
        };
        let ranks = self.ranks(instruction, 3)?;
        let combine = atomic_operation(instruction);
        Ok(Action::BulkTensor(BulkTensor { map, coordinates, shared, object, ranks, combine }))
    }

    /// The mask of blocks that a copy goes to.
    fn ranks(&mut self, instruction: &Instruction, at: usize) -> Result<Option<Register>, Fault> {
        if !instruction.has("multicast::cluster") {
            return Ok(None);
        }
        let operand = self.operand(instruction, at)?.clone();
        self.source(&operand, Type::B16).map(Some)
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
