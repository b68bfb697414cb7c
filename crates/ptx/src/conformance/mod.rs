//! Small programs that state what each instruction must give.
//!
//! A [`Program`] is data: the PTX text of a module with one kernel, the shape of its launch, the bytes it reads
//! and what every word that it writes must be. Nothing in it knows who runs it, so the same programs hold the
//! interpreter and a GPU to one definition. Every kernel is `conformance(in, out)`, two pointers to global
//! memory; `out` holds zeros before the launch.
//!
//! Most programs are a row per thread: the thread loads its operands, executes a fragment of PTX and stores
//! what came of it. The tables of `conformance/*.txt` are read like those of the ISA:
//!
//! ```text
//! shl.b32 %d, %a, %b;     b32 u32 -> b32
//!   0x12345678 32 -> 0x00000000
//! ```
//!
//! [`faults`] are the kernels that must be refused, each with the repaired twin that must pass.

mod asynchronous;
mod atomics;
mod barriers;
mod clusters;
mod expected;
mod faults;
mod fragment;
mod matrices;
mod memory;
mod products;
mod table;
mod warp;
mod warpgroup;

pub use expected::{Expected, Format};
pub use faults::{Faulty, faults};

/// The name of every kernel of the suite.
pub const ENTRY: &str = "conformance";

/// The lowest architecture that a program runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Compute capability 8.0 and every later one.
    Sm80,
    /// Compute capability 9.0 and every later one.
    Sm90,
    /// Compute capability 9.0 only.
    Sm90a,
}

impl Target {
    /// The name behind `.target`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sm80 => "sm_80",
            Self::Sm90 => "sm_90",
            Self::Sm90a => "sm_90a",
        }
    }
}

/// A kernel, its launch, its input and what it must write.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// What it shows; no two programs share it.
    pub name: String,
    /// The PTX of the module, whose one kernel is [`ENTRY`].
    pub text: String,
    /// The lowest architecture it runs on.
    pub target: Target,
    /// Blocks of the grid.
    pub grid: u32,
    /// Threads of a block.
    pub block: u32,
    /// Blocks of a cluster; 1 where the text asks for none.
    pub cluster: u32,
    /// The bytes behind `in`.
    pub input: Vec<u8>,
    /// The words behind `out`, in order.
    pub expected: Vec<Expected>,
    /// What a thread reads: bytes of a word, and the name of each.
    reads: Words,
    /// What a thread writes.
    writes: Words,
}

/// The words that a thread reads or writes.
#[derive(Debug, Clone, PartialEq)]
struct Words {
    /// Bytes of one, 4 or 8.
    width: usize,
    /// The register of each.
    names: Vec<String>,
}

impl Words {
    /// The word `at` of `bytes`, zero-extended.
    fn get(&self, bytes: &[u8], at: usize) -> Option<u64> {
        let start = at.checked_mul(self.width)?;
        let word = bytes.get(start..start.checked_add(self.width)?)?;
        Some(word.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte)))
    }
}

/// A word that is not what it must be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "{program}: row {row} ({}): {register} must be {expected}, {}",
    shown(.inputs),
    .found.map_or("the output ends before it".to_owned(), |bits| format!("came {bits:#x}"))
)]
pub struct Mismatch {
    /// The program's name.
    pub program: String,
    /// The thread, counted over the grid.
    pub row: usize,
    /// The register whose value it is.
    pub register: String,
    /// The thread's inputs.
    pub inputs: Vec<(String, u64)>,
    /// What had to come.
    pub expected: Expected,
    /// What came; nothing where the output is too short.
    pub found: Option<u64>,
}

fn shown(inputs: &[(String, u64)]) -> String {
    let each: Vec<String> =
        inputs.iter().map(|(name, bits)| format!("{name} = {bits:#x}")).collect();
    if each.is_empty() { "no inputs".to_owned() } else { each.join(", ") }
}

impl Program {
    /// Bytes behind `out`.
    pub fn output_bytes(&self) -> usize {
        self.expected.len() * self.writes.width
    }

    /// Compares what the kernel wrote with what it must write.
    ///
    /// # Errors
    ///
    /// The first word that differs.
    pub fn check(&self, output: &[u8]) -> Result<(), Mismatch> {
        for (at, expected) in self.expected.iter().enumerate() {
            let found = self.writes.get(output, at);
            if !found.is_some_and(|bits| expected.admits(bits)) {
                return Err(self.mismatch(at, expected, found));
            }
        }
        Ok(())
    }

