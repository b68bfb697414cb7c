//! The forward pass: rows over parts of the keys, then the merge of what these gave.

use super::{Common, Lines, Rooms, Small, copy_out, find, flag, merge, word, workgroups};
use crate::Result;
use crate::attention::kernels::{WalkWgsl, WalkWgslParams};
use crate::attention::plan::{self, Stage, Walked};
use crate::attention::{Inputs, Merge, Options, OutputsMut, Plan, Problem};
use crate::backend::Backend;
use crate::backend::wgpu::{Recorder, Slice, Wgpu};
use crate::element::DeviceFloat;

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
    let rows = problem.batch * problem.heads * problem.queries;
    if rows == 0 {
        return Ok(());
    }
    let splits = plan.splits as usize;
    let merges = splits > 1 || options.accumulate || inputs.sink.is_some();
    let mut rooms = Rooms::new(device);
    let small = Small {
        slopes_at: rooms.optional(inputs.alibi_slopes)?,
        bounds_at: rooms.bounds(problem, inputs)?,
    };
    let sink_at = rooms.optional(inputs.sink)?;
    let lse_at = rooms.room(&[splits, rows])?;
    let filled = rooms.scratch.fill(device, recorder)?;
    let scratch = Slice::whole(&filled);
    let layout = options.layout;
    let result = outputs.out.as_deref().map(|out| Lines::of(device, out, layout));
    let result = result.transpose()?.unwrap_or(Lines::ABSENT);
    let partial = outputs.partial.as_deref().map(|partial| Lines::of(device, partial, layout));
    let partial = partial.transpose()?.unwrap_or(Lines::ABSENT);
    let common = Common::new(device, problem, inputs, options, small)?;
    let of_part = rows * problem.value_width;
    let room = device.allocate(4 * if merges { splits * of_part } else { 0 } as u64)?;
    let parts = merges.then(|| Slice::whole(&room));
    let variant = find(device, WalkWgsl::VARIANTS, T::DTYPE, |info| info.name == plan.variant)?;
    let info = variant.info;
    let walked = Walked::new(problem, Stage::Out, plan::rows(info));
    let walk = Walk { device, problem, walked, keys: plan::keys(info), splits, lse_at, rows };
    let (params, grid) = walk.params(&common, result, partial, parts)?;
    WalkWgsl {
        params,
        q: common.q.bound(scratch),
        k: common.k.bound(scratch),
        v: common.v.bound(scratch),
        dout: scratch,
        bias: common.bias.bound(scratch),
        result: if merges { scratch } else { result.bound(scratch) },
        partial: parts.unwrap_or_else(|| partial.bound(scratch)),
        scratch,
    }
    .record(recorder, variant, grid)?;
    if !merges {
        copy_out(recorder, scratch, lse_at, &*outputs.lse);
        return Ok(());
    }
    let places = [(&room, 0), (&filled, 4 * u64::from(lse_at))];
    let outputs = outputs.lines(layout)?;
    let merge = Merge::of_buffers(problem, splits, places, outputs, options.accumulate)?;
    let sink = inputs.sink.map(|_| (scratch, sink_at));
    merge::record::<T>(device, recorder, &merge, sink)
}

/// How the forward pass walks.
struct Walk<'a> {
    device: &'a Wgpu,
    problem: &'a Problem,
    walked: Walked,
    /// Keys of a tile.
    keys: usize,
    splits: usize,
    lse_at: u32,
    rows: usize,
}

impl Walk<'_> {
    /// The kernel's parameters and grid: what it gives goes to its place, or to parts.
    fn params(
        &self,
        common: &Common<'_>,
        result: Lines<'_>,
        partial: Lines<'_>,
        parts: Option<Slice<'_>>,
    ) -> Result<(WalkWgslParams, [u32; 3])> {
        let &Self { device, problem, walked, keys, splits, lse_at, rows } = self;
        let &Problem { kv_heads, heads, queries, value_width, .. } = problem;
        let Walked { tile, head_tiles, tiles } = walked;
        let (workgroups, grid) = workgroups(device, &[kv_heads, head_tiles, tiles, splits])?;
        let part_tokens = problem.keys.div_ceil(splits).next_multiple_of(keys);
        let word = |what, size| word(device, what, size);
        let mut params = WalkWgslParams {
            workgroups,
            tiles: word("tiles", tiles)?,
            tile_tokens: word("queries", tile.queries)?,
            tile_heads: word("heads", tile.heads)?,
            head_tiles: word("heads", head_tiles)?,
            parts: word("parts", splits)?,
            part_tokens: word("keys", part_tokens)?,
            lse_at,
            lse_part: word("rows", rows)?,
            ..common.params
        };
        match parts {
            Some(parts) => {
                params.flags |= flag::PARTIAL;
                params.partial_at = (parts.skipped(device) / 4) as u32;
                params.partial_batch = word("elements", heads * queries * value_width)?;
                params.partial_head = word("elements", queries * value_width)?;
                params.partial_token = word("elements", value_width)?;
                params.partial_part = word("elements", rows * value_width)?;
            }
            None => {
                params.flags |= if result.slice.is_some() { flag::RESULT } else { 0 };
                params.flags |= if partial.slice.is_some() { flag::PARTIAL } else { 0 };
                params.result_at = result.at;
                params.result_batch = result.batch;
                params.result_head = result.head;
                params.result_token = result.token;
                params.partial_at = partial.at;
                params.partial_batch = partial.batch;
                params.partial_head = partial.head;
                params.partial_token = partial.token;
            }
        }
        Ok((params, grid))
    }
}
