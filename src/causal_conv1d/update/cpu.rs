//! The CPU backend: the reference for f64, SIMD over channels for the others.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::check::{CHECK, Places, strides};
use super::{CausalConv1dUpdate, Inputs, NAME, Problem, plan, reference};
use crate::Result;
use crate::backend::Cpu;
use crate::backend::cpu::aligned::{Aligned, elements, elements_mut};
use crate::backend::cpu::disjoint::Disjoint;
use crate::causal_conv1d::cpu::taps::{Convolve, Reach, Weights};
use crate::causal_conv1d::{MAX_WIDTH, Options, Plan};
use crate::element::{DType, DeviceFloat};
use crate::list::CpuVariant;
use crate::tensor::{Tensor, View};

const SIMD: &str = "causal_conv1d_update_simd";
const REFERENCE: &str = "causal_conv1d_update_reference";

/// The CPU's kernels.
pub(crate) const VARIANTS: [CpuVariant; 2] = [
    CpuVariant {
        operation: NAME,
        pass: "update",
        elements: &[DType::F32, DType::BF16, DType::F16],
        layout: "BDL BLD",
        name: SIMD,
    },
    CpuVariant {
        operation: NAME,
        pass: "update",
        elements: &[DType::F64],
        layout: "BDL BLD",
        name: REFERENCE,
    },
];

/// Most channels of a task.
const CHANNELS: usize = 64;

/// f64 runs the reference.
impl CausalConv1dUpdate<f64> for Cpu {
    fn plan_update(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::only("cpu", REFERENCE, tasks(problem), options)
    }

    fn preload_update(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }

    fn launch_update(
        &self,
        _plan: &Plan,
        _problem: &Problem,
        inputs: &Inputs<'_, Self, f64>,
        conv_state: &View<Self>,
        options: &Options,
        out: &Tensor<Self, f64>,
    ) -> Result<()> {
        let exact = reference::update(inputs, conv_state, options)?;
        out.write_f64(&exact.out)?;
        conv_state.write_f64(&exact.conv_state)
    }
}

impl<T: DeviceFloat> CausalConv1dUpdate<T> for Cpu {
    fn plan_update(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::only("cpu", SIMD, tasks(problem), options)
    }

    fn preload_update(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }

    fn launch_update(
        &self,
        _plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        conv_state: &View<Self>,
        options: &Options,
        out: &Tensor<Self, T>,
    ) -> Result<()> {
        let call = Tensors { problem, inputs, conv_state, options, out };
        match conv_state.dtype() == T::DTYPE {
            true => call.run::<T>(),
            false => call.run::<f32>(),
        }
    }
}

fn tasks(problem: &Problem) -> [u32; 3] {
    let tasks = problem.batch * problem.channels.div_ceil(CHANNELS);
    [u32::try_from(tasks).unwrap_or(u32::MAX), 1, 1]
}

/// The tensors of a call.
struct Tensors<'a, T: DeviceFloat> {
    problem: &'a Problem,
    inputs: &'a Inputs<'a, Cpu, T>,
    conv_state: &'a View<Cpu>,
    options: &'a Options,
    out: &'a Tensor<Cpu, T>,
}

impl<T: DeviceFloat> Tensors<'_, T> {
    /// Runs the update with states of type `S`.
    fn run<S: DeviceFloat>(&self) -> Result<()> {
        let &Self { problem, inputs, conv_state, options, out } = self;
        let places = Places::read(problem, inputs)?;
        let x = inputs.x.read()?;
        let mut state = conv_state.write()?;
        let mut out_bytes = out.write()?;
        let call = Call::<T, S> {
            problem,
            options,
            places: &places,
            weight: inputs.weight.to_f32()?,
            bias: inputs.bias.map(|bias| bias.to_f32()).transpose()?,
            x: elements(CHECK, "x", &x)?,
            x_strides: strides(inputs.x, options.layout),
            state: Disjoint::new(elements_mut(CHECK, "conv_state", &mut state)?),
            state_strides: [0, 1, 2].map(|axis| conv_state.strides()[axis]),
            out: Disjoint::new(elements_mut(CHECK, "out", &mut out_bytes)?),
            out_strides: strides(out, options.layout),
        };
        let blocks = problem.channels.div_ceil(CHANNELS);
        let arch = Arch::new();
        (0..problem.batch * blocks).into_par_iter().for_each_init(
            Scratch::default,
            |scratch, i| {
                let first = i % blocks * CHANNELS;
                let channels = first..problem.channels.min(first + CHANNELS);
                arch.dispatch(Block { call: &call, scratch, batch: i / blocks, channels });
            },
        );
        Ok(())
    }
}

/// A call, ready to be run by tasks.
struct Call<'a, T, S> {
    problem: &'a Problem,
    options: &'a Options,
    places: &'a Places,
    /// (D, W).
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    x: &'a [T],
    /// Of batch entries, channels and steps.
    x_strides: [usize; 3],
    state: Disjoint<'a, S>,
    /// Of slots, channels and entries.
    state_strides: [usize; 3],
    out: Disjoint<'a, T>,
    out_strides: [usize; 3],
}

