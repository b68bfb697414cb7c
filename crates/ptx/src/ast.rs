//! What a module consists of, with names resolved and instructions matched to the table.

use crate::table::{Form, Opcode, forms};
use crate::types::{Space, Type};

/// A PTX module.
#[derive(Debug, Clone, PartialEq)]
pub struct Module {
    /// `.version major.minor`
    pub version: (u32, u32),
    /// `.target`: `sm_80`, `sm_90a` …
    pub targets: Vec<String>,
    /// `.address_size`, always 64.
    pub address_size: u32,
    /// Variables of the module, in order.
    pub variables: Vec<Variable>,
    /// Kernels, in order.
    pub entries: Vec<Entry>,
}

impl Module {
    /// The kernel of this name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Bytes of shared memory that the module's own variables take, laid out in order with their alignments.
    ///
    /// Arrays without a size (dynamic shared memory) count nothing.
    pub fn static_shared_bytes(&self) -> u64 {
        shared_bytes(self.variables.iter(), 0)
    }
}

/// A kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The name it is looked up by.
    pub name: String,
    /// The parameters in order.
    pub parameters: Vec<Parameter>,
    /// Performance directives.
    pub directives: Vec<Directive>,
    /// The code.
    pub body: Block,
    /// Line of its name.
    pub line: u32,
}

impl Entry {
    /// Byte offset of every parameter in the argument buffer: each is aligned to its own alignment.
    pub fn parameter_offsets(&self) -> Vec<u64> {
        self.layout().0
    }

    /// Bytes of the argument buffer up to the end of the last parameter.
    pub fn parameter_bytes(&self) -> u64 {
        self.layout().1
    }

    fn layout(&self) -> (Vec<u64>, u64) {
        let mut end = 0;
        let offsets = self.parameters.iter().map(|parameter| {
            let offset = aligned(end, parameter.align);
            end = offset.saturating_add(parameter.size());
            offset
        });
        (offsets.collect(), end)
    }

    /// Bytes of shared memory that variables of the body take, nested blocks included; no bytes are reused.
    ///
    /// The module's own are in [`Module::static_shared_bytes`].
    pub fn static_shared_bytes(&self) -> u64 {
        self.static_shared_end(0)
    }

    /// Where they end if they begin at `start`, behind the module's own.
    pub(crate) fn static_shared_end(&self, start: u64) -> u64 {
        let mut found = Vec::new();
        self.body.visit(&mut |statement| {
            if let Statement::Variable(variable) = statement {
                found.push(variable);
            }
        });
        shared_bytes(found.into_iter(), start)
    }

    /// The exact block shape, if `.reqntid` fixes it.
    pub fn reqntid(&self) -> Option<[u32; 3]> {
        self.directives.iter().find_map(|one| match one {
            Directive::RequiredThreads(shape) => Some(*shape),
            _ => None,
        })
    }

    /// The bound on the block, if `.maxntid` gives one.
    pub fn maxntid(&self) -> Option<[u32; 3]> {
        self.directives.iter().find_map(|one| match one {
            Directive::MaxThreads(shape) => Some(*shape),
            _ => None,
        })
    }

    /// The exact cluster shape in blocks, if `.reqnctapercluster` fixes it.
    pub fn cluster(&self) -> Option<[u32; 3]> {
        self.directives.iter().find_map(|one| match one {
            Directive::RequiredCluster(shape) => Some(*shape),
            _ => None,
        })
    }

    /// All instructions in the order of the text, nested blocks included.
    pub fn instructions(&self) -> Vec<&Instruction> {
        let mut found = Vec::new();
        self.body.visit(&mut |statement| {
            if let Statement::Instruction(instruction) = statement {
                found.push(instruction);
            }
        });
        found
    }
}

/// The next multiple of an alignment.
pub(crate) fn aligned(offset: u64, align: u32) -> u64 {
    // Hostile sizes saturate instead of overflowing.
    offset.checked_next_multiple_of(u64::from(align.max(1))).unwrap_or(u64::MAX)
}

fn shared_bytes<'a>(variables: impl Iterator<Item = &'a Variable>, start: u64) -> u64 {
    variables
        .filter(|variable| variable.space == Space::Shared)
        .fold(start, |end, variable| aligned(end, variable.align).saturating_add(variable.size()))
}

