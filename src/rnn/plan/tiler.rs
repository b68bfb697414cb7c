//! The tiler of CUDA devices: every layout of a pass that the limits of a device allow, the
//! cheapest first.
//!
//! A layout is a path, the rows of a block, and what follows from them: its threads, which chunks
//! of the matrices lie in registers and which in shared memory, and how many blocks a
//! multiprocessor holds. Whole numbers, few of each, and a cost that is not linear in them: all are
//! tried. That takes 0.5 microseconds, sorted; of the constraint solvers among published crates
//! pumpkin-solver 0.5 takes 46 for the same answer, selen 0.15 takes 106, and microlp 0.7, for which
//! the costs have to be put in a table first, 28 (median of 1000, one core). They give one layout,
//! and no runners-up.
//!
//! The cost of a step is modelled, in microseconds, from what the kernels execute and from the
//! throughput that NVIDIA documents; it has been checked against no device yet. It orders layouts,
//! it does not promise times.
//!
//! Two more paths will have their place here: a head within a cluster, and within the whole grid.

use super::layout::{Binding, Cost, Tiling};
use super::{Pass, Path};
use crate::backend::Limits;
use crate::element::DType;
use crate::rnn::{Cell, Problem};

/// Of a multiprocessor: its parts, with a scheduler and a tensor core each; the 32-bit registers of
/// a part; threads; the shared memory that a block costs besides its own.
const PARTS: u64 = 4;
const REGISTERS: u64 = 16_384;
const THREADS: u64 = 2048;
const RESERVED: u64 = 1024;

/// Rows and units of a block of the stepwise kernels, and its threads.
const STEPWISE: [usize; 2] = [16, 32];
const STEPWISE_THREADS: u32 = 128;

/// The clock, in cycles of a microsecond; bytes of global memory, and of the second cache, in one.
const CLOCK: f32 = 1500.0;
const MEMORY: f32 = 1.5e6;
const CACHE: f32 = 4.0e6;
/// Microseconds from the end of a kernel to the first instructions of the next.
const LAUNCH: f32 = 2.5;

/// Every layout that fits, the cheapest first; the last resort fits always.
///
/// `threads` are the most that a block of the resident kernel has.
pub(super) fn tilings(pass: Pass, limits: &Limits, problem: &Problem, threads: u32) -> Vec<Tiling> {
    let work = Work {
        problem,
        pass,
        gates: problem.cell.recurrent_gates().len(),
        narrow: problem.dtype != DType::F32,
        most_threads: threads as usize,
    };
    let mut all: Vec<_> =
        work.row_counts().into_iter().filter_map(|rows| work.resident(limits, rows)).collect();
    all.push(work.stepwise(limits));
    all.sort_by(|a, b| a.cost.total().total_cmp(&b.cost.total()));
    all
}

/// What a pass has to do, as numbers.
struct Work<'a> {
    problem: &'a Problem,
    pass: Pass,
    gates: usize,
    narrow: bool,
    /// Of a resident block.
    most_threads: usize,
}

