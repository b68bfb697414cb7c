//! Which unit of a multiprocessor executes an instruction.

use std::fmt;

use crate::ast::Instruction;
use crate::table::Opcode;
use crate::types::{Class as Kind, Type};

/// The unit that executes an instruction: one row of throughput each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Class {
    /// f32 add, mul, fma.
    Fp32,
    /// f64 arithmetic and comparison.
    Fp64,
    /// f16 and f16x2 add, mul, fma; widening f16 to f32.
    Half,
    /// The same for bf16, which is slower on some machines.
    Bfloat,
    /// Integer add, logic, shifts, bytes; comparison, selection and min/max of every type.
    Integer,
    /// Integer multiplication and the small dot products.
    Multiply,
    /// `ex2 lg2 rcp rsqrt sqrt sin cos tanh`, f32 division, bit counts, conversions of 64-bit types.
    Special,
    /// Conversions between f32 or f16 and integers, and rounding to an integral value.
    Convert,
    /// Conversions to formats that are packed: f32 to f16, bf16 and 8-bit floats, `cvt.pack`.
    Pack,
    /// `mov` and address spaces; mostly renamed away.
    Move,
    /// Kernel parameters and constants.
    Constant,
    /// `shfl`, `movmatrix`.
    Shuffle,
    /// `vote`, `activemask`, `elect`.
    Vote,
    /// `match`.
    Match,
    /// `redux`.
    Reduce,
    /// `mma.sync`.
    Tensor(Format),
    /// `wgmma.mma_async`.
    Warpgroup(Format),
    /// Loads and stores of global, generic and local memory; `cp.async`, prefetches.
    Global,
    /// Loads and stores of the block's shared memory, matrices included.
    Shared,
    /// Accesses to shared memory of the whole cluster, `st.async`, `red.async`.
    Cluster,
    /// Bulk copies (TMA).
    Bulk,
    /// Atomics on global memory.
    GlobalAtomic,
    /// Atomics on shared memory.
    SharedAtomic,
    /// Barriers, mbarriers, fences, and waits for asynchronous work.
    Barrier,
    /// Branches and the end of threads.
    Control,
}

/// What a tensor core multiplies and what it adds up in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// f16 or bf16, sums in f32.
    HalfToSingle,
    /// f16, sums in f16.
    HalfToHalf,
    /// tf32, sums in f32.
    Tf32,
    /// 8-bit integers, sums in s32.
    Int8,
    /// 8-bit floats.
    Fp8,
    /// f64.
    Double,
}

impl fmt::Display for Class {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Fp32 => "f32",
            Self::Fp64 => "f64",
            Self::Half => "f16",
            Self::Bfloat => "bf16",
            Self::Integer => "integer",
            Self::Multiply => "multiply",
            Self::Special => "special",
            Self::Convert => "convert",
            Self::Pack => "pack",
            Self::Move => "move",
            Self::Constant => "constant",
            Self::Shuffle => "shuffle",
            Self::Vote => "vote",
            Self::Match => "match",
            Self::Reduce => "reduce",
            Self::Tensor(Format::HalfToSingle) => "mma 16-bit",
            Self::Tensor(Format::HalfToHalf) => "mma f16 sums",
            Self::Tensor(Format::Tf32) => "mma tf32",
            Self::Tensor(Format::Int8) => "mma int8",
            Self::Tensor(Format::Fp8) => "mma fp8",
            Self::Tensor(Format::Double) => "mma f64",
            Self::Warpgroup(Format::HalfToSingle) => "wgmma 16-bit",
            Self::Warpgroup(Format::HalfToHalf) => "wgmma f16 sums",
            Self::Warpgroup(Format::Tf32) => "wgmma tf32",
            Self::Warpgroup(Format::Int8) => "wgmma int8",
            Self::Warpgroup(Format::Fp8) => "wgmma fp8",
            Self::Warpgroup(Format::Double) => "wgmma f64",
            Self::Global => "global",
            Self::Shared => "shared",
            Self::Cluster => "cluster",
            Self::Bulk => "bulk copy",
            Self::GlobalAtomic => "global atomic",
            Self::SharedAtomic => "shared atomic",
            Self::Barrier => "barrier",
            Self::Control => "control",
        })
    }
}

