//! Recurrent cells with head-wise recurrent matrices, after FlashRNN: Elman, LSTM, GRU, sLSTM.
//!
//! A recurrence that no scan can take apart: the matrix of a head meets its state at every step.
//! With W the input projection, made by the caller, and h', c', n', m' the states before a step,
//! every element (b, n, d) has the pre-activations
//!
//! ```text
//! k̄ = W_k + Σ_p R_k[n, d, p] h'[b, n, p] + b_k
//! ```
//!
//! and is, but for that product, by itself:
//!
//! ```text
//! elman   h = φ(ā)                                                     φ = tanh or relu
//! lstm    i = σ(ī), f = σ(f̄), z = tanh z̄, o = σ(ō)
//!         c = f c' + i z                  h = o tanh c
//! gru     g = R_g h' + b_g,  r = σ(r̄), z = σ(z̄), q = tanh(W_n + b_n + r g)
//!         h = z h' + (1 - z) q
//! slstm   z = tanh z̄, o = σ(ō),  l = log σ(f̄) + m'
//!         m = max(ī, l), i = e^{ī - m}, f = e^{l - m};  where n' = 0:  m = ī, i = 1, f = 0
//!         c = f c' + i z,  n = max(f n' + i, floor),  h = o c / n
//! ```
//!
//! Backward, from the last step to the first, ρ being what reaches a step's states from the next
//! one: with total = dh + ρ_h and the like, the gradients D of the pre-activations follow the
//! lines above; then
//!
//! ```text
//! dW_k = D(k̄),  ρ_h = Σ_k R_kᵀ D(k̄) + what h' itself enters,  dR_k = Σ_{b,t} D(k̄) h'ᵀ,  db_k = Σ_{b,t} D(k̄)
//! ```
//!
//! of sLSTM with m constant, which is exact for every loss in h, since (c e^{-s}, n e^{-s}, m + s)
//! is the same state for all s.
//!
//! | tensor | shape | elements | |
//! |---|---|---|---|
//! | `wx` | (B, T, Gw, N, D) | T | input projection |
//! | `R` | (Gr, N, D, D), last axes (out, in) | f32 or T | recurrent matrices |
//! | `b` | (Gb, N, D) | f32 or T | bias |
//! | `h0`, `c0`, `n0`, `m0` | (B, N, D) | f32 or T | states before the first step, zeros where absent |
//! | `lengths` | (B) | any integer | steps of each row |
//! | `h` | (B, T, N, D) | T | every step |
//! | `c`, `n`, `m` | (B, T, N, D) | f32 | the other states of every step |
//! | `last_h`, … | (B, N, D) | f32 | states after the last step |
//!
//! | cell | states | gates of `wx` | gates of `R` | gates of `b` |
//! |---|---|---|---|---|
//! | elman | h | a | a | a |
//! | lstm | h c | i f z o | i f z o | i f z o |
//! | gru | h | r z n | g r z | g r z n |
//! | slstm | h c n m | i f z o | i f z o | i f z o |
//!
//! T is f32, bf16 or f16 with f32 arithmetic and f32 states; on the CPU also f64, which runs the
//! [reference](mod@reference). Where f32 is asked for, T is accepted too. The last axis
//! of `wx`, `h` and their gradients has stride 1, their other strides are free; all else lies
//! without gaps. A row of fewer steps keeps its
//! states and has h = 0 behind its end; what lies there in `wx` and in gradients is not read, and
//! its own gradient is 0. [`Direction::Reverse`] walks each row from its last step to its first.
//!
//! Equal inputs give equal bits on one device. A row does not depend on the values of others, nor
//! a head on other heads. Rows may be cut: the states that one call leaves are those that the next
//! begins with, to the bit, and so are their gradients the other way round, but for the sums of
//! dR and db, and with [`Options::grad_clip`] for dh0 of the later part, which the caller clamps.
//!
//! For the backward pass [`Options::save`] keeps the gates, and c and n, [`Saved`]; h itself is
//! given back by the caller. dR and db are f32.
//!
//! ```
//! use warpwright::Tensor;
//! use warpwright::rnn::{self, Cell, Inputs, Options};
//!
//! // A unit that forgets half of what it was at every step, and adds the input.
//! let wx = Tensor::from_vec(vec![1.0f32, 0.0, 0.0], &[1, 3, 1, 1, 1])?;
//! let r = Tensor::from_vec(vec![0.5f32], &[1, 1, 1, 1])?;
//! let ran = rnn::forward(&Inputs::new(&wx, &r), &Options::new(Cell::RELU))?;
//! assert_eq!(ran.h.to_vec()?, [1.0, 0.5, 0.25]);
//! assert_eq!(ran.last.h.to_vec()?, [0.25]);
//! # Ok::<(), warpwright::Error>(())
//! ```
//!
//! # How it runs
//!
//! W, dR and all that no step waits for is left to products over time; only R h' is walked step by
//! step, in one of two [paths](Path). *Resident*: a task, or a workgroup, has a head of some rows,
//! runs all of its steps and never waits for another; that is for matrices that it can keep at
//! hand. *Stepwise*: all share the units of each step, and meet after it; that is for any size.
//! The CPU and WGSL take the one or the other by the bytes of a head's matrices, PTX by a model of
//! what a step costs: a block holds a head of up to 128 units in its registers and shared memory,
//! in 16 bits as fragments of the tensor cores, and walks all steps in one launch; larger heads
//! take a launch for each. [`Plan`] prints the layouts that fit. Nothing is added by floating-point
//! atomics.
//!
//! In 16 bits products take h, D and R as they are stored, rounded to T; states and gates are f32.
//!
//! Papers: K. Pöppel, M. Beck, S. Hochreiter, "FlashRNN: I/O-Aware Optimization of Traditional RNNs
//! on modern hardware", 2024, arXiv 2412.07752; M. Beck et al., "xLSTM: Extended Long Short-Term
//! Memory", 2024, arXiv 2405.04517.

