//! One token.

use super::super::{NAME, Options, Scores, State, StepInputs, StepProblem};
use super::forward::workgroups;
use super::{Rooms, Slices, for_element, word};
use crate::Result;
use crate::backend::wgpu::{Recorder, Slice, Wgpu};
use crate::element::{DType, DeviceFloat};
use crate::scan_attention::kernels::{StepWgsl, StepWgslParams};
use crate::tensor::{Tensor, View};

/// The flags of kernels/scan_attention/step.wgsl.
mod flag {
    pub const FROM_KEYS: u32 = 1;
    pub const NARROW_SCORES: u32 = 2;
    pub const HAS_FROM: u32 = 4;
    pub const HAS_TO: u32 = 8;
}

/// Records the step of a token into each state.
pub(super) fn record<T: DeviceFloat>(
    device: &Wgpu,
    recorder: &mut Recorder<'_>,
    problem: &StepProblem,
    inputs: &StepInputs<'_, Wgpu, T>,
    options: &Options,
    state: &State<Wgpu, T>,
    o: &Tensor<Wgpu, T>,
) -> Result<()> {
    for (name, view) in inputs.named().into_iter().chain(state.named(["m", "u", "w"])) {
        view.buffer().check_usages(NAME, name)?;
    }
    o.buffer().check_usages(NAME, "o")?;
    let mut rooms = Rooms::new(device);
    let q_at = match &inputs.scores {
        Scores::Keys { q, .. } => rooms.parameter(q.view())?,
        Scores::Given(_) => 0,
    };
    let from_at = match inputs.state_indices {
        Some(indices) => rooms.indices(indices.view())?,
        None => 0,
    };
    let to_at = match inputs.out_indices {
        Some(indices) => rooms.indices(indices.view())?,
        None => 0,
    };
    let scratch = rooms.scratch.fill(device, recorder)?;
    let scratch = Slices(&scratch).whole();
    let (keys, keyed, narrow): (&View<Wgpu>, bool, bool) = match &inputs.scores {
        Scores::Given(s) => (s.view(), false, s.dtype() != DType::F32),
        Scores::Keys { k, .. } => (k, true, false),
    };
    let flags = [
        (keyed, flag::FROM_KEYS),
        (narrow, flag::NARROW_SCORES),
        (inputs.state_indices.is_some(), flag::HAS_FROM),
        (inputs.out_indices.is_some(), flag::HAS_TO),
    ];
    let flags = flags.into_iter().filter(|(set, _)| *set).fold(0, |flags, (_, flag)| flags | flag);
    let bound = [keys, inputs.v, o, &state.m, &state.u, &state.w];
    let [(keys, keys_at), (v, v_at), (out, o_at), (m, m_at), (u, u_at), (w, w_at)] =
        bound.map(|view| bound_or(device, view, scratch));
    let variant = for_element(device, StepWgsl::VARIANTS, T::DTYPE)?;
    let count = problem.batch * problem.heads;
    let (_, grid) = workgroups(device, &[count.div_ceil(variant.info.block[0] as usize)])?;
    let key_width = problem.key_width.unwrap_or(0);
    let params = StepWgslParams {
        count: word(device, "heads of tokens", count)?,
        heads: word(device, "heads", problem.heads)?,
        group: word(device, "heads", problem.group())?,
        key_width: word(device, "features", key_width)?,
        width: word(device, "features", problem.width)?,
        slots: word(device, "slots", problem.slots)?,
        flags,
        scale: options.scale(key_width) as f32,
        keys_at,
        v_at,
        o_at,
        m_at,
        u_at,
        w_at,
        q_at,
        from_at,
        to_at,
    };
    StepWgsl { params, keys, v, o: out, m, u, w, scratch }.record(recorder, variant, grid)
}

/// A tensor and its first element's index; what has no elements is bound to scratch.
fn bound_or<'a>(device: &Wgpu, view: &'a View<Wgpu>, scratch: Slice<'a>) -> (Slice<'a>, u32) {
    if view.elements() == 0 {
        return (scratch, 0);
    }
    let slice = Slice::new(view.buffer(), view.byte_range());
    (slice, (slice.skipped(device) / view.dtype().bytes() as u64) as u32)
}