/// The unit that executes `instruction`.
pub(crate) fn class(instruction: &Instruction) -> Class {
    use Opcode as O;
    let ty = instruction.ty("t");
    match instruction.opcode {
        O::Add | O::Sub | O::Abs | O::Neg => arithmetic(ty, Class::Integer),
        O::Mul | O::Mad | O::Fma => arithmetic(ty, Class::Multiply),
        O::Madc | O::Mul24 | O::Mad24 | O::Dp2a | O::Dp4a => Class::Multiply,
        O::Min | O::Max | O::Setp | O::Set if ty == Some(Type::F64) => Class::Fp64,
        O::Min | O::Max | O::Setp | O::Set | O::Selp | O::Slct | O::Testp | O::Copysign => {
            Class::Integer
        }
        O::Addc | O::Subc | O::Rem | O::Sad | O::Bfe | O::Bfi | O::Bmsk | O::Szext | O::Fns => {
            Class::Integer
        }
        O::And | O::Or | O::Xor | O::Not | O::Cnot | O::Lop3 => Class::Integer,
        O::Shl | O::Shr | O::Shf | O::Prmt => Class::Integer,
        O::Isspacep | O::Mapa | O::Getctarank => Class::Integer,
        O::Div | O::Rcp | O::Sqrt => division(instruction, ty),
        O::Ex2 | O::Lg2 | O::Rsqrt | O::Sin | O::Cos | O::Tanh => Class::Special,
        O::Popc | O::Clz | O::Brev | O::Bfind => Class::Special,
        O::Cvt => conversion(instruction),
        O::Mov | O::Cvta | O::Createpolicy => Class::Move,
        O::Shfl | O::Movmatrix => Class::Shuffle,
        O::Vote | O::Activemask | O::Elect => Class::Vote,
        O::Match => Class::Match,
        O::Redux => Class::Reduce,
        O::Mma => Class::Tensor(format(instruction)),
        O::Wgmma if instruction.has("mma_async") => Class::Warpgroup(format(instruction)),
        O::Ld | O::St => access(instruction),
        O::Atom | O::Red => atomic(instruction),
        O::Ldmatrix | O::Stmatrix => Class::Shared,
        O::Cp => copy(instruction),
        O::Prefetch | O::Prefetchu | O::Applypriority | O::Discard => Class::Global,
        O::Bar | O::Barrier | O::Mbarrier | O::Fence | O::Membar => Class::Barrier,
        O::Griddepcontrol | O::Wgmma => Class::Barrier,
        O::Bra | O::Brx | O::Ret | O::Exit | O::Trap | O::Brkpt => Class::Control,
        O::Nanosleep | O::Pmevent | O::Setmaxnreg => Class::Control,
    }
}

fn arithmetic(ty: Option<Type>, integer: Class) -> Class {
    match ty {
        Some(Type::F32) => Class::Fp32,
        Some(Type::F64) => Class::Fp64,
        Some(Type::F16 | Type::F16x2) => Class::Half,
        Some(Type::Bf16 | Type::Bf16x2) => Class::Bfloat,
        _ => integer,
    }
}

/// Exact f64 division and roots are chains of DFMA; everything else leans on one special function.
fn division(instruction: &Instruction, ty: Option<Type>) -> Class {
    match ty {
        Some(Type::F64) if instruction.chosen("rnd").is_some() => Class::Fp64,
        Some(Type::F32 | Type::F64) => Class::Special,
        _ => Class::Integer,
    }
}

fn conversion(instruction: &Instruction) -> Class {
    let (Some(d), Some(a)) = (instruction.ty("d"), instruction.ty("a")) else {
        return Class::Convert;
    };
    let integral = instruction.chosen("rnd").is_some_and(|rounding| rounding.ends_with('i'));
    let integer = |ty: Type| ty.class() == Kind::Integer;
    match (d, a) {
        _ if instruction.has("pack") => Class::Pack,
        _ if integer(d) && integer(a) => match instruction.has("sat") {
            true => Class::Convert,
            false => Class::Integer,
        },
        _ if d.bytes() == 8 || a.bytes() == 8 => Class::Special,
        _ if integer(d) || integer(a) || integral => Class::Convert,
        (Type::Tf32, _) if instruction.has("rna") => Class::Integer,
        (Type::F32, Type::F32) => Class::Fp32,
        (Type::F32 | Type::F16, Type::F16) => Class::Half,
        (Type::F32, Type::Bf16) => Class::Integer,
        _ => Class::Pack,
    }
}

fn access(instruction: &Instruction) -> Class {
    match instruction.chosen("ss") {
        Some("shared" | "shared::cta") => Class::Shared,
        Some("shared::cluster") => Class::Cluster,
        Some("param" | "const") => Class::Constant,
        _ => Class::Global,
    }
}

fn atomic(instruction: &Instruction) -> Class {
    match access(instruction) {
        Class::Shared => Class::SharedAtomic,
        Class::Global => Class::GlobalAtomic,
        other => other,
    }
}

fn copy(instruction: &Instruction) -> Class {
    let waits = ["commit_group", "wait_group", "wait_all", "arrive"];
    if waits.iter().any(|wait| instruction.has(wait)) {
        Class::Barrier
    } else if instruction.has("bulk") {
        Class::Bulk
    } else {
        Class::Global
    }
}

fn format(instruction: &Instruction) -> Format {
    match (instruction.ty("a"), instruction.ty("d")) {
        (Some(Type::F64), _) => Format::Double,
        (Some(Type::S8 | Type::U8), _) => Format::Int8,
        (Some(Type::Tf32), _) => Format::Tf32,
        (Some(Type::F16), Some(Type::F16)) => Format::HalfToHalf,
        (Some(Type::F16 | Type::Bf16), _) => Format::HalfToSingle,
        // `e4m3` and `e5m2` are types of matrices only.
        _ => Format::Fp8,
    }
}

/// Multiply-adds that a warp's share of a tensor instruction makes; 0 for every other instruction.
pub(crate) fn products(instruction: &Instruction) -> u64 {
    let shape = match class(instruction) {
        Class::Tensor(_) => instruction.chosen("shape"),
        Class::Warpgroup(_) => instruction.chosen("n"),
        _ => None,
    };
    let Some(shape) = shape else {
        return 0;
    };
    let product: u64 = shape
        .split(|letter: char| letter.is_ascii_alphabetic())
        .filter_map(|extent| extent.parse::<u64>().ok())
        .product();
    // Four warps share a wgmma.
    if instruction.opcode == Opcode::Wgmma { product / 4 } else { product }
}
