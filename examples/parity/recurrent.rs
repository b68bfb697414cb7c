//! The model: a recurrent cell of the crate between a projection of bits and one onto classes.
//!
//! ```text
//! wx = to_gates[bit]                                                 a row for each bit
//! h = rnn(wx, recurrent, bias)                                       kernel
//! score = h · to_classes
//! ```
//!
//! Rows are (batch entry, step), so that what a projection gives is what the kernel reads: (B, T,
//! 4, N, D). The type T is f32, and f64 in the tests, where the crate's reference runs.

use fastrand::Rng;
use warpwright::rnn::{self, Cell, Inputs, Options, OutputGradients, Rnn, Save};
use warpwright::{Float, Result, Tensor};

use crate::shared::Model;
use crate::shared::batch::Batch;
use crate::shared::dense::{cross_entropy, project, project_back};
use crate::shared::parameters::{Learnt, parameters, random_matrix};

/// Sizes of the model.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// Symbols that are read.
    pub symbols: usize,
    /// Classes that are scored.
    pub classes: usize,
    /// Heads N, whose units do not see those of other heads.
    pub heads: usize,
    /// Units D of a head.
    pub width: usize,
}

/// LSTM and sLSTM have the same gates: i, f, z, o.
const GATES: usize = 4;

parameters! {
    /// The parameters of the model, or their gradients; matrices row by row.
    Parameters:
    /// (symbols, 4, N, D)
    to_gates,
    /// (4, N, D, D)
    recurrent,
    /// (4, N, D)
    bias,
    /// (N, D, classes)
    to_classes,
}

/// What is added to the forget gate at first: 0.88 of a state remains after a step, so that
/// gradients reach back from the beginning.
const REMEMBER: f32 = 2.0;

impl<T: Float> Parameters<T> {
    /// Small matrices, and gates that remember.
    pub fn random(sizes: Sizes, random: &mut Rng) -> Self {
        let Sizes { symbols, classes, heads, width } = sizes;
        let units = heads * width;
        let forget = units..2 * units;
        let bias = |i| T::from_f32(if forget.contains(&i) { REMEMBER } else { 0.0 });
        Self {
            to_gates: random_matrix(symbols, GATES * units, random),
            recurrent: random_matrix(width, GATES * heads * width, random),
            bias: (0..GATES * units).map(bias).collect(),
            to_classes: random_matrix(units, classes, random),
        }
    }
}

/// The model, whose cell runs on a device.
pub struct Recurrent<'a, B, T> {
    pub device: &'a B,
    pub cell: Cell,
    pub sizes: Sizes,
    pub parameters: Parameters<T>,
}

/// What the kernel reads, on the device.
struct Read<B: Rnn<T>, T: Float> {
    wx: Tensor<B, T>,
    recurrent: Tensor<B, T>,
    bias: Tensor<B, T>,
}

impl<B: Rnn<T>, T: Float> Read<B, T> {
    fn inputs(&self) -> Inputs<'_, B, T> {
        Inputs::new(&self.wx, &self.recurrent).with_bias(&self.bias)
    }
}

impl<B: Rnn<T>, T: Float<State = T>> Model for Recurrent<'_, B, T> {
    type Parameters = Parameters<T>;

    fn parameters_mut(&mut self) -> &mut Parameters<T> {
        &mut self.parameters
    }

    fn scores(&self, read: &[usize], rows: usize) -> Result<Vec<T>> {
        let read = self.read(&self.one_hot(read), rows)?;
        let ran = rnn::forward(&read.inputs(), &Options::new(self.cell))?;
        Ok(project(&ran.h.to_vec()?, &self.parameters.to_classes, self.units()))
    }

    fn gradients(&self, batch: &Batch) -> Result<(f64, Parameters<T>)> {
        let Self { device, parameters, .. } = self;
        let mut gradients = parameters.zeros();
        let one_hot = self.one_hot(&batch.read);
        let read = self.read(&one_hot, batch.rows)?;
        let lengths = lengths(batch);
        let lengths = Tensor::from_slice(*device, &lengths, &[batch.rows])?;
        let inputs = read.inputs().with_lengths(&lengths);
        let options = Options::new(self.cell).with_save(Save::Narrow);
        let ran = rnn::forward(&inputs, &options)?;

        let (h, weight) = (ran.h.to_vec()?, &parameters.to_classes);
        let mut scores = project(&h, weight, self.units());
        let loss = cross_entropy(&mut scores, &batch.wanted);
        let dh = project_back(&h, weight, self.units(), &scores, &mut gradients.to_classes);

        let dh = Tensor::from_slice(*device, &dh, ran.h.shape())?;
        let saved = ran.saved.expect("the forward pass was told to save");
        let given = OutputGradients::new(&dh);
        let back = rnn::backward(&inputs, &options, &ran.h, &saved, &given)?;
        gradients.recurrent = back.r.to_vec()?;
        gradients.bias = back.b.expect("there is a bias").to_vec()?;
        let (dwx, symbols) = (back.wx.to_vec()?, self.sizes.symbols);
        project_back(&one_hot, &parameters.to_gates, symbols, &dwx, &mut gradients.to_gates);
        Ok((loss, gradients))
    }
}

impl<B: Rnn<T>, T: Float<State = T>> Recurrent<'_, B, T> {
    fn units(&self) -> usize {
        self.sizes.heads * self.sizes.width
    }

    /// A row for each symbol, 1 at its place, so that the product with a matrix is its row.
    fn one_hot(&self, read: &[usize]) -> Vec<T> {
        let row = |&symbol| (0..self.sizes.symbols).map(move |other| other == symbol);
        read.iter().flat_map(row).map(|it| T::from_f32(f32::from(u8::from(it)))).collect()
    }

    /// The inputs of the kernel, for so many rows of equal length.
    fn read(&self, one_hot: &[T], rows: usize) -> Result<Read<B, T>> {
        let &Self { device, sizes, ref parameters, .. } = self;
        let Sizes { symbols, heads, width, .. } = sizes;
        let steps = one_hot.len() / symbols / rows;
        let wx = project(one_hot, &parameters.to_gates, symbols);
        Ok(Read {
            wx: Tensor::from_slice(device, &wx, &[rows, steps, GATES, heads, width])?,
            recurrent: Tensor::from_slice(
                device,
                &parameters.recurrent,
                &[GATES, heads, width, width],
            )?,
            bias: Tensor::from_slice(device, &parameters.bias, &[GATES, heads, width])?,
        })
    }
}

/// The steps of each row of a batch.
fn lengths(batch: &Batch) -> Vec<u32> {
    let rows = batch.wanted.chunks_exact(batch.wanted.len() / batch.rows);
    rows.map(|row| row.iter().flatten().count() as u32).collect()
}
