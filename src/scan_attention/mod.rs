//! Scan attention: the recurrence of "Attention as an RNN" (Aaren).
//!
//! One fixed query per head attends to all keys up to each step; what is kept between steps is
//! (m, u, w): the largest score m, the sum u of the weights relative to it, and the sum w of the
//! values under these weights. From (m, u, w) = carry in, or (-∞, 0, 0), for every batch entry,
//! head and step t:
//!
//! ```text
//! s_t = scale q · k_t                    (or given)
//! m'  = max(m, s_t)
//! u'  = u e^{m - m'} + e^{s_t - m'}
//! w'  = w e^{m - m'} + e^{s_t - m'} v_t
//! o_t = w' / u',   lse_t = m' + log u'
//! ```
//!
//! The difference of two scores is taken before anything is exponentiated, never is a positive
//! number exponentiated, and e^{-∞ - (-∞)} counts as 0. Backward, with the gradients x of w and y
//! of u, from the last step down (x and y of the carry out to begin with):
//!
//! ```text
//! x_t = do_t / u_t          + e^{m_t - m_{t+1}} x_{t+1}
//! y_t = -(do_t · o_t) / u_t + e^{m_t - m_{t+1}} y_{t+1}
//! dv_t = e^{s_t - m_t} x_t
//! ds_t = e^{s_t - m_t} (x_t · v_t + y_t)
//! dk_t = scale Σ ds_t q,   dq = scale Σ ds_t k_t
//! dw0 = e^{m0 - m_0} x_0,  du0 = e^{m0 - m_0} y_0,  dm0 = u0 du0 + w0 · dw0
//! ```
//!
//! The carry out means (m + log u, w / u): m shifts both, so its gradient is never given.
//!
//! | tensor | shape, [`Layout::Bhld`] | shape, [`Layout::Blhd`] | elements | |
//! |---|---|---|---|---|
//! | `s` | (B, H, L) | the same | f32 or T | scores, or instead of them: |
//! | `q` | (H, Dk) | the same | f32 or T | query, |
//! | `k` | (B, Hk, L, Dk) | (B, L, Hk, Dk) | T | keys; Hk divides H |
//! | `v` | (B, H, L, Dv); with keys (B, Hk, L, Dv) | (B, L, H, Dv); (B, L, Hk, Dv) | T | values |
//! | `m0`, `u0` | (B, H), packed (S, H) | the same | f32 | carry in; all three or none |
//! | `w0` | (B, H, Dv), packed (S, H, Dv) | the same | f32 | |
//! | `mask` | (B, L) | the same | u8 | 0: the token is passed over |
//! | `o` | (B, H, L, Dv) | (B, L, H, Dv) | T | |
//! | `lse` | (B, H, L) | the same | f32 | log of the sum of weights |
//! | `m`, `u`, `w` | as `m0`, `u0`, `w0` | the same | f32 | carry out |
//!
//! T is f32, bf16 or f16 with f32 arithmetic; on the CPU also f64, which runs the reference. Where
//! f32 is asked for, T is accepted too. The last axis has stride 1, the other strides of `s`, `k`,
//! `v` and `o` are free. [`Resets`] separates documents. A masked token leaves the state alone and
//! gives o of it; padding (a negative `seq_idx`) gives o = 0, lse = -∞ and has no gradients. Where
//! nothing has been seen yet, o = 0 and lse = -∞. Score gradients have the type of `s`, those of
//! `q` and of the carry are f32.
//!
//! Time is walked in tiles of [`TILE`] steps. Within a tile sums start from zero, and the state
//! before the tile is added to each of them: long rows lose no digits, and tiles are summed side
//! by side. For the backward pass [`Options::save`] keeps that state, [`Saved`], Dv / 32 + 1/16
//! numbers per head and step (two where Dv = 62), and the scores where they were computed; what
//! the steps inside a tile need is made again by the forward's own arithmetic. `lse` is not used:
//! its rounding alone would cost 2e-5 of the gradients for scores of standard deviation 30.
//!
//! Memory: forward 3 elements per key and value feature and step, or 2 without keys; backward 5,
//! or 3. Equal inputs give equal bits on one device, gradients too.
//!
//! ```
//! use warpwright::scan_attention::{self, Inputs, Options};
//! use warpwright::Tensor;
//!
//! // Equal scores: the running mean of the values.
//! let s = Tensor::from_vec(vec![5.0f32, 5.0, 5.0], &[1, 1, 3])?;
//! let v = Tensor::from_vec(vec![3.0f32, 1.0, 2.0], &[1, 1, 3, 1])?;
//! let scanned = scan_attention::forward(&Inputs::new(&s, &v), &Options::default())?;
//! assert_eq!(scanned.o.to_vec()?, [3.0, 2.0, 2.0]);
//! assert_eq!(scanned.carry.m.to_vec()?, [5.0]);
//! # Ok::<(), warpwright::Error>(())
//! ```
//!
//! Paper: L. Feng, F. Tung, H. Hajimirsadeghi, M. O. Ahmed, Y. Bengio, G. Mori, "Attention as an
//! RNN", 2024, arXiv 2405.13956.

