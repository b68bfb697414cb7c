//! The backward pass of one part of the batch.
//!
//! Time is walked in segments, from the last to the first, so that no dispatch takes too long and
//! what it leaves stays small. Each segment is up to five dispatches: variable B and C in f32, the
//! states side by side; the walk, for all blocks of channels, or several walks for some blocks
//! each; and the sums over blocks that are dB and dC. Between segments the gradient of the state
//! stays in scratch, and the sums over time, which are summed over the rows in the end.

use super::super::kernels::{
    BackwardMapsWgsl, BackwardMapsWgslParams, BackwardWgsl, BackwardWgslParams,
};
use super::super::{BackwardCall, GradientsMut, Layout, NAME, Plan, Problem, plan};
use super::parts::{self, Demand, Part};
use super::tensors::{Activation, positions, rows, steps};
use super::{flag, word};
use crate::backend::kernel::Variant;
use crate::backend::kernel::common::{SumWgsl, SumWgslParams};
use crate::backend::wgpu::{Home, Recorder, Scratch, Slice, Wgpu, folded, refused, workgroups};
use crate::backend::{Backend, Buffer};
use crate::element::{DType, DeviceFloat};
use crate::tensor::{Tensor, View};
use crate::{Error, Result};

/// Compiles the kernels of a plan.
pub(super) fn preload(device: &Wgpu, plan: &Plan) -> Result<()> {
    device.preload(walk(device, plan)?.info)?;
    BackwardMapsWgsl::VARIANTS.iter().try_for_each(|variant| device.preload(variant.info))?;
    SumWgsl::VARIANTS.iter().try_for_each(|variant| device.preload(variant.info))
}

/// Records a checked call.
pub(super) fn record<T: DeviceFloat>(
    device: &Wgpu,
    encoder: &mut ::wgpu::CommandEncoder,
    plan: &Plan,
    problem: &Problem,
    call: &BackwardCall<'_, Wgpu, T>,
    gradients: &GradientsMut<'_, Wgpu, T>,
) -> Result<()> {
    let saved: (&'static str, &View<Wgpu>) = ("saved", call.saved);
    let named = [call.inputs.named(), call.outer.named(), vec![saved], gradients.named()];
    for (name, view) in named.into_iter().flatten() {
        view.buffer().check_usages(NAME, name)?;
    }
    let walk = walk(device, plan)?;
    let spread = plan::Spread { info: walk.info };
    let cut = plan::Cut::new(problem, &device.limits(), spread);
    let call = Call { device, problem, call, gradients, walk, spread, cut };
    let mut parts = parts::parts(device, problem, &call.demands())?;
    if parts.is_empty() {
        // Sums of nothing.
        parts.push(Part { batch: 0..0, rows: 0..0 });
    }
    let mut recorder = Recorder::new(device, encoder);
    parts.iter().enumerate().try_for_each(|(i, part)| call.record(&mut recorder, part, i > 0))
}

/// The kernel of a plan that walks the rows.
fn walk(device: &Wgpu, plan: &Plan) -> Result<&'static Variant<BackwardWgsl<'static>>> {
    let found = BackwardWgsl::VARIANTS.iter().find(|one| one.info.name == plan.variant);
    found.ok_or_else(|| super::wrong_plan(device, plan))
}

/// A checked call with its kernel.
struct Call<'a, T: DeviceFloat> {
    device: &'a Wgpu,
    problem: &'a Problem,
    call: &'a BackwardCall<'a, Wgpu, T>,
    gradients: &'a GradientsMut<'a, Wgpu, T>,
    walk: &'static Variant<BackwardWgsl<'static>>,
    spread: plan::Spread,
    cut: plan::Cut,
}

/// First words in scratch.
#[derive(Clone, Copy)]
struct Places {
    a: u32,
    d: u32,
    delta_bias: u32,
    h0: u32,
    positions: u32,
    saved: u32,
    /// Variable maps of a segment, or constant ones.
    maps: [u32; 2],
    /// The gradient of the state behind a segment, then of the one before it.
    carry: u32,
    /// Parts of dB and dC, or sums over time where they are constant.
    map_sums: [u32; 2],
    da: u32,
    dd: u32,
    ddelta_bias: u32,
}

/// Parts in scratch of a gradient that is their sum.
struct Sum {
    /// The first word.
    at: u32,
    count: usize,
    /// Words from part to part, and within a part from line to line.
    part_stride: usize,
    line_stride: usize,
    /// Lines in each of two axes, and numbers of a line in two more.
    sizes: [usize; 4],
    /// What is there already counts too.
    goes_on: bool,
}

