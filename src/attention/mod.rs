//! Attention blocks: softmax attention of some queries over some keys, made to be put together.
//!
//! What a block gives, a result and the logarithm of its sum of exponentials, says all that other
//! blocks of keys need: partial results [merge](fn@merge) in any grouping, and gradients of
//! blocks under the global `lse` add up. Rings are made of this. For every batch entry, head and query i,
//! over the keys j that it sees, with query head h using the keys' head h / (H / Hk):
//!
//! ```text
//! x_ij = scale q_i · k_j
//! s_ij = c tanh(x_ij / c)                  with a softcap c, else x_ij
//!        - slope |p_i - p_j|               with ALiBi slopes
//!        + bias_ij                         with a bias
//! lse_i = log Σ_j e^{s_ij}                 and e^{sink} with a sink
//! out_i = Σ_j e^{s_ij - lse_i} v_j
//! ```
//!
//! A query without keys has out = 0 and lse = -∞. Queries and keys have *global* positions p: a
//! tensor may hold [some tokens](Positions) of a sequence, and who sees whom, [`Mask`], is told
//! from positions alone. Backward, with the lse over all keys:
//!
//! ```text
//! δ_i   = dout_i · out_i - dlse_i
//! P_ij  = e^{s_ij - lse_i}                 0 where i does not see j
//! dv_j  = Σ_i P_ij dout_i
//! dS_ij = P_ij (dout_i · v_j - δ_i),       dbias_ij = dS_ij
//! dx_ij = dS_ij (1 - tanh²(x_ij / c))
//! dq_i  = scale Σ_j dx_ij k_j,             dk_j = scale Σ_i dx_ij q_i
//! dsink = -Σ_i e^{sink - lse_i} δ_i
//! ```
//!
//! | tensor | shape, [`Layout::Bshd`] | shape, [`Layout::Bhsd`] | packed | elements |
//! |---|---|---|---|---|
//! | `q`, `dq` | (B, Sq, H, D) | (B, H, Sq, D) | (Tq, H, D), (H, Tq, D) | T |
//! | `k`, `dk` | (B, Sk, Hk, D) | (B, Hk, Sk, D) | (Tk, Hk, D), (Hk, Tk, D) | T |
//! | `v`, `dv` | (B, Sk, Hk, Dv) | (B, Hk, Sk, Dv) | (Tk, Hk, Dv), (Hk, Tk, Dv) | T |
//! | `out`, `dout` | (B, Sq, H, Dv) | (B, H, Sq, Dv) | (Tq, H, Dv), (H, Tq, Dv) | T |
//! | `lse`, `dlse` | (B, H, Sq) | the same | (H, Tq) | f32 |
//! | `bias`, `dbias` | (B or 1, H or 1, Sq, Sk) | the same | none | f32 or T; f32 |
//! | `sink`, `dsink` | (H) | the same | the same | f32 |
//! | `alibi_slopes` | (H) or (B, H) | the same | (H) or (S, H) | f32 |
//! | `cu_seqlens_q`, `cu_seqlens_k` | | | (S + 1) | integers |
//!
//! T is f32, bf16 or f16; on the CPU also f64, which runs the [reference](mod@reference). Scores,
//! weights and sums are f32. Where f32 is asked for, T is accepted too. D and Dv are 1 to 512, and
//! need not agree; Hk divides H. The last axis of activations has stride 1, their other strides are
//! free: a stride of 0 shares keys and values among batch entries. B, Sq and Sk may be 0.
//!
//! What a query does not see does not reach it, whatever it holds: a NaN in a key or value stays
//! with the queries of tiles that see it, or that see keys on both sides of it; one in a query with
//! this query. A score of +∞ is the caller's error. Equal inputs give equal bits on one device,
//! gradients too: nothing is added by floating-point atomics.
//!
//! ```
//! use warpwright::attention::{self, Inputs, Mask, Options};
//! use warpwright::Tensor;
//!
//! // Keys that are all alike: every query has the mean of the values up to its own.
//! let ones = Tensor::from_vec(vec![1.0f32; 3], &[1, 3, 1, 1])?;
//! let v = Tensor::from_vec(vec![3.0f32, 1.0, 2.0], &[1, 3, 1, 1])?;
//! let options = Options::default().with_mask(Mask::causal());
//! let attended = attention::forward(&Inputs::new(&ones, &ones, &v), &options)?;
//! assert_eq!(attended.out.to_vec()?, [3.0, 2.0, 2.0]);
//! # Ok::<(), warpwright::Error>(())
//! ```
//!
//! # Blocks that are put together
//!
//! Two results of a query, o1 with L1 over some keys and o2 with L2 over others, are one:
//!
//! ```text
//! M = max(L1, L2),  w = e^{L - M},  t = w1 + w2,  o = (w1 / t) o1 + (w2 / t) o2,  L = M + log t
//! ```
//!
//! and L = -∞ is that of no keys, whatever its o. The same merge comes in three forms. [`merge`](fn@merge)
//! puts parts together that lie side by side, in their order; [`merge_into`] a block that has come
//! from elsewhere into a running result, or into some rows of it; [`forward_into`] with
//! [`Options::accumulate`] a block that it computes, without a pass of its own. Running results are
//! f32 in all of them, and merging one block after the other gives the bits of merging them at once.
//!
//! [`backward_into`] adds gradients to [`GradientMut::Added`]. A sink is a key that belongs to one of
//! the blocks. δ is made once, by [`row_terms`].
//!
//! # Kernels
//!
//! All walk alike: a block has rows, queries or keys, and goes through tiles of the others; of tiles
//! that nobody sees nothing is loaded or made ([`Sight::class`]). Scores never leave the chip.
//!
//! On CUDA devices, elements of 16 bits go through tensor cores (`mma.sync`, from compute capability
//! 8.0 on): up to 256 features, any strides; lines that do not lie at multiples of 16 bytes move more
//! slowly, with the same bits. Backward, dq is one walk, dk and dv another, so that each is added up in
//! one order without atomics: 7 products of matrices instead of the 5 that one walk with atomics needs.
//! f32, and the gradient of a bias, goes through the walk by exact multiply-add that is also the
//! readable partner of the others in tests, and up to 512 features wide. By the interpreter, for each
//! score of a tile in which there is something to see, at 512 tokens, dense:
//!
//! | kernel | D | rows x columns | `mma` x 1000 | exponentials | f32 instructions |
//! |---|---|---|---|---|---|
//! | out | 64 | 128 x 64 | 62.5 | 1.03 | 2.49 |
//! | out | 128 | 128 x 64 | 125 | 1.02 | 2.74 |
//! | dq | 64 | 128 x 32 | 93.75 | 1.00 | 3.13 |
//! | dq | 128 | 64 x 32 | 187.5 | 1.00 | 3.26 |
//! | dk, dv | 64 | 128 x 32 | 125 | 1.00 | 3.31 |
//! | dk, dv | 128 | 64 x 32 | 250 | 1.00 | 3.63 |
//!
//! Where sight is causal, tiles at its edge add up to 0.4 f32 instructions. Products are exactly what
//! the tiles need, no bank conflicts are met, and each block moves its rows once and what they see
//! once. Nothing here has been timed on a GPU yet.
//!
//! On the CPU (two cores with AVX-512, B=1, H=8, 2048 tokens, f32) against PyTorch 2.15's
//! `scaled_dot_product_attention`, their time over ours, medians of 7 in turns, two rounds: D=64
//! forward 1.03 and 1.25 dense, 1.38 and 1.35 causal, backward 0.99 and 1.04, 1.12 and 1.32; D=128
//! forward 1.24 and 1.11, 1.30 and 1.12, backward 1.04 and 0.94, 1.09 and 1.07.
//!
//! Papers: T. Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work
//! Partitioning", 2023, arXiv 2307.08691; H. Liu, M. Zaharia, P. Abbeel, "Ring Attention with
//! Blockwise Transformers for Near-Infinite Context", 2023, arXiv 2310.01889.

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
mod mask;
pub(crate) mod merge;
mod named;
mod options;
mod outputs;
mod plan;
mod positions;
pub mod reference;
#[cfg(feature = "wgpu")]
mod wgpu;

