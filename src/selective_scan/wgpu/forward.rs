//! The forward scan of one part of the batch.

use super::super::kernels::{
    ForwardCarryWgsl, ForwardCarryWgslParams, ForwardChunkedWgsl, ForwardChunkedWgslParams,
    ForwardDirectWgsl, ForwardDirectWgslParams, ForwardSerialWgsl, ForwardSerialWgslParams,
};
use super::super::{Inputs, NAME, Options, OutputsMut, Plan, Problem, Schedule, plan};
use super::parts::{self, Demand, Part};
use super::tensors::{Bound, Tensors, steps};
use super::{Kernels, Scan, flag};
use crate::Result;
use crate::backend::wgpu::{
    Recorder, Scratch, Slice, Wgpu, WgpuBuffer, folded, refused, workgroups,
};
use crate::backend::{Backend, Buffer};
use crate::element::DeviceFloat;

// The scan's parameters are filled in once for both of its entries.
const _: () = assert!(size_of::<ForwardSerialWgslParams>() == size_of::<ForwardDirectWgslParams>());

/// A checked call with its plan.
pub(super) struct Call<'a, T: DeviceFloat> {
    pub device: &'a Wgpu,
    pub kernels: Kernels,
    pub plan: &'a Plan,
    pub problem: &'a Problem,
    pub inputs: &'a Inputs<'a, Wgpu, T>,
    pub options: &'a Options,
    pub outputs: &'a OutputsMut<'a, Wgpu, T>,
}

impl<'a, T: DeviceFloat> Call<'a, T> {
    /// Spans of time that are scanned side by side.
    pub(super) fn chunks(&self) -> u64 {
        match self.plan.schedule {
            Schedule::Serial => 1,
            Schedule::Chunked { chunk } => {
                (self.problem.steps as u64).div_ceil(u64::from(chunk.max(1))).max(1)
            }
        }
    }

    /// The first steps of the scan's dispatches: one, unless a long row is scanned serially.
    pub(super) fn starts(&self) -> Vec<u32> {
        match self.plan.schedule {
            Schedule::Chunked { .. } => vec![0],
            Schedule::Serial => {
                let steps = (self.problem.steps as u32).max(1);
                (0..steps).step_by(self.chunk() as usize).collect()
            }
        }
    }

    /// Steps of a span.
    fn chunk(&self) -> u32 {
        match self.plan.schedule {
            // One span, in as many dispatches as it takes.
            Schedule::Serial => plan::segment(&self.device.limits()) as u32,
            Schedule::Chunked { chunk } => chunk,
        }
    }

    /// What the call demands of bindings.
    pub(super) fn demands(&self) -> Vec<Demand> {
        let problem = self.problem;
        let mut demands = parts::inputs(problem, self.inputs);
        demands.push(parts::demand("out", self.outputs.out));
        // Scratch and workspace: what every part needs, and what each row adds.
        let rows = if problem.packed { problem.rows as u64 } else { 1 };
        let (channels, states) = (problem.channels as u64, problem.states as u64);
        let fixed = channels * (3 * states + 2);
        let carries = self.chunks() * (states + 1) + states;
        let per_row = rows * channels * (states + carries) + problem.steps as u64 + 1;
        demands.push(("scratch", 4 * (fixed + per_row), 4 * per_row));
        let saved = if problem.save { problem.checkpoints() as u64 } else { 0 };
        let per_row = channels * states * (rows + saved);
        demands.push(("saved", 4 * per_row, 4 * per_row));
        demands
    }

    /// Records the part.
    pub(super) fn record(&self, encoder: &mut ::wgpu::CommandEncoder, part: &Part) -> Result<()> {
        let device = self.device;
        let mut scratch = Scratch::new(NAME);
        let tensors = self.tensors(part, &mut scratch)?;
        let mut recorder = Recorder::new(device, encoder);
        let scratch = scratch.fill(device, &mut recorder)?;
        let bound = Bound { device, scratch: Slice::new(&scratch, 0..scratch.bytes()) };
        if let Some((carry_at, sums_at)) = tensors.carries {
            self.record_ends(&mut recorder, part, &tensors, &bound, carry_at, sums_at)?;
            self.record_carry(&mut recorder, part, &tensors, &bound, carry_at, sums_at)?;
        }
        self.record_scan(&mut recorder, part, &tensors, &bound)
    }

    fn flags(&self) -> u32 {
        flag::of_call(self.problem, self.inputs, self.options)
    }

    /// The grid of a scan over the part.
    fn grid(&self, part: &Part, block: u32, lanes: u32) -> Result<[u32; 3]> {
        let problem = self.problem;
        let channels = u64::from(block / lanes.max(1)).max(1);
        let tiles = (problem.group_channels() as u64).div_ceil(channels);
        let lines = (part.rows.len() * problem.groups) as u64;
        let count = lines.checked_mul(tiles).and_then(|count| count.checked_mul(self.chunks()));
        count.and_then(|count| folded(count, self.device.limits().grid)).ok_or_else(|| {
            refused(NAME, self.device, "so many channels in one dispatch".to_owned())
        })
    }

