//! Operands: registers, literals, special registers, addresses.

use super::action::{Address, Condition, Place, Predicate, Register};
use super::names::Meaning;
use super::{Decoder, Special, text};
use crate::ast::{Base, Immediate, Instruction, Operand};
use crate::interpreter::fault::Fault;
use crate::types::{Space, Type};

impl Decoder<'_> {
    pub(super) fn guard(&mut self, instruction: &Instruction) -> Result<Option<Condition>, Fault> {
        let Some(guard) = &instruction.guard else { return Ok(None) };
        let register = self.predicate_named(&guard.register)?;
        Ok(Some(Condition::Register { register, negated: guard.negated }))
    }

    pub(super) fn operand<'i>(
        &self,
        instruction: &'i Instruction,
        at: usize,
    ) -> Result<&'i Operand, Fault> {
        match instruction.operands.get(at) {
            Some(placed) => Ok(&placed.operand),
            None => self.unsupported(format!("`{}` has no operand {}", text(instruction), at + 1)),
        }
    }

    pub(super) fn register_named(&mut self, name: &str) -> Result<Register, Fault> {
        match self.names.find(name) {
            Some(Meaning::Register(register)) => Ok(register),
            _ => self.unsupported(format!("`{name}` is no register")),
        }
    }

    pub(super) fn predicate_named(&mut self, name: &str) -> Result<Predicate, Fault> {
        match self.names.find(name) {
            Some(Meaning::Predicate(predicate)) => Ok(predicate),
            _ => self.unsupported(format!("`{name}` is no predicate")),
        }
    }

    /// A source as a row; a literal has the bits that `ty` gives it.
    pub(super) fn source(&mut self, operand: &Operand, ty: Type) -> Result<Register, Fault> {
        match operand {
            Operand::Register { ty: Type::B128, .. } => {
                self.unsupported("128-bit registers are not executed: use two of 64 bits")
            }
            Operand::Register { name, .. } => self.register_named(name),
            Operand::Immediate(value) => Ok(self.constant(value.bits(ty))),
            Operand::Special(name) => self.special_named(name),
            Operand::Symbol { name, offset, .. } => {
                let (_, address) = self.variable(name)?;
                Ok(self.constant(address.wrapping_add_signed(*offset)))
            }
            other => self.unsupported(format!("{other:?} is no source of this instruction")),
        }
    }

    /// A destination; `None` is the sink.
    pub(super) fn destination(
        &mut self,
        operand: &Operand,
    ) -> Result<Option<(Register, Type)>, Fault> {
        match operand {
            Operand::Register { ty: Type::B128, .. } => {
                self.unsupported("128-bit registers are not executed: use two of 64 bits")
            }
            Operand::Register { name, ty } => Ok(Some((self.register_named(name)?, *ty))),
            Operand::Sink => Ok(None),
            other => self.unsupported(format!("{other:?} is no destination of this instruction")),
        }
    }

    /// A destination that cannot be the sink.
    pub(super) fn register(&mut self, operand: &Operand) -> Result<Register, Fault> {
        match self.destination(operand)? {
            Some((register, _)) => Ok(register),
            None => self.unsupported("the sink `_` cannot stand here"),
        }
    }

    /// A predicate as a destination; `None` is the sink.
    pub(super) fn predicate(&mut self, operand: &Operand) -> Result<Option<Predicate>, Fault> {
        match operand {
            Operand::Register { name, .. } => Ok(Some(self.predicate_named(name)?)),
            Operand::Sink => Ok(None),
            other => self.unsupported(format!("{other:?} is no predicate to write")),
        }
    }

    /// A predicate as a source.
    pub(super) fn condition(&mut self, operand: &Operand) -> Result<Condition, Fault> {
        match operand {
            Operand::Register { name, .. } => {
                Ok(Condition::Register { register: self.predicate_named(name)?, negated: false })
            }
            Operand::Negated(name) => {
                Ok(Condition::Register { register: self.predicate_named(name)?, negated: true })
            }
            Operand::Immediate(Immediate::Integer(value)) => Ok(Condition::Constant(*value != 0)),
            other => self.unsupported(format!("{other:?} is no predicate")),
        }
    }

    /// `a` or `{a, b}` as a list.
    pub(super) fn elements(operand: &Operand) -> &[Operand] {
        match operand {
            Operand::Vector(elements) => elements,
            single => std::slice::from_ref(single),
        }
    }

    /// Both parts of `d|p`; the second is missing for a plain operand.
    pub(super) fn pair(operand: &Operand) -> (&Operand, Option<&Operand>) {
        match operand {
            Operand::Pair(first, second) => (first, Some(second)),
            single => (single, None),
        }
    }

    pub(super) fn address(&mut self, operand: &Operand, place: Place) -> Result<Address, Fault> {
        let Operand::Address { base, offset } = operand else {
            return self.unsupported(format!("{operand:?} is no address"));
        };
        match base {
            Base::Register(name) => {
                Ok(Address { place, base: self.register_named(name)?, offset: *offset })
            }
            Base::Symbol(name) => {
                let (_, start) = self.variable(name)?;
                let base = self.constant(start.wrapping_add_signed(*offset));
                Ok(Address { place, base, offset: 0 })
            }
            Base::Zero => {
                let base = self.constant(u64::from_ne_bytes(offset.to_ne_bytes()));
                Ok(Address { place, base, offset: 0 })
            }
        }
    }

    fn variable(&mut self, name: &str) -> Result<(Place, u64), Fault> {
        match self.names.find(name) {
            Some(Meaning::Variable(place, address)) => Ok((place, address)),
            _ => self.unsupported(format!("`{name}` is no variable")),
        }
    }

    fn special_named(&mut self, name: &str) -> Result<Register, Fault> {
        let (stem, axis) = match name.rsplit_once('.') {
            Some((stem, "x")) => (stem, 0),
            Some((stem, "y")) => (stem, 1),
            Some((stem, "z")) => (stem, 2),
            _ => (name, 0),
        };
        let special = match stem {
            "%tid" => Special::Thread(axis),
            "%ntid" => Special::Threads(axis),
            "%ctaid" => Special::Block(axis),
            "%nctaid" => Special::Blocks(axis),
            "%clusterid" => Special::Cluster(axis),
            "%nclusterid" => Special::Clusters(axis),
            "%cluster_ctaid" => Special::BlockInCluster(axis),
            "%cluster_nctaid" => Special::BlocksInCluster(axis),
            "%cluster_ctarank" => Special::RankInCluster,
            "%cluster_nctarank" => Special::SizeOfCluster,
            "%laneid" => Special::Lane,
            "%warpid" => Special::Warp,
            "%nwarpid" => Special::Warps,
            "%lanemask_eq" => Special::MaskEqual,
            "%lanemask_lt" => Special::MaskLess,
            "%lanemask_le" => Special::MaskLessOrEqual,
            "%lanemask_gt" => Special::MaskGreater,
            "%lanemask_ge" => Special::MaskGreaterOrEqual,
            "%smid" => Special::Multiprocessor,
            "%nsmid" => Special::Multiprocessors,
            "%gridid" => Special::Grid,
            "%dynamic_smem_size" => Special::DynamicShared,
            "%total_smem_size" => Special::TotalShared,
            _ => return self.unsupported(format!("the special register `{name}` is not executed")),
        };
        Ok(self.special(special))
    }
}

/// The place of a space as the text names it: `shared::cluster` is another than `shared`.
pub(super) fn place(modifier: Option<&str>) -> Place {
    match modifier {
        None => Place::Generic,
        Some("shared::cluster") => Place::Cluster,
        Some(name) => match Space::from_name(name) {
            Some(Space::Global) => Place::Global,
            Some(Space::Shared) => Place::Shared,
            Some(Space::Local) => Place::Local,
            Some(Space::Const) => Place::Const,
            Some(Space::Param) => Place::Param,
            Some(Space::Generic) | None => Place::Generic,
        },
    }
}