pub use check::{MAX_TOKENS, MAX_WIDTH, Problem};
pub(crate) use cpu::VARIANTS as CPU_VARIANTS;
pub use inputs::{Inputs, OutputGradients, Packed};
pub use mask::{Alignment, Class, Mask, Sight};
pub use merge::{Merge, Parts, merge, merge_into};
pub(crate) use named::RunTime;
pub(crate) use named::{all_sizes, given, problem, split};
pub use named::{check_named, run_named};
pub(crate) use options::KEYS;
pub use options::{Layout, Options};
pub use outputs::{
    GradientMut, Gradients, GradientsMut, OutputLines, Outputs, OutputsMut, Rows, Saved,
};
pub use plan::Plan;
pub use positions::{Positions, SEGMENTS, Segment};

/// The operation, as messages and the command name it.
pub const NAME: &str = "attention";

/// B batch, H heads of queries, Hk heads of keys (0: as many), Sq queries, Sk keys (0: as many as
/// queries), D features, Dv features of values (0: as many).
pub(crate) const AXES: [Axis; 7] = [
    Axis::required("B"),
    Axis::required("H"),
    Axis::or("Hk", 0),
    Axis::required("Sq"),
    Axis::or("Sk", 0),
    Axis::required("D"),
    Axis::or("Dv", 0),
];

