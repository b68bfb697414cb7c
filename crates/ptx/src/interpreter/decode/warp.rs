//! What a warp or a block does together: exchanges, barriers, fences, matrices.

use super::action::{Action, Barrier, BarrierKind, ClusterBarrier, Predicate, Register};
use super::memory::scope;
use super::operand::place;
use super::{Decoder, text};
use crate::ast::Instruction;
use crate::interpreter::exchange::shuffle::Shuffle;
use crate::interpreter::exchange::{Reduction, Vote};
use crate::interpreter::fault::Fault;
use crate::interpreter::memory::Scope;
use crate::interpreter::tensor::product::Product;
use crate::table::Opcode;
use crate::types::Type;

impl Decoder<'_> {
    pub(super) fn warp(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        match instruction.opcode {
            Opcode::Shfl => self.shuffle(instruction),
            Opcode::Vote => self.vote(instruction),
            Opcode::Match => self.matching(instruction),
            Opcode::Redux => self.reduce(instruction),
            Opcode::Activemask => {
                Ok(Action::ActiveMask { to: self.register(self.operand(instruction, 0)?)? })
            }
            Opcode::Elect => self.elect(instruction),
            Opcode::Bar if instruction.has("warp") => {
                Ok(Action::WarpBarrier { members: self.word(instruction, 0)? })
            }
            Opcode::Barrier if instruction.has("cluster") => {
                let aligned = instruction.has("aligned");
                Ok(Action::ClusterBarrier(match instruction.has("wait") {
                    true => ClusterBarrier::Wait { aligned },
                    false => {
                        let release = instruction.chosen("sem") != Some("relaxed");
                        ClusterBarrier::Arrive { release, aligned }
                    }
                }))
            }
            Opcode::Bar | Opcode::Barrier => self.barrier(instruction),
            Opcode::Fence if instruction.has("async") => Ok(match instruction.chosen("ss") {
                Some("global") => Action::Nothing,
                _ => Action::ProxyFence,
            }),
            Opcode::Fence if instruction.has("mbarrier_init") => {
                Ok(Action::Fence { scope: Scope::Cluster })
            }
            Opcode::Fence if instruction.chosen("scope").is_some() && !instruction.has("proxy") => {
                Ok(Action::Fence {
                    scope: instruction.chosen("scope").map_or(Scope::System, scope),
                })
            }
            Opcode::Membar => Ok(Action::Fence {
                scope: instruction.chosen("scope").map_or(Scope::System, scope),
            }),
            Opcode::Mbarrier => self.object_barrier(instruction),
            Opcode::Ldmatrix => {
                let operand = self.operand(instruction, 1)?.clone();
                let address = self.address(&operand, matrix_place(instruction))?;
                let to = self.registers(instruction, 0)?;
                Ok(Action::MatrixLoad { address, transposed: instruction.has("trans"), to })
            }
            Opcode::Stmatrix => {
                let operand = self.operand(instruction, 0)?.clone();
                let address = self.address(&operand, matrix_place(instruction))?;
                let sources = self.words(instruction, 1, Type::B32)?;
                Ok(Action::MatrixStore { address, transposed: instruction.has("trans"), sources })
            }
            Opcode::Movmatrix => Ok(Action::MatrixTranspose {
                source: self.word(instruction, 1)?,
                to: self.register(self.operand(instruction, 0)?)?,
            }),
            Opcode::Mma => self.product(instruction),
            _ => self.unsupported(format!("`{}` is not executed yet", text(instruction))),
        }
    }

    pub(super) fn word(&mut self, instruction: &Instruction, at: usize) -> Result<Register, Fault> {
        let operand = self.operand(instruction, at)?.clone();
        self.source(&operand, Type::U32)
    }

    pub(super) fn words(
        &mut self,
        instruction: &Instruction,
        at: usize,
        ty: Type,
    ) -> Result<Vec<Register>, Fault> {
        let operand = self.operand(instruction, at)?.clone();
        Self::elements(&operand).iter().map(|one| self.source(one, ty)).collect()
    }

    pub(super) fn registers(
        &mut self,
        instruction: &Instruction,
        at: usize,
    ) -> Result<Vec<Register>, Fault> {
        Self::elements(self.operand(instruction, at)?)
            .iter()
            .map(|one| self.register(one))
            .collect()
    }

    /// The predicate behind `|`.
    fn second(&mut self, instruction: &Instruction) -> Result<Option<Predicate>, Fault> {
        match Self::pair(self.operand(instruction, 0)?).1 {
            Some(second) => self.predicate(second),
            None => Ok(None),
        }
    }

    fn shuffle(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        let Some(mode) = Shuffle::of(instruction) else {
            return self.unsupported("a shuffle without a mode");
        };
        let (to, found) = (
            self.register(Self::pair(self.operand(instruction, 0)?).0)?,
            self.second(instruction)?,
        );
        let mut sources = [0; 4];
        for (at, source) in sources.iter_mut().enumerate() {
            *source = self.word(instruction, at + 1)?;
        }
        Ok(Action::Shuffle { mode, sources, to, found })
    }

    fn vote(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        let condition = self.condition(self.operand(instruction, 1)?)?;
        let members = self.word(instruction, 2)?;
        let first = self.operand(instruction, 0)?;
        match Vote::of(instruction) {
            None => Ok(Action::Ballot { condition, members, to: self.register(first)? }),
            Some(question) => match self.predicate(first)? {
                Some(to) => Ok(Action::Vote { question, condition, members, to }),
                None => self.unsupported("a vote into the sink"),
            },
        }
    }

    fn matching(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        let ty = instruction.ty("t").unwrap_or(Type::B32);
        let to = self.destination(Self::pair(self.operand(instruction, 0)?).0)?.map(|(to, _)| to);
        let found = self.second(instruction)?;
        let operand = self.operand(instruction, 1)?.clone();
        let source = self.source(&operand, ty)?;
        let members = self.word(instruction, 2)?;
        Ok(Action::Match {
            all: instruction.chosen("mode") == Some("all"),
            source,
            members,
            to,
            found,
        })
    }

    fn reduce(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        let Some(operation) = Reduction::of(instruction) else {
            return self.unsupported(format!("`{}` is not executed", text(instruction)));
        };
        let to = self.register(self.operand(instruction, 0)?)?;
        let source = self.word(instruction, 1)?;
        Ok(Action::Reduce { operation, source, members: self.word(instruction, 2)?, to })
    }

    fn elect(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        let to = self.destination(Self::pair(self.operand(instruction, 0)?).0)?.map(|(to, _)| to);
        let Some(leader) = self.second(instruction)? else { return Ok(Action::Nothing) };
        Ok(Action::Elect { members: self.word(instruction, 1)?, to, leader })
    }

    fn barrier(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        // `bar` is `barrier.aligned`.
        let aligned = instruction.opcode == Opcode::Bar || instruction.has("aligned");
        let reduces = instruction.has("red");
        let first = usize::from(reduces);
        let id = self.word(instruction, first)?;
        let most = instruction.operands.len() - usize::from(reduces);
        let threads = match first + 1 < most {
            true => Some(self.word(instruction, first + 1)?),
            false => None,
        };
        let kind = match reduces {
            false if instruction.has("arrive") => BarrierKind::Arrive,
            false => BarrierKind::Sync,
            true => {
                let condition = self.condition(self.operand(instruction, most)?)?;
                let to = self.operand(instruction, 0)?;
                match instruction.chosen("op") {
                    Some("popc") => BarrierKind::Count { condition, to: self.register(to)? },
                    other => {
                        let Some(to) = self.predicate(to)? else {
                            return self.unsupported("bar.red into the sink");
                        };
                        match other {
                            Some("and") => BarrierKind::All { condition, to },
                            _ => BarrierKind::Any { condition, to },
                        }
                    }
                }
            }
        };
        Ok(Action::Barrier(Barrier { id, threads, aligned, kind }))
    }

    fn product(&mut self, instruction: &Instruction) -> Result<Action, Fault> {
        let Some(product) = Product::of(instruction) else {
            return self.unsupported(format!("`{}` is not executed yet", text(instruction)));
        };
        let accumulator = instruction.ty("c").unwrap_or(Type::F32);
        Ok(Action::Product {
            product: Box::new(product),
            to: self.registers(instruction, 0)?,
            a: self.words(instruction, 1, Type::B32)?,
            b: self.words(instruction, 2, Type::B32)?,
            c: self.words(instruction, 3, accumulator)?,
        })
    }
}

/// Matrices lie in shared memory, by an address of that space or a generic one.
fn matrix_place(instruction: &Instruction) -> super::action::Place {
    place(instruction.chosen("ss"))
}
