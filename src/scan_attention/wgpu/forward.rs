//! The forward pass: scores of keys, then the scan.

use super::super::{Carry, Inputs, NAME, Options, OutputsMut, Problem, Scores};
use super::{Lines, Rooms, Slices, copy_out, flag, for_element, spans, word};
use crate::Result;
use crate::backend::Backend;
use crate::backend::wgpu::{Recorder, Slice, Wgpu, WgpuBuffer, folded, refused};
use crate::element::{DType, DeviceFloat};
use crate::plan::{Plan, Schedule};
use crate::scan_attention::kernels::{
    ForwardCarryWgsl, ForwardCarryWgslParams, ForwardChunkedWgsl, ForwardChunkedWgslParams,
    ForwardWgsl, ForwardWgslParams, ScoresWgsl, ScoresWgslParams,
};
use crate::scan_attention::plan::columns;

// The scan's parameters are filled in once for both of its entries.
const _: () = assert!(size_of::<ForwardWgslParams>() == size_of::<ForwardChunkedWgslParams>());

/// Records the pass.
pub(super) fn record<T: DeviceFloat>(
    device: &Wgpu,
    recorder: &mut Recorder<'_>,
    plan: &Plan,
    problem: &Problem,
    inputs: &Inputs<'_, Wgpu, T>,
    options: &Options,
    outputs: &OutputsMut<'_, Wgpu, T>,
) -> Result<()> {
    let &Problem { batch, heads, steps, width, rows, .. } = problem;
    if rows == 0 || heads == 0 {
        return Ok(());
    }
    let mut rooms = Rooms::new(device);
    let tokens = rooms.tokens(problem, inputs)?;
    let [m0_at, u0_at, w0_at] = match &inputs.carry {
        Some(Carry { m, u, w }) => {
            [rooms.parameter(m.view())?, rooms.parameter(u.view())?, rooms.parameter(w.view())?]
        }
        None => [0; 3],
    };
    let q_at = match &inputs.scores {
        Scores::Keys { q, .. } => rooms.parameter(q.view())?,
        Scores::Given(_) => 0,
    };
    let lse_at = rooms.room(&[batch, heads, steps])?;
    let [m_at, u_at] = [rooms.room(&[rows, heads])?, rooms.room(&[rows, heads])?];
    let w_at = rooms.room(&[rows, heads, width])?;
    let saved = outputs.saved.as_deref();
    let tiles = if saved.is_some() { problem.tiles() } else { 0 };
    let [saved_m_at, saved_u_at] =
        [rooms.room(&[batch, heads, tiles])?, rooms.room(&[batch, heads, tiles])?];
    let saved_w_at = rooms.room(&[batch, heads, tiles, width])?;
    let (chunks, chunk) = spans(device, plan, problem)?;
    let between = if plan.schedule == Schedule::Serial { 0 } else { chunks as usize };
    let mut states = || rooms.room(&[rows, heads, between]);
    let [end_m_at, end_u_at, cuts_at] = [states()?, states()?, states()?];
    let [start_m_at, start_u_at] = [states()?, states()?];
    let chunk_w_at = rooms.room(&[rows, heads, between, width])?;
    let scratch = rooms.scratch.fill(device, recorder)?;
    let scratch = Slices(&scratch);
    let kept = saved.and_then(|saved| saved.scores.as_ref());
    let made = made_scores(device, problem, kept.is_some())?;
    let scores = match (&inputs.scores, kept, &made) {
        (Scores::Given(s), ..) => Lines::of_scores(device, s)?,
        (_, Some(kept), _) => Lines::of_scores(device, kept)?,
        (_, _, made) => contiguous(device, made.as_ref(), problem)?,
    };
    if let Scores::Keys { k, .. } = &inputs.scores {
        let k = Lines::of(device, k, problem.layout)?;
        record_scores::<T>(device, recorder, problem, options, &scratch, &k, q_at, &scores)?;
    }
    let narrow = match &inputs.scores {
        Scores::Given(s) => s.dtype() != DType::F32,
        Scores::Keys { .. } => false,
    };
    let mut flags = tokens.flags;
    for (set, flag) in [
        (inputs.carry.is_some(), flag::HAS_CARRY),
        (narrow, flag::NARROW_SCORES),
        (saved.is_some(), flag::SAVE),
    ] {
        flags |= if set { flag } else { 0 };
    }
    let v = Lines::of(device, inputs.v, problem.layout)?;
    let o = Lines::of(device, outputs.o, problem.layout)?;
    let (count, grid) = workgroups(device, &[rows, heads, chunks as usize, columns(width)])?;
    let mut params = ForwardWgslParams {
        heads: word(device, "heads", heads)?,
        group: word(device, "heads", problem.group())?,
        steps: word(device, "steps", steps)?,
        width: word(device, "features", width)?,
        columns: word(device, "column blocks", columns(width))?,
        chunks,
        chunk,
        tiles: word(device, "tiles", problem.tiles())?,
        flags,
        count,
        scores_at: scores.at,
        scores_batch: scores.batch,
        scores_head: scores.head,
        v_at: v.at,
        v_batch: v.batch,
        v_head: v.head,
        v_time: v.time,
        o_at: o.at,
        o_batch: o.batch,
        o_head: o.head,
        o_time: o.time,
        m0_at,
        u0_at,
        w0_at,
        codes_at: tokens.codes_at,
        mask_at: tokens.mask_at,
        bounds_at: tokens.bounds_at,
        lse_at,
        m_at,
        u_at,
        w_at,
        saved_m_at,
        saved_u_at,
        saved_w_at,
        cuts_at,
    };
    let whole = scratch.whole();
    if between > 0 {
        // The state that each chunk ends with from nothing, then those that they start from.
        let ends = ForwardWgslParams {
            flags: flags & !(flag::HAS_CARRY | flag::SAVE) | flag::ENDS,
            m_at: end_m_at,
            u_at: end_u_at,
            w_at: chunk_w_at,
            ..params
        };
        // Both entries come of one template; the sizes are compared above.
        let params_of_ends = bytemuck::cast::<_, ForwardChunkedWgslParams>(ends);
        let (scores, v) = (scores.bound(whole), v.bound(whole));
        let variant = for_element(device, ForwardChunkedWgsl::VARIANTS, T::DTYPE)?;
        ForwardChunkedWgsl { params: params_of_ends, scores, v, scratch: whole }
            .record(recorder, variant, grid)?;
        let variant = &ForwardCarryWgsl::VARIANTS[0];
        let count = rows * heads * width.max(1);
        let (_, grid) = workgroups(device, &[count.div_ceil(variant.info.block[0] as usize)])?;
        let carry = ForwardCarryWgslParams {
            count: word(device, "features", count)?,
            width: params.width,
            chunks,
            has_carry: inputs.carry.is_some().into(),
            m0_at,
            u0_at,
            w0_at,
            end_m_at,
            end_u_at,
            cuts_at,
            start_m_at,
            start_u_at,
            w_at: chunk_w_at,
            last_m_at: m_at,
            last_u_at: u_at,
            last_w_at: w_at,
        };
        ForwardCarryWgsl { params: carry, scratch: whole }.record(recorder, variant, grid)?;
        (params.m0_at, params.u0_at, params.w0_at) = (start_m_at, start_u_at, chunk_w_at);
        params.flags |= flag::HAS_CARRY;
    } else {
        params.flags |= flag::ENDS;
    }
    ForwardWgsl {
        params,
        scores: scores.bound(whole),
        v: v.bound(whole),
        o: o.bound(whole),
        scratch: whole,
    }
    .record(recorder, for_element(device, ForwardWgsl::VARIANTS, T::DTYPE)?, grid)?;
    if let Some(lse) = outputs.lse.as_deref() {
        copy_out(recorder, &scratch, lse_at, lse);
    }
    if let Some(carry) = outputs.carry.as_deref() {
        copy_out(recorder, &scratch, m_at, &carry.m);
        copy_out(recorder, &scratch, u_at, &carry.u);
        copy_out(recorder, &scratch, w_at, &carry.w);
    }
    if let Some(saved) = saved {
        copy_out(recorder, &scratch, saved_m_at, &saved.m);
        copy_out(recorder, &scratch, saved_u_at, &saved.u);
        copy_out(recorder, &scratch, saved_w_at, &saved.w);
    }
    Ok(())
}

