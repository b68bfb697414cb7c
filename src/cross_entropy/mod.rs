//! Cross entropy over a vocabulary that may be cut among ranks, of logits or of the linear layer
//! in front of them.
//!
//! For each token, with the logits z of all columns, its target t, label smoothing ε, weight ζ of
//! the z-loss and V columns:
//!
//! ```text
//! z ← c tanh(z / c)                      (with a softcap c)
//! lse = log Σ_v e^{z_v}
//! loss = lse - (1 - ε) z_t - ε Σ_v z_v / V + ζ lse²
//! ```
//!
//! and 0 where the token is ignored: its target is [`Options::ignore_index`] or no column. What a
//! rank has seen of a token, its columns, is told in four numbers: the largest logit m, s = Σ e^{z - m},
//! z_t if the target is among them, and Σ z. They combine in the order of ranks:
//!
//! ```text
//! M = max m_i,  S = Σ_i s_i e^{m_i - M},  lse = M + log S
//! ```
//!
//! so one exchange of 16 bytes per token and rank gives every rank the loss, with equal bits. Backward,
//! with the gradient g of the token's loss, 0 where it is ignored:
//!
//! ```text
//! dz_v = g (e^{z_v - lse} (1 + 2 ζ lse) - ε / V - (1 - ε) [v = t])   (times 1 - (z_v / c)²)
//! dx = Σ_i dz W_i,   dW_i = dzᵀ x
//! ```
//!
//! | tensor | shape | elements | |
//! |---|---|---|---|
//! | `logits` | (T, Vi) | T | those of this rank's columns, or instead of them: |
//! | `x` | (T, E) | T | activations, the same on all ranks, |
//! | `weight` | (Vi, E) | T | and this rank's rows of the weight; z = x Wᵀ |
//! | `target` | (T) | i32, i64, u32, u64 | columns of the whole vocabulary |
//! | `loss` | (1); (T) without a reduction | f32 | |
//! | `lse` | (T) | f32 | of every token, ignored ones too |
//!
//! T is f32, bf16 or f16 with f32 arithmetic; on the CPU also f64, which runs the reference. Rows may
//! be apart, their elements are neighbours. Gradients have the types and shapes of what they belong
//! to; `dloss` is f32 or T. A logit of -∞ counts for nothing, one of +∞ makes lse +∞, one that is no
//! number spoils its own token alone; WGSL may assume that there are none of these.
//!
//! Logits that are computed are there for a few columns of all tokens at a time, in f32, and computed
//! again in the backward pass: [`Plan::columns`] says how many, [`Plan::workspace`] what that takes. So
//! the gradient of each row of the weight is one sum, rounded once; that of x is summed in f32 over
//! the columns in their order.
//!
//! Given logits are read once, forward, and once and written once, backward: memory is the bound.
//! Computed ones cost 2 T V E operations forward and 6 T V E backward. Equal calls give equal bits
//! on one device.
//!
//! Counted on the interpreter of PTX, rows of 16,384 columns move 1.01 to 1.03 of the bytes that they
//! must, in 13 or 14 instructions per logit forward and 11 or 12 backward; of those of a product of 128 in
//! each direction 60 % are FMA forward, 72 % backward. No access meets another in a bank of shared memory.
//!
//! ```
//! use warpwright::cross_entropy::{self, Inputs, Options};
//! use warpwright::Tensor;
//!
//! let logits = Tensor::from_vec(vec![0.0f32, 3f32.ln(), 0.0, 0.0], &[2, 2])?;
//! let target = Tensor::from_vec(vec![1i64, -100], &[2])?;
//! let inputs = Inputs::new(&logits, &target);
//! // The second token is ignored.
//! let outputs = cross_entropy::forward(&inputs, &Options::default())?;
//! assert!((outputs.loss.to_vec()?[0] - (4f32 / 3.0).ln()).abs() < 1e-6);
//! # Ok::<(), warpwright::Error>(())
//! ```
//!
//! Ranks that share a vocabulary, each with some of its columns, call [`forward_among`]:
//!
//! ```
//! use warpwright::collective::{Communicator, Local};
//! use warpwright::cross_entropy::{self, Inputs, Options};
//! use warpwright::{Cpu, Tensor};
//!
//! let losses = Local::<Cpu>::run(2, |ranks| {
//!     // Columns 0 and 1 are here, 2 and 3 there, all alike.
//!     let options = Options::default().with_shard(2 * ranks.rank(), 4);
//!     let logits = Tensor::from_vec(vec![5.0f32, 5.0], &[1, 2])?;
//!     let target = Tensor::from_vec(vec![3i64], &[1])?;
//!     cross_entropy::forward_among(&ranks, &Inputs::new(&logits, &target), &options)?.loss.to_vec()
//! });
//! for loss in losses {
//!     assert!((loss?[0] - 4f32.ln()).abs() < 1e-6);
//! }
//! # Ok::<(), warpwright::Error>(())
//! ```
//!
//! Papers: E. Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models", 2024, arXiv
//! 2411.09009; P.-L. Hsu et al., "Liger Kernel: Efficient Triton Kernels for LLM Training", 2024, arXiv
//! 2410.10989; ranks: M. Shoeybi et al., "Megatron-LM", 2019, arXiv 1909.08053.