impl Work<'_> {
    /// Rows that a resident block may have: all lines of its product, or half of them.
    fn row_counts(&self) -> [usize; 2] {
        if self.narrow { [4, 8] } else { [2, 4] }
    }

    /// Elements of a line: h' of a head, or D of all its gates.
    fn columns(&self) -> usize {
        let span = self.problem.width.next_multiple_of(4);
        if self.pass == Pass::Backward { self.gates * span } else { span }
    }

    /// Whether a thread multiplies four units at a time instead of the gates of one.
    fn across(&self) -> bool {
        self.pass == Pass::Backward || (self.gates == 1 && !self.narrow)
    }

    /// Chunks of a line, the most of them that stay in registers, and quads of each.
    fn chunks(&self) -> [usize; 3] {
        let columns = self.columns();
        match (self.narrow, self.across()) {
            (true, true) => [2 * columns.div_ceil(32), 8 * self.gates, 1],
            (true, false) => [2 * columns.div_ceil(32), 8, self.gates],
            (false, true) => [columns.div_ceil(64), if self.gates == 1 { 2 } else { 4 }, 4],
            (false, false) => [columns.div_ceil(16), 4, self.gates],
        }
    }

    /// Registers of a thread, about; the kernels' own numbers are in kernels/rnn/resources.toml.
    fn registers(&self) -> u64 {
        match (self.narrow, self.gates) {
            (false, _) => 128,
            (true, 1) => 96,
            (true, 3) => 192,
            (true, _) => 256,
        }
    }

    fn resident(&self, limits: &Limits, rows: usize) -> Option<Tiling> {
        let &Problem { batch, heads, width, .. } = self.problem;
        let warps = width.div_ceil(if self.narrow { 16 } else { 8 });
        let threads = 32 * warps;
        if threads > self.most_threads {
            return None;
        }
        let [chunks, most, each] = self.chunks();
        let kept = chunks.min(most);
        let quads = 16 * threads * each * kept.max(chunks - kept);
        let pitch = self.columns().next_multiple_of(64) + 8;
        let [lines, bytes] = if self.narrow { [8, 2] } else { [4, 4] };
        let own = 16 * threads * if self.narrow { 4 } else { 1 };
        let shared = 2 * lines * pitch * bytes + own + quads;
        if shared as u64 > u64::from(limits.shared_bytes) {
            return None;
        }
        let blocks = (heads as u64).saturating_mul(batch.div_ceil(rows) as u64);
        let units = u64::from(limits.units.max(1));
        let fitting = [
            (PARTS * (REGISTERS / (32 * self.registers())) / warps as u64, Binding::Registers),
            (
                (u64::from(limits.shared_bytes) + RESERVED) / (shared as u64 + RESERVED),
                Binding::Shared,
            ),
            (THREADS / threads as u64, Binding::Threads),
        ];
        let (fit, binding) = fitting.into_iter().min_by_key(|(fit, _)| *fit)?;
        let fit = fit.max(1);
        let binding = if blocks <= units { Binding::Blocks } else { binding };
        let waves = blocks.div_ceil(units * fit);
        let beside = blocks.div_ceil(units).min(fit) as f32;
        let cost = Cost {
            // Loads of lines, three exchanges of lanes, a barrier, and the longest way through a cell.
            exchange: 300.0 / CLOCK,
            product: beside * self.product_cycles(rows, warps) / CLOCK,
            cells: beside * self.cell_cycles(rows, warps) / CLOCK,
            memory: self.step_bytes() * (blocks.min(units * fit) as f32 / blocks.max(1) as f32)
                / MEMORY,
        };
        Some(Tiling {
            path: Path::Resident,
            rows: rows as u32,
            threads: threads as u32,
            shared: shared as u32,
            chunks: [kept as u32, (chunks - kept) as u32],
            blocks,
            waves,
            binding,
            cost: cost.times(waves as f32),
        })
    }

    /// Cycles of a block's product: each of four schedulers issues a multiplication of 32 lanes, and
    /// shared memory gives 128 bytes; a tensor core takes eight for one of its own.
    fn product_cycles(&self, rows: usize, warps: usize) -> f32 {
        let [chunks, most, each] = self.chunks();
        if self.narrow {
            return (warps * chunks * each) as f32 * 8.0 / 4.0;
        }
        let multiplications = warps * chunks * each * 4 * rows;
        let lines = warps * chunks * rows * 4;
        let far = warps * chunks.saturating_sub(most) * each * 4;
        (multiplications as f32 / 4.0).max((lines + far) as f32)
    }

    /// Cycles of a block's cells: instructions of an element, of all warps, by four schedulers.
    fn cell_cycles(&self, rows: usize, warps: usize) -> f32 {
        let exact = match (self.problem.cell, self.pass) {
            (Cell::Elman(_), _) => 40,
            (Cell::Lstm, Pass::Forward) => 150,
            (Cell::Gru, Pass::Forward) => 110,
            (Cell::Slstm, Pass::Forward) => 170,
            (Cell::Gru, Pass::Backward) => 70,
            (_, Pass::Backward) => 110,
        };
        let of_a_lane = match self.narrow {
            true => exact / 2 * (rows / 2),
            false => exact,
        };
        // Where its tensors are, and moving them.
        let around = 60 * (if self.narrow { rows / 4 } else { 1 });
        (warps * (of_a_lane + around)) as f32 / 4.0
    }

    /// Bytes of a step of all rows, besides the matrices. Of a call of any length: the path that is
    /// taken, and with it every bit, must not depend on where a row is cut.
    fn step_bytes(&self) -> f32 {
        let [none, one] = [0, 1].map(|steps| {
            let problem = Problem { steps, ..self.problem.clone() };
            match self.pass {
                Pass::Forward => problem.least_bytes_forward(),
                Pass::Backward => problem.least_bytes_backward(),
            }
        });
        (one - none) as f32
    }

    fn matrix_bytes(&self) -> f32 {
        let &Problem { heads, width, .. } = self.problem;
        self.gates as f32 * heads as f32 * (width as f32).powi(2) * 4.0
    }

    fn stepwise(&self, limits: &Limits) -> Tiling {
        let &Problem { batch, heads, width, .. } = self.problem;
        let [rows, units_of_a_block] = STEPWISE;
        let tiles = batch.div_ceil(rows) as u64;
        let across = width.div_ceil(units_of_a_block) as u64;
        let blocks = tiles.saturating_mul(heads as u64).saturating_mul(across);
        let units = u64::from(limits.units.max(1));
        let beside = blocks.div_ceil(units) as f32;
        let warps = STEPWISE_THREADS as usize / 32;
        let multiplications = (warps * self.gates * 4 * width.next_multiple_of(32)) as f32;
        let cost = Cost {
            exchange: LAUNCH,
            product: beside * multiplications / 4.0 * 2.0 / CLOCK,
            cells: beside * self.cell_cycles(4, 4 * warps) / CLOCK,
            memory: self.step_bytes() / MEMORY + tiles as f32 * self.matrix_bytes() / CACHE,
        };
        Tiling {
            path: Path::Stepwise,
            rows: rows as u32,
            threads: STEPWISE_THREADS,
            shared: 0,
            chunks: [0, 0],
            blocks,
            waves: 1,
            binding: if blocks <= units { Binding::Blocks } else { Binding::Threads },
            cost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rnn::Options;

    fn layouts(pass: Pass, dtype: DType, sizes: [usize; 4], limits: &Limits) -> Vec<Tiling> {
        let problem = Problem::new(dtype, sizes, &Options::new(Cell::Lstm)).expect("it fits");
        let threads = if dtype == DType::F32 { 512 } else { 256 };
        tilings(pass, limits, &problem, threads)
    }

    #[test]
    fn small_heads_stay_in_registers() {
        for pass in [Pass::Forward, Pass::Backward] {
            let all = layouts(pass, DType::F32, [16, 9, 12, 64], &Limits::of_h100());
            let Tiling { path, rows, threads, chunks, blocks, binding, .. } = all[0];
            assert_eq!((path, rows, threads, blocks), (Path::Resident, 2, 256, 96));
            assert_eq!((chunks, binding), ([4, 0], Binding::Blocks));
            assert_eq!(all.len(), 3);
        }
    }

    #[test]
    fn larger_heads_go_on_in_shared_memory_as_far_as_there_is_some() {
        let all = layouts(Pass::Forward, DType::F32, [16, 9, 6, 128], &Limits::of_h100());
        assert_eq!((all[0].path, all[0].chunks), (Path::Resident, [4, 4]));
        let little = Limits { shared_bytes: 100 << 10, ..Limits::of_h100() };
        let all = layouts(Pass::Forward, DType::F32, [16, 9, 6, 128], &little);
        assert_eq!(all.iter().map(|one| one.path).collect::<Vec<_>>(), [Path::Stepwise]);
    }

    #[test]
    fn heads_that_fit_nowhere_are_walked_step_by_step() {
        for (dtype, width) in [(DType::F32, 129), (DType::BF16, 129), (DType::F16, 768)] {
            let all = layouts(Pass::Backward, dtype, [16, 9, 1, width], &Limits::of_h100());
            assert_eq!(all.iter().map(|one| one.path).collect::<Vec<_>>(), [Path::Stepwise]);
        }
    }

    #[test]
    fn many_rows_share_blocks() {
        let all = layouts(Pass::Forward, DType::F32, [64, 9, 12, 64], &Limits::of_h100());
        assert_eq!((all[0].rows, all[0].waves, all[0].binding), (4, 1, Binding::Registers));
        let all = layouts(Pass::Forward, DType::BF16, [256, 9, 12, 64], &Limits::of_h100());
        assert_eq!(all[0].rows, 8);
    }

    #[test]
    fn where_a_row_is_cut_changes_nothing() {
        for width in [1, 33, 64, 100, 128, 300] {
            let of = |steps| {
                layouts(Pass::Forward, DType::F32, [7, steps, 3, width], &Limits::of_h100())
            };
            assert_eq!(of(1), of(1000));
            assert_eq!(of(1), of(0));
        }
    }
}
