//! The end of rows: parts of the keys, what came before, and the sink are merged.

use super::{Lines, find, flag, word, workgroups};
use crate::Result;
use crate::attention::Merge;
use crate::attention::kernels::{MergeWgsl, MergeWgslParams};
use crate::backend::wgpu::{Recorder, Slice, Wgpu};
use crate::element::{DType, Float};

/// Records the merge of results in `T`; the sink, if there is one, lies in a scratch buffer from a
/// word on.
pub(super) fn record<T: Float>(
    device: &Wgpu,
    recorder: &mut Recorder<'_>,
    merge: &Merge<Wgpu>,
    sink: Option<(Slice<'_>, u32)>,
) -> Result<()> {
    let [batch, heads, queries, parts, width] = merge.sizes();
    let rows = batch * heads * queries;
    if rows == 0 {
        return Ok(());
    }
    let lines = |view| Lines::with_strides(device, view, view);
    let (of_parts, of_parts_lse) = (lines(&merge.parts)?, lines(&merge.parts_lse)?);
    let result = merge.outputs.out.as_ref().map(lines).transpose()?.unwrap_or(Lines::ABSENT);
    let partial = merge.outputs.partial.as_ref().map(lines).transpose()?.unwrap_or(Lines::ABSENT);
    let lse = lines(&merge.outputs.lse)?;
    // Bound in place of what is absent.
    let present = Slice::new(merge.outputs.lse.buffer(), merge.outputs.lse.byte_range());
    let (scratch, sink_at) = sink.unwrap_or((present, 0));
    let (count, grid) = workgroups(device, &[rows])?;
    let params = MergeWgslParams {
        workgroups: count,
        flags: flag::all([
            (result.slice.is_some(), flag::RESULT),
            (partial.slice.is_some(), flag::PARTIAL),
            (merge.accumulate, flag::ACCUMULATE),
            (sink.is_some(), flag::SINK),
            (merge.parts.dtype() != DType::F32, flag::NARROW),
        ]),
        heads: word(device, "heads", heads)?,
        queries: word(device, "queries", queries)?,
        width: word(device, "features", width)?,
        parts: word(device, "parts", parts)?,
        parts_at: of_parts.at,
        parts_batch: of_parts.batch,
        parts_head: of_parts.head,
        parts_token: of_parts.token,
        parts_part: word(device, "elements of a part", merge.parts.strides()[3])?,
        parts_lse_at: of_parts_lse.at,
        parts_lse_batch: of_parts_lse.batch,
        parts_lse_head: of_parts_lse.head,
        parts_lse_token: of_parts_lse.token,
        parts_lse_part: word(device, "rows of a part", merge.parts_lse.strides()[3])?,
        partial_at: partial.at,
        partial_batch: partial.batch,
        partial_head: partial.head,
        partial_token: partial.token,
        result_at: result.at,
        result_batch: result.batch,
        result_head: result.head,
        result_token: result.token,
        lse_at: lse.at,
        lse_batch: lse.batch,
        lse_head: lse.head,
        lse_token: lse.token,
        sink_at,
    };
    let variant = find(device, MergeWgsl::VARIANTS, T::DTYPE, |_| true)?;
    MergeWgsl {
        params,
        parts: of_parts.bound(present),
        parts_lse: of_parts_lse.bound(present),
        partial: partial.bound(present),
        result: result.bound(present),
        lse: present,
        scratch,
    }
    .record(recorder, variant, grid)
}
