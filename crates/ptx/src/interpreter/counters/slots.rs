//! How many machine instructions ptxas makes of a PTX instruction.
//!
//! The figures were read from the SASS of ptxas 13.0 for sm_80 and sm_90, one PTX instruction at a time. Where
//! a fast path branches around a slow one the fast path counts. Neighbours change the figure by one or two: a
//! sign or an absolute value becomes an operand's modifier, a shift and an add become one LEA, and 16-bit integers
//! are unpacked where the instruction before left them packed.

use crate::ast::{Instruction, Operand};
use crate::interpreter::counters::{Class, class};
use crate::table::Opcode;
use crate::types::Type;

/// What one PTX instruction costs a warp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Issue slots: machine instructions.
    pub slots: u32,
    /// How many of them its [`Class`] executes.
    pub passes: u32,
    /// Whether it is a loop around compare-and-swap, run once more for every lane that meets another's address.
    pub looped: bool,
}

/// `slots` instructions of the class itself.
const fn all(slots: u32) -> Cost {
    Cost { slots, passes: slots, looped: false }
}

/// `slots` instructions, `passes` of them of the class.
const fn some(slots: u32, passes: u32) -> Cost {
    Cost { slots, passes, looped: false }
}

/// What an instruction costs.
pub(crate) fn cost(instruction: &Instruction) -> Cost {
    use Opcode as O;
    let wide = instruction.ty("t").is_some_and(|ty| ty.bytes() == 8);
    match instruction.opcode {
        O::Ex2 | O::Lg2 | O::Rsqrt | O::Sqrt | O::Rcp | O::Div | O::Sin | O::Cos | O::Tanh
            if class(instruction) != Class::Integer =>
        {
            special(instruction)
        }
        O::Div | O::Rem => integer_division(instruction),
        O::Mul | O::Mad | O::Madc | O::Mul24 | O::Mad24
            if class(instruction) == Class::Multiply =>
        {
            product(instruction, wide)
        }
        O::Popc | O::Clz | O::Brev | O::Bfind => bits(instruction.opcode, wide),
        O::Min | O::Max | O::Abs | O::Neg => extremum(instruction, wide),
        O::Bfe | O::Bfi => field(instruction, wide),
        O::Fns => all(50),
        O::Add | O::Sub if class(instruction) != Class::Integer => all(1),
        O::Setp if class(instruction) != Class::Integer => all(1),
        O::Add | O::Sub if instruction.has("sat") => all(5),
        O::Add | O::Sub | O::Addc | O::Subc | O::Setp | O::Selp if wide => all(2),
        O::And | O::Or | O::Xor | O::Not | O::Shl | O::Shr if wide => all(2),
        O::Cnot => all(2),
        O::Slct => all(if wide { 3 } else { 2 }),
        O::Set => set(instruction),
        O::Sad if wide => all(10),
        O::Testp => {
            all(2 + 2 * u32::from(instruction.has("normal") || instruction.has("subnormal")))
        }
        O::Isspacep => all(7),
        O::Cvt if instruction.has("rna") => all(3),
        O::Redux | O::Elect => some(2, 1),
        O::Bar if instruction.has("red") => some(2, 1),
        O::Mov => all(moves(instruction)),
        // A generic address is the global one.
        O::Cvta if instruction.has("global") => all(0),
        O::Atom | O::Red if class(instruction) == Class::SharedAtomic => atomic(instruction),
        _ => all(1),
    }
}

fn special(instruction: &Instruction) -> Cost {
    use Opcode as O;
    let flush = instruction.has("ftz");
    match (instruction.opcode, instruction.ty("t")) {
        // Two MUFU and a PRMT: halves gain nothing.
        (_, Some(Type::F16x2 | Type::Bf16x2)) => some(3, 2),
        (O::Div, Some(Type::F64)) => some(16, 8),
        (O::Rcp, Some(Type::F64)) if instruction.has("approx") => some(2, 1),
        (O::Rcp, Some(Type::F64)) => some(12, 5),
        (O::Sqrt, Some(Type::F64)) => some(16, 8),
        (O::Rsqrt, Some(Type::F64)) => some(2, 1),
        (O::Div, _) if instruction.has("approx") => some(if flush { 2 } else { 5 }, 1),
        (O::Div, _) if instruction.has("full") => some(if flush { 5 } else { 8 }, 1),
        (O::Div, _) => some(10, 1),
        (O::Rcp | O::Sqrt, _) if !instruction.has("approx") => some(10, 1),
        (O::Rcp, _) if !flush => some(7, 1),
        (O::Ex2 | O::Lg2 | O::Rsqrt | O::Sqrt, Some(Type::F32)) if !flush => some(4, 1),
        (O::Sin | O::Cos, _) => some(2, 1),
        _ => all(1),
    }
}

