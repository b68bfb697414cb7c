//! Batches that no binding can hold, in parts that one can.

use std::ops::Range;

use super::super::{Inputs, NAME, Problem, Resets};
use crate::backend::Backend;
use crate::backend::wgpu::Wgpu;
use crate::element::DeviceFloat;
use crate::shape::span;
use crate::tensor::View;
use crate::{Error, Result};

/// Rows that are recorded together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Batch entries; the only one where packed.
    pub batch: Range<usize>,
    /// Rows with a state of their own.
    pub rows: Range<usize>,
}

/// Bytes before and behind a range that its binding may hold besides: it begins at a boundary of
/// up to 256 bytes and ends at a whole word.
const SLACK: u64 = 256 + 4;

/// What a tensor, or a buffer of ours, demands of a binding: the bytes of one batch entry and of each
/// further one.
pub(super) type Demand = (&'static str, u64, u64);

/// The parts of a call, as few as the device's bindings allow.
pub(super) fn parts(device: &Wgpu, problem: &Problem, demands: &[Demand]) -> Result<Vec<Part>> {
    let most = device.limits().binding_bytes.saturating_sub(SLACK);
    let mut rows = problem.batch;
    for &(name, first, next) in demands {
        if first > most {
            return Err(Error::Unsupported {
                operation: NAME,
                backend: device.name(),
                what: format!("{first} bytes of `{name}` in one row, {most} are most"),
                instead: "split the channels, or the steps with `h0` and `last_state`".to_owned(),
            });
        }
        if let Some(further) = (most - first).checked_div(next) {
            rows = rows.min(usize::try_from(further).unwrap_or(usize::MAX).saturating_add(1));
        }
    }
    if problem.packed {
        return Ok(vec![Part { batch: 0..problem.batch, rows: 0..problem.rows }]);
    }
    Ok(cut(problem.batch, rows))
}

/// `batch` entries, `rows` at a time.
fn cut(batch: usize, rows: usize) -> Vec<Part> {
    let starts = (0..batch).step_by(rows.max(1));
    starts
        .map(|start| start..batch.min(start.saturating_add(rows.max(1))))
        .map(|range| Part { batch: range.clone(), rows: range })
        .collect()
}

/// Of each input with a batch axis.
pub(super) fn inputs<T: DeviceFloat>(
    problem: &Problem,
    inputs: &Inputs<'_, Wgpu, T>,
) -> Vec<Demand> {
    let mut views: Vec<(&'static str, &View<Wgpu>)> =
        vec![("u", inputs.u), ("delta", inputs.delta)];
    views.extend(inputs.z.map(|z| ("z", &**z)));
    views.extend((!problem.b_constant).then(|| ("B", inputs.b.view())));
    views.extend((!problem.c_constant).then(|| ("C", inputs.c.view())));
    match &inputs.resets {
        Resets::SeqIdx(seq_idx) => views.push(("seq_idx", seq_idx.view())),
        Resets::Flags(flags) => views.push(("reset", flags)),
        Resets::None | Resets::CuSeqlens(_) => {}
    }
    views.into_iter().map(|(name, view)| demand(name, view)).collect()
}

/// Of a tensor with a batch axis.
pub(super) fn demand(name: &'static str, view: &View<Wgpu>) -> Demand {
    let size = view.dtype().bytes() as u64;
    let (shape, strides) = (view.shape(), view.strides());
    // The whole tensor has a span, so an entry has one.
    let entry = span(&shape[1..], &strides[1..]).unwrap_or(usize::MAX) as u64;
    (name, entry.saturating_mul(size), (strides[0] as u64).saturating_mul(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_without_a_rest_left_over() {
        let part = |range: Range<usize>| Part { batch: range.clone(), rows: range };
        assert_eq!(cut(5, 2), [part(0..2), part(2..4), part(4..5)]);
        assert_eq!(cut(5, 9), [part(0..5)]);
        assert_eq!(cut(0, 3), []);
    }
}