/// A backend that runs attention on activations of type `T`.
pub trait Attention<T: Float>: Backend {
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

    /// Makes the row terms δ. The tensors have been checked.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn launch_row_terms(
        &self,
        problem: &Problem,
        out: &Tensor<Self, T>,
        lse: &Tensor<Self, T::State>,
        given: &OutputGradients<'_, Self, T>,
        delta: &Tensor<Self, T::State>,
    ) -> Result<()>;

    /// Runs the chosen kernels of the backward pass. `rows` are the row terms δ and lse. The tensors
    /// have been checked.
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
        rows: [&Tensor<Self, T::State>; 2],
        dout: &Tensor<Self, T>,
        gradients: &GradientsMut<'_, Self, T>,
    ) -> Result<()>;

    /// The kernel that merges partial results, as listed by `warpwright list`.
    ///
    /// # Errors
    ///
    /// As [`plan_forward`](Self::plan_forward).
    fn merge_variant(&self) -> Result<&'static str>;

    /// Merges partial results. The tensors have been checked.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn launch_merge(&self, merge: &Merge<Self>) -> Result<()>;

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
pub fn plan_forward<B: Attention<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Plan> {
    let problem = Problem::check(inputs, options)?;
    inputs.q.backend().plan_forward(&problem, options)
}

/// Checks the call and chooses the kernel of its backward pass; nothing is launched.
///
/// # Errors
///
/// As [`plan_forward`].
pub fn plan_backward<B: Attention<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Plan> {
    let problem = Problem::check(inputs, options)?;
    inputs.q.backend().plan_backward(&problem, options)
}

/// Loads the plan's kernels on a device, so that the first call does not wait for them.
///
/// # Errors
///
/// The device's refusal.
pub fn preload<B: Attention<T>, T: Float>(backend: &B, plan: &Plan) -> Result<()> {
    backend.preload(plan)
}

/// Computes attention into new tensors.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape), [`Error::Dtype`](crate::Error::Dtype) and
/// [`Error::Tensor`](crate::Error::Tensor) where the inputs do not fit together,
/// [`Error::Option`](crate::Error::Option) for options that make no sense,
/// [`Error::Unsupported`](crate::Error::Unsupported) where the device cannot do it, and the
/// device's own refusals. On the CPU [`Error::Value`](crate::Error::Value) where `cu_seqlens` do
/// not rise from 0 to all tokens; other devices confine wrong values to the tensors.
pub fn forward<B: Attention<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Outputs<B, T>> {
    let problem = Problem::check(inputs, options)?;
    let mut outputs = Outputs::new(inputs.q.backend(), &problem)?;
    forward_checked(&problem, inputs, options, &outputs.as_mut())?;
    Ok(outputs)
}

