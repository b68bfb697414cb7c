//! Launches the PTX: one kernel for each call, with nothing allocated and nothing waited for.

use super::kernels::UpdatePtx;
use super::plan::{self, Spread};
use super::{Call, NAME, Options, Plan, Problem, StateUpdate};
use crate::Result;
use crate::backend::Backend;
use crate::backend::cuda::{Address, Cuda, Grid, sign_at, variant, word};
use crate::backend::kernel::Variant;
use crate::element::{DType, DeviceFloat};
use crate::parameter::{Indices, Parameter};
use crate::tensor::View;

/// Bits of the kernel's `flags`.
mod flag {
    pub const SOFTPLUS: u32 = 1;
    pub const CLAMP: u32 = 2;
    pub const KEEP_STATE: u32 = 4;
    pub const DT_TIED: u32 = 8;
    pub const A_TIED: u32 = 16;
    pub const D_TIED: u32 = 32;
    pub const BIAS_TIED: u32 = 64;
    pub const WIDE_A: u32 = 128;
    pub const WIDE_D: u32 = 256;
    pub const WIDE_BIAS: u32 = 512;
}

impl<T: DeviceFloat> StateUpdate<T> for Cuda {
    fn plan(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cuda(&self.name(), &self.limits(), kernel(problem)?.info, problem, options)
    }

    fn preload(&self, plan: &Plan) -> Result<()> {
        let named = variant(NAME, UpdatePtx::VARIANTS, |info| info.name == plan.variant)?;
        self.stream().preload(named.info)
    }

    fn launch(&self, plan: &Plan, problem: &Problem, call: &Call<'_, Self, T>) -> Result<()> {
        let &Call { state, inputs, options, outputs } = call;
        self.check_streams(NAME, inputs.named())?;
        self.check_streams(NAME, outputs.named())?;
        self.check_streams(NAME, [("state", state.view())])?;
        let kernel = kernel(problem)?;
        let spread = Spread::of(problem, kernel.info.block[0], self.limits().units);
        let optional = |parameter: Option<Parameter<'_, Self>>| {
            parameter.map_or(Address::NULL, |parameter| Address::of(&parameter))
        };
        let [x_entry_stride, x_step_stride] = problem.line_strides(inputs.x);
        let [dt_entry_stride, dt_step_stride] = problem.line_strides(inputs.dt);
        let [z_entry_stride, z_step_stride] = inputs.z.map_or([0; 2], |z| problem.line_strides(z));
        let [out_entry_stride, out_step_stride] = problem.line_strides(outputs.out);
        let [b_entry_stride, b_step_stride, b_group_stride] = problem.map_strides(inputs.b);
        let [c_entry_stride, c_step_stride, c_group_stride] = problem.map_strides(inputs.c);
        let (dt_min, dt_max) = options.dt_clamp.unwrap_or((0.0, 0.0));
        let read = Numbers::of(&inputs.state_indices);
        let written = Numbers::of(&inputs.out_indices);
        UpdatePtx {
            state: Address::of(state.view()),
            x: Address::of(inputs.x),
            dt: Address::of(inputs.dt),
            z: inputs.z.map_or(Address::NULL, |z| Address::of(z)),
            b: Address::of(inputs.b),
            c: Address::of(inputs.c),
            a: Address::of(&inputs.a),
            d: optional(inputs.d),
            dt_bias: optional(inputs.dt_bias),
            state_indices: read.address,
            out_indices: written.address,
            out: Address::of(outputs.out),
            states_out: outputs.states.as_deref().map_or(Address::NULL, Address::of),
            state_slot_stride: state.view().strides()[0] as u64,
            x_entry_stride,
            x_step_stride,
            dt_entry_stride,
            dt_step_stride,
            z_entry_stride,
            z_step_stride,
            out_entry_stride,
            out_step_stride,
            b_entry_stride,
            b_step_stride,
            b_group_stride,
            c_entry_stride,
            c_step_stride,
            c_group_stride,
            batch: word(problem.batch),
            steps: word(problem.steps),
            channels: word(problem.channels()),
            width: word(problem.width),
            group_channels: word(problem.channels() / problem.groups.max(1)),
            states: word(problem.states),
            groups: word(problem.groups),
            slots: word(problem.slots),
            tiles: spread.tiles,
            tile_log: spread.tile.ilog2(),
            lanes_log: spread.lanes.ilog2(),
            entries: spread.entries,
            state_indices_bytes: read.bytes,
            state_indices_sign_at: read.sign_at,
            out_indices_bytes: written.bytes,
            out_indices_sign_at: written.sign_at,
            dt_min,
            dt_max,
            flags: flags(problem, call),
        }
        .launch(
            self.stream(),
            kernel,
            Grid { blocks: plan.blocks, dynamic_shared: spread.shared, ..Grid::default() },
        )
    }
}

/// The kernel for these activations and states.
fn kernel(problem: &Problem) -> Result<&'static Variant<UpdatePtx>> {
    variant(NAME, UpdatePtx::VARIANTS, |info| {
        info.parameter("element") == Some(problem.dtype.name())
            && info.parameter("state") == Some(problem.state_dtype.name())
    })
}

/// Indices as the kernel reads them.
struct Numbers {
    address: Address,
    bytes: u32,
    sign_at: u32,
}

impl Numbers {
    fn of(indices: &Option<Indices<'_, Cuda>>) -> Self {
        let Some(indices) = indices else {
            return Self { address: Address::NULL, bytes: 0, sign_at: u32::MAX };
        };
        let dtype = indices.dtype();
        let (bytes, sign_at) = (word(dtype.bytes()), sign_at(dtype));
        Self { address: Address::of(indices), bytes, sign_at }
    }
}

fn flags<T: DeviceFloat>(problem: &Problem, call: &Call<'_, Cuda, T>) -> u32 {
    let Call { inputs, options, .. } = call;
    let is_f32 = |view: &View<Cuda>| view.dtype() == DType::F32;
    [
        (options.dt_softplus, flag::SOFTPLUS),
        (options.dt_clamp.is_some(), flag::CLAMP),
        (options.keep_state, flag::KEEP_STATE),
        (problem.dt_tied, flag::DT_TIED),
        (problem.a_tied, flag::A_TIED),
        (problem.d_tied, flag::D_TIED),
        (problem.dt_bias_tied, flag::BIAS_TIED),
        (is_f32(&inputs.a), flag::WIDE_A),
        (inputs.d.as_ref().is_some_and(|d| is_f32(d)), flag::WIDE_D),
        (inputs.dt_bias.as_ref().is_some_and(|bias| is_f32(bias)), flag::WIDE_BIAS),
    ]
    .into_iter()
    .filter(|(set, _)| *set)
    .fold(0, |flags, (_, flag)| flags | flag)
}
