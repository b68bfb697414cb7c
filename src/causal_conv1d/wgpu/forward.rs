//! The forward pass.

use super::call::Call;
use super::parts::{Part, parts};
use super::{call::slice_of_rows, check_usages};
use crate::Result;
use crate::backend::kernel::{Variant, VariantInfo};
use crate::backend::wgpu::{Recorder, Wgpu};
use crate::causal_conv1d::kernels::{
    FinalStateWgsl, FinalStateWgslParams, ForwardWgsl, ForwardWgslParams, MasksWgsl,
};
use crate::causal_conv1d::{Inputs, Layout, Options, OutputsMut, Problem};
use crate::element::{DType, DeviceFloat};
use crate::tensor::View;

// The parameters are filled in once for all kernels.
const _: () = assert!(size_of::<ForwardWgslParams>() == size_of::<FinalStateWgslParams>());

/// The kernels of the pass.
pub(super) fn infos<T: DeviceFloat>() -> impl Iterator<Item = &'static VariantInfo> + Clone {
    let forward = ForwardWgsl::VARIANTS.iter().map(|one| one.info);
    let state = FinalStateWgsl::VARIANTS.iter().map(|one| one.info);
    forward.chain(state).filter(of::<T>).chain(MasksWgsl::VARIANTS.iter().map(|one| one.info))
}

/// Whether a variant is for these activations.
pub(super) fn of<T: DeviceFloat>(info: &&VariantInfo) -> bool {
    info.parameter("element") == Some(T::DTYPE.name())
}

/// The first variant of a table for these activations; there is one for every float of a device.
pub(super) fn variant<T: DeviceFloat, E>(table: &'static [Variant<E>]) -> Variant<E> {
    table.iter().find(|one| of::<T>(&one.info)).copied().unwrap_or(table[0])
}

pub(super) fn record<T: DeviceFloat>(
    recorder: &mut Recorder<'_>,
    device: &Wgpu,
    problem: &Problem,
    inputs: &Inputs<'_, Wgpu, T>,
    options: &Options,
    outputs: &OutputsMut<'_, Wgpu, T>,
) -> Result<()> {
    if problem.rows == 0 || problem.channels == 0 {
        return Ok(());
    }
    check_usages(inputs.named().into_iter().chain(outputs.named()))?;
    let call = Call { device, problem, inputs, options, dfinal: None };
    let final_state = outputs.final_state.as_deref().filter(|state| state.elements() > 0);
    for part in parts(device, problem, &[("x", inputs.x), ("out", outputs.out)])? {
        record_part(recorder, &call, &part, outputs.out, final_state.map(|state| &**state))?;
    }
    Ok(())
}

fn record_part<T: DeviceFloat>(
    recorder: &mut Recorder<'_>,
    call: &Call<'_, T>,
    part: &Part,
    out: &View<Wgpu>,
    final_state: Option<&View<Wgpu>>,
) -> Result<()> {
    let prepared = call.prepare(recorder, part)?;
    let (x, y) = (call.activation(call.inputs.x, part)?, call.activation(out, part)?);
    let (scratch, problem) = (prepared.scratch(), call.problem);
    let slice = x.slice.unwrap_or(scratch);
    if let Some(y_slice) = y.slice {
        let kernel = variant::<T, _>(ForwardWgsl::VARIANTS);
        let (slow, fast) = match problem.layout {
            Layout::Bdl => (problem.channels, problem.steps),
            Layout::Bld => (problem.steps, problem.channels),
        };
        // A line of 16-bit elements may begin and end in the middle of a word.
        let of_line = if T::DTYPE == DType::F32 { fast } else { fast / 2 + 1 };
        let count = [part.entries.len(), slow, of_line];
        let count = count.iter().fold(1u64, |count, &n| count.saturating_mul(n as u64));
        let params = ForwardWgslParams {
            y_at: y.at,
            y_batch: y.strides[0],
            y_channel: y.strides[1],
            y_time: y.strides[2],
            ..prepared.params
        };
        let grid = call.grid(count, kernel.info.block[0])?;
        ForwardWgsl { params, x: slice, y: y_slice, scratch }.record(recorder, &kernel, grid)?;
    }
    let Some(final_state) = final_state else { return Ok(()) };
    let kernel = variant::<T, _>(FinalStateWgsl::VARIANTS);
    let state = problem.channels * problem.history();
    let target = slice_of_rows(final_state, &part.rows, state);
    let state_at = (target.skipped(call.device) / 4) as u32;
    let params = ForwardWgslParams { state_at, ..prepared.params };
    let grid = call.grid((part.rows.len() * state) as u64, kernel.info.block[0])?;
    let params = bytemuck::cast::<_, FinalStateWgslParams>(params);
    FinalStateWgsl { params, x: slice, scratch, final_state: target }
        .record(recorder, &kernel, grid)
}