    /// The first pass of the chunked schedule.
    fn record_ends(
        &self,
        recorder: &mut Recorder<'_>,
        part: &Part,
        tensors: &Tensors<'_>,
        bound: &Bound<'_>,
        carry_at: u32,
        sums_at: u32,
    ) -> Result<()> {
        let Some(variant) = self.kernels.ends else { return Ok(()) };
        let (problem, size) = (self.problem, Sizes::new(self, part)?);
        let (b, map) = bound.map(&tensors.b, tensors.constant_b, self.options.layout);
        let (a, a_at) = bound.small(tensors.a);
        let (delta_bias, delta_bias_at) = bound.small(tensors.delta_bias);
        let (positions, positions_at) = bound.small(tensors.positions);
        let params = ForwardChunkedWgslParams {
            rows: size.rows,
            channels: size.channels,
            steps: size.steps,
            states: problem.states as u32,
            groups: size.groups,
            start: 0,
            chunks: size.chunks,
            chunk: self.chunk(),
            checkpoints: 0,
            flags: self.flags(),
            delta_min: size.delta_min,
            delta_max: size.delta_max,
            u_at: tensors.u.at,
            u_batch: tensors.u.strides[0],
            u_slow: tensors.u.strides[1],
            delta_at: tensors.delta.at,
            delta_batch: tensors.delta.strides[0],
            delta_slow: tensors.delta.strides[1],
            b_at: map.at,
            b_batch: map.batch,
            b_group: map.group,
            b_slow: map.slow,
            carry_at,
            sums_at,
            a_at,
            delta_bias_at,
            positions_at,
        };
        let grid = self.grid(part, variant.info.block[0], lanes(variant.info))?;
        let kernel = ForwardChunkedWgsl {
            params,
            u: bound.slice(&tensors.u),
            delta: bound.slice(&tensors.delta),
            b,
            a,
            delta_bias,
            positions,
            carries: bound.scratch,
        };
        kernel.record(recorder, &variant, grid)
    }

    /// The second pass of the chunked schedule; it also writes `last_state`.
    fn record_carry(
        &self,
        recorder: &mut Recorder<'_>,
        part: &Part,
        tensors: &Tensors<'_>,
        bound: &Bound<'_>,
        carry_at: u32,
        sums_at: u32,
    ) -> Result<()> {
        let size = Sizes::new(self, part)?;
        let states = self.problem.states as u32;
        let (a, a_at) = bound.small(tensors.a);
        let (h0, h0_at) = bound.small(tensors.h0);
        let (last_state, last_at) = bound.output(tensors.last_state);
        let present =
            [(self.inputs.h0.is_some(), flag::HAS_H0), (tensors.last_state.is_some(), flag::LAST)];
        let flags = self.flags() & flag::TIED | flag::union(present);
        // Scratch holds as many states, and more: the products fit.
        let lines = size.rows * size.channels;
        let params = ForwardCarryWgslParams {
            lines,
            channels: size.channels,
            states,
            chunks: size.chunks,
            flags,
            a_at,
            h0_at,
            carry_at,
            sums_at,
            last_at,
        };
        let variant = &ForwardCarryWgsl::VARIANTS[0];
        let grid = workgroups(NAME, self.device, lines * states, variant.info.block[0])?;
        ForwardCarryWgsl { params, a, h0, carries: bound.scratch, last_state }
            .record(recorder, variant, grid)
    }

