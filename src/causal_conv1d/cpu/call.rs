//! A call, cut into tasks for the rayon pool.

use std::ops::Range;

use crate::Result;
use crate::backend::Cpu;
use crate::backend::cpu::aligned::elements;
use crate::causal_conv1d::check::CHECK;
use crate::causal_conv1d::{Inputs, Layout, Options, Problem};
use crate::element::DeviceFloat;
use crate::layout::ActivationStrides;
use crate::resets::Resets;
use crate::tensor::Tensor;

/// Most steps of a task; the same on every machine, so that sums are too.
pub(super) const SPAN: usize = 8192;

/// Most channels of a task, where channels are the fastest axis.
const CHANNELS: usize = 64;

/// An activation to read.
#[derive(Clone, Copy)]
pub(super) struct Source<'a, T> {
    pub values: &'a [T],
    pub strides: ActivationStrides,
}

impl<'a, T: DeviceFloat> Source<'a, T> {
    pub fn new(
        name: &str,
        bytes: &'a [u8],
        tensor: &Tensor<Cpu, T>,
        layout: Layout,
    ) -> Result<Self> {
        let strides = ActivationStrides::of(tensor, layout);
        Ok(Self { values: elements(CHECK, name, bytes)?, strides })
    }
}

/// What both passes read, in f32 where it is small.
pub(super) struct Call<'a, T> {
    pub problem: &'a Problem,
    pub options: &'a Options,
    pub x: Source<'a, T>,
    /// (D, W).
    pub weight: Vec<f32>,
    pub bias: Option<Vec<f32>>,
    pub s0: Option<Vec<f32>>,
    /// Which taps count, (B, L): bit d for the tap of distance d; no bit at padding.
    pub masks: Option<Vec<u8>>,
    pub spans: Vec<Span>,
}

impl<'a, T: DeviceFloat> Call<'a, T> {
    /// The call; `x` is the bytes of its input, which the caller has claimed.
    pub fn new(
        problem: &'a Problem,
        inputs: &Inputs<'_, Cpu, T>,
        options: &'a Options,
        x: &'a [u8],
    ) -> Result<Self> {
        Ok(Self {
            problem,
            options,
            x: Source::new("x", x, inputs.x, options.layout)?,
            weight: inputs.weight.to_f32()?,
            bias: inputs.bias.map(|bias| bias.to_f32()).transpose()?,
            s0: inputs.s0.map(|s0| s0.to_f32()).transpose()?,
            masks: match &inputs.resets {
                Resets::SeqIdx(seq_idx) => Some(masks(problem, &seq_idx.to_i64()?)),
                _ => None,
            },
            spans: spans(inputs.resets.rows(problem.batch, problem.steps)?),
        })
    }

    /// The span and the channels of each task.
    pub fn tasks(&self) -> Vec<(&Span, Range<usize>)> {
        let blocks = channel_blocks(self.problem);
        let of_span = |span| blocks.iter().map(move |channels| (span, channels.clone()));
        self.spans.iter().flat_map(of_span).collect()
    }

    /// The masks of a task's steps.
    pub fn masks_of(&self, span: &Span, steps: Range<usize>) -> Option<&[u8]> {
        let first = span.batch * self.problem.steps;
        self.masks.as_ref().map(|masks| &masks[first + steps.start..first + steps.end])
    }
}

/// A span of time of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Its number in the call.
    pub number: usize,
    /// The batch entry, or the packed sequence.
    pub row: usize,
    pub batch: usize,
    /// The steps of the whole row.
    pub row_steps: Range<usize>,
    pub steps: Range<usize>,
}

fn spans(rows: Vec<(usize, Range<usize>)>) -> Vec<Span> {
    let mut spans = Vec::new();
    for (row, (batch, row_steps)) in rows.into_iter().enumerate() {
        for start in row_steps.clone().step_by(SPAN) {
            let steps = start..row_steps.end.min(start + SPAN);
            let row_steps = row_steps.clone();
            spans.push(Span { number: spans.len(), row, batch, row_steps, steps });
        }
    }
    spans
}

/// The channels of each task: one where time is the fastest axis.
pub(super) fn channel_blocks(problem: &Problem) -> Vec<Range<usize>> {
    let most = match problem.layout {
        Layout::Bdl => 1,
        Layout::Bld => CHANNELS,
    };
    (0..problem.channels)
        .step_by(most)
        .map(|first| first..problem.channels.min(first + most))
        .collect()
}

/// Which taps count at each step. What lies before the first step is of its document.
fn masks(problem: &Problem, seq_idx: &[i64]) -> Vec<u8> {
    let of_row = |row: &[i64]| -> Vec<u8> {
        let mask = |(t, &number): (usize, &i64)| {
            let same = |d: &usize| number >= 0 && row[t.saturating_sub(*d)] == number;
            (0..problem.width).filter(same).fold(0, |mask, d| mask | 1 << d)
        };
        row.iter().enumerate().map(mask).collect()
    };
    seq_idx.chunks(problem.steps.max(1)).flat_map(of_row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn masks_tell_documents_apart_and_leave_padding_out() {
        let problem =
            Problem::new(DType::F32, [1, 1, 6, 3], &Options::default()).expect("a lawful width");
        // At the third step the tap of distance 2 meets its own document again.
        assert_eq!(masks(&problem, &[4, 5, 4, 4, -1, 4]), [0b111, 0b001, 0b101, 0b011, 0, 0b101]);
    }

    #[test]
    fn rows_are_cut_into_spans() {
        let cut = spans(vec![(0, 0..SPAN + 1), (0, SPAN + 1..SPAN + 1), (0, SPAN + 1..SPAN + 5)]);
        let found: Vec<_> =
            cut.iter().map(|span| (span.number, span.row, span.steps.clone())).collect();
        assert_eq!(found, [(0, 0, 0..SPAN), (1, 0, SPAN..SPAN + 1), (2, 2, SPAN + 1..SPAN + 5)]);
    }
}
