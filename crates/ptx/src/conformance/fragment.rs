//! A fragment of PTX between the loads of a thread's operands and the stores of its results.
//!
//! The fragment finds its inputs and outputs in the registers that its signature names, and beside them
//! `%row` (the thread, counted over the grid), `%thread` (counted in the block), the predicates `%p` and `%q`
//! and the addresses `%in` and `%out` of the thread's own words. More it declares in a block of its own.

use std::fmt::Write;

use super::expected::{Expected, Format};
use super::{ENTRY, Program, Target, Words};

/// The type of an operand: its register, and how its bits are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Bits or integers of 16, 32 or 64 bits.
    Bits(u32),
    /// A float.
    Float(Format),
    /// Two 16-bit floats.
    Pair(Format),
    /// A predicate, in memory the word 0 or 1.
    Predicate,
}

impl Kind {
    /// The type of this name in a signature.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "b16" | "u16" | "s16" => Self::Bits(16),
            "b32" | "u32" | "s32" | "tf32" => Self::Bits(32),
            "b64" | "u64" | "s64" => Self::Bits(64),
            "f16" => Self::Float(Format::F16),
            "bf16" => Self::Float(Format::Bf16),
            "f32" => Self::Float(Format::F32),
            "f64" => Self::Float(Format::F64),
            "f16x2" => Self::Pair(Format::F16),
            "bf16x2" => Self::Pair(Format::Bf16),
            "pred" => Self::Predicate,
            _ => return None,
        })
    }

    /// Bits of a register of the type; a predicate counts as the word it is stored as.
    pub(super) fn bits(self) -> u32 {
        match self {
            Self::Bits(bits) => bits,
            Self::Float(Format::F16 | Format::Bf16) => 16,
            Self::Float(Format::F64) => 64,
            Self::Float(Format::F32) | Self::Pair(_) | Self::Predicate => 32,
        }
    }

    /// The type of its register.
    fn register(self) -> &'static str {
        match (self, self.bits()) {
            (Self::Predicate, _) => "pred",
            (Self::Float(Format::F32), _) => "f32",
            (Self::Float(Format::F64), _) => "f64",
            (_, 16) => "b16",
            (_, 64) => "b64",
            _ => "b32",
        }
    }

    /// `bits` as an expectation: in a float operand one NaN is as good as another.
    pub(super) fn expects(self, bits: u64) -> Expected {
        match self {
            Self::Float(format) if format.value(bits).is_nan() => Expected::Nan(format),
            Self::Pair(format) => {
                let half = |bits| Self::Float(format).expects(bits);
                match (half(bits & 0xFFFF), half(bits >> 16)) {
                    (Expected::Bits(_), Expected::Bits(_)) => Expected::Bits(bits),
                    (low, high) => Expected::Packed(Box::new([low, high])),
                }
            }
            _ => Expected::Bits(bits),
        }
    }
}

/// Operands by name, in the order in which they lie in memory.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operands(Vec<(String, Kind)>);

impl Operands {
    /// Reads `type`, `name:type` and `name:type*count` (registers `name0`, `name1` …); types without a name
    /// take those of `names` in order.
    pub(super) fn read(text: &str, names: &str) -> Result<Self, String> {
        let mut unused = names.chars();
        let mut found = Vec::new();
        for word in text.split_whitespace() {
            let (name, rest) = match word.split_once(':') {
                Some((name, rest)) => (name.to_owned(), rest),
                None => (unused.next().ok_or("too many operands")?.to_string(), word),
            };
            let (ty, count) = match rest.split_once('*') {
                Some((ty, count)) => (ty, Some(count.parse().map_err(|_| "a count")?)),
                None => (rest, None),
            };
            let kind = Kind::from_name(ty).ok_or_else(|| format!("`{ty}` is no type"))?;
            match count {
                None => found.push((name, kind)),
                Some::<u32>(count) => {
                    found.extend((0..count).map(|at| (format!("{name}{at}"), kind)));
                }
            }
        }
        Ok(Self(found))
    }

    pub(super) fn kinds(&self) -> impl Iterator<Item = Kind> + '_ {
        self.0.iter().map(|(_, kind)| *kind)
    }

    /// Every word is as wide as the widest needs.
    fn words(&self) -> Words {
        let wide = self.kinds().any(|kind| kind.bits() == 64);
        Words {
            width: if wide { 8 } else { 4 },
            names: self.0.iter().map(|(name, _)| format!("%{name}")).collect(),
        }
    }

    /// Name, kind and byte offset of each.
    fn placed(&self) -> impl Iterator<Item = (&str, Kind, usize)> {
        let width = self.words().width;
        self.0.iter().enumerate().map(move |(at, (name, kind))| (name.as_str(), *kind, at * width))
    }
}

/// One thread: its inputs, and what its outputs must be.
pub(super) type Row = (Vec<u64>, Vec<Expected>);

/// A program in the making: everything but the text around the fragment.
#[derive(Debug, Clone)]
pub(super) struct Fragment {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) target: Target,
    pub(super) inputs: Operands,
    pub(super) outputs: Operands,
    pub(super) body: String,
    /// Threads of a block, a divisor of the rows.
    pub(super) block: u32,
    /// Blocks of a cluster.
    pub(super) cluster: u32,
}

