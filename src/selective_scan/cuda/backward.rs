//! The backward pass: one launch walks the rows down and leaves the sums of each block; then a launch
//! for each gradient that is a sum over blocks.

use super::reads::{Reads, address, strides};
use crate::Result;
use crate::backend::cuda::{
    Address, Cuda, CudaBuffer, Grid, Place, Stream, Workspace, linear, variant, within, word,
};
use crate::backend::kernel::Variant;
use crate::element::DeviceFloat;
use crate::selective_scan::kernels::{BackwardPtx, BackwardSumPtx};
use crate::selective_scan::plan::{Parts, Summed, dynamic_shared};
use crate::selective_scan::{BackwardCall, GradientsMut, NAME, Plan, Problem};
use crate::tensor::View;

/// Loads the kernels of a plan.
pub(super) fn preload(stream: &Stream, plan: &Plan) -> Result<()> {
    stream.preload(walk(plan)?.info)?;
    BackwardSumPtx::VARIANTS.iter().try_for_each(|variant| stream.preload(variant.info))
}

/// Launches the kernels of a plan.
pub(super) fn launch<T: DeviceFloat>(
    stream: &Stream,
    plan: &Plan,
    problem: &Problem,
    call: &BackwardCall<'_, Cuda, T>,
    gradients: &GradientsMut<'_, Cuda, T>,
) -> Result<()> {
    let walk = walk(plan)?;
    let call = Call::new(walk, problem, call, gradients);
    // Freed in the order of the stream when it goes out of scope, also where a launch fails.
    let workspace = call.workspace.allocate(stream)?;
    let workspace = workspace.as_ref();
    if !plan.blocks.contains(&0) {
        call.reads.prepare(stream, workspace)?;
        call.dlast_state.widen(NAME, stream, workspace)?;
        let grid = Grid {
            blocks: plan.blocks,
            dynamic_shared: dynamic_shared(walk.info),
            ..Grid::default()
        };
        call.walk(workspace).launch(stream, walk, grid)?;
    }
    // Where no block has left anything, a sum of nothing.
    call.sums.iter().flatten().try_for_each(|sum| sum.launch(stream, workspace))
}

/// The kernel of a plan that walks the rows.
fn walk(plan: &Plan) -> Result<&'static Variant<BackwardPtx>> {
    variant(NAME, BackwardPtx::VARIANTS, |info| info.name == plan.variant)
}

/// A gradient that is a sum, and where its parts lie in the workspace.
struct Sum<'a> {
    gradient: &'a View<Cuda>,
    parts: Parts,
    at: u64,
}

impl Sum<'_> {
    fn launch(&self, stream: &Stream, workspace: Option<&CudaBuffer>) -> Result<()> {
        let Self { gradient, parts: Parts { count, numbers, length }, at } = *self;
        let element = gradient.dtype().name();
        let variant = variant(NAME, BackwardSumPtx::VARIANTS, |info| {
            info.parameter("element") == Some(element)
        })?;
        let grid = linear(NAME, stream, numbers.div_ceil(u64::from(variant.info.block[0])))?;
        BackwardSumPtx {
            parts: within(workspace, at),
            sums: Address::of(gradient),
            numbers,
            count,
            length,
        }
        .launch(stream, variant, grid)
    }
}

/// A backward call, and where everything lies that its kernels leave to each other.
struct Call<'a, T: DeviceFloat> {
    reads: Reads<'a, T>,
    call: &'a BackwardCall<'a, Cuda, T>,
    gradients: &'a GradientsMut<'a, Cuda, T>,
    dlast_state: Place<'a>,
    /// Of A, B, C, D and delta_bias, those that are asked for.
    sums: [Option<Sum<'a>>; 5],
    workspace: Workspace,
}

