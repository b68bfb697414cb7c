//! The reference: the recurrence in f64, one row and head after the other.
//!
//! Inputs are taken as they are, rounded to their types by the caller; nothing is rounded after.

mod element;

use super::{Direction, Inputs, Options, OutputGradients, Problem};
use crate::Result;
use crate::backend::Cpu;
use crate::element::Float;
use crate::parameter::Parameter;
use element::{Gates, States};

/// What a recurrence gives, exact up to f64 rounding.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Exact {
    /// Every step, (B, T, N, D) each, in the order of
    /// [`Cell::states`](super::Cell::states); 0 where a row has ended.
    pub states: Vec<Vec<f64>>,
    /// After the last step, (B, N, D) each, in the same order.
    pub last: Vec<Vec<f64>>,
}

/// Gradients, exact up to f64 rounding.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ExactGradients {
    /// (B, T, Gw, N, D).
    pub wx: Vec<f64>,
    /// (Gr, N, D, D).
    pub r: Vec<f64>,
    /// (Gb, N, D).
    pub b: Vec<f64>,
    /// Of h0, c0 and n0, (B, N, D) each, as far as the cell has them. That of m0 is 0.
    pub initial: Vec<Vec<f64>>,
}

/// Evaluates the recurrence in f64.
///
/// # Errors
///
/// What [`Problem::check`] finds, and [`Error::Value`](crate::Error::Value) where a length is not
/// within 0 and T.
pub fn forward<T: Float>(inputs: &Inputs<'_, Cpu, T>, options: &Options) -> Result<Exact> {
    let arrays = Arrays::read(inputs, options)?;
    let Problem { cell, batch, steps, heads, width, .. } = arrays.problem;
    let of_states = |length| vec![vec![0.0; length]; cell.states().len()];
    let mut exact = Exact {
        states: of_states(batch * steps * heads * width),
        last: of_states(batch * heads * width),
    };
    for place in arrays.places() {
        arrays.run(place, &mut exact);
    }
    Ok(exact)
}

/// Evaluates the gradients in f64.
///
/// # Errors
///
/// As [`forward`], and where gradients of outputs do not fit.
pub fn backward<T: Float>(
    inputs: &Inputs<'_, Cpu, T>,
    options: &Options,
    given: &OutputGradients<'_, Cpu, T>,
) -> Result<ExactGradients> {
    let arrays = Arrays::read(inputs, options)?;
    arrays.problem.check_given(inputs, given)?;
    let given = Given::read(given)?;
    let Problem { cell, batch, heads, width, .. } = arrays.problem;
    let differentiable = cell.states().len().min(3);
    let mut exact = ExactGradients {
        wx: vec![0.0; arrays.wx.len()],
        r: vec![0.0; arrays.r.len()],
        b: vec![0.0; cell.bias_gates().len() * heads * width],
        initial: vec![vec![0.0; batch * heads * width]; differentiable],
    };
    for place in arrays.places() {
        arrays.run_back(place, &given, &mut exact);
    }
    Ok(exact)
}

/// One head of one row, which nothing else reaches.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    head: usize,
}

/// The inputs as f64.
struct Arrays {
    problem: Problem,
    options: Options,
    wx: Vec<f64>,
    r: Vec<f64>,
    /// Empty where absent.
    b: Vec<f64>,
    /// Of h, c, n and m; empty where absent.
    initial: [Vec<f64>; 4],
    lengths: Vec<usize>,
}

/// Gradients of outputs as f64: of h, c and n; empty where absent.
struct Given {
    states: [Vec<f64>; 3],
    last: [Vec<f64>; 3],
}

impl Given {
    fn read<T: Float>(given: &OutputGradients<'_, Cpu, T>) -> Result<Self> {
        let dh = given.h.map(|h| h.to_f64()).transpose()?.unwrap_or_default();
        let last = given.last;
        Ok(Self {
            states: [dh, values(given.c)?, values(given.n)?],
            last: [values(last.h)?, values(last.c)?, values(last.n)?],
        })
    }
}

fn values(tensor: Option<Parameter<'_, Cpu>>) -> Result<Vec<f64>> {
    Ok(tensor.map(|tensor| tensor.to_f64()).transpose()?.unwrap_or_default())
}

