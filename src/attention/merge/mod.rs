//! The merge of partial results, as an operation of its own.

use super::{Attention, Layout, Outputs, OutputsMut};
use crate::Result;
use crate::backend::Backend;
use crate::element::Float;
use crate::operation::Axis;
use crate::parameter::Parameter;
use crate::tensor::Tensor;

mod check;
mod named;

pub use check::Merge;
use check::Sizes;
pub(crate) use named::RunTime;

/// The operation, as messages and the command name it.
pub(crate) const NAME: &str = "merge";

/// B batch, H heads, Sq queries, Dv features, N parts.
pub(crate) const AXES: [Axis; 5] = [
    Axis::required("B"),
    Axis::required("H"),
    Axis::required("Sq"),
    Axis::required("Dv"),
    Axis::or("N", 2),
];

/// What attention over some of the keys has given: results and their lse, one part or several.
#[derive(Debug)]
pub struct Parts<'a, B: Backend, T: Float> {
    /// Results, in T or f32: those of one part as [`Outputs::out`], those of several with an axis of
    /// parts before the others.
    pub out: Parameter<'a, B>,
    /// The logarithms of their sums of exponentials: those of one part as [`Outputs::lse`], those of
    /// several with an axis of parts before the others.
    pub lse: &'a Tensor<B, T::State>,
}

impl<'a, B: Backend, T: Float> Parts<'a, B, T> {
    /// Results and their lse.
    pub fn new(out: impl Into<Parameter<'a, B>>, lse: &'a Tensor<B, T::State>) -> Self {
        Self { out: out.into(), lse }
    }
}

/// Merges parts of the keys that lie side by side, in their order and in one pass:
///
/// ```text
/// lse_i = log Σ_n e^{L_ni},   out_i = Σ_n e^{L_ni - lse_i} o_ni
/// ```
///
/// `parts.out`, the o, is (N, B, Sq, H, Dv), with [`Layout::Bhsd`] (N, B, H, Sq, Dv), of packed
/// sequences (N, Tq, H, Dv) or (N, H, Tq, Dv); its last axis has stride 1. `parts.lse`, the L, is
/// (N, B, H, Sq), of packed sequences (N, H, Tq). A part with L = -∞ has seen nothing and
/// contributes nothing, whatever its o; without any other the result is 0 and -∞, as it is for
/// N = 0. The bits are those of [`merge_into`] with one part after the other.
///
/// ```
/// use warpwright::attention::{self, Layout, Outputs, Parts};
/// use warpwright::Tensor;
///
/// // Three parts of the keys for one query: the last one weighs as much as the others together.
/// let out = Tensor::from_vec(vec![1.0f32, 3.0, 10.0], &[3, 1, 1, 1, 1])?;
/// let lse = Tensor::from_vec(vec![0.0f32, 0.0, 2f32.ln()], &[3, 1, 1, 1])?;
/// let merged: Outputs<_, f32> = attention::merge(&Parts::new(&out, &lse), Layout::Bshd)?;
/// assert!((merged.out.to_vec()?[0] - 6.0).abs() < 1e-5);
/// assert!((merged.lse.to_vec()?[0] - 4f32.ln()).abs() < 1e-6);
/// # Ok::<(), warpwright::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape), [`Error::Dtype`](crate::Error::Dtype) and
/// [`Error::Tensor`](crate::Error::Tensor) where the tensors do not fit together, and the device's
/// own refusals.
pub fn merge<B: Attention<T>, T: Float>(
    parts: &Parts<'_, B, T>,
    layout: Layout,
) -> Result<Outputs<B, T>> {
    let sizes = Sizes::of_parts(parts, layout)?;
    let mut outputs = sizes.outputs(parts.lse.backend())?;
    launch(&sizes, parts, &outputs.as_mut(), false)?;
    Ok(outputs)
}

/// Merges one part of the keys, a block, into a running result, `partial` and `lse`; with `out` the
/// result is also written in T. Running results begin as 0 and -∞, or as what the first block gave.
///
/// The block and `partial` are (B, Sq, H, Dv), with [`Layout::Bhsd`] (B, H, Sq, Dv), of packed
/// sequences (Tq, H, Dv) or (H, Tq, Dv), with stride 1 along the last axis; both lse are (B, H, Sq),
/// of packed sequences (H, Tq). Other strides are free, so that a block of some queries is merged into
/// [narrowed](crate::Tensor::narrowed) views of running results: half a ring's steps are such.
///
/// In either order two results give the same bits, and one with lse = -∞ leaves the other as it is, to
/// the bit. [`Options::accumulate`](super::Options::accumulate) does the same at the end of the call
/// that computes the block, which saves a pass over it.
///
/// ```
/// use warpwright::attention::{self, Layout, OutputsMut, Parts};
/// use warpwright::{Cpu, Tensor};
///
/// // Four queries that have seen nothing; of the last two comes a result.
/// let mut partial = Tensor::from_vec(vec![0.0f32; 4], &[1, 4, 1, 1])?;
/// let mut lse = Tensor::from_vec(vec![f32::NEG_INFINITY; 4], &[1, 1, 4])?;
/// let block = Tensor::from_vec(vec![5.0f32, 7.0], &[1, 2, 1, 1])?;
/// let block_lse = Tensor::from_vec(vec![1.0f32, 2.0], &[1, 1, 2])?;
///
/// let (mut late, mut late_lse) = (partial.narrowed(1, 2..4)?, lse.narrowed(2, 2..4)?);
/// attention::merge_into::<Cpu, f32>(
///     &mut OutputsMut { out: None, partial: Some(&mut late), lse: &mut late_lse },
///     &Parts::new(&block, &block_lse),
///     Layout::Bshd,
/// )?;
/// assert_eq!(partial.to_vec()?, [0.0, 0.0, 5.0, 7.0]);
/// assert_eq!(lse.to_vec()?[2..], [1.0, 2.0]);
/// # Ok::<(), warpwright::Error>(())
/// ```
///
/// # Errors
///
/// As [`merge`], and [`Error::Aliased`](crate::Error::Aliased).
pub fn merge_into<B: Attention<T>, T: Float>(
    outputs: &mut OutputsMut<'_, B, T>,
    block: &Parts<'_, B, T>,
    layout: Layout,
) -> Result<()> {
    let sizes = Sizes::of_block(block, layout)?;
    sizes.check_running(block, outputs)?;
    launch(&sizes, block, outputs, true)
}

fn launch<B: Attention<T>, T: Float>(
    sizes: &Sizes,
    parts: &Parts<'_, B, T>,
    outputs: &OutputsMut<'_, B, T>,
    accumulate: bool,
) -> Result<()> {
    let merge = Merge {
        parts: sizes.lines(&parts.out)?,
        parts_lse: sizes.lse_lines(parts.lse)?,
        outputs: outputs.lines(sizes.layout)?,
        accumulate,
    };
    let backend = parts.lse.backend();
    tracing::debug!(operation = NAME, device = backend.name(), variant = backend.merge_variant()?);
    backend.launch_merge(&merge)
}
