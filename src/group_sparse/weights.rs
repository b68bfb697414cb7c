//! Compressed weights on a device, and products with them.

use std::ops::Range;

use super::format::Matrix;
use super::{GroupSparse, NAME, Options, Plan, Problem, check};
use crate::Result;
use crate::element::Float;
use crate::parameter::Parameter;
use crate::tensor::{Tensor, View};

/// A compressed matrix on a device, laid out for its kernels. Cloning shares the memory.
#[derive(Clone, Debug)]
pub struct Weights<B: GroupSparse> {
    device: B,
    problem: Problem,
    held: B::Held,
}

impl<B: GroupSparse> Weights<B> {
    /// Brings a matrix to a device.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), or the device's refusal.
    pub fn new(device: &B, matrix: &Matrix) -> Result<Self> {
        let (device, held) = (device.clone(), device.hold(matrix)?);
        Ok(Self { device, problem: Problem::of(matrix, 1), held })
    }

    /// The device.
    pub fn device(&self) -> &B {
        &self.device
    }

    /// The sizes, for one vector.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// What the device holds.
    pub(crate) fn held(&self) -> &B::Held {
        &self.held
    }

    /// Plans products with up to so many vectors at once, 16 at most, and makes ready what they need.
    /// More vectors are taken one run after the other.
    ///
    /// # Errors
    ///
    /// [`Error::Option`](crate::Error::Option) for a variant that there is not,
    /// [`Error::Unsupported`](crate::Error::Unsupported) for what the device cannot do, and the
    /// device's refusals.
    pub fn product(&self, vectors: usize, options: &Options) -> Result<Product<B>> {
        let problem = self.problem.with_vectors(vectors);
        let plan = self.device.plan(&problem, options)?;
        let kept = self.device.prepare(&problem, &plan)?;
        Ok(Product { weights: self.clone(), problem, plan, kept })
    }
}

/// A product that has been planned. It keeps workspace on the device, so that calls neither allocate
/// nor wait: one call after the other on one stream. For calls side by side make a product each.
#[derive(Debug)]
pub struct Product<B: GroupSparse> {
    weights: Weights<B>,
    problem: Problem,
    plan: Plan,
    #[cfg_attr(
        not(any(feature = "cuda", feature = "wgpu")),
        expect(dead_code, reason = "the CPU keeps nothing")
    )]
    kept: B::Kept,
}

impl<B: GroupSparse> Product<B> {
    /// The weights.
    pub fn weights(&self) -> &Weights<B> {
        &self.weights
    }

    /// The sizes that were planned for.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// What was planned.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What it keeps on the device.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(crate) fn kept(&self) -> &B::Kept {
        &self.kept
    }

    /// y = W x + bias, into the caller's tensor: x is (M, K), y (M, N), bias (N), in any of f32, bf16
    /// and f16 each; in f64 all of them, on the CPU. Shapes stand in the [module's](super) table.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`](crate::Error::Shape), [`Error::Dtype`](crate::Error::Dtype),
    /// [`Error::Tensor`](crate::Error::Tensor) and [`Error::Aliased`](crate::Error::Aliased) where
    /// the tensors do not fit, and the device's refusals.
    pub fn forward_into<X: Float, Y: Float>(
        &mut self,
        x: &Tensor<B, X>,
        bias: Option<Parameter<'_, B>>,
        y: &mut Tensor<B, Y>,
    ) -> Result<()> {
        self.run(x, bias.map(|bias| bias.view()), y)
    }

    /// The same for views, whose types are looked at.
    pub(crate) fn run(&mut self, x: &View<B>, bias: Option<&View<B>>, y: &View<B>) -> Result<()> {
        let Weights { device, problem, .. } = &self.weights;
        check::product(device, &problem.format, x, bias, y)?;
        tracing::debug!(
            operation = NAME,
            device = device.name(),
            variant = self.plan.variant,
            blocks = self.plan.blocks,
            workspace = self.plan.workspace,
        );
        let vectors = x.shape()[0];
        for first in (0..vectors).step_by(self.problem.vectors) {
            let run = first..vectors.min(first + self.problem.vectors);
            let (x, y) = (x.narrowed(0, run.clone())?, y.narrowed(0, run)?);
            device.launch(self, &x, bias, &y)?;
        }
        Ok(())
    }
}

/// y = W x + bias into a new tensor of x's type: x is (M, K), y (M, N). Plans for this call alone; a
/// [`Product`] plans once for many.
///
/// # Errors
///
/// As [`Weights::product`] and [`Product::forward_into`].
pub fn forward<B: GroupSparse, T: Float>(
    weights: &Weights<B>,
    x: &Tensor<B, T>,
    bias: Option<Parameter<'_, B>>,
) -> Result<Tensor<B, T>> {
    let vectors = x.shape().first().copied().unwrap_or(0);
    let mut y = Tensor::new(weights.device(), &[vectors, weights.problem().format.rows])?;
    forward_into(weights, x, bias, &mut y, &Options::default())?;
    Ok(y)
}

/// The same into the caller's tensor, of any type, with options.
///
/// # Errors
///
/// As [`forward`].
pub fn forward_into<B: GroupSparse, X: Float, Y: Float>(
    weights: &Weights<B>,
    x: &Tensor<B, X>,
    bias: Option<Parameter<'_, B>>,
    y: &mut Tensor<B, Y>,
    options: &Options,
) -> Result<()> {
    let vectors = x.shape().first().copied().unwrap_or(0);
    weights.product(vectors, options)?.forward_into(x, bias, y)
}

/// Some rows of the decoded weight, outliers added, each rounded once from f32: (rows, K).
///
/// # Errors
///
/// [`Error::Option`](crate::Error::Option) where there are no such rows, and the device's refusals.
pub fn decompress<B: GroupSparse, T: Float>(
    weights: &Weights<B>,
    rows: Range<usize>,
) -> Result<Tensor<B, T>> {
    let dense = Tensor::new(weights.device(), &[rows.len(), weights.problem().format.columns])?;
    check::dense(weights.device(), &weights.problem().format, &rows, &dense)?;
    weights.device().launch_decompress(weights, rows, &dense)?;
    Ok(dense)
}
