//! The forward pass on the CPU.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::cells::{self, Gates};
use super::group::{Group, groups, time, visited};
use super::product::{BLOCK, Panels, Sums, Units, gathered, multiply, scatter, units};
use super::tensors::{
    GateTarget, Place, Source, Target, bias_by_block, claimed, of_state, optional,
};
use crate::Result;
use crate::backend::cpu::aligned::{Aligned, elements_mut};
use crate::backend::cpu::disjoint::Disjoint;
use crate::backend::{Cpu, WriteGuard};
use crate::element::DeviceFloat;
use crate::rnn::check::CHECK;
use crate::rnn::{Inputs, Options, OutputsMut, Plan, Problem};
use crate::tensor::View;

/// States beside h that a block has.
const CELLS: usize = 3;

/// Runs the recurrence. The inputs have been checked.
pub(super) fn run<T: DeviceFloat>(
    plan: &Plan,
    problem: &Problem,
    inputs: &Inputs<'_, Cpu, T>,
    options: &Options,
    outputs: &OutputsMut<'_, Cpu, T>,
) -> Result<()> {
    let lengths = problem.read_lengths(inputs)?;
    // Read before anything is claimed for writing: the last states may lie in their place.
    let [h, c, n, m] = inputs.initial.all();
    let initial = [optional(h)?, optional(c)?, optional(n)?, optional(m)?];
    let (r, b) = (inputs.r.to_f32()?, optional(inputs.b)?);
    let wx = inputs.wx.read()?;
    let mut claims = Claims::of(outputs)?;
    let pass = Forward::<T> {
        problem,
        options,
        steps: lengths.iter().copied().max().unwrap_or(0),
        lengths,
        panels: Panels::forward(problem, &r),
        bias: bias_by_block(problem, b.as_deref()),
        initial,
        wx: Source::new("wx", &wx, inputs.wx)?,
        written: claims.written(outputs)?,
        arch: Arch::new(),
    };
    groups(plan, problem).par_iter().for_each(|group| pass.run(group));
    Ok(())
}

/// The states of every step beside h, as outputs and as kept for the backward pass.
fn sequences<'a, T: DeviceFloat>(
    outputs: &'a OutputsMut<'_, Cpu, T>,
) -> [(&'static str, Option<&'a View<Cpu>>); 5] {
    let states = outputs.states.as_deref().map_or([None; 3], |states| states.all());
    let [c, n, m] = states.map(|state| state.map(|state| &**state));
    let saved = outputs.saved.as_deref();
    let kept_c = saved.and_then(|saved| saved.c.as_ref()).map(|c| &**c);
    let kept_n = saved.and_then(|saved| saved.n.as_ref()).map(|n| &**n);
    [("c", c), ("n", n), ("m", m), ("saved c", kept_c), ("saved n", kept_n)]
}

/// Which state, of h, c, n and m, each of them is.
const STATE_OF_SEQUENCE: [usize; 5] = [1, 2, 3, 1, 2];

/// The bytes of all outputs, claimed for writing.
struct Claims<'a> {
    h: WriteGuard<'a>,
    sequences: [Option<WriteGuard<'a>>; 5],
    gates: Option<WriteGuard<'a>>,
    last: [Option<WriteGuard<'a>>; 4],
}

impl<'a> Claims<'a> {
    fn of<T: DeviceFloat>(outputs: &'a OutputsMut<'_, Cpu, T>) -> Result<Self> {
        let mut claims = Self {
            h: outputs.h.write()?,
            sequences: Default::default(),
            gates: claimed(outputs.saved.as_deref().and_then(|saved| saved.gates.as_ref()))?,
            last: Default::default(),
        };
        for (claim, (_, view)) in claims.sequences.iter_mut().zip(sequences(outputs)) {
            *claim = claimed(view)?;
        }
        let last = outputs.last.as_deref().map_or([None; 4], |last| last.all());
        for (claim, view) in claims.last.iter_mut().zip(last) {
            *claim = claimed(view.map(|view| &**view))?;
        }
        Ok(claims)
    }

    fn written<'b, T: DeviceFloat>(
        &'b mut self,
        outputs: &OutputsMut<'_, Cpu, T>,
    ) -> Result<Written<'b, T>> {
        let gates = outputs.saved.as_deref().and_then(|saved| saved.gates.as_ref());
        let gates = self.gates.as_mut().zip(gates);
        let mut written = Written {
            h: Target::new("h", &mut self.h, outputs.h)?,
            sequences: [None; 5],
            gates: gates.map(|(bytes, view)| GateTarget::new(bytes, view)).transpose()?,
            last: [None; 4],
        };
        let claimed = self.sequences.iter_mut().zip(sequences(outputs));
        for (target, (bytes, (name, view))) in written.sequences.iter_mut().zip(claimed) {
            let tensor = bytes.as_mut().zip(view);
            *target = tensor.map(|(bytes, view)| Target::new(name, bytes, view)).transpose()?;
        }
        for (target, bytes) in written.last.iter_mut().zip(&mut self.last) {
            let values = bytes.as_mut().map(|bytes| elements_mut(CHECK, "last", bytes));
            *target = values.transpose()?.map(Disjoint::new);
        }
        Ok(written)
    }
}

