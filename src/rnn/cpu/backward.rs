//! The backward pass on the CPU: from the last step to the first, some steps at a time; what these
//! give to the recurrent matrices is then added as products over rows and steps.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::cells::{self, Kept, clamp};
use super::group::{Group, groups, time, visited};
use super::history::{History, Span};
use super::product::{BLOCK, Panels, Units, gathered, lanes, multiply, scatter, units};
use super::sources::{Reads, Sources};
use super::tensors::{Target, of_state, optional};
use crate::Result;
use crate::backend::Cpu;
use crate::backend::cpu::aligned::{Aligned, elements_mut};
use crate::element::DeviceFloat;
use crate::rnn::check::CHECK;
use crate::rnn::{Gradients, Inputs, Options, OutputGradients, Plan, Problem, Saved};
use crate::tensor::Tensor;

/// States that have gradients.
const STATES: usize = 3;

/// What a block has of each row: gradients of the states, and sums of the bias's.
const CELLS: usize = STATES + 4;

/// Runs the backward pass. The tensors have been checked.
#[allow(clippy::too_many_arguments)]
pub(super) fn run<T: DeviceFloat>(
    plan: &Plan,
    problem: &Problem,
    inputs: &Inputs<'_, Cpu, T>,
    options: &Options,
    h: &Tensor<Cpu, T>,
    saved: &Saved<Cpu, T>,
    given: &OutputGradients<'_, Cpu, T>,
    gradients: &Gradients<Cpu, T>,
) -> Result<()> {
    let [h0, c0, n0, _] = inputs.initial.all();
    let last = given.last;
    let r = inputs.r.to_f32()?;
    let reads = Reads::of(h, saved, given)?;
    let mut dwx = gradients.wx.write()?;
    let pass = Backward::<T> {
        problem,
        options,
        lengths: problem.read_lengths(inputs)?,
        panels: Panels::backward(problem, &r),
        initial: [optional(h0)?, optional(c0)?, optional(n0)?],
        last: [optional(last.h)?, optional(last.c)?, optional(last.n)?],
        given: [optional(given.c)?, optional(given.n)?],
        sources: reads.sources(h, saved, given)?,
        dwx: Target::new("dwx", &mut dwx, &gradients.wx)?,
        arch: Arch::new(),
    };
    let mut dr = gradients.r.write()?;
    let dr = elements_mut(CHECK, "dR", &mut dr)?;
    dr.fill(0.0);
    let mut walks: Vec<Walk> =
        groups(plan, problem).into_iter().map(|group| pass.begin(group)).collect();
    let mut history = History::new(problem);
    for steps in history.spans(problem.steps).rev() {
        let span = history.begin(steps.clone());
        walks.par_iter_mut().for_each(|walk| {
            steps.clone().rev().for_each(|step| pass.step(walk, step, &span));
        });
        history.add(steps.len(), dr);
    }
    walks.par_iter_mut().for_each(|walk| pass.first(walk));
    pass.write(&walks, gradients)
}

/// A call.
struct Backward<'a, T> {
    problem: &'a Problem,
    options: &'a Options,
    lengths: Vec<usize>,
    panels: Panels,
    /// h, c and n before the first step.
    initial: [Option<Vec<f32>>; STATES],
    /// The gradients of the states after the last step.
    last: [Option<Vec<f32>>; STATES],
    /// The gradients of c and n of every step.
    given: [Option<Vec<f32>>; 2],
    sources: Sources<'a, T>,
    dwx: Target<'a, T>,
    arch: Arch,
}

/// A group on its way back.
struct Walk {
    group: Group,
    /// D of the step behind, by block, gate and row.
    d: Aligned,
    /// D of the step that is being run.
    next: Aligned,
    /// By block, kind and row.
    cells: Aligned,
}

