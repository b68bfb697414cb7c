//! Decoding: a kernel's text becomes a list of steps, once.
//!
//! Registers are indices of rows, with the constants and special registers of the kernel as further rows, so
//! that a step never asks what kind of operand it has. Labels are indices of steps.

use std::collections::HashMap;

use crate::ast::{Block, Entry, Parameter, Statement, aligned};
use crate::types::Type;

pub(crate) mod action;
mod arithmetic;
mod bulk;
mod control;
mod memory;
mod names;
mod object;
mod operand;
mod warp;
mod warpgroup;

use action::{Action, Place, Register, Step};
use names::Names;

use super::counters::{Counters, Launch};
use super::fault::{Fault, FaultKind};

/// A kernel, ready to be launched.
pub(crate) struct Code {
    pub name: String,
    pub steps: Vec<Step>,
    /// The counters of a launch in which nothing has happened yet: a line for each step but the last.
    pub blank: Counters,
    pub rows: usize,
    pub predicates: usize,
    /// Rows that hold a literal or an address.
    pub constants: Vec<(Register, u64)>,
    /// Rows that hold what a thread is told about itself.
    pub specials: Vec<(Register, Special)>,
    pub parameters: Vec<(Parameter, u64)>,
    pub parameter_bytes: u64,
    /// Bytes of the shared variables; dynamic shared memory begins there.
    pub static_shared: u64,
    pub local_bytes: u64,
    pub shape: Shape,
    /// Whether anything in it accesses shared memory through the asynchronous proxy.
    pub asynchronous: bool,
}

/// What the kernel says of the launches that it takes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    pub required: Option<[u32; 3]>,
    pub most: Option<[u32; 3]>,
    pub cluster: Option<[u32; 3]>,
}

/// What a thread is told about itself and the launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Thread(usize),
    Threads(usize),
    Block(usize),
    Blocks(usize),
    Cluster(usize),
    Clusters(usize),
    BlockInCluster(usize),
    BlocksInCluster(usize),
    RankInCluster,
    SizeOfCluster,
    Lane,
    Warp,
    Warps,
    MaskEqual,
    MaskLess,
    MaskLessOrEqual,
    MaskGreater,
    MaskGreaterOrEqual,
    Multiprocessor,
    Multiprocessors,
    Grid,
    DynamicShared,
    TotalShared,
}

/// Where the module's own variables lie.
pub(crate) struct Symbols {
    pub places: HashMap<String, (Place, u64)>,
    /// Bytes of the module's shared variables.
    pub shared: u64,
    /// Alignment of the dynamic array, and its names, which stand behind all static variables.
    pub dynamic: Vec<(String, u32)>,
}

/// Decodes a kernel.
pub(crate) fn decode(entry: &Entry, symbols: &Symbols) -> Result<Code, Fault> {
    let offsets = entry.parameter_offsets();
    let parameters: Vec<_> = entry.parameters.iter().cloned().zip(offsets).collect();
    let own = entry.static_shared_end(symbols.shared);
    let align = symbols.dynamic.iter().map(|(_, align)| *align).max().unwrap_or(16).max(16);
    let static_shared = aligned(own, align);
    let mut places = symbols.places.clone();
    for (name, _) in &symbols.dynamic {
        places.insert(name.clone(), (Place::Shared, static_shared));
    }
    let mut decoder = Decoder {
        names: Names::new(&places, symbols.shared, &parameters),
        kernel: &entry.name,
        steps: Vec::new(),
        constants: HashMap::new(),
        specials: HashMap::new(),
        line: entry.line,
    };
    decoder.block(&entry.body)?;
    // A body may end without one.
    decoder.steps.push(Step { guard: None, action: Action::Exit, line: entry.line });
    decoder.patch();
    let asynchronous = decoder.steps.iter().any(|step| step.action.is_asynchronous());
    let nothing =
        Launch { grid: [0; 3], block: [0; 3], cluster: 1, static_shared: 0, dynamic_shared: 0 };
    Ok(Code {
        name: entry.name.clone(),
        steps: decoder.steps,
        blank: Counters::new(&entry.name, &entry.instructions(), nothing),
        rows: decoder.names.rows as usize,
        predicates: decoder.names.predicates as usize,
        constants: decoder.constants.into_iter().map(|(value, row)| (row, value)).collect(),
        specials: decoder.specials.into_iter().map(|(special, row)| (row, special)).collect(),
        parameter_bytes: entry.parameter_bytes(),
        parameters,
        static_shared,
        local_bytes: decoder.names.local,
        asynchronous,
        shape: Shape { required: entry.reqntid(), most: entry.maxntid(), cluster: entry.cluster() },
    })
}

/// A kernel on its way.
pub(super) struct Decoder<'a> {
    names: Names,
    kernel: &'a str,
    steps: Vec<Step>,
    constants: HashMap<u64, Register>,
    specials: HashMap<Special, Register>,
    /// The line that is being decoded.
    line: u32,
}

impl Decoder<'_> {
    fn block(&mut self, block: &Block) -> Result<(), Fault> {
        self.names.enter(block);
        for statement in &block.statements {
            match statement {
                Statement::Label(label) => {
                    if let Some(names::Meaning::Label(index)) = self.names.find(&label.name) {
                        self.names.labels[index] = Some(self.steps.len());
                    }
                }
                Statement::Block(inner) => self.block(inner)?,
                Statement::Instruction(instruction) => self.instruction(instruction)?,
                _ => {}
            }
        }
        self.names.leave();
        Ok(())
    }

    fn instruction(&mut self, instruction: &crate::ast::Instruction) -> Result<(), Fault> {
        self.line = instruction.line;
        let guard = self.guard(instruction)?;
        let action = self.action(instruction)?;
        self.steps.push(Step { guard, action, line: instruction.line });
        Ok(())
    }

    /// Branches were decoded with indices of labels: puts the steps in their place.
    fn patch(&mut self) {
        let labels = &self.names.labels;
        let place = |label: usize| labels.get(label).copied().flatten().unwrap_or(0);
        for step in &mut self.steps {
            match &mut step.action {
                Action::Branch { target, .. } => *target = place(*target),
                Action::BranchIndexed { targets, .. } => {
                    targets.iter_mut().for_each(|target| *target = place(*target));
                }
                _ => {}
            }
        }
    }

    /// The row of a literal.
    fn constant(&mut self, bits: u64) -> Register {
        let names = &mut self.names;
        *self.constants.entry(bits).or_insert_with(|| names.fresh())
    }

    /// The row of a special register.
    fn special(&mut self, special: Special) -> Register {
        let names = &mut self.names;
        *self.specials.entry(special).or_insert_with(|| names.fresh())
    }

    /// The instruction cannot be executed.
    fn unsupported<T>(&self, what: impl Into<String>) -> Result<T, Fault> {
        Err(Fault {
            kind: FaultKind::Unsupported,
            kernel: self.kernel.to_owned(),
            line: self.line,
            block: None,
            thread: None,
            address: None,
            other: None,
            message: what.into(),
        })
    }
}

/// The opcode with its modifiers.
pub(super) fn text(instruction: &crate::ast::Instruction) -> String {
    let mut text = instruction.opcode.name().to_owned();
    for modifier in &instruction.modifiers {
        text.push('.');
        text.push_str(modifier);
    }
    text
}

/// The type of a register that takes a result of type `ty`, where it is wider.
fn wider(ty: Type, register: Type) -> Option<(Type, Type)> {
    (register.bytes() > ty.bytes()).then_some((ty, register))
}
