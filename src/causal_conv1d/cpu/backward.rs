//! The backward pass on the CPU.
//!
//! A tile of e reaches W - 1 steps beyond the tile of dx that is made of it. Sums over time are
//! made per tile in f32, per span in f64, and over all spans of a channel in their order.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::call::{Call, Source, Span};
use super::taps::{BeforeActivation, Correlate, Reach, Spread, Weights};
use super::tile::Geometry;
use crate::Result;
use crate::backend::Cpu;
use crate::backend::cpu::aligned::{Aligned, elements_mut};
use crate::backend::cpu::disjoint::Disjoint;
use crate::causal_conv1d::check::CHECK;
use crate::causal_conv1d::{GradientsMut, Inputs, MAX_WIDTH, Options, OutputGradients, Problem};
use crate::element::DeviceFloat;
use crate::layout::ActivationStrides;
use crate::tensor::Tensor;

/// Numbers that a span leaves for the second stage: W + 1 for each channel.
pub(super) fn sums_of_span(problem: &Problem) -> usize {
    problem.channels * (problem.width + 1)
}

/// Runs the backward pass. The inputs have been checked, values included.
pub(super) fn run<T: DeviceFloat>(
    problem: &Problem,
    inputs: &Inputs<'_, Cpu, T>,
    gradients: &OutputGradients<'_, Cpu, T>,
    options: &Options,
    outputs: &GradientsMut<'_, Cpu, T>,
) -> Result<()> {
    let x = inputs.x.read()?;
    let dout = gradients.dout.map(|dout| dout.read()).transpose()?;
    let mut dx = outputs.dx.as_ref().map(|dx| dx.write()).transpose()?;
    let mut ds0 = outputs.ds0.as_ref().map(|ds0| ds0.write()).transpose()?;
    let call = Call::new(problem, inputs, options, &x)?;
    let mut sums = vec![0.0f64; call.spans.len() * sums_of_span(problem)];
    let back = Back {
        dout: match (&dout, gradients.dout) {
            (Some(bytes), Some(dout)) => Some(Source::new("dout", bytes, dout, options.layout)?),
            _ => None,
        },
        dfinal: gradients.dfinal_state.map(|state| state.to_f32()).transpose()?,
        dx: match (&mut dx, outputs.dx.as_deref()) {
            (Some(bytes), Some(dx)) => Some((
                Disjoint::new(elements_mut(CHECK, "dx", bytes)?),
                ActivationStrides::of(dx, options.layout),
            )),
            _ => None,
        },
        ds0: match &mut ds0 {
            Some(bytes) => Some(Disjoint::new(elements_mut(CHECK, "ds0", bytes)?)),
            None => None,
        },
        sums: Disjoint::new(&mut sums),
        call: &call,
    };
    back.empty_rows(inputs)?;
    let arch = Arch::new();
    call.tasks().into_par_iter().for_each_init(Scratch::default, |scratch, (span, channels)| {
        arch.dispatch(Block { back: &back, scratch, span, channels });
    });
    add_up(problem, &sums, outputs.dweight.as_deref(), outputs.dbias.as_deref())
}

/// The second stage: adds the sums of all spans in their order.
fn add_up(
    problem: &Problem,
    sums: &[f64],
    dweight: Option<&Tensor<Cpu, f32>>,
    dbias: Option<&Tensor<Cpu, f32>>,
) -> Result<()> {
    let &Problem { channels, width, .. } = problem;
    let mut total = vec![0.0; sums_of_span(problem)];
    for span in sums.chunks_exact(sums_of_span(problem).max(1)) {
        total.iter_mut().zip(span).for_each(|(total, sum)| *total += sum);
    }
    let of_channels = total.chunks_exact(width + 1);
    if let Some(dweight) = dweight {
        let taps: Vec<f64> = of_channels.clone().flat_map(|sums| &sums[..width]).copied().collect();
        dweight.write_f64(&taps)?;
    }
    if let Some(dbias) = dbias {
        let biases: Vec<f64> = of_channels.map(|sums| sums[width]).collect();
        debug_assert_eq!(biases.len(), channels);
        dbias.write_f64(&biases)?;
    }
    Ok(())
}

