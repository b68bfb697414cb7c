//! The WGSL kernel: one dispatch for each call, with the parameters in scratch as f32.

use super::check::{CHECK, strides};
use super::kernels::{UpdateWgsl, UpdateWgslParams};
use super::{CausalConv1dUpdate, Inputs, NAME, Problem, StateMut, plan};
use crate::Result;
use crate::backend::kernel::Variant;
use crate::backend::wgpu::{
    Home, Placed, Recorder, Scratch, Slice, Wgpu, folded, refused, workgroups,
};
use crate::backend::{Backend, Buffer};
use crate::causal_conv1d::wgpu::{sign_at, submit};
use crate::causal_conv1d::{Activation, Options, Plan};
use crate::element::{DType, DeviceFloat};
use crate::parameter::{Indices, Parameter};
use crate::tensor::{Tensor, View};

/// The flags of kernels/causal_conv1d_update/update.wgsl.
mod flag {
    pub const SILU: u32 = 1;
    pub const HAS_BIAS: u32 = 2;
    pub const CIRCULAR: u32 = 4;
    pub const INDEXED: u32 = 8;
    pub const WIDE_STATE: u32 = 16;
}

/// Records the update into the caller's encoder; nothing is submitted. The encoder and the tensors
/// must be of `device`.
///
/// # Errors
///
/// As [`update_into`](super::update_into), and
/// [`Error::Unsupported`](crate::Error::Unsupported) for tensors in buffers that lack a usage of
/// [`WgpuBuffer::USAGES`](crate::backend::wgpu::WgpuBuffer::USAGES). An encoder into which a call
/// has failed to record should be dropped.
pub fn record<T: DeviceFloat>(
    device: &Wgpu,
    encoder: &mut ::wgpu::CommandEncoder,
    inputs: &Inputs<'_, Wgpu, T>,
    conv_state: StateMut<'_, Wgpu>,
    options: &Options,
    out: &mut Tensor<Wgpu, T>,
) -> Result<()> {
    let problem = Problem::check(inputs, conv_state.0, options)?;
    CHECK.same_device(device, inputs.named())?;
    problem.check_out(inputs, out)?;
    CHECK.disjoint(&[("out", out), ("conv_state", conv_state.0)], &inputs.named())?;
    let mut recorder = Recorder::new(device, encoder);
    record_checked(&mut recorder, device, &problem, inputs, conv_state.0, options, out)
}

impl<T: DeviceFloat> CausalConv1dUpdate<T> for Wgpu {
    fn plan_update(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        let info = variant::<T>().info;
        let lines = problem.batch as u64 * problem.channels as u64;
        let grid = folded(lines.div_ceil(u64::from(info.block[0])), self.limits().grid);
        let blocks =
            grid.ok_or_else(|| refused(NAME, self, format!("{lines} entries and channels")))?;
        plan::only(&self.name(), info.name, blocks, options)
    }

    fn preload_update(&self, _plan: &Plan) -> Result<()> {
        self.preload(variant::<T>().info)
    }

    fn launch_update(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        conv_state: &View<Self>,
        options: &Options,
        out: &Tensor<Self, T>,
    ) -> Result<()> {
        submit(self, plan, |recorder| {
            record_checked(recorder, self, problem, inputs, conv_state, options, out)
        })
    }
}

/// The kernel for these activations; there is one for every float of a device.
fn variant<T: DeviceFloat>() -> Variant<UpdateWgsl<'static>> {
    let of = |one: &&Variant<UpdateWgsl<'static>>| {
        one.info.parameter("element") == Some(T::DTYPE.name())
    };
    *UpdateWgsl::VARIANTS.iter().find(of).unwrap_or(&UpdateWgsl::VARIANTS[0])
}

