//! Moves, arithmetic, comparisons, and logic on predicates.

use super::action::{Action, Compute, Logic, Register, Test, Window};
use super::operand::place;
use super::{Decoder, text, wider};
use crate::ast::{Instruction, Operand};
use crate::interpreter::arithmetic::{self, Rule};
use crate::interpreter::fault::Fault;
use crate::table::{Opcode, OperandRule, Shape, TypeRule};
use crate::types::Type;

impl Decoder<'_> {
    pub(super) fn action(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        match instruction.opcode {
            Opcode::Mov => self.mov(instruction),
            Opcode::Cvta | Opcode::Isspacep | Opcode::Mapa | Opcode::Getctarank => {
                self.window(instruction)
            }
            Opcode::Selp => self.select(instruction),
            Opcode::Setp | Opcode::Testp => self.test(instruction),
            Opcode::And | Opcode::Or | Opcode::Xor | Opcode::Not
                if instruction.ty("t") == Some(Type::Pred) =>
            {
                self.logic(instruction)
            }
            Opcode::Ld | Opcode::St | Opcode::Atom | Opcode::Red | Opcode::Cp => {
                self.memory(instruction)
            }
            Opcode::Prefetch
            | Opcode::Prefetchu
            | Opcode::Applypriority
            | Opcode::Createpolicy
            | Opcode::Pmevent
            | Opcode::Nanosleep
            | Opcode::Griddepcontrol => self.hint(instruction),
            Opcode::Bra
            | Opcode::Brx
            | Opcode::Ret
            | Opcode::Exit
            | Opcode::Trap
            | Opcode::Brkpt => self.control(instruction),
            Opcode::Shfl
            | Opcode::Vote
            | Opcode::Match
            | Opcode::Redux
            | Opcode::Activemask
            | Opcode::Elect
            | Opcode::Bar
            | Opcode::Barrier
            | Opcode::Fence
            | Opcode::Membar
            | Opcode::Mbarrier
            | Opcode::Ldmatrix
            | Opcode::Stmatrix
            | Opcode::Movmatrix
            | Opcode::Mma => self.warp(instruction),
            Opcode::Wgmma | Opcode::Setmaxnreg => self.warpgroup(instruction),
            _ => self.compute(instruction),
        }
    }

    /// A policy is a number that nothing but hints reads.
    fn hint(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        match instruction.opcode {
            Opcode::Createpolicy => {
                let zero = self.constant(0);
                let to = self.register(self.operand(instruction, 0)?)?;
                Ok(Action::Pack { sources: vec![zero], bits: 64, to })
            }
            _ => Ok(Action::Nothing),
        }
    }

    fn mov(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        let Some(ty) = instruction.ty("t") else {
            return self.unsupported("mov without a type");
        };
        let (to, from) =
            (self.operand(instruction, 0)?.clone(), self.operand(instruction, 1)?.clone());
        if ty == Type::Pred {
            let Some(to) = self.predicate(&to)? else { return Ok(Action::Nothing) };
            let source = self.condition(&from)?;
            return Ok(Action::Logic { operation: Logic::Move, sources: [source; 2], to });
        }
        let bits = |parts: usize| 8 * ty.bytes() / parts.max(1) as u32;
        match (&to, &from) {
            (_, Operand::Vector(parts)) => {
                let sources =
                    parts.iter().map(|part| self.source(part, ty)).collect::<Result<_, _>>()?;
                Ok(Action::Pack { sources, bits: bits(parts.len()), to: self.register(&to)? })
            }
            (Operand::Vector(parts), _) => {
                let source = self.source(&from, ty)?;
                let to = parts.iter().map(|part| Ok(self.destination(part)?.map(|(to, _)| to)));
                Ok(Action::Unpack {
                    source,
                    bits: bits(parts.len()),
                    to: to.collect::<Result<_, Fault>>()?,
                })
            }
            (_, Operand::Special(name))
                if name.starts_with("%clock") || name.starts_with("%globaltimer") =>
            {
                let shift = if name.ends_with("_hi") { 32 } else { 0 };
                Ok(Action::Clock { to: self.register(&to)?, bits: 8 * ty.bytes(), shift })
            }
            _ => {
                let source = self.source(&from, ty)?;
                Ok(Action::Pack {
                    sources: vec![source],
                    bits: 8 * ty.bytes(),
                    to: self.register(&to)?,
                })
            }
        }
    }

    fn window(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        let spaced = place(instruction.chosen("ss"));
        let to = self.operand(instruction, 0)?.clone();
        let from = self.operand(instruction, 1)?.clone();
        let source = self.source(&from, instruction.ty("t").unwrap_or(Type::U64))?;
        let generic = instruction.chosen("ss").is_none();
        Ok(Action::Window(match instruction.opcode {
            Opcode::Isspacep => match self.predicate(&to)? {
                Some(to) => Window::Inside { place: spaced, source, to },
                None => return Ok(Action::Nothing),
            },
            Opcode::Mapa => {
                let rank = self.operand(instruction, 2)?.clone();
                let rank = self.source(&rank, Type::U32)?;
                Window::Map { source, rank, to: self.register(&to)?, generic }
            }
            Opcode::Getctarank => Window::Rank { source, to: self.register(&to)?, generic },
            _ if instruction.has("to") => {
                Window::FromGeneric { place: spaced, source, to: self.register(&to)? }
            }
            _ => Window::ToGeneric { place: spaced, source, to: self.register(&to)? },
        }))
    }

    fn select(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        let ty = instruction.ty("t").unwrap_or(Type::B32);
        let to = self.register(self.operand(instruction, 0)?)?;
        let (a, b) = (self.operand(instruction, 1)?.clone(), self.operand(instruction, 2)?.clone());
        let sources = [self.source(&a, ty)?, self.source(&b, ty)?];
        let condition = self.condition(self.operand(instruction, 3)?)?;
        Ok(Action::Select { sources, condition, to })
    }

    fn logic(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        let Some(to) = self.predicate(self.operand(instruction, 0)?)? else {
            return Ok(Action::Nothing);
        };
        let first = self.condition(self.operand(instruction, 1)?)?;
        let (operation, second) = match instruction.opcode {
            Opcode::Not => (Logic::Not, first),
            other => {
                let second = self.condition(self.operand(instruction, 2)?)?;
                let operation = match other {
                    Opcode::And => Logic::And,
                    Opcode::Or => Logic::Or,
                    _ => Logic::Xor,
                };
                (operation, second)
            }
        };
        Ok(Action::Logic { operation, sources: [first, second], to })
    }

    fn test(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        let Some(Rule::Test(rule)) = arithmetic::rule(instruction) else {
            return self.unsupported(format!("`{}` is not executed", text(instruction)));
        };
        let (first, second) = {
            let (first, second) = Self::pair(self.operand(instruction, 0)?);
            let first = self.predicate(first)?;
            (first, second.map(|second| self.predicate(second)).transpose()?.flatten())
        };
        let combine = match logic_modifier(instruction) {
            Some(logic) => {
                let last = instruction.operands.len().saturating_sub(1);
                Some((logic, self.condition(self.operand(instruction, last)?)?))
            }
            None => None,
        };
        let count = instruction.operands.len() - 1 - usize::from(combine.is_some());
        let (sources, used) = self.sources(instruction, count)?;
        Ok(Action::Test(Test { rule, sources, used, combine, to: [first, second] }))
    }

    fn compute(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        let Some(rule) = arithmetic::rule(instruction) else {
            return self.unsupported(format!("`{}` is not executed", text(instruction)));
        };
        let mut count = instruction.operands.len().saturating_sub(1);
        let (first, second) = Self::pair(self.operand(instruction, 0)?);
        let (to, pair) =
            (self.destination(first)?, second.map(|second| self.predicate(second)).transpose()?);
        let combine = match logic_modifier(instruction) {
            Some(logic) => {
                count -= 1;
                let last = instruction.operands.len() - 1;
                Some((logic, self.condition(self.operand(instruction, last)?)?))
            }
            None => None,
        };
        let reads = matches!(instruction.opcode, Opcode::Addc | Opcode::Subc | Opcode::Madc);
        let (sources, used) = self.sources(instruction, count)?;
        let result = self.operand_type(instruction, 0);
        let extend = match (to, result) {
            (Some((_, register)), Some(ty)) => wider(ty, register),
            _ => None,
        };
        Ok(Action::Compute(Compute {
            rule,
            truth: arithmetic::truth(instruction).unwrap_or_default(),
            carries: [reads, instruction.has("cc")],
            combine,
            forbidden: arithmetic::forbidden(instruction),
            sources,
            used,
            to: to.map(|(to, _)| to),
            extend,
            // Only lop3 has a pair here.
            nonzero: pair.flatten(),
        }))
    }

    /// The `count` operands behind the first as rows.
    fn sources(
        &mut self,
        instruction: &Instruction,
        count: usize,
    ) -> Result<([Register; 4], usize), Fault> {
        let zero = self.constant(0);
        let mut sources = [zero; 4];
        for (index, source) in sources.iter_mut().enumerate().take(count) {
            let ty = self.operand_type(instruction, index + 1).unwrap_or(Type::B32);
            let operand = self.operand(instruction, index + 1)?.clone();
            *source = match operand {
                Operand::Vector(_) | Operand::Label(_) => {
                    return self.unsupported(format!("`{}` is not executed", text(instruction)));
                }
                _ => self.source(&operand, ty)?,
            };
        }
        Ok((sources, count.min(4)))
    }

    /// The type that an operand has by the form of the instruction.
    pub(super) fn operand_type(&self, instruction: &Instruction, at: usize) -> Option<Type> {
        let rule: &OperandRule = instruction.rule(at)?;
        let (Shape::Value { ty, .. } | Shape::MoveSource(ty)) = rule.shape else { return None };
        let chosen = |choice: usize| {
            let name = &instruction.form()?.choices.get(choice)?.name;
            instruction.ty(name)
        };
        match ty {
            TypeRule::Fixed(ty) => Some(ty),
            TypeRule::Chosen(choice) => chosen(choice),
            TypeRule::Widened(choice) => chosen(choice)?.widened(),
        }
    }
}

/// The `.and`, `.or` or `.xor` that combines a comparison with a predicate.
fn logic_modifier(instruction: &Instruction) -> Option<Logic> {
    match instruction.chosen("bool")? {
        "and" => Some(Logic::And),
        "or" => Some(Logic::Or),
        _ => Some(Logic::Xor),
    }
}
