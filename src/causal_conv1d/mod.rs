//! Causal depthwise convolution: the short filter over time in front of a selective scan.
//!
//! For every row and channel, with xs = (s0 or zeros, x) along time, of length L + W - 1:
//!
//! ```text
//! pre_t       = bias + Σ_j w_j xs_{t+j}         j = 0 .. W - 1; the last tap meets x_t
//! out_t       = silu(pre_t), or pre_t
//! final_state = the last W - 1 entries of xs
//! ```
//!
//! and backward, with e_t = dout_t silu'(pre_t), or dout_t:
//!
//! ```text
//! dxs_i  = Σ_j w_j e_{i-j}  (+ dfinal_state at the last W - 1 entries);  ds0 and dx are its parts
//! dw_j   = Σ_{b,t} e_t xs_{t+j}
//! dbias  = Σ_{b,t} e_t
//! ```
//!
//! | tensor | shape, [`Layout::Bdl`] | shape, [`Layout::Bld`] | elements | |
//! |---|---|---|---|---|
//! | `x` | (B, D, L) | (B, L, D) | T | input |
//! | `weight` | (D, W) | the same | f32 or T | W from 1 to 8 |
//! | `bias` | (D) | the same | f32 or T | optional |
//! | `s0` | (B, D, W - 1), packed (S, D, W - 1) | the same | f32 or T | initial state; optional |
//! | `out` | (B, D, L) | (B, L, D) | T | |
//! | `final_state` | as `s0` | the same | f32 | an exact copy |
//!
//! T is f32, bf16 or f16 with f32 arithmetic; on the CPU also f64, which runs the reference with
//! f64 states. Gradients of `x` are of T, the others of f32. The last axis of activations has
//! stride 1, their other strides are free; parameters and states have no gaps.
//!
//! Documents that share a row are kept apart by `seq_idx` or `cu_seqlens` ([`Resets`]). With
//! `seq_idx` a tap counts where what it meets has the same number as t; a negative number is
//! padding, whose output and gradient are 0; s0 counts where t has the number of the first step.
//! With `cu_seqlens` every sequence is a row with its own `s0` and `final_state`.
//!
//! Memory: x and out once each, forward; x, dout and dx, backward. Sums over time and batch are
//! made in two stages without atomics: equal inputs give equal bits on one device. Every output
//! and every element of dx is the same sum in the same order, whatever the layout and wherever
//! a row is cut.
//!
//! [`update`] is the same for one step or a few, from a state that it moves on.
//!
//! ```
//! use warpwright::causal_conv1d::{self, Inputs, Options};
//! use warpwright::{Cpu, Tensor};
//!
//! // One channel, two taps: out_t = x_t - x_{t-1}.
//! let x = Tensor::from_vec(vec![1.0f32, 4.0, 9.0], &[1, 1, 3])?;
//! let weight = Tensor::from_vec(vec![-1.0f32, 1.0], &[1, 2])?;
//! let convolved = causal_conv1d::forward(&Inputs::new(&x, &weight), &Options::default())?;
//! assert_eq!(convolved.out.to_vec()?, [1.0, 3.0, 5.0]);
//! assert_eq!(convolved.final_state.to_vec()?, [9.0]);
//! # Ok::<(), warpwright::Error>(())
//! ```
//!
//! Papers: A. Gu, T. Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
//! 2023, arXiv 2312.00752. The form of the update follows Dao-AILab/causal-conv1d.

use std::fmt;

use crate::Result;
use crate::backend::Backend;
use crate::element::Float;
use crate::operation::Axis;
use crate::tensor::Tensor;

mod check;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod inputs;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod kernels;
mod named;
mod options;
mod plan;
pub mod reference;
pub mod update;
#[cfg(feature = "wgpu")]
mod wgpu;

pub use crate::plan::Plan;
pub use crate::resets::Resets;
pub use check::Problem;
pub(crate) use cpu::VARIANTS as CPU_VARIANTS;
pub use inputs::{Gradients, GradientsMut, Inputs, OutputGradients, Outputs, OutputsMut};
pub(crate) use named::RunTime;
pub use named::{check_named, plan_problem, run_named};
pub use options::{Activation, Layout, Options};
#[cfg(feature = "wgpu")]
pub use wgpu::{record_backward, record_forward};

/// The operation, as messages and the command name it.
pub const NAME: &str = "causal-conv1d";

/// B batch, D channels, L steps, W taps.
pub(crate) const AXES: [Axis; 4] =
    [Axis::required("B"), Axis::required("D"), Axis::required("L"), Axis::or("W", 4)];

/// The most taps W.
pub const MAX_WIDTH: usize = 8;

/// The direction of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// From the inputs to the outputs.
    Forward,
    /// From the gradients of the outputs to those of the inputs.
    Backward,
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
        })
    }
}

/// A backend that convolves activations of type `T`.
pub trait CausalConv1d<T: Float>: Backend {
    /// Chooses the kernel of a pass. Pure: it looks at sizes, types, options and the device's
    /// limits only.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`](crate::Error::Unsupported) where no kernel of the device fits, or
    /// the variant that was asked for does not exist.
    fn plan(&self, pass: Pass, problem: &Problem, options: &Options) -> Result<Plan>;