/// Where tasks write, each to units of its own.
struct Written<'a, T> {
    h: Target<'a, T>,
    sequences: [Option<Target<'a, f32>>; 5],
    gates: Option<GateTarget<'a, T>>,
    last: [Option<Disjoint<'a, f32>>; 4],
}

/// A call.
struct Forward<'a, T> {
    problem: &'a Problem,
    options: &'a Options,
    /// Steps of the longest row.
    steps: usize,
    lengths: Vec<usize>,
    panels: Panels,
    /// By blocks of all heads.
    bias: Vec<[Units; 4]>,
    /// h, c, n and m.
    initial: [Option<Vec<f32>>; 4],
    wx: Source<'a, T>,
    written: Written<'a, T>,
    arch: Arch,
}

impl<T: DeviceFloat> Forward<'_, T> {
    /// All steps of a group.
    fn run(&self, group: &Group) {
        let (mut h, mut next, mut cells) =
            (Aligned::default(), Aligned::default(), Aligned::default());
        let values = group.block_values();
        next.reset(group.all_blocks() * values);
        h.reset(group.all_blocks() * values);
        cells.reset(group.all_blocks() * CELLS * values);
        self.begin(group, &mut h, &mut cells);
        for step in 0..self.problem.steps {
            group.share(
                [(&mut next, values), (&mut cells, CELLS * values)],
                |blocks, next, cells| {
                    let h: &[f32] = &h;
                    self.arch.dispatch(Step { pass: self, group, step, blocks, h, next, cells });
                },
            );
            std::mem::swap(&mut h, &mut next);
        }
        self.end(group, &h, &cells);
    }

    /// The states before the first step, into their places.
    fn begin(&self, group: &Group, h: &mut [f32], cells: &mut [f32]) {
        let (h, cells) = (h.as_chunks_mut::<BLOCK>().0, cells.as_chunks_mut::<BLOCK>().0);
        let rows = group.rows.len();
        for block in 0..group.all_blocks() {
            let (head, number) = group.place(block);
            let units = units(self.problem, number);
            for row in 0..rows {
                let of = |state: &Option<Vec<f32>>| {
                    let place = [group.rows.start + row, head];
                    of_state(self.problem, state.as_deref(), place, &units)
                };
                h[block * rows + row] = of(&self.initial[0]);
                for (i, state) in self.initial[1..].iter().enumerate() {
                    cells[(block * CELLS + i) * rows + row] = of(state);
                }
            }
        }
    }

    /// The states after the last step, from their places.
    fn end(&self, group: &Group, h: &[f32], cells: &[f32]) {
        let (h, cells) = (h.as_chunks::<BLOCK>().0, cells.as_chunks::<BLOCK>().0);
        let (rows, Problem { heads, width, .. }) = (group.rows.len(), self.problem);
        for block in 0..group.all_blocks() {
            let (head, number) = group.place(block);
            let units = units(self.problem, number);
            for row in 0..rows {
                let first = ((group.rows.start + row) * heads + head) * width + units.start;
                for (state, last) in self.written.last.iter().enumerate() {
                    let values = match state {
                        0 => &h[block * rows + row],
                        _ => &cells[(block * CELLS + state - 1) * rows + row],
                    };
                    if let Some(last) = last {
                        // SAFETY: a group has heads and rows of its own, and its tasks are done.
                        unsafe { last.write_run(first, &values[..units.len()]) };
                    }
                }
            }
        }
    }
}

/// Blocks of a group at a step.
struct Step<'a, T> {
    pass: &'a Forward<'a, T>,
    group: &'a Group,
    step: usize,
    blocks: Range<usize>,
    /// h before the step, of all blocks of the group.
    h: &'a [f32],
    /// h after the step, of these blocks.
    next: &'a mut [f32],
    /// c, n and m of these blocks.
    cells: &'a mut [f32],
}

impl<T: DeviceFloat> WithSimd for Step<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.pass.problem.cell.recurrent_gates().len() {
            1 => self.run::<S, 1>(simd),
            3 => self.run::<S, 3>(simd),
            _ => self.run::<S, 4>(simd),
        }
    }
}