/// What a thread works in; numbers of a step or a tap lie (channel), padded to whole vectors.
#[derive(Default)]
struct Scratch {
    /// By distance, then the bias.
    weights: [Aligned; MAX_WIDTH + 1],
    /// The history, then x: (step, channel).
    xs: Aligned,
    out: Aligned,
}

/// A task: some channels of one batch entry.
struct Block<'a, 'call, T, S> {
    call: &'a Call<'call, T, S>,
    scratch: &'a mut Scratch,
    batch: usize,
    channels: Range<usize>,
}

impl<T: DeviceFloat, S: DeviceFloat> WithSimd for Block<'_, '_, T, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<V: Simd>(mut self, simd: V) {
        let (call, steps) = (self.call, self.call.problem.steps);
        let width = call.problem.width;
        let Some(slot) = call.places.slots[self.batch] else {
            self.scratch.out.reset(steps * self.channels.len());
            return self.store(self.channels.len());
        };
        let stride = self.channels.len().next_multiple_of(V::F32_LANES);
        self.load_weights(stride);
        self.load_xs(slot, stride);
        let Scratch { weights, xs, out } = &mut *self.scratch;
        out.resize(steps * stride);
        let taps = Reach::Back.taps(width, xs, stride);
        let (weights, activation) = (Weights::new(width, weights), call.options.activation);
        Convolve { simd, weights, taps, activation, out }.run();
        self.store(stride);
        self.move_on(slot);
    }
}

impl<T: DeviceFloat, S: DeviceFloat> Block<'_, '_, T, S> {
    fn load_weights(&mut self, stride: usize) {
        let (call, width) = (self.call, self.call.problem.width);
        for (d, weights) in self.scratch.weights.iter_mut().enumerate() {
            weights.reset(stride);
            for (weight, channel) in weights.iter_mut().zip(self.channels.clone()) {
                *weight = match &call.bias {
                    _ if d < width => call.weight[channel * width + width - 1 - d],
                    Some(bias) if d == MAX_WIDTH => bias[channel],
                    _ => 0.0,
                };
            }
        }
    }

    /// The history, then x.
    fn load_xs(&mut self, slot: usize, stride: usize) {
        let (call, batch) = (self.call, self.batch);
        let Problem { steps, entries, .. } = *call.problem;
        let history = call.problem.history();
        self.scratch.xs.reset((history + steps) * stride);
        for (i, channel) in self.channels.clone().enumerate() {
            for t in 0..history {
                let entry = call.places.entry(batch, history - t, entries);
                // SAFETY: slots and channels of tasks are disjoint.
                let number = unsafe { call.entry(slot, channel, entry) };
                self.scratch.xs[t * stride + i] = number.to_f32();
            }
            for t in 0..steps {
                self.scratch.xs[(history + t) * stride + i] = call.x_at(batch, channel, t).to_f32();
            }
        }
    }

    fn store(&self, stride: usize) {
        let call = self.call;
        let [of_batch, of_channel, of_step] = call.out_strides;
        for t in 0..call.problem.steps {
            let line = &self.scratch.out[t * stride..];
            for (channel, &number) in self.channels.clone().zip(line) {
                let at = self.batch * of_batch + channel * of_channel + t * of_step;
                // SAFETY: batch entries and channels of tasks are disjoint.
                unsafe { call.out.write(at, T::from_f32(number)) };
            }
        }
    }

    /// Moves the states on.
    fn move_on(&self, slot: usize) {
        let (call, batch) = (self.call, self.batch);
        let Problem { steps, entries, .. } = *call.problem;
        for channel in self.channels.clone() {
            let new = |t| S::from_f32(call.x_at(batch, channel, t).to_f32());
            // SAFETY: slots and channels of tasks are disjoint.
            let entry = |k| unsafe { call.entry(slot, channel, k) };
            match &call.places.positions {
                // Upwards: what an entry takes lies above it.
                None => (0..entries).for_each(|k| {
                    *entry(k) = match (k + steps).checked_sub(entries) {
                        Some(t) => new(t),
                        None => *entry(k + steps),
                    };
                }),
                Some(positions) => (0..steps).filter(|_| entries > 0).for_each(|t| {
                    *entry((positions[batch] % entries + t) % entries) = new(t);
                }),
            }
        }
    }
}

impl<T: DeviceFloat, S: DeviceFloat> Call<'_, T, S> {
    fn x_at(&self, batch: usize, channel: usize, t: usize) -> T {
        let [of_batch, of_channel, of_step] = self.x_strides;
        self.x[batch * of_batch + channel * of_channel + t * of_step]
    }

    /// An entry of a state.
    ///
    /// # Safety
    ///
    /// No other task has the slot and the channel, and the caller holds no other reference to the
    /// entry.
    #[allow(clippy::mut_from_ref)]
    unsafe fn entry(&self, slot: usize, channel: usize, k: usize) -> &mut S {
        let [of_slot, of_channel, of_entry] = self.state_strides;
        let at = slot * of_slot + channel * of_channel + k * of_entry;
        // SAFETY: the caller's promise.
        unsafe { &mut self.state.run(at, 1)[0] }
    }
}
