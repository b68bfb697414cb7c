//! Names of a kernel: registers become indices, labels places, variables addresses.

use std::collections::HashMap;

use super::action::{Place, Predicate, Register};
use crate::ast::{Block, Parameter, Statement, Variable};
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

/// The names of a block and those around it.
#[derive(Default)]
struct Scope {
    names: HashMap<String, Meaning>,
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
                    for one in registers {
                        match one.count {
                            None => self.register(&mut scope, one.name.clone(), one.ty),
                            Some(count) => {
                                for number in 0..count {
                                    self.register(
                                        &mut scope,
                                        format!("{}{number}", one.name),
                                        one.ty,
                                    );
                                }
                            }
                        }
                    }
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

    pub fn find(&self, name: &str) -> Option<Meaning> {
        self.scopes.iter().rev().find_map(|scope| scope.names.get(name).copied())
    }

    /// A row that the text does not name.
    pub fn fresh(&mut self) -> Register {
        self.rows += 1;
        self.rows - 1
    }

    fn register(&mut self, scope: &mut Scope, name: String, ty: Type) {
        let meaning = match ty {
            Type::Pred => {
                self.predicates += 1;
                Meaning::Predicate(self.predicates - 1)
            }
            _ => Meaning::Register(self.fresh()),
        };
        scope.names.insert(name, meaning);
    }

    fn variable(&mut self, scope: &mut Scope, variable: &Variable) {
        let (place, end) = match variable.space {
            Space::Shared => (Place::Shared, &mut self.shared),
            Space::Local => (Place::Local, &mut self.local),
            _ => return,
        };
        let start = end.next_multiple_of(u64::from(variable.align.max(1)));
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
