//! The forward convolution on the CPU.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::call::{Call, Span};
use super::taps::{Convolve, Reach, Weights};
use super::tile::Geometry;
use crate::Result;
use crate::backend::Cpu;
use crate::backend::cpu::aligned::{Aligned, elements_mut};
use crate::backend::cpu::disjoint::Disjoint;
use crate::causal_conv1d::check::CHECK;
use crate::causal_conv1d::{Inputs, MAX_WIDTH, Options, OutputsMut, Problem};
use crate::element::DeviceFloat;
use crate::layout::ActivationStrides;
use crate::tensor::Tensor;

/// Convolves. The inputs have been checked, values included.
pub(super) fn run<T: DeviceFloat>(
    problem: &Problem,
    inputs: &Inputs<'_, Cpu, T>,
    options: &Options,
    outputs: &OutputsMut<'_, Cpu, T>,
) -> Result<()> {
    let x = inputs.x.read()?;
    let call = Call::new(problem, inputs, options, &x)?;
    let mut out = outputs.out.write()?;
    let out = Disjoint::new(elements_mut::<T>(CHECK, "out", &mut out)?);
    let strides = ActivationStrides::of(outputs.out, options.layout);
    let arch = Arch::new();
    call.tasks().into_par_iter().for_each_init(Scratch::default, |scratch, (span, channels)| {
        arch.dispatch(Block { call: &call, out: &out, strides: &strides, scratch, span, channels });
    });
    match outputs.final_state.as_deref() {
        Some(final_state) => write_final_state(&call, inputs, final_state),
        None => Ok(()),
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
    out: Aligned,
}

/// A task.
struct Block<'a, 'call, T> {
    call: &'a Call<'call, T>,
    out: &'a Disjoint<'call, T>,
    strides: &'a ActivationStrides,
    scratch: &'a mut Scratch,
    span: &'a Span,
    channels: Range<usize>,
}

impl<T: DeviceFloat> WithSimd for Block<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { call, out, strides, scratch, span, channels } = self;
        let geometry = Geometry::new(call.options.layout, channels, S::F32_LANES);
        geometry.weights(call, &mut scratch.weights);
        let &Problem { width, .. } = call.problem;
        let history = width - 1;
        for start in span.steps.clone().step_by(geometry.tile()) {
            let steps = start..span.steps.end.min(start + geometry.tile());
            let length = geometry.numbers(steps.len());
            scratch.x.resize(history * geometry.stride + length);
            geometry.load_x(call, span, start as isize - history as isize, &mut scratch.x);
            let masks = call.masks_of(span, steps.clone());
            let taps =
                geometry.taps(Reach::Back, width, &scratch.x, masks, &mut scratch.taps, length);
            scratch.out.resize(length);
            Convolve {
                simd,
                weights: Weights::new(width, &scratch.weights),
                taps,
                activation: call.options.activation,
                out: &mut scratch.out,
            }
            .run();
            let results = scratch.out.chunks_mut(geometry.stride);
            for (result, _) in
                results.zip(masks.unwrap_or_default()).filter(|(_, mask)| **mask == 0)
            {
                result.fill(0.0);
            }
            // SAFETY: spans and channels of tasks are disjoint, and each tile is stored once.
            unsafe { geometry.store(&scratch.out, out, strides, span.batch, steps) };
        }
    }
}

/// Copies the last W - 1 entries of each row, the initial state in front.
fn write_final_state<T: DeviceFloat>(
    call: &Call<'_, T>,
    inputs: &Inputs<'_, Cpu, T>,
    final_state: &Tensor<Cpu, f32>,
) -> Result<()> {
    let mut bytes = final_state.write()?;
    let states = elements_mut::<f32>(CHECK, "final_state", &mut bytes)?;
    let Problem { batch, channels, steps, .. } = *call.problem;
    let history = call.problem.history();
    let rows = inputs.resets.rows(batch, steps)?;
    for (line, state) in states.chunks_exact_mut(history.max(1)).enumerate() {
        let (batch, steps) = rows[line / channels].clone();
        for (k, entry) in state.iter_mut().enumerate() {
            // Counted from the first entry of xs.
            let i = steps.len() + k;
            *entry = match (i.checked_sub(history), &call.s0) {
                (Some(t), _) => {
                    let at = call.x.strides.index(batch, line % channels, steps.start + t);
                    call.x.values[at].to_f32()
                }
                (None, Some(s0)) => s0[line * history + i],
                (None, None) => 0.0,
            };
        }
    }
    Ok(())
}