    fn mismatch(&self, at: usize, expected: &Expected, found: Option<u64>) -> Mismatch {
        let per_row = self.writes.names.len().max(1);
        let row = at / per_row;
        let first = row * self.reads.names.len();
        let inputs = self.reads.names.iter().enumerate().filter_map(|(operand, name)| {
            Some((name.clone(), self.reads.get(&self.input, first + operand)?))
        });
        Mismatch {
            program: self.name.clone(),
            row,
            register: self.writes.names.get(at % per_row).cloned().unwrap_or_default(),
            inputs: inputs.collect(),
            expected: expected.clone(),
            found,
        }
    }
}

/// The suite, in the order of the ISA's sections.
pub fn programs() -> Vec<Program> {
    let mut all = table::programs();
    all.extend(memory::programs());
    all.extend(atomics::programs());
    all.extend(warp::programs());
    all.extend(barriers::programs());
    all.extend(asynchronous::programs());
    all.extend(matrices::programs());
    all.extend(products::programs());
    all.extend(clusters::programs());
    all.extend(warpgroup::programs());
    all
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_program_parses() {
        let all = programs();
        assert!(all.len() > 300, "{}", all.len());
        let refused: Vec<String> = all
            .iter()
            .filter_map(|one| Some(format!("{}: {}", one.name, crate::parse(&one.text).err()?)))
            .collect();
        assert!(refused.is_empty(), "{}", refused.join("\n"));
        for program in &all {
            let module = crate::parse(&program.text).expect("it parsed above");
            let entry = module.entry(ENTRY).expect("the kernel of the suite");
            assert_eq!(entry.reqntid(), Some([program.block, 1, 1]), "{}", program.name);
            assert_eq!(module.targets, [program.target.name()], "{}", program.name);
            let cluster = entry.cluster().map_or(1, |shape| shape[0]);
            assert_eq!(cluster, program.cluster, "{}", program.name);
            let rows = (program.grid * program.block) as usize;
            assert_eq!(program.expected.len(), rows * program.writes.names.len());
        }
    }

    #[test]
    fn names_are_unique() {
        let mut seen = HashSet::new();
        for program in programs() {
            assert!(seen.insert(program.name.clone()), "twice: {}", program.name);
        }
    }

    /// A program that expects `Any` everywhere would pass whatever came.
    #[test]
    fn every_program_refuses_some_output() {
        for program in programs() {
            let ones = vec![0xA5; program.output_bytes()];
            assert!(program.check(&ones).is_err(), "{}", program.name);
            assert!(program.check(&[]).is_err(), "{}", program.name);
        }
    }

    #[test]
    fn a_mismatch_names_program_row_and_inputs() {
        let all = programs();
        let program = all.iter().find(|one| one.name.starts_with("shl.b32")).expect("it is there");
        let text = program.check(&[]).expect_err("no output is not enough").to_string();
        assert!(text.starts_with("shl.b32 %d, %a, %b: row 0 (%a = 0x12345678"), "{text}");
    }

    #[test]
    fn every_program_assembles_where_ptxas_is_at_hand() {
        let all = std::env::var_os("WARPWRIGHT_ALL").is_some_and(|value| value == "1");
        let Some(ptxas) = std::env::var_os("PTXAS").filter(|_| all) else {
            return;
        };
        let faulty = faults().into_iter().flat_map(|one| [one.program, one.repaired]);
        let file = std::env::temp_dir().join(format!("conformance-{}.ptx", std::process::id()));
        let mut refused = Vec::new();
        for program in programs().into_iter().chain(faulty) {
            std::fs::write(&file, &program.text).expect("a file in the temporary folder");
            let output = std::process::Command::new(&ptxas)
                .arg(format!("-arch={}", program.target.name()))
                .args(["-o", "/dev/null"])
                .arg(&file)
                .output()
                .expect("ptxas runs");
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            if !output.status.success() || text.contains("C75") {
                refused.push(format!("{}\n  {text}", program.name));
            }
        }
        assert!(refused.is_empty(), "{}", refused.join("\n"));
    }
}
