//! Selective scan: the recurrence of Mamba.
//!
//! For every batch entry b, channel d, time step t and state n, with the group c(d) of channel d:
//!
//! ```text
//! p_t   = delta_t + delta_bias
//! s_t   = softplus(p_t) if delta_softplus, else p_t
//! Δ_t   = min(max(s_t, delta_min), delta_max)
//! a_tn  = exp(Δ_t A_n),  0 at a reset
//! h_tn  = a_tn h_{t-1,n} + Δ_t B_tn u_t
//! y_t   = Σ_n C_tn h_tn + D u_t
//! out_t = y_t silu(z_t)
//! ```
//!
//! | tensor | shape, [`Layout::Bdl`] | shape, [`Layout::Bld`] | elements | |
//! |---|---|---|---|---|
//! | `u`, `delta` | (B, D, L) | (B, L, D) | T | input, raw step size |
//! | `A` | (D, N) or (D) | the same | f32 | decay; (D) where it is equal over n |
//! | `B`, `C` | (B, G, N, L) | (B, L, G, N) | T | input and output maps; G divides D |
//! | constant `B`, `C` | (D, N) | the same | f32 | each may be constant by itself |
//! | `D`, `delta_bias` | (D) | the same | f32 | skip, bias; optional |
//! | `z` | (B, D, L) | (B, L, D) | T | gate; optional |
//! | `h0` | (B, D, N), packed (S, D, N) | the same | f32 | initial state; zero when absent |
//! | `out` | (B, D, L) | (B, L, D) | T | |
//! | `last_state` | as `h0` | the same | f32 | the state after the last step |
//!
//! T is f32, bf16 or f16 with f32 arithmetic; on the CPU also f64, which runs the reference with
//! f64 states. Where f32 is asked for, T is accepted too. The last axis has stride 1, the other
//! strides of activations, variable `B` and variable `C` are free; parameters have no gaps.
//! [`Resets`] separates documents in one of three ways. N is at most 256.
//!
//! Memory: each activation is read or written once, `B` and `C` once per block of channels;
//! nothing of size B·D·L·N is ever written. Equal inputs give equal bits on one device.
//!
//! Measured on 2026-11-25 with two threads of an AMD EPYC (AVX2), B = 4, D = 768, L = 1024, N = 16,
//! A = -(1 .. N), f32 with z, D, bias and softplus, medians of interleaved runs: 24 ms on [`Cpu`](crate::Cpu);
//! PyTorch takes 9.6 times as long with a loop over time steps in preallocated tensors, 7.7
//! times with its exponentials made in blocks, and 7.4 times with a parallel scan
//! (`benches/peers/selective_scan.py`). No GPU has been measured yet.
//!
//! Counted in the PTX, whole kernels of f32 with z, D, bias and softplus, N = 16, no bank conflicts:
//! where there are channels enough that a thread takes four, 6.95 (BDL) or 6.96 (BLD) instructions
//! of threads for each b, d, t and n at L = 1024, 6.98 or 6.99 at L = 256, and at most 1.08 of the
//! least bytes; where two threads share a channel, 7.65, and 21.4 with accurate decays
//! ([`Options::accurate_decays`]). Backward, D = 2048 and L = 1024, as planned for an H100: at most 42
//! instructions for f32 and 43.2 for 16 bits, 1.13 of the least bytes; for an A100 42.7, 44.3 and 1.18.
//!
//! ```
//! use warpwright::selective_scan::{self, Inputs, Options};
//! use warpwright::{Cpu, Tensor};
//!
//! // One channel, one state, three steps: h_t = e^{-Δ_t} h_{t-1} + Δ_t u_t.
//! let u = Tensor::from_vec(vec![1.0f32, 0.0, 0.0], &[1, 1, 3])?;
//! let delta = Tensor::from_vec(vec![1.0f32, 2.0, 0.0], &[1, 1, 3])?;
//! let a = Tensor::from_vec(vec![-1.0f32], &[1, 1])?;
//! let one = Tensor::from_vec(vec![1.0f32], &[1, 1])?;
//! let inputs = Inputs::new(&u, &delta, &a, &one, &one);
//! let scanned = selective_scan::forward(&inputs, &Options::default())?;
//! let out = scanned.out.to_vec()?;
//! assert_eq!(out[0], 1.0);
//! assert!((out[1] - (-2.0f32).exp()).abs() < 1e-7);
//! assert_eq!(out[2], out[1]);
//! # Ok::<(), warpwright::Error>(())
//! ```
//!
//! Papers: A. Gu, T. Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
//! 2023, arXiv 2312.00752.

