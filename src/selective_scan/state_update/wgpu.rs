//! The WGSL kernel: one dispatch for each call, with what is small in scratch: step sizes, gates,
//! parameters, as f32, and the slots.

use super::kernels::{UpdateWgsl, UpdateWgslParams};
use super::{Call, NAME, Options, OutputsMut, Plan, Problem, State, StateUpdate, plan};
use super::{Inputs, check::CHECK};
use crate::Result;
use crate::backend::kernel::Variant;
use crate::backend::wgpu::{Home, Placed, Recorder, Scratch, Slice, Wgpu, folded, refused};
use crate::backend::{Backend, Buffer};
use crate::element::{DType, DeviceFloat};
use crate::parameter::Indices;
use crate::tensor::View;

/// The flags of kernels/state_update/update.wgsl.
mod flag {
    pub const SOFTPLUS: u32 = 1;
    pub const CLAMP: u32 = 2;
    pub const KEEP_STATE: u32 = 4;
    pub const DT_TIED: u32 = 8;
    pub const A_TIED: u32 = 16;
    pub const D_TIED: u32 = 32;
    pub const BIAS_TIED: u32 = 64;
    pub const HAS_Z: u32 = 128;
    pub const HAS_D: u32 = 256;
    pub const HAS_BIAS: u32 = 512;
    pub const HAS_STATES: u32 = 1024;
    pub const HAS_READ: u32 = 2048;
    pub const HAS_WRITE: u32 = 4096;
}

/// States of a lane come in this many pairs at most.
const PAIRS: usize = 2;

/// Records the update into the caller's encoder; nothing is submitted. The encoder and the tensors
/// must be of `device`.
///
/// # Errors
///
/// As [`update_into`](super::update_into), and
/// [`Error::Unsupported`](crate::Error::Unsupported) for tensors in buffers that lack a usage of
/// [`WgpuBuffer::USAGES`](crate::backend::wgpu::WgpuBuffer::USAGES). An encoder into which a call
/// has failed to record should be dropped.
pub fn record<'a, T: DeviceFloat>(
    device: &Wgpu,
    encoder: &mut ::wgpu::CommandEncoder,
    state: impl Into<State<'a, Wgpu>>,
    inputs: &Inputs<'_, Wgpu, T>,
    options: &Options,
    outputs: &mut OutputsMut<'_, Wgpu, T>,
) -> Result<()> {
    let state = state.into();
    let problem = Problem::check(&state, inputs, options)?;
    CHECK.same_device(device, inputs.named())?;
    problem.check_outputs(&state, inputs, outputs)?;
    let plan = StateUpdate::<T>::plan(device, &problem, options)?;
    let call = Call { state: &state, inputs, options, outputs };
    record_checked(&mut Recorder::new(device, encoder), device, &plan, &problem, &call)
}

impl<T: DeviceFloat> StateUpdate<T> for Wgpu {
    fn plan(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        let info = kernel(self, problem)?.info;
        let Spread { lanes, parts } = Spread::of(problem, info.block[0]);
        let groups = problem.batch as u64 * parts;
        let grid = folded(groups, self.limits().grid);
        let blocks = grid.ok_or_else(|| refused(NAME, self, format!("{groups} workgroups")))?;
        let reason = format!("{lanes} lanes hold N = {} states in pairs", problem.states);
        plan::only(&self.name(), info.name, blocks, reason, options)
    }

    fn preload(&self, plan: &Plan) -> Result<()> {
        let named = UpdateWgsl::VARIANTS.iter().find(|one| one.info.name == plan.variant);
        named.map_or(Ok(()), |named| self.preload(named.info))
    }

    fn launch(&self, plan: &Plan, problem: &Problem, call: &Call<'_, Self, T>) -> Result<()> {
        let descriptor = ::wgpu::CommandEncoderDescriptor { label: Some(plan.variant) };
        let mut encoder = self.device().create_command_encoder(&descriptor);
        record_checked(&mut Recorder::new(self, &mut encoder), self, plan, problem, call)?;
        self.submit(encoder)
    }
}

/// The kernel for these activations and states.
fn kernel(device: &Wgpu, problem: &Problem) -> Result<&'static Variant<UpdateWgsl<'static>>> {
    let of = |one: &&Variant<UpdateWgsl<'static>>| {
        one.info.parameter("element") == Some(problem.dtype.name())
            && one.info.parameter("state") == Some(problem.state_dtype.name())
    };
    let found = UpdateWgsl::VARIANTS.iter().find(of);
    found.ok_or_else(|| refused(NAME, device, format!("states of {}", problem.state_dtype)))
}

