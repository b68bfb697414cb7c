//! One step of a causal convolution, or a few, from a state that is moved on in place.
//!
//! For every batch entry b and channel d, with the history h of W - 1 earlier inputs:
//!
//! ```text
//! xs    = concat(h, x_0 .. x_{S-1})
//! out_i = activation(bias + Σ_j w_j xs_{i+j})
//! ```
//!
//! | tensor | shape, [`Layout::Bdl`](super::Layout::Bdl) | shape, [`Layout::Bld`](super::Layout::Bld) | elements | |
//! |---|---|---|---|---|
//! | `x`, `out` | (B, D, S) or (B, D) | (B, S, D) or (B, D) | T | |
//! | `weight` | (D, W) | the same | f32 or T | W from 1 to 8 |
//! | `bias` | (D) | the same | f32 or T | optional |
//! | `conv_state` | (R, D, K) | the same | f32 or T | K >= W - 1; in place |
//! | `cache_seqlens` | (B) | the same | integers | optional |
//! | `state_indices` | (B) | the same | integers | optional |
//!
//! The state has one of two forms:
//!
//! * shifted, without `cache_seqlens`: h is its last W - 1 entries, and afterwards it holds the last
//!   K entries of concat(`conv_state`, x);
//! * circular, with `cache_seqlens`: at position c = `cache_seqlens[b]` h is the entries c - W + 1
//!   to c - 1 mod K, and x_i is stored at (c + i) mod K.
//!
//! Entry b uses the slot `state_indices[b]`, else the slot b. A negative index is padding: its
//! output is 0 and no state is touched. Two entries must not use one slot. The state is copied
//! exactly, its strides are free; the last axis of `x` and `out` has stride 1.
//!
//! ```
//! use warpwright::causal_conv1d::{Options, update};
//! use warpwright::{Cpu, Tensor};
//!
//! // out = x - the x before, which the state keeps.
//! let weight = Tensor::from_vec(vec![-1.0f32, 1.0], &[1, 2])?;
//! let mut state = Tensor::from_vec(vec![3.0f32], &[1, 1, 1])?;
//! let x = Tensor::from_vec(vec![5.0f32], &[1, 1])?;
//! let inputs = update::Inputs::new(&x, &weight);
//! let out = update::update(&inputs, (&mut state).into(), &Options::default())?;
//! assert_eq!(out.to_vec()?, [2.0]);
//! assert_eq!(state.to_vec()?, [5.0]);
//! # Ok::<(), warpwright::Error>(())
//! ```

use super::{Options, Plan};
use crate::Result;
use crate::backend::Backend;
use crate::element::Float;
use crate::operation::Axis;
use crate::parameter::{Indices, Parameter};
use crate::tensor::{Tensor, View};

mod check;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod kernels;
mod named;
mod plan;
pub mod reference;
#[cfg(feature = "wgpu")]
mod wgpu;

use check::CHECK;
pub use check::Problem;
pub(crate) use cpu::VARIANTS as CPU_VARIANTS;
pub(crate) use named::RunTime;
pub use named::{check_named, plan_problem, run_named};
#[cfg(feature = "wgpu")]
pub use wgpu::record;

/// The operation, as messages and the command name it.
pub const NAME: &str = "causal-conv1d-update";

/// B batch, D channels, S steps, W taps, K entries of a state.
pub(crate) const AXES: [Axis; 5] = [
    Axis::required("B"),
    Axis::required("D"),
    Axis::or("S", 1),
    Axis::or("W", 4),
    Axis::or("K", 3),
];

/// The tensors of an update but for the state; shapes stand in the [module's](self) table.
#[derive(Debug)]
pub struct Inputs<'a, B: Backend, T: Float> {
    /// New inputs, (B, D), (B, D, S) or (B, S, D).
    pub x: &'a Tensor<B, T>,
    /// Taps, (D, W): the last one multiplies the present step.
    pub weight: Parameter<'a, B>,
    /// Added to each sum, (D).
    pub bias: Option<Parameter<'a, B>>,
    /// Where circular states stand, (B).
    pub cache_seqlens: Option<Indices<'a, B>>,
    /// The slot of each batch entry, (B).
    pub state_indices: Option<Indices<'a, B>>,
}

impl<'a, B: Backend, T: Float> Inputs<'a, B, T> {
    /// The tensors that no update can do without; the others are absent.
    pub fn new(x: &'a Tensor<B, T>, weight: impl Into<Parameter<'a, B>>) -> Self {
        let weight = weight.into();
        Self { x, weight, bias: None, cache_seqlens: None, state_indices: None }
    }

    /// With a bias.
    pub fn with_bias(mut self, bias: impl Into<Parameter<'a, B>>) -> Self {
        self.bias = Some(bias.into());
        self
    }

    /// With circular states, which stand at these positions.
    pub fn with_cache_seqlens(mut self, positions: impl Into<Indices<'a, B>>) -> Self {
        self.cache_seqlens = Some(positions.into());
        self
    }

