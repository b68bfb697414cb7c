//! The backward pass: one launch walks the rows down and leaves the sums of each block; then a launch
//! for each gradient that is a sum over blocks.

use super::reads::{Reads, address, strides};
use crate::Result;
use crate::backend::cuda::{
    Address, Cuda, CudaBuffer, Grid, Place, Stream, Workspace, bytes, linear, variant, within, word,
};
use crate::backend::kernel::{Variant, VariantInfo};
use crate::element::{DType, DeviceFloat};
use crate::selective_scan::kernels::{BackwardGeneralPtx, BackwardPtx, BackwardSumPtx};
use crate::selective_scan::plan::{Parts, Summed, Walk, dynamic_shared};
use crate::selective_scan::{BackwardCall, GradientsMut, Layout, NAME, Plan, Problem};
use crate::tensor::{Tensor, View};

/// The arguments of both kernels, which have the same names.
macro_rules! arguments {
    ($kernel:ident, $call:expr, $workspace:expr) => {{
        let Call { ref reads, call, gradients, .. } = *$call;
        let &Reads { problem, inputs, .. } = reads;
        let workspace = $workspace;
        let [u, delta, z, dout, du, ddelta, dz] = [
            Some(inputs.u),
            Some(inputs.delta),
            inputs.z,
            Some(call.outer.dout),
            gradients.du.as_deref(),
            gradients.ddelta.as_deref(),
            gradients.dz.as_deref(),
        ]
        .map(|tensor| Activation::of(problem.layout, tensor));
        let [b, c] = reads.map_strides();
        let sums = sum_strides(problem);
        let bounds = reads.bounds();
        let (delta_min, delta_max) = reads.options.delta_clamp.unwrap_or_default();
        let [da, db, dc, dd, ddelta_bias] = $call.sums.each_ref().map(|sum| match sum {
            Some(sum) if sum.parts.bytes() > 0 => within(workspace, sum.at),
            _ => Address::NULL,
        });
        $kernel {
            u: u.address,
            delta: delta.address,
            a: reads.a.address(workspace),
            b: reads.b.address(workspace),
            c: reads.c.address(workspace),
            d: reads.d.address(workspace),
            z: z.address,
            delta_bias: reads.delta_bias.address(workspace),
            h0: reads.h0.address(workspace),
            codes: reads.codes.address(workspace),
            cu_seqlens: address(bounds),
            saved: Address::of(call.saved),
            dout: dout.address,
            dlast_state: $call.dlast_state.address(workspace),
            du: du.address,
            ddelta: ddelta.address,
            dz: dz.address,
            dh0: match &gradients.dh0 {
                Some(dh0) => Address::of(dh0),
                None => $call.carries.map_or(Address::NULL, |at| within(workspace, at)),
            },
            da,
            db,
            dc,
            dd,
            ddelta_bias,
            u_batch_stride: u.batch_stride,
            u_channel_stride: u.channel_stride,
            u_step_stride: u.step_stride,
            delta_batch_stride: delta.batch_stride,
            delta_channel_stride: delta.channel_stride,
            delta_step_stride: delta.step_stride,
            z_batch_stride: z.batch_stride,
            z_channel_stride: z.channel_stride,
            z_step_stride: z.step_stride,
            dout_batch_stride: dout.batch_stride,
            dout_channel_stride: dout.channel_stride,
            dout_step_stride: dout.step_stride,
            du_batch_stride: du.batch_stride,
            du_channel_stride: du.channel_stride,
            du_step_stride: du.step_stride,
            ddelta_batch_stride: ddelta.batch_stride,
            ddelta_channel_stride: ddelta.channel_stride,
            ddelta_step_stride: ddelta.step_stride,
            dz_batch_stride: dz.batch_stride,
            dz_channel_stride: dz.channel_stride,
            dz_step_stride: dz.step_stride,
            b_batch_stride: b[0],
            b_group_stride: b[1],
            b_state_stride: b[2],
            b_step_stride: b[3],
            c_batch_stride: c[0],
            c_group_stride: c[1],
            c_state_stride: c[2],
            c_step_stride: c[3],
            map_batch_stride: sums[0],
            map_group_stride: sums[1],
            map_state_stride: sums[2],
            map_step_stride: sums[3],
            codes_batch_stride: reads.codes.batch_stride(problem.steps),
            map_elements: Parts::map_elements(problem),
            channels: word(problem.channels),
            groups: word(problem.groups),
            states: word(problem.states),
            steps: word(problem.steps),
            rounds: word($call.walk.rounds()),
            cu_seqlens_bytes: bounds.map_or(0, |bounds| word(bounds.dtype().bytes())),
            flags: reads.flags(),
            element_bytes: word(T::DTYPE.bytes()),
            is_bf16: (T::DTYPE == DType::BF16).into(),
            delta_min,
            delta_max,
        }
    }};
}