    /// The scan: the only pass of the serial schedule, the last of the chunked one.
    fn record_scan(
        &self,
        recorder: &mut Recorder<'_>,
        part: &Part,
        tensors: &Tensors<'_>,
        bound: &Bound<'_>,
    ) -> Result<()> {
        let (device, problem, size) = (self.device, self.problem, Sizes::new(self, part)?);
        // What the carries have written already is not written again.
        let last_state = tensors.last_state.filter(|_| tensors.carries.is_none());
        let present = [
            (tensors.carries.is_some() || self.inputs.h0.is_some(), flag::HAS_H0),
            (tensors.saved.is_some(), flag::SAVE),
            (last_state.is_some(), flag::LAST),
        ];
        let flags = self.flags() | flag::union(present);
        let (b, b_map) = bound.map(&tensors.b, tensors.constant_b, self.options.layout);
        let (c, c_map) = bound.map(&tensors.c, tensors.constant_c, self.options.layout);
        let (a, a_at) = bound.small(tensors.a);
        let (d, d_at) = bound.small(tensors.d);
        let (delta_bias, delta_bias_at) = bound.small(tensors.delta_bias);
        let (positions, positions_at) = bound.small(tensors.positions);
        let (h0, h0_at) = match tensors.carries {
            Some((carry_at, _)) => (bound.scratch, carry_at),
            None => bound.small(tensors.h0),
        };
        let mut params = ForwardSerialWgslParams {
            rows: size.rows,
            channels: size.channels,
            steps: size.steps,
            states: problem.states as u32,
            groups: size.groups,
            start: 0,
            chunks: size.chunks,
            chunk: self.chunk(),
            checkpoints: problem.checkpoints() as u32,
            flags,
            delta_min: size.delta_min,
            delta_max: size.delta_max,
            u_at: tensors.u.at,
            u_batch: tensors.u.strides[0],
            u_slow: tensors.u.strides[1],
            delta_at: tensors.delta.at,
            delta_batch: tensors.delta.strides[0],
            delta_slow: tensors.delta.strides[1],
            b_at: b_map.at,
            b_batch: b_map.batch,
            b_group: b_map.group,
            b_slow: b_map.slow,
            c_at: c_map.at,
            c_batch: c_map.batch,
            c_group: c_map.group,
            c_slow: c_map.slow,
            z_at: tensors.z.at,
            z_batch: tensors.z.strides[0],
            z_slow: tensors.z.strides[1],
            out_at: tensors.out.at,
            out_batch: tensors.out.strides[0],
            out_slow: tensors.out.strides[1],
            d_at,
            h0_at,
            last_at: 0,
            saved_at: 0,
            a_at,
            delta_bias_at,
            positions_at,
        };
        let [u, delta, z, out] =
            [&tensors.u, &tensors.delta, &tensors.z, &tensors.out].map(|one| bound.slice(one));
        let starts = self.starts();
        let dispatches = starts.iter().map(|&start| {
            // The state passes from one dispatch to the next where the last one leaves it.
            let passed = [(starts.len() > 1, flag::LAST), (start > 0, flag::CONTINUES)];
            (start, flags | flag::union(passed))
        });
        match self.kernels.scan {
            Scan::Direct(variant) => {
                let grid = self.grid(part, variant.info.block[0], lanes(variant.info))?;
                let (last_state, last_at) = match tensors.between {
                    Some(word) => (bound.scratch, word),
                    None => bound.output(last_state),
                };
                let (saved, saved_at) = bound.output(tensors.saved);
                (params.last_at, params.saved_at) = (last_at, saved_at);
                for (start, flags) in dispatches {
                    (params.start, params.flags) = (start, flags);
                    let kernel = ForwardDirectWgsl {
                        // Both entries come of one template; the sizes are compared above.
                        params: bytemuck::cast::<_, ForwardDirectWgslParams>(params),
                        u,
                        delta,
                        b,
                        c,
                        z,
                        out,
                        a,
                        d,
                        delta_bias,
                        h0,
                        positions,
                        last_state,
                        saved,
                    };
                    kernel.record(recorder, &variant, grid)?;
                }
                Ok(())
            }
            Scan::Serial(variant) => {
                let grid = self.grid(part, variant.info.block[0], lanes(variant.info))?;
                let bytes = |slice: Option<Slice<'_>>| slice.map_or(0, |slice| slice.bytes());
                let saved = bytes(tensors.saved);
                let state = 4 * (part.rows.len() * problem.channels * problem.states) as u64;
                let workspace = device.allocate(saved + state)?;
                params.last_at = (saved / 4) as u32;
                for (start, flags) in dispatches {
                    (params.start, params.flags) = (start, flags);
                    let kernel = ForwardSerialWgsl {
                        params,
                        u,
                        delta,
                        b,
                        c,
                        z,
                        out,
                        scratch: bound.scratch,
                        workspace: Slice::new(&workspace, 0..workspace.bytes()),
                    };
                    kernel.record(recorder, &variant, grid)?;
                }
                copy_out(recorder, &workspace, 0, tensors.saved);
                copy_out(recorder, &workspace, saved, last_state);
                Ok(())
            }
        }
    }
}

/// Copies a result from the workspace to its place.
fn copy_out(
    recorder: &mut Recorder<'_>,
    workspace: &WgpuBuffer,
    offset: u64,
    target: Option<Slice<'_>>,
) {
    if let Some(target) = target {
        recorder.copy(Slice::new(workspace, offset..offset + target.bytes()), target);
    }
}

fn lanes(info: &crate::backend::kernel::VariantInfo) -> u32 {
    info.number("lanes").unwrap_or(1)
}

/// Sizes as kernels take them.
#[derive(Clone, Copy)]
struct Sizes {
    rows: u32,
    channels: u32,
    steps: u32,
    groups: u32,
    chunks: u32,
    delta_min: f32,
    delta_max: f32,
}

impl Sizes {
    fn new<T: DeviceFloat>(call: &Call<'_, T>, part: &Part) -> Result<Self> {
        let small = |what: &str, size: u64| {
            u32::try_from(size).map_err(|_| refused(NAME, call.device, format!("{size} {what}")))
        };
        let (delta_min, delta_max) = call.options.delta_clamp.unwrap_or((0.0, 0.0));
        Ok(Self {
            rows: small("rows", part.rows.len() as u64)?,
            channels: small("channels", call.problem.channels as u64)?,
            steps: steps(call.device, call.problem)?,
            groups: small("groups", call.problem.groups as u64)?,
            chunks: small("chunks", call.chunks())?,
            delta_min,
            delta_max,
        })
    }
}