use crate::Result;
use crate::backend::Backend;
use crate::element::Float;
use crate::operation::Axis;
use crate::tensor::Tensor;

mod check;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod gradients;
mod inputs;
mod kernels;
mod named;
mod options;
mod plan;
pub mod reference;
pub mod state_update;
#[cfg(feature = "wgpu")]
mod wgpu;

pub use crate::resets::Resets;
pub use check::Problem;
pub(crate) use cpu::VARIANTS as CPU_VARIANTS;
pub use gradients::{Gradients, GradientsMut, OutputGradients};
pub use inputs::{Inputs, Outputs, OutputsMut};
pub(crate) use named::RunTime;
pub use named::{check_named, plan_problem, run_named};
pub use options::{Layout, Options};
pub use plan::{Plan, Schedule};
#[cfg(feature = "wgpu")]
pub use wgpu::{record_backward, record_forward};

/// The operation, as messages and the command name it.
pub const NAME: &str = "selective-scan";

/// B batch, D channels, L steps, N states, G groups.
pub(crate) const AXES: [Axis; 5] = [
    Axis::required("B"),
    Axis::required("D"),
    Axis::required("L"),
    Axis::required("N"),
    Axis::or("G", 1),
];

/// The largest state size N.
pub const MAX_STATES: usize = 256;

/// Steps between two saved states.
pub const CHECKPOINT: usize = 256;

/// A backend that runs the selective scan on activations of type `T`.
pub trait SelectiveScan<T: Float>: Backend {
    /// Chooses the kernel. Pure: it looks at sizes, types, options and the device's limits only.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`](crate::Error::Unsupported) where no kernel of the device fits, or
    /// the variant that was asked for does not exist.
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan>;

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

    /// Every variant that fits the call, the plan's own first.
    ///
    /// # Errors
    ///
    /// As [`plan_forward`](Self::plan_forward).
    fn variants_forward(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        Ok(vec![self.plan_forward(problem, options)?.variant])
    }

    /// Loads what the plan needs, so that the first call does not wait for it.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn preload_forward(&self, plan: &Plan) -> Result<()>;

    /// Chooses the kernel of the backward pass, as [`plan_forward`](Self::plan_forward) does.
    ///
    /// # Errors
    ///
    /// As [`plan_forward`](Self::plan_forward).
    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan>;

    /// Every variant of the backward pass that fits the call, the plan's own first.
    ///
    /// # Errors
    ///
    /// As [`plan_backward`](Self::plan_backward).
    fn variants_backward(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        Ok(vec![self.plan_backward(problem, options)?.variant])
    }

    /// Loads what the plan of a backward pass needs.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn preload_backward(&self, plan: &Plan) -> Result<()>;

    /// Runs the chosen kernel of the backward pass. The tensors have been checked.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn launch_backward(
        &self,
        plan: &Plan,
        problem: &Problem,
        call: &BackwardCall<'_, Self, T>,
        gradients: &GradientsMut<'_, Self, T>,
    ) -> Result<()>;
}

/// What the backward pass reads.
#[derive(Debug)]
pub struct BackwardCall<'a, B: Backend, T: Float> {
    /// The inputs of the forward pass.
    pub inputs: &'a Inputs<'a, B, T>,
    /// The options of the forward pass.
    pub options: &'a Options,
    /// The states that the forward pass saved.
    pub saved: &'a Tensor<B, T::State>,
    /// The gradients of its outputs.
    pub outer: &'a OutputGradients<'a, B, T>,
}

