//! The backward scan of one block of channels, a channel per SIMD lane.
//!
//! Time is walked down from checkpoint to checkpoint. Between two of them the states are computed
//! again, up, and kept, in tiles of [`TILE`] steps; then the reverse recurrence runs down through
//! the tiles.

use std::f32::consts::LOG2_E;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::Reverse as Backward;
use super::reverse::{Reverse, Sink};
use super::scratch::{Scratch, Tile};
use super::sums::Sums;
use crate::backend::cpu::aligned::Aligned;
use crate::backend::cpu::disjoint::Disjoint;
use crate::backend::cpu::lanes;
use crate::element::DeviceFloat;
use crate::selective_scan::CHECKPOINT;
use crate::selective_scan::cpu::call::{Call, Decays, Segment, spread};
use crate::selective_scan::cpu::maps::{Form, MapTile};
use crate::selective_scan::cpu::recurrence::{
    DecayTile, History, OwnDecay, PowerDecay, Recurrence, SharedDecay,
};
use crate::selective_scan::cpu::tile::{TILE, rows, rows_mut, tile, tile_mut};

/// Some channels of one row.
pub(super) struct Block<'a, 'call, T> {
    pub reverse: &'a Backward<'call, T>,
    pub scratch: &'a mut Scratch,
    pub sums: &'a mut Sums,
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
        self.begin(S::F32_LANES);
        let mut decays = DecayTile::new(simd);
        let mut end = self.steps.end;
        while end > self.steps.start {
            let start = self.steps.start.max((end - 1) / CHECKPOINT * CHECKPOINT);
            let tiles = tiles(start..end);
            self.restore(start, S::F32_LANES);
            for (i, steps) in tiles.iter().enumerate() {
                self.load(simd, i, steps.clone());
                self.prefetch_gated(steps.clone());
                self.recompute(simd, i, steps.clone(), &mut decays);
            }
            for (i, steps) in tiles.iter().enumerate().rev() {
                self.gate(simd, i, steps.clone());
                self.prefetch_below(steps.clone());
                self.descend(simd, i, steps.clone(), &mut decays);
                self.finish(simd, i, steps.clone());
            }
            end = start;
        }
        self.end(S::F32_LANES);
    }
}

/// The tiles of some steps; they end at multiples of their length.
fn tiles(steps: Range<usize>) -> Vec<Range<usize>> {
    let first = steps.start / TILE;
    (first..steps.end.div_ceil(TILE))
        .map(|i| steps.start.max(i * TILE)..steps.end.min((i + 1) * TILE))
        .collect()
}

impl<T: DeviceFloat> Block<'_, '_, T> {
    /// Brings in what does not depend on time, and the gradient of the last state.
    fn begin(&mut self, lanes: usize) {
        let Self { reverse, scratch, row, channels, .. } = self;
        let (call, channels) = (&reverse.call, &*channels);
        let problem = call.problem;
        let states = problem.states;
        let fill = |place: &mut Aligned, rows: usize, value: &dyn Fn(usize, usize) -> f32| {
            place.reset(rows * lanes);
            spread(place, lanes, channels, value);
        };
        let state = |channel: usize, n: usize| (*row * problem.channels + channel) * states + n;
        fill(&mut scratch.carry, states, &|channel, n| {
            reverse.dlast_state.as_ref().map_or(0.0, |dlast_state| dlast_state[state(channel, n)])
        });
        let decays = if problem.a_per_channel { 1 } else { states };
        fill(&mut scratch.a, decays, &|channel, n| call.a(channel, n));
        fill(&mut scratch.a_log2, decays, &|channel, n| call.a(channel, n) * LOG2_E);
        let per_channel = |values: &Option<Vec<f32>>, channel: usize| {
            values.as_ref().map_or(0.0, |values| values[channel])
        };
        fill(&mut scratch.d, 1, &|channel, _| per_channel(&call.d, channel));
        fill(&mut scratch.delta_bias, 1, &|channel, _| per_channel(&call.delta_bias, channel));
        scratch.state.reset(states * lanes);
        for tile in &mut scratch.tiles {
            let Tile { step, size, slope, u, taken, y, before, history, b, c } = tile;
            for place in [step, size, slope, u, taken, y] {
                place.reset(TILE * lanes);
            }
            before.reset(states * lanes);
            history.reset(states * TILE * lanes);
            b.begin(&call.b, problem, lanes, channels);
            c.begin(&call.c, problem, lanes, channels);
        }
        let Scratch { lines, dy, gate, dz, w, dstep, da, db, dc, tiles, .. } = &mut **scratch;
        for place in [lines, dy, gate, dz, w, dstep] {
            place.reset(TILE * lanes);
        }
        da.reset(states * lanes);
        db.reset(sink_length(&tiles[0].b, states, lanes));
        dc.reset(sink_length(&tiles[0].c, states, lanes));
    }