impl<T: DeviceFloat> Backward<'_, T> {
    fn gates(&self) -> usize {
        self.problem.cell.recurrent_gates().len()
    }

    /// A group behind its last step.
    fn begin(&self, group: Group) -> Walk {
        let (blocks, values) = (group.all_blocks(), group.block_values());
        let [mut d, mut next, mut cells] = [const { Aligned::EMPTY }; 3];
        d.reset(blocks * self.gates() * values);
        next.reset(blocks * self.gates() * values);
        cells.reset(blocks * CELLS * values);
        let (rows, lines) = (group.rows.len(), cells.as_chunks_mut::<BLOCK>().0);
        for block in 0..blocks {
            let (head, number) = group.place(block);
            let units = units(self.problem, number);
            for row in 0..rows {
                let place = [group.rows.start + row, head];
                for (i, last) in self.last.iter().enumerate() {
                    lines[(block * CELLS + i) * rows + row] =
                        of_state(self.problem, last.as_deref(), place, &units);
                }
            }
        }
        Walk { group, d, next, cells }
    }

    fn step(&self, walk: &mut Walk, step: usize, span: &Span<'_>) {
        let Walk { group, d, next, cells } = walk;
        let values = group.block_values();
        let shares = [(&mut **next, self.gates() * values), (&mut **cells, CELLS * values)];
        group.share(shares, |blocks, next, cells| {
            let back = BackAt { pass: self, group, step, blocks, d, next, cells, span };
            self.arch.dispatch(back);
        });
        std::mem::swap(d, next);
    }

    /// The gradients of the states before the first step.
    fn first(&self, walk: &mut Walk) {
        let Walk { group, d, next, cells } = walk;
        let values = group.block_values();
        let shares = [(&mut **next, self.gates() * values), (&mut **cells, CELLS * values)];
        group.share(shares, |blocks, _, cells| {
            self.arch.dispatch(First { pass: self, group, blocks, d, cells });
        });
    }

    /// The products of all rows of a block with the matrices.
    #[inline(always)]
    fn products<S: Simd>(
        &self,
        simd: S,
        group: &Group,
        (block, next): (usize, Option<usize>),
        d: &[f32],
        sums: &mut [[Units; 1]],
    ) {
        if self.options.grad_cut {
            return;
        }
        let d = group.of_head(d, self.gates() * group.block_values(), block);
        let panels = group.panels(&self.panels, block, next);
        multiply::<S, 1>(simd, group.rows.len(), d, panels, sums);
    }

    /// The units of a state after a step of a row, or before the first. Where a head has fewer
    /// units than the block, n is 1, which divides.
    #[inline(always)]
    fn state(
        &self,
        state: usize,
        [row, head]: [usize; 2],
        t: Option<usize>,
        units: &Range<usize>,
    ) -> Units {
        let Some(t) = t else {
            return of_state(self.problem, self.initial[state].as_deref(), [row, head], units);
        };
        let mut values = [if state == 2 { 1.0 } else { 0.0 }; BLOCK];
        match state.checked_sub(1) {
            None => self.sources.h.load([row, t, 0, head], units, &mut values),
            Some(kept) => {
                if let Some(source) = &self.sources.kept[kept] {
                    source.load([row, t, 0, head], units, &mut values);
                }
            }
        }
        values
    }

    /// The units of a gradient of a state at a step; zeros where none is given.
    #[inline(always)]
    fn given(
        &self,
        state: usize,
        [row, head]: [usize; 2],
        t: usize,
        units: &Range<usize>,
    ) -> Units {
        let mut values = [0.0; BLOCK];
        match state.checked_sub(1) {
            None => {
                if let Some(dh) = &self.sources.dh {
                    dh.load([row, t, 0, head], units, &mut values);
                }
                values
            }
            // A sequence is a state of B T rows.
            Some(other) => {
                let given = self.given[other].as_deref();
                of_state(self.problem, given, [row * self.problem.steps + t, head], units)
            }
        }
    }

    /// Writes gradients of states and bias.
    fn write(&self, walks: &[Walk], gradients: &Gradients<Cpu, T>) -> Result<()> {
        let &Problem { cell, batch, heads, width, .. } = self.problem;
        let mut initial = [const { Vec::<f32>::new() }; STATES];
        initial.iter_mut().for_each(|state| state.resize(batch * heads * width, 0.0));
        let mut bias = vec![0.0f64; cell.bias_gates().len() * heads * width];
        for Walk { group, cells, .. } in walks {
            let (rows, lines) = (group.rows.len(), cells.as_chunks::<BLOCK>().0);
            for block in 0..group.all_blocks() {
                let (head, number) = group.place(block);
                let units = units(self.problem, number);
                for row in 0..rows {
                    let line =
                        |kind: usize| &lines[(block * CELLS + kind) * rows + row][..units.len()];
                    let at = |line: usize| (line * heads + head) * width + units.start;
                    for (i, state) in initial.iter_mut().enumerate() {
                        let first = at(group.rows.start + row);
                        state[first..][..units.len()].copy_from_slice(line(i));
                    }
                    for gate in 0..cell.bias_gates().len() {
                        let sums = &mut bias[at(gate)..][..units.len()];
                        for (sum, own) in sums.iter_mut().zip(line(STATES + gate)) {
                            *sum += f64::from(*own);
                        }
                    }
                }
            }
        }
        for (tensor, values) in gradients.initial.iter().zip(&initial) {
            if let Some(tensor) = tensor {
                elements_mut(CHECK, "initial", &mut tensor.write()?)?.copy_from_slice(values);
            }
        }
        gradients.b.as_ref().map_or(Ok(()), |tensor| tensor.write_f64(&bias))
    }
}

