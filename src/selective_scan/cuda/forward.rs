//! The forward pass. Chunked in time, that is three launches: the state that each chunk ends with
//! when it starts from zero; the states that the chunks really start from; the scan of each chunk
//! from there.

use super::reads::{Reads, address, strides};
use crate::Result;
use crate::backend::cuda::{
    Address, Cuda, CudaBuffer, Grid, Stream, Workspace, linear, only, variant, within, word,
};
use crate::backend::kernel::Variant;
use crate::element::DeviceFloat;
use crate::selective_scan::kernels::{ForwardCarryPtx, ForwardChunkedPtx, ForwardPtx};
use crate::selective_scan::{
    CHECKPOINT, Inputs, NAME, Options, OutputsMut, Plan, Problem, Schedule, plan,
};

/// Loads the kernels of a plan.
pub(super) fn preload(stream: &Stream, plan: &Plan) -> Result<()> {
    let kernels = Kernels::of(plan)?;
    stream.preload(kernels.scan.info)?;
    if let Some(ends) = kernels.ends {
        stream.preload(ends.info)?;
        stream.preload(only(NAME, ForwardCarryPtx::VARIANTS)?.info)?;
    }
    Ok(())
}

/// Launches the kernels of a plan.
pub(super) fn launch<T: DeviceFloat>(
    stream: &Stream,
    plan: &Plan,
    problem: &Problem,
    inputs: &Inputs<'_, Cuda, T>,
    options: &Options,
    outputs: &OutputsMut<'_, Cuda, T>,
) -> Result<()> {
    if plan.blocks.contains(&0) {
        return Ok(());
    }
    let kernels = Kernels::of(plan)?;
    let call = Call::new(plan, problem, inputs, options, outputs);
    // Freed in the order of the stream when it goes out of scope, also where a launch fails.
    let workspace = call.workspace.allocate(stream)?;
    let workspace = workspace.as_ref();
    call.reads.prepare(stream, workspace)?;
    let grid = Grid { blocks: plan.blocks, ..Grid::default() };
    if let Some(ends) = kernels.ends {
        call.ends(workspace).launch(stream, ends, grid)?;
        call.launch_carry(stream, workspace)?;
    }
    call.scan(workspace).launch(stream, kernels.scan, grid)
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

/// A forward call, and where everything lies that its kernels leave to each other.
struct Call<'a, T: DeviceFloat> {
    reads: Reads<'a, T>,
    outputs: &'a OutputsMut<'a, Cuda, T>,
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
        let reads = Reads::new(problem, inputs, options, &mut workspace);
        let chunks = plan::Chunks::of(plan.schedule, problem);
        let carries = match plan.schedule {
            Schedule::Serial => None,
            Schedule::Chunked { .. } => Some(chunks.take(problem, &mut workspace)),
        };
        Self { reads, outputs, chunks, carries, workspace }
    }

    /// The first pass of the chunked schedule.
    fn ends(&self, workspace: Option<&CudaBuffer>) -> ForwardChunkedPtx {
        let reads @ &Reads { problem, inputs, .. } = &self.reads;
        let [u, delta] = [inputs.u, inputs.delta].map(|tensor| strides(Some(tensor)));
        let [b, _] = reads.map_strides();
        let (delta_min, delta_max) = reads.options.delta_clamp.unwrap_or_default();
        let (carries, sums) = self.carries.unwrap_or_default();
        ForwardChunkedPtx {
            u: Address::of(inputs.u),
            delta: Address::of(inputs.delta),
            a: reads.a.address(workspace),
            b: reads.b.address(workspace),
            delta_bias: reads.delta_bias.address(workspace),
            codes: reads.codes.address(workspace),
            last_state: within(workspace, carries),
            sums: within(workspace, sums),
            u_batch_stride: u[0],
            u_slow_stride: u[1],
            delta_batch_stride: delta[0],
            delta_slow_stride: delta[1],
            b_batch_stride: b[0],
            b_group_stride: b[1],
            b_slow_stride: reads.slow(b),
            codes_batch_stride: reads.codes.batch_stride(problem.steps),
            channels: word(problem.channels),
            groups: word(problem.groups),
            states: word(problem.states),
            steps: word(problem.steps),
            chunks: self.chunks.count,
            chunk: self.chunks.steps,
            flags: reads.flags(),
            delta_min,
            delta_max,
        }
    }

    /// The second pass of the chunked schedule; it also writes `last_state`.
    fn launch_carry(&self, stream: &Stream, workspace: Option<&CudaBuffer>) -> Result<()> {
        let reads @ &Reads { problem, .. } = &self.reads;
        let lines = problem.rows as u64 * problem.channels as u64;
        let variant = only(NAME, ForwardCarryPtx::VARIANTS)?;
        let states = lines.saturating_mul(problem.states as u64);
        if states == 0 {
            return Ok(());
        }
        let grid = linear(NAME, stream, states.div_ceil(u64::from(variant.info.block[0])))?;
        let (carries, sums) = self.carries.unwrap_or_default();
        ForwardCarryPtx {
            a: reads.a.address(workspace),
            h0: reads.h0.address(workspace),
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
        let &Self { reads: ref reads @ Reads { problem, inputs, .. }, outputs, .. } = self;
        let [u, delta, out] =
            [inputs.u, inputs.delta, &*outputs.out].map(|tensor| strides(Some(tensor)));
        let z = inputs.z.map(|z| &**z);
        let [b, c] = reads.map_strides();
        let (delta_min, delta_max) = reads.options.delta_clamp.unwrap_or_default();
        let bounds = reads.bounds();
        let (h0, last_state) = match self.carries {
            Some((carries, _)) => (within(workspace, carries), Address::NULL),
            None => (reads.h0.address(workspace), self.last_state()),
        };
        ForwardPtx {
            u: Address::of(inputs.u),
            delta: Address::of(inputs.delta),
            a: reads.a.address(workspace),
            b: reads.b.address(workspace),
            c: reads.c.address(workspace),
            d: reads.d.address(workspace),
            z: address(z),
            delta_bias: reads.delta_bias.address(workspace),
            h0,
            codes: reads.codes.address(workspace),
            cu_seqlens: address(bounds),
            out: Address::of(outputs.out),
            last_state,
            saved: address(outputs.saved.as_deref().map(|saved| &**saved)),
            u_batch_stride: u[0],
            u_slow_stride: u[1],
            delta_batch_stride: delta[0],
            delta_slow_stride: delta[1],
            z_batch_stride: strides(z)[0],
            z_slow_stride: strides(z)[1],
            out_batch_stride: out[0],
            out_slow_stride: out[1],
            b_batch_stride: b[0],
            b_group_stride: b[1],
            b_slow_stride: reads.slow(b),
            c_batch_stride: c[0],
            c_group_stride: c[1],
            c_slow_stride: reads.slow(c),
            codes_batch_stride: reads.codes.batch_stride(problem.steps),
            channels: word(problem.channels),
            groups: word(problem.groups),
            states: word(problem.states),
            steps: word(problem.steps),
            chunks: self.chunks.count,
            chunk: self.chunks.steps,
            save_every: word(CHECKPOINT),
            cu_seqlens_bytes: bounds.map_or(0, |bounds| word(bounds.dtype().bytes())),
            flags: reads.flags(),
            delta_min,
            delta_max,
        }
    }

    fn last_state(&self) -> Address {
        address(self.outputs.last_state.as_deref().map(|state| &**state))
    }
}
