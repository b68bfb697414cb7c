//! The forward pass.

use super::super::{Inputs, Options, OutputsMut, Plan, Problem, Save};
use super::rooms::Rooms;
use super::{
    Lines, Sizes, copy_out, flags_of, matrix_bytes, planned, record_matrices, record_sum,
    shared_flags, word, workgroups,
};
use crate::Result;
use crate::backend::Backend;
use crate::backend::wgpu::{Placed, Recorder, Slice, Wgpu};
use crate::element::DeviceFloat;
use crate::rnn::Path;
use crate::rnn::kernels::{ForwardWgsl, ForwardWgslParams};
use crate::rnn::plan::{Pass, ROWS, steps_at_once};
use crate::tensor::View;

/// The flags of kernels/rnn/forward.wgsl, but for those that all kernels have.
mod flag {
    pub const BIAS: u32 = 8;
    pub const GATES: u32 = 16;
    pub const WIDE: u32 = 32;
    /// Of c; n and m have the next two.
    pub const SEQUENCE: u32 = 64;
}

/// A checked call.
pub(super) struct Call<'a, T: DeviceFloat> {
    pub device: &'a Wgpu,
    pub plan: &'a Plan,
    pub problem: &'a Problem,
    pub inputs: &'a Inputs<'a, Wgpu, T>,
    pub options: &'a Options,
    pub outputs: &'a OutputsMut<'a, Wgpu, T>,
}

/// Words of scratch.
struct Places {
    bias: u32,
    lengths: u32,
    /// h before even steps and before odd ones, c, n, m.
    states: [u32; 5],
}

