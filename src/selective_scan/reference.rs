//! The reference: the loops of the paper in f64.

use std::ops::Range;

use super::{CHECKPOINT, Inputs, Layout, Options, OutputsMut, Problem};
use crate::Result;
use crate::backend::Cpu;
use crate::element::Float;
use crate::resets::Step;
use crate::tensor::{Tensor, View};

mod backward;

pub use backward::{ExactGradients, backward};

/// What a scan gives, exact up to f64 rounding.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Exact {
    /// (B, D, L), whatever the layout of the call.
    pub out: Vec<f64>,
    /// (B, D, N); packed (S, D, N).
    pub last_state: Vec<f64>,
    /// (B, D, ceil(L / [`CHECKPOINT`]), N).
    pub saved: Vec<f64>,
}

/// Evaluates the scan in f64, one step after the other.
///
/// # Errors
///
/// As [`forward`](super::forward), for inputs on the CPU.
pub fn forward<T: Float>(inputs: &Inputs<'_, Cpu, T>, options: &Options) -> Result<Exact> {
    let problem = Problem::check(inputs, options)?;
    problem.check_values(inputs)?;
    let arrays = Arrays::read(inputs, options)?;
    let meanings = inputs.resets.meanings(problem.batch, problem.steps)?;
    let Problem { batch, channels, steps, states, .. } = problem;
    let mut exact = Exact {
        out: vec![0.0; batch * channels * steps],
        last_state: vec![0.0; problem.rows * channels * states],
        saved: vec![0.0; batch * channels * problem.checkpoints() * states],
    };
    for (row, (batch, steps)) in
        inputs.resets.rows(problem.batch, problem.steps)?.into_iter().enumerate()
    {
        for channel in 0..channels {
            let place = Place { row, batch, channel };
            arrays.scan(&problem, options, &meanings, place, steps.clone(), &mut exact);
        }
    }
    Ok(exact)
}

/// One channel of one row.
#[derive(Clone, Copy)]
struct Place {
    /// The batch entry, or the packed sequence.
    row: usize,
    batch: usize,
    channel: usize,
}

/// The inputs as f64: activations (B, D, L), variable maps (B, G, N, L), constant ones (D, N).
struct Arrays {
    u: Vec<f64>,
    delta: Vec<f64>,
    a: Vec<f64>,
    b: Vec<f64>,
    c: Vec<f64>,
    d: Option<Vec<f64>>,
    z: Option<Vec<f64>>,
    delta_bias: Option<Vec<f64>>,
    h0: Option<Vec<f64>>,
}

impl Arrays {
    fn read<T: Float>(inputs: &Inputs<'_, Cpu, T>, options: &Options) -> Result<Self> {
        let time_last = |view: &View<Cpu>| Self::time_last(view, options);
        Ok(Self {
            u: time_last(inputs.u)?,
            delta: time_last(inputs.delta)?,
            a: inputs.a.to_f64()?,
            b: time_last(&inputs.b)?,
            c: time_last(&inputs.c)?,
            d: inputs.d.map(|d| d.to_f64()).transpose()?,
            z: inputs.z.map(|z| time_last(z)).transpose()?,
            delta_bias: inputs.delta_bias.map(|bias| bias.to_f64()).transpose()?,
            h0: inputs.h0.map(|h0| h0.to_f64()).transpose()?,
        })
    }

    /// The elements of an activation, or of a map, with time as the fastest axis.
    fn time_last(view: &View<Cpu>, options: &Options) -> Result<Vec<f64>> {
        match (options.layout, view.shape().len()) {
            (Layout::Bld, 3) => view.transposed(1, 2)?.to_f64(),
            (Layout::Bld, 4) => view.transposed(1, 2)?.transposed(2, 3)?.to_f64(),
            _ => view.to_f64(),
        }
    }

    /// h before the first step.
    fn initial_state(&self, problem: &Problem, place: Place) -> Vec<f64> {
        let states = problem.states;
        let state = (place.row * problem.channels + place.channel) * states;
        match &self.h0 {
            Some(h0) => h0[state..][..states].to_vec(),
            None => vec![0.0; states],
        }
    }

    /// h_tn from h_{t-1,n}, at a step that is no padding.
    fn next_state(
        &self,
        problem: &Problem,
        options: &Options,
        place: Place,
        (n, t): (usize, usize),
        meaning: Step,
        h: f64,
    ) -> f64 {
        let i = (place.batch * problem.channels + place.channel) * problem.steps + t;
        let step_size = self.step_size(options, place.channel, i);
        let a = self.a[self.a_index(problem, place.channel, n)];
        let b = self.b[map_index(problem, problem.b_constant, place, n, t)];
        let decayed = if meaning == Step::Reset { 0.0 } else { (step_size * a).exp() * h };
        decayed + step_size * b * self.u[i]
    }

