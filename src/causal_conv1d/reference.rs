//! The reference: the loops of the definition in f64.

use std::ops::Range;

use super::{
    Activation, GradientsMut, Inputs, Layout, Options, OutputGradients, OutputsMut, Problem,
};
use crate::Result;
use crate::backend::Cpu;
use crate::element::Float;
use crate::resets::Resets;
use crate::tensor::{Tensor, View};

/// What a convolution gives, exact up to f64 rounding.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Exact {
    /// (B, D, L), whatever the layout of the call.
    pub out: Vec<f64>,
    /// (B, D, W - 1); packed (S, D, W - 1).
    pub final_state: Vec<f64>,
}

/// Gradients of the inputs, exact up to f64 rounding.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ExactGradients {
    /// (B, D, L), whatever the layout of the call.
    pub dx: Vec<f64>,
    /// (D, W).
    pub dweight: Vec<f64>,
    /// (D).
    pub dbias: Vec<f64>,
    /// (B, D, W - 1); packed (S, D, W - 1).
    pub ds0: Vec<f64>,
}

/// Evaluates the convolution in f64.
///
/// # Errors
///
/// As [`forward`](super::forward), for inputs on the CPU.
pub fn forward<T: Float>(inputs: &Inputs<'_, Cpu, T>, options: &Options) -> Result<Exact> {
    let problem = Problem::check(inputs, options)?;
    problem.check_values(inputs)?;
    let arrays = Arrays::read(inputs, options)?;
    let Problem { batch, channels, steps, .. } = problem;
    let mut exact = Exact {
        out: vec![0.0; batch * channels * steps],
        final_state: vec![0.0; problem.state_shape().iter().product()],
    };
    for line in lines(&problem, &inputs.resets)? {
        let xs = arrays.extended(&problem, &line);
        for t in (0..line.steps.len()).filter(|&t| !arrays.is_padding(&line, t)) {
            let pre = arrays.before_activation(&problem, &line, &xs, t);
            exact.out[line.activation + t] = activate(options.activation, pre);
        }
        let history = problem.history();
        let last = &xs[line.steps.len()..];
        exact.final_state[line.state * history..][..history].copy_from_slice(last);
    }
    Ok(exact)
}

/// Evaluates the gradients of the inputs in f64.
///
/// # Errors
///
/// As [`backward`](super::backward), for inputs on the CPU.
pub fn backward<T: Float>(
    inputs: &Inputs<'_, Cpu, T>,
    gradients: &OutputGradients<'_, Cpu, T>,
    options: &Options,
) -> Result<ExactGradients> {
    let problem = Problem::check(inputs, options)?;
    problem.check_gradients(inputs, gradients)?;
    problem.check_values(inputs)?;
    let arrays = Arrays::read(inputs, options)?;
    let dout = gradients.dout.map(|dout| time_last(dout, options)).transpose()?;
    let dfinal = gradients.dfinal_state.map(|state| state.to_f64()).transpose()?;
    let Problem { batch, channels, steps, width, .. } = problem;
    let history = problem.history();
    let mut exact = ExactGradients {
        dx: vec![0.0; batch * channels * steps],
        dweight: vec![0.0; channels * width],
        dbias: vec![0.0; channels],
        ds0: vec![0.0; problem.state_shape().iter().product()],
    };
    for line in lines(&problem, &inputs.resets)? {
        let xs = arrays.extended(&problem, &line);
        let length = line.steps.len();
        // Of the extended row: what the final state passes back, then what each output does.
        let mut dxs = vec![0.0; xs.len()];
        if let Some(dfinal) = &dfinal {
            dxs[length..].copy_from_slice(&dfinal[line.state * history..][..history]);
        }
        for t in (0..length).filter(|&t| !arrays.is_padding(&line, t)) {
            let pre = arrays.before_activation(&problem, &line, &xs, t);
            let dout = dout.as_ref().map_or(0.0, |dout| dout[line.activation + t]);
            let e = dout * slope(options.activation, pre);
            exact.dbias[line.channel] += e;
            for j in (0..width).filter(|&j| arrays.counts(&problem, &line, t, j)) {
                let tap = line.channel * width + j;
                exact.dweight[tap] += e * xs[t + j];
                dxs[t + j] += arrays.weight[tap] * e;
            }
        }
        exact.ds0[line.state * history..][..history].copy_from_slice(&dxs[..history]);
        exact.dx[line.activation..][..length].copy_from_slice(&dxs[history..]);
    }
    Ok(exact)
}

/// One channel of one row.
struct Line {
    /// The batch entry, or the packed sequence.
    batch: usize,
    channel: usize,
    steps: Range<usize>,
    /// Its first element in (B, D, L).
    activation: usize,
    /// Its number among the states.
    state: usize,
}

fn lines(problem: &Problem, resets: &Resets<'_, Cpu>) -> Result<Vec<Line>> {
    let rows = resets.rows(problem.batch, problem.steps)?;
    let of_row = |(row, (batch, steps)): (usize, (usize, Range<usize>))| {
        (0..problem.channels).map(move |channel| Line {
            batch,
            channel,
            activation: (batch * problem.channels + channel) * problem.steps + steps.start,
            state: row * problem.channels + channel,
            steps: steps.clone(),
        })
    };
    Ok(rows.into_iter().enumerate().flat_map(of_row).collect())
}

