//! Linear layers whose weights are kept in groups and quantized (GQSA), and quantized without data
//! (EasyQuant).
//!
//! A weight of N rows and K columns is cut into groups of G columns. Of each row some groups are kept,
//! as codes of b bits with a scale s and a zero z, or an offset m; all others are 0. With D the decoded
//! weight, O a few exact outliers, and x one of M vectors:
//!
//! ```text
//! D[n, k] = s_t (q_k - z_t)   (modes sym, asym)   or   s_t q_k + m_t   (affine)
//! y[n] = Σ_k (D[n, k] + O[n, k]) x[k] + bias[n]
//! ```
//!
//! summed over what is kept: where a row has nothing, x is not read, whatever it holds.
//!
//! | tensor | shape | elements | |
//! |---|---|---|---|
//! | `x` | (M, K) | f32, bf16, f16 | rows may be apart, their elements are neighbours |
//! | `bias` | (N) | f32, bf16, f16 | |
//! | `y` | (M, N) | f32, bf16, f16, whatever x has | rows may be apart |
//!
//! [`Matrix`] is what files hold, checked; [`Weights`] are the same on a device, laid out for its
//! kernels; a [`Product`] is planned for so many vectors, and keeps what it needs from call to call.
//! On the CPU, f64 runs the reference.
//!
//! All products and sums are f32, rounded once to y's type. Sums go in an order that depends on the
//! matrix and the plan alone: equal calls give equal bits, on the CPU with any number of threads.
//!
//! A product with few vectors reads each kept group once: the bytes of codes, scales and column groups are the
//! bound. Work is cut into shares of equal size whatever the rows hold, or into whole rows where those
//! are about equal; a row that several shares have parts of is put together in a fixed order.
//!
//! ```
//! use warpwright::group_sparse::{self, Floats, Format, Matrix, Mode, Parts, Pattern, ScaleScope, Weights};
//! use warpwright::{Cpu, Tensor};
//!
//! // One row of two groups of eight columns, of which the second is kept: all codes 9, scale 1/2.
//! let matrix = Matrix::new(Parts {
//!     format: Format {
//!         rows: 1, columns: 16, group: 8, bits: 4,
//!         mode: Mode::Sym, pattern: Pattern::Free, scope: ScaleScope::Group,
//!     },
//!     row_ptr: vec![0, 1],
//!     col_idx: vec![1],
//!     codes: vec![0x99; 4],
//!     scales: Floats::F32(vec![0.5]),
//!     zeros: vec![],
//!     offsets: None,
//!     outliers: None,
//!     perm: None,
//! })?;
//! let weights = Weights::new(&Cpu, &matrix)?;
//! let x = Tensor::from_vec((0..16).map(|k| k as f32).collect(), &[1, 16])?;
//! let y = group_sparse::forward(&weights, &x, None)?;
//! // (9 - 8) / 2 times 8 + 9 + … + 15.
//! assert_eq!(y.to_vec()?, [46.0]);
//! # Ok::<(), warpwright::Error>(())
//! ```
//!
//! # What compression costs
//!
//! The 36 linear layers, 10.6 million weights, of the sentence encoder all-MiniLM-L6-v2 without pruning, by the
//! example `encoder`, which has more settings: bits per weight, ‖W - D‖ / ‖W‖, and ‖(W - D) x‖ / ‖W x‖ for inputs
//! x of 32 real sentences, both as roots of mean squares over layers, and the cosine of whole sentences.
//! Calibrated is by the inputs of 128 other sentences.
//!
//! | b | G | calibrated | bits | weights | outputs | cosine |
//! |---|---|---|---|---|---|---|
//! | 8 | 128 | no | 8.25 | 0.70 % | 0.59 % | 0.9997 |
//! | 8 | 128 | yes | 8.25 | 0.98 % | 0.56 % | 0.9998 |
//! | 4 | 128 | no | 4.25 | 10.46 % | 9.06 % | 0.9553 |
//! | 4 | 128 | yes | 4.25 | 11.15 % | 8.36 % | 0.9632 |
//! | 4 | 16 | no | 6.00 | 7.40 % | 6.36 % | 0.9750 |
//! | 4 | 16 | yes | 6.00 | 8.06 % | 5.95 % | 0.9813 |
//!
//! Papers: GQSA, Zeng et al., 2024 (arXiv 2412.17560); EasyQuant, Tang et al., 2024 (arXiv 2403.02775);
//! merge-based products, Merrill and Garland, 2016; Stream-K, Osama et al., 2023.

use crate::operation::Axis;

mod check;
pub mod compress;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "safetensors")]
#[cfg_attr(docsrs, doc(cfg(feature = "safetensors")))]
pub mod file;
mod format;
pub mod layer;
mod named;
mod options;
mod partition;
mod plan;
mod problem;
#[cfg(any(test, feature = "verify"))]
pub(crate) mod random;
pub(crate) mod reference;
mod weights;

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod kernels;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod layout;
#[cfg(feature = "wgpu")]
mod wgpu;

pub use format::{
    BITS, Coding, Floats, Format, GROUPS, Matrix, Mode, Outliers, Parts, Pattern, ScaleScope,
};
pub use options::{Options, Scheme};
pub use plan::Plan;
pub use problem::Problem;
pub use weights::{Product, Weights, decompress, forward, forward_into};

pub(crate) use cpu::CPU_VARIANTS;
pub(crate) use named::RunTime;

use crate::Result;
use crate::backend::Backend;
use crate::tensor::View;
use std::ops::Range;

/// The operation, as messages and the command name it.
pub const NAME: &str = "group-sparse";

/// Vectors that a product takes side by side; more of them go one run after the other.
pub const MOST_VECTORS: usize = 16;

/// M, N and K, the percentage of groups that are pruned, G and b.
pub const AXES: [Axis; 6] = [
    Axis::or("M", 1),
    Axis::required("N"),
    Axis::required("K"),
    Axis::or("S", 50),
    Axis::or("G", 16),
    Axis::or("b", 4),
];

/// A backend that multiplies with compressed weights.
pub trait GroupSparse: Backend {
    /// A matrix on the device, as its kernels want it.
    type Held: Clone + std::fmt::Debug + Send + Sync;

    /// What a planned product keeps on the device from call to call.
    type Kept: std::fmt::Debug + Send + Sync;

    /// Brings a matrix to the device.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), or the device's refusal.
    fn hold(&self, matrix: &Matrix) -> Result<Self::Held>;

    /// Chooses the kernel of a product.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`](crate::Error::Unsupported), or
    /// [`Error::Option`](crate::Error::Option) for a variant that does not fit.
    fn plan(&self, problem: &Problem, options: &Options) -> Result<Plan>;

    /// Every variant that fits, the planned one first.
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan).
    fn variants(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        Ok(vec![self.plan(problem, options)?.variant])
    }

    /// Makes what a product keeps, and loads its kernels.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn prepare(&self, problem: &Problem, plan: &Plan) -> Result<Self::Kept>;

    /// Runs a product. The tensors have been checked, and there are at most as many vectors as have
    /// been planned.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn launch(
        &self,
        product: &Product<Self>,
        x: &View<Self>,
        bias: Option<&View<Self>>,
        y: &View<Self>,
    ) -> Result<()>;

    /// Decodes some rows, with their outliers. The tensor has been checked.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn launch_decompress(
        &self,
        weights: &Weights<Self>,
        rows: Range<usize>,
        dense: &View<Self>,
    ) -> Result<()>;
}