/// Blocks of a group at a step.
struct BackAt<'a, T> {
    pass: &'a Backward<'a, T>,
    group: &'a Group,
    step: usize,
    blocks: Range<usize>,
    /// D of the step behind, of all blocks of the group.
    d: &'a [f32],
    /// D of this step, of these blocks.
    next: &'a mut [f32],
    cells: &'a mut [f32],
    span: &'a Span<'a>,
}

impl<T: DeviceFloat> WithSimd for BackAt<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let rows = self.group.rows.len();
        let mut sums = vec![[[0.0; BLOCK]]; rows];
        let longest = self.pass.lengths[self.group.rows.clone()].iter().max();
        let any_behind = longest.is_some_and(|&longest| self.step + 1 < longest);
        for (block, next) in visited(self.blocks.clone(), self.step, self.step.checked_sub(1)) {
            if let Some((block, step)) = next {
                self.prefetch(block, step);
            }
            if any_behind {
                let blocks = (block, next.map(|(next, _)| next));
                self.pass.products(simd, self.group, blocks, self.d, &mut sums);
            }
            for (row, [sums]) in sums.iter().enumerate() {
                self.back(simd, block, row, sums);
            }
        }
    }
}

impl<T: DeviceFloat> BackAt<'_, T> {
    /// Asks for what a block reads at a step; the states after it were read as those before the
    /// step behind.
    #[inline(always)]
    fn prefetch(&self, block: usize, step: usize) {
        let Self { pass, group, .. } = *self;
        let (head, number) = group.place(block);
        let units = units(pass.problem, number);
        let time = |step, length| time(pass.problem.direction, step, length);
        for row in group.rows.clone() {
            let length = pass.lengths[row];
            if step >= length {
                continue;
            }
            let t = time(step, length);
            if let Some(gates) = &pass.sources.gates {
                for gate in 0..pass.problem.saved_gates() {
                    gates.prefetch([row, t, gate, head], &units);
                }
            }
            if let Some(dh) = &pass.sources.dh {
                dh.prefetch([row, t, 0, head], &units);
            }
            if let Some(step) = step.checked_sub(1) {
                let before = [row, time(step, length), 0, head];
                pass.sources.h.prefetch(before, &units);
                for kept in pass.sources.kept.iter().flatten() {
                    kept.prefetch(before, &units);
                }
            }
        }
    }

    /// The units of a block of one row, to which `sums` come from the step behind.
    #[inline(always)]
    fn back<S: Simd>(&mut self, simd: S, block: usize, row: usize, sums: &Units) {
        let Self { pass, group, step, span, .. } = *self;
        let (rows, own) = (group.rows.len(), block - self.blocks.start);
        let (head, number) = group.place(block);
        let (problem, gates) = (pass.problem, pass.gates());
        let units = units(problem, number);
        let row_of_all = group.rows.start + row;
        let length = pass.lengths[row_of_all];
        let t = time(problem.direction, step, length);
        let place = |gate| [row_of_all, t, gate, head];
        let next = self.next.as_chunks_mut::<BLOCK>().0;
        let cells = self.cells.as_chunks_mut::<BLOCK>().0;
        let cell = |kind| (own * CELLS + kind) * rows + row;
        let mut d = [[0.0; BLOCK]; 4];
        let mut before = [[0.0; BLOCK]; STATES];
        if step < length {
            let earlier = step.checked_sub(1).map(|step| time(problem.direction, step, length));
            let line = [row_of_all, head];
            let (mut after, mut given) = ([[0.0; BLOCK]; STATES], [[0.0; BLOCK]; STATES]);
            for state in 0..problem.cell.states().len().min(STATES) {
                before[state] = pass.state(state, line, earlier, &units);
                after[state] = pass.state(state, line, Some(t), &units);
                given[state] = pass.given(state, line, t, &units);
            }
            let mut saved = [[0.0; BLOCK]; 5];
            if let Some(source) = &pass.sources.gates {
                for (gate, saved) in saved[..problem.saved_gates()].iter_mut().enumerate() {
                    source.load(place(gate), &units, saved);
                }
            }
            let mut own_cells = [[0.0; BLOCK]; CELLS];
            for (kind, own) in own_cells.iter_mut().enumerate() {
                *own = cells[cell(kind)];
            }
            for part in 0..BLOCK / S::F32_LANES {
                let own = gathered::<S, CELLS>(simd, &own_cells, part);
                let mut total = gathered::<S, STATES>(simd, &given, part);
                let mut carry = own[0];
                if step + 1 < length {
                    let sum = simd.add_f32s(carry, lanes::<S>(sums, part));
                    carry = limited(simd, pass.options, sum);
                }
                total[0] = simd.add_f32s(total[0], carry);
                total[1] = simd.add_f32s(total[1], own[1]);
                total[2] = simd.add_f32s(total[2], own[2]);
                let kept = Kept {
                    saved: gathered::<S, 5>(simd, &saved, part),
                    before: gathered::<S, STATES>(simd, &before, part),
                    after: gathered::<S, STATES>(simd, &after, part),
                };
                let back = cells::back(simd, pass.options, &kept, total);
                let mut left = own;
                left[..STATES].copy_from_slice(&back.before);
                for (sum, gate) in left[STATES..].iter_mut().zip(back.gates) {
                    *sum = simd.add_f32s(*sum, gate);
                }
                scatter::<S, CELLS>(left, &mut own_cells, part);
                scatter::<S, 4>(back.gates, &mut d, part);
            }
            for (kind, own) in own_cells.iter().enumerate() {
                cells[cell(kind)] = *own;
            }
        }
        for (gate, d) in d[..gates].iter().enumerate() {
            next[(own * gates + gate) * rows + row] = *d;
        }
        let inputs = problem.cell.input_gates().len();
        let without_matrix = problem.cell.bias_gates().len() - inputs;
        // SAFETY: a task has units of its own.
        unsafe {
            for gate in 0..inputs {
                pass.dwx.store(place(gate), &units, &d[without_matrix + gate]);
            }
            span.write([row_of_all, head, step, number], &d, &before[0]);
        }
    }
}

