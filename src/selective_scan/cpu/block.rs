//! The forward scan of one block of channels, a channel per SIMD lane.
//!
//! Time is walked in tiles of [`TILE`] steps. For each tile the step sizes and inputs of all
//! lanes are formed first; then four states at a time run through the tile with h in registers,
//! B and C read from a tile in f32, and y in the first-level cache; then the output is gated and
//! stored.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::forward::{Decays, Map, Scan, wide_groups};
use super::recurrence::{DecayTile, OwnDecay, PowerDecay, Recurrence, SharedDecay};
use super::scratch::{Form, Scratch};
use super::tile::{TILE, rows, rows_mut, tile, tile_mut, with_usual};
use crate::backend::cpu::aligned::Aligned;
use crate::backend::cpu::disjoint::Disjoint;
use crate::backend::cpu::lanes;
use crate::element::DeviceFloat;
use crate::resets::Step;
use crate::selective_scan::CHECKPOINT;

/// Vectors that go through softplus together.
const TOGETHER: usize = 4;

/// A task: some channels of one row.
pub(super) struct Block<'a, 'scan, T> {
    pub scan: &'a Scan<'scan, T>,
    pub scratch: &'a mut Scratch,
    /// The batch entry, or the packed sequence.
    pub row: usize,
    pub batch: usize,
    pub channels: Range<usize>,
    pub steps: Range<usize>,
}

/// Steps of a tile without a reset in between.
pub(super) struct Segment {
    pub steps: Range<usize>,
    pub from_zero: bool,
}

impl<T: DeviceFloat> WithSimd for Block<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lanes = S::F32_LANES;
        self.begin(lanes);
        let mut decays = DecayTile::new(simd);
        let mut start = self.steps.start;
        while start < self.steps.end {
            // Tiles end at multiples of their length, so that checkpoints fall on their ends.
            let end = self.steps.end.min((start / TILE + 1) * TILE);
            self.load(simd, start..end);
            let segments = self.segments(start..end);
            self.recur(simd, &segments, &mut decays);
            self.finish(simd, start..end);
            if end.is_multiple_of(CHECKPOINT) || end == self.scan.problem.steps {
                self.save(lanes, end);
            }
            start = end;
        }
        self.end(lanes);
    }
}

impl<T: DeviceFloat> Block<'_, '_, T> {
    /// Brings in what does not depend on time.
    fn begin(&mut self, lanes: usize) {
        let Self { scan, scratch, channels, row, .. } = self;
        let problem = scan.problem;
        let states = problem.states;
        let spread = |place: &mut Aligned, rows: usize, value: &dyn Fn(usize, usize) -> f32| {
            place.reset(rows * lanes);
            for n in 0..rows {
                for (lane, channel) in channels.clone().enumerate() {
                    place[n * lanes + lane] = value(channel, n);
                }
            }
        };
        let state = |channel: usize, n: usize| (*row * problem.channels + channel) * states + n;
        spread(&mut scratch.state, states, &|channel, n| {
            scan.h0.as_ref().map_or(0.0, |h0| h0[state(channel, n)])
        });
        match problem.a_per_channel {
            true => spread(&mut scratch.a, 1, &|channel, _| scan.a[channel]),
            false => spread(&mut scratch.a, states, &|channel, n| scan.a[channel * states + n]),
        }
        let per_channel = |values: &Option<Vec<f32>>, channel: usize| {
            values.as_ref().map_or(0.0, |values| values[channel])
        };
        spread(&mut scratch.d, 1, &|channel, _| per_channel(&scan.d, channel));
        spread(&mut scratch.delta_bias, 1, &|channel, _| per_channel(&scan.delta_bias, channel));
        for (map, tile) in [(&scan.b, &mut scratch.b), (&scan.c, &mut scratch.c)] {
            tile.form = match map {
                Map::Constant(_) => Form::Constant,
                Map::Variable { .. } if wide_groups(problem, lanes) => Form::Shared,
                Map::Variable { .. } => Form::Lanes,
            };
            match map {
                Map::Constant(values) => {
                    spread(&mut tile.values, states, &|channel, n| values[channel * states + n]);
                }
                Map::Variable { .. } => {
                    let width = if tile.form == Form::Lanes { lanes } else { 1 };
                    tile.values.reset(states * TILE * width);
                }
            }
        }
        let Scratch { step, input, output, gate, lines, .. } = &mut **scratch;
        for tile in [step, input, output, gate, lines] {
            tile.reset(TILE * lanes);
        }
    }

    /// Brings in a tile: Δ, Δ u, D u, B and C.
    #[inline(always)]
    fn load<S: Simd>(&mut self, simd: S, steps: Range<usize>) {
        let Self { scan, scratch, batch, channels, .. } = self;
        let lanes = S::F32_LANES;
        let Scratch { step, input, lines, .. } = &mut **scratch;
        scan.delta.load(simd, step, lines, *batch, channels.clone(), steps.clone());
        scan.u.load(simd, input, lines, *batch, channels.clone(), steps.clone());
        let bias = rows::<S>(&scratch.delta_bias)[0];
        let d = rows::<S>(&scratch.d)[0];
        let step = tile_mut::<S>(&mut scratch.step);
        for sizes in step.as_chunks_mut::<TOGETHER>().0 {
            for size in &mut *sizes {
                *size = simd.add_f32s(*size, bias);
            }
            if scan.options.delta_softplus {
                lanes::softplus(simd, sizes);
            }
        }
        let input = tile_mut::<S>(&mut scratch.input);
        let output = tile_mut::<S>(&mut scratch.output);
        for ((size, input), output) in step.iter_mut().zip(input).zip(output) {
            if let Some((min, max)) = scan.options.delta_clamp {
                *size = lanes::keep_below(simd, lanes::keep_above(simd, *size, min), max);
            }
            *output = simd.mul_f32s(d, *input);
            *input = simd.mul_f32s(*size, *input);
        }
        self.load_maps(lanes, steps);
    }

