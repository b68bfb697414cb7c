//! The backward pass of one part of the batch.
//!
//! Time is walked in segments, from the last to the first, so that no dispatch takes too long and
//! what it leaves stays small. Each segment is up to five dispatches: variable B and C in f32, the
//! states side by side; the walk, for all blocks of channels, or several walks for some blocks
//! each; and the sums over blocks that are dB and dC. Between segments the gradient of the state
//! stays in scratch, and the sums over time, which are summed over the rows in the end.

use super::super::kernels::{BackwardMapsWgsl, BackwardWgsl, BackwardWgslParams};
use super::super::{BackwardCall, GradientsMut, NAME, Plan, Problem, plan};
use super::parts::{self, Demand, Part};
use super::tensors::{Activation, rows, steps};
use super::{flag, word};
use crate::backend::kernel::Variant;
use crate::backend::kernel::common::SumWgsl;
use crate::backend::wgpu::{Recorder, Scratch, Slice, Wgpu, folded, refused};
use crate::backend::{Backend, Buffer};
use crate::element::{DType, DeviceFloat};
use crate::tensor::{Tensor, View};
use crate::{Error, Result};

mod maps;
mod places;
mod sums;

use places::Places;

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
        let places = Places::new(self, part, &mut scratch)?;
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