use crate::Result;
use crate::backend::Backend;
use crate::element::Float;
use crate::operation::Axis;
use crate::plan::Plan;
use crate::tensor::Tensor;

mod check;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod inputs;
mod kernels;
mod named;
mod options;
mod outputs;
mod plan;
pub mod reference;
mod step;
#[cfg(feature = "wgpu")]
mod wgpu;

pub use crate::resets::Resets;
pub use check::Problem;
pub(crate) use cpu::VARIANTS as CPU_VARIANTS;
pub use inputs::{Carry, Inputs, OutputGradients, Scores};
pub(crate) use named::RunTime;
#[cfg(feature = "verify")]
pub(crate) use named::split;
pub use named::{check_named, run_named};
pub use options::{Layout, Options};
pub use outputs::{Gradients, Outputs, OutputsMut, Saved, ScoreGradients, State};
pub use step::{StepInputs, StepProblem, step, step_into};

/// The operation, as messages and the command name it.
pub const NAME: &str = "scan-attention";

/// B batch, H heads, Hk heads of keys and values (0: as many as H), L steps, Dk features of a key
/// (0: the scores are given), Dv features of a value.
pub(crate) const AXES: [Axis; 6] = [
    Axis::required("B"),
    Axis::required("H"),
    Axis::or("Hk", 0),
    Axis::required("L"),
    Axis::or("Dk", 0),
    Axis::required("Dv"),
];

/// Steps whose sums start from zero together; states are saved before each of them.
pub const TILE: usize = 32;

/// A backend that runs scan attention on activations of type `T`.
pub trait ScanAttention<T: Float>: Backend {
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

    /// Runs the chosen kernel. The tensors have been checked.
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

    /// Runs the chosen kernel of the backward pass. The tensors have been checked.
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
        saved: &Saved<Self, T>,
        given: &OutputGradients<'_, Self, T>,
        gradients: &Gradients<Self, T>,
    ) -> Result<()>;

    /// Takes one token into the states. The tensors have been checked.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn launch_step(
        &self,
        problem: &StepProblem,
        inputs: &StepInputs<'_, Self, T>,
        options: &Options,
        state: &State<Self, T>,
        o: &Tensor<Self, T>,
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
pub fn plan_forward<B: ScanAttention<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Plan> {
    let problem = Problem::check(inputs, options)?;
    inputs.v.backend().plan_forward(&problem, options)
}

/// Checks the call and chooses the kernel of its backward pass; nothing is launched.
///
/// # Errors
///
/// As [`plan_forward`].
pub fn plan_backward<B: ScanAttention<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Plan> {
    let problem = Problem::check(inputs, options)?;
    inputs.v.backend().plan_backward(&problem, options)
}

