//! Tiles: a few steps of a task's channels in f32, with what the taps reach besides.

use std::ops::Range;

use super::call::{Call, Source, Span};
use super::taps::{Reach, Taps};
use crate::backend::cpu::aligned::Aligned;
use crate::backend::cpu::disjoint::Disjoint;
use crate::causal_conv1d::{Layout, MAX_WIDTH};
use crate::element::DeviceFloat;
use crate::layout::ActivationStrides;

/// Where the numbers of a task lie in its tiles: (step, channel), the channels of a step padded to
/// whole vectors; a single channel is not padded.
#[derive(Clone, Debug)]
pub(super) struct Geometry {
    pub layout: Layout,
    pub channels: Range<usize>,
    /// Numbers of a step.
    pub stride: usize,
    pub lanes: usize,
}

impl Geometry {
    pub fn new(layout: Layout, channels: Range<usize>, lanes: usize) -> Self {
        let stride = match layout {
            Layout::Bdl => 1,
            Layout::Bld => channels.len().next_multiple_of(lanes),
        };
        Self { layout, channels, stride, lanes }
    }

    /// Steps of a tile: what a few of them take fits the first-level cache.
    pub fn tile(&self) -> usize {
        match self.layout {
            Layout::Bdl => 1024,
            Layout::Bld => 64,
        }
    }

    /// Numbers of so many steps, in whole vectors.
    pub fn numbers(&self, steps: usize) -> usize {
        (steps * self.stride).next_multiple_of(self.lanes)
    }

    /// Numbers of a column of weights.
    pub fn columns(&self) -> usize {
        self.stride.next_multiple_of(self.lanes)
    }

    /// Writes the weights and biases of the channels, each (column, lane): those of a single
    /// channel in every lane.
    pub fn weights<T>(&self, call: &Call<'_, T>, into: &mut [Aligned; MAX_WIDTH + 1]) {
        let width = call.problem.width;
        let channel = |i: usize| match self.layout {
            Layout::Bdl => Some(self.channels.start),
            Layout::Bld => self.channels.clone().nth(i),
        };
        for (d, numbers) in into.iter_mut().enumerate() {
            numbers.resize(self.columns());
            for (i, number) in numbers.iter_mut().enumerate() {
                *number = match (channel(i), &call.bias) {
                    (Some(channel), _) if d < width => call.weight[channel * width + width - 1 - d],
                    (Some(channel), Some(bias)) if d == MAX_WIDTH => bias[channel],
                    _ => 0.0,
                };
            }
        }
    }

    /// Reads steps `first ..` of the row into all of `tile`, as many as it has room for. Before
    /// the row it finds the initial state, or zeros; behind the row zeros.
    pub fn load_x<T: DeviceFloat>(
        &self,
        call: &Call<'_, T>,
        span: &Span,
        first: isize,
        tile: &mut [f32],
    ) {
        let before = usize::try_from(span.row_steps.start as isize - first).unwrap_or(0);
        let (state, rest) = tile.split_at_mut(before * self.stride);
        state.fill(0.0);
        if let Some(s0) = &call.s0 {
            let history = call.problem.history();
            let kept = history - before.min(history);
            for (i, channel) in self.channels.clone().enumerate() {
                let line = (span.row * call.problem.channels + channel) * history;
                let numbers = state.iter_mut().skip(i).step_by(self.stride);
                numbers.zip(&s0[line + kept..]).for_each(|(number, &s0)| *number = s0);
            }
        }
        let first = (first + before as isize) as usize;
        self.load(&call.x, span, first, rest);
    }

    /// Reads steps `first ..` of the row into all of `tile`; behind the row it finds zeros.
    pub fn load<T: DeviceFloat>(
        &self,
        source: &Source<'_, T>,
        span: &Span,
        first: usize,
        tile: &mut [f32],
    ) {
        let end = span.row_steps.end.min(first + tile.len() / self.stride);
        let steps = end.saturating_sub(first);
        let at = |t| source.strides.index(span.batch, self.channels.start, t);
        match self.layout {
            Layout::Bdl if steps > 0 => {
                T::widen(&source.values[at(first)..][..steps], &mut tile[..steps]);
            }
            Layout::Bdl => {}
            Layout::Bld => {
                let width = self.channels.len();
                let rows = tile.chunks_exact_mut(self.stride).take(steps);
                for (t, row) in (first..).zip(rows) {
                    T::widen(&source.values[at(t)..][..width], &mut row[..width]);
                    row[width..].fill(0.0);
                }
            }
        }
        tile[steps * self.stride..].fill(0.0);
    }

    /// Rounds steps from `tile` into an activation.
    ///
    /// # Safety
    ///
    /// No other task writes these steps of these channels.
    pub unsafe fn store<T: DeviceFloat>(
        &self,
        tile: &[f32],
        target: &Disjoint<'_, T>,
        strides: &ActivationStrides,
        batch: usize,
        steps: Range<usize>,
    ) {
        let at = |t| strides.index(batch, self.channels.start, t);
        match self.layout {
            Layout::Bdl => {
                // SAFETY: the caller's promise.
                let run = unsafe { target.run(at(steps.start), steps.len()) };
                T::narrow(&tile[..steps.len()], run);
            }
            Layout::Bld => {
                let width = self.channels.len();
                for (t, row) in steps.zip(tile.chunks_exact(self.stride)) {
                    // SAFETY: the caller's promise.
                    T::narrow(&row[..width], unsafe { target.run(at(t), width) });
                }
            }
        }
    }

    /// Numbers of a tile once for each tap, by distance. Where masks say that a tap does not
    /// count, `room` holds a copy of `length` numbers with 0 in its place.
    pub fn taps<'a>(
        &self,
        reach: Reach,
        width: usize,
        numbers: &'a [f32],
        masks: Option<&[u8]>,
        room: &'a mut [Aligned; MAX_WIDTH],
        length: usize,
    ) -> Taps<'a> {
        let whole = reach.taps(width, numbers, self.stride);
        let Some(masks) = masks else { return whole };
        for (d, tap) in room.iter_mut().enumerate().take(width) {
            tap.resize(length);
            tap.copy_from_slice(&whole[d][..length]);
            let shift = if reach == Reach::Ahead { d } else { 0 };
            for (step, tap) in tap.chunks_mut(self.stride).enumerate() {
                let mask = masks.get(step + shift).copied().unwrap_or(0);
                if mask >> d & 1 == 0 {
                    tap.fill(0.0);
                }
            }
        }
        let room = &*room;
        std::array::from_fn(|d| &*room[d])
    }
}