use crate::Result;
use crate::backend::Backend;
use crate::element::Float;
use crate::operation::Axis;
use crate::parameter::{Indices, Parameter};
use crate::tensor::{Tensor, View};

mod among;
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
#[cfg(feature = "wgpu")]
mod wgpu;

pub use among::{backward_among, forward_among};
pub use check::Problem;
pub(crate) use cpu::VARIANTS as CPU_VARIANTS;
pub use inputs::{Inputs, Logits};
pub(crate) use named::RunTime;
#[cfg(feature = "verify")]
pub(crate) use named::{among as among_threads, split, whole};
pub use named::{check_named, run_named};
pub use options::{Options, Reduction, Shard};
pub use outputs::{GradientLines, Gradients, Outputs, OutputsMut};
pub use plan::Plan;

/// The operation, as messages and the command name it.
pub const NAME: &str = "cross-entropy";

/// T tokens, V columns, E features of the linear layer (0: the logits are given).
pub(crate) const AXES: [Axis; 3] = [Axis::required("T"), Axis::required("V"), Axis::or("E", 0)];

/// The numbers that tell what a rank has seen of a token: m, s, z_t and Σ z. Of no column they are
/// the least finite number, 0, 0 and 0.
pub const STATISTICS: usize = 4;

/// A backend that runs cross entropy on logits, or activations, of type `T`.
pub trait CrossEntropy<T: Float>: Backend {
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

    /// Tells what this rank's columns say of each token: (T, [`STATISTICS`]), without gaps. The
    /// tensors have been checked.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn launch_statistics(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        statistics: &Tensor<Self, T::State>,
    ) -> Result<()>;

    /// Combines the statistics of ranks, (ranks, T, [`STATISTICS`]) without gaps, into loss and lse.
    /// The tensors have been checked.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn launch_loss(
        &self,
        problem: &Problem,
        target: Indices<'_, Self>,
        options: &Options,
        statistics: &Tensor<Self, T::State>,
        outputs: &OutputsMut<'_, Self, T>,
    ) -> Result<()>;

    /// Runs the chosen kernel of the backward pass over this rank's columns. The tensors have been
    /// checked.
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
        lse: &Tensor<Self, T::State>,
        dloss: Parameter<'_, Self>,
        gradients: &GradientLines<'_, Self>,
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
pub fn plan_forward<B: CrossEntropy<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Plan> {
    let problem = Problem::check(inputs, options)?;
    inputs.backend().plan_forward(&problem, options)
}

/// Checks the call and chooses the kernel of its backward pass; nothing is launched.
///
/// # Errors
///
/// As [`plan_forward`].
pub fn plan_backward<B: CrossEntropy<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Plan> {
    let problem = Problem::check(inputs, options)?;
    inputs.backend().plan_backward(&problem, options)
}

/// Loads the plan's kernels on a device, so that the first call does not wait for them.
///
/// # Errors
///
/// The device's refusal.
pub fn preload<B: CrossEntropy<T>, T: Float>(backend: &B, plan: &Plan) -> Result<()> {
    backend.preload(plan)
}