    /// With a slot for each batch entry.
    pub fn with_state_indices(mut self, slots: impl Into<Indices<'a, B>>) -> Self {
        self.state_indices = Some(slots.into());
        self
    }

    /// Every tensor that is present, under its name.
    pub fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> =
            vec![("x", self.x), ("weight", self.weight.view())];
        named.extend(self.bias.as_ref().map(|bias| ("bias", bias.view())));
        let indices =
            [("cache_seqlens", &self.cache_seqlens), ("state_indices", &self.state_indices)];
        named.extend(
            indices
                .into_iter()
                .filter_map(|(name, indices)| Some((name, indices.as_ref()?.view()))),
        );
        named
    }
}

/// A state that is moved on in place, of f32 or of the activations' type. Made from an exclusive
/// reference to a tensor or a view.
#[derive(Debug)]
pub struct StateMut<'a, B: Backend>(&'a View<B>);

impl<'a, B: Backend, S: Float> From<&'a mut Tensor<B, S>> for StateMut<'a, B> {
    fn from(tensor: &'a mut Tensor<B, S>) -> Self {
        Self(tensor)
    }
}

impl<'a, B: Backend> From<&'a mut View<B>> for StateMut<'a, B> {
    fn from(view: &'a mut View<B>) -> Self {
        Self(view)
    }
}

/// A backend that updates convolutions of activations of type `T`.
pub trait CausalConv1dUpdate<T: Float>: Backend {
    /// Chooses the kernel. Pure: it looks at sizes, types, options and the device's limits only.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`](crate::Error::Unsupported) where no kernel of the device fits, or
    /// the variant that was asked for does not exist.
    fn plan_update(&self, problem: &Problem, options: &Options) -> Result<Plan>;

    /// Loads what the plan needs, so that the first call does not wait for it.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn preload_update(&self, plan: &Plan) -> Result<()>;

    /// Runs the chosen kernel. The tensors have been checked.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn launch_update(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        conv_state: &View<Self>,
        options: &Options,
        out: &Tensor<Self, T>,
    ) -> Result<()>;
}

/// Checks the call and chooses its kernel; nothing is launched.
///
/// # Errors
///
/// As [`update`], but for what only the run can tell.
pub fn plan<B: CausalConv1dUpdate<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    conv_state: &View<B>,
    options: &Options,
) -> Result<Plan> {
    let problem = Problem::check(inputs, conv_state, options)?;
    inputs.x.backend().plan_update(&problem, options)
}

/// Loads the plan's kernel on a device, so that the first call does not wait for it.
///
/// # Errors
///
/// The device's refusal.
pub fn preload<B: CausalConv1dUpdate<T>, T: Float>(backend: &B, plan: &Plan) -> Result<()> {
    backend.preload_update(plan)
}

/// Moves the state on, and gives the output in a new tensor.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape), [`Error::Dtype`](crate::Error::Dtype) and
/// [`Error::Tensor`](crate::Error::Tensor) where the tensors do not fit together,
/// [`Error::Aliased`](crate::Error::Aliased) where the state lies over an input, and the device's
/// refusals. On the CPU [`Error::Value`](crate::Error::Value) for a slot that is not there or is
/// used twice, or a negative position; other devices take a slot that is not there for padding.
pub fn update<B: CausalConv1dUpdate<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    conv_state: StateMut<'_, B>,
    options: &Options,
) -> Result<Tensor<B, T>> {
    let problem = Problem::check(inputs, conv_state.0, options)?;
    CHECK.disjoint(&[("conv_state", conv_state.0)], &inputs.named())?;
    let out = Tensor::new(inputs.x.backend(), inputs.x.shape())?;
    launch(&problem, inputs, conv_state.0, options, &out)?;
    Ok(out)
}

/// Moves the state on, and writes the output into the caller's tensor, which must not share memory
/// with the others.
///
/// # Errors
///
/// As [`update`].
pub fn update_into<B: CausalConv1dUpdate<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    conv_state: StateMut<'_, B>,
    options: &Options,
    out: &mut Tensor<B, T>,
) -> Result<()> {
    let problem = Problem::check(inputs, conv_state.0, options)?;
    problem.check_out(inputs, out)?;
    CHECK.disjoint(&[("out", out), ("conv_state", conv_state.0)], &inputs.named())?;
    launch(&problem, inputs, conv_state.0, options, out)
}

fn launch<B: CausalConv1dUpdate<T>, T: Float>(
    problem: &Problem,
    inputs: &Inputs<'_, B, T>,
    conv_state: &View<B>,
    options: &Options,
    out: &Tensor<B, T>,
) -> Result<()> {
    let backend = inputs.x.backend();
    let plan = backend.plan_update(problem, options)?;
    tracing::debug!(
        operation = NAME,
        device = backend.name(),
        variant = plan.variant,
        blocks = ?plan.blocks,
    );
    backend.launch_update(&plan, problem, inputs, conv_state, options, out)
}
