//! The opcodes that the table knows.

macro_rules! opcodes {
    ($($variant:ident $name:literal)*) => {
        /// The first word of an instruction; `cp`, `mbarrier` or `wgmma` are families that their modifiers divide.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[allow(missing_docs)] // each variant is the opcode of its name
        pub enum Opcode { $($variant,)* }

        impl Opcode {
            /// Every opcode.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The opcode of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }

            /// The name in the text.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

opcodes! {
    Abs "abs" Activemask "activemask" Add "add" Addc "addc" And "and" Applypriority "applypriority"
    Atom "atom" Bar "bar" Barrier "barrier" Bfe "bfe" Bfi "bfi" Bfind "bfind" Bmsk "bmsk" Bra "bra"
    Brev "brev" Brkpt "brkpt" Brx "brx" Clz "clz" Cnot "cnot" Copysign "copysign" Cos "cos" Cp "cp"
    Createpolicy "createpolicy" Cvt "cvt" Cvta "cvta" Discard "discard" Div "div" Dp2a "dp2a"
    Dp4a "dp4a" Elect "elect" Ex2 "ex2" Exit "exit" Fence "fence" Fma "fma" Fns "fns"
    Getctarank "getctarank" Griddepcontrol "griddepcontrol" Isspacep "isspacep" Ld "ld"
    Ldmatrix "ldmatrix" Lg2 "lg2" Lop3 "lop3" Mad "mad" Mad24 "mad24" Madc "madc" Mapa "mapa"
    Match "match" Max "max" Mbarrier "mbarrier" Membar "membar" Min "min" Mma "mma" Mov "mov"
    Movmatrix "movmatrix" Mul "mul" Mul24 "mul24" Nanosleep "nanosleep" Neg "neg" Not "not" Or "or"
    Pmevent "pmevent" Popc "popc" Prefetch "prefetch" Prefetchu "prefetchu" Prmt "prmt" Rcp "rcp"
    Red "red" Redux "redux" Rem "rem" Ret "ret" Rsqrt "rsqrt" Sad "sad" Selp "selp" Set "set"
    Setmaxnreg "setmaxnreg" Setp "setp" Shf "shf" Shfl "shfl" Shl "shl" Shr "shr" Sin "sin"
    Slct "slct" Sqrt "sqrt" St "st" Stmatrix "stmatrix" Sub "sub" Subc "subc" Szext "szext"
    Tanh "tanh" Testp "testp" Trap "trap" Vote "vote" Wgmma "wgmma" Xor "xor"
}

impl std::fmt::Display for Opcode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}