impl<T: DeviceFloat> Step<'_, T> {
    #[inline(always)]
    fn run<S: Simd, const GATES: usize>(mut self, simd: S) {
        let rows = self.group.rows.len();
        let mut sums = vec![[[0.0; BLOCK]; GATES]; rows];
        for (block, next) in visited(self.blocks.clone(), self.step, Some(self.step + 1)) {
            if let Some((block, step)) = next {
                self.prefetch(block, step);
            }
            if self.step < self.pass.steps {
                let h = self.group.of_head(self.h, self.group.block_values(), block);
                let panels =
                    self.group.panels(&self.pass.panels, block, next.map(|(next, _)| next));
                multiply::<S, GATES>(simd, rows, h, panels, &mut sums);
            }
            for (row, sums) in sums.iter().enumerate() {
                self.advance(simd, block, row, sums);
            }
        }
    }

    /// Asks for what a block reads at a step.
    #[inline(always)]
    fn prefetch(&self, block: usize, step: usize) {
        let Self { pass, group, .. } = *self;
        let (head, number) = group.place(block);
        let units = units(pass.problem, number);
        for row in group.rows.clone() {
            let length = pass.lengths[row];
            if step < length {
                let t = time(pass.problem.direction, step, length);
                for gate in 0..pass.problem.cell.input_gates().len() {
                    pass.wx.prefetch([row, t, gate, head], &units);
                }
            }
        }
    }

    /// The units of a block of one row, whose recurrent products are known.
    #[inline(always)]
    fn advance<S: Simd, const GATES: usize>(
        &mut self,
        simd: S,
        block: usize,
        row: usize,
        sums: &Sums<GATES>,
    ) {
        let Self { pass, group, step, .. } = *self;
        let (rows, own) = (group.rows.len(), block - self.blocks.start);
        let (head, number) = group.place(block);
        let units = units(pass.problem, number);
        let length = pass.lengths[group.rows.start + row];
        let t = time(pass.problem.direction, step, length);
        let place = |gate| [group.rows.start + row, t, gate, head];
        let h = &self.h.as_chunks::<BLOCK>().0[block * rows + row];
        let next = &mut self.next.as_chunks_mut::<BLOCK>().0[own * rows + row];
        let cells = self.cells.as_chunks_mut::<BLOCK>().0;
        let cell = |i| (own * CELLS + i) * rows + row;
        if step >= length {
            *next = *h;
            // SAFETY: a task has units of its own.
            unsafe { pass.written.end_row(place, &units) };
            return;
        }
        let bias = &pass.bias[head * group.blocks + number];
        let mut input = [[0.0; BLOCK]; 4];
        let gates = pass.problem.cell.input_gates().len();
        for (gate, input) in input[..gates].iter_mut().enumerate() {
            pass.wx.load(place(gate), &units, input);
        }
        let (mut states, mut saved) = ([[0.0; BLOCK]; 4], [[0.0; BLOCK]; 5]);
        let mut before = [*h, [0.0; BLOCK], [0.0; BLOCK], [0.0; BLOCK]];
        for (i, before) in before[1..].iter_mut().enumerate() {
            *before = cells[cell(i)];
        }
        for part in 0..BLOCK / S::F32_LANES {
            let gates = Gates {
                input: gathered::<S, 4>(simd, &input, part),
                recurrent: gathered::<S, 4>(simd, sums, part),
                bias: gathered::<S, 4>(simd, bias, part),
            };
            let before = gathered::<S, 4>(simd, &before, part);
            let stepped = cells::step(simd, pass.options, &gates, before);
            scatter::<S, 4>(stepped.states, &mut states, part);
            scatter::<S, 5>(stepped.saved, &mut saved, part);
        }
        *next = states[0];
        for i in 0..CELLS {
            cells[cell(i)] = states[i + 1];
        }
        // SAFETY: a task has units of its own.
        unsafe { pass.written.step(pass.problem, place, &units, &states, &saved) };
    }
}

impl<T: DeviceFloat> Written<'_, T> {
    /// What a step gives.
    ///
    /// # Safety
    ///
    /// No other task writes these units.
    #[inline(always)]
    unsafe fn step(
        &self,
        problem: &Problem,
        place: impl Fn(usize) -> Place,
        units: &Range<usize>,
        states: &[Units; 4],
        saved: &[Units; 5],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            self.h.store(place(0), units, &states[0]);
            for (target, state) in self.sequences.iter().zip(STATE_OF_SEQUENCE) {
                if let Some(target) = target {
                    target.store(place(0), units, &states[state]);
                }
            }
            if let Some(gates) = &self.gates {
                for (gate, saved) in saved[..problem.saved_gates()].iter().enumerate() {
                    gates.store(place(gate), units, saved);
                }
            }
        }
    }

    /// Zeros, where a row has ended.
    ///
    /// # Safety
    ///
    /// No other task writes these units.
    #[inline(always)]
    unsafe fn end_row(&self, place: impl Fn(usize) -> Place, units: &Range<usize>) {
        let zeros = [0.0; BLOCK];
        // SAFETY: the caller's promise.
        unsafe {
            self.h.store(place(0), units, &zeros);
            for target in self.sequences.iter().flatten() {
                target.store(place(0), units, &zeros);
            }
        }
    }
}