impl Fragment {
    /// A fragment for sm_80. Its signature, `inputs -> outputs`, is written by this crate: what does not read
    /// leaves registers undeclared, and the test that parses every program says so.
    pub(super) fn new(name: &str, signature: &str, body: &str) -> Self {
        let (inputs, outputs) = signature.split_once("->").unwrap_or((signature, ""));
        let operands = |text, names| Operands::read(text, names).unwrap_or(Operands(Vec::new()));
        Self {
            name: name.to_owned(),
            version: "7.1".to_owned(),
            target: Target::Sm80,
            inputs: operands(inputs, "abcxyz"),
            outputs: operands(outputs, "def"),
            body: body.to_owned(),
            block: 32,
            cluster: 1,
        }
    }

    pub(super) fn on(self, version: &str, target: Target) -> Self {
        Self { version: version.to_owned(), target, ..self }
    }

    pub(super) fn block(self, block: u32) -> Self {
        Self { block, ..self }
    }

    pub(super) fn cluster(self, cluster: u32) -> Self {
        Self { cluster, ..self }
    }

    /// The program whose thread `row` has the inputs and outputs of `thread(row)`.
    pub(super) fn rows(
        self,
        count: usize,
        thread: impl Fn(usize) -> (Vec<u64>, Vec<u64>),
    ) -> Program {
        let rows = (0..count).map(|row| {
            let (inputs, outputs) = thread(row);
            let expected = self.outputs.kinds().zip(outputs);
            (inputs, expected.map(|(kind, bits)| kind.expects(bits)).collect())
        });
        let rows = rows.collect();
        self.program(rows)
    }

    /// The program with these rows.
    pub(super) fn program(self, rows: Vec<Row>) -> Program {
        let (reads, writes) = (self.inputs.words(), self.outputs.words());
        let mut input: Vec<u8> = Vec::new();
        for (inputs, _) in &rows {
            for bits in inputs {
                input.extend(bits.to_le_bytes().iter().take(reads.width));
            }
        }
        if input.is_empty() {
            input.resize(16, 0); // nobody allocates nothing
        }
        Program {
            text: self.text(),
            grid: rows.len() as u32 / self.block.max(1),
            input,
            expected: rows.into_iter().flat_map(|(_, outputs)| outputs).collect(),
            name: self.name,
            target: self.target,
            block: self.block,
            cluster: self.cluster,
            reads,
            writes,
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "// {}", self.name)?;
        writeln!(text, ".version {}\n.target {}", self.version, self.target.name())?;
        writeln!(text, ".address_size 64")?;
        writeln!(text, ".visible .entry {ENTRY}(")?;
        writeln!(text, "  .param .u64 .ptr .global .align 8 in,")?;
        writeln!(text, "  .param .u64 .ptr .global .align 8 out)")?;
        writeln!(text, ".reqntid {}", self.block)?;
        if self.cluster > 1 {
            writeln!(text, ".reqnctapercluster {}", self.cluster)?;
        }
        writeln!(text, "{{\n  .reg .pred %p, %q;\n  .reg .b32 %thread, %row, %word;")?;
        writeln!(text, "  .reg .b64 %in, %out;")?;
        for (name, kind) in self.inputs.0.iter().chain(&self.outputs.0) {
            writeln!(text, "  .reg .{} %{name};", kind.register())?;
        }
        writeln!(text, "  ld.param.u64 %in, [in];\n  ld.param.u64 %out, [out];")?;
        writeln!(text, "  cvta.to.global.u64 %in, %in;\n  cvta.to.global.u64 %out, %out;")?;
        writeln!(text, "  mov.u32 %thread, %tid.x;\n  mov.u32 %row, %ctaid.x;")?;
        writeln!(text, "  mad.lo.u32 %row, %row, {}, %thread;", self.block)?;
        for (register, operands) in [("in", &self.inputs), ("out", &self.outputs)] {
            let stride = operands.words().width * operands.0.len();
            writeln!(text, "  mad.wide.u32 %{register}, %row, {stride}, %{register};")?;
        }
        self.loads(text)?;
        for line in self.body.trim().lines() {
            writeln!(text, "  {}", line.trim())?;
        }
        self.stores(text)?;
        writeln!(text, "  ret;\n}}")
    }

    fn loads(&self, text: &mut String) -> std::fmt::Result {
        for (name, kind, offset) in self.inputs.placed() {
            if kind == Kind::Predicate {
                writeln!(text, "  ld.global.u32 %word, [%in+{offset}];")?;
                writeln!(text, "  setp.ne.u32 %{name}, %word, 0;")?;
            } else {
                writeln!(text, "  ld.global.{} %{name}, [%in+{offset}];", kind.register())?;
            }
        }
        Ok(())
    }

    fn stores(&self, text: &mut String) -> std::fmt::Result {
        for (name, kind, offset) in self.outputs.placed() {
            if kind == Kind::Predicate {
                writeln!(text, "  selp.u32 %word, 1, 0, %{name};")?;
                writeln!(text, "  st.global.u32 [%out+{offset}], %word;")?;
            } else {
                writeln!(text, "  st.global.{} [%out+{offset}], %{name};", kind.register())?;
            }
        }
        Ok(())
    }
}