/// A call, and what it reads and writes backward.
struct Back<'a, 'call, T> {
    call: &'a Call<'call, T>,
    dout: Option<Source<'call, T>>,
    dfinal: Option<Vec<f32>>,
    dx: Option<(Disjoint<'call, T>, ActivationStrides)>,
    ds0: Option<Disjoint<'call, f32>>,
    /// (span, D, W + 1): the taps as they stand in the weight, then the bias.
    sums: Disjoint<'call, f64>,
}

impl<T: DeviceFloat> Back<'_, '_, T> {
    /// A row without steps hands the gradient of its final state on.
    fn empty_rows(&self, inputs: &Inputs<'_, Cpu, T>) -> Result<()> {
        let Some(ds0) = &self.ds0 else { return Ok(()) };
        let Problem { batch, channels, steps, .. } = *self.call.problem;
        let numbers = channels * self.call.problem.history();
        for (row, (_, steps)) in inputs.resets.rows(batch, steps)?.into_iter().enumerate() {
            if steps.is_empty() {
                // SAFETY: no task has an empty row, and none runs yet.
                let ds0 = unsafe { ds0.run(row * numbers, numbers) };
                match &self.dfinal {
                    Some(dfinal) => ds0.copy_from_slice(&dfinal[row * numbers..][..numbers]),
                    None => ds0.fill(0.0),
                }
            }
        }
        Ok(())
    }
}

/// What a thread works in.
#[derive(Default)]
struct Scratch {
    /// By distance, then the bias.
    weights: [Aligned; MAX_WIDTH + 1],
    x: Aligned,
    /// x by distance, where some taps do not count.
    taps: [Aligned; MAX_WIDTH],
    /// dout, then e.
    e: Aligned,
    /// e by distance, where some taps do not count.
    ahead: [Aligned; MAX_WIDTH],
    dx: Aligned,
    /// Sums of a tile by distance, then that of the bias.
    sums: [Aligned; MAX_WIDTH + 1],
    /// Those of the span, (channel, W + 1).
    totals: Vec<f64>,
}

/// A task.
struct Block<'a, 'call, T> {
    back: &'a Back<'a, 'call, T>,
    scratch: &'a mut Scratch,
    span: &'a Span,
    channels: Range<usize>,
}

impl<T: DeviceFloat> WithSimd for Block<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (call, span) = (self.back.call, self.span);
        let sums_of_channel = call.problem.width + 1;
        let geometry = Geometry::new(call.options.layout, self.channels.clone(), S::F32_LANES);
        geometry.weights(call, &mut self.scratch.weights);
        self.scratch.totals.clear();
        self.scratch.totals.resize(self.channels.len() * sums_of_channel, 0.0);
        for start in span.steps.clone().step_by(geometry.tile()) {
            let steps = start..span.steps.end.min(start + geometry.tile());
            self.tile(simd, &geometry, steps);
        }
        let first = (span.number * call.problem.channels + self.channels.start) * sums_of_channel;
        // SAFETY: spans and channels of tasks are disjoint.
        let sums = unsafe { self.back.sums.run(first, self.scratch.totals.len()) };
        sums.copy_from_slice(&self.scratch.totals);
    }
}

