//! SpGEMM: the product of two sparse matrices over a semiring (SMASH).
//!
//! ```text
//! C = α (A ⊕.⊗ B) ⊕ β C0,   c_ij = ⊕_l a_il ⊗ b_lj,   optionally only where a mask M has
//!                           an entry, or only where it has none
//! ```
//!
//! | [`Semiring`] | ⊕ | ⊗ | values |
//! |---|---|---|---|
//! | `plus-times` | + | × | f32, f64, i32, u32; integers wrap |
//! | `min-plus` | min | +, saturating | f32, f64, i32 |
//! | `max-times` | max | × | f32, f64, i32, u32 |
//! | `or-and` | or | and | u8, which holds truth values; any value but 0 is true |
//! | `plus-pair` | + | 1 | u32: how many l there are |
//!
//! What is stored in C depends on what is stored in A, B, C0 and M alone, never on values: every
//! place that some product reaches, and every place of C0 where β is given. Zeros that come out
//! stay. C is canonical. α and β belong to plus-times; α = 0 does not read the values of A and B,
//! β = 0 not those of C0, so that no NaN passes.
//!
//! A may be unsorted and hold columns twice; every stored entry makes products of its own. So may
//! B, C0 and the mask: a device that needs them in order makes a copy that is, on the host, or,
//! with [`auto_canonical`](Options::auto_canonical) off, the call is refused.
//!
//! Where C0 comes with a mask, its entries outside of what is computed are kept, unless
//! [`replace`](Options::replace) says otherwise.
//!
//! Where a mask lets few entries through, the CPU makes each by itself, from a row of A and a row of
//! Bᵀ (`spgemm_dot`): where A, B and mask are canonical, the mask is not complemented, nothing is
//! added, and the searches take less than a quarter as many steps as there are products.
//!
//! On the CPU every value is the sum from left to right in the order in which the row of A is
//! stored, C0 first; product and sum are rounded separately. The bits do not depend on the number
//! of threads. On CUDA, sums of floats come in any order, unless
//! [`deterministic`](Options::deterministic) asks for the CPU's bits; all else has them anyway.
//!
//! # On GPUs
//!
//! A kernel finds out what each row will take: its products, and the range of its columns. By that,
//! rows are sorted into bins. Their entries are counted, row pointers made of the counts, and then
//! columns and values written, by the kernels of each bin:
//!
//! | what a row must hold | counted by | summed by |
//! |---|---|---|
//! | one entry of A | – | a copy of B's row |
//! | up to 51, 204, 819, 1638, 3276, 5120 | a hash table in shared memory | |
//! | up to 20, 40, 160, 320, 640, 1280, 2560, 5120 | | a hash table in shared memory, then sorted |
//! | more, or an eighth of a window | a bit for each column of a window | a sum for each column of a window |
//! | more, far apart | the same | a hash table of a pool in global memory, then sorted by digits |
//!
//! Keys are claimed by compare-and-swap, values added by atomics. A table's columns are sorted by
//! rank, from a bit for each column of the row's range, or by a bitonic network where the range is
//! wide; nothing is sorted in quadratic time but rows of 40 entries. The host reads back twice:
//! the bins, and the entries of the product, before memory is taken for them. Besides the product
//! a call takes 17 bytes for each row, 12 for each window of a long row, and tables of at most
//! 1 GiB where rows are hashed in global memory: never memory for products. [`Tuning`] chooses
//! hash, tables, windows and how groups come to their rows, for study.
//!
//! WGSL does the same in 16 KiB of workgroup memory and eight bindings: tables of 20 to 640
//! entries, windows of 2048 columns, and beyond tables in global memory; tables are sorted by a
//! network, the smallest by ranks; whatever [`Tuning::tokens`] says, each row has its own group of
//! threads. It takes 40 bytes for each row, 12 for each entry of A, at most 64 MiB for tables
//! unless one row needs more, and where there is a C0 room for it and B. Every array must fit into one binding.
//! There is no f64, no row pointer of 64 bits, and no promise for NaN, infinity and subnormal
//! numbers. Sums in order are the same each time, and within rounding of the CPU's, since a
//! compiler may contract product and sum.
//!
//! [`SpgemmPlan`] keeps what does not depend on values, for products of the same patterns.
//! [`triangles`] counts triangles of graphs by masked products, [`gram`] multiplies a matrix with its
//! transpose, and [`estimate`] tells what a product will take.
//!
//! ```
//! use warpwright::sparse::Csr;
//! use warpwright::spgemm::{self, Inputs, Options, Semiring};
//!
//! // The shortest way of two steps from 0 to 2: by 1, or by 3.
//! let edges = Csr::new([4, 4], vec![0u32, 2, 3, 3, 4], vec![1, 3, 2, 2], vec![5.0f32, 1.0, 1.0, 2.0])?;
//! let two = spgemm::multiply(
//!     &Inputs::new(&edges, &edges),
//!     &Options::default().with_semiring(Semiring::MinPlus),
//! )?;
//! assert_eq!(two.row_ptr().to_vec()?, [0, 1, 1, 1, 1]);
//! assert_eq!(two.val().expect("values").to_vec()?, [3.0]);
//! # Ok::<(), warpwright::Error>(())
//! ```
//!
//! Paper: K. Shivdikar, "SMASH: Sparse Matrix Atomic Scratchpad Hashing", 2021, arXiv 2105.14156.

