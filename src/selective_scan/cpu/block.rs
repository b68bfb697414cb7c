//! The forward scan of one block of channels, a channel per SIMD lane.
//!
//! Time is walked in tiles of [`TILE`] steps. For each tile the step sizes and inputs of all
//! lanes are formed first; then four states at a time run through the tile with h in registers,
//! B and C read from a tile in f32, and y in the first-level cache; then the output is gated and
//! stored.

use std::f32::consts::LOG2_E;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::call::{Decays, Segment, spread};
use super::forward::Scan;
use super::recurrence::{DecayTile, OwnDecay, PowerDecay, Recurrence, SharedDecay};
use super::scratch::Scratch;
use super::tile::{TILE, rows, rows_mut, tile, tile_mut};
use crate::backend::cpu::aligned::Aligned;
use crate::backend::cpu::disjoint::Disjoint;
use crate::backend::cpu::lanes;
use crate::element::DeviceFloat;
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
            self.prefetch(self.steps.end.min(end + TILE)..self.steps.end.min(end + 2 * TILE));
            let segments = self.segments(lanes, start..end);
            self.recur(simd, &segments, &mut decays);
            self.finish(simd, start..end);
            if end.is_multiple_of(CHECKPOINT) || end == self.scan.call.problem.steps {
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
        let (call, channels) = (&scan.call, &*channels);
        let problem = call.problem;
        let states = problem.states;
        let spread = |place: &mut Aligned, rows: usize, value: &dyn Fn(usize, usize) -> f32| {
            place.reset(rows * lanes);
            spread(place, lanes, channels, value);
        };
        let state = |channel: usize, n: usize| (*row * problem.channels + channel) * states + n;
        spread(&mut scratch.state, states, &|channel, n| {
            call.h0.as_ref().map_or(0.0, |h0| h0[state(channel, n)])
        });
        let decays = if problem.a_per_channel { 1 } else { states };
        spread(&mut scratch.a, decays, &|channel, n| call.a(channel, n) * LOG2_E);
        let per_channel = |values: &Option<Vec<f32>>, channel: usize| {
            values.as_ref().map_or(0.0, |values| values[channel])
        };
        spread(&mut scratch.d, 1, &|channel, _| per_channel(&call.d, channel));
        spread(&mut scratch.delta_bias, 1, &|channel, _| per_channel(&call.delta_bias, channel));
        scratch.b.begin(&call.b, problem, lanes, channels);
        scratch.c.begin(&call.c, problem, lanes, channels);
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
        scan.call.delta.load(simd, step, lines, *batch, channels.clone(), steps.clone());
        scan.call.u.load(simd, input, lines, *batch, channels.clone(), steps.clone());
        let bias = rows::<S>(&scratch.delta_bias)[0];
        let d = rows::<S>(&scratch.d)[0];
        let step = tile_mut::<S>(&mut scratch.step);
        for sizes in step.as_chunks_mut::<TOGETHER>().0 {
            for size in &mut *sizes {
                *size = simd.add_f32s(*size, bias);
            }
            if scan.call.options.delta_softplus {
                lanes::softplus(simd, sizes);
            }
        }
        let input = tile_mut::<S>(&mut scratch.input);
        let output = tile_mut::<S>(&mut scratch.output);
        for ((size, input), output) in step.iter_mut().zip(input).zip(output) {
            if let Some((min, max)) = scan.call.options.delta_clamp {
                *size = lanes::keep_below(simd, lanes::keep_above(simd, *size, min), max);
            }
            *output = simd.mul_f32s(d, *input);
            *input = simd.mul_f32s(*size, *input);
        }
        let Scratch { b, c, .. } = &mut **scratch;
        b.load(&scan.call.b, scan.call.problem, lanes, *batch, channels, steps.clone());
        c.load(&scan.call.c, scan.call.problem, lanes, *batch, channels, steps);
    }

    /// Hints at the activations of the next tile, which come from memory while the states run.
    #[inline(always)]
    fn prefetch(&self, steps: Range<usize>) {
        let call = &self.scan.call;
        for source in [Some(&call.delta), Some(&call.u), call.z.as_ref()].into_iter().flatten() {
            source.prefetch(self.batch, self.channels.clone(), steps.clone());
        }
    }

    /// The runs of ordinary steps in a tile. At a reset the decay sees Δ = 0 and the state is
    /// zero, so that no overflow of the decay meets it.
    fn segments(&mut self, lanes: usize, steps: Range<usize>) -> Vec<Segment> {
        let segments = self.scan.call.segments(self.batch, steps);
        for segment in segments.iter().filter(|segment| segment.from_zero) {
            self.scratch.step[segment.steps.start * lanes..][..lanes].fill(0.0);
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
            history: (),
        };
        match self.scan.call.decays {
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
        if let Some(z) = &scan.call.z {
            let Scratch { gate, lines, .. } = &mut **scratch;
            z.load(simd, gate, lines, *batch, channels.clone(), steps.clone());
            let gates = tile::<S>(&scratch.gate);
            for (output, &gate) in tile_mut::<S>(&mut scratch.output).iter_mut().zip(gates) {
                *output = simd.mul_f32s(*output, lanes::silu(simd, gate));
            }
        }
        scan.call.clear_padding(*batch, steps.clone(), lanes, &mut scratch.output);
        // SAFETY: rows and channels of tasks are disjoint, and each tile is stored once.
        unsafe {
            let Scratch { output, lines, .. } = &mut **scratch;
            scan.out.store(simd, output, lines, *batch, channels.clone(), steps);
        }
    }

    /// Stores the state as the checkpoint of the steps before `end`.
    fn save(&self, lanes: usize, end: usize) {
        let problem = self.scan.call.problem;
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
            self.row * self.scan.call.problem.channels + channel
        });
    }

    /// Writes the state of each channel to the place that `line` gives, in lengths of a state.
    fn write_state(&self, lanes: usize, to: &Disjoint<'_, f32>, line: impl Fn(usize) -> usize) {
        let states = self.scan.call.problem.states;
        for (lane, channel) in self.channels.clone().enumerate() {
            for n in 0..states {
                let value = self.scratch.state[n * lanes + lane];
                // SAFETY: rows and channels of tasks are disjoint.
                unsafe { to.write(line(channel) * states + n, value) };
            }
        }
    }
}
