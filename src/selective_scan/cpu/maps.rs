//! B and C of a tile of steps, in f32.

use std::ops::Range;

use super::call::{Map, spread, wide_groups};
use super::tile::{TILE, with_usual};
use crate::backend::cpu::aligned::Aligned;
use crate::element::DeviceFloat;
use crate::selective_scan::Problem;

/// The values of B or C in a tile.
#[derive(Default)]
pub(super) struct MapTile {
    pub values: Aligned,
    pub form: Form,
}

/// How the values of a [`MapTile`] lie.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) enum Form {
    /// (N, t): all lanes share them.
    #[default]
    Shared,
    /// (N, t, lane): lanes are of different groups.
    Lanes,
    /// (N, lane): constant in time.
    Constant,
}

impl MapTile {
    /// Makes room for the tiles of a block of channels; constant values are brought in.
    pub fn begin<T: DeviceFloat>(
        &mut self,
        map: &Map<'_, T>,
        problem: &Problem,
        lanes: usize,
        channels: &Range<usize>,
    ) {
        let states = problem.states;
        self.form = match map {
            Map::Constant(_) => Form::Constant,
            Map::Variable { .. } if wide_groups(problem, lanes) => Form::Shared,
            Map::Variable { .. } => Form::Lanes,
        };
        match map {
            Map::Constant(values) => {
                self.values.reset(states * lanes);
                spread(&mut self.values, lanes, channels, |channel, n| {
                    values[channel * states + n]
                });
            }
            Map::Variable { .. } => {
                let width = if self.form == Form::Lanes { lanes } else { 1 };
                self.values.reset(states * TILE * width);
            }
        }
    }

    /// Brings in the values of some steps, where they are variable.
    #[inline(always)]
    pub fn load<T: DeviceFloat>(
        &mut self,
        map: &Map<'_, T>,
        problem: &Problem,
        lanes: usize,
        batch: usize,
        channels: &Range<usize>,
        steps: Range<usize>,
    ) {
        let Map::Variable { values, strides } = map else { return };
        if problem.states == 0 {
            return;
        }
        let group = |channel: usize| channel / problem.group_channels();
        let first = |group: usize| {
            batch * strides.batch + group * strides.group + steps.start * strides.time
        };
        match (self.form, strides.time) {
            (Form::Shared, 1) => with_usual!(steps.len(), TILE, |length| {
                let values = &values[first(group(channels.start))..];
                for (n, line) in self.values.chunks_exact_mut(TILE).enumerate() {
                    T::widen(&values[n * strides.state..][..length], &mut line[..length]);
                }
            }),
            (form, _) => {
                let width = if form == Form::Lanes { lanes } else { 1 };
                for (lane, channel) in channels.clone().enumerate().take(width) {
                    let values = &values[first(group(channel))..];
                    for i in 0..steps.len() {
                        for n in 0..problem.states {
                            let value = values[i * strides.time + n * strides.state];
                            self.values[(n * TILE + i) * width + lane] = value.to_f32();
                        }
                    }
                }
            }
        }
    }
}