    /// Where A_n lies.
    fn a_index(&self, problem: &Problem, channel: usize, n: usize) -> usize {
        match problem.a_per_channel {
            true => channel,
            false => channel * problem.states + n,
        }
    }

    /// The recurrence of one channel over the steps of one row.
    fn scan(
        &self,
        problem: &Problem,
        options: &Options,
        meanings: &[Step],
        place: Place,
        steps: Range<usize>,
        exact: &mut Exact,
    ) {
        let Place { row, batch, channel } = place;
        let states = problem.states;
        let state = (row * problem.channels + channel) * states;
        let mut h = self.initial_state(problem, place);
        let line = batch * problem.channels + channel;
        for t in steps {
            let i = line * problem.steps + t;
            let meaning = meanings[batch * problem.steps + t];
            if meaning != Step::Padding {
                let mut y = self.d.as_ref().map_or(0.0, |d| d[channel] * self.u[i]);
                for (n, h) in h.iter_mut().enumerate() {
                    let c = self.c[map_index(problem, problem.c_constant, place, n, t)];
                    *h = self.next_state(problem, options, place, (n, t), meaning, *h);
                    y += c * *h;
                }
                exact.out[i] = self.z.as_ref().map_or(y, |z| y * silu(z[i]));
            }
            if (t + 1) % CHECKPOINT == 0 || t + 1 == problem.steps {
                let checkpoint = line * problem.checkpoints() + t / CHECKPOINT;
                exact.saved[checkpoint * states..][..states].copy_from_slice(&h);
            }
        }
        exact.last_state[state..][..states].copy_from_slice(&h);
    }

    /// Δ_t.
    fn step_size(&self, options: &Options, channel: usize, i: usize) -> f64 {
        let s = self.unclamped(options, channel, i);
        match options.delta_clamp {
            // Comparisons, so that a NaN stays a NaN.
            Some((min, _)) if s < f64::from(min) => f64::from(min),
            Some((_, max)) if s > f64::from(max) => f64::from(max),
            _ => s,
        }
    }

    /// dΔ_t / ddelta_t.
    fn step_slope(&self, options: &Options, channel: usize, i: usize) -> f64 {
        let s = self.unclamped(options, channel, i);
        let p = self.raw(channel, i);
        match options.delta_clamp {
            Some((min, max)) if s < f64::from(min) || s > f64::from(max) => 0.0,
            _ if options.delta_softplus && p <= 20.0 => 1.0 / (1.0 + (-p).exp()),
            _ => 1.0,
        }
    }

    /// s_t.
    fn unclamped(&self, options: &Options, channel: usize, i: usize) -> f64 {
        let p = self.raw(channel, i);
        if options.delta_softplus { softplus(p) } else { p }
    }

    /// p_t.
    fn raw(&self, channel: usize, i: usize) -> f64 {
        self.delta[i] + self.delta_bias.as_ref().map_or(0.0, |bias| bias[channel])
    }
}

/// Where B_tn or C_tn lies.
fn map_index(problem: &Problem, constant: bool, place: Place, n: usize, t: usize) -> usize {
    if constant {
        return place.channel * problem.states + n;
    }
    let group = place.channel / problem.group_channels();
    ((place.batch * problem.groups + group) * problem.states + n) * problem.steps + t
}

impl Exact {
    /// Rounds the results into a call's outputs.
    pub(super) fn write<T: Float>(
        &self,
        layout: Layout,
        outputs: &OutputsMut<'_, Cpu, T>,
    ) -> Result<()> {
        match layout {
            Layout::Bdl => outputs.out.write_f64(&self.out)?,
            Layout::Bld => outputs.out.transposed(1, 2)?.write_f64(&self.out)?,
        }
        let write = |tensor: Option<&Tensor<Cpu, T::State>>, values: &[f64]| {
            tensor.map_or(Ok(()), |tensor| tensor.write_f64(values))
        };
        write(outputs.last_state.as_deref(), &self.last_state)?;
        write(outputs.saved.as_deref(), &self.saved)
    }
}

/// log(1 + eˣ), without overflow.
fn softplus(x: f64) -> f64 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

/// x sigmoid(x).
fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}