impl<T: DeviceFloat> Block<'_, '_, T> {
    #[inline(always)]
    fn tile<S: Simd>(&mut self, simd: S, geometry: &Geometry, steps: Range<usize>) {
        let Self { back, scratch, span, channels } = self;
        let (call, stride) = (back.call, geometry.stride);
        let (width, history) = (call.problem.width, call.problem.history());
        let length = geometry.numbers(steps.len());
        // e of the tile, and of the steps behind it that its dx reaches.
        let reach = geometry.numbers(steps.len() + history);
        let known = span.row_steps.end.min(steps.end + history);
        scratch.x.resize(history * stride + reach);
        geometry.load_x(call, span, steps.start as isize - history as isize, &mut scratch.x);
        let masks = call.masks_of(span, steps.start..known);
        let taps = geometry.taps(Reach::Back, width, &scratch.x, masks, &mut scratch.taps, reach);
        // Room for the taps of the last vector of dx.
        scratch.e.resize(reach.max(history * stride + length));
        match &back.dout {
            Some(dout) => geometry.load(dout, span, steps.start, &mut scratch.e),
            None => scratch.e.fill(0.0),
        }
        let weights = Weights::new(width, &scratch.weights);
        let activation = call.options.activation;
        BeforeActivation { simd, weights, taps, activation, dout: &mut scratch.e[..reach] }.run();
        scratch.e[(known - steps.start) * stride..].fill(0.0);
        let e = scratch.e.chunks_mut(stride);
        for (e, _) in e.zip(masks.unwrap_or_default()).filter(|(_, mask)| **mask == 0) {
            e.fill(0.0);
        }
        let ahead =
            geometry.taps(Reach::Ahead, width, &scratch.e, masks, &mut scratch.ahead, length);
        scratch.dx.reset(length);
        back.begin_dx(geometry, span, &steps, &mut scratch.dx);
        Spread { simd, weights, ahead, dx: &mut scratch.dx }.run();
        if let Some((dx, strides)) = &back.dx {
            // SAFETY: spans and channels of tasks are disjoint, and each tile is stored once.
            unsafe { geometry.store(&scratch.dx, dx, strides, span.batch, steps.clone()) };
        }
        if steps.start == span.row_steps.start {
            back.write_ds0(span, channels, geometry, &scratch.e, masks);
        }
        scratch.sums.iter_mut().for_each(|sums| sums.reset(geometry.columns()));
        let [dweight @ .., dbias] = &mut scratch.sums;
        let e = &scratch.e[..steps.len() * stride];
        Correlate { simd, width, e, taps, dweight, dbias }.run();
        scratch.add_sums(geometry, width);
    }
}

impl<T: DeviceFloat> Back<'_, '_, T> {
    /// What the final state passes back to the last steps of its row.
    fn begin_dx(&self, geometry: &Geometry, span: &Span, steps: &Range<usize>, dx: &mut [f32]) {
        let Some(dfinal) = &self.dfinal else { return };
        let history = self.call.problem.history();
        let first = steps.start.max(span.row_steps.end.saturating_sub(history));
        for t in first..steps.end {
            let k = t + history - span.row_steps.end;
            for (i, channel) in geometry.channels.clone().enumerate() {
                let line = span.row * self.call.problem.channels + channel;
                dx[(t - steps.start) * geometry.stride + i] = dfinal[line * history + k];
            }
        }
    }

    /// ds0, from e of the first steps of a row: as dx, for the steps before the first.
    fn write_ds0(
        &self,
        span: &Span,
        channels: &Range<usize>,
        geometry: &Geometry,
        e: &[f32],
        masks: Option<&[u8]>,
    ) {
        let Some(ds0) = &self.ds0 else { return };
        let problem = self.call.problem;
        let (history, length) = (problem.history(), span.row_steps.len());
        for (i, channel) in channels.clone().enumerate() {
            let line = span.row * problem.channels + channel;
            for k in 0..history {
                let mut sum = match &self.dfinal {
                    Some(dfinal) if k >= length => dfinal[line * history + k - length],
                    _ => 0.0,
                };
                // Step t meets the entry k by the tap of distance t + history - k.
                for t in 0..length.min(k + 1) {
                    let d = t + history - k;
                    if masks.is_none_or(|masks| masks[t] >> d & 1 == 1) {
                        let weight = self.call.weight[channel * problem.width + history - d];
                        sum = weight.mul_add(e[t * geometry.stride + i], sum);
                    }
                }
                // SAFETY: only the task with the first steps of the row writes its ds0.
                unsafe { ds0.write(line * history + k, sum) };
            }
        }
    }
}

impl Scratch {
    /// Adds the sums of a tile to those of the span.
    fn add_sums(&mut self, geometry: &Geometry, width: usize) {
        let numbers = geometry.columns() / geometry.stride.min(geometry.columns());
        for (channel, totals) in self.totals.chunks_exact_mut(width + 1).enumerate() {
            let lanes = channel * numbers..(channel + 1) * numbers;
            let sum = |sums: &Aligned| -> f64 {
                sums[lanes.clone()].iter().map(|&sum| f64::from(sum)).sum()
            };
            for (d, total) in totals[..width].iter_mut().rev().enumerate() {
                *total += sum(&self.sums[d]);
            }
            totals[width] += sum(&self.sums[MAX_WIDTH]);
        }
    }
}
