//! Launches the PTX: first what has to be converted into workspace, then the scan. Chunked in
//! time, that is three launches: the state that each chunk ends with when it starts from zero; the
//! states that the chunks really start from; the scan of each chunk from there.
//!
//! Everything runs on the stream of the device handle, which all tensors of a call share.

use super::kernels::{ForwardCarryPtx, ForwardChunkedPtx, ForwardPtx};
use super::{
    BackwardCall, CHECKPOINT, GradientsMut, Inputs, Layout, NAME, Options, OutputsMut, Plan,
    Problem, Resets, Schedule, SelectiveScan, no_backward, plan,
};
use crate::Result;
use crate::backend::Backend;
use crate::backend::cuda::{
    Address, Codes, Cuda, CudaBuffer, Grid, Place, Stream, Workspace, linear, only, preload,
    variant, within, word,
};
use crate::backend::kernel::Variant;
use crate::element::DeviceFloat;
use crate::parameter::Parameter;
use crate::tensor::View;

/// Bits of the kernel's `flags`.
mod flag {
    pub const SOFTPLUS: u32 = 1;
    pub const CLAMP: u32 = 2;
    pub const CONSTANT_B: u32 = 4;
    pub const CONSTANT_C: u32 = 8;
    pub const A_PER_CHANNEL: u32 = 16;
    pub const ANY_CODE_RESETS: u32 = 32;
    pub const ACCURATE: u32 = 64;
}

impl<T: DeviceFloat> SelectiveScan<T> for Cuda {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cuda(&self.name(), &self.limits(), problem, options)
    }

    fn launch_forward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        outputs: &OutputsMut<'_, Self, T>,
    ) -> Result<()> {
        self.check_streams(NAME, inputs.named())?;
        self.check_streams(NAME, outputs.named())?;
        if plan.blocks.contains(&0) {
            return Ok(());
        }
        let kernels = Kernels::of(plan)?;
        let stream = self.stream();
        let call = Call::new(plan, problem, inputs, options, outputs);
        // Freed in the order of the stream when it goes out of scope, also where a launch fails.
        let workspace = call.workspace.allocate(stream)?;
        let workspace = workspace.as_ref();
        for parameter in call.parameters() {
            parameter.widen(NAME, stream, workspace)?;
        }
        call.codes.write(NAME, stream, workspace, [problem.batch, problem.steps])?;
        let grid = Grid { blocks: plan.blocks, ..Grid::default() };
        if let Some(ends) = kernels.ends {
            call.ends(workspace).launch(stream, ends, grid)?;
            call.launch_carry(stream, workspace)?;
        }
        call.scan(workspace).launch(stream, kernels.scan, grid)
    }

    fn variants_forward(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        plan::cuda_variants(&self.name(), &self.limits(), problem, options)
    }

    fn preload_forward(&self, plan: &Plan) -> Result<()> {
        let stream = self.stream();
        let kernels = Kernels::of(plan)?;
        stream.preload(kernels.scan.info)?;
        if let Some(ends) = kernels.ends {
            stream.preload(ends.info)?;
            stream.preload(only(NAME, ForwardCarryPtx::VARIANTS)?.info)?;
        }
        preload(NAME, stream)
    }

    fn plan_backward(&self, _problem: &Problem, _options: &Options) -> Result<Plan> {
        Err(no_backward(self))
    }

    fn preload_backward(&self, _plan: &Plan) -> Result<()> {
        Err(no_backward(self))
    }

    fn launch_backward(
        &self,
        _plan: &Plan,
        _problem: &Problem,
        _call: &BackwardCall<'_, Self, T>,
        _gradients: &GradientsMut<'_, Self, T>,
    ) -> Result<()> {
        Err(no_backward(self))
    }
}

/// The kernels of a plan.
struct Kernels {
    /// The first pass of the chunked schedule.
    ends: Option<&'static Variant<ForwardChunkedPtx>>,
    scan: &'static Variant<ForwardPtx>,
}

impl Kernels {
    fn of(plan: &Plan) -> Result<Self> {
        match plan.schedule {
            Schedule::Serial => {
                let scan = variant(NAME, ForwardPtx::VARIANTS, |info| info.name == plan.variant)?;
                Ok(Self { ends: None, scan })
            }
            Schedule::Chunked { .. } => {
                let ends =
                    variant(NAME, ForwardChunkedPtx::VARIANTS, |info| info.name == plan.variant)?;
                let scan = variant(NAME, ForwardPtx::VARIANTS, |info| {
                    plan::spread_alike(info, ends.info)
                })?;
                Ok(Self { ends: Some(ends), scan })
            }
        }
    }
}