/// The value at a place of a tensor, 0 where the tensor is absent.
fn value(tensor: &[f64], place: usize) -> f64 {
    tensor.get(place).copied().unwrap_or(0.0)
}

impl Arrays {
    fn read<T: Float>(inputs: &Inputs<'_, Cpu, T>, options: &Options) -> Result<Self> {
        let problem = Problem::check(inputs, options)?;
        let [h, c, n, m] = inputs.initial.all();
        Ok(Self {
            lengths: problem.read_lengths(inputs)?,
            options: options.clone(),
            wx: inputs.wx.to_f64()?,
            r: inputs.r.to_f64()?,
            b: values(inputs.b)?,
            initial: [values(h)?, values(c)?, values(n)?, values(m)?],
            problem,
        })
    }

    fn places(&self) -> impl Iterator<Item = Place> + use<> {
        let Problem { batch, heads, .. } = self.problem;
        (0..batch).flat_map(move |row| (0..heads).map(move |head| Place { row, head }))
    }

    /// The steps of a row, in the order in which they come.
    fn order(&self, place: Place) -> Vec<usize> {
        let steps = 0..self.lengths[place.row];
        match self.problem.direction {
            Direction::Forward => steps.collect(),
            Direction::Reverse => steps.rev().collect(),
        }
    }

    /// The first element of a head in tensors (B, N, D).
    fn at_row(&self, Place { row, head }: Place) -> usize {
        (row * self.problem.heads + head) * self.problem.width
    }

    /// The first element of a head in tensors (B, T, N, D).
    fn at_step(&self, Place { row, head }: Place, t: usize) -> usize {
        let Problem { steps, heads, width, .. } = self.problem;
        ((row * steps + t) * heads + head) * width
    }

    /// The first element of a head in `wx`.
    fn at_input(&self, Place { row, head }: Place, t: usize, gate: usize) -> usize {
        let Problem { cell, steps, heads, width, .. } = self.problem;
        (((row * steps + t) * cell.input_gates().len() + gate) * heads + head) * width
    }

    /// The first element of a head in `b`, and the first row of its matrix.
    fn at_gate(&self, head: usize, gate: usize) -> usize {
        (gate * self.problem.heads + head) * self.problem.width
    }

    /// The states of a head's units before the first step.
    fn initial(&self, place: Place) -> Vec<States> {
        let first = self.at_row(place);
        let state = |d| std::array::from_fn(|i| value(&self.initial[i], first + d));
        (0..self.problem.width).map(state).collect()
    }

    /// What the gates of a head's units are made of at a step.
    fn gates(&self, place: Place, t: usize, before: &[States]) -> Vec<Gates> {
        let Problem { cell, width, .. } = self.problem;
        let h = outputs(before);
        let mut gates = vec![Gates::default(); width];
        for (d, gates) in gates.iter_mut().enumerate() {
            for k in 0..cell.input_gates().len() {
                gates.input[k] = self.wx[self.at_input(place, t, k) + d];
            }
            for k in 0..cell.recurrent_gates().len() {
                let row = &self.r[(self.at_gate(place.head, k) + d) * width..][..width];
                gates.recurrent[k] = dot(row, &h);
            }
            for k in 0..cell.bias_gates().len() {
                gates.bias[k] = value(&self.b, self.at_gate(place.head, k) + d);
            }
        }
        gates
    }

    fn floor(&self) -> f64 {
        f64::from(self.options.n_floor)
    }

    /// The states of a head's units after a step.
    fn step(&self, gates: &[Gates], before: &[States]) -> Vec<States> {
        let step = |(gates, before): (&Gates, &States)| {
            let mut after = element::step(self.problem.cell, self.floor(), gates, *before);
            if let Some(clip) = self.options.output_clip.map(f64::from) {
                after[0] = after[0].clamp(-clip, clip);
            }
            after
        };
        gates.iter().zip(before).map(step).collect()
    }

    /// The recurrence of one head of one row.
    fn run(&self, place: Place, exact: &mut Exact) {
        let mut states = self.initial(place);
        for t in self.order(place) {
            states = self.step(&self.gates(place, t, &states), &states);
            store(&states, &mut exact.states, self.at_step(place, t));
        }
        store(&states, &mut exact.last, self.at_row(place));
    }