/// A buffer for scores that are computed and not kept.
fn made_scores(device: &Wgpu, problem: &Problem, kept: bool) -> Result<Option<WgpuBuffer>> {
    match problem.key_width {
        Some(_) if !kept => {
            let elements = problem.batch as u64 * problem.heads as u64 * problem.steps as u64;
            device.allocate(4 * elements).map(Some)
        }
        _ => Ok(None),
    }
}

/// Scores without gaps.
fn contiguous<'a>(
    device: &Wgpu,
    buffer: Option<&'a WgpuBuffer>,
    problem: &Problem,
) -> Result<Lines<'a>> {
    use crate::backend::Buffer;
    let slice = buffer.filter(|buffer| buffer.bytes() > 0);
    let slice = slice.map(|buffer| Slice::new(buffer, 0..buffer.bytes()));
    let at = slice.map_or(0, |slice| (slice.skipped(device) / 4) as u32);
    let batch = word(device, "scores", problem.heads * problem.steps)?;
    Ok(Lines { slice, at, batch, head: word(device, "steps", problem.steps)?, time: 1 })
}

#[allow(clippy::too_many_arguments)]
fn record_scores<T: DeviceFloat>(
    device: &Wgpu,
    recorder: &mut Recorder<'_>,
    problem: &Problem,
    options: &Options,
    scratch: &Slices<'_>,
    k: &Lines<'_>,
    q_at: u32,
    scores: &Lines<'_>,
) -> Result<()> {
    let &Problem { batch, heads, .. } = problem;
    let (count, grid) = workgroups(device, &[batch, heads, problem.tiles()])?;
    let width = problem.key_width.unwrap_or(0);
    let params = ScoresWgslParams {
        heads: word(device, "heads", heads)?,
        group: word(device, "heads", problem.group())?,
        steps: word(device, "steps", problem.steps)?,
        width: word(device, "features", width)?,
        tiles: word(device, "tiles", problem.tiles())?,
        count,
        scale: options.scale(width) as f32,
        k_at: k.at,
        k_batch: k.batch,
        k_head: k.head,
        k_time: k.time,
        q_at,
        scores_at: scores.at,
    };
    let whole = scratch.whole();
    ScoresWgsl { params, k: k.bound(whole), scratch: whole, scores: scores.bound(whole) }.record(
        recorder,
        for_element(device, ScoresWgsl::VARIANTS, T::DTYPE)?,
        grid,
    )
}

/// So many workgroups, and the grid that holds them.
pub(super) fn workgroups(device: &Wgpu, sizes: &[usize]) -> Result<(u32, [u32; 3])> {
    let count = sizes.iter().fold(1u64, |count, &size| count.saturating_mul(size as u64));
    folded(count, device.limits().grid)
        .map(|grid| (count as u32, grid))
        .ok_or_else(|| refused(NAME, device, format!("{count} workgroups")))
}