/// The loss of a vocabulary that is whole here, into new tensors. With [`Options::shard`] the other
/// columns are taken for missing: they count for nothing in lse.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape), [`Error::Dtype`](crate::Error::Dtype) and
/// [`Error::Tensor`](crate::Error::Tensor) where the inputs do not fit together,
/// [`Error::Option`](crate::Error::Option) for options that make no sense,
/// [`Error::Unsupported`](crate::Error::Unsupported) where the device cannot do it, and the
/// device's own refusals.
pub fn forward<B: CrossEntropy<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Outputs<B, T>> {
    let problem = Problem::check(inputs, options)?;
    let mut outputs = Outputs::new(inputs.backend(), &problem)?;
    launch_forward(&problem, inputs, options, &outputs.as_mut())?;
    Ok(outputs)
}

/// The same into the caller's tensors, which must not share memory with one another or with an
/// input.
///
/// # Errors
///
/// As [`forward`], and [`Error::Aliased`](crate::Error::Aliased).
pub fn forward_into<B: CrossEntropy<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    outputs: &mut OutputsMut<'_, B, T>,
) -> Result<()> {
    let problem = Problem::check(inputs, options)?;
    problem.check_outputs(inputs, outputs)?;
    launch_forward(&problem, inputs, options, outputs)
}

fn launch_forward<B: CrossEntropy<T>, T: Float>(
    problem: &Problem,
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    outputs: &OutputsMut<'_, B, T>,
) -> Result<()> {
    let backend = inputs.backend();
    let statistics = Tensor::new(backend, &[1, problem.tokens, STATISTICS])?;
    launch_statistics(problem, inputs, options, &statistics)?;
    backend.launch_loss(problem, inputs.target, options, &statistics, outputs)
}

/// Plans and runs what a rank has to tell of its columns.
fn launch_statistics<B: CrossEntropy<T>, T: Float>(
    problem: &Problem,
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    statistics: &Tensor<B, T::State>,
) -> Result<()> {
    let backend = inputs.backend();
    let plan = backend.plan_forward(problem, options)?;
    trace(&plan, &backend.name());
    backend.launch_statistics(&plan, problem, inputs, options, statistics)
}

/// Gradients of the logits, or of x and the weight, into new tensors. `lse` comes from a forward call
/// with the same inputs and options, `dloss` is the gradient of its loss, in f32 or in T.
///
/// # Errors
///
/// As [`forward`].
pub fn backward<'a, B: CrossEntropy<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    lse: &Tensor<B, T::State>,
    dloss: impl Into<Parameter<'a, B>>,
) -> Result<Gradients<B, T>> {
    let dloss = dloss.into();
    let problem = Problem::check(inputs, options)?;
    problem.check_backward(inputs, lse, dloss.view())?;
    let gradients = Gradients::new(inputs)?;
    launch_backward(&problem, inputs, options, lse, dloss, &gradients.lines())?;
    Ok(gradients)
}

/// The same into the caller's tensors, which must not share memory with one another or with an
/// input.
///
/// # Errors
///
/// As [`backward`], and [`Error::Aliased`](crate::Error::Aliased).
pub fn backward_into<'a, B: CrossEntropy<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    lse: &Tensor<B, T::State>,
    dloss: impl Into<Parameter<'a, B>>,
    gradients: &mut Gradients<B, T>,
) -> Result<()> {
    let dloss = dloss.into();
    let problem = Problem::check(inputs, options)?;
    problem.check_backward(inputs, lse, dloss.view())?;
    let read: [&View<B>; 2] = [lse, dloss.view()];
    problem.check_gradients(inputs, read, gradients)?;
    launch_backward(&problem, inputs, options, lse, dloss, &gradients.lines())
}

fn launch_backward<B: CrossEntropy<T>, T: Float>(
    problem: &Problem,
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    lse: &Tensor<B, T::State>,
    dloss: Parameter<'_, B>,
    gradients: &GradientLines<'_, B>,
) -> Result<()> {
    let backend = inputs.backend();
    let plan = backend.plan_backward(problem, options)?;
    trace(&plan, &backend.name());
    backend.launch_backward(&plan, problem, inputs, options, lse, dloss, gradients)
}

fn trace(plan: &Plan, device: &str) {
    tracing::debug!(
        operation = NAME,
        device,
        variant = plan.variant,
        columns = plan.columns,
        blocks = plan.blocks,
        workspace = plan.workspace,
    );
}