    /// Brings in B and C of a tile, in f32.
    #[inline(always)]
    fn load_maps(&mut self, lanes: usize, steps: Range<usize>) {
        let Self { scan, scratch, batch, channels, .. } = self;
        let problem = scan.problem;
        if problem.states == 0 {
            return;
        }
        for (map, tile) in [(&scan.b, &mut scratch.b), (&scan.c, &mut scratch.c)] {
            let Map::Variable { values, strides } = map else { continue };
            let group = |channel: usize| channel / problem.group_channels();
            let first = |group: usize| {
                *batch * strides.batch + group * strides.group + steps.start * strides.time
            };
            match (tile.form, strides.time) {
                (Form::Shared, 1) => with_usual!(steps.len(), TILE, |length| {
                    let values = &values[first(group(channels.start))..];
                    for (n, line) in tile.values.chunks_exact_mut(TILE).enumerate() {
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
                                tile.values[(n * TILE + i) * width + lane] = value.to_f32();
                            }
                        }
                    }
                }
            }
        }
    }

    /// The runs of ordinary steps in a tile. At a reset the decay sees Δ = 0 and the state is
    /// zero, so that no overflow of the decay meets it; padding belongs to no run.
    fn segments(&mut self, steps: Range<usize>) -> Vec<Segment> {
        let whole = Segment { steps: 0..steps.len(), from_zero: false };
        let Some(meanings) = &self.scan.meanings else { return vec![whole] };
        let first = self.batch * self.scan.problem.steps;
        let lanes = self.scratch.step.len() / TILE;
        let mut segments: Vec<Segment> = Vec::new();
        for (i, meaning) in meanings[first + steps.start..first + steps.end].iter().enumerate() {
            match (meaning, segments.last_mut()) {
                (Step::Padding, _) => {}
                (Step::Ordinary, Some(last)) if last.steps.end == i => last.steps.end += 1,
                _ => {
                    let from_zero = *meaning == Step::Reset;
                    segments.push(Segment { steps: i..i + 1, from_zero });
                    if from_zero {
                        self.scratch.step[i * lanes..][..lanes].fill(0.0);
                    }
                }
            }
        }
        segments
    }

    /// Runs all states through the segments of a tile.
    #[inline(always)]
    fn recur<S: Simd>(&mut self, simd: S, segments: &[Segment], decays: &mut DecayTile<S>) {
        let Scratch { state, a, step, input, output, b, c, .. } = &mut *self.scratch;
        let (a, step) = (rows::<S>(a), tile::<S>(step));
        let recurrence = Recurrence {
            simd,
            state: rows_mut::<S>(state),
            input: tile::<S>(input),
            output: tile_mut::<S>(output),
            b,
            c,
        };
        match self.scan.decays {
            Decays::Own => recurrence.run(segments, &mut OwnDecay { step, a }),
            Decays::Shared => {
                recurrence.run(segments, &mut SharedDecay::new(simd, decays, step, a[0]));
            }
            Decays::Powers => {
                recurrence.run(segments, &mut PowerDecay::new(simd, decays, step, a));
            }
        }
    }

    /// Gates the outputs of a tile and stores them.
    #[inline(always)]
    fn finish<S: Simd>(&mut self, simd: S, steps: Range<usize>) {
        let Self { scan, scratch, batch, channels, .. } = self;
        let lanes = S::F32_LANES;
        if let Some(z) = &scan.z {
            let Scratch { gate, lines, .. } = &mut **scratch;
            z.load(simd, gate, lines, *batch, channels.clone(), steps.clone());
            let gates = tile::<S>(&scratch.gate);
            for (output, &gate) in tile_mut::<S>(&mut scratch.output).iter_mut().zip(gates) {
                *output = simd.mul_f32s(*output, lanes::silu(simd, gate));
            }
        }
        if let Some(meanings) = &scan.meanings {
            let first = *batch * scan.problem.steps;
            let meanings = &meanings[first + steps.start..first + steps.end];
            for (output, meaning) in scratch.output.chunks_exact_mut(lanes).zip(meanings) {
                if *meaning == Step::Padding {
                    output.fill(0.0);
                }
            }
        }
        // SAFETY: rows and channels of tasks are disjoint, and each tile is stored once.
        unsafe {
            let Scratch { output, lines, .. } = &mut **scratch;
            scan.out.store(simd, output, lines, *batch, channels.clone(), steps);
        }
    }

    /// Stores the state as the checkpoint of the steps before `end`.
    fn save(&self, lanes: usize, end: usize) {
        let problem = self.scan.problem;
        let Some(saved) = &self.scan.saved else { return };
        let checkpoint = (end - 1) / CHECKPOINT;
        self.write_state(lanes, saved, |channel| {
            (self.batch * problem.channels + channel) * problem.checkpoints() + checkpoint
        });
    }

    /// Stores the last state.
    fn end(&self, lanes: usize) {
        let Some(last_state) = &self.scan.last_state else { return };
        self.write_state(lanes, last_state, |channel| {
            self.row * self.scan.problem.channels + channel
        });
    }

    /// Writes the state of each channel to the place that `line` gives, in lengths of a state.
    fn write_state(&self, lanes: usize, to: &Disjoint<'_, f32>, line: impl Fn(usize) -> usize) {
        let states = self.scan.problem.states;
        for (lane, channel) in self.channels.clone().enumerate() {
            for n in 0..states {
                let value = self.scratch.state[n * lanes + lane];
                // SAFETY: rows and channels of tasks are disjoint.
                unsafe { to.write(line(channel) * states + n, value) };
            }
        }
    }
}
