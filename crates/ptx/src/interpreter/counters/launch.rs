//! The tallies of all instructions of a kernel, over one launch or several.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use super::columns::Columns;
use super::{Class, Cost, Tally, class, cost, products};
use crate::ast::Instruction;

/// The shape of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Blocks of a cluster; 1 without clusters.
    pub cluster: u32,
    /// Shared memory that the kernel declares, in bytes.
    pub static_shared: u32,
    /// Shared memory that the launch adds, in bytes.
    pub dynamic_shared: u32,
}

impl Launch {
    /// Blocks of the grid.
    pub fn blocks(&self) -> u64 {
        self.grid.iter().map(|&extent| u64::from(extent)).fold(1, u64::saturating_mul)
    }

    /// Threads of a block.
    pub fn threads(&self) -> u64 {
        self.block.iter().map(|&extent| u64::from(extent)).fold(1, u64::saturating_mul)
    }

    /// Shared memory of a block in bytes.
    pub fn shared(&self) -> u64 {
        u64::from(self.static_shared) + u64::from(self.dynamic_shared)
    }
}

impl fmt::Display for Launch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.grid;
        let [a, b, c] = self.block;
        write!(formatter, "grid {x}x{y}x{z}, block {a}x{b}x{c}, ")?;
        if self.cluster > 1 {
            write!(formatter, "clusters of {}, ", self.cluster)?;
        }
        write!(formatter, "{} bytes shared", self.shared())
    }
}

/// An instruction of the kernel and what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Line in the PTX text, from 1.
    pub line: u32,
    /// Opcode and modifiers as written.
    pub text: String,
    /// The unit that executes it.
    pub class: Class,
    /// What it costs a warp.
    pub cost: Cost,
    /// Multiply-adds that a warp makes in the tensor cores.
    pub products: u64,
    /// What it did.
    pub tally: Tally,
}

impl Line {
    fn new(instruction: &Instruction) -> Self {
        let mut text = instruction.opcode.name().to_owned();
        for modifier in &instruction.modifiers {
            text.push('.');
            text.push_str(modifier);
        }
        Self {
            line: instruction.line,
            text,
            class: class(instruction),
            cost: cost(instruction),
            products: products(instruction),
            tally: Tally::default(),
        }
    }

    /// How often a warp ran it, the rounds of a compare-and-swap loop counted one by one.
    pub fn rounds(&self) -> u64 {
        self.tally.warps + if self.cost.looped { self.tally.repeats } else { 0 }
    }

    /// Machine instructions that warps issued for it.
    pub fn slots(&self) -> u64 {
        self.rounds() * u64::from(self.cost.slots)
    }
}

/// What one launch of a kernel did, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    /// The kernel.
    pub kernel: String,
    /// The shape of every launch, in order.
    pub launches: Vec<Launch>,
    /// Barriers of blocks and clusters that all their threads reached, each counted once.
    pub barriers: u64,
    lines: Vec<Line>,
}

impl Counters {
    /// The counters of a launch in which nothing has happened yet.
    pub(crate) fn new(kernel: &str, instructions: &[&Instruction], launch: Launch) -> Self {
        let lines = instructions.iter().map(|instruction| Line::new(instruction)).collect();
        Self { kernel: kernel.to_owned(), launches: vec![launch], barriers: 0, lines }
    }

    /// Adds what a worker counted of this launch: a tally per instruction, in the kernel's order.
    pub(crate) fn absorb(&mut self, tallies: &[Tally], barriers: u64) {
        for (line, tally) in self.lines.iter_mut().zip(tallies) {
            line.tally += *tally;
        }
        self.barriers += barriers;
    }

    /// Adds further launches of the same kernel. Counters of another text are left out and `false` comes back.
    pub fn add(&mut self, other: &Self) -> bool {
        let place = |line: &Line| (line.line, line.class);
        if self.kernel != other.kernel
            || !self.lines.iter().map(place).eq(other.lines.iter().map(place))
        {
            return false;
        }
        for (line, more) in self.lines.iter_mut().zip(&other.lines) {
            line.tally += more.tally;
        }
        self.launches.extend_from_slice(&other.launches);
        self.barriers += other.barriers;
        true
    }

    /// All instructions in the order of the text.
    pub fn all(&self) -> &[Line] {
        &self.lines
    }

    /// The instructions of these lines of the text.
    pub fn lines(&self, lines: RangeInclusive<u32>) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| lines.contains(&line.line))
    }

    /// What the instructions of these lines did together.
    pub fn within(&self, lines: RangeInclusive<u32>) -> Tally {
        self.lines(lines).map(|line| line.tally).sum()
    }

    /// What all instructions did together.
    pub fn total(&self) -> Tally {
        self.lines.iter().map(|line| line.tally).sum()
    }

    /// What the instructions of one class did together.
    pub fn of(&self, class: Class) -> Tally {
        self.lines.iter().filter(|line| line.class == class).map(|line| line.tally).sum()
    }

    /// What the instructions of every class did that ran.
    pub fn by_class(&self) -> BTreeMap<Class, Tally> {
        let mut classes = BTreeMap::new();
        for line in self.lines.iter().filter(|line| line.tally.warps > 0) {
            *classes.entry(line.class).or_insert_with(Tally::default) += line.tally;
        }
        classes
    }

    /// Machine instructions that warps issue.
    pub fn issue_slots(&self) -> u64 {
        self.lines.iter().map(Line::slots).sum()
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.launches.as_slice() {
            [launch] => writeln!(formatter, "{}: {launch}", self.kernel)?,
            launches => writeln!(formatter, "{}: {} launches", self.kernel, launches.len())?,
        }
        let total = self.total();
        writeln!(
            formatter,
            "{} barriers, {} divergent branches, {} of {} global bytes useful\n",
            self.barriers,
            total.divergent,
            total.useful_bytes(),
            total.global_bytes(),
        )?;
        let header = [
            "line",
            "instruction",
            "class",
            "warps",
            "lanes",
            "slots",
            "sectors",
            "wavefronts",
            "conflicts",
            "collisions",
        ];
        let mut columns = Columns::new(header, std::array::from_fn(|at| at == 1 || at == 2));
        for line in self.lines.iter().filter(|line| line.tally.warps > 0) {
            columns.push(row(Some(line.line), &line.text, line.class.to_string(), [line]));
        }
        for class in self.by_class().keys() {
            let lines = self.lines.iter().filter(|line| line.class == *class);
            columns.push(row(None, "all", class.to_string(), lines));
        }
        columns.push(row(None, "all", String::new(), &self.lines));
        write!(formatter, "{columns}")
    }
}

/// A row of the table: what these instructions did together.
fn row<'a>(
    number: Option<u32>,
    text: &str,
    class: String,
    lines: impl IntoIterator<Item = &'a Line>,
) -> [String; 10] {
    let (mut tally, mut slots) = (Tally::default(), 0);
    for line in lines {
        tally += line.tally;
        slots += line.slots();
    }
    let count = |count: u64| if count == 0 { String::new() } else { count.to_string() };
    [
        number.map_or_else(String::new, |number| number.to_string()),
        text.to_owned(),
        class,
        tally.warps.to_string(),
        format!("{:.1}", tally.threads as f64 / tally.warps.max(1) as f64),
        count(slots),
        count(tally.loads.sectors + tally.stores.sectors + tally.atomics.sectors),
        count(tally.wavefronts),
        count(tally.bank_conflicts()),
        count(tally.collisions),
    ]
}