/// Loads the kernels of a plan.
pub(super) fn preload(stream: &Stream, plan: &Plan) -> Result<()> {
    stream.preload(Kernel::of(plan)?.info())?;
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
    let kernel = Kernel::of(plan)?;
    let walk = Walk::of(kernel.info(), plan, problem);
    let call = Call::new(&kernel, walk, problem, call, gradients);
    // Freed in the order of the stream when it goes out of scope, also where a launch fails.
    let workspace = call.workspace.allocate(stream)?;
    let workspace = workspace.as_ref();
    if !plan.blocks.contains(&0) {
        call.reads.prepare(stream, workspace)?;
        call.dlast_state.widen(NAME, stream, workspace)?;
        let grid = Grid {
            blocks: plan.blocks,
            cluster: match walk.cluster(problem) {
                1 => None,
                blocks => Some([blocks, 1, 1]),
            },
            dynamic_shared: dynamic_shared(kernel.info()),
            ..Grid::default()
        };
        kernel.launch(stream, grid, &call, workspace)?;
    }
    // Where no block has left anything, a sum of nothing.
    call.sums.iter().flatten().try_for_each(|sum| sum.launch(stream, workspace))
}

/// A kernel that walks the rows.
enum Kernel {
    Usual(&'static Variant<BackwardPtx>),
    General(&'static Variant<BackwardGeneralPtx>),
}

impl Kernel {
    fn of(plan: &Plan) -> Result<Self> {
        let planned = |info: &VariantInfo| info.name == plan.variant;
        match BackwardPtx::VARIANTS.iter().find(|variant| planned(variant.info)) {
            Some(usual) => Ok(Self::Usual(usual)),
            None => variant(NAME, BackwardGeneralPtx::VARIANTS, planned).map(Self::General),
        }
    }

    fn info(&self) -> &'static VariantInfo {
        match self {
            Self::Usual(variant) => variant.info,
            Self::General(variant) => variant.info,
        }
    }

    fn launch<T: DeviceFloat>(
        &self,
        stream: &Stream,
        grid: Grid,
        call: &Call<'_, T>,
        workspace: Option<&CudaBuffer>,
    ) -> Result<()> {
        match *self {
            Self::Usual(variant) => {
                arguments!(BackwardPtx, call, workspace).launch(stream, variant, grid)
            }
            Self::General(variant) => {
                arguments!(BackwardGeneralPtx, call, workspace).launch(stream, variant, grid)
            }
        }
    }
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
    walk: Walk,
    /// Where the gradients of states wait between chunks, if not in `dh0`.
    carries: Option<u64>,
    workspace: Workspace,
}

impl<'a, T: DeviceFloat> Call<'a, T> {
    fn new(
        kernel: &Kernel,
        walk: Walk,
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
            let parts = Parts::of(summed, walk, problem);
            let at = |gradient| Sum { gradient, parts, at: workspace.take(parts.bytes()) };
            gradient.map(at)
        });
        let carries = match kernel {
            Kernel::Usual(_) if gradients.dh0.is_none() => {
                let &Problem { rows, channels, states, .. } = problem;
                Some(workspace.take(bytes(&[rows, channels, states], 4)))
            }
            _ => None,
        };
        Self { reads, call, gradients, dlast_state, sums, walk, carries, workspace }
    }
}

/// Where an activation lies; nowhere where it is absent.
struct Activation {
    address: Address,
    batch_stride: u64,
    channel_stride: u64,
    step_stride: u64,
}

impl Activation {
    fn of<T: DeviceFloat>(layout: Layout, tensor: Option<&Tensor<Cuda, T>>) -> Self {
        let view = tensor.map(|tensor| &**tensor);
        let [batch_stride, slow] = strides(view);
        let (channel_stride, step_stride) = match layout {
            Layout::Bdl => (slow, 1),
            Layout::Bld => (1, slow),
        };
        Self { address: address(view), batch_stride, channel_stride, step_stride }
    }
}

/// The strides of variable maps without gaps, as [`Reads::map_strides`].
fn sum_strides(problem: &Problem) -> [u64; 4] {
    let &Problem { groups, states, steps, layout, .. } = problem;
    let [groups, states, steps] = [groups, states, steps].map(|size| size as u64);
    let batch = groups * states * steps;
    match layout {
        Layout::Bdl => [batch, states * steps, steps, 1],
        Layout::Bld => [batch, states, 1, groups * states],
    }
}