/// A parameter of a kernel: read-only, by value.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Type of the value, or of one element.
    pub ty: Type,
    /// Alignment in bytes.
    pub align: u32,
    /// Elements of `.b8 name[128]`.
    pub array: Option<u32>,
    /// What `.ptr` says about the memory behind a pointer.
    pub pointer: Option<Pointer>,
    /// Line of its name.
    pub line: u32,
}

impl Parameter {
    /// Size in bytes.
    pub fn size(&self) -> u64 {
        u64::from(self.ty.bytes()) * u64::from(self.array.unwrap_or(1))
    }
}

/// `.ptr .global .align 16`: what a pointer parameter points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer {
    /// The space; generic if none is named.
    pub space: Space,
    /// Alignment of the memory in bytes; 4 if none is named.
    pub align: u32,
}

/// A performance directive of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Directive {
    /// `.maxntid x,y,z`
    MaxThreads([u32; 3]),
    /// `.reqntid x,y,z`
    RequiredThreads([u32; 3]),
    /// `.minnctapersm n`
    MinBlocks(u32),
    /// `.maxnreg n`
    MaxRegisters(u32),
    /// `.reqnctapercluster x,y,z`
    RequiredCluster([u32; 3]),
    /// `.explicitcluster`
    ExplicitCluster,
    /// `.maxclusterrank n`
    MaxClusterRank(u32),
    /// `.blocksareclusters`
    BlocksAreClusters,
}

/// A variable of the module or of a body.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Where it lives.
    pub space: Space,
    /// Type of one element.
    pub ty: Type,
    /// Alignment in bytes.
    pub align: u32,
    /// Extents of an array, outermost first; empty for a scalar. 0 stands for `[]`, dynamic shared memory.
    pub extents: Vec<u32>,
    /// Whether it is `.extern`.
    pub external: bool,
    /// Values of the first elements; the rest is zero.
    pub initial: Vec<Initial>,
    /// Line of its name.
    pub line: u32,
    /// Column of its name.
    pub column: u32,
}

impl Variable {
    /// Size in bytes; 0 for dynamic shared memory.
    pub fn size(&self) -> u64 {
        self.extents.iter().fold(u64::from(self.ty.bytes()), |size, &extent| {
            size.saturating_mul(u64::from(extent))
        })
    }
}

/// The initial value of an element.
#[derive(Debug, Clone, PartialEq)]
pub enum Initial {
    /// A literal.
    Literal(Immediate),
    /// The address of a variable: in its own space, or `generic(name)`.
    Address {
        /// The variable.
        name: String,
        /// Whether the generic address is meant.
        generic: bool,
    },
}

/// `{ … }`: a scope and its statements.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Block {
    /// The statements in order.
    pub statements: Vec<Statement>,
    /// Line of the brace that opens it.
    pub line: u32,
}

impl Block {
    /// Calls `see` on every statement in the order of the text, nested blocks included.
    ///
    /// Depth is bounded by the parser, which refuses more than 64 nested blocks.
    pub fn visit<'a>(&'a self, see: &mut impl FnMut(&'a Statement)) {
        for statement in &self.statements {
            see(statement);
            if let Statement::Block(block) = statement {
                block.visit(see);
            }
        }
    }
}

/// A statement of a body.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Statement {
    /// `.reg .f32 %acc<8>, %scale;`
    Registers(Vec<Registers>),
    /// `.shared .align 16 .b8 tile[4096];`
    Variable(Variable),
    /// `LOOP:`
    Label(Label),
    /// `ts: .branchtargets L0, L1;`
    Targets {
        /// The list's name.
        name: Label,
        /// The labels in order.
        labels: Vec<Label>,
    },
    /// `.pragma "nounroll";`
    Pragma(Vec<String>),
    /// A nested block.
    Block(Block),
    /// An instruction.
    Instruction(Instruction),
}

/// Declared registers: one, or `count` of them numbered from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registers {
    /// The name, or what stands before the number.
    pub name: String,
    /// `Some(8)` for `%acc<8>`.
    pub count: Option<u32>,
    /// Their type.
    pub ty: Type,
    /// Line of the name.
    pub line: u32,
    /// Column of the name.
    pub column: u32,
}