fn integer_division(instruction: &Instruction) -> Cost {
    match instruction.ty("t") {
        Some(Type::S64) => all(87),
        Some(Type::U64) => all(72),
        Some(Type::S32) => all(24),
        Some(Type::U32) => all(18),
        _ => all(21),
    }
}

fn product(instruction: &Instruction, wide: bool) -> Cost {
    let high = instruction.has("hi");
    match instruction.opcode {
        Opcode::Mul24 | Opcode::Mad24 => some(if high { 6 } else { 3 }, 1),
        _ if high && instruction.ty("t") == Some(Type::S64) => some(17, 4),
        _ if wide && high => some(7, 4),
        _ if wide => some(4, 3),
        Opcode::Mad if high => some(2, 1),
        _ => all(1),
    }
}

fn bits(opcode: Opcode, wide: bool) -> Cost {
    match (opcode, wide) {
        (Opcode::Popc, true) => some(3, 2),
        (Opcode::Brev, true) => all(2),
        (Opcode::Clz, false) => some(2, 1),
        (Opcode::Clz, true) => some(6, 1),
        (Opcode::Bfind, true) => some(6, 2),
        _ => all(1),
    }
}

/// `min max abs neg`: 64-bit integers compare and select their halves.
fn extremum(instruction: &Instruction, wide: bool) -> Cost {
    let float = instruction.ty("t") == Some(Type::F64);
    match instruction.opcode {
        Opcode::Min | Opcode::Max if float => some(7, 1),
        Opcode::Min | Opcode::Max if wide => all(4),
        Opcode::Abs if wide && !float => all(5),
        Opcode::Neg if wide && !float => all(2),
        _ => all(1),
    }
}

/// `set`: FSET where f32 makes f32, else a comparison and a selection.
fn set(instruction: &Instruction) -> Cost {
    match (instruction.ty("d"), instruction.ty("t")) {
        (Some(Type::F32), Some(Type::F32)) => all(1),
        _ => some(2, 1),
    }
}

/// Bit fields: shift and cut if the place is known, else the place is masked to a byte first.
fn field(instruction: &Instruction, wide: bool) -> Cost {
    let place = instruction.operands.iter().rev().take(2);
    let known = place.filter(|place| matches!(place.operand, Operand::Immediate(_))).count() == 2;
    let slots = match (instruction.opcode, known) {
        (_, true) => 2,
        (Opcode::Bfe, false) => 5,
        (_, false) => 6,
    };
    all(if wide { slots + 1 } else { slots })
}

/// Copies between registers are renamed away; constants, special registers and packed halves are not.
fn moves(instruction: &Instruction) -> u32 {
    let renamed = instruction.operands.iter().all(|place| match &place.operand {
        Operand::Register { .. } => true,
        Operand::Vector(elements) => elements.iter().all(|element| match element {
            Operand::Register { ty, .. } => ty.bytes() >= 4,
            _ => true,
        }),
        _ => false,
    });
    u32::from(!renamed)
}

/// Shared atomics: 32-bit integers, `exch` and `cas` are native, the rest loops around compare-and-swap.
fn atomic(instruction: &Instruction) -> Cost {
    let looped = |slots| Cost { slots, passes: 2, looped: true };
    let exchange = matches!(instruction.chosen("op"), Some("exch" | "cas"));
    match instruction.ty("t") {
        Some(Type::F32 | Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2) => looped(5),
        Some(Type::B16) => looped(9),
        Some(ty) if ty.bytes() == 8 && !exchange => looped(7),
        _ => all(1),
    }
}