    /// The recurrence of one head of one row, back from its last step.
    fn run_back(&self, place: Place, given: &Given, exact: &mut ExactGradients) {
        let width = self.problem.width;
        let order = self.order(place);
        // The states before each step, and its gates.
        let mut trace = Vec::with_capacity(order.len());
        let mut states = self.initial(place);
        for &t in &order {
            let gates = self.gates(place, t, &states);
            let after = self.step(&gates, &states);
            trace.push((states, gates));
            states = after;
        }
        let first = self.at_row(place);
        let last = |d| std::array::from_fn(|i| value(&given.last[i], first + d));
        let mut carry: Vec<[f64; 3]> = (0..width).map(last).collect();
        for (i, &t) in order.iter().enumerate().rev() {
            if i + 1 < order.len() {
                carry.iter_mut().for_each(|carry| carry[0] = self.limited(carry[0]));
            }
            let at = self.at_step(place, t);
            for (d, carry) in carry.iter_mut().enumerate() {
                for (carry, given) in carry.iter_mut().zip(&given.states) {
                    *carry += value(given, at + d);
                }
            }
            let (before, gates) = &trace[i];
            carry = self.step_back((place, t), before, gates, &carry, exact);
        }
        for (d, carry) in carry.iter().enumerate() {
            for (initial, carry) in exact.initial.iter_mut().zip(carry) {
                initial[first + d] = *carry;
            }
        }
    }

    /// A gradient that comes from a later step.
    fn limited(&self, gradient: f64) -> f64 {
        let clip = self.options.grad_clip.map_or(f64::INFINITY, f64::from);
        match self.options.nan_to_zero && !gradient.is_finite() {
            // Infinity would be clamped first.
            true if gradient.is_nan() || clip.is_infinite() => 0.0,
            _ => gradient.clamp(-clip, clip),
        }
    }

    /// The gradients of one step, from those of the states after it to those before it.
    fn step_back(
        &self,
        (place, t): (Place, usize),
        before: &[States],
        gates: &[Gates],
        total: &[[f64; 3]],
        exact: &mut ExactGradients,
    ) -> Vec<[f64; 3]> {
        let Problem { cell, width, .. } = self.problem;
        let mut carry = vec![[0.0; 3]; width];
        let (h, mut through) = (outputs(before), vec![0.0; width]);
        for d in 0..width {
            let mut total = total[d];
            let candidate = element::step(cell, self.floor(), &gates[d], before[d])[0];
            let is_within = |clip| candidate.abs() <= f64::from(clip);
            if !self.options.output_clip.is_none_or(is_within) {
                total[0] = 0.0;
            }
            let back = element::back(cell, self.floor(), &gates[d], before[d], total);
            carry[d].iter_mut().zip(back.before).for_each(|(carry, own)| *carry += own);
            for k in 0..cell.input_gates().len() {
                exact.wx[self.at_input(place, t, k) + d] = back.gates.input[k];
            }
            for k in 0..cell.bias_gates().len() {
                exact.b[self.at_gate(place.head, k) + d] += back.gates.bias[k];
            }
            for k in 0..cell.recurrent_gates().len() {
                let (row, gradient) =
                    ((self.at_gate(place.head, k) + d) * width, back.gates.recurrent[k]);
                add(&mut exact.r[row..][..width], gradient, &h);
                if !self.options.grad_cut {
                    add(&mut through, gradient, &self.r[row..][..width]);
                }
            }
        }
        carry.iter_mut().zip(through).for_each(|(carry, through)| carry[0] += through);
        carry
    }
}

/// h of a head's units.
fn outputs(states: &[States]) -> Vec<f64> {
    states.iter().map(|state| state[0]).collect()
}

/// The sum of products, in eight sums side by side: most of the reference's time.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<8>(), y.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (x, y) in x.iter().zip(y) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    let rest: f64 = x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f64>() + rest
}

/// Adds a multiple.
fn add(to: &mut [f64], factor: f64, values: &[f64]) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += factor * value);
}

/// Writes the states of a head's units to their tensors.
fn store(states: &[States], tensors: &mut [Vec<f64>], first: usize) {
    for (d, states) in states.iter().enumerate() {
        for (tensor, state) in tensors.iter_mut().zip(states) {
            tensor[first + d] = *state;
        }
    }
}

#[cfg(test)]
mod tests;
