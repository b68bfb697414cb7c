//! Batches that no binding can hold, in parts that one can.

use std::ops::Range;

use crate::backend::Backend;
use crate::backend::wgpu::Wgpu;
use crate::causal_conv1d::{NAME, Problem};
use crate::shape::span;
use crate::tensor::View;
use crate::{Error, Result};

/// Rows that are recorded together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Batch entries; the only one where packed.
    pub entries: Range<usize>,
    /// Rows with a state of their own.
    pub rows: Range<usize>,
}

/// Bytes before and behind a range that its binding may hold besides: it begins at a boundary of
/// up to 256 bytes and ends at a whole word.
const SLACK: u64 = 256 + 4;

/// The parts of a call on these activations, as few as the device's bindings allow.
pub(super) fn parts(
    device: &Wgpu,
    problem: &Problem,
    activations: &[(&str, &View<Wgpu>)],
) -> Result<Vec<Part>> {
    let most = device.limits().binding_bytes.saturating_sub(SLACK);
    let mut together = problem.batch;
    for (name, view) in activations {
        let size = view.dtype().bytes() as u64;
        let (shape, strides) = (view.shape(), view.strides());
        // The whole tensor has a span, so an entry has one.
        let entry = span(&shape[1..], &strides[1..]).unwrap_or(usize::MAX) as u64;
        let (first, next) = (entry.saturating_mul(size), (strides[0] as u64).saturating_mul(size));
        if first > most {
            return Err(Error::Unsupported {
                operation: NAME,
                backend: device.name(),
                what: format!("{first} bytes of `{name}` in one row, {most} are most"),
                instead: "split the channels, or the steps with `s0` and `final_state`".to_owned(),
            });
        }
        if let Some(further) = (most - first).checked_div(next) {
            together = together.min(usize::try_from(further).unwrap_or(usize::MAX) + 1);
        }
    }
    if problem.packed {
        return Ok(vec![Part { entries: 0..problem.batch, rows: 0..problem.rows }]);
    }
    Ok(cut(problem.batch, together))
}

/// `batch` entries, `together` at a time.
fn cut(batch: usize, together: usize) -> Vec<Part> {
    let together = together.max(1);
    (0..batch)
        .step_by(together)
        .map(|start| start..batch.min(start.saturating_add(together)))
        .map(|range| Part { entries: range.clone(), rows: range })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_without_a_rest_left_over() {
        let part = |range: Range<usize>| Part { entries: range.clone(), rows: range };
        assert_eq!(cut(5, 2), [part(0..2), part(2..4), part(4..5)]);
        assert_eq!(cut(5, 9), [part(0..5)]);
        assert_eq!(cut(0, 3), []);
    }
}
