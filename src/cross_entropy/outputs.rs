//! What comes out.

use super::{Inputs, Logits, Problem};
use crate::Result;
use crate::backend::Backend;
use crate::element::Float;
use crate::tensor::{Tensor, View};

/// What a forward call gives.
#[derive(Clone, Debug)]
pub struct Outputs<B: Backend, T: Float> {
    /// The loss: (1), or (T) without a reduction.
    pub loss: Tensor<B, T::State>,
    /// The logarithm of the sum of e^z over all columns, (T), of ignored tokens too.
    pub lse: Tensor<B, T::State>,
}

impl<B: Backend, T: Float> Outputs<B, T> {
    pub(super) fn new(backend: &B, problem: &Problem) -> Result<Self> {
        Ok(Self {
            loss: Tensor::new(backend, &[problem.losses()])?,
            lse: Tensor::new(backend, &[problem.tokens])?,
        })
    }

    /// The same tensors, to be written into.
    pub fn as_mut(&mut self) -> OutputsMut<'_, B, T> {
        OutputsMut { loss: &mut self.loss, lse: &mut self.lse }
    }
}

/// Where a forward call writes, without gaps.
#[derive(Debug)]
pub struct OutputsMut<'a, B: Backend, T: Float> {
    /// The loss: (1), or (T) without a reduction.
    pub loss: &'a mut Tensor<B, T::State>,
    /// The logarithm of the sum of e^z over all columns, (T).
    pub lse: &'a mut Tensor<B, T::State>,
}

impl<B: Backend, T: Float> OutputsMut<'_, B, T> {
    /// Every tensor, under its name.
    pub(crate) fn named(&self) -> [(&'static str, &View<B>); 2] {
        [("loss", &*self.loss), ("lse", &*self.lse)]
    }
}

/// Gradients of the logits, or of what they were computed from; the last axis has stride 1.
#[derive(Clone, Debug)]
pub enum Gradients<B: Backend, T: Float> {
    /// Of the logits of this rank's columns, (T, Vi).
    Given(Tensor<B, T>),
    /// Of the linear layer.
    Linear {
        /// (T, E), over the columns of all ranks that took part.
        x: Tensor<B, T>,
        /// Of this rank's rows of the weight, (Vi, E).
        weight: Tensor<B, T>,
    },
}

impl<B: Backend, T: Float> Gradients<B, T> {
    pub(super) fn new(inputs: &Inputs<'_, B, T>) -> Result<Self> {
        let like = |input: &Tensor<B, T>| Tensor::new(input.backend(), input.shape());
        Ok(match inputs.logits {
            Logits::Given(logits) => Self::Given(like(logits)?),
            Logits::Linear { x, weight } => Self::Linear { x: like(x)?, weight: like(weight)? },
        })
    }

    /// Every tensor, under its name.
    pub(crate) fn named(&self) -> Vec<(&'static str, &View<B>)> {
        match self {
            Self::Given(logits) => vec![("dlogits", logits)],
            Self::Linear { x, weight } => vec![("dx", x), ("dweight", weight)],
        }
    }

    /// Where backends write them.
    pub(super) fn lines(&self) -> GradientLines<'_, B> {
        match self {
            Self::Given(logits) => GradientLines::Given(logits),
            Self::Linear { x, weight } => GradientLines::Linear { x, weight },
        }
    }
}

/// Where a backend writes gradients.
#[derive(Clone, Copy, Debug)]
pub enum GradientLines<'a, B: Backend> {
    /// Of the logits, in their type.
    Given(&'a View<B>),
    /// Of the linear layer.
    Linear {
        /// In the type of x, or of sums where other ranks add to it.
        x: &'a View<B>,
        /// In the type of the weight.
        weight: &'a View<B>,
    },
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
impl<'a, B: Backend> GradientLines<'a, B> {
    /// Every tensor, under its name.
    pub(super) fn named(&self) -> Vec<(&'static str, &'a View<B>)> {
        match *self {
            Self::Given(logits) => vec![("dlogits", logits)],
            Self::Linear { x, weight } => vec![("dx", x), ("dweight", weight)],
        }
    }
}