/// A gradient that comes from a later step.
#[inline(always)]
fn limited<S: Simd>(simd: S, options: &Options, mut gradient: S::f32s) -> S::f32s {
    if let Some(clip) = options.grad_clip {
        gradient = clamp(simd, gradient, clip);
    }
    if options.nan_to_zero {
        let infinity = simd.splat_f32s(f32::INFINITY);
        let finite = simd.less_than_f32s(simd.abs_f32s(gradient), infinity);
        gradient = simd.select_f32s(finite, gradient, simd.splat_f32s(0.0));
    }
    gradient
}

/// Blocks of a group before its first step.
struct First<'a, T> {
    pass: &'a Backward<'a, T>,
    group: &'a Group,
    blocks: Range<usize>,
    d: &'a [f32],
    cells: &'a mut [f32],
}

impl<T: DeviceFloat> WithSimd for First<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { pass, group, blocks, d, cells } = self;
        let (rows, cells) = (group.rows.len(), cells.as_chunks_mut::<BLOCK>().0);
        let mut sums = vec![[[0.0; BLOCK]]; rows];
        for block in blocks.clone() {
            pass.products(simd, group, (block, None), d, &mut sums);
            for (row, [sums]) in sums.iter().enumerate() {
                if pass.lengths[group.rows.start + row] == 0 {
                    continue;
                }
                let carry = &mut cells[(block - blocks.start) * CELLS * rows + row];
                carry.iter_mut().zip(sums).for_each(|(carry, sum)| *carry += sum);
            }
        }
    }
}