/// A label, where it is declared or used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// An instruction that one [`Form`] of the table admits.
#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    /// `@%p` or `@!%p`.
    pub guard: Option<Guard>,
    /// The first word.
    pub opcode: Opcode,
    /// The modifiers in order, without dots.
    pub modifiers: Vec<String>,
    /// The operands in order.
    pub operands: Vec<PlacedOperand>,
    /// Line of the opcode.
    pub line: u32,
    /// Column of the opcode.
    pub column: u32,
    pub(crate) form: usize,
    /// For every choice of the form, the modifier that fills it.
    pub(crate) chosen: Vec<Option<usize>>,
    /// For every operand, the operand rule of the form that admits it.
    pub(crate) rules: Vec<usize>,
}

impl Instruction {
    /// The form of the table that admits this instruction.
    pub fn form(&self) -> Option<&'static Form> {
        forms(self.opcode).get(self.form)
    }

    /// Whether it has this modifier.
    pub fn has(&self, modifier: &str) -> bool {
        self.modifiers.iter().any(|one| one == modifier)
    }

    /// The modifier that fills the form's choice of this name: `chosen("t")` is the type of `add.rn.f32`.
    pub fn chosen(&self, choice: &str) -> Option<&str> {
        let at = self.form()?.choices.iter().position(|one| one.name == choice)?;
        let modifier = (*self.chosen.get(at)?)?;
        self.modifiers.get(modifier).map(String::as_str)
    }

    /// The type that the form's choice of this name has.
    pub fn ty(&self, choice: &str) -> Option<Type> {
        Type::from_name(self.chosen(choice)?)
    }

    /// The rule of the form that admits the operand of this index.
    pub fn rule(&self, operand: usize) -> Option<&'static crate::table::OperandRule> {
        self.form()?.operands.get(*self.rules.get(operand)?)
    }
}

/// The predicate in front of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The predicate's name.
    pub register: String,
    /// Whether `!` stands in front.
    pub negated: bool,
    /// Line of the `@`.
    pub line: u32,
    /// Column of the `@`.
    pub column: u32,
}

/// An operand and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacedOperand {
    /// The operand.
    pub operand: Operand,
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// A literal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Immediate {
    /// An integer in −2⁶³ … 2⁶⁴−1.
    Integer(i128),
    /// `0f3F800000`: the bits of an f32.
    Single(u32),
    /// `0d3FF0000000000000` or a decimal: the bits of an f64.
    Double(u64),
}

impl Immediate {
    /// The bits that an instruction on `ty` sees: integers in two's complement, floats rounded to nearest.
    pub fn bits(self, ty: Type) -> u64 {
        match (self, ty) {
            (Self::Integer(value), _) => {
                let mask = match ty.bytes() {
                    0 => 1,
                    bytes @ 1..=7 => (1u64 << (8 * bytes)) - 1,
                    _ => u64::MAX,
                };
                // Cut to 64 bits on purpose: two's complement of negative values.
                (value as u64) & mask
            }
            (Self::Single(bits), Type::F64) => f64::from(f32::from_bits(bits)).to_bits(),
            (Self::Single(bits), _) => u64::from(bits),
            (Self::Double(bits), Type::F64) => bits,
            (Self::Double(bits), _) => u64::from((f64::from_bits(bits) as f32).to_bits()),
        }
    }
}

/// A typed operand.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Operand {
    /// A register and its declared type.
    Register {
        /// Its name.
        name: String,
        /// The type of its declaration.
        ty: Type,
    },
    /// A literal; `WARP_SZ` is the integer 32.
    Immediate(Immediate),
    /// `%tid.x`, `%laneid` …
    Special(String),
    /// `[register+4]`, `[variable+4]`, `[4]`
    Address {
        /// What the offset is added to.
        base: Base,
        /// Bytes.
        offset: i64,
    },
    /// `[map,{c0,c1}]`
    Tensor {
        /// The generic address of the tensor map: a register or parameter.
        base: Base,
        /// Coordinates, innermost first.
        coordinates: Vec<Operand>,
    },
    /// `{a,b}`
    Vector(Vec<Operand>),
    /// `d|p`
    Pair(Box<Operand>, Box<Operand>),
    /// `_`
    Sink,
    /// `!p`
    Negated(String),
    /// A branch target, or the name of a list of them.
    Label(String),
    /// The address of a variable or parameter: `smem`, `smem+16`
    Symbol {
        /// Its name.
        name: String,
        /// Where it lives.
        space: Space,
        /// Bytes added.
        offset: i64,
    },
}

/// What an address is relative to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// A register.
    Register(String),
    /// A variable or parameter.
    Symbol(String),
    /// Nothing: the offset is the address.
    Zero,
}
