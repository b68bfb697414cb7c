//! State update: a few steps of the recurrence of Mamba, on states that live in slots.
//!
//! For each batch entry b, step m, channel c and state n, with the head of the channel and its
//! group of heads:
//!
//! ```text
//! Δ   = clamp(softplus(dt + dt_bias))
//! h_n = exp(Δ A_n) h_n + Δ B_n x
//! out = (Σ_n C_n h_n + D x) silu(z)
//! ```
//!
//! | tensor | shape, plain | shape, with heads | elements | |
//! |---|---|---|---|---|
//! | `state` | (R, D, N) | (R, H, P, N) | f32, bf16, f16 | in place; R slots |
//! | `x`, `z`, `out` | (B, D) | (B, H, P) | T | |
//! | `dt` | (B, D) | (B, H, P) or (B, H) | T | |
//! | `A` | (D, N) or (D) | (H, P, N) or (H) | f32 | (D), (H): one exponential serves all |
//! | `B`, `C` | (B, N) or (B, G, N) | (B, G, N) | T | G divides D, or H |
//! | `D`, `dt_bias` | (D) | (H, P) or (H) | f32 | optional |
//! | `state_indices` | (B) | the same | integers | slot that is read; negative is padding |
//! | `out_indices` | (B) | the same | integers | slot that is written, where it is another |
//!
//! M steps at once, 1 to 16, have an axis M behind B in `x`, `dt`, `z`, `B`, `C` and `out`; the
//! states after each step come out too, (B, M, …), where [`OutputsMut::states`] asks for them, and
//! [`Options::keep_state`] leaves `state` itself alone, as speculative decoding needs it.
//!
//! T is f32, bf16 or f16 with f32 arithmetic, on the CPU also f64, which runs the reference. A
//! half-precision state is rounded to nearest once per step. The channels of `x`, `dt`, `z` and
//! `out` lie without gaps, as do slots; other strides are free. At a padded entry `out` is 0 and
//! no state is touched. That two entries write one slot is a caller's error: the CPU reports it,
//! on other devices either result may stay. Several steps at once give the same bits as one by one.
//! On WebGPU the slots of all states lie in one binding, and a call beyond the device's limit is
//! refused.
//!
//! The gradients of a step are those of [`selective_scan`](crate::selective_scan) with L = 1 and
//! the state before it as h0.
//!
//! Memory: a state is read and written once, 8 N bytes per channel in f32; nothing is allocated
//! and nothing waits, so that a call can be captured into a graph.
//!
//! ```
//! use warpwright::selective_scan::state_update::{self, Inputs, Options};
//! use warpwright::Tensor;
//!
//! // One slot, one channel, one state: h = e^{-1} 2 + 1 · 1 · 3.
//! let mut state = Tensor::from_vec(vec![2.0f32], &[1, 1, 1])?;
//! let [x, dt, b, c] = [3.0f32, 1.0, 1.0, 1.0].map(|v| Tensor::from_vec(vec![v], &[1, 1]));
//! let (x, dt, b, c) = (x?, dt?, b?, c?);
//! let a = Tensor::from_vec(vec![-1.0f32], &[1, 1])?;
//! let inputs = Inputs::new(&x, &dt, &a, &b, &c);
//! let out = state_update::update(&mut state, &inputs, &Options::default())?;
//! assert!((out.to_vec()?[0] - (2.0 * (-1.0f32).exp() + 3.0)).abs() < 1e-6);
//! assert_eq!(out.to_vec()?, state.to_vec()?);
//! # Ok::<(), warpwright::Error>(())
//! ```
//!
//! Papers: A. Gu, T. Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
//! 2023, arXiv 2312.00752; T. Dao, A. Gu, "Transformers are SSMs", 2024, arXiv 2405.21060.

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
#[cfg(feature = "wgpu")]
mod wgpu;

pub use crate::plan::Plan;
pub use check::Problem;
pub(crate) use cpu::VARIANTS as CPU_VARIANTS;
pub use inputs::{Inputs, OutputsMut, State};
pub(crate) use named::RunTime;
pub use options::Options;
#[cfg(feature = "wgpu")]
pub use wgpu::record;

/// The operation, as messages and the command name it.
pub const NAME: &str = "state-update";