fn record_checked<T: DeviceFloat>(
    recorder: &mut Recorder<'_>,
    device: &Wgpu,
    problem: &Problem,
    inputs: &Inputs<'_, Wgpu, T>,
    conv_state: &View<Wgpu>,
    options: &Options,
    out: &Tensor<Wgpu, T>,
) -> Result<()> {
    let written: [(&str, &View<Wgpu>); 2] = [("conv_state", conv_state), ("out", out)];
    for (name, view) in inputs.named().into_iter().chain(written) {
        view.buffer().check_usages(NAME, name)?;
    }
    let lines = small(device, problem.batch * problem.channels)?;
    // Without a step nothing changes.
    if lines == 0 || problem.steps == 0 {
        return Ok(());
    }
    let mut scratch = Scratch::new(NAME);
    let weight_at = parameter(&mut scratch, device, inputs.weight)?;
    let bias_at = inputs.bias.map(|bias| parameter(&mut scratch, device, bias)).transpose()?;
    let scratch = scratch.fill(device, recorder)?;
    let scratch = Slice::new(&scratch, 0..scratch.bytes());
    let (x, y) = (Placed::of(device, inputs.x), Placed::of(device, out));
    let nowhere = Placed { slice: scratch, at: 0 };
    let state = if problem.entries == 0 { nowhere } else { Placed::of(device, conv_state) };
    let places = Numbers::of(device, &inputs.cache_seqlens, scratch);
    let slots = Numbers::of(device, &inputs.state_indices, scratch);
    let lengths = [problem.batch, problem.channels, problem.steps];
    let [x_batch, x_channel, x_step] = used(device, lengths, strides(inputs.x, options.layout))?;
    let [y_batch, y_channel, y_step] = used(device, lengths, strides(out, options.layout))?;
    let [state_slot, state_channel, state_entry] = used(
        device,
        [problem.slots, problem.channels, problem.entries],
        [0, 1, 2].map(|axis| conv_state.strides()[axis]),
    )?;
    let params = UpdateWgslParams {
        lines,
        channels: small(device, problem.channels)?,
        steps: small(device, problem.steps)?,
        width: small(device, problem.width)?,
        slots: small(device, problem.slots)?,
        entries: small(device, problem.entries)?,
        flags: flags(inputs, conv_state, options),
        x_at: x.at,
        x_batch,
        x_channel,
        x_step,
        y_at: y.at,
        y_batch,
        y_channel,
        y_step,
        state_at: state.at,
        state_slot,
        state_channel,
        state_entry,
        weight_at,
        bias_at: bias_at.unwrap_or(0),
        places_at: places.at,
        places_bytes: places.bytes,
        slots_at: slots.at,
        slots_bytes: slots.bytes,
        slots_sign_at: slots.sign_at,
    };
    let kernel = variant::<T>();
    let grid = workgroups(NAME, device, lines, kernel.info.block[0])?;
    let call = UpdateWgsl {
        params,
        x: x.slice,
        y: y.slice,
        conv_state: state.slice,
        scratch,
        cache_seqlens: places.slice,
        state_indices: slots.slice,
    };
    call.record(recorder, &kernel, grid)
}

/// A size as the kernel takes it.
fn small(device: &Wgpu, size: usize) -> Result<u32> {
    u32::try_from(size).map_err(|_| refused(NAME, device, format!("a size of {size}")))
}

/// Strides as the kernel takes them. That of an axis of length 1 is never used, and may be
/// anything.
fn used(device: &Wgpu, lengths: [usize; 3], strides: [usize; 3]) -> Result<[u32; 3]> {
    let stride = |axis: usize| small(device, if lengths[axis] > 1 { strides[axis] } else { 0 });
    Ok([stride(0)?, stride(1)?, stride(2)?])
}

/// Brings a parameter into scratch; its first word there.
fn parameter<'a>(
    scratch: &mut Scratch<'a>,
    device: &Wgpu,
    parameter: Parameter<'a, Wgpu>,
) -> Result<u32> {
    let view = parameter.view();
    let source = Slice::new(view.buffer(), view.byte_range());
    Ok(match scratch.parameter(device, source, view.dtype(), true)? {
        Home::Scratch(word) => word,
        Home::Absent | Home::Tensor(_) => 0,
    })
}

/// Indices as the kernel reads them; bytes of scratch where there are none.
struct Numbers<'a> {
    slice: Slice<'a>,
    /// The first byte.
    at: u32,
    /// Of an index.
    bytes: u32,
    sign_at: u32,
}

impl<'a> Numbers<'a> {
    fn of(device: &Wgpu, indices: &Option<Indices<'a, Wgpu>>, scratch: Slice<'a>) -> Self {
        let Some(indices) = indices else {
            return Self { slice: scratch, at: 0, bytes: 0, sign_at: u32::MAX };
        };
        let view = indices.view();
        let slice = Slice::new(view.buffer(), view.byte_range());
        let (at, dtype) = (slice.skipped(device) as u32, view.dtype());
        Self { slice, at, bytes: dtype.bytes() as u32, sign_at: sign_at(dtype) }
    }
}

fn flags<T: DeviceFloat>(
    inputs: &Inputs<'_, Wgpu, T>,
    conv_state: &View<Wgpu>,
    options: &Options,
) -> u32 {
    [
        (options.activation == Activation::Silu, flag::SILU),
        (inputs.bias.is_some(), flag::HAS_BIAS),
        (inputs.cache_seqlens.is_some(), flag::CIRCULAR),
        (inputs.state_indices.is_some(), flag::INDEXED),
        (conv_state.dtype() == DType::F32, flag::WIDE_STATE),
    ]
    .into_iter()
    .filter(|(set, _)| *set)
    .fold(0, |flags, (_, flag)| flags | flag)
}
