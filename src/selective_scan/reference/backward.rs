//! The backward reference: the reverse recurrence in f64.
//!
//! With dy_t = dout_t silu(z_t), q_tn = a_tn h_{t-1,n} (0 at a reset), and g = ∂loss/∂h, from the
//! last step down:
//!
//! ```text
//! g_tn  = a_{t+1,n} g_{t+1,n} + dy_t C_tn        (dlast_state in place of the first term at the end)
//! w_t   = Σ_n g_tn B_tn
//! du_t  = D dy_t + Δ_t w_t
//! dΔ_t  = u_t w_t + Σ_n A_n g_tn q_tn
//! ```

use std::ops::Range;

use super::{Arrays, Place, map_index, silu};
use crate::Result;
use crate::backend::Cpu;
use crate::element::Float;
use crate::resets::Step;
use crate::selective_scan::{GradientsMut, Inputs, Layout, Options, OutputGradients, Problem};
use crate::tensor::{Tensor, View};

/// The gradients of a scan's inputs, exact up to f64 rounding; those of absent inputs as if they
/// were there and zero.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ExactGradients {
    /// (B, D, L), whatever the layout of the call.
    pub du: Vec<f64>,
    /// As `du`.
    pub ddelta: Vec<f64>,
    /// As `du`; 0 without `z`.
    pub dz: Vec<f64>,
    /// (D, N) or (D), as `A`.
    pub da: Vec<f64>,
    /// (B, G, N, L), whatever the layout; (D, N) where constant.
    pub db: Vec<f64>,
    /// As `db`.
    pub dc: Vec<f64>,
    /// (D).
    pub dd: Vec<f64>,
    /// (D).
    pub ddelta_bias: Vec<f64>,
    /// (B, D, N); packed (S, D, N).
    pub dh0: Vec<f64>,
    /// The largest of the terms, one for each batch element and step, whose sums `da`, `dd` and
    /// `ddelta_bias` are. With few channels these sums may all be far smaller than their terms.
    pub terms: [f64; 3],
    /// The largest gradient of a state that is then decayed into `dh0`. Of e^-x with a large x
    /// the digits of x are lost.
    pub before_decay: f64,
}

/// Evaluates the gradients in f64, one step after the other.
///
/// # Errors
///
/// As [`backward`](crate::selective_scan::backward), for inputs on the CPU.
pub fn backward<T: Float>(
    inputs: &Inputs<'_, Cpu, T>,
    options: &Options,
    outer: &OutputGradients<'_, Cpu, T>,
) -> Result<ExactGradients> {
    let problem = Problem::check(inputs, options)?;
    problem.check_values(inputs)?;
    let reverse = Reverse {
        problem: &problem,
        options,
        arrays: Arrays::read(inputs, options)?,
        meanings: inputs.resets.meanings(problem.batch, problem.steps)?,
        dout: Arrays::time_last(outer.dout, options)?,
        dlast_state: outer.dlast_state.map(|state| state.to_f64()).transpose()?,
    };
    let Problem { batch, channels, steps, states, groups, .. } = problem;
    let map = |constant: bool| match constant {
        true => channels * states,
        false => batch * groups * states * steps,
    };
    let activation = || vec![0.0; batch * channels * steps];
    let mut exact = ExactGradients {
        du: activation(),
        ddelta: activation(),
        dz: activation(),
        da: vec![0.0; inputs.a.elements()],
        db: vec![0.0; map(problem.b_constant)],
        dc: vec![0.0; map(problem.c_constant)],
        dd: vec![0.0; channels],
        ddelta_bias: vec![0.0; channels],
        dh0: vec![0.0; problem.rows * channels * states],
        terms: [0.0; 3],
        before_decay: 0.0,
    };
    for (row, (batch, steps)) in inputs.resets.rows(batch, steps)?.into_iter().enumerate() {
        for channel in 0..channels {
            reverse.channel(Place { row, batch, channel }, steps.clone(), &mut exact);
        }
    }
    Ok(exact)
}

/// A call, read.
struct Reverse<'a> {
    problem: &'a Problem,
    options: &'a Options,
    arrays: Arrays,
    /// (B, L).
    meanings: Vec<Step>,
    /// (B, D, L).
    dout: Vec<f64>,
    dlast_state: Option<Vec<f64>>,
}

/// What the forward pass went through at one ordinary step.
struct Visit {
    t: usize,
    reset: bool,
    /// h_{t-1} and h_t.
    before: Vec<f64>,
    after: Vec<f64>,
}