impl<T: DeviceFloat> Call<'_, T> {
    fn demands(&self) -> Vec<Demand> {
        let &Self { problem, call, gradients, .. } = self;
        let mut demands = parts::inputs(problem, call.inputs);
        demands.push(parts::demand("dout", call.outer.dout));
        for (name, view) in gradients.named() {
            let constant = problem.b_constant && name == "dB" || problem.c_constant && name == "dC";
            if matches!(name, "du" | "ddelta" | "dz" | "dB" | "dC") && !constant {
                demands.push(parts::demand(name, view));
            }
        }
        let rooms = plan::Rooms::new(problem, self.spread, &self.cut);
        demands.push(("scratch", rooms.of(1).saturating_mul(4), rooms.entry.saturating_mul(4)));
        demands
    }

    /// Records the part; where it `goes_on`, earlier parts have left their sums.
    fn record(&self, recorder: &mut Recorder<'_>, part: &Part, goes_on: bool) -> Result<()> {
        let &Self { device, problem, cut, .. } = self;
        let mut scratch = Scratch::new(NAME);
        let places = self.places(part, &mut scratch)?;
        let scratch = scratch.fill(device, recorder)?;
        let scratch = Slice::new(&scratch, 0..scratch.bytes());
        let mut walk = self.walk_params(part, &places)?;
        let last = (problem.steps.max(1) - 1) / cut.segment;
        for segment in (0..=last).rev() {
            walk.start = word(device, "steps", segment * cut.segment)?;
            self.record_maps(recorder, part, scratch, &walk)?;
            for first_block in (0..cut.blocks).step_by(cut.side_by_side) {
                walk.first_block = word(device, "channels", first_block)?;
                let more = [
                    (first_block > 0, flag::BLOCKS_GO_ON),
                    (segment < last, flag::GOES_ON | flag::HAS_CARRY),
                ];
                let params = BackwardWgslParams { flags: walk.flags | flag::union(more), ..walk };
                self.record_walk(recorder, part, scratch, params)?;
            }
            self.record_map_sums(recorder, part, scratch, &walk)?;
        }
        self.record_sums(recorder, part, scratch, &places, goes_on)?;
        if let Some(dh0) = self.gradients.dh0.as_deref() {
            let target = rows(dh0, &part.rows, problem.channels * problem.states);
            recorder.copy(scratch.part(places.carry, target.bytes()), target);
        }
        Ok(())
    }

    /// Lays scratch out.
    fn places<'b>(&'b self, part: &Part, scratch: &mut Scratch<'b>) -> Result<Places> {
        let &Self { device, problem, call, cut, .. } = self;
        let inputs = call.inputs;
        let &Problem { channels, states, groups, .. } = problem;
        let mut parameter = |view: &'b View<Wgpu>, slice: Slice<'b>| {
            scratch.parameter(device, slice, view.dtype(), true).map(first_word)
        };
        let whole = |view: &'b View<Wgpu>| Slice::new(view.buffer(), view.byte_range());
        let state = |view: &'b View<Wgpu>| rows(view, &part.rows, channels * states);
        let optional = |view: Option<&'b View<Wgpu>>| view.map(|view| (view, whole(view)));
        let mut of = |found: Option<(&'b View<Wgpu>, Slice<'b>)>| {
            found.map_or(Ok(0), |(view, slice)| parameter(view, slice))
        };
        let constant = |map: &'b View<Wgpu>, constant: bool| constant.then(|| (map, whole(map)));
        let a = of(optional(Some(inputs.a.view())))?;
        let d = of(optional(inputs.d.as_ref().map(|d| d.view())))?;
        let delta_bias = of(optional(inputs.delta_bias.as_ref().map(|bias| bias.view())))?;
        let h0 = of(inputs.h0.as_ref().map(|h0| (h0.view(), state(h0.view()))))?;
        let constants = [
            of(constant(inputs.b.view(), problem.b_constant))?,
            of(constant(inputs.c.view(), problem.c_constant))?,
        ];
        let saved = rows(call.saved, &part.batch, channels * states * problem.checkpoints());
        let saved = of(Some((call.saved, saved)))?;
        let dlast_state = call.outer.dlast_state.as_ref();
        let dlast_state = of(dlast_state.map(|last| (last.view(), state(last.view()))))?;
        let positions = first_word(positions(device, problem, &inputs.resets, part, scratch)?);

        let mut room = |sizes: &[usize]| {
            let words = sizes.iter().fold(1u64, |words, &size| words.saturating_mul(size as u64));
            scratch.reserve(device, words)
        };
        let lines = part.rows.len() * channels;
        let length = part.batch.len() * groups * cut.length(problem);
        let map = |constant: bool, wanted: bool| match (constant, wanted) {
            (true, _) => [lines, states],
            (false, true) => [cut.side_by_side * length, states],
            (false, false) => [0, 0],
        };
        let [db, dc] = [&self.gradients.db, &self.gradients.dc].map(|view| view.is_some());
        let padded = self.spread.capacity() as usize;
        Ok(Places {
            a,
            d,
            delta_bias,
            h0,
            positions,
            saved,
            maps: [
                if problem.b_constant { constants[0] } else { room(&[length, padded])? },
                if problem.c_constant { constants[1] } else { room(&[length, padded])? },
            ],
            carry: match call.outer.dlast_state {
                Some(_) => dlast_state,
                None => room(&[lines, states])?,
            },
            map_sums: [room(&map(problem.b_constant, db))?, room(&map(problem.c_constant, dc))?],
            da: room(&[lines, states])?,
            dd: room(&[lines])?,
            ddelta_bias: room(&[lines, self.spread.lanes() as usize])?,
        })
    }

    /// The parameters of the walk but for the segment and the blocks.
    fn walk_params(&self, part: &Part, places: &Places) -> Result<BackwardWgslParams> {
        let &Self { device, problem, call, gradients, cut, .. } = self;
        let BackwardCall { inputs, options, outer, .. } = call;
        let [u, delta, z, dout, du, ddelta, dz] = self.activations(part)?;
        let wanted = [
            (inputs.h0.is_some(), flag::HAS_H0),
            (outer.dlast_state.is_some(), flag::HAS_CARRY),
            (gradients.du.is_some(), flag::WANTS_DU),
            (gradients.ddelta.is_some(), flag::WANTS_DDELTA),
            (gradients.dz.is_some(), flag::WANTS_DZ),
            (gradients.db.is_some(), flag::WANTS_DB),
            (gradients.dc.is_some(), flag::WANTS_DC),
        ];
        let (delta_min, delta_max) = options.delta_clamp.unwrap_or_default();
        Ok(BackwardWgslParams {
            rows: word(device, "rows", part.rows.len())?,
            channels: word(device, "channels", problem.channels)?,
            steps: steps(device, problem)?,
            states: word(device, "states", problem.states)?,
            groups: word(device, "groups", problem.groups)?,
            batch: word(device, "batch entries", part.batch.len())?,
            start: 0,
            length: word(device, "steps", cut.length(problem))?,
            blocks: word(device, "channels", cut.side_by_side)?,
            first_block: 0,
            checkpoints: word(device, "checkpoints", problem.checkpoints())?,
            flags: flag::of_call(problem, inputs, options) | flag::union(wanted),
            delta_min,
            delta_max,
            u_at: u.at,
            u_batch: u.strides[0],
            u_slow: u.strides[1],
            delta_at: delta.at,
            delta_batch: delta.strides[0],
            delta_slow: delta.strides[1],
            z_at: z.at,
            z_batch: z.strides[0],
            z_slow: z.strides[1],
            dout_at: dout.at,
            dout_batch: dout.strides[0],
            dout_slow: dout.strides[1],
            du_at: du.at,
            du_batch: du.strides[0],
            du_slow: du.strides[1],
            ddelta_at: ddelta.at,
            ddelta_batch: ddelta.strides[0],
            ddelta_slow: ddelta.strides[1],
            dz_at: dz.at,
            dz_batch: dz.strides[0],
            dz_slow: dz.strides[1],
            a_at: places.a,
            d_at: places.d,
            delta_bias_at: places.delta_bias,
            h0_at: places.h0,
            positions_at: places.positions,
            saved_at: places.saved,
            b_at: places.maps[0],
            c_at: places.maps[1],
            carry_at: places.carry,
            db_at: places.map_sums[0],
            dc_at: places.map_sums[1],
            da_at: places.da,
            dd_at: places.dd,
            ddelta_bias_at: places.ddelta_bias,
        })
    }

    /// u, delta, z, dout, du, ddelta, dz.
    fn activations(&self, part: &Part) -> Result<[Activation<'_>; 7]> {
        let &Self { call, gradients, .. } = self;
        let tensors: [Option<&Tensor<Wgpu, T>>; 7] = [
            Some(call.inputs.u),
            Some(call.inputs.delta),
            call.inputs.z,
            Some(call.outer.dout),
            gradients.du.as_deref(),
            gradients.ddelta.as_deref(),
            gradients.dz.as_deref(),
        ];
        let mut activations = [Activation::ABSENT; 7];
        for (into, tensor) in activations.iter_mut().zip(tensors) {
            if let Some(tensor) = tensor {
                *into = Activation::of(self.device, tensor, &part.batch)?;
            }
        }
        Ok(activations)
    }

    /// Variable B and C of the segment.
    fn record_maps(
        &self,
        recorder: &mut Recorder<'_>,
        part: &Part,
        scratch: Slice<'_>,
        walk: &BackwardWgslParams,
    ) -> Result<()> {
        let &Self { device, problem, call, .. } = self;
        let maps = [
            (call.inputs.b.view(), problem.b_constant, walk.b_at),
            (call.inputs.c.view(), problem.c_constant, walk.c_at),
        ];
        for (view, constant, target_at) in maps {
            let map = if constant { Map::ABSENT } else { Map::of(self, view, part)? };
            let Some(source) = map.slice else { continue };
            let variant = for_element(device, BackwardMapsWgsl::VARIANTS, T::DTYPE)?;
            let width = self.spread.capacity();
            // Scratch has room for as many words.
            let count = walk.batch * walk.groups * walk.length * width;
            let params = BackwardMapsWgslParams {
                count,
                groups: walk.groups,
                length: walk.length,
                width,
                steps: walk.steps,
                states: walk.states,
                start: walk.start,
                source_at: map.at,
                source_batch: map.batch,
                source_group: map.group,
                source_state: map.state,
                source_time: map.time,
                target_at,
            };
            let grid = workgroups(NAME, device, count, variant.info.block[0])?;
            BackwardMapsWgsl { params, source, target_words: scratch }
                .record(recorder, variant, grid)?;
        }
        Ok(())
    }

    fn record_walk(
        &self,
        recorder: &mut Recorder<'_>,
        part: &Part,
        scratch: Slice<'_>,
        params: BackwardWgslParams,
    ) -> Result<()> {
        let device = self.device;
        let [u, delta, z, dout, du, ddelta, dz] =
            self.activations(part)?.map(|one| one.slice.unwrap_or(scratch));
        let count = [params.rows, params.groups, params.blocks].map(u64::from);
        let count = count.into_iter().fold(1, u64::saturating_mul);
        let grid = folded(count, device.limits().grid)
            .ok_or_else(|| refused(NAME, device, "so many channels in one dispatch".to_owned()))?;
        BackwardWgsl { params, u, delta, z, dout, du, ddelta, dz, scratch }
            .record(recorder, self.walk, grid)
    }

    /// Variable dB and dC of the segment: sums over blocks of channels.
    fn record_map_sums(
        &self,
        recorder: &mut Recorder<'_>,
        part: &Part,
        scratch: Slice<'_>,
        walk: &BackwardWgslParams,
    ) -> Result<()> {
        let &Self { problem, gradients, cut, .. } = self;
        let &Problem { states, groups, .. } = problem;
        let maps = [
            (gradients.db.as_deref(), problem.b_constant, walk.db_at),
            (gradients.dc.as_deref(), problem.c_constant, walk.dc_at),
        ];
        for (view, constant, at) in maps {
            let Some(view) = view.filter(|_| !constant) else { continue };
            let batch = part.batch.len();
            let line = cut.length(problem) * states;
            let start = walk.start as usize;
            let sum = Sum {
                at,
                count: cut.blocks.min(cut.side_by_side),
                part_stride: batch * groups * line,
                line_stride: line,
                sizes: [batch, groups, cut.segment.min(problem.steps - start), states],
                goes_on: false,
            };
            let map = Map::of(self, view, part)?;
            let target = Map { at: map.at + walk.start * map.time, ..map };
            self.record_sum(recorder, scratch, &sum, &target, view.dtype())?;
        }
        Ok(())
    }

    /// Sums over the rows.
    fn record_sums(
        &self,
        recorder: &mut Recorder<'_>,
        part: &Part,
        scratch: Slice<'_>,
        places: &Places,
        goes_on: bool,
    ) -> Result<()> {
        let &Self { device, problem, gradients, .. } = self;
        let &Problem { states, a_per_channel, .. } = problem;
        let GradientsMut { da, db, dc, dd, ddelta_bias, .. } = gradients;
        let lanes = self.spread.lanes() as usize;
        let sums: [(Option<&View<Wgpu>>, u32, usize); 5] = [
            (da.as_deref().map(|da| &**da), places.da, if a_per_channel { states } else { 1 }),
            (db.as_deref().filter(|_| problem.b_constant), places.map_sums[0], 1),
            (dc.as_deref().filter(|_| problem.c_constant), places.map_sums[1], 1),
            (dd.as_deref().map(|dd| &**dd), places.dd, 1),
            (ddelta_bias.as_deref().map(|bias| &**bias), places.ddelta_bias, lanes),
        ];
        for (view, at, of_row) in sums {
            let Some(view) = view.filter(|view| view.elements() > 0) else { continue };
            let numbers = view.elements();
            let sum = Sum {
                at,
                count: part.rows.len() * of_row,
                part_stride: numbers,
                line_stride: 0,
                sizes: [1, 1, 1, numbers],
                goes_on,
            };
            let slice = Slice::new(view.buffer(), view.byte_range());
            let at = (slice.skipped(device) / 4) as u32;
            let target = Map { slice: Some(slice), at, state: 1, ..Map::ABSENT };
            self.record_sum(recorder, scratch, &sum, &target, DType::F32)?;
        }
        Ok(())
    }

    fn record_sum(
        &self,
        recorder: &mut Recorder<'_>,
        scratch: Slice<'_>,
        sum: &Sum,
        target: &Map<'_>,
        dtype: DType,
    ) -> Result<()> {
        let device = self.device;
        let Some(out) = target.slice else { return Ok(()) };
        let variant = for_element(device, SumWgsl::VARIANTS, dtype)?;
        let [_, lines, steps, width] = sum.sizes;
        let count = word(device, "elements", sum.sizes.iter().product())?;
        let params = SumWgslParams {
            count,
            heads: word(device, "groups", lines)?,
            steps: word(device, "steps", steps)?,
            width: word(device, "elements", width)?,
            parts: word(device, "parts", sum.count)?,
            line_stride: word(device, "elements", sum.line_stride)?,
            part_stride: word(device, "elements", sum.part_stride)?,
            parts_at: sum.at,
            out_at: target.at,
            out_batch: target.batch,
            out_head: target.group,
            out_time: target.time,
            out_width: target.state,
            goes_on: sum.goes_on.into(),
        };
        let grid = workgroups(NAME, device, count, variant.info.block[0])?;
        SumWgsl { params, scratch, out }.record(recorder, variant, grid)
    }
}

