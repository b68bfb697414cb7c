//! The CPU backend: the reference for f64, SIMD over the states of a channel for the others.

use std::f32::consts::LOG2_E;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::check::CHECK;
use super::{Call, NAME, Options, Plan, Problem, StateUpdate, plan, reference};
use crate::Result;
use crate::backend::Cpu;
use crate::backend::cpu::aligned::{Aligned, elements, elements_mut};
use crate::backend::cpu::disjoint::Disjoint;
use crate::backend::cpu::lanes;
use crate::element::{DType, DeviceFloat};
use crate::list::CpuVariant;
use crate::parameter::Parameter;
use crate::tensor::View;
use crate::{bf16, f16};

/// The CPU's kernels.
pub(crate) const VARIANTS: [CpuVariant; 2] = [
    CpuVariant {
        operation: NAME,
        pass: "update",
        elements: &[DType::F32, DType::BF16, DType::F16],
        layout: "",
        name: SIMD,
    },
    CpuVariant {
        operation: NAME,
        pass: "update",
        elements: &[DType::F64],
        layout: "",
        name: REFERENCE,
    },
];

const SIMD: &str = "state_update_simd";
const REFERENCE: &str = "state_update_reference";

impl StateUpdate<f64> for Cpu {
    fn plan(&self, _problem: &Problem, options: &Options) -> Result<Plan> {
        plan::only("cpu", REFERENCE, blocks(1), "f64 runs the reference".to_owned(), options)
    }

    fn preload(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }

    fn launch(&self, _plan: &Plan, _problem: &Problem, call: &Call<'_, Self, f64>) -> Result<()> {
        reference::update(call.state, call.inputs, call.options)?.write(call.state, call.outputs)
    }
}

impl<T: DeviceFloat> StateUpdate<T> for Cpu {
    fn plan(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        let reason = "the states of a channel lie across the lanes; entries and blocks of channels \
                      are done in parallel";
        plan::only("cpu", SIMD, blocks(tasks(problem)), reason.to_owned(), options)
    }

    fn preload(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }

    fn launch(&self, _plan: &Plan, problem: &Problem, call: &Call<'_, Self, T>) -> Result<()> {
        problem.check_values(call.inputs, call.options)?;
        match problem.state_dtype {
            DType::BF16 => run::<T, bf16>(problem, call),
            DType::F16 => run::<T, f16>(problem, call),
            _ => run::<T, f32>(problem, call),
        }
    }
}

/// Heads of a task: enough channels that a task is worth its start.
fn heads_together(problem: &Problem) -> usize {
    const CHANNELS: usize = 256;
    CHANNELS.div_ceil(problem.width.max(1))
}

fn blocks(tasks: usize) -> [u32; 3] {
    [u32::try_from(tasks).unwrap_or(u32::MAX), 1, 1]
}

fn tasks(problem: &Problem) -> usize {
    problem.batch * problem.heads.div_ceil(heads_together(problem))
}

/// A call, ready to be run by tasks.
struct Update<'a, T, E> {
    problem: &'a Problem,
    options: &'a Options,
    x: Activation<'a, T>,
    dt: Activation<'a, T>,
    z: Option<Activation<'a, T>>,
    b: Map<'a, T>,
    c: Map<'a, T>,
    a: Vec<f32>,
    d: Option<Vec<f32>>,
    dt_bias: Option<Vec<f32>>,
    read: Vec<i64>,
    written: Vec<i64>,
    /// Slots of the states, which tasks read and write at channels of their own.
    state: Disjoint<'a, E>,
    slot_stride: usize,
    out: Disjoint<'a, T>,
    out_strides: [usize; 2],
    states: Option<Disjoint<'a, E>>,
}

/// An activation: its elements, and the strides of entries and steps.
struct Activation<'a, T> {
    values: &'a [T],
    strides: [usize; 2],
}

impl<T: Copy> Activation<'_, T> {
    fn at(&self, b: usize, step: usize, place: usize) -> T {
        self.values[b * self.strides[0] + step * self.strides[1] + place]
    }
}

/// B or C: its elements, and the strides of entries, steps and groups.
struct Map<'a, T> {
    values: &'a [T],
    strides: [usize; 3],
}

