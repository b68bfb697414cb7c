//! Types and state spaces (PTX ISA, "State Spaces, Types, and Variables").

macro_rules! types {
    ($($(#[$doc:meta])* $variant:ident $name:literal $bytes:literal $class:ident;)*) => {
        /// A fundamental or instruction type.
        ///
        /// `bf16`, `tf32`, the 8-bit floats and the packed integers are types of instructions only: the
        /// registers that hold them are `.b16`, `.b32` or `.b64`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Type { $($(#[$doc])* $variant,)* }

        impl Type {
            /// The type of this name, without its dot: `"f32"`.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }

            /// The name without its dot.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Size in bytes; 0 for a predicate, which memory cannot hold.
            pub fn bytes(self) -> u32 {
                match self { $(Self::$variant => $bytes,)* }
            }

            /// What the bits mean.
            pub fn class(self) -> Class {
                match self { $(Self::$variant => Class::$class,)* }
            }
        }
    };
}

/// What the bits of a [`Type`] mean, which decides the registers that may hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Untyped bits: `.b8` to `.b128`.
    Bits,
    /// Signed or unsigned integers.
    Integer,
    /// Floats that registers are declared with: `.f16 .f16x2 .f32 .f64`.
    Float,
    /// Formats that live in untyped registers: `.bf16`, `.tf32`, `.e4m3x2` …
    Encoded,
    /// `.pred`.
    Predicate,
}

types! {
    /// `.s8`
    S8 "s8" 1 Integer;
    /// `.s16`
    S16 "s16" 2 Integer;
    /// `.s32`
    S32 "s32" 4 Integer;
    /// `.s64`
    S64 "s64" 8 Integer;
    /// `.u8`
    U8 "u8" 1 Integer;
    /// `.u16`
    U16 "u16" 2 Integer;
    /// `.u32`
    U32 "u32" 4 Integer;
    /// `.u64`
    U64 "u64" 8 Integer;
    /// `.b8`
    B8 "b8" 1 Bits;
    /// `.b16`
    B16 "b16" 2 Bits;
    /// `.b32`
    B32 "b32" 4 Bits;
    /// `.b64`
    B64 "b64" 8 Bits;
    /// `.b128`
    B128 "b128" 16 Bits;
    /// `.f16`
    F16 "f16" 2 Float;
    /// `.f16x2`, element 0 in the low half
    F16x2 "f16x2" 4 Float;
    /// `.f32`
    F32 "f32" 4 Float;
    /// `.f64`
    F64 "f64" 8 Float;
    /// `.bf16` (instructions only)
    Bf16 "bf16" 2 Encoded;
    /// `.bf16x2` (instructions only)
    Bf16x2 "bf16x2" 4 Encoded;
    /// `.tf32` (instructions only)
    Tf32 "tf32" 4 Encoded;
    /// `.e4m3x2` (instructions only)
    E4m3x2 "e4m3x2" 2 Encoded;
    /// `.e5m2x2` (instructions only)
    E5m2x2 "e5m2x2" 2 Encoded;
    /// `.u16x2` (instructions only)
    U16x2 "u16x2" 4 Encoded;
    /// `.s16x2` (instructions only)
    S16x2 "s16x2" 4 Encoded;
    /// `.pred`
    Pred "pred" 0 Predicate;
}

impl Type {
    /// Whether a literal of this type is written as a float.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// The type of the same kind and twice the width, as `mul.wide` makes it.
    pub fn widened(self) -> Option<Self> {
        match self {
            Self::S16 => Some(Self::S32),
            Self::U16 => Some(Self::U32),
            Self::S32 => Some(Self::S64),
            Self::U32 => Some(Self::U64),
            _ => None,
        }
    }

    /// Whether a register declared as `self` may stand where an instruction works on `wanted`.
    ///
    /// Sizes must be equal, or with `relaxed` (`ld`, `st`, `cvt`) at least as large. An untyped register
    /// goes everywhere, a float register to its own type and to untyped instructions but never to integer
    /// ones, and an integer register never to float ones.
    pub fn holds(self, wanted: Self, relaxed: bool) -> bool {
        let size = self.bytes() == wanted.bytes() || (relaxed && self.bytes() > wanted.bytes());
        if self == wanted {
            return true;
        }
        if self == Self::Pred || wanted == Self::Pred || !size {
            return false;
        }
        match (self.class(), wanted.class()) {
            (Class::Bits, _) | (_, Class::Bits) | (Class::Integer, Class::Integer) => true,
            (Class::Integer, Class::Encoded) => matches!(wanted, Self::U16x2 | Self::S16x2),
            _ => false,
        }
    }
}

/// Where a variable or an address lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Space {
    /// No space named: a generic address.
    Generic,
    /// `.global`
    Global,
    /// `.shared`, `.shared::cta`, `.shared::cluster`
    Shared,
    /// `.local`
    Local,
    /// `.const`
    Const,
    /// `.param`
    Param,
}

impl Space {
    /// The space of this modifier, without its dot; `shared::cluster` is [`Space::Shared`].
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "global" => Some(Self::Global),
            "shared" | "shared::cta" | "shared::cluster" => Some(Self::Shared),
            "local" => Some(Self::Local),
            "const" => Some(Self::Const),
            "param" => Some(Self::Param),
            _ => None,
        }
    }

    /// The directive's name without its dot, or `generic`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Global => "global",
            Self::Shared => "shared",
            Self::Local => "local",
            Self::Const => "const",
            Self::Param => "param",
        }
    }
}