/// How channels are spread over workgroups.
struct Spread {
    /// Invocations of a channel, a power of 2.
    lanes: u32,
    /// Workgroups of an entry.
    parts: u64,
}

impl Spread {
    fn of(problem: &Problem, block: u32) -> Self {
        // Two states of a pair each; with the most lanes, PAIRS of them.
        let lanes = problem.states.div_ceil(2).next_power_of_two().min(block as usize);
        debug_assert!(2 * PAIRS * lanes >= problem.states);
        let columns = block as usize / lanes;
        Self { lanes: lanes as u32, parts: problem.channels().div_ceil(columns) as u64 }
    }
}

fn record_checked<T: DeviceFloat>(
    recorder: &mut Recorder<'_>,
    device: &Wgpu,
    plan: &Plan,
    problem: &Problem,
    call: &Call<'_, Wgpu, T>,
) -> Result<()> {
    let &Call { state, inputs, options, outputs } = call;
    let state = state.view();
    let tensors = inputs.named().into_iter().chain(outputs.named());
    for (name, view) in tensors.chain([("state", state)]) {
        view.buffer().check_usages(NAME, name)?;
    }
    if plan.blocks.contains(&0) {
        return Ok(());
    }
    let kernel = kernel(device, problem)?;
    let Spread { lanes, parts } = Spread::of(problem, kernel.info.block[0]);
    let mut scratch = Scratch::new(NAME);
    let dt_at = widened(&mut scratch, device, inputs.dt)?;
    let z_at = inputs.z.map(|z| widened(&mut scratch, device, z)).transpose()?;
    let d_at = inputs.d.map(|d| widened(&mut scratch, device, d.view())).transpose()?;
    let bias_at =
        inputs.dt_bias.map(|bias| widened(&mut scratch, device, bias.view())).transpose()?;
    // A is large: it stays where it is unless it has to be widened.
    let a = Slice::new(inputs.a.buffer(), inputs.a.byte_range());
    let a = scratch.parameter(device, a, inputs.a.dtype(), false)?;
    let read = Numbers::of(&mut scratch, device, &inputs.state_indices)?;
    let written = Numbers::of(&mut scratch, device, &inputs.out_indices)?;
    let scratch = scratch.fill(device, recorder)?;
    let scratch = Slice::new(&scratch, 0..scratch.bytes());
    let nowhere = Placed { slice: scratch, at: 0 };
    let place = |view| Placed::of(device, view);
    let a = match a {
        Home::Tensor(_) => place(inputs.a.view()),
        Home::Scratch(at) => Placed { slice: scratch, at },
        Home::Absent => nowhere,
    };
    let (x, b, c, out) = (place(inputs.x), place(inputs.b), place(inputs.c), place(outputs.out));
    let state_slice = if problem.states == 0 { nowhere } else { place(state) };
    let kept = match outputs.states.as_deref() {
        Some(states) if problem.states > 0 => place(states),
        _ => nowhere,
    };
    let size = |size: usize| small(device, size);
    let line = |view| Lines::of(device, problem, view);
    let (x_lines, dt_lines, out_lines) = (line(inputs.x)?, line(inputs.dt)?, line(outputs.out)?);
    let z_lines = inputs.z.map_or(Ok(Lines::default()), |z| line(z))?;
    let (b_lines, c_lines) = (line(inputs.b)?, line(inputs.c)?);
    let (dt_min, dt_max) = options.dt_clamp.unwrap_or((0.0, 0.0));
    // No element that is written may have an index beyond 32 bits.
    size(outputs.states.as_ref().map_or(0, |states| states.elements()))?;
    let params = UpdateWgslParams {
        batch: size(problem.batch)?,
        steps: size(problem.steps)?,
        channels: size(problem.channels())?,
        width: size(problem.width)?,
        group_channels: size(problem.channels() / problem.groups.max(1))?,
        states: size(problem.states)?,
        slots: size(problem.slots)?,
        lanes,
        parts: small(device, parts as usize)?,
        flags: flags(problem, call),
        dt_min,
        dt_max,
        state_at: state_slice.at,
        state_slot: if problem.slots > 1 { size(state.strides()[0])? } else { 0 },
        x_at: x.at,
        x_entry: x_lines.entry,
        x_step: x_lines.step,
        b_at: b.at,
        b_entry: b_lines.entry,
        b_step: b_lines.step,
        b_group: b_lines.group,
        c_at: c.at,
        c_entry: c_lines.entry,
        c_step: c_lines.step,
        c_group: c_lines.group,
        out_at: out.at,
        out_entry: out_lines.entry,
        out_step: out_lines.step,
        states_at: kept.at,
        a_at: a.at,
        dt_at,
        dt_entry: dt_lines.entry,
        dt_step: dt_lines.step,
        z_at: z_at.unwrap_or(0),
        z_entry: z_lines.entry,
        z_step: z_lines.step,
        d_at: d_at.unwrap_or(0),
        bias_at: bias_at.unwrap_or(0),
        read_at: read.at,
        read_words: read.words,
        read_sign: read.sign,
        write_at: written.at,
        write_words: written.words,
        write_sign: written.sign,
    };
    let slices = UpdateWgsl {
        params,
        state: state_slice.slice,
        x: x.slice,
        b: b.slice,
        c: c.slice,
        a: a.slice,
        out: out.slice,
        states: kept.slice,
        scratch,
    };
    slices.record(recorder, kernel, plan.blocks)
}