    /// The state before step `start`: a checkpoint, or the initial one.
    fn restore(&mut self, start: usize, lanes: usize) {
        let Self { reverse, scratch, row, batch, channels, steps, .. } = self;
        let problem = reverse.call.problem;
        let states = problem.states;
        if start > steps.start {
            let checkpoint = start / CHECKPOINT - 1;
            let line = |channel: usize| {
                (*batch * problem.channels + channel) * problem.checkpoints() + checkpoint
            };
            spread(&mut scratch.state, lanes, channels, |channel, n| {
                reverse.saved[line(channel) * states + n]
            });
        } else {
            let line = |channel: usize| *row * problem.channels + channel;
            spread(&mut scratch.state, lanes, channels, |channel, n| {
                reverse.call.h0.as_ref().map_or(0.0, |h0| h0[line(channel) * states + n])
            });
        }
    }

    /// Brings in a tile: Δ and its slope, u, Δ u, D u, B and C.
    #[inline(always)]
    fn load<S: Simd>(&mut self, simd: S, index: usize, steps: Range<usize>) {
        let Self { reverse, scratch, batch, channels, .. } = self;
        let call = &reverse.call;
        let lanes = S::F32_LANES;
        let Scratch { tiles, lines, delta_bias, d, .. } = &mut **scratch;
        let Tile { step, size, slope, u, taken, y, b, c, .. } = &mut tiles[index];
        call.delta.load(simd, size, lines, *batch, channels.clone(), steps.clone());
        call.u.load(simd, u, lines, *batch, channels.clone(), steps.clone());
        call.clear_padding(*batch, steps.clone(), lanes, u);
        let bias = rows::<S>(delta_bias)[0];
        for (size, slope) in tile_mut::<S>(size).iter_mut().zip(tile_mut::<S>(slope)) {
            (*size, *slope) = step_size(simd, call, simd.add_f32s(*size, bias));
        }
        step.copy_from_slice(size);
        let d = rows::<S>(d)[0];
        let products = tile_mut::<S>(taken).iter_mut().zip(tile_mut::<S>(y));
        let factors = tile::<S>(size).iter().zip(tile::<S>(u));
        for ((taken, y), (&size, &u)) in products.zip(factors) {
            *taken = simd.mul_f32s(size, u);
            *y = simd.mul_f32s(d, u);
        }
        b.load(&call.b, call.problem, lanes, *batch, channels, steps.clone());
        c.load(&call.c, call.problem, lanes, *batch, channels, steps);
    }

    /// Hints at what [`gate`](Self::gate) reads, once the states have run up to the checkpoint.
    #[inline(always)]
    fn prefetch_gated(&self, steps: Range<usize>) {
        let gated = [Some(&self.reverse.dout), self.reverse.call.z.as_ref()];
        for source in gated.into_iter().flatten() {
            source.prefetch(self.batch, self.channels.clone(), steps.clone());
        }
    }

    /// Hints at what [`load`](Self::load) reads of the steps one checkpoint below.
    #[inline(always)]
    fn prefetch_below(&self, steps: Range<usize>) {
        let below = |t: usize| t.saturating_sub(CHECKPOINT).max(self.steps.start);
        for source in [&self.reverse.call.delta, &self.reverse.call.u] {
            source.prefetch(
                self.batch,
                self.channels.clone(),
                below(steps.start)..below(steps.end),
            );
        }
    }