/// A map, or the gradient of one, as kernels find it.
#[derive(Clone, Copy)]
struct Map<'a> {
    slice: Option<Slice<'a>>,
    at: u32,
    batch: u32,
    group: u32,
    state: u32,
    time: u32,
}

impl<'a> Map<'a> {
    const ABSENT: Self = Self { slice: None, at: 0, batch: 0, group: 0, state: 0, time: 0 };

    fn of<T: DeviceFloat>(call: &Call<'_, T>, view: &'a View<Wgpu>, part: &Part) -> Result<Self> {
        let Activation { slice, at, strides } = Activation::of(call.device, view, &part.batch)?;
        let [batch, second, third, _] = strides;
        Ok(match call.problem.layout {
            Layout::Bdl => Self { slice, at, batch, group: second, state: third, time: 1 },
            Layout::Bld => Self { slice, at, batch, group: third, state: 1, time: second },
        })
    }
}

fn first_word(home: Home<'_>) -> u32 {
    match home {
        Home::Scratch(word) => word,
        Home::Absent | Home::Tensor(_) => 0,
    }
}

/// The variant for an element type.
fn for_element<E>(
    device: &Wgpu,
    table: &'static [Variant<E>],
    dtype: DType,
) -> Result<&'static Variant<E>> {
    let found = table.iter().find(|one| one.info.parameter("element") == Some(dtype.name()));
    found.ok_or_else(|| Error::Unsupported {
        operation: NAME,
        backend: device.name(),
        what: format!("elements {dtype}"),
        instead: "use `cpu`".to_owned(),
    })
}