/// B batch, M steps, H heads (of plain calls: channels), P width of a head, N states, G groups.
pub(crate) const AXES: [Axis; 6] = [
    Axis::required("B"),
    Axis::or("M", 1),
    Axis::required("H"),
    Axis::or("P", 1),
    Axis::required("N"),
    Axis::or("G", 1),
];

/// The largest state size N.
pub const MAX_STATES: usize = 256;

/// The most steps M.
pub const MAX_STEPS: usize = 16;

/// A backend that updates states with activations of type `T`.
pub trait StateUpdate<T: Float>: Backend {
    /// Chooses the kernel. Pure: it looks at sizes, types, options and the device's limits only.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`](crate::Error::Unsupported) where no kernel of the device fits, or
    /// the variant that was asked for does not exist.
    fn plan(&self, problem: &Problem, options: &Options) -> Result<Plan>;

    /// Every variant that fits the call, the plan's own first.
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan).
    fn variants(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        Ok(vec![self.plan(problem, options)?.variant])
    }

    /// Loads what the plan needs, so that the first call does not wait for it.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn preload(&self, plan: &Plan) -> Result<()>;

    /// Runs the chosen kernel. The tensors have been checked.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn launch(&self, plan: &Plan, problem: &Problem, call: &Call<'_, Self, T>) -> Result<()>;
}

/// What a kernel reads and writes.
#[derive(Debug)]
pub struct Call<'a, B: Backend, T: Float> {
    /// The states, in place.
    pub state: &'a State<'a, B>,
    /// What is read.
    pub inputs: &'a Inputs<'a, B, T>,
    /// How it is done.
    pub options: &'a Options,
    /// What is written besides the states.
    pub outputs: &'a OutputsMut<'a, B, T>,
}

/// Checks the call and chooses its kernel; nothing is launched.
///
/// # Errors
///
/// As [`update`], but for what only the run can tell.
pub fn plan<'a, B: StateUpdate<T>, T: Float>(
    state: impl Into<State<'a, B>>,
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Plan> {
    let problem = Problem::check(&state.into(), inputs, options)?;
    inputs.x.backend().plan(&problem, options)
}

/// Loads the plan's kernel on a device, so that the first call does not wait for it.
///
/// # Errors
///
/// The device's refusal.
pub fn preload<B: StateUpdate<T>, T: Float>(backend: &B, plan: &Plan) -> Result<()> {
    backend.preload(plan)
}

/// Moves the states on, in place, and gives the outputs in a new tensor.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape), [`Error::Dtype`](crate::Error::Dtype) and
/// [`Error::Tensor`](crate::Error::Tensor) where the inputs do not fit together,
/// [`Error::Option`](crate::Error::Option) for options that make no sense,
/// [`Error::Aliased`](crate::Error::Aliased) where `state` shares memory with an input,
/// [`Error::Unsupported`](crate::Error::Unsupported) where the device cannot do it, and the
/// device's own refusals. On the CPU [`Error::Value`](crate::Error::Value) for slots that are not
/// there or are written twice; other devices leave slots that are not there alone.
pub fn update<'a, B: StateUpdate<T>, T: Float>(
    state: impl Into<State<'a, B>>,
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Tensor<B, T>> {
    let mut out = Tensor::new(inputs.x.backend(), inputs.x.shape())?;
    update_into(state, inputs, options, &mut OutputsMut { out: &mut out, states: None })?;
    Ok(out)
}

/// As [`update`], into the caller's tensors, which must not share memory with one another or with
/// an input.
///
/// # Errors
///
/// As [`update`].
pub fn update_into<'a, B: StateUpdate<T>, T: Float>(
    state: impl Into<State<'a, B>>,
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    outputs: &mut OutputsMut<'_, B, T>,
) -> Result<()> {
    let state = state.into();
    let problem = Problem::check(&state, inputs, options)?;
    problem.check_outputs(&state, inputs, outputs)?;
    let backend = inputs.x.backend();
    let plan = backend.plan(&problem, options)?;
    tracing::debug!(
        operation = NAME,
        device = backend.name(),
        variant = plan.variant,
        blocks = ?plan.blocks,
        workspace = plan.workspace,
    );
    backend.launch(&plan, &problem, &Call { state: &state, inputs, options, outputs })
}
