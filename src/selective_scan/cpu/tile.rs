//! Tiles of activations: a few time steps of a block of channels, one channel per lane, in f32.

use std::ops::Range;

use crate::backend::Cpu;
use crate::backend::cpu::disjoint::Disjoint;
use crate::element::DeviceFloat;
use crate::selective_scan::Layout;
use crate::tensor::View;
use crate::{Error, Result};

/// Most time steps in a tile; divides the distance of checkpoints.
pub(super) const TILE: usize = 32;

/// Distances in elements between neighbours in u, delta, z or out.
#[derive(Clone, Copy)]
pub(super) struct ActivationStrides {
    pub batch: usize,
    pub channel: usize,
    pub time: usize,
}

impl ActivationStrides {
    pub fn of(view: &View<Cpu>, layout: Layout) -> Self {
        let (batch, second) = (view.strides()[0], view.strides()[1]);
        // The last axis may have any stride where its length is 1; it is never used then.
        match layout {
            Layout::Bdl => Self { batch, channel: second, time: 1 },
            Layout::Bld => Self { batch, channel: 1, time: second },
        }
    }

    fn index(&self, batch: usize, channel: usize, t: usize) -> usize {
        batch * self.batch + channel * self.channel + t * self.time
    }
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

/// The elements that a view's bytes hold.
pub(super) fn elements<'a, T: DeviceFloat>(name: &str, bytes: &'a [u8]) -> Result<&'a [T]> {
    bytemuck::try_cast_slice(bytes).map_err(|_| misaligned::<T>(name, bytes.as_ptr()))
}

/// The same for writing.
pub(super) fn elements_mut<'a, T: DeviceFloat>(
    name: &str,
    bytes: &'a mut [u8],
) -> Result<&'a mut [T]> {
    let start = bytes.as_ptr();
    bytemuck::try_cast_slice_mut(bytes).map_err(|_| misaligned::<T>(name, start))
}

fn misaligned<T: DeviceFloat>(name: &str, start: *const u8) -> Error {
    super::super::check::CHECK.misaligned(name, T::DTYPE, start as usize)
}

/// The first elements of `from` in f32, as many as `run` holds of a tile.
///
/// Whole tiles, which are most, take a path whose length the compiler knows.
#[inline(always)]
pub(super) fn widen_run<'a, T: DeviceFloat>(
    from: &[T],
    run: &'a mut [f32; TILE],
    length: usize,
) -> &'a [f32] {
    match from.first_chunk::<TILE>() {
        Some(whole) if length == TILE => T::widen(whole, run),
        _ => T::widen(&from[..length], &mut run[..length]),
    }
    &run[..length]
}

/// An activation to read.
#[derive(Clone, Copy)]
pub(super) struct Source<'a, T> {
    pub values: &'a [T],
    pub strides: ActivationStrides,
}

impl<T: DeviceFloat> Source<'_, T> {
    /// Reads the steps of `channels` into `tile`, (time, lane) with `lanes` lanes.
    #[inline(always)]
    pub fn load(
        &self,
        tile: &mut [f32],
        lanes: usize,
        batch: usize,
        channels: Range<usize>,
        steps: Range<usize>,
    ) {
        let mut run = [0.0; TILE];
        if self.strides.time == 1 {
            for (lane, channel) in channels.enumerate() {
                let first = self.strides.index(batch, channel, steps.start);
                let run = widen_run(&self.values[first..], &mut run, steps.len());
                for (place, &value) in tile[lane..].iter_mut().step_by(lanes).zip(run) {
                    *place = value;
                }
            }
        } else {
            for (row, t) in tile.chunks_exact_mut(lanes).zip(steps) {
                let first = self.strides.index(batch, channels.start, t);
                T::widen(&self.values[first..first + channels.len()], &mut row[..channels.len()]);
            }
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
    /// Rounds `tile`, (time, lane) with `lanes` lanes, into the steps of `channels`.
    ///
    /// # Safety
    ///
    /// No other task writes these steps of these channels.
    #[inline(always)]
    pub unsafe fn store(
        &self,
        tile: &[f32],
        lanes: usize,
        batch: usize,
        channels: Range<usize>,
        steps: Range<usize>,
    ) {
        let mut rounded = [T::from_f32(0.0); TILE];
        if self.strides.time == 1 {
            let mut run = [0.0; TILE];
            let (run, rounded) = (&mut run[..steps.len()], &mut rounded[..steps.len()]);
            for (lane, channel) in channels.enumerate() {
                for (value, &place) in run.iter_mut().zip(tile[lane..].iter().step_by(lanes)) {
                    *value = place;
                }
                T::narrow(run, rounded);
                let first = self.strides.index(batch, channel, steps.start);
                // SAFETY: the caller's promise.
                unsafe { self.values.write_run(first, rounded) };
            }
        } else {
            let rounded = &mut rounded[..channels.len()];
            for (row, t) in tile.chunks_exact(lanes).zip(steps) {
                T::narrow(&row[..channels.len()], rounded);
                let first = self.strides.index(batch, channels.start, t);
                // SAFETY: the caller's promise.
                unsafe { self.values.write_run(first, rounded) };
            }
        }
    }
}
