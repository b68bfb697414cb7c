//! The instruction table: which modifiers and operands every opcode takes.
//!
//! The table is text, a form per line, because that is how a reader checks it against the ISA:
//!
//! ```text
//! opcode  .modifier …                    | operand …                  ; version/target
//! fma     .rnd=@rnd .ftz? .sat? .t=f32   | +t t t t
//! ```
//!
//! Modifiers stand in order. `.name=a,b,c` is a choice with a name, `.a` a choice of one named by itself,
//! a trailing `?` makes it optional, `@set` is a set named in `SETS` below, and `m64n{8}k16` stands for every
//! n = 8, 16 … 256 (`{16}` for 8, 24 and the multiples of 16).
//!
//! An operand is `[prefix…]what`:
//!
//! | text | operand |
//! |---|---|
//! | `t`, `u32`, `2t` | a source of the type that choice `t` named, of a fixed type, of `t` doubled |
//! | `+t`, `+_t` | a destination; one that may be the sink `_` |
//! | `~t` | a register may be wider than the type (`ld st cvt`) |
//! | `&t` / `#t` | never / only an immediate |
//! | `t:0..15`, `t:32..1024/32` | an immediate must lie in this range (in these steps) |
//! | `t*4`, `t*v`, `t*n/2` | a vector in braces: a fixed count, that of the digits of choice `v` (a plain operand if `v` is absent), the N of choice `n` over 2 |
//! | `t/pred`, `t/?pred` | a pair with a predicate, or one that may have it |
//! | `!pred` | a predicate that may be negated |
//! | `%t` | source of `mov`: special registers and addresses of variables too |
//! | `[global]`, `[ss]`, `[]` | an address in a space, in that of choice `ss`, generic |
//! | `map:d` | `[map,{c0,…}]` with as many coordinates as choice `d` says |
//! | `label`, `targets` | a label, the name of a `.branchtargets` list |
//! | `?…`, `<h>…` | optional; there exactly if choice `h` is |

mod arithmetic;
mod asynchronous;
mod memory;
mod opcode;
mod reader;
mod sync;
mod tensor;

pub use opcode::Opcode;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::types::{Space, Type};

/// Named sets of modifiers.
pub(crate) const SETS: &[(&str, &str)] = &[
    ("int", "s16,u16,s32,u32,s64,u64"),
    ("int32", "s32,u32"),
    ("int64", "s32,u32,s64,u64"),
    ("anyint", "s8,u8,s16,u16,s32,u32,s64,u64"),
    ("rnd", "rn,rz,rm,rp"),
    ("rndi", "rni,rzi,rmi,rpi"),
    ("scmp", "eq,ne,lt,le,gt,ge"),
    ("fcmp", "eq,ne,lt,le,gt,ge,equ,neu,ltu,leu,gtu,geu,num,nan"),
    ("bool", "and,or,xor"),
    ("data", "b16,b32,b64,u16,u32,u64,s16,s32,s64,f32,f64"),
    ("mem", "b8,b16,b32,b64,u8,u16,u32,u64,s8,s16,s32,s64,f32,f64"),
    ("scope", "cta,cluster,gpu,sys"),
    ("cta", "shared,shared::cta"),
    ("read", "global,shared,shared::cta,shared::cluster,local,const,param"),
    ("write", "global,shared,shared::cta,shared::cluster,local"),
    ("strong", "global,shared,shared::cta,shared::cluster"),
    ("l1", "L1::evict_normal,L1::evict_unchanged,L1::evict_first,L1::evict_last,L1::no_allocate"),
    ("l2", "L2::64B,L2::128B,L2::256B"),
    ("dim", "1d,2d,3d,4d,5d"),
];

/// What the module's header must say for a form to be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Requirement {
    /// The lowest `.version`.
    pub version: (u32, u32),
    /// The lowest `.target sm_…`.
    pub target: u32,
    /// Whether only the architecture-specific target (`sm_90a`) has it.
    pub specific: bool,
}

/// What modifiers need by themselves, whatever the instruction.
pub(crate) const MODIFIERS: &[(&str, Requirement)] = &[
    ("shared::cta", need(7, 8, 0)),
    ("shared::cluster", need(7, 8, 90)),
    ("cluster", need(7, 8, 90)),
    ("L2::cache_hint", need(7, 4, 80)),
    ("L2::64B", need(7, 4, 75)),
    ("L2::128B", need(7, 4, 75)),
    ("L2::256B", need(7, 4, 80)),
    ("L1::evict_normal", need(7, 4, 70)),
    ("L1::evict_unchanged", need(7, 4, 70)),
    ("L1::evict_first", need(7, 4, 70)),
    ("L1::evict_last", need(7, 4, 70)),
    ("L1::no_allocate", need(7, 4, 70)),
];

const fn need(major: u32, minor: u32, target: u32) -> Requirement {
    Requirement { version: (major, minor), target, specific: false }
}

/// One place in a form's sequence of modifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What the form calls it: `t` for most types, `rnd` for the rounding …
    pub name: String,
    /// The spellings admitted here, without dots.
    pub spellings: Vec<String>,
    /// Whether it may be left out.
    pub optional: bool,
}

