//! Batches that no binding can hold, in parts that one can.

use std::ops::Range;

use super::super::{NAME, Resets};
use super::forward::Call;
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

/// The parts of a call, as few as the device's bindings allow.
pub(super) fn parts<T: DeviceFloat>(call: &Call<'_, T>) -> Result<Vec<Part>> {
    let problem = call.problem;
    let most = call.device.limits().binding_bytes.saturating_sub(SLACK);
    let mut rows = problem.batch;
    for (name, first, next) in demands(call) {
        if first > most {
            return Err(Error::Unsupported {
                operation: NAME,
                backend: call.device.name(),
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

/// For each tensor with a batch axis, the bytes of one entry and of each further one.
fn demands<T: DeviceFloat>(call: &Call<'_, T>) -> Vec<(&'static str, u64, u64)> {
    let (problem, inputs) = (call.problem, call.inputs);
    let mut demands = Vec::new();
    let mut add = |name: &'static str, view: &View<Wgpu>| demands.push(demand(name, view));
    add("u", inputs.u);
    add("delta", inputs.delta);
    if let Some(z) = inputs.z {
        add("z", z);
    }
    if !problem.b_constant {
        add("B", inputs.b.view());
    }
    if !problem.c_constant {
        add("C", inputs.c.view());
    }
    add("out", call.outputs.out);
    match &inputs.resets {
        Resets::SeqIdx(seq_idx) => add("seq_idx", seq_idx.view()),
        Resets::Flags(flags) => add("reset", flags),
        Resets::None | Resets::CuSeqlens(_) => {}
    }
    // Scratch and workspace: what every part needs, and what each row adds.
    let rows = if problem.packed { problem.rows as u64 } else { 1 };
    let (channels, states) = (problem.channels as u64, problem.states as u64);
    let fixed = channels * (3 * states + 2);
    let carries = call.chunks() * (states + 1) + states;
    let per_row = rows * channels * (states + carries) + problem.steps as u64 + 1;
    demands.push(("scratch", 4 * (fixed + per_row), 4 * per_row));
    let saved = if problem.save { problem.checkpoints() as u64 } else { 0 };
    let per_row = channels * states * (rows + saved);
    demands.push(("saved", 4 * per_row, 4 * per_row));
    demands
}

/// Bytes of one batch entry of a tensor, and of each further one.
fn demand(name: &'static str, view: &View<Wgpu>) -> (&'static str, u64, u64) {
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
