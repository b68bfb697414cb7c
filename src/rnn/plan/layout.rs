//! How a kernel of a CUDA device is laid out, what that costs, and a table of it.

use std::fmt;

use super::Path;

/// What a step costs, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Passing h on to those who multiply it next: a barrier, or a launch.
    pub exchange: f32,
    /// The recurrent product.
    pub product: f32,
    /// The cells, element by element.
    pub cells: f32,
    /// Bytes from and to global memory; they move beside all else.
    pub memory: f32,
}

impl Cost {
    /// All of it.
    pub fn total(&self) -> f32 {
        (self.exchange + self.product + self.cells).max(self.memory)
    }

    #[cfg(feature = "cuda")]
    pub(super) fn times(self, waves: f32) -> Self {
        let Self { exchange, product, cells, memory } = self;
        Self {
            exchange: exchange * waves,
            product: product * waves,
            cells: cells * waves,
            memory: memory * waves,
        }
    }
}

/// What keeps another block from a multiprocessor, or leaves some without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Binding {
    /// There are no more blocks than multiprocessors.
    Blocks,
    /// The registers of its threads.
    Registers,
    /// Shared memory.
    Shared,
    /// Threads.
    Threads,
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocks => "blocks: no multiprocessor has two",
            Self::Registers => "registers",
            Self::Shared => "shared memory",
            Self::Threads => "threads",
        })
    }
}

/// A layout of a pass, and what it costs.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tiling {
    /// How time is walked.
    pub path: Path,
    /// Rows of a block.
    pub rows: u32,
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of shared memory that a block gets at its launch.
    pub shared: u32,
    /// Chunks of the matrices that each thread has, in registers and in shared memory.
    pub chunks: [u32; 2],
    /// Blocks of a launch.
    pub blocks: u64,
    /// Times that all multiprocessors are filled with blocks, one after the other.
    pub waves: u64,
    /// What holds it back.
    pub binding: Binding,
    /// Microseconds of a step, as modelled.
    pub cost: Cost,
}

/// The chosen layout, what holds it back, and the runners-up; nothing where there are none.
pub(super) fn write_table(f: &mut fmt::Formatter<'_>, layouts: &[Tiling]) -> fmt::Result {
    let Some(chosen) = layouts.first() else { return Ok(()) };
    let &Tiling { threads, shared, chunks: [near, far], waves, binding, .. } = chosen;
    write!(f, "\nthreads    {threads} of a block, {shared} bytes of shared memory")?;
    if near > 0 {
        write!(f, "\nmatrices   {near} chunks of a thread in registers, {far} in shared memory")?;
    }
    write!(f, "\nwaves      {waves}; held by {binding}")?;
    write!(f, "\n\nmicroseconds of a step, modelled, of each layout that fits")?;
    write!(f, "\n  layout     rows  blocks  waves  exchange  product   cells  memory    all")?;
    for layout in layouts {
        let &Tiling { path, rows, blocks, waves, cost, .. } = layout;
        let name = match path {
            Path::Resident => "resident",
            Path::Stepwise => "stepwise",
        };
        let Cost { exchange, product, cells, memory } = cost;
        write!(f, "\n  {name:<9} {rows:>5} {blocks:>7} {waves:>6}")?;
        write!(
            f,
            " {exchange:>9.2} {product:>8.2} {cells:>7.2} {memory:>7.2} {:>6.2}",
            cost.total()
        )?;
    }
    Ok(())
}