impl<'a, T: DeviceFloat> Call<'a, T> {
    fn new(
        walk: &Variant<BackwardPtx>,
        problem: &'a Problem,
        call: &'a BackwardCall<'a, Cuda, T>,
        gradients: &'a GradientsMut<'a, Cuda, T>,
    ) -> Self {
        let mut workspace = Workspace::default();
        let reads = Reads::new(problem, call.inputs, call.options, &mut workspace);
        let dlast_state = match &call.outer.dlast_state {
            None => Place::Absent,
            Some(state) => Place::of(state.view(), &mut workspace),
        };
        let GradientsMut { da, db, dc, dd, ddelta_bias, .. } = gradients;
        let sums = [
            (Summed::A, da.as_deref().map(|view| &**view)),
            (Summed::B, db.as_deref()),
            (Summed::C, dc.as_deref()),
            (Summed::Skip, dd.as_deref().map(|view| &**view)),
            (Summed::DeltaBias, ddelta_bias.as_deref().map(|view| &**view)),
        ]
        .map(|(summed, gradient)| {
            let parts = Parts::of(summed, walk.info, problem);
            let at = |gradient| Sum { gradient, parts, at: workspace.take(parts.bytes()) };
            gradient.map(at)
        });
        Self { reads, call, gradients, dlast_state, sums, workspace }
    }

    fn walk(&self, workspace: Option<&CudaBuffer>) -> BackwardPtx {
        let &Self { reads: ref reads @ Reads { problem, inputs, .. }, call, gradients, .. } = self;
        let z = inputs.z.map(|z| &**z);
        let du = gradients.du.as_deref().map(|view| &**view);
        let ddelta = gradients.ddelta.as_deref().map(|view| &**view);
        let dz = gradients.dz.as_deref().map(|view| &**view);
        let dh0 = gradients.dh0.as_deref().map(|view| &**view);
        let [b, c] = reads.map_strides();
        let bounds = reads.bounds();
        let (delta_min, delta_max) = reads.options.delta_clamp.unwrap_or_default();
        let [da, db, dc, dd, ddelta_bias] = self.sums.each_ref().map(|sum| match sum {
            Some(sum) if sum.parts.bytes() > 0 => within(workspace, sum.at),
            _ => Address::NULL,
        });
        BackwardPtx {
            u: Address::of(inputs.u),
            delta: Address::of(inputs.delta),
            a: reads.a.address(workspace),
            b: reads.b.address(workspace),
            c: reads.c.address(workspace),
            d: reads.d.address(workspace),
            z: address(z),
            delta_bias: reads.delta_bias.address(workspace),
            h0: reads.h0.address(workspace),
            codes: reads.codes.address(workspace),
            cu_seqlens: address(bounds),
            saved: Address::of(call.saved),
            dout: Address::of(call.outer.dout),
            dlast_state: self.dlast_state.address(workspace),
            du: address(du),
            ddelta: address(ddelta),
            dz: address(dz),
            dh0: address(dh0),
            da,
            db,
            dc,
            dd,
            ddelta_bias,
            u_batch_stride: strides(Some(inputs.u))[0],
            u_slow_stride: strides(Some(inputs.u))[1],
            delta_batch_stride: strides(Some(inputs.delta))[0],
            delta_slow_stride: strides(Some(inputs.delta))[1],
            z_batch_stride: strides(z)[0],
            z_slow_stride: strides(z)[1],
            dout_batch_stride: strides(Some(call.outer.dout))[0],
            dout_slow_stride: strides(Some(call.outer.dout))[1],
            du_batch_stride: strides(du)[0],
            du_slow_stride: strides(du)[1],
            ddelta_batch_stride: strides(ddelta)[0],
            ddelta_slow_stride: strides(ddelta)[1],
            dz_batch_stride: strides(dz)[0],
            dz_slow_stride: strides(dz)[1],
            b_batch_stride: b[0],
            b_group_stride: b[1],
            b_slow_stride: b[2],
            c_batch_stride: c[0],
            c_group_stride: c[1],
            c_slow_stride: c[2],
            codes_batch_stride: reads.codes.batch_stride(problem.steps),
            map_elements: Parts::map_elements(problem),
            channels: word(problem.channels),
            groups: word(problem.groups),
            states: word(problem.states),
            steps: word(problem.steps),
            cu_seqlens_bytes: bounds.map_or(0, |bounds| word(bounds.dtype().bytes())),
            flags: reads.flags(),
            delta_min,
            delta_max,
        }
    }
}