    /// Every variant that fits a pass, the plan's own first.
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan).
    fn variants(
        &self,
        pass: Pass,
        problem: &Problem,
        options: &Options,
    ) -> Result<Vec<&'static str>> {
        Ok(vec![self.plan(pass, problem, options)?.variant])
    }

    /// Loads what the plan needs, so that the first call does not wait for it.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn preload(&self, plan: &Plan) -> Result<()>;

    /// Runs the chosen kernel forward. The tensors have been checked.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn launch_forward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        outputs: &OutputsMut<'_, Self, T>,
    ) -> Result<()>;

    /// Runs the chosen kernel backward. The tensors have been checked.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn launch_backward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        gradients: &OutputGradients<'_, Self, T>,
        options: &Options,
        outputs: &GradientsMut<'_, Self, T>,
    ) -> Result<()>;
}

/// Checks the call and chooses its kernel; nothing is launched.
///
/// # Errors
///
/// As [`forward`], but for what only the run can tell.
pub fn plan<B: CausalConv1d<T>, T: Float>(
    pass: Pass,
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Plan> {
    let problem = Problem::check(inputs, options)?;
    inputs.x.backend().plan(pass, &problem, options)
}

/// Loads the plan's kernels on a device, so that the first call does not wait for them.
///
/// # Errors
///
/// The device's refusal.
pub fn preload<B: CausalConv1d<T>, T: Float>(backend: &B, plan: &Plan) -> Result<()> {
    backend.preload(plan)
}

/// Convolves into new tensors.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape), [`Error::Dtype`](crate::Error::Dtype) and
/// [`Error::Tensor`](crate::Error::Tensor) where the inputs do not fit together,
/// [`Error::Unsupported`](crate::Error::Unsupported) where the device cannot do it, and the
/// device's own refusals. On the CPU [`Error::Value`](crate::Error::Value) where `cu_seqlens`
/// is not a rising sequence from 0 to L; other devices confine wrong values to the tensors.
pub fn forward<B: CausalConv1d<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Outputs<B, T>> {
    let problem = Problem::check(inputs, options)?;
    let backend = inputs.x.backend();
    let mut outputs = Outputs {
        out: Tensor::new(backend, inputs.x.shape())?,
        final_state: Tensor::new(backend, &problem.state_shape())?,
    };
    launch_forward(&problem, inputs, options, &outputs.as_mut())?;
    Ok(outputs)
}

/// Convolves into the caller's tensors, which must not share memory with one another or with an
/// input.
///
/// # Errors
///
/// As [`forward`], and [`Error::Aliased`](crate::Error::Aliased).
pub fn forward_into<B: CausalConv1d<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    outputs: &mut OutputsMut<'_, B, T>,
) -> Result<()> {
    let problem = Problem::check(inputs, options)?;
    problem.check_outputs(inputs, outputs)?;
    launch_forward(&problem, inputs, options, outputs)
}

/// The gradients of the inputs, in new tensors.
///
/// # Errors
///
/// As [`forward`].
pub fn backward<B: CausalConv1d<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    gradients: &OutputGradients<'_, B, T>,
    options: &Options,
) -> Result<Gradients<B, T>> {
    let problem = Problem::check(inputs, options)?;
    problem.check_gradients(inputs, gradients)?;
    let backend = inputs.x.backend();
    let bias = inputs.bias.map(|_| Tensor::new(backend, &[problem.channels]));
    let mut outputs = Gradients {
        dx: Tensor::new(backend, inputs.x.shape())?,
        dweight: Tensor::new(backend, &problem.weight_shape())?,
        dbias: bias.transpose()?,
        ds0: inputs.s0.map(|_| Tensor::new(backend, &problem.state_shape())).transpose()?,
    };
    launch_backward(&problem, inputs, gradients, options, &outputs.as_mut())?;
    Ok(outputs)
}

/// The gradients of the inputs, in the caller's tensors, which must not share memory with one
/// another or with what is read.
///
/// # Errors
///
/// As [`forward_into`].
pub fn backward_into<B: CausalConv1d<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    gradients: &OutputGradients<'_, B, T>,
    options: &Options,
    outputs: &mut GradientsMut<'_, B, T>,
) -> Result<()> {
    let problem = Problem::check(inputs, options)?;
    problem.check_gradients(inputs, gradients)?;
    problem.check_input_gradients(inputs, gradients, outputs)?;
    launch_backward(&problem, inputs, gradients, options, outputs)
}

fn launch_forward<B: CausalConv1d<T>, T: Float>(
    problem: &Problem,
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    outputs: &OutputsMut<'_, B, T>,
) -> Result<()> {
    let backend = inputs.x.backend();
    let plan = backend.plan(Pass::Forward, problem, options)?;
    tell(backend, &plan);
    backend.launch_forward(&plan, problem, inputs, options, outputs)
}

fn launch_backward<B: CausalConv1d<T>, T: Float>(
    problem: &Problem,
    inputs: &Inputs<'_, B, T>,
    gradients: &OutputGradients<'_, B, T>,
    options: &Options,
    outputs: &GradientsMut<'_, B, T>,
) -> Result<()> {
    let backend = inputs.x.backend();
    let plan = backend.plan(Pass::Backward, problem, options)?;
    tell(backend, &plan);
    backend.launch_backward(&plan, problem, inputs, gradients, options, outputs)
}

fn tell<B: Backend>(backend: &B, plan: &Plan) {
    tracing::debug!(
        operation = NAME,
        device = backend.name(),
        variant = plan.variant,
        blocks = ?plan.blocks,
        workspace = plan.workspace,
    );
}