fn run<T: DeviceFloat, E: DeviceFloat>(problem: &Problem, call: &Call<'_, Cpu, T>) -> Result<()> {
    let &Call { state, inputs, options, outputs } = call;
    let (x, dt) = (inputs.x.read()?, inputs.dt.read()?);
    let (b, c) = (inputs.b.read()?, inputs.c.read()?);
    let z = inputs.z.map(|z| z.read()).transpose()?;
    let (read, written) = problem.slots_of(inputs)?;
    let mut state_bytes = state.view().write()?;
    let mut out = outputs.out.write()?;
    let mut states = outputs.states.as_ref().map(|states| states.write()).transpose()?;
    let activation = |name: &str, bytes, view: &View<Cpu>| -> Result<Activation<'_, T>> {
        let strides = problem.line_strides(view).map(|stride| stride as usize);
        Ok(Activation { values: elements(CHECK, name, bytes)?, strides })
    };
    let map = |name: &str, bytes, view: &View<Cpu>| -> Result<Map<'_, T>> {
        let strides = problem.map_strides(view).map(|stride| stride as usize);
        Ok(Map { values: elements(CHECK, name, bytes)?, strides })
    };
    let optional = |parameter: Option<Parameter<'_, Cpu>>| {
        parameter.map(|parameter| parameter.to_f32()).transpose()
    };
    let update = Update::<T, E> {
        problem,
        options,
        x: activation("x", &x, inputs.x)?,
        dt: activation("dt", &dt, inputs.dt)?,
        z: match (&z, inputs.z) {
            (Some(bytes), Some(z)) => Some(activation("z", bytes, z)?),
            _ => None,
        },
        b: map("B", &b, inputs.b)?,
        c: map("C", &c, inputs.c)?,
        a: inputs.a.to_f32()?,
        d: optional(inputs.d)?,
        dt_bias: optional(inputs.dt_bias)?,
        read,
        written,
        state: Disjoint::new(elements_mut(CHECK, "state", &mut state_bytes)?),
        // Without states every line is the empty one at the start.
        slot_stride: if problem.states > 0 { state.view().strides()[0] } else { 0 },
        out: Disjoint::new(elements_mut(CHECK, "out", &mut out)?),
        out_strides: problem.line_strides(outputs.out).map(|stride| stride as usize),
        states: match &mut states {
            Some(bytes) => Some(Disjoint::new(elements_mut(CHECK, "states", bytes)?)),
            None => None,
        },
    };
    let (heads, together) = (problem.heads, heads_together(problem));
    let parts = heads.div_ceil(together);
    let arch = Arch::new();
    (0..problem.batch * parts).into_par_iter().for_each_init(Scratch::<E>::new, |scratch, i| {
        let (entry, first) = (i / parts, i % parts * together);
        for head in first..heads.min(first + together) {
            arch.dispatch(Head { update: &update, scratch: &mut *scratch, entry, head });
        }
    });
    Ok(())
}

/// What a thread keeps between heads, in f32, in whole vectors.
struct Scratch<E> {
    /// A log2(e) of a channel, (N).
    a: Aligned,
    /// B and C of all steps, (M, N).
    b: Aligned,
    c: Aligned,
    /// The state of a channel, (N).
    h: Aligned,
    /// The same as it is stored.
    stored: Vec<E>,
}

impl<E> Scratch<E> {
    fn new() -> Self {
        let [a, b, c, h] = std::array::from_fn(|_| Aligned::default());
        Self { a, b, c, h, stored: Vec::new() }
    }
}

/// All channels of one head of one entry.
struct Head<'a, 'call, T, E> {
    update: &'a Update<'call, T, E>,
    scratch: &'a mut Scratch<E>,
    entry: usize,
    head: usize,
}

impl<T: DeviceFloat, E: DeviceFloat> WithSimd for Head<'_, '_, T, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let problem = self.update.problem;
        let channels = self.head * problem.width..(self.head + 1) * problem.width;
        if self.update.read[self.entry] < 0 {
            for channel in channels {
                for step in 0..problem.steps {
                    self.put_out(step, channel, 0.0);
                }
            }
            return;
        }
        let padded = problem.states.next_multiple_of(S::F32_LANES);
        self.begin(padded);
        for channel in channels {
            self.load(channel);
            for step in 0..problem.steps {
                let y = self.step(simd, step, channel, padded);
                self.put_out(step, channel, y);
                self.put_states(step, channel);
            }
            self.store(channel);
        }
    }
}

impl<T: DeviceFloat, E: DeviceFloat> Head<'_, '_, T, E> {
    /// Brings in B and C of all steps, and A where one serves the head. Lanes beyond N hold zeros
    /// throughout, and stay zero.
    fn begin(&mut self, padded: usize) {
        let Update { problem, a, .. } = self.update;
        if problem.states == 0 {
            return;
        }
        let group = self.head / (problem.heads / problem.groups);
        let Scratch { a: scaled, b, c, h, stored } = &mut *self.scratch;
        for (place, map) in [(b, &self.update.b), (c, &self.update.c)] {
            place.reset(problem.steps * padded);
            for step in 0..problem.steps {
                let [entry, of_step, of_group] = map.strides;
                let first = self.entry * entry + step * of_step + group * of_group;
                let line = &mut place[step * padded..][..problem.states];
                T::widen(&map.values[first..][..problem.states], line);
            }
        }
        h.reset(padded);
        stored.resize(problem.states, E::from_f32(0.0));
        scaled.reset(padded);
        if problem.a_tied {
            scaled[..problem.states].fill(a[self.head] * LOG2_E);
        }
    }

