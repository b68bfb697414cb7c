//! The end of rows: parts of the keys, what came before, and the sink are merged.

use super::{address, outer};
use crate::Result;
use crate::attention::kernels::MergePtx;
use crate::attention::{Merge, NAME};
use crate::backend::cuda::{Address, Cuda, Stream, bytes, element, linear, only, word};
use crate::element::DType;
use crate::tensor::View;

/// Launches the merge.
pub(super) fn launch(stream: &Stream, merge: &Merge<Cuda>, sink: Address) -> Result<()> {
    let [batch, heads, queries, parts, width] = merge.sizes();
    let rows = bytes(&[batch, heads, queries], 1);
    if rows == 0 {
        return Ok(());
    }
    let (out, partial) = (merge.outputs.out.as_ref(), merge.outputs.partial.as_ref());
    let lse = &merge.outputs.lse;
    let [parts_batch_stride, parts_head_stride, parts_token_stride, parts_part_stride] =
        outer(Some(&merge.parts));
    let [
        parts_lse_batch_stride,
        parts_lse_head_stride,
        parts_lse_token_stride,
        parts_lse_part_stride,
    ] = outer(Some(&merge.parts_lse));
    let [partial_batch_stride, partial_head_stride, partial_token_stride] = outer(partial);
    let [result_batch_stride, result_head_stride, result_token_stride] = outer(out);
    let [lse_batch_stride, lse_head_stride, lse_token_stride] = outer(Some(lse));
    let kernel = only(NAME, MergePtx::VARIANTS)?;
    let grid = linear(NAME, stream, rows.div_ceil(u64::from(kernel.info.block[0] / 32)))?;
    MergePtx {
        parts: Address::of(&merge.parts),
        parts_lse: Address::of(&merge.parts_lse),
        partial: address(partial),
        result: address(out),
        lse: Address::of(lse),
        sink,
        parts_part_stride,
        parts_lse_part_stride,
        parts_batch_stride,
        parts_head_stride,
        parts_token_stride,
        parts_lse_batch_stride,
        parts_lse_head_stride,
        parts_lse_token_stride,
        partial_batch_stride,
        partial_head_stride,
        partial_token_stride,
        result_batch_stride,
        result_head_stride,
        result_token_stride,
        lse_batch_stride,
        lse_head_stride,
        lse_token_stride,
        rows,
        heads: word(heads),
        queries: word(queries),
        width: word(width),
        count: word(parts),
        parts_element: element(merge.parts.dtype()),
        result_element: element(out.map_or(DType::F32, View::dtype)),
        accumulate: merge.accumulate.into(),
    }
    .launch(stream, kernel, grid)
}