impl Reverse<'_> {
    /// The gradients of one channel of one row.
    fn channel(&self, place: Place, steps: Range<usize>, exact: &mut ExactGradients) {
        let states = self.problem.states;
        let state = (place.row * self.problem.channels + place.channel) * states;
        let mut carry = match &self.dlast_state {
            Some(dlast_state) => dlast_state[state..][..states].to_vec(),
            None => vec![0.0; states],
        };
        for visit in self.visits(place, steps).into_iter().rev() {
            self.step(place, &visit, &mut carry, exact);
        }
        exact.dh0[state..][..states].copy_from_slice(&carry);
    }

    /// The forward recurrence again; padding is passed by.
    fn visits(&self, place: Place, steps: Range<usize>) -> Vec<Visit> {
        let mut h = self.arrays.initial_state(self.problem, place);
        let mut visits = Vec::with_capacity(steps.len());
        for t in steps {
            let meaning = self.meanings[place.batch * self.problem.steps + t];
            if meaning == Step::Padding {
                continue;
            }
            let before = h.clone();
            for (n, h) in h.iter_mut().enumerate() {
                *h = self.arrays.next_state(self.problem, self.options, place, (n, t), meaning, *h);
            }
            visits.push(Visit { t, reset: meaning == Step::Reset, before, after: h.clone() });
        }
        visits
    }

    /// One step down; `carry` goes from a_{t+1} g_{t+1} to a_t g_t.
    fn step(&self, place: Place, visit: &Visit, carry: &mut [f64], exact: &mut ExactGradients) {
        let Self { problem, options, arrays, .. } = self;
        let Place { batch, channel, .. } = place;
        let t = visit.t;
        let i = (batch * problem.channels + channel) * problem.steps + t;
        let step_size = arrays.step_size(options, channel, i);
        let u = arrays.u[i];
        let d = arrays.d.as_ref().map_or(0.0, |d| d[channel]);
        let dy = self.dout[i] * arrays.z.as_ref().map_or(1.0, |z| silu(z[i]));
        let (mut w, mut dstep, mut y) = (0.0, 0.0, d * u);
        for (n, carry) in carry.iter_mut().enumerate() {
            let b = map_index(problem, problem.b_constant, place, n, t);
            let c = map_index(problem, problem.c_constant, place, n, t);
            let a_index = arrays.a_index(problem, channel, n);
            let a = arrays.a[a_index];
            let decay = (step_size * a).exp();
            let g = *carry + dy * arrays.c[c];
            let q = if visit.reset { 0.0 } else { decay * visit.before[n] };
            y += arrays.c[c] * visit.after[n];
            w += g * arrays.b[b];
            dstep += a * g * q;
            exact.add(Sum::A, a_index, step_size * g * q);
            exact.db[b] += g * step_size * u;
            exact.dc[c] += dy * visit.after[n];
            exact.before_decay = exact.before_decay.max(g.abs());
            *carry = if visit.reset { 0.0 } else { decay * g };
        }
        exact.du[i] = d * dy + step_size * w;
        exact.add(Sum::D, channel, dy * u);
        if let Some(z) = &arrays.z {
            exact.dz[i] = self.dout[i] * y * silu_slope(z[i]);
        }
        let ddelta = (dstep + u * w) * arrays.step_slope(options, channel, i);
        exact.ddelta[i] = ddelta;
        exact.add(Sum::Bias, channel, ddelta);
    }
}

/// A gradient that sums over batch and time; the numbers are places in `terms`.
#[derive(Clone, Copy)]
enum Sum {
    A = 0,
    D = 1,
    Bias = 2,
}

impl ExactGradients {
    /// Adds a term.
    fn add(&mut self, sum: Sum, i: usize, term: f64) {
        match sum {
            Sum::A => self.da[i] += term,
            Sum::D => self.dd[i] += term,
            Sum::Bias => self.ddelta_bias[i] += term,
        }
        let largest = &mut self.terms[sum as usize];
        *largest = largest.max(term.abs());
    }

    /// Rounds the gradients into those that a call asks for.
    pub(in crate::selective_scan) fn write<T: Float>(
        &self,
        layout: Layout,
        gradients: &GradientsMut<'_, Cpu, T>,
    ) -> Result<()> {
        let activation = |tensor: Option<&Tensor<Cpu, T>>, values: &[f64]| match (tensor, layout) {
            (None, _) => Ok(()),
            (Some(tensor), Layout::Bdl) => tensor.write_f64(values),
            (Some(tensor), Layout::Bld) => tensor.transposed(1, 2)?.write_f64(values),
        };
        let map = |view: Option<&View<Cpu>>, values: &[f64]| match (view, layout) {
            (None, _) => Ok(()),
            (Some(view), Layout::Bld) if view.shape().len() == 4 => {
                view.transposed(1, 2)?.transposed(2, 3)?.write_f64(values)
            }
            (Some(view), _) => view.write_f64(values),
        };
        let state = |tensor: Option<&Tensor<Cpu, T::State>>, values: &[f64]| {
            tensor.map_or(Ok(()), |tensor| tensor.write_f64(values))
        };
        activation(gradients.du.as_deref(), &self.du)?;
        activation(gradients.ddelta.as_deref(), &self.ddelta)?;
        activation(gradients.dz.as_deref(), &self.dz)?;
        map(gradients.db.as_deref(), &self.db)?;
        map(gradients.dc.as_deref(), &self.dc)?;
        state(gradients.da.as_deref(), &self.da)?;
        state(gradients.dd.as_deref(), &self.dd)?;
        state(gradients.ddelta_bias.as_deref(), &self.ddelta_bias)?;
        state(gradients.dh0.as_deref(), &self.dh0)
    }
}

/// The derivative of silu.
fn silu_slope(x: f64) -> f64 {
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    sigmoid * (1.0 + x * (1.0 - sigmoid))
}