    /// Brings in the state of a channel, and its A.
    fn load(&mut self, channel: usize) {
        let Update { problem, a, state, read, slot_stride, .. } = self.update;
        let states = problem.states;
        let first = read[self.entry] as usize * slot_stride + channel * states;
        let Scratch { h, stored, .. } = &mut *self.scratch;
        // SAFETY: no other entry writes the slot, by `check_values`, and no other task this
        // channel of this entry.
        unsafe { state.read_run(first, stored) };
        E::widen(stored, &mut h[..states]);
        if !problem.a_tied {
            let line = self.scratch.a[..states].iter_mut().zip(&a[channel * states..]);
            line.for_each(|(scaled, a)| *scaled = a * LOG2_E);
        }
    }

    /// Moves the state on by one step, and gives the output.
    #[inline(always)]
    fn step<S: Simd>(&mut self, simd: S, step: usize, channel: usize, padded: usize) -> f32 {
        let Update { problem, x, z, d, .. } = self.update;
        let x = x.at(self.entry, step, channel).to_f32();
        let size = self.step_size(simd, step, channel);
        let Scratch { a, b, c, h, .. } = &mut *self.scratch;
        let vectors = |values| S::as_simd_f32s(values).0;
        let (a, b, c) = (
            vectors(a),
            vectors(&b[step * padded..][..padded]),
            vectors(&c[step * padded..][..padded]),
        );
        let h = S::as_mut_simd_f32s(h).0;
        let (sizes, taken) = (simd.splat_f32s(size), simd.splat_f32s(size * x));
        // Without states there is no A.
        let tied = a.first().copied().unwrap_or(sizes);
        let tied = lanes::exp2(simd, simd.mul_f32s(sizes, tied));
        let mut y = simd.splat_f32s(0.0);
        for (((h, &a), &b), &c) in h.iter_mut().zip(a).zip(b).zip(c) {
            let decay = match problem.a_tied {
                true => tied,
                false => lanes::exp2(simd, simd.mul_f32s(sizes, a)),
            };
            *h = decay.times(simd, *h, simd.mul_f32s(taken, b));
            y = simd.mul_add_f32s(c, *h, y);
        }
        let head = channel / problem.width;
        let d = d.as_ref().map_or(0.0, |d| d[if problem.d_tied { head } else { channel }]);
        let y = d.mul_add(x, simd.reduce_sum_f32s(y));
        match z {
            None => y,
            Some(z) => {
                let z = z.at(self.entry, step, channel).to_f32();
                y * first_lane(simd, lanes::silu(simd, simd.splat_f32s(z)))
            }
        }
    }

    /// Δ.
    #[inline(always)]
    fn step_size<S: Simd>(&self, simd: S, step: usize, channel: usize) -> f32 {
        let Update { problem, options, dt, dt_bias, .. } = self.update;
        let of = |tied: bool| if tied { self.head } else { channel };
        let bias = dt_bias.as_ref().map_or(0.0, |bias| bias[of(problem.dt_bias_tied)]);
        let mut size = dt.at(self.entry, step, of(problem.dt_tied)).to_f32() + bias;
        if options.dt_softplus {
            let mut values = [simd.splat_f32s(size)];
            lanes::softplus(simd, &mut values);
            size = first_lane(simd, values[0]);
        }
        match options.dt_clamp {
            // Comparisons, so that a NaN stays a NaN.
            Some((min, _)) if size < min => min,
            Some((_, max)) if size > max => max,
            _ => size,
        }
    }

    fn put_out(&self, step: usize, channel: usize, y: f32) {
        let [entry, of_step] = self.update.out_strides;
        let index = self.entry * entry + step * of_step + channel;
        // SAFETY: each task has an entry and channels of its own.
        unsafe { self.update.out.write(index, T::from_f32(y)) }
    }

    /// Rounds the state to its type; steps of half-precision states go on from what is stored.
    fn put_states(&mut self, step: usize, channel: usize) {
        let Update { problem, states, .. } = self.update;
        let line = (self.entry * problem.steps + step) * problem.channels() + channel;
        let Scratch { h, stored, .. } = &mut *self.scratch;
        E::narrow(&h[..problem.states], stored);
        E::widen(stored, &mut h[..problem.states]);
        if let Some(states) = states {
            // SAFETY: each task has an entry and channels of its own.
            unsafe { states.write_run(line * problem.states, stored) }
        }
    }

    /// Stores the state of a channel into the slot that is written.
    fn store(&self, channel: usize) {
        let Update { problem, options, state, written, slot_stride, .. } = self.update;
        let Ok(slot) = usize::try_from(written[self.entry]) else { return };
        if options.keep_state {
            return;
        }
        let first = slot * slot_stride + channel * problem.states;
        // SAFETY: no other entry touches a slot that is written, by `check_values`.
        unsafe { state.write_run(first, &self.scratch.stored) }
    }
}

fn first_lane<S: Simd>(_simd: S, vector: S::f32s) -> f32 {
    bytemuck::cast_slice(std::slice::from_ref(&vector))[0]
}