    /// Runs the states up through a tile, and keeps them.
    #[inline(always)]
    fn recompute<S: Simd>(
        &mut self,
        simd: S,
        index: usize,
        steps: Range<usize>,
        decays: &mut DecayTile<S>,
    ) {
        let segments = self.segments(index, steps, S::F32_LANES);
        let Scratch { state, a_log2, tiles, .. } = &mut *self.scratch;
        let Tile { step, taken, y, before, history, b, c, .. } = &mut tiles[index];
        before.copy_from_slice(state);
        let (a, step) = (rows::<S>(a_log2), tile::<S>(step));
        let recurrence = Recurrence {
            simd,
            state: rows_mut::<S>(state),
            input: tile::<S>(taken),
            output: tile_mut::<S>(y),
            b,
            c,
            history: History(rows_mut::<S>(history)),
        };
        match self.reverse.call.decays {
            Decays::Own => recurrence.run(&segments, &mut OwnDecay { step, a }),
            Decays::Shared => {
                recurrence.run(&segments, &mut SharedDecay::new(simd, decays, step, a[0]));
            }
            Decays::Powers => {
                recurrence.run(&segments, &mut PowerDecay::new(simd, decays, step, a));
            }
        }
    }

    /// The runs of ordinary steps. At a reset the decay sees Δ = 0, and the states on both sides
    /// are set to zero, so that no overflow of the decay meets them.
    fn segments(&mut self, index: usize, steps: Range<usize>, lanes: usize) -> Vec<Segment> {
        let segments = self.reverse.call.segments(self.batch, steps);
        for segment in segments.iter().filter(|segment| segment.from_zero) {
            self.scratch.tiles[index].step[segment.steps.start * lanes..][..lanes].fill(0.0);
        }
        segments
    }

    /// dy and dz of a tile.
    #[inline(always)]
    fn gate<S: Simd>(&mut self, simd: S, index: usize, steps: Range<usize>) {
        let Self { reverse, scratch, batch, channels, .. } = self;
        let Scratch { tiles, lines, dy, gate, dz, .. } = &mut **scratch;
        reverse.dout.load(simd, dy, lines, *batch, channels.clone(), steps.clone());
        if let Some(z) = &reverse.call.z {
            z.load(simd, gate, lines, *batch, channels.clone(), steps.clone());
            let one = simd.splat_f32s(1.0);
            let gradients = tile_mut::<S>(dy).iter_mut().zip(tile_mut::<S>(dz));
            let values = tile::<S>(gate).iter().zip(tile::<S>(&tiles[index].y));
            for ((dy, dz), (&z, &y)) in gradients.zip(values) {
                let sigmoid = lanes::sigmoid(simd, z);
                let inner = simd.mul_add_f32s(z, simd.sub_f32s(one, sigmoid), one);
                let slope = simd.mul_f32s(sigmoid, inner);
                *dz = simd.mul_f32s(simd.mul_f32s(*dy, y), slope);
                *dy = simd.mul_f32s(*dy, lanes::silu(simd, z));
            }
        }
        reverse.call.clear_padding(*batch, steps, S::F32_LANES, dy);
    }

    /// Runs the gradients of the states down through a tile.
    #[inline(always)]
    fn descend<S: Simd>(
        &mut self,
        simd: S,
        index: usize,
        steps: Range<usize>,
        decays: &mut DecayTile<S>,
    ) {
        let segments = self.reverse.call.segments(self.batch, steps);
        let Scratch { carry, a, a_log2, tiles, dy, w, dstep, da, db, dc, .. } = &mut *self.scratch;
        let Tile { step, size, taken, before, history, b, c, .. } = &tiles[index];
        for place in [&mut *w, dstep, da, db, dc] {
            place.fill(0.0);
        }
        let (a_log2, step) = (rows::<S>(a_log2), tile::<S>(step));
        let (with_db, with_dc) = self.reverse.maps;
        let reverse = Reverse {
            simd,
            carry: rows_mut::<S>(carry),
            before: rows::<S>(before),
            history: rows::<S>(history),
            a: rows::<S>(a),
            size: tile::<S>(size),
            taken: tile::<S>(taken),
            dy: tile::<S>(dy),
            w: tile_mut::<S>(w),
            dstep: tile_mut::<S>(dstep),
            da: rows_mut::<S>(da),
            b,
            c,
            db: sink::<S>(with_db, b, db),
            dc: sink::<S>(with_dc, c, dc),
        };
        match self.reverse.call.decays {
            Decays::Own => reverse.run(&segments, &mut OwnDecay { step, a: a_log2 }),
            Decays::Shared => {
                reverse.run(&segments, &mut SharedDecay::new(simd, decays, step, a_log2[0]));
            }
            Decays::Powers => {
                reverse.run(&segments, &mut PowerDecay::new(simd, decays, step, a_log2));
            }
        }
    }

