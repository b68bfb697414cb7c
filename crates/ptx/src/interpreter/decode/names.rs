//! Names of a kernel: registers become indices, labels places, variables addresses.
//!
//! A register gets its index when an instruction first names it: `.reg .b32 %r<1000>` costs nothing by itself.

use std::collections::HashMap;

use super::action::{Place, Predicate, Register};
use crate::ast::{Block, Parameter, Registers, Statement, Variable, aligned};
use crate::scope::splits;
use crate::types::{Space, Type};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Meaning {
    Register(Register),
    Predicate(Predicate),
    /// An address within a space.
    Variable(Place, u64),
    /// An index among the labels.
    Label(usize),
    /// An index among the lists of targets.
    Targets(usize),
}

/// The names of a block.
#[derive(Default)]
struct Scope {
    names: HashMap<String, Meaning>,
    /// The types of the registers that are declared one by one.
    single: HashMap<String, Type>,
    /// Ranges `%acc<8>` by what stands before the number: how many, and their type.
    ranges: HashMap<String, (u32, Type)>,
}

impl Scope {
    /// The type of a register that the block declares.
    fn register(&self, name: &str) -> Option<Type> {
        self.single.get(name).copied().or_else(|| {
            splits(name).find_map(|(stem, number)| {
                let &(count, ty) = self.ranges.get(stem)?;
                (number < u64::from(count)).then_some(ty)
            })
        })
    }

    fn declare(&mut self, registers: &Registers) {
        let name = registers.name.clone();
        match registers.count {
            None => drop(self.single.insert(name, registers.ty)),
            Some(count) => drop(self.ranges.insert(name, (count, registers.ty))),
        }
    }
}

/// Names while a kernel is walked, innermost scope last.
pub(super) struct Names {
    scopes: Vec<Scope>,
    pub rows: Register,
    pub predicates: Predicate,
    /// The step that each label stands before.
    pub labels: Vec<Option<usize>>,
    pub targets: Vec<Vec<usize>>,
    /// Bytes of shared and local memory handed out.
    pub shared: u64,
    pub local: u64,
}

impl Names {
    /// The names of the module and of the kernel's parameters.
    pub fn new(
        symbols: &HashMap<String, (Place, u64)>,
        shared: u64,
        parameters: &[(Parameter, u64)],
    ) -> Self {
        let mut outer = Scope::default();
        for (name, &(place, address)) in symbols {
            outer.names.insert(name.clone(), Meaning::Variable(place, address));
        }
        for (parameter, offset) in parameters {
            outer.names.insert(parameter.name.clone(), Meaning::Variable(Place::Param, *offset));
        }
        Self {
            scopes: vec![outer],
            rows: 0,
            predicates: 0,
            labels: Vec::new(),
            targets: Vec::new(),
            shared,
            local: 0,
        }
    }

    /// Opens a block and takes in all that it declares, labels too, which may be used before.
    pub fn enter(&mut self, block: &Block) {
        let mut scope = Scope::default();
        for statement in &block.statements {
            match statement {
                Statement::Registers(registers) => {
                    registers.iter().for_each(|one| scope.declare(one));
                }
                Statement::Variable(variable) => self.variable(&mut scope, variable),
                Statement::Label(label) => {
                    scope.names.insert(label.name.clone(), Meaning::Label(self.labels.len()));
                    self.labels.push(None);
                }
                _ => {}
            }
        }
        self.scopes.push(scope);
        self.lists(block);
    }

    pub fn leave(&mut self) {
        self.scopes.pop();
    }

    /// What a name means here; a register that is named for the first time gets its index.
    pub fn find(&mut self, name: &str) -> Option<Meaning> {
        for at in (0..self.scopes.len()).rev() {
            if let Some(meaning) = self.scopes[at].names.get(name) {
                return Some(*meaning);
            }
            if let Some(ty) = self.scopes[at].register(name) {
                let meaning = self.register(ty);
                self.scopes[at].names.insert(name.to_owned(), meaning);
                return Some(meaning);
            }
        }
        None
    }

    /// A row that the text does not name.
    pub fn fresh(&mut self) -> Register {
        self.rows += 1;
        self.rows - 1
    }

    fn register(&mut self, ty: Type) -> Meaning {
        match ty {
            Type::Pred => {
                self.predicates += 1;
                Meaning::Predicate(self.predicates - 1)
            }
            _ => Meaning::Register(self.fresh()),
        }
    }

    fn variable(&mut self, scope: &mut Scope, variable: &Variable) {
        let (place, end) = match variable.space {
            Space::Shared => (Place::Shared, &mut self.shared),
            Space::Local => (Place::Local, &mut self.local),
            _ => return,
        };
        let start = aligned(*end, variable.align);
        *end = start.saturating_add(variable.size());
        scope.names.insert(variable.name.clone(), Meaning::Variable(place, start));
    }

    /// Lists of targets, whose labels are known by now.
    fn lists(&mut self, block: &Block) {
        for statement in &block.statements {
            let Statement::Targets { name, labels } = statement else { continue };
            let found = labels.iter().filter_map(|label| match self.find(&label.name) {
                Some(Meaning::Label(index)) => Some(index),
                _ => None,
            });
            let found = found.collect();
            let index = self.targets.len();
            self.targets.push(found);
            if let Some(scope) = self.scopes.last_mut() {
                scope.names.insert(name.name.clone(), Meaning::Targets(index));
            }
        }
    }
}
