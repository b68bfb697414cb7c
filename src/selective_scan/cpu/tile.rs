//! Tiles of activations: a few time steps of a block of channels, one channel per lane, in f32.

use std::ops::Range;

use pulp::Simd;

use super::transpose::transpose;
use crate::backend::Cpu;
use crate::backend::cpu::disjoint::Disjoint;
use crate::backend::cpu::prefetch::prefetch;
use crate::element::DeviceFloat;
pub(super) use crate::layout::ActivationStrides;
use crate::selective_scan::Layout;
use crate::tensor::View;

/// Most time steps in a tile; divides the distance of checkpoints.
pub(super) const TILE: usize = 32;

/// The vectors of an array of lanes.
#[inline(always)]
pub(super) fn rows<S: Simd>(values: &[f32]) -> &[S::f32s] {
    S::as_simd_f32s(values).0
}

/// The same for writing.
#[inline(always)]
pub(super) fn rows_mut<S: Simd>(values: &mut [f32]) -> &mut [S::f32s] {
    S::as_mut_simd_f32s(values).0
}

/// The vectors of a tile.
#[inline(always)]
pub(super) fn tile<S: Simd>(values: &[f32]) -> &[S::f32s; TILE] {
    &rows::<S>(values).as_chunks().0[0]
}

/// The same for writing.
#[inline(always)]
pub(super) fn tile_mut<S: Simd>(values: &mut [f32]) -> &mut [S::f32s; TILE] {
    &mut rows_mut::<S>(values).as_chunks_mut().0[0]
}

/// Distances in elements between neighbours in a variable B or C.
#[derive(Clone, Copy)]
pub(super) struct MapStrides {
    pub batch: usize,
    pub group: usize,
    pub state: usize,
    pub time: usize,
}

impl MapStrides {
    pub fn of(view: &View<Cpu>, layout: Layout) -> Self {
        let [batch, second, third] = [0, 1, 2].map(|axis| view.strides()[axis]);
        match layout {
            Layout::Bdl => Self { batch, group: second, state: third, time: 1 },
            Layout::Bld => Self { batch, group: third, state: 1, time: second },
        }
    }
}

/// Runs a piece of code with a length, in a copy of its own where it is the usual one: there the
/// compiler knows the length, and copies of it are a few vector moves. A macro, because a closure
/// that is called in two places need not be inlined.
macro_rules! with_usual {
    ($length:expr, $usual:expr, |$known:ident| $body:expr) => {
        if $length == $usual {
            let $known = $usual;
            $body
        } else {
            let $known = $length;
            $body
        }
    };
}

pub(super) use with_usual;

/// An activation to read.
#[derive(Clone, Copy)]
pub(super) struct Source<'a, T> {
    pub values: &'a [T],
    pub strides: ActivationStrides,
}

impl<T: DeviceFloat> Source<'_, T> {
    /// Reads the steps of `channels` into `tile`, (time, lane), by way of `lines`, (lane, time).
    #[inline(always)]
    pub fn load<S: Simd>(
        &self,
        simd: S,
        tile: &mut [f32],
        lines: &mut [f32],
        batch: usize,
        channels: Range<usize>,
        steps: Range<usize>,
    ) {
        let lanes = S::F32_LANES;
        if self.strides.time == 1 {
            with_usual!(steps.len(), TILE, |length| {
                for (lane, channel) in channels.clone().enumerate() {
                    let line = &mut lines[lane * TILE..][..TILE];
                    let first = self.strides.index(batch, channel, steps.start);
                    T::widen(&self.values[first..first + length], &mut line[..length]);
                }
            });
            transpose(simd, lines, tile, lanes, TILE);
        } else {
            with_usual!(channels.len(), lanes, |width| {
                for (i, t) in steps.clone().enumerate() {
                    let row = &mut tile[i * lanes..][..lanes];
                    let first = self.strides.index(batch, channels.start, t);
                    T::widen(&self.values[first..first + width], &mut row[..width]);
                }
            });
        }
    }
}

impl<T> Source<'_, T> {
    /// Hints that these steps of `channels` are loaded next.
    #[inline(always)]
    pub fn prefetch(&self, batch: usize, channels: Range<usize>, steps: Range<usize>) {
        let line = |channel, t, length| {
            let first = self.strides.index(batch, channel, t);
            prefetch(self.values.get(first..first + length).unwrap_or_default());
        };
        if self.strides.time == 1 {
            channels.for_each(|channel| line(channel, steps.start, steps.len()));
        } else {
            steps.for_each(|t| line(channels.start, t, channels.len()));
        }
    }
}

/// An activation to write; each task has channels and rows of its own.
#[derive(Clone, Copy)]
pub(super) struct Target<'a, T> {
    pub values: Disjoint<'a, T>,
    pub strides: ActivationStrides,
}

impl<T: DeviceFloat> Target<'_, T> {
    /// Rounds `tile`, (time, lane), into the steps of `channels`, by way of `lines`, (lane, time).
    ///
    /// # Safety
    ///
    /// No other task writes these steps of these channels.
    #[inline(always)]
    pub unsafe fn store<S: Simd>(
        &self,
        simd: S,
        tile: &[f32],
        lines: &mut [f32],
        batch: usize,
        channels: Range<usize>,
        steps: Range<usize>,
    ) {
        let lanes = S::F32_LANES;
        if self.strides.time == 1 {
            transpose(simd, tile, lines, TILE, lanes);
            with_usual!(steps.len(), TILE, |length| {
                for (lane, channel) in channels.clone().enumerate() {
                    let line = &lines[lane * TILE..][..TILE];
                    let mut rounded = [T::from_f32(0.0); TILE];
                    T::narrow(&line[..length], &mut rounded[..length]);
                    let first = self.strides.index(batch, channel, steps.start);
                    // SAFETY: the caller's promise.
                    unsafe { self.values.write_run(first, &rounded[..length]) };
                }
            });
        } else {
            with_usual!(channels.len(), lanes, |width| {
                for (i, t) in steps.clone().enumerate() {
                    let row = &tile[i * lanes..][..lanes];
                    let mut rounded = [T::from_f32(0.0); TILE];
                    T::narrow(&row[..width], &mut rounded[..width]);
                    let first = self.strides.index(batch, channels.start, t);
                    // SAFETY: the caller's promise.
                    unsafe { self.values.write_run(first, &rounded[..width]) };
                }
            });
        }
    }
}