/// The inputs as f64.
struct Arrays {
    /// (B, D, L).
    x: Vec<f64>,
    /// (D, W).
    weight: Vec<f64>,
    bias: Option<Vec<f64>>,
    s0: Option<Vec<f64>>,
    /// (B, L), a document each.
    seq_idx: Option<Vec<i64>>,
    steps: usize,
}

impl Arrays {
    fn read<T: Float>(inputs: &Inputs<'_, Cpu, T>, options: &Options) -> Result<Self> {
        let x = time_last(inputs.x, options)?;
        Ok(Self {
            x,
            weight: inputs.weight.to_f64()?,
            bias: inputs.bias.map(|bias| bias.to_f64()).transpose()?,
            s0: inputs.s0.map(|s0| s0.to_f64()).transpose()?,
            seq_idx: match &inputs.resets {
                Resets::SeqIdx(seq_idx) => Some(seq_idx.to_i64()?),
                _ => None,
            },
            steps: options.layout.lengths(inputs.x.shape()).map_or(0, |[_, _, steps]| steps),
        })
    }

    /// xs: the initial state, then x.
    fn extended(&self, problem: &Problem, line: &Line) -> Vec<f64> {
        let history = problem.history();
        let mut xs = match &self.s0 {
            Some(s0) => s0[line.state * history..][..history].to_vec(),
            None => vec![0.0; history],
        };
        xs.extend_from_slice(&self.x[line.activation..][..line.steps.len()]);
        xs
    }

    /// The document of a step of the line.
    fn document(&self, line: &Line, t: usize) -> Option<i64> {
        self.seq_idx.as_ref().map(|numbers| numbers[line.batch * self.steps + line.steps.start + t])
    }

    fn is_padding(&self, line: &Line, t: usize) -> bool {
        self.document(line, t).is_some_and(|number| number < 0)
    }

    /// Whether tap j counts at step t: what it meets is of the same document. The initial state
    /// is of the document of the first step.
    fn counts(&self, problem: &Problem, line: &Line, t: usize, j: usize) -> bool {
        let met = (t + j).saturating_sub(problem.history());
        self.document(line, t) == self.document(line, met)
    }

    /// pre_t = bias + Σ_j w_j xs_{t+j}.
    fn before_activation(&self, problem: &Problem, line: &Line, xs: &[f64], t: usize) -> f64 {
        let taps = (0..problem.width).filter(|&j| self.counts(problem, line, t, j));
        let bias = self.bias.as_ref().map_or(0.0, |bias| bias[line.channel]);
        taps.fold(bias, |sum, j| sum + self.weight[line.channel * problem.width + j] * xs[t + j])
    }
}

/// The elements of activations, (B, D, L).
fn time_last(view: &View<Cpu>, options: &Options) -> Result<Vec<f64>> {
    match options.layout {
        Layout::Bdl => view.to_f64(),
        Layout::Bld => view.transposed(1, 2)?.to_f64(),
    }
}

impl Exact {
    /// Rounds the results into a call's outputs.
    pub(super) fn write<T: Float>(
        &self,
        layout: Layout,
        outputs: &OutputsMut<'_, Cpu, T>,
    ) -> Result<()> {
        write_activation(layout, outputs.out, &self.out)?;
        write(outputs.final_state.as_deref(), &self.final_state)
    }
}

impl ExactGradients {
    /// Rounds the results into a call's outputs.
    pub(super) fn write<T: Float>(
        &self,
        layout: Layout,
        outputs: &GradientsMut<'_, Cpu, T>,
    ) -> Result<()> {
        if let Some(dx) = outputs.dx.as_deref() {
            write_activation(layout, dx, &self.dx)?;
        }
        write(outputs.dweight.as_deref(), &self.dweight)?;
        write(outputs.dbias.as_deref(), &self.dbias)?;
        write(outputs.ds0.as_deref(), &self.ds0)
    }
}

fn write_activation<T: Float>(
    layout: Layout,
    tensor: &Tensor<Cpu, T>,
    values: &[f64],
) -> Result<()> {
    match layout {
        Layout::Bdl => tensor.write_f64(values),
        Layout::Bld => tensor.transposed(1, 2)?.write_f64(values),
    }
}

fn write<T: Float>(tensor: Option<&Tensor<Cpu, T>>, values: &[f64]) -> Result<()> {
    tensor.map_or(Ok(()), |tensor| tensor.write_f64(values))
}

/// The activation.
pub(super) fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => x,
        Activation::Silu => x / (1.0 + (-x).exp()),
    }
}

/// Its derivative; silu'(x) = sigmoid(x) (1 + x (1 - sigmoid(x))).
fn slope(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => 1.0,
        Activation::Silu => {
            let sigmoid = 1.0 / (1.0 + (-x).exp());
            sigmoid * (1.0 + x * (1.0 - sigmoid))
        }
    }
}
