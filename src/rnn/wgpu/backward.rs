//! The backward pass: from the last step to the first, some steps at a time; what these give to
//! the matrices is then added as products over rows and steps.

use std::ops::Range;

use super::super::{Gradients, Inputs, Options, OutputGradients, Path, Plan, Problem, Save, Saved};
use super::rooms::Rooms;
use super::{
    Lines, Sizes, copy_out, flags_of, matrix_bytes, planned, record_matrices, record_sum,
    shared_flags, variant_of, word, workgroups,
};
use crate::Result;
use crate::backend::Backend;
use crate::backend::wgpu::{Placed, Recorder, Slice, Wgpu};
use crate::element::DeviceFloat;
use crate::rnn::kernels::{
    BackwardProductWgsl, BackwardProductWgslParams, BackwardWgsl, BackwardWgslParams,
};
use crate::rnn::plan::{ITERATIONS, Pass, ROWS, history_steps, padded_gates, steps_at_once};
use crate::tensor::{Tensor, View};

/// The flags of kernels/rnn/backward.wgsl, but for those that all kernels have.
mod flag {
    /// A bias has sums where its gradient is asked for.
    pub const BIAS: u32 = 8;
    pub const WIDE: u32 = 16;
    pub const HAS_DH: u32 = 32;
    pub const HAS_DC: u32 = 64;
    pub const HAS_DN: u32 = 128;
    pub const GRAD_CLIP: u32 = 256;
    pub const NAN_TO_ZERO: u32 = 512;
    pub const CUT: u32 = 1024;
}

/// Rows and columns of a matrix that a workgroup of the product has.
const TILE: [usize; 2] = [16, 64];

/// Lines, a step of a row each, of one dispatch of it: each takes a little more than an iteration.
const LINES: u32 = (ITERATIONS / 2) as u32;

/// A checked call.
pub(super) struct Call<'a, T: DeviceFloat> {
    pub device: &'a Wgpu,
    pub plan: &'a Plan,
    pub problem: &'a Problem,
    pub inputs: &'a Inputs<'a, Wgpu, T>,
    pub options: &'a Options,
    pub h: &'a Tensor<Wgpu, T>,
    pub saved: &'a Saved<Wgpu, T>,
    pub given: &'a OutputGradients<'a, Wgpu, T>,
    pub gradients: &'a Gradients<Wgpu, T>,
}

/// Words of scratch.
struct Places {
    lengths: u32,
    /// h, c and n before the first step, one behind the other.
    initial: u32,
    /// Gradients of states on their way to earlier steps, likewise.
    carry: [u32; 3],
    /// Sums over steps for the bias, by row.
    sums: u32,
    dc: u32,
    dn: u32,
}

/// Buffers of a call.
#[derive(Clone, Copy)]
struct Work<'a> {
    scratch: Slice<'a>,
    /// The matrices, then D of some steps.
    work: Slice<'a>,
}