mod check;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod estimate;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
mod gram;
mod inputs;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod kernels;
mod named;
mod options;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod plan;
mod product;
mod read;
pub mod reference;
mod reuse;
mod semiring;
pub mod triangles;
mod tuning;
#[cfg(feature = "wgpu")]
mod wgpu;

pub use check::Problem;
pub(crate) use cpu::VARIANTS as CPU_VARIANTS;
pub use estimate::{Estimate, estimate};
pub use gram::gram;
pub use inputs::{Inputs, Matrices};
pub(crate) use named::RunTime;
pub use named::multiply_on;
pub use options::Options;
pub use product::{Phase, Summary};
pub use reuse::SpgemmPlan;
pub use semiring::Semiring;
pub use tuning::{Hash, Tokens, Tuning};

use crate::backend::Backend;
use crate::check::Check;
use crate::operation::Axis;
use crate::sparse::{Csr, Fault, Offset, Value};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// The operation, as messages and the command name it.
pub const NAME: &str = "spgemm";

const CHECK: Check = Check { operation: NAME };

/// M rows of A, K rows of B (0: as many), N columns (0: as many), E entries in a row.
pub(crate) const AXES: [Axis; 4] =
    [Axis::required("M"), Axis::or("K", 0), Axis::or("N", 0), Axis::or("E", 8)];

/// A backend that keeps what it knows of a product's places, for other values there.
pub trait Planned<O: Offset = u32>: Backend {
    /// What it keeps besides the places.
    type Kept: Clone + std::fmt::Debug + Send + Sync;

    /// A number for where the entries of each matrix lie: of other places, in all likelihood
    /// another one.
    ///
    /// # Errors
    ///
    /// The device's refusal, or [`Error::InUse`] while another call writes the arrays.
    fn prints<T: Value>(&self, matrices: [Option<&Csr<Self, T, O>>; 4])
    -> Result<[Option<u64>; 4]>;
}

/// A backend that multiplies sparse matrices of values `T` with row pointers `O`.
pub trait Spgemm<T: Value, O: Offset = u32>: Planned<O> {
    /// The variants that fit a call, the planned one first.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] where none fits, or the one that was asked for does not exist.
    fn variants(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>>;

    /// Whether the values of such a call are sums from left to right, to the bit.
    fn is_ordered(options: &Options) -> bool;

    /// The product of a checked call, what it took, and what to keep for other values.
    ///
    /// # Errors
    ///
    /// As [`multiply`].
    #[allow(clippy::type_complexity)]
    fn product(
        &self,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T, O>,
        options: &Options,
    ) -> Result<(Csr<Self, T, O>, Summary, Self::Kept)>;

    /// The values of the product of a checked call whose places are known.
    ///
    /// # Errors
    ///
    /// As [`SpgemmPlan::execute_into`].
    fn values(
        &self,
        plan: &SpgemmPlan<Self, O>,
        inputs: &Inputs<'_, Self, T, O>,
        options: &Options,
        into: &mut Tensor<Self, T>,
    ) -> Result<()>;
}

/// The product.
///
/// # Errors
///
/// [`Error::Shape`] where sides do not match,
/// [`Error::Sparse`] where a matrix is not canonical and must be,
/// [`Error::Option`] where options make no sense together or for these
/// values, [`Error::OutputTooLarge`] where the row pointers cannot
/// count the entries; nothing is written then.
pub fn multiply<B: Spgemm<T, O>, T: Value, O: Offset>(
    inputs: &Inputs<'_, B, T, O>,
    options: &Options,
) -> Result<Csr<B, T, O>> {
    let problem = Problem::check(inputs, options)?;
    Ok(inputs.a.backend().product(&problem, inputs, options)?.0)
}

/// The product, and what it took.
///
/// # Errors
///
/// As [`multiply`].
pub fn multiply_with_summary<B: Spgemm<T, O>, T: Value, O: Offset>(
    inputs: &Inputs<'_, B, T, O>,
    options: &Options,
) -> Result<(Csr<B, T, O>, Summary)> {
    let problem = Problem::check(inputs, options)?;
    let backend = inputs.a.backend();
    let (product, mut summary, _) = backend.product(&problem, inputs, options)?;
    // A device may still be at work.
    summary.go_on(|| backend.synchronise())?;
    Ok((product, summary))
}

/// The same with the error of a product that its row pointers cannot count.
fn too_large<R>(made: Result<R>) -> Result<R> {
    made.map_err(|error| match error {
        Error::Sparse { fault: Fault::TooManyEntries { nnz, limit }, .. } => {
            Error::OutputTooLarge { operation: NAME, nnz, limit }
        }
        other => other,
    })
}