/// Loads the plan's kernels on a device, so that the first call does not wait for them.
///
/// # Errors
///
/// The device's refusal.
pub fn preload<B: ScanAttention<T>, T: Float>(backend: &B, plan: &Plan) -> Result<()> {
    backend.preload(plan)
}

/// Runs the scan into new tensors.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape), [`Error::Dtype`](crate::Error::Dtype) and
/// [`Error::Tensor`](crate::Error::Tensor) where the inputs do not fit together,
/// [`Error::Option`](crate::Error::Option) for options that make no sense,
/// [`Error::Unsupported`](crate::Error::Unsupported) where the device cannot do it, and the
/// device's own refusals. On the CPU [`Error::Value`](crate::Error::Value) where `cu_seqlens`
/// is not a rising sequence from 0 to L; other devices confine wrong values to the tensors.
pub fn forward<B: ScanAttention<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Outputs<B, T>> {
    let problem = Problem::check(inputs, options)?;
    let backend = inputs.v.backend();
    let plan = backend.plan_forward(&problem, options)?;
    let mut outputs = Outputs::new(backend, &problem)?;
    launch_forward(&plan, &problem, inputs, options, &outputs.as_mut())?;
    Ok(outputs)
}

/// Runs the scan into the caller's tensors, which must not share memory with one another or
/// with an input.
///
/// # Errors
///
/// As [`forward`], and [`Error::Aliased`](crate::Error::Aliased).
pub fn forward_into<B: ScanAttention<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    outputs: &mut OutputsMut<'_, B, T>,
) -> Result<()> {
    let problem = Problem::check(inputs, options)?;
    problem.check_outputs(inputs, outputs)?;
    let plan = inputs.v.backend().plan_forward(&problem, options)?;
    launch_forward(&plan, &problem, inputs, options, outputs)
}

/// Runs the backward pass into new tensors: gradients of every differentiable input that is
/// present. `saved` comes from a forward call with the same inputs and [`Options::save`].
///
/// # Errors
///
/// As [`forward`].
pub fn backward<B: ScanAttention<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    saved: &Saved<B, T>,
    given: &OutputGradients<'_, B, T>,
) -> Result<Gradients<B, T>> {
    let problem = Problem::check(inputs, options)?;
    problem.check_backward(inputs, saved, given)?;
    let backend = inputs.v.backend();
    let plan = backend.plan_backward(&problem, options)?;
    let gradients = Gradients::new(backend, &problem, inputs)?;
    launch_backward(&plan, &problem, inputs, options, saved, given, &gradients)?;
    Ok(gradients)
}

/// Runs the backward pass into the caller's tensors, which must not share memory with one another
/// or with an input.
///
/// # Errors
///
/// As [`backward`], and [`Error::Aliased`](crate::Error::Aliased).
pub fn backward_into<B: ScanAttention<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    saved: &Saved<B, T>,
    given: &OutputGradients<'_, B, T>,
    gradients: &mut Gradients<B, T>,
) -> Result<()> {
    let problem = Problem::check(inputs, options)?;
    problem.check_backward(inputs, saved, given)?;
    problem.check_gradients(inputs, saved, given, gradients)?;
    let plan = inputs.v.backend().plan_backward(&problem, options)?;
    launch_backward(&plan, &problem, inputs, options, saved, given, gradients)
}

fn launch_forward<B: ScanAttention<T>, T: Float>(
    plan: &Plan,
    problem: &Problem,
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    outputs: &OutputsMut<'_, B, T>,
) -> Result<()> {
    let backend = inputs.v.backend();
    trace(plan, &backend.name());
    backend.launch_forward(plan, problem, inputs, options, outputs)
}

fn launch_backward<B: ScanAttention<T>, T: Float>(
    plan: &Plan,
    problem: &Problem,
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    saved: &Saved<B, T>,
    given: &OutputGradients<'_, B, T>,
    gradients: &Gradients<B, T>,
) -> Result<()> {
    let backend = inputs.v.backend();
    trace(plan, &backend.name());
    backend.launch_backward(plan, problem, inputs, options, saved, given, gradients)
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