use crate::Result;
use crate::backend::Backend;
use crate::element::Float;
use crate::operation::Axis;
use crate::tensor::Tensor;

mod cell;
mod check;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod inputs;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod kernels;
mod named;
mod options;
mod outputs;
mod plan;
pub mod reference;
mod step;
mod weights;
#[cfg(feature = "wgpu")]
mod wgpu;

pub use cell::{Activation, Cell};
pub use check::Problem;
pub(crate) use cpu::VARIANTS as CPU_VARIANTS;
pub use inputs::{Initial, Inputs, LastGradients, OutputGradients};
pub(crate) use named::RunTime;
#[cfg(feature = "verify")]
pub(crate) use named::split;
pub use named::{check_named, run_named};
pub use options::{Direction, Options, Save};
pub use outputs::{Gradients, Outputs, OutputsMut, Saved, Sequences, State};
pub use plan::{Binding, Cost, Path, Plan, Tiling};
pub use step::{StepInputs, step, step_into};
pub use weights::{Order, Parameters, Weights};

/// The operation, as messages and the command name it.
pub const NAME: &str = "rnn";

/// B rows, T steps, N heads, D units of a head.
pub(crate) const AXES: [Axis; 4] =
    [Axis::required("B"), Axis::required("T"), Axis::or("N", 1), Axis::required("D")];

/// A backend that runs recurrent cells on activations of type `T`.
pub trait Rnn<T: Float>: Backend {
    /// Chooses the kernel of the forward pass. Pure: it looks at sizes, types, options and the
    /// device's limits only.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`](crate::Error::Unsupported) where no kernel of the device fits, or
    /// the variant that was asked for does not exist.
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan>;

    /// Chooses the kernel of the backward pass.
    ///
    /// # Errors
    ///
    /// As [`plan_forward`](Self::plan_forward).
    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan>;

    /// Every variant of the forward pass that fits the call, the plan's own first.
    ///
    /// # Errors
    ///
    /// As [`plan_forward`](Self::plan_forward).
    fn variants_forward(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        Ok(vec![self.plan_forward(problem, options)?.variant])
    }

    /// Every variant of the backward pass that fits the call, the plan's own first.
    ///
    /// # Errors
    ///
    /// As [`plan_forward`](Self::plan_forward).
    fn variants_backward(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        Ok(vec![self.plan_backward(problem, options)?.variant])
    }

    /// Runs the chosen kernel. The tensors have been checked; states after the last step may be
    /// those before the first.
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

    /// Runs the chosen kernel of the backward pass. The tensors have been checked; the gradient of
    /// `wx` may lie where `wx` does.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    #[allow(clippy::too_many_arguments)]
    fn launch_backward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        h: &Tensor<Self, T>,
        saved: &Saved<Self, T>,
        given: &OutputGradients<'_, Self, T>,
        gradients: &Gradients<Self, T>,
    ) -> Result<()>;

    /// Loads what the plan needs, so that the first call does not wait for it.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn preload(&self, plan: &Plan) -> Result<()>;
}

/// Checks the call and chooses its kernel; nothing is launched.
///
/// # Errors
///
/// As [`forward`], but for what only the run can tell.
pub fn plan_forward<B: Rnn<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Plan> {
    let problem = Problem::check(inputs, options)?;
    inputs.wx.backend().plan_forward(&problem, options)
}