impl<T: DeviceFloat> Call<'_, T> {
    pub fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let &Problem { batch, heads, steps, .. } = self.problem;
        if batch == 0 || heads == 0 {
            return Ok(());
        }
        let mut rooms = Rooms::new(self.device);
        let places = self.places(&mut rooms)?;
        let scratch = rooms.fill(recorder)?;
        let scratch = Slice::whole(&scratch);
        if steps > 0 {
            self.record_steps(recorder, scratch, &places)?;
            self.record_twins(recorder)?;
        }
        if let Some(last) = self.outputs.last.as_deref() {
            // h has changed places at every step.
            let [even, odd, c, n, m] = places.states;
            let h = if steps.is_multiple_of(2) { even } else { odd };
            for (state, at) in last.all().into_iter().zip([h, c, n, m]) {
                if let Some(state) = state {
                    copy_out(recorder, scratch, at, state);
                }
            }
        }
        Ok(())
    }

    fn places<'b>(&'b self, rooms: &mut Rooms<'b>) -> Result<Places> {
        let &Problem { cell, heads, width, .. } = self.problem;
        let state = self.problem.state_shape();
        let bias = [cell.bias_gates().len(), heads, width];
        let [h, c, n, m] = self.inputs.initial.all().map(|one| one.map(|one| one.view()));
        let even = rooms.filled(h, &state)?;
        // The kernel counts on their following each other.
        let odd = rooms.room(&state)?;
        let mut cells = [0; 3];
        for (i, (at, given)) in cells.iter_mut().zip([c, n, m]).enumerate() {
            if i + 1 < cell.states().len() {
                *at = rooms.filled(given, &state)?;
            }
        }
        let [c, n, m] = cells;
        Ok(Places {
            bias: rooms.optional(self.inputs.b, &bias)?,
            lengths: rooms.lengths(self.inputs.lengths, self.problem)?,
            states: [even, odd, c, n, m],
        })
    }

    /// c, n and m of every step: as outputs and as kept for the backward pass.
    fn sequences(&self) -> [[Option<&View<Wgpu>>; 2]; 3] {
        let saved = self.outputs.saved.as_deref();
        let [c, n, m] = self.outputs.states.as_deref().map_or([None; 3], |states| states.all());
        let [c, n, m] = [c, n, m].map(|one| one.map(|one| &**one as &View<Wgpu>));
        let kept_c = saved.and_then(|saved| saved.c.as_ref()).map(|one| &**one as &View<Wgpu>);
        let kept_n = saved.and_then(|saved| saved.n.as_ref()).map(|one| &**one as &View<Wgpu>);
        [[c, kept_c], [n, kept_n], [m, None]]
    }

    fn record_steps(
        &self,
        recorder: &mut Recorder<'_>,
        scratch: Slice<'_>,
        places: &Places,
    ) -> Result<()> {
        let Self { device, plan, problem, inputs, options, outputs } = *self;
        let variant = planned(device, ForwardWgsl::VARIANTS, plan)?;
        let matrix = device.allocate(matrix_bytes(problem))?;
        let matrix = Slice::whole(&matrix);
        record_matrices(device, recorder, problem, inputs.r.view(), Pass::Forward, matrix)?;
        let [wx, h] = [Lines::of(device, inputs.wx)?, Lines::of(device, outputs.h)?];
        let kept = outputs.saved.as_deref().and_then(|saved| saved.gates.as_ref());
        let gates = Lines::optional(device, kept)?;
        let sequences = self
            .sequences()
            .map(|[output, kept]| output.or(kept).map(|view| Placed::of(device, view)));
        let [c, n, m] = sequences.map(|one| one.map_or(scratch, |one| one.slice));
        let [c_at, n_at, m_at] = sequences.map(|one| one.map_or(0, |one| one.at));
        let [has_c, has_n, has_m] = sequences.map(|one| one.is_some());
        let flags = flags_of([
            (inputs.b.is_some(), flag::BIAS),
            (gates.slice.is_some(), flag::GATES),
            (problem.save == Save::Wide, flag::WIDE),
            (has_c, flag::SEQUENCE),
            (has_n, flag::SEQUENCE << 1),
            (has_m, flag::SEQUENCE << 2),
        ]);
        let blocks = problem.width.div_ceil(variant.info.block[0] as usize);
        let tiles = problem.batch.div_ceil(ROWS);
        let shared = if plan.path == Path::Resident { 1 } else { blocks };
        let (count, grid) = workgroups(device, &[problem.heads, tiles, shared])?;
        let Sizes { batch, steps, heads, width } = Sizes::of(device, problem)?;
        let params = ForwardWgslParams {
            batch,
            steps,
            heads,
            width,
            blocks: word(device, "blocks of units", blocks)?,
            first: 0,
            count: 0,
            workgroups: count,
            flags: flags | shared_flags(inputs, options),
            output_clip: options.output_clip.unwrap_or(0.0),
            n_floor: options.n_floor,
            wx_at: wx.at,
            wx_batch: wx.row,
            wx_time: wx.step,
            wx_gate: wx.gate,
            wx_head: wx.head,
            h_at: h.at,
            h_batch: h.row,
            h_time: h.step,
            h_head: h.head,
            gates_at: gates.at,
            c_at,
            n_at,
            m_at,
            bias_at: places.bias,
            lengths_at: places.lengths,
            states_at: places.states[0],
        };
        let at_once = word(device, "steps", steps_at_once(plan.path, variant.info, problem))?;
        for first in (0..steps).step_by(at_once as usize) {
            let params = ForwardWgslParams { first, count: at_once.min(steps - first), ..params };
            let (wx, h, gates) = (wx.bound(scratch), h.bound(scratch), gates.bound(scratch));
            ForwardWgsl { params, wx, matrix, h, gates, c, n, m, scratch }
                .record(recorder, variant, grid)?;
        }
        Ok(())
    }

    /// Sequences that are kept as well are written once and copied.
    fn record_twins(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        for [output, kept] in self.sequences() {
            if let (Some(output), Some(kept)) = (output, kept) {
                let Placed { slice, at } = Placed::of(self.device, output);
                record_sum(self.device, recorder, slice, [at, 1], kept)?;
            }
        }
        Ok(())
    }
}
