//! What some steps give to the gradients of the recurrent matrices:
//!
//! ```text
//! dR[k, n, d, p] += Σ_{b, t} D(k̄)[b, t, n, d] h'[b, t, n, p]
//! ```
//!
//! Steps lay down D and h'; then each matrix is one product over the rows of all of these steps.

use std::ops::Range;

use gemm::Parallelism;
use rayon::prelude::*;

use super::product::{BLOCK, Units, blocks};
use crate::backend::cpu::aligned::Aligned;
use crate::backend::cpu::disjoint::Disjoint;
use crate::rnn::Problem;

/// Values of D that are laid down at once, about: as many as stay in a cache of the machine.
const VALUES: usize = 4 << 20;

/// D and h' of some steps.
pub(super) struct History {
    heads: usize,
    batch: usize,
    gates: usize,
    width: usize,
    /// Units of a head, in whole blocks.
    padded: usize,
    /// Steps that are laid down at once.
    steps: usize,
    /// By head, row, step and gate.
    gradients: Aligned,
    /// By head, row and step.
    states: Aligned,
}

/// Where the tasks of some steps write, each to units of its own.
pub(super) struct Span<'a> {
    steps: Range<usize>,
    batch: usize,
    gates: usize,
    padded: usize,
    gradients: Disjoint<'a, f32>,
    states: Disjoint<'a, f32>,
}

impl History {
    pub fn new(problem: &Problem) -> Self {
        let &Problem { cell, batch, steps, heads, width, .. } = problem;
        let (gates, padded) = (cell.recurrent_gates().len(), blocks(problem) * BLOCK);
        let of_step = (batch * heads * gates * padded).max(1);
        Self {
            heads,
            batch,
            gates,
            width,
            padded,
            steps: (VALUES / of_step).clamp(1, steps.max(1)),
            gradients: Aligned::default(),
            states: Aligned::default(),
        }
    }

    /// The spans of steps that are laid down together, in order.
    pub fn spans(&self, steps: usize) -> impl DoubleEndedIterator<Item = Range<usize>> + use<> {
        let at_once = self.steps;
        let spans = steps.div_ceil(at_once);
        (0..spans).map(move |span| span * at_once..((span + 1) * at_once).min(steps))
    }

    /// Room for these steps.
    pub fn begin(&mut self, steps: Range<usize>) -> Span<'_> {
        let lines = self.heads * self.batch * steps.len();
        self.gradients.resize(lines * self.gates * self.padded);
        self.states.resize(lines * self.padded);
        Span {
            steps,
            batch: self.batch,
            gates: self.gates,
            padded: self.padded,
            gradients: Disjoint::new(&mut self.gradients),
            states: Disjoint::new(&mut self.states),
        }
    }

    /// Adds what so many steps, laid down by all rows, give to matrices (Gr, N, D, D).
    pub fn add(&self, steps: usize, matrices: &mut [f32]) {
        if steps * self.batch == 0 {
            return;
        }
        let size = self.width * self.width;
        let count = self.gates * self.heads;
        // Few matrices are shared out themselves.
        let inner = match count >= 2 * rayon::current_num_threads() {
            true => Parallelism::None,
            false => Parallelism::Rayon(0),
        };
        let add = |(i, matrix): (usize, &mut [f32])| {
            let (gate, head) = (i / self.heads, i % self.heads);
            self.add_one(steps, [gate, head], matrix, inner);
        };
        match inner {
            Parallelism::None => {
                matrices.par_chunks_exact_mut(size).enumerate().for_each(add);
            }
            _ => matrices.chunks_exact_mut(size).enumerate().for_each(add),
        }
    }

    fn add_one(
        &self,
        steps: usize,
        [gate, head]: [usize; 2],
        matrix: &mut [f32],
        parallelism: Parallelism,
    ) {
        let (width, lines) = (self.width, self.batch * steps);
        let per_line = self.gates * self.padded;
        let gradients = &self.gradients[head * lines * per_line..][..lines * per_line];
        let gradients = &gradients[gate * self.padded..];
        let states = &self.states[head * lines * self.padded..][..lines * self.padded];
        assert!(matrix.len() == width * width && width <= self.padded);
        // SAFETY: `matrix` has D rows of D values. Row i of the left factor and column j of the
        // right one, i and j < D <= `padded`, have their k-th values, k < `lines`, at i + k
        // `per_line` and j + k `padded`, which lie within `gradients` and `states`: these end
        // behind line `lines` - 1, and i is within a gate's part of it.
        unsafe {
            gemm::gemm(
                width,
                width,
                lines,
                matrix.as_mut_ptr(),
                1,
                width as isize,
                true,
                gradients.as_ptr(),
                per_line as isize,
                1,
                states.as_ptr(),
                1,
                self.padded as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        }
    }
}

impl Span<'_> {
    /// Lays down D of each gate, and h', of the units of a block.
    ///
    /// # Safety
    ///
    /// No other task writes these units of this row, head and step.
    #[inline(always)]
    pub unsafe fn write(
        &self,
        [row, head, step, block]: [usize; 4],
        gradients: &[Units],
        state: &Units,
    ) {
        let line = (head * self.batch + row) * self.steps.len() + step - self.steps.start;
        for (gate, gradients) in gradients[..self.gates].iter().enumerate() {
            let first = (line * self.gates + gate) * self.padded + block * BLOCK;
            // SAFETY: the caller's promise.
            unsafe { self.gradients.write_run(first, gradients) };
        }
        // SAFETY: the caller's promise.
        unsafe { self.states.write_run(line * self.padded + block * BLOCK, state) };
    }
}
