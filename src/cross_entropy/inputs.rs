//! What goes in.

use crate::backend::Backend;
use crate::element::Float;
use crate::parameter::Indices;
use crate::tensor::{Tensor, View};

/// The tensors of a call; shapes stand in the [module's](super) table.
#[derive(Debug)]
pub struct Inputs<'a, B: Backend, T: Float> {
    /// The logits of this rank's columns, or what they are computed from.
    pub logits: Logits<'a, B, T>,
    /// (T): the right column of each token, among those of all ranks.
    pub target: Indices<'a, B>,
}

/// Where the logits come from.
#[derive(Debug)]
pub enum Logits<'a, B: Backend, T: Float> {
    /// z, (T, Vi).
    Given(&'a Tensor<B, T>),
    /// z = x Wᵀ, of which a few columns are there at a time.
    Linear {
        /// (T, E), the same on all ranks.
        x: &'a Tensor<B, T>,
        /// W, (Vi, E).
        weight: &'a Tensor<B, T>,
    },
}

impl<'a, B: Backend, T: Float> Inputs<'a, B, T> {
    /// The loss of given logits.
    pub fn new(logits: &'a Tensor<B, T>, target: impl Into<Indices<'a, B>>) -> Self {
        Self { logits: Logits::Given(logits), target: target.into() }
    }

    /// The loss of a linear layer, whose logits are never stored as a whole.
    pub fn linear(
        x: &'a Tensor<B, T>,
        weight: &'a Tensor<B, T>,
        target: impl Into<Indices<'a, B>>,
    ) -> Self {
        Self { logits: Logits::Linear { x, weight }, target: target.into() }
    }

    /// The device.
    pub fn backend(&self) -> &'a B {
        match self.logits {
            Logits::Given(logits) => logits.backend(),
            Logits::Linear { x, .. } => x.backend(),
        }
    }

    /// Every tensor, under its name.
    pub fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let target = ("target", self.target.view());
        match self.logits {
            Logits::Given(logits) => vec![("logits", logits), target],
            Logits::Linear { x, weight } => vec![("x", x), ("weight", weight), target],
        }
    }
}
