//! The forward scan of one block of channels, a channel per SIMD lane.
//!
//! Time is walked in tiles of [`TILE`] steps. For each tile the step sizes and inputs of all
//! lanes are formed first; then four states at a time run through the tile with h in registers,
//! B and C read from a tile in f32, and y in the first-level cache; then the output is gated and
//! stored. About 18 vector instructions per lane-full of (d, t, n), most of them the exponential.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::forward::{Decays, Map, Scan, wide_groups};
use super::recurrence::{OwnDecay, PowerDecay, Recurrence, SharedDecay, rows, rows_mut};
use super::tile::{TILE, with_usual};
use crate::backend::cpu::disjoint::Disjoint;
use crate::backend::cpu::lanes::{self, Exp2};
use crate::element::DeviceFloat;
use crate::selective_scan::CHECKPOINT;
use crate::selective_scan::reference::Step;

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

/// What a thread keeps between its tasks, all in f32.
#[derive(Default)]
pub(super) struct Scratch {
    /// h, (N, lane).
    state: Vec<f32>,
    /// A log2(e), (N, lane) or (lane).
    a: Vec<f32>,
    d: Vec<f32>,
    delta_bias: Vec<f32>,
    /// Δ as the decay sees it, (t, lane): 0 at a reset.
    step: Vec<f32>,
    /// u, then Δ u, (t, lane).
    input: Vec<f32>,
    /// y, (t, lane).
    output: Vec<f32>,
    /// z, (t, lane).
    gate: Vec<f32>,
    b: MapTile,
    c: MapTile,
}

/// The values of B or C in a tile.
#[derive(Default)]
pub(super) struct MapTile {
    pub values: Vec<f32>,
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

/// Steps of a tile without a reset in between.
struct Segment {
    steps: Range<usize>,
    from_zero: bool,
}

impl<T: DeviceFloat> WithSimd for Block<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lanes = S::F32_LANES;
        self.begin(lanes);
        let mut start = self.steps.start;
        while start < self.steps.end {
            // Tiles end at multiples of their length, so that checkpoints fall on their ends.
            let end = self.steps.end.min((start / TILE + 1) * TILE);
            self.load(simd, start..end);
            for segment in self.segments(start..end) {
                self.recur(simd, &segment);
            }
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
        let spread = |place: &mut Vec<f32>, rows: usize, value: &dyn Fn(usize, usize) -> f32| {
            place.clear();
            place.resize(rows * lanes, 0.0);
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
                    tile.values.clear();
                    tile.values.resize(states * TILE * width, 0.0);
                }
            }
        }
        let Scratch { step, input, output, gate, .. } = &mut **scratch;
        for tile in [step, input, output, gate] {
            tile.clear();
            tile.resize(TILE * lanes, 0.0);
        }
    }

    /// Brings in a tile: Δ, Δ u, D u, B and C.
    #[inline(always)]
    fn load<S: Simd>(&mut self, simd: S, steps: Range<usize>) {
        let Self { scan, scratch, batch, channels, .. } = self;
        let (lanes, length) = (S::F32_LANES, steps.len());
        scan.delta.load(&mut scratch.step, lanes, *batch, channels.clone(), steps.clone());
        scan.u.load(&mut scratch.input, lanes, *batch, channels.clone(), steps.clone());
        let bias = rows::<S>(&scratch.delta_bias)[0];
        let d = rows::<S>(&scratch.d)[0];
        let (step, input) = (rows_mut::<S>(&mut scratch.step), rows_mut::<S>(&mut scratch.input));
        let output = rows_mut::<S>(&mut scratch.output);
        for ((step, input), output) in step.iter_mut().zip(input).zip(output).take(length) {
            let mut size = simd.add_f32s(*step, bias);
            if scan.options.delta_softplus {
                size = lanes::softplus(simd, size);
            }
            if let Some((min, max)) = scan.options.delta_clamp {
                size = lanes::keep_below(simd, lanes::keep_above(simd, size, min), max);
            }
            *output = simd.mul_f32s(d, *input);
            *input = simd.mul_f32s(size, *input);
            *step = size;
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

    /// Runs all states through a segment.
    #[inline(always)]
    fn recur<S: Simd>(&mut self, simd: S, segment: &Segment) {
        let scratch = &mut *self.scratch;
        if segment.from_zero {
            scratch.state.fill(0.0);
        }
        let steps = segment.steps.clone();
        let state = rows_mut::<S>(&mut scratch.state);
        let recurrence = Recurrence {
            simd,
            state,
            input: &rows::<S>(&scratch.input)[steps.clone()],
            output: &mut rows_mut::<S>(&mut scratch.output)[steps.clone()],
            first: steps.start,
        };
        let step = &rows::<S>(&scratch.step)[steps.clone()];
        let a = rows::<S>(&scratch.a);
        let none = Exp2 { scale: simd.splat_f32s(1.0), above: simd.splat_f32s(0.0) };
        let mut decays = [none; TILE];
        let decays = &mut decays[..step.len()];
        let (b, c) = (&scratch.b, &scratch.c);
        match self.scan.decays {
            Decays::Own => recurrence.run(&mut OwnDecay { step, a }, b, c),
            Decays::Shared => {
                for (decay, &step) in decays.iter_mut().zip(step) {
                    *decay = lanes::exp2(simd, simd.mul_f32s(step, a[0]));
                }
                recurrence.run(&mut SharedDecay { decay: decays }, b, c);
            }
            Decays::Powers => {
                for (decay, &step) in decays.iter_mut().zip(step) {
                    *decay = lanes::exp2_base(simd, simd.mul_f32s(step, a[0]));
                }
                let mut next = [none; TILE];
                let next = &mut next[..step.len()];
                next.copy_from_slice(decays);
                recurrence.run(&mut PowerDecay { base: decays, next }, b, c);
            }
        }
    }

    /// Gates the outputs of a tile and stores them.
    #[inline(always)]
    fn finish<S: Simd>(&mut self, simd: S, steps: Range<usize>) {
        let Self { scan, scratch, batch, channels, .. } = self;
        let lanes = S::F32_LANES;
        if let Some(z) = &scan.z {
            z.load(&mut scratch.gate, lanes, *batch, channels.clone(), steps.clone());
            let gates = rows::<S>(&scratch.gate);
            let outputs = rows_mut::<S>(&mut scratch.output);
            for (output, &gate) in outputs.iter_mut().zip(gates).take(steps.len()) {
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
        unsafe { scan.out.store(&scratch.output, lanes, *batch, channels.clone(), steps) };
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