    /// du and ddelta of a tile; stores them, and adds the tile's sums to the part's.
    #[inline(always)]
    fn finish<S: Simd>(&mut self, simd: S, index: usize, steps: Range<usize>) {
        let Self { reverse, scratch, sums, batch, channels, .. } = self;
        let lanes = S::F32_LANES;
        let Scratch { tiles, lines, dy, dz, w, dstep, d, da, db, dc, .. } = &mut **scratch;
        let Tile { size, slope, u, b, c, .. } = &tiles[index];
        let zero = simd.splat_f32s(0.0);
        let d = rows::<S>(d)[0];
        let gradients = tile_mut::<S>(w).iter_mut().zip(tile_mut::<S>(dstep));
        let values = tile::<S>(u).iter().zip(tile::<S>(size)).zip(tile::<S>(slope));
        for (((w, dstep), &dy), ((&u, &size), &slope)) in gradients.zip(tile::<S>(dy)).zip(values) {
            let dsize = simd.mul_f32s(simd.mul_add_f32s(u, *w, *dstep), slope);
            // Outside of the clamp nothing passes, be it infinite.
            *dstep = simd.select_f32s(simd.equal_f32s(slope, zero), zero, dsize);
            *w = simd.mul_add_f32s(size, *w, simd.mul_f32s(d, dy));
        }
        for gradient in [&mut *w, dstep, dz] {
            reverse.call.clear_padding(*batch, steps.clone(), lanes, gradient);
        }
        let length = steps.len();
        sums.add_per_channel(channels, lanes, length, (dy, u, dstep), da);
        sums.db.add(b.form, channels, lanes, steps.clone(), db);
        sums.dc.add(c.form, channels, lanes, steps.clone(), dc);
        // A loop, not a closure: one that is called three times would be compiled by itself,
        // without this function's instruction set.
        for (target, tile) in [(&reverse.du, &*w), (&reverse.ddelta, dstep), (&reverse.dz, dz)] {
            if let Some(target) = target {
                // SAFETY: parts have rows and channels of their own, and each tile is stored once.
                unsafe {
                    target.store(simd, tile, lines, *batch, channels.clone(), steps.clone());
                }
            }
        }
    }

    /// Stores the gradient of the initial state.
    fn end(&self, lanes: usize) {
        let Some(dh0) = &self.reverse.dh0 else { return };
        let problem = self.reverse.call.problem;
        for (lane, channel) in self.channels.clone().enumerate() {
            let first = (self.row * problem.channels + channel) * problem.states;
            for n in 0..problem.states {
                write(dh0, first + n, self.scratch.carry[n * lanes + lane]);
            }
        }
    }
}

fn write(to: &Disjoint<'_, f32>, index: usize, value: f32) {
    // SAFETY: parts have rows and channels of their own.
    unsafe { to.write(index, value) }
}

/// Δ from delta with its bias, and dΔ / ddelta.
#[inline(always)]
fn step_size<S: Simd, T>(simd: S, call: &Call<'_, T>, p: S::f32s) -> (S::f32s, S::f32s) {
    let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
    let (mut size, mut slope) = (p, one);
    if call.options.delta_softplus {
        let mut values = [p];
        lanes::softplus(simd, &mut values);
        let linear = simd.greater_than_f32s(p, simd.splat_f32s(20.0));
        (size, slope) = (values[0], simd.select_f32s(linear, one, lanes::sigmoid(simd, p)));
    }
    if let Some((min, max)) = call.options.delta_clamp {
        let below = simd.less_than_f32s(size, simd.splat_f32s(min));
        let above = simd.greater_than_f32s(size, simd.splat_f32s(max));
        slope = simd.select_f32s(below, zero, simd.select_f32s(above, zero, slope));
        size = lanes::keep_below(simd, lanes::keep_above(simd, size, min), max);
    }
    (size, slope)
}

/// Numbers that a tile's sums for dB or dC take.
fn sink_length(map: &MapTile, states: usize, lanes: usize) -> usize {
    states
        * match map.form {
            Form::Shared => TILE,
            Form::Lanes => TILE * lanes,
            Form::Constant => lanes,
        }
}

#[inline(always)]
fn sink<'a, S: Simd>(wanted: bool, map: &MapTile, sums: &'a mut [f32]) -> Sink<'a, S::f32s> {
    match map.form {
        _ if !wanted => Sink::Nowhere,
        Form::Shared => Sink::Shared(sums),
        Form::Lanes => Sink::Lanes(rows_mut::<S>(sums)),
        Form::Constant => Sink::Constant(rows_mut::<S>(sums)),
    }
}