/// Checks the call and chooses its kernel; nothing is launched.
///
/// # Errors
///
/// As [`forward`], but for what only the run can tell.
pub fn plan_forward<B: SelectiveScan<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Plan> {
    let problem = Problem::check(inputs, options)?;
    inputs.u.backend().plan_forward(&problem, options)
}

/// Loads the plan's kernel on a device, so that the first call does not wait for it.
///
/// # Errors
///
/// The device's refusal.
pub fn preload<B: SelectiveScan<T>, T: Float>(backend: &B, plan: &Plan) -> Result<()> {
    backend.preload_forward(plan)
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
pub fn forward<B: SelectiveScan<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Outputs<B, T>> {
    let problem = Problem::check(inputs, options)?;
    let backend = inputs.u.backend();
    let plan = backend.plan_forward(&problem, options)?;
    let mut outputs = Outputs {
        out: Tensor::new(backend, inputs.u.shape())?,
        last_state: Tensor::new(backend, &problem.state_shape())?,
        saved: match options.save {
            true => Some(Tensor::new(backend, &problem.saved_shape())?),
            false => None,
        },
    };
    launch(&plan, &problem, inputs, options, &outputs.as_mut())?;
    Ok(outputs)
}

/// Runs the scan into the caller's tensors, which must not share memory with one another or
/// with an input.
///
/// # Errors
///
/// As [`forward`], and [`Error::Aliased`](crate::Error::Aliased).
pub fn forward_into<B: SelectiveScan<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    outputs: &mut OutputsMut<'_, B, T>,
) -> Result<()> {
    let problem = Problem::check(inputs, options)?;
    problem.check_outputs(inputs, outputs)?;
    let plan = inputs.u.backend().plan_forward(&problem, options)?;
    launch(&plan, &problem, inputs, options, outputs)
}

fn launch<B: SelectiveScan<T>, T: Float>(
    plan: &Plan,
    problem: &Problem,
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    outputs: &OutputsMut<'_, B, T>,
) -> Result<()> {
    let backend = inputs.u.backend();
    tracing::debug!(
        operation = NAME,
        device = backend.name(),
        variant = plan.variant,
        blocks = ?plan.blocks,
        workspace = plan.workspace,
    );
    backend.launch_forward(plan, problem, inputs, options, outputs)
}

/// Chooses the kernel of the backward pass; nothing is launched. [`Plan::workspace`] is the memory
/// that the call takes besides its tensors.
///
/// # Errors
///
/// As [`backward`], but for what only the run can tell.
pub fn plan_backward<B: SelectiveScan<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Plan> {
    let problem = Problem::check(inputs, options)?;
    inputs.u.backend().plan_backward(&problem, options)
}

/// Loads the kernels of a backward pass on a device, so that the first call does not wait for
/// them.
///
/// # Errors
///
/// The device's refusal.
pub fn preload_backward<B: SelectiveScan<T>, T: Float>(backend: &B, plan: &Plan) -> Result<()> {
    backend.preload_backward(plan)
}