/// A call, and where everything lies that the kernels take in another form or leave to each other.
struct Call<'a, T: DeviceFloat> {
    problem: &'a Problem,
    inputs: &'a Inputs<'a, Cuda, T>,
    options: &'a Options,
    outputs: &'a OutputsMut<'a, Cuda, T>,
    a: Place<'a>,
    b: Place<'a>,
    c: Place<'a>,
    d: Place<'a>,
    delta_bias: Place<'a>,
    h0: Place<'a>,
    codes: Codes<'a>,
    chunks: plan::Chunks,
    /// Of a chunked schedule: the states between the chunks, and each chunk's sum of step sizes, at
    /// these bytes of the workspace.
    carries: Option<(u64, u64)>,
    workspace: Workspace,
}

impl<'a, T: DeviceFloat> Call<'a, T> {
    fn new(
        plan: &Plan,
        problem: &'a Problem,
        inputs: &'a Inputs<'a, Cuda, T>,
        options: &'a Options,
        outputs: &'a OutputsMut<'a, Cuda, T>,
    ) -> Self {
        let mut workspace = Workspace::default();
        let mut widened = |parameter: Option<Parameter<'a, Cuda>>| match parameter {
            None => Place::Absent,
            Some(parameter) => Place::of(parameter.view(), &mut workspace),
        };
        let a = widened(Some(inputs.a));
        // A map that varies with time is an activation, which stays as it is.
        let mut map = |map: Parameter<'a, Cuda>, constant: bool| match constant {
            true => widened(Some(map)),
            false => Place::Tensor(map.view()),
        };
        let b = map(inputs.b, problem.b_constant);
        let c = map(inputs.c, problem.c_constant);
        let d = widened(inputs.d);
        let delta_bias = widened(inputs.delta_bias);
        let h0 = widened(inputs.h0);
        let codes = Codes::of(&inputs.resets, [problem.batch, problem.steps], &mut workspace);
        let chunks = plan::Chunks::of(plan.schedule, problem);
        let carries = match plan.schedule {
            Schedule::Serial => None,
            Schedule::Chunked { .. } => Some(chunks.take(problem, &mut workspace)),
        };
        Self {
            problem,
            inputs,
            options,
            outputs,
            a,
            b,
            c,
            d,
            delta_bias,
            h0,
            codes,
            chunks,
            carries,
            workspace,
        }
    }

    fn parameters(&self) -> [&Place<'a>; 6] {
        [&self.a, &self.b, &self.c, &self.d, &self.delta_bias, &self.h0]
    }

    /// The first pass of the chunked schedule.
    fn ends(&self, workspace: Option<&CudaBuffer>) -> ForwardChunkedPtx {
        let &Self { problem, inputs, .. } = self;
        let [u, delta] = [inputs.u, inputs.delta].map(|tensor| self.strides(tensor));
        let b = self.map_strides(&inputs.b, problem.b_constant);
        let (delta_min, delta_max) = self.options.delta_clamp.unwrap_or_default();
        let (carries, sums) = self.carries.unwrap_or_default();
        ForwardChunkedPtx {
            u: Address::of(inputs.u),
            delta: Address::of(inputs.delta),
            a: self.a.address(workspace),
            b: self.b.address(workspace),
            delta_bias: self.delta_bias.address(workspace),
            codes: self.codes.address(workspace),
            last_state: within(workspace, carries),
            sums: within(workspace, sums),
            u_batch_stride: u[0],
            u_slow_stride: u[1],
            delta_batch_stride: delta[0],
            delta_slow_stride: delta[1],
            b_batch_stride: b[0],
            b_group_stride: b[1],
            b_slow_stride: b[2],
            codes_batch_stride: self.codes.batch_stride(problem.steps),
            channels: word(problem.channels),
            groups: word(problem.groups),
            states: word(problem.states),
            steps: word(problem.steps),
            chunks: self.chunks.count,
            chunk: self.chunks.steps,
            flags: self.flags(),
            delta_min,
            delta_max,
        }
    }

    /// The second pass of the chunked schedule; it also writes `last_state`.
    fn launch_carry(&self, stream: &Stream, workspace: Option<&CudaBuffer>) -> Result<()> {
        let problem = self.problem;
        let lines = problem.rows as u64 * problem.channels as u64;
        let variant = only(NAME, ForwardCarryPtx::VARIANTS)?;
        let states = lines.saturating_mul(problem.states as u64);
        if states == 0 {
            return Ok(());
        }
        let grid = linear(NAME, stream, states.div_ceil(u64::from(variant.info.block[0])))?;
        let (carries, sums) = self.carries.unwrap_or_default();
        ForwardCarryPtx {
            a: self.a.address(workspace),
            h0: self.h0.address(workspace),
            carries: within(workspace, carries),
            sums: within(workspace, sums),
            last_state: self.last_state(),
            lines,
            channels: word(problem.channels),
            states: word(problem.states),
            chunks: self.chunks.count,
            a_per_channel: problem.a_per_channel.into(),
        }
        .launch(stream, variant, grid)
    }

    /// The scan: the only pass of the serial schedule, the last of the chunked one.
    fn scan(&self, workspace: Option<&CudaBuffer>) -> ForwardPtx {
        let &Self { problem, inputs, outputs, .. } = self;
        let [u, delta, out] =
            [inputs.u, inputs.delta, &*outputs.out].map(|tensor| self.strides(tensor));
        let z = inputs.z.map_or([0; 2], |z| self.strides(z));
        let b = self.map_strides(&inputs.b, problem.b_constant);
        let c = self.map_strides(&inputs.c, problem.c_constant);
        let (delta_min, delta_max) = self.options.delta_clamp.unwrap_or_default();
        let bounds = match &inputs.resets {
            Resets::CuSeqlens(bounds) => Some(bounds.view()),
            _ => None,
        };
        let (h0, last_state) = match self.carries {
            Some((carries, _)) => (within(workspace, carries), Address::NULL),
            None => (self.h0.address(workspace), self.last_state()),
        };
        let address = |view: Option<&View<Cuda>>| view.map_or(Address::NULL, Address::of);
        ForwardPtx {
            u: Address::of(inputs.u),
            delta: Address::of(inputs.delta),
            a: self.a.address(workspace),
            b: self.b.address(workspace),
            c: self.c.address(workspace),
            d: self.d.address(workspace),
            z: address(inputs.z.map(|z| &**z)),
            delta_bias: self.delta_bias.address(workspace),
            h0,
            codes: self.codes.address(workspace),
            cu_seqlens: address(bounds),
            out: Address::of(outputs.out),
            last_state,
            saved: address(outputs.saved.as_deref().map(|saved| &**saved)),
            u_batch_stride: u[0],
            u_slow_stride: u[1],
            delta_batch_stride: delta[0],
            delta_slow_stride: delta[1],
            z_batch_stride: z[0],
            z_slow_stride: z[1],
            out_batch_stride: out[0],
            out_slow_stride: out[1],
            b_batch_stride: b[0],
            b_group_stride: b[1],
            b_slow_stride: b[2],
            c_batch_stride: c[0],
            c_group_stride: c[1],
            c_slow_stride: c[2],
            codes_batch_stride: self.codes.batch_stride(problem.steps),
            channels: word(problem.channels),
            groups: word(problem.groups),
            states: word(problem.states),
            steps: word(problem.steps),
            chunks: self.chunks.count,
            chunk: self.chunks.steps,
            save_every: word(CHECKPOINT),
            cu_seqlens_bytes: bounds.map_or(0, |bounds| word(bounds.dtype().bytes())),
            flags: self.flags(),
            delta_min,
            delta_max,
        }
    }

    fn last_state(&self) -> Address {
        self.outputs.last_state.as_deref().map_or(Address::NULL, |state| Address::of(state))
    }

    /// The strides of an activation: of batch entries, and of the slower of channel and time.
    fn strides(&self, view: &View<Cuda>) -> [u64; 2] {
        let strides = view.strides();
        [strides[0] as u64, strides[1] as u64]
    }

    /// The strides of `B` or `C`: of batch entries, groups, and the slower of state and time; 0 where
    /// it is constant.
    fn map_strides(&self, view: &View<Cuda>, constant: bool) -> [u64; 3] {
        if constant {
            return [0; 3];
        }
        let strides = view.strides();
        let [batch, second, third] = [0, 1, 2].map(|axis| strides[axis] as u64);
        match self.problem.layout {
            Layout::Bdl => [batch, second, third],
            Layout::Bld => [batch, third, second],
        }
    }

    fn flags(&self) -> u32 {
        let &Self { problem, options, .. } = self;
        [
            (options.delta_softplus, flag::SOFTPLUS),
            (options.delta_clamp.is_some(), flag::CLAMP),
            (problem.b_constant, flag::CONSTANT_B),
            (problem.c_constant, flag::CONSTANT_C),
            (problem.a_per_channel, flag::A_PER_CHANNEL),
            (self.codes.any_resets(), flag::ANY_CODE_RESETS),
            (options.keeps_decays_accurate(), flag::ACCURATE),
        ]
        .into_iter()
        .fold(0, |flags, (set, bit)| if set { flags | bit } else { flags })
    }
}
