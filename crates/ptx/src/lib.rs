//! NVIDIA PTX without a GPU: a strict parser, and an interpreter that is stricter than the hardware.
//!
//! For people who write PTX by hand or by template. [`parse`] checks a text, in a test or a build script; a
//! [`Machine`](interpreter::Machine) runs its kernels on any computer, reports races, unwritten values and
//! misused barriers by line and thread, and counts what every instruction did. The [`conformance`] suite holds
//! what each instruction must give, as data for whoever else executes PTX.
//!
//! # Checking a text
//!
//! `ptxas` is lenient where it hurts: it cuts literals that are too large, fuses a `mul` with an `add` unless
//! one of them names its rounding, and lets two lanes of a vector load land in one register. [`parse`] refuses
//! all of that, and everything it does not know, with line, column and what to write instead.
//!
//! ```
//! let module = warpwright_ptx::parse(
//!     "
//! .version 7.0
//! .target sm_80
//! .address_size 64
//! .visible .entry scale(.param .u64 .ptr .global .align 16 x, .param .f32 factor)
//! .reqntid 128
//! {
//!     .reg .b32 %lane; .reg .b64 %addr, %step; .reg .f32 %value, %factor;
//!     ld.param.u64 %addr, [x];
//!     cvta.to.global.u64 %addr, %addr;
//!     ld.param.f32 %factor, [factor];
//!     mov.u32 %lane, %tid.x;
//!     mul.wide.u32 %step, %lane, 4;
//!     add.u64 %addr, %addr, %step;
//!     ld.global.f32 %value, [%addr];
//!     mul.rn.f32 %value, %value, %factor;
//!     st.global.f32 [%addr], %value;
//!     ret;
//! }",
//! )?;
//! let scale = module.entry("scale").ok_or("no such kernel")?;
//! assert_eq!(scale.reqntid(), Some([128, 1, 1]));
//! assert_eq!(scale.parameter_offsets(), [0, 8]);
//!
//! let error = warpwright_ptx::parse(".version 7.0\n.target sm_80\n.adress_size 64").unwrap_err();
//! assert_eq!((error.line, error.column), (3, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Running it
//!
//! ```
//! # #[cfg(not(feature = "interpreter"))]
//! # fn main() {}
//! # #[cfg(feature = "interpreter")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use warpwright_ptx::interpreter::{Launch, Machine, Options};
//!
//! let module = warpwright_ptx::parse(
//!     ".version 7.0
//! .target sm_80
//! .address_size 64
//! .visible .entry count(.param .u64 .ptr .global .align 4 counter)
//! {
//!     .reg .b64 %counter;
//!     ld.param.u64 %counter, [counter];
//!     cvta.to.global.u64 %counter, %counter;
//!     red.global.add.u32 [%counter], 1;
//!     ret;
//! }",
//! )?;
//! let machine = Machine::new(0, Options::default());
//! let loaded = machine.load(&module)?;
//! let counter = machine.allocate(4)?;
//! machine.write(counter, &[0; 4])?; // else: "an atomic operation on …, which nobody has written"
//! let launch = Launch {
//!     grid: [3, 1, 1],
//!     block: [100, 1, 1],
//!     cluster: None,
//!     dynamic_shared: 0,
//!     cooperative: false,
//!     arguments: &[&counter.to_le_bytes()],
//! };
//! let counters = machine.launch(loaded.kernel("count").ok_or("no such kernel")?, &launch)?;
//! let mut bytes = [0; 4];
//! machine.read(counter, &mut bytes)?;
//! assert_eq!(u32::from_le_bytes(bytes), 300);
//! assert_eq!(counters.total().atomics.requests, 3 * 4); // one per warp
//! # Ok(())
//! # }
//! ```
//!
//! More is in [`interpreter`]; without the feature of that name, which is on by default, the crate is the parser.
//!
//! # Grammar
//!
//! ```text
//! module      = .version M.m  .target sm_NN  .address_size 64  { variable | entry }
//! variable    = [.extern|.visible|.weak] space [.align N] type name {[N]} [= values] ;
//! entry       = [.visible|.weak] .entry name ( parameters ) { performance directive } block
//! parameter   = .param [.align N] type [.ptr [space] [.align N]] name [[N]]
//! block       = { { .reg … ; | variable | label: | .pragma "nounroll"; | block | instruction } }
//! instruction = [@[!]predicate] opcode{.modifier} [operand {, operand}] ;
//! operand     = register | literal | %special.x | variable[+N] | label | _ | !predicate
//!             | [register+N] | [variable+N] | [N] | [map,{c0,…}] | {a,b,…} | d|p
//! ```
//!
//! # Instructions
//!
//! Which modifiers, operands, `.version` and `.target` an instruction has is a table, [`table`], a form per
//! line. An [`Instruction`] knows its [`table::Form`]; whoever executes it decodes from the same data.
//!
//! # What it leaves out
//!
//! `.func` and calls, textures and surfaces, constant expressions, vector registers (`.reg .v4`), preprocessor
//! lines, `.volatile`, and the instructions of sm_100 and later.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod ast;
mod body;
mod check;
#[cfg(feature = "interpreter")]
pub mod conformance;
mod cursor;
mod error;
#[cfg(feature = "interpreter")]
pub mod interpreter;
mod lexer;
mod matching;
mod parser;
mod raw;
mod scope;
pub mod table;
mod types;
mod value;
mod variable;

pub use ast::{
    Base, Block, Directive, Entry, Guard, Immediate, Initial, Instruction, Label, Module, Operand,
    Parameter, PlacedOperand, Pointer, Registers, Statement, Variable,
};
pub use error::ParseError;
pub use table::Opcode;
pub use types::{Class, Space, Type};

/// Parses a module and checks it: names, types, literals, modifiers and their `.version` and `.target`.
///
/// # Errors
///
/// The first offence, with its line and column. There is no recovery and no warning: a module is right or it
/// is refused.
pub fn parse(source: &str) -> Result<Module, ParseError> {
    parser::module(source)
}

#[cfg(all(doctest, feature = "interpreter"))]
#[doc = include_str!("../README.md")]
struct Readme;