/// A size as the kernel takes it.
fn small(device: &Wgpu, size: usize) -> Result<u32> {
    u32::try_from(size).map_err(|_| refused(NAME, device, format!("a size of {size}")))
}

/// Brings a tensor with its gaps into scratch, as f32; its first word there.
fn widened<'a>(scratch: &mut Scratch<'a>, device: &Wgpu, view: &'a View<Wgpu>) -> Result<u32> {
    let source = Slice::new(view.buffer(), view.byte_range());
    Ok(match scratch.parameter(device, source, view.dtype(), true)? {
        Home::Scratch(word) => word,
        Home::Absent | Home::Tensor(_) => 0,
    })
}

/// Distances between entries, steps and groups as the kernel takes them; those of axes of length 1
/// are never used, and may be anything.
#[derive(Clone, Copy, Default)]
struct Lines {
    entry: u32,
    step: u32,
    group: u32,
}

impl Lines {
    fn of(device: &Wgpu, problem: &Problem, view: &View<Wgpu>) -> Result<Self> {
        let [entry, step, group] = problem.map_strides(view);
        let used = |length: usize, stride: u64| {
            if length > 1 { small(device, stride as usize) } else { Ok(0) }
        };
        Ok(Self {
            entry: used(problem.batch, entry)?,
            step: used(problem.steps, step)?,
            group: used(problem.groups, group)?,
        })
    }
}

/// Indices in scratch.
struct Numbers {
    /// The first word.
    at: u32,
    /// Of an index, the low one first.
    words: u32,
    /// The word of an index with its sign; all ones where it has none.
    sign: u32,
}

impl Numbers {
    fn of<'a>(
        scratch: &mut Scratch<'a>,
        device: &Wgpu,
        indices: &Option<Indices<'a, Wgpu>>,
    ) -> Result<Self> {
        let Some(indices) = indices else {
            return Ok(Self { at: 0, words: 0, sign: u32::MAX });
        };
        let view = indices.view();
        let at = scratch.words(device, Slice::new(view.buffer(), view.byte_range()))?;
        let sign = match view.dtype() {
            DType::I32 => 0,
            DType::I64 => 1,
            _ => u32::MAX,
        };
        Ok(Self { at, words: (view.dtype().bytes() / 4) as u32, sign })
    }
}

fn flags<T: DeviceFloat>(problem: &Problem, call: &Call<'_, Wgpu, T>) -> u32 {
    let Call { inputs, options, outputs, .. } = call;
    [
        (options.dt_softplus, flag::SOFTPLUS),
        (options.dt_clamp.is_some(), flag::CLAMP),
        (options.keep_state, flag::KEEP_STATE),
        (problem.dt_tied, flag::DT_TIED),
        (problem.a_tied, flag::A_TIED),
        (problem.d_tied, flag::D_TIED),
        (problem.dt_bias_tied, flag::BIAS_TIED),
        (inputs.z.is_some(), flag::HAS_Z),
        (inputs.d.is_some(), flag::HAS_D),
        (inputs.dt_bias.is_some(), flag::HAS_BIAS),
        (outputs.states.is_some(), flag::HAS_STATES),
        (inputs.state_indices.is_some(), flag::HAS_READ),
        (inputs.out_indices.is_some(), flag::HAS_WRITE),
    ]
    .into_iter()
    .filter(|(set, _)| *set)
    .fold(0, |flags, (_, flag)| flags | flag)
}