/// Computes attention into the caller's tensors, which must not share memory with one another or
/// with an input; with [`Options::accumulate`] merged into what they hold.
///
/// # Errors
///
/// As [`forward`], and [`Error::Aliased`](crate::Error::Aliased).
pub fn forward_into<B: Attention<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    outputs: &mut OutputsMut<'_, B, T>,
) -> Result<()> {
    let problem = Problem::check(inputs, options)?;
    forward_checked(&problem, inputs, options, outputs)
}

fn forward_checked<B: Attention<T>, T: Float>(
    problem: &Problem,
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    outputs: &OutputsMut<'_, B, T>,
) -> Result<()> {
    problem.check_outputs(inputs, options, outputs)?;
    let backend = inputs.q.backend();
    let plan = backend.plan_forward(problem, options)?;
    trace(&plan, &backend.name());
    backend.launch_forward(&plan, problem, inputs, options, outputs)
}

/// The row terms δ of the backward pass, (B, H, Sq), packed (H, Tq): made once where gradients are
/// computed over several parts of the keys.
///
/// # Errors
///
/// As [`backward`].
pub fn row_terms<B: Attention<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    outputs: &Outputs<B, T>,
    given: &OutputGradients<'_, B, T>,
) -> Result<Tensor<B, T::State>> {
    let problem = Problem::check(inputs, options)?;
    problem.check_backward(inputs, &outputs.saved(), given)?;
    let backend = inputs.q.backend();
    let delta = Tensor::new(backend, &problem.lse_shape())?;
    backend.launch_row_terms(&problem, &outputs.out, &outputs.lse, given, &delta)?;
    Ok(delta)
}

/// Runs the backward pass into new tensors: gradients of every differentiable input that is
/// present.
///
/// # Errors
///
/// As [`forward`].
pub fn backward<B: Attention<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    saved: &Saved<'_, B, T>,
    given: &OutputGradients<'_, B, T>,
) -> Result<Gradients<B, T>> {
    let mut gradients = Gradients::new(inputs.q.backend(), inputs)?;
    backward_into(inputs, options, saved, given, &mut gradients.as_mut())?;
    Ok(gradients)
}

/// Runs the backward pass into the caller's tensors, which must not share memory with one another
/// or with an input.
///
/// # Errors
///
/// As [`backward`], and [`Error::Aliased`](crate::Error::Aliased).
pub fn backward_into<B: Attention<T>, T: Float>(
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    saved: &Saved<'_, B, T>,
    given: &OutputGradients<'_, B, T>,
    gradients: &mut GradientsMut<'_, B, T>,
) -> Result<()> {
    let problem = Problem::check(inputs, options)?;
    problem.check_backward(inputs, saved, given)?;
    problem.check_gradients(inputs, saved, given, gradients)?;
    let backend = inputs.q.backend();
    let plan = backend.plan_backward(&problem, options)?;
    trace(&plan, &backend.name());
    let made;
    let delta = match saved.rows {
        Rows::Delta(delta) => delta,
        Rows::Out(out) => {
            made = Tensor::new(backend, &problem.lse_shape())?;
            backend.launch_row_terms(&problem, out, saved.lse, given, &made)?;
            &made
        }
    };
    let rows = [delta, saved.lse];
    backend.launch_backward(&plan, &problem, inputs, options, rows, given.out, gradients)
}

fn trace(plan: &Plan, device: &str) {
    tracing::debug!(
        operation = NAME,
        device,
        variant = plan.variant,
        blocks = plan.blocks,
        workspace = plan.workspace,
    );
}