/// Computes the gradients of all inputs from those of the outputs:
///
/// ```text
/// dy_t = dout_t silu(z_t),   dz_t = dout_t y_t silu'(z_t),   dD = Σ dy_t u_t
/// g_tn = a_{t+1,n} g_{t+1,n} + dy_t C_tn,   q_tn = a_tn h_{t-1,n},   dh0_n = a_0n g_0n
/// w_t  = Σ_n g_tn B_tn,   du_t = D dy_t + Δ_t w_t,   dΔ_t = u_t w_t + Σ_n A_n g_tn q_tn
/// dA_n = Σ Δ_t g_tn q_tn,   dB_tn = Σ_d g_tn Δ_t u_t,   dC_tn = Σ_d dy_t h_tn
/// ```
///
/// dA, dD, ddelta_bias and constant maps are sums over b and t, variable dB and dC over the
/// channels of a group; ddelta passes back through clamp and softplus. `saved` is what the
/// forward pass with [`Options::save`] gave; the states between are computed again. All sums have
/// a fixed order: equal inputs give equal bits, whatever the number of threads.
///
/// ```
/// use warpwright::selective_scan::{self, Inputs, Options, OutputGradients};
/// use warpwright::Tensor;
///
/// // y = C h, h = Δ B u: one step.
/// let [u, delta, b, c] = [3.0f32, 0.5, 2.0, 7.0].map(|x| Tensor::from_vec(vec![x], &[1, 1, 1]));
/// let (u, delta, b, c) = (u?, delta?, b?, c?);
/// let a = Tensor::from_vec(vec![-1.0f32], &[1, 1])?;
/// let (b, c) = (Tensor::from_vec(b.into_vec()?, &[1, 1])?, Tensor::from_vec(c.into_vec()?, &[1, 1])?);
/// let inputs = Inputs::new(&u, &delta, &a, &b, &c);
/// let options = Options::default().with_save(true);
/// let scanned = selective_scan::forward(&inputs, &options)?;
/// let dout = Tensor::from_vec(vec![1.0f32], &[1, 1, 1])?;
/// let Some(saved) = &scanned.saved else { unreachable!("it was asked for") };
/// let gradients =
///     selective_scan::backward(&inputs, &options, saved, &OutputGradients::new(&dout))?;
/// assert_eq!(gradients.du.to_vec()?, [7.0 * 0.5 * 2.0]);
/// assert_eq!(gradients.ddelta.to_vec()?, [7.0 * 2.0 * 3.0]);
/// # Ok::<(), warpwright::Error>(())
/// ```
///
/// # Errors
///
/// As [`forward`].
pub fn backward<B: SelectiveScan<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    saved: &Tensor<B, T::State>,
    outer: &OutputGradients<'_, B, T>,
) -> Result<Gradients<B, T>> {
    let problem = Problem::check(inputs, options)?;
    problem.check_output_gradients(inputs, saved, outer)?;
    let plan = inputs.u.backend().plan_backward(&problem, options)?;
    let mut gradients = Gradients::new(&problem, inputs, options)?;
    let call = BackwardCall { inputs, options, saved, outer };
    launch_backward(&plan, &problem, &call, &gradients.as_mut())?;
    Ok(gradients)
}

/// As [`backward`], into the caller's tensors, which must not share memory with one another or
/// with an input. Only the gradients that are there are computed.
///
/// # Errors
///
/// As [`backward`], and [`Error::Aliased`](crate::Error::Aliased).
pub fn backward_into<B: SelectiveScan<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    saved: &Tensor<B, T::State>,
    outer: &OutputGradients<'_, B, T>,
    gradients: &mut GradientsMut<'_, B, T>,
) -> Result<()> {
    let problem = Problem::check(inputs, options)?;
    problem.check_output_gradients(inputs, saved, outer)?;
    problem.check_gradients(inputs, saved, outer, options, gradients)?;
    let plan = inputs.u.backend().plan_backward(&problem, options)?;
    launch_backward(&plan, &problem, &BackwardCall { inputs, options, saved, outer }, gradients)
}

fn launch_backward<B: SelectiveScan<T>, T: Float>(
    plan: &Plan,
    problem: &Problem,
    call: &BackwardCall<'_, B, T>,
    gradients: &GradientsMut<'_, B, T>,
) -> Result<()> {
    let backend = call.inputs.u.backend();
    tracing::debug!(
        operation = NAME,
        device = backend.name(),
        variant = plan.variant,
        blocks = ?plan.blocks,
        workspace = plan.workspace,
    );
    backend.launch_backward(plan, problem, call, gradients)
}