impl<T: DeviceFloat> Call<'_, T> {
    pub fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let Self { device, problem, inputs, gradients, .. } = *self;
        if problem.heads == 0 {
            return Ok(());
        }
        let mut rooms = Rooms::new(device);
        let places = self.places(&mut rooms)?;
        let scratch = rooms.fill(recorder)?;
        let of_step = self.history_bytes(1);
        let slots = history_steps(problem);
        let bytes = of_step.saturating_mul(slots as u64);
        let work = device.allocate(matrix_bytes(problem).saturating_add(bytes))?;
        let work = Work { scratch: Slice::whole(&scratch), work: Slice::whole(&work) };
        let r = inputs.r.view();
        record_matrices(device, recorder, problem, r, Pass::Backward, work.work)?;
        self.record_steps(recorder, work, &places, slots)?;
        for (gradient, at) in gradients.initial.iter().zip(places.carry) {
            if let Some(gradient) = gradient {
                copy_out(recorder, work.scratch, at, gradient);
            }
        }
        match &gradients.b {
            Some(b) => {
                let rows = word(device, "rows", problem.batch)?;
                record_sum(device, recorder, work.scratch, [places.sums, rows], b)
            }
            None => Ok(()),
        }
    }

    /// Bytes of D of so many steps.
    fn history_bytes(&self, steps: usize) -> u64 {
        let &Problem { cell, batch, heads, width, .. } = self.problem;
        let sizes = [steps, batch, heads, width, padded_gates(cell)];
        sizes.iter().fold(4u64, |bytes, &size| bytes.saturating_mul(size as u64))
    }

    fn places<'b>(&'b self, rooms: &mut Rooms<'b>) -> Result<Places> {
        let Self { problem, inputs, given, gradients, .. } = *self;
        let &Problem { cell, batch, heads, width, .. } = problem;
        let state = problem.state_shape();
        let of_cell = cell.states().len().min(3);
        let mut states = |all: [Option<&'b View<Wgpu>>; 3]| -> Result<[u32; 3]> {
            let mut places = [0; 3];
            for (at, given) in places.iter_mut().zip(all).take(of_cell) {
                *at = rooms.filled(given, &state)?;
            }
            Ok(places)
        };
        let [h, c, n, _] = inputs.initial.all();
        let initial = states([h, c, n].map(|one| one.map(|one| one.view())))?;
        let last = &given.last;
        let carry = states([last.h, last.c, last.n].map(|one| one.map(|one| one.view())))?;
        let sums = [batch, cell.bias_gates().len(), heads, width];
        Ok(Places {
            lengths: rooms.lengths(inputs.lengths, problem)?,
            initial: initial[0],
            carry,
            sums: match gradients.b {
                Some(_) => rooms.filled(None, &sums)?,
                None => 0,
            },
            dc: rooms.optional(given.c, &problem.output_shape())?,
            dn: rooms.optional(given.n, &problem.output_shape())?,
        })
    }

    /// All steps, by spans from the last one, and behind each span the product over it.
    fn record_steps(
        &self,
        recorder: &mut Recorder<'_>,
        work: Work<'_>,
        places: &Places,
        slots: usize,
    ) -> Result<()> {
        let problem = self.problem;
        let bound = Bound::of(self)?;
        let params = self.params(&bound, places, slots)?;
        let spans = problem.steps.div_ceil(slots);
        if spans == 0 {
            // The matrices have been given nothing.
            self.record_product(recorder, work, places, 0..0, slots)?;
        }
        for span in (0..spans).rev() {
            let steps = span * slots..((span + 1) * slots).min(problem.steps);
            // A step is run with what comes from the one behind it.
            let behind = steps.start + 1..steps.end + 1;
            self.record_span(recorder, work, &bound, &params, behind)?;
            self.record_product(recorder, work, places, steps, slots)?;
        }
        self.record_span(recorder, work, &bound, &params, 0..1)
    }

    /// Steps in front of these, from the last one.
    fn record_span(
        &self,
        recorder: &mut Recorder<'_>,
        Work { scratch, work }: Work<'_>,
        bound: &Bound<'_>,
        params: &BackwardWgslParams,
        behind: Range<usize>,
    ) -> Result<()> {
        let Self { device, plan, problem, .. } = *self;
        let variant = planned(device, BackwardWgsl::VARIANTS, plan)?;
        let (_, grid) = workgroups(device, &[params.workgroups as usize])?;
        let &Bound { dh, h, gates, c, n, dwx } = bound;
        let [dh, h, gates, c, n, dwx] = [dh, h, gates, c, n, dwx].map(|one| one.bound(scratch));
        let mut end = behind.end;
        while end > behind.start {
            let count = steps_at_once(plan.path, variant.info, problem).min(end - behind.start);
            let params = BackwardWgslParams {
                behind: word(device, "steps", end - 1)?,
                count: word(device, "steps", count)?,
                ..*params
            };
            BackwardWgsl { params, dh, h, gates, c, n, work, dwx, scratch }
                .record(recorder, variant, grid)?;
            end -= count;
        }
        Ok(())
    }

    /// The parameters of all steps; which of them are run is filled in later.
    fn params(
        &self,
        bound: &Bound<'_>,
        places: &Places,
        slots: usize,
    ) -> Result<BackwardWgslParams> {
        let Self { device, plan, problem, inputs, options, given, gradients, .. } = *self;
        let flags = flags_of([
            (gradients.b.is_some(), flag::BIAS),
            (problem.save == Save::Wide, flag::WIDE),
            (given.h.is_some(), flag::HAS_DH),
            (given.c.is_some(), flag::HAS_DC),
            (given.n.is_some(), flag::HAS_DN),
            (options.grad_clip.is_some(), flag::GRAD_CLIP),
            (options.nan_to_zero, flag::NAN_TO_ZERO),
            (options.grad_cut, flag::CUT),
        ]);
        let variant = planned(device, BackwardWgsl::VARIANTS, plan)?;
        let blocks = problem.width.div_ceil(variant.info.block[0] as usize);
        let shared = if plan.path == Path::Resident { 1 } else { blocks };
        let tiles = problem.batch.div_ceil(ROWS);
        let Sizes { batch, steps, heads, width } = Sizes::of(device, problem)?;
        let Bound { dh, h, gates, c, n, dwx } = *bound;
        Ok(BackwardWgslParams {
            batch,
            steps,
            heads,
            width,
            blocks: word(device, "blocks of units", blocks)?,
            behind: 0,
            count: 0,
            slots: word(device, "steps", slots)?,
            workgroups: workgroups(device, &[problem.heads, tiles, shared])?.0,
            flags: flags | shared_flags(inputs, options),
            output_clip: options.output_clip.unwrap_or(0.0),
            grad_clip: options.grad_clip.unwrap_or(0.0),
            dh_at: dh.at,
            dh_batch: dh.row,
            dh_time: dh.step,
            dh_head: dh.head,
            h_at: h.at,
            h_batch: h.row,
            h_time: h.step,
            h_head: h.head,
            dwx_at: dwx.at,
            dwx_batch: dwx.row,
            dwx_time: dwx.step,
            dwx_gate: dwx.gate,
            dwx_head: dwx.head,
            gates_at: gates.at,
            c_at: c.at,
            n_at: n.at,
            history_at: history_at(device, problem)?,
            lengths_at: places.lengths,
            initial_at: places.initial,
            carry_at: places.carry[0],
            sums_at: places.sums,
            dc_at: places.dc,
            dn_at: places.dn,
        })
    }

    /// Adds what some steps give to the gradients of the matrices; the last span comes first, and
    /// overwrites.
    fn record_product(
        &self,
        recorder: &mut Recorder<'_>,
        Work { scratch, work }: Work<'_>,
        places: &Places,
        span: Range<usize>,
        slots: usize,
    ) -> Result<()> {
        let Self { device, problem, inputs, options, .. } = *self;
        let gates = problem.cell.recurrent_gates().len().to_string();
        let parameters = [("gates", gates.as_str()), ("element", T::DTYPE.name())];
        let variant = variant_of(device, BackwardProductWgsl::VARIANTS, &parameters)?;
        let [tile_rows, tile_columns] = TILE.map(|tile| problem.width.div_ceil(tile));
        let (count, grid) = workgroups(device, &[problem.heads, tile_rows, tile_columns])?;
        let Sizes { batch, steps, heads, width } = Sizes::of(device, problem)?;
        let h = Lines::of(device, self.h)?;
        let Placed { slice: dr, at: dr_at } = Placed::of(device, &self.gradients.r);
        let params = BackwardProductWgslParams {
            batch,
            steps,
            heads,
            width,
            first_step: word(device, "steps", span.start)?,
            first: 0,
            end: 0,
            tile_rows: word(device, "tiles", tile_rows)?,
            tile_columns: word(device, "tiles", tile_columns)?,
            workgroups: count,
            flags: shared_flags(inputs, options),
            goes_on: 0,
            slots: word(device, "steps", slots)?,
            h_at: h.at,
            h_batch: h.row,
            h_time: h.step,
            h_head: h.head,
            dr_at,
            history_at: history_at(device, problem)?,
            lengths_at: places.lengths,
            initial_at: places.initial,
        };
        let lines = span.len().saturating_mul(problem.batch);
        let lines = word(device, "steps of rows", lines)?;
        let mut first = 0;
        loop {
            let end = lines.min(first + LINES);
            // What later steps have given stays; where there are no lines, zeros are written.
            let goes_on = u32::from(span.end < problem.steps || first > 0);
            let params = BackwardProductWgslParams { first, end, goes_on, ..params };
            BackwardProductWgsl { params, h: h.bound(scratch), work, dr, scratch }
                .record(recorder, variant, grid)?;
            first = end;
            if first == lines {
                return Ok(());
            }
        }
    }
}

/// Where D begins in the workspace, in gates of a unit.
fn history_at(device: &Wgpu, problem: &Problem) -> Result<u32> {
    let elements = [problem.heads, problem.width, problem.width].into_iter();
    let elements = elements.fold(1usize, |elements, size| elements.saturating_mul(size));
    word(device, "elements of matrices", elements)
}

/// The sequences of a call.
#[derive(Clone, Copy)]
struct Bound<'a> {
    dh: Lines<'a>,
    h: Lines<'a>,
    gates: Lines<'a>,
    c: Lines<'a>,
    n: Lines<'a>,
    dwx: Lines<'a>,
}

impl<'a> Bound<'a> {
    fn of<T: DeviceFloat>(call: &Call<'a, T>) -> Result<Self> {
        let Call { device, h, saved, given, gradients, .. } = *call;
        let optional = |view: Option<&'a View<Wgpu>>| Lines::optional(device, view);
        Ok(Self {
            dh: optional(given.h.map(|dh| &**dh))?,
            h: Lines::of(device, h)?,
            gates: optional(saved.gates.as_ref())?,
            c: optional(saved.c.as_deref())?,
            n: optional(saved.n.as_deref())?,
            dwx: Lines::of(device, &gradients.wx)?,
        })
    }
}
