//! Launches the PTX: one kernel for each call.

use super::check::strides;
use super::kernels::UpdatePtx;
use super::{CausalConv1dUpdate, Inputs, NAME, Problem, plan};
use crate::Result;
use crate::backend::Backend;
use crate::backend::cuda::{Address, Cuda, grid_length, linear, sign_at, variant, word};
use crate::backend::kernel::VariantInfo;
use crate::causal_conv1d::{Activation, Options, Plan};
use crate::element::{DType, DeviceFloat};
use crate::parameter::Indices;
use crate::tensor::{Tensor, View};

/// Bits of the kernel's `flags`.
mod flag {
    pub const SILU: u32 = 1;
    pub const WIDE_WEIGHT: u32 = 2;
    pub const WIDE_BIAS: u32 = 4;
    pub const WIDE_STATE: u32 = 8;
}

impl<T: DeviceFloat> CausalConv1dUpdate<T> for Cuda {
    fn plan_update(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        let info = variant(NAME, UpdatePtx::VARIANTS, of::<T>)?.info;
        let blocks = grid_length(NAME, &self.name(), &self.limits(), blocks(problem, info))?;
        plan::only(&self.name(), info.name, [blocks, 1, 1], options)
    }

    fn preload_update(&self, _plan: &Plan) -> Result<()> {
        self.stream().preload(variant(NAME, UpdatePtx::VARIANTS, of::<T>)?.info)
    }

    fn launch_update(
        &self,
        _plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        conv_state: &View<Self>,
        options: &Options,
        out: &Tensor<Self, T>,
    ) -> Result<()> {
        self.check_streams(NAME, inputs.named())?;
        let written: [(&str, &View<Self>); 2] = [("conv_state", conv_state), ("out", out)];
        self.check_streams(NAME, written)?;
        let kernel = variant(NAME, UpdatePtx::VARIANTS, of::<T>)?;
        let grid = linear(NAME, self.stream(), blocks(problem, kernel.info))?;
        let [x_batch_stride, x_channel_stride, x_step_stride] =
            strides(inputs.x, options.layout).map(|stride| stride as u64);
        let [out_batch_stride, out_channel_stride, out_step_stride] =
            strides(out, options.layout).map(|stride| stride as u64);
        let [state_slot_stride, state_channel_stride, state_entry_stride] =
            [0, 1, 2].map(|axis| conv_state.strides()[axis] as u64);
        let indices = |indices: &Option<Indices<'_, Self>>| match indices {
            None => (Address::NULL, 0, u32::MAX),
            Some(view) => {
                let dtype = view.dtype();
                (Address::of(view), word(dtype.bytes()), sign_at(dtype))
            }
        };
        let (cache_seqlens, cache_seqlens_bytes, _) = indices(&inputs.cache_seqlens);
        let (state_indices, state_indices_bytes, state_indices_sign_at) =
            indices(&inputs.state_indices);
        UpdatePtx {
            x: Address::of(inputs.x),
            weight: Address::of(&inputs.weight),
            bias: inputs.bias.map_or(Address::NULL, |bias| Address::of(&bias)),
            conv_state: Address::of(conv_state),
            cache_seqlens,
            state_indices,
            out: Address::of(out),
            x_batch_stride,
            x_channel_stride,
            x_step_stride,
            out_batch_stride,
            out_channel_stride,
            out_step_stride,
            state_slot_stride,
            state_channel_stride,
            state_entry_stride,
            lines: problem.batch as u64 * problem.channels as u64,
            channels: word(problem.channels),
            steps: word(problem.steps),
            width: word(problem.width),
            slots: word(problem.slots),
            entries: word(problem.entries),
            cache_seqlens_bytes,
            state_indices_bytes,
            state_indices_sign_at,
            flags: flags(inputs, conv_state, options),
        }
        .launch(self.stream(), kernel, grid)
    }
}

fn flags<T: DeviceFloat>(
    inputs: &Inputs<'_, Cuda, T>,
    conv_state: &View<Cuda>,
    options: &Options,
) -> u32 {
    let is_f32 = |view: &View<Cuda>| view.dtype() == DType::F32;
    [
        (options.activation == Activation::Silu, flag::SILU),
        (is_f32(&inputs.weight), flag::WIDE_WEIGHT),
        (inputs.bias.as_ref().is_some_and(|bias| is_f32(bias)), flag::WIDE_BIAS),
        (is_f32(conv_state), flag::WIDE_STATE),
    ]
    .into_iter()
    .fold(0, |flags, (set, bit)| if set { flags | bit } else { flags })
}

/// Whether a variant is for these activations.
fn of<T: DeviceFloat>(info: &VariantInfo) -> bool {
    info.parameter("element") == Some(T::DTYPE.name())
}

/// A thread for each channel of each batch entry.
fn blocks(problem: &Problem, info: &VariantInfo) -> u64 {
    (problem.batch as u64 * problem.channels as u64).div_ceil(u64::from(info.block[0]))
}