impl Choice {
    /// Whether `text` may stand here.
    pub(crate) fn admits(&self, text: &str) -> bool {
        self.spellings.iter().any(|one| reader::matches(one, text))
    }
}

/// The type an operand has, as a form states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeRule {
    /// Always this one.
    Fixed(Type),
    /// The one that the choice of this index names.
    Chosen(usize),
    /// That one, twice as wide.
    Widened(usize),
}

/// How many elements an operand has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// A plain operand, no braces.
    One,
    /// Braces with this many.
    Fixed(usize),
    /// Braces with as many as the digits of the choice say (`v4`, `x2`); plain if the choice is absent.
    Chosen(usize),
    /// Braces with the N of a `m64nNk16` choice divided by the second number.
    Columns(usize, usize),
}

/// Whether immediates may stand for a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Immediates {
    /// Registers and immediates.
    Allowed,
    /// Immediates only.
    Only,
    /// Registers only.
    Never,
}

/// The shape of an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A value: register, immediate, predicate or a vector of them.
    Value {
        /// Type of one element.
        ty: TypeRule,
        /// Number of elements.
        count: Count,
        /// Whether registers may be wider than the type.
        relaxed: bool,
        /// Whether immediates may stand here.
        immediates: Immediates,
        /// First, last and step of the integers admitted as immediates.
        range: Option<(i64, i64, i64)>,
    },
    /// What `mov` reads: also special registers and the addresses of variables.
    MoveSource(TypeRule),
    /// An address in a fixed space.
    Address(Space),
    /// An address in the space that a choice names; generic where it is absent.
    AddressIn(usize),
    /// A tensor map and coordinates, as many as the choice's digit says.
    Tensor(usize),
    /// A label.
    Label,
    /// The name of a `.branchtargets` list.
    Targets,
}

/// Whether a destination has a predicate behind `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// No second destination.
    Single,
    /// It may be there.
    Optional,
    /// It must be there.
    Required,
}

/// One operand of a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperandRule {
    /// What may stand here.
    pub shape: Shape,
    /// Whether the instruction writes it.
    pub destination: bool,
    /// Whether `_` may stand for it.
    pub sink: bool,
    /// Whether `!` may stand in front.
    pub negatable: bool,
    /// Whether a predicate may follow behind `|`.
    pub pairing: Pairing,
    /// Whether it may be left out.
    pub optional: bool,
    /// The choice whose presence it depends on.
    pub when: Option<usize>,
}

/// One admitted form of an instruction: a line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// The opcode this is a form of.
    pub opcode: Opcode,
    /// The modifiers in order.
    pub choices: Vec<Choice>,
    /// The operands in order.
    pub operands: Vec<OperandRule>,
    /// What the module's header must say.
    pub requirement: Requirement,
}

/// All forms of an opcode, in the table's order.
pub fn forms(opcode: Opcode) -> &'static [Form] {
    static TABLE: LazyLock<HashMap<Opcode, Vec<Form>>> = LazyLock::new(|| {
        let mut table: HashMap<Opcode, Vec<Form>> = HashMap::new();
        // A line that does not read is a mistake of this crate; the test below refuses it.
        for form in lines().filter_map(|line| reader::form(line).ok()) {
            table.entry(form.opcode).or_default().push(form);
        }
        table
    });
    TABLE.get(&opcode).map_or(&[], Vec::as_slice)
}

fn lines() -> impl Iterator<Item = &'static str> {
    [
        arithmetic::INTEGER,
        arithmetic::FLOAT,
        arithmetic::APPROXIMATE,
        arithmetic::COMPARE,
        arithmetic::CONVERT,
        memory::MOVE,
        memory::LOAD_STORE,
        memory::ATOMIC,
        memory::CACHE,
        sync::CONTROL,
        sync::WARP,
        sync::BARRIER,
        sync::MBARRIER,
        sync::CLUSTER,
        asynchronous::COPY,
        asynchronous::BULK,
        tensor::MATRIX,
        tensor::MMA,
        tensor::WGMMA,
    ]
    .into_iter()
    .flat_map(str::lines)
    .filter(|line| !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_reads() {
        for line in lines() {
            if let Err(why) = reader::form(line) {
                panic!("{why} in: {line}");
            }
        }
    }

    #[test]
    fn every_opcode_has_a_form() {
        for opcode in Opcode::ALL {
            assert!(!forms(*opcode).is_empty(), "{opcode} has no form");
            assert_eq!(Opcode::from_name(opcode.name()), Some(*opcode));
        }
    }

    #[test]
    fn operand_types_are_types() {
        for form in Opcode::ALL.iter().flat_map(|opcode| forms(*opcode)) {
            for operand in &form.operands {
                let Shape::Value { ty, .. } = operand.shape else {
                    continue;
                };
                let (TypeRule::Chosen(at) | TypeRule::Widened(at)) = ty else {
                    continue;
                };
                for spelling in &form.choices[at].spellings {
                    let found = Type::from_name(spelling);
                    assert!(found.is_some(), "{} .{spelling}", form.opcode);
                    if matches!(ty, TypeRule::Widened(_)) {
                        assert!(found.and_then(Type::widened).is_some());
                    }
                }
            }
        }
    }
}