/// Checks the call and chooses the kernel of its backward pass; nothing is launched.
///
/// # Errors
///
/// As [`plan_forward`].
pub fn plan_backward<B: Rnn<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Plan> {
    let problem = Problem::check(inputs, options)?;
    inputs.wx.backend().plan_backward(&problem, options)
}

/// Loads the plan's kernels on a device, so that the first call does not wait for them.
///
/// # Errors
///
/// The device's refusal.
pub fn preload<B: Rnn<T>, T: Float>(backend: &B, plan: &Plan) -> Result<()> {
    backend.preload(plan)
}

/// Runs the recurrence into new tensors.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape), [`Error::Dtype`](crate::Error::Dtype) and
/// [`Error::Tensor`](crate::Error::Tensor) where the inputs do not fit together,
/// [`Error::Option`](crate::Error::Option) for options that make no sense,
/// [`Error::Unsupported`](crate::Error::Unsupported) where the device cannot do it, and the
/// device's own refusals. On the CPU [`Error::Value`](crate::Error::Value) where a length is not
/// within 0 and T; other devices take the nearest of these.
pub fn forward<B: Rnn<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Outputs<B, T>> {
    let problem = Problem::check(inputs, options)?;
    let backend = inputs.wx.backend();
    let plan = backend.plan_forward(&problem, options)?;
    let mut outputs = Outputs::new(backend, &problem, options.states)?;
    launch_forward(&plan, &problem, inputs, options, &outputs.as_mut())?;
    Ok(outputs)
}

/// Runs the recurrence into the caller's tensors, which must not share memory with one another or
/// with an input, but for states after the last step in place of those before the first.
///
/// # Errors
///
/// As [`forward`], and [`Error::Aliased`](crate::Error::Aliased).
pub fn forward_into<B: Rnn<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    outputs: &mut OutputsMut<'_, B, T>,
) -> Result<()> {
    let problem = Problem::check(inputs, options)?;
    problem.check_outputs(inputs, outputs)?;
    let plan = inputs.wx.backend().plan_forward(&problem, options)?;
    launch_forward(&plan, &problem, inputs, options, outputs)
}

/// Runs the backward pass into new tensors: gradients of every differentiable input that is
/// present. `h` and `saved` come from a forward call with the same inputs and [`Options::save`].
///
/// # Errors
///
/// As [`forward`].
pub fn backward<B: Rnn<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    h: &Tensor<B, T>,
    saved: &Saved<B, T>,
    given: &OutputGradients<'_, B, T>,
) -> Result<Gradients<B, T>> {
    let problem = Problem::check(inputs, options)?;
    problem.check_backward(inputs, h, saved, given)?;
    let backend = inputs.wx.backend();
    let plan = backend.plan_backward(&problem, options)?;
    let gradients = Gradients::new(backend, inputs)?;
    launch_backward(&plan, &problem, inputs, options, h, saved, given, &gradients)?;
    Ok(gradients)
}

/// Runs the backward pass into the caller's tensors, which must not share memory with one another
/// or with an input, but for the gradient of `wx` in place of it.
///
/// # Errors
///
/// As [`backward`], and [`Error::Aliased`](crate::Error::Aliased).
pub fn backward_into<B: Rnn<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    h: &Tensor<B, T>,
    saved: &Saved<B, T>,
    given: &OutputGradients<'_, B, T>,
    gradients: &mut Gradients<B, T>,
) -> Result<()> {
    let problem = Problem::check(inputs, options)?;
    problem.check_backward(inputs, h, saved, given)?;
    problem.check_gradients(inputs, h, saved, given, gradients)?;
    let plan = inputs.wx.backend().plan_backward(&problem, options)?;
    launch_backward(&plan, &problem, inputs, options, h, saved, given, gradients)
}

fn launch_forward<B: Rnn<T>, T: Float>(
    plan: &Plan,
    problem: &Problem,
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    outputs: &OutputsMut<'_, B, T>,
) -> Result<()> {
    let backend = inputs.wx.backend();
    trace(plan, &backend.name());
    backend.launch_forward(plan, problem, inputs, options, outputs)
}

#[allow(clippy::too_many_arguments)]
fn launch_backward<B: Rnn<T>, T: Float>(
    plan: &Plan,
    problem: &Problem,
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    h: &Tensor<B, T>,
    saved: &Saved<B, T>,
    given: &OutputGradients<'_, B, T>,
    gradients: &Gradients<B, T>,
) -> Result<()> {
    let backend = inputs.wx.backend();
    trace(plan, &backend.name());
    backend.launch_backward(plan, problem, inputs, options, h, saved, given, gradients)
}

fn trace(plan: &Plan, device: &str) {
    tracing::debug!(
        operation = NAME,
        device,
        variant = plan.variant,
        blocks = ?plan.blocks,
        workspace = plan.workspace,
    );
}
