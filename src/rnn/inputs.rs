//! What goes in.

use crate::backend::Backend;
use crate::element::Float;
use crate::parameter::{Indices, Parameter};
use crate::tensor::{Tensor, View};

/// The tensors of a recurrence; shapes stand in the [module's](super) table.
#[derive(Debug)]
pub struct Inputs<'a, B: Backend, T: Float> {
    /// The input projection, (B, T, Gw, N, D).
    pub wx: &'a Tensor<B, T>,
    /// The recurrent matrices, (Gr, N, D, D).
    pub r: Parameter<'a, B>,
    /// The bias, (Gb, N, D); zeros where absent.
    pub b: Option<Parameter<'a, B>>,
    /// The states before the first step.
    pub initial: Initial<'a, B>,
    /// The steps of each row, (B); all of them where absent.
    pub lengths: Option<Indices<'a, B>>,
}

/// States before the first step, (B, N, D) each; zeros where absent.
#[derive(Clone, Copy, Debug)]
pub struct Initial<'a, B: Backend> {
    /// Of every cell.
    pub h: Option<Parameter<'a, B>>,
    /// Of LSTM and sLSTM.
    pub c: Option<Parameter<'a, B>>,
    /// Of sLSTM.
    pub n: Option<Parameter<'a, B>>,
    /// Of sLSTM.
    pub m: Option<Parameter<'a, B>>,
}

impl<'a, B: Backend> Initial<'a, B> {
    /// Zeros for all.
    pub const NONE: Self = Self { h: None, c: None, n: None, m: None };

    /// The states in the order of [`Cell::states`](super::Cell::states).
    pub(crate) fn all(&self) -> [Option<Parameter<'a, B>>; 4] {
        [self.h, self.c, self.n, self.m]
    }
}

impl<'a, B: Backend, T: Float> Inputs<'a, B, T> {
    /// A recurrence without bias, from zeros; all rows have all steps.
    pub fn new(wx: &'a Tensor<B, T>, r: impl Into<Parameter<'a, B>>) -> Self {
        Self { wx, r: r.into(), b: None, initial: Initial::NONE, lengths: None }
    }

    /// With a bias.
    pub fn with_bias(mut self, b: impl Into<Parameter<'a, B>>) -> Self {
        self.b = Some(b.into());
        self
    }

    /// With states to start from.
    pub fn with_initial(mut self, initial: Initial<'a, B>) -> Self {
        self.initial = initial;
        self
    }

    /// With rows of different lengths.
    pub fn with_lengths(mut self, lengths: impl Into<Indices<'a, B>>) -> Self {
        self.lengths = Some(lengths.into());
        self
    }

    /// Every tensor that is present, under its name.
    pub fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = vec![("wx", self.wx), ("R", self.r.view())];
        named.extend(self.b.map(|b| ("b", b.view())));
        let states = ["h0", "c0", "n0", "m0"].into_iter().zip(self.initial.all());
        named.extend(states.filter_map(|(name, state)| Some((name, state?.view()))));
        named.extend(self.lengths.map(|lengths| ("lengths", lengths.view())));
        named
    }
}

/// Gradients of the outputs; an absent one counts as zero. The stabiliser m has none.
#[derive(Debug)]
pub struct OutputGradients<'a, B: Backend, T: Float> {
    /// Of `h`, (B, T, N, D).
    pub h: Option<&'a Tensor<B, T>>,
    /// Of `c`, (B, T, N, D).
    pub c: Option<Parameter<'a, B>>,
    /// Of `n`, (B, T, N, D).
    pub n: Option<Parameter<'a, B>>,
    /// Of the states after the last step.
    pub last: LastGradients<'a, B>,
}

/// Gradients of the states after the last step, (B, N, D) each; an absent one counts as zero.
#[derive(Clone, Copy, Debug)]
pub struct LastGradients<'a, B: Backend> {
    /// Of `last_h`.
    pub h: Option<Parameter<'a, B>>,
    /// Of `last_c`.
    pub c: Option<Parameter<'a, B>>,
    /// Of `last_n`.
    pub n: Option<Parameter<'a, B>>,
}

impl<B: Backend> LastGradients<'_, B> {
    /// Zeros for all.
    pub const NONE: Self = Self { h: None, c: None, n: None };
}

impl<'a, B: Backend, T: Float> OutputGradients<'a, B, T> {
    /// The gradient of `h` alone.
    pub fn new(h: &'a Tensor<B, T>) -> Self {
        Self { h: Some(h), c: None, n: None, last: LastGradients::NONE }
    }

    /// With gradients of the states after the last step.
    pub fn with_last(mut self, last: LastGradients<'a, B>) -> Self {
        self.last = last;
        self
    }

    /// Every tensor that is present, under its name.
    pub fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = Vec::new();
        named.extend(self.h.map(|h| ("dh", &**h)));
        let LastGradients { h, c, n } = self.last;
        let others =
            [("dc", self.c), ("dn", self.n), ("dlast_h", h), ("dlast_c", c), ("dlast_n", n)];
        named.extend(others.into_iter().filter_map(|(name, given)| Some((name, given?.view()))));
        named
    }
}
