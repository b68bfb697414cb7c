//! Compresses dense weights: which groups are kept, and what their codes and scales are.
//!
//! ```text
//! What = D + O ≈ W   (N, K)
//! D_nk = s (q - z) or s q + m    in kept groups of G columns of a row, 0 elsewhere
//! O                              a few elements far from the mean, stored apart
//! ```
//!
//! The error is the plain ‖W - What‖², or with a [`Calibration`] the weighted Σ h_k (w - what)², with
//! h_k the mean of x_k² over samples of the inputs: columns that are multiplied by large inputs
//! count for more.
//!
//! 1. Outliers, |w - μ| >= n σ, are taken out; nothing below looks at them.
//! 2. Each group is worth Σ h_k w_k²; groups of all zeros are worth nothing.
//! 3. The groups that are worth most are kept: of the whole matrix, with a least share for each
//!    row, or of each row.
//! 4. If wanted, kept weights are refitted to make up for pruned ones: the least
//!    (w - v)ᵀ H (w - v) over v that is 0 where w is pruned.
//! 5. Each kept group, or row, gets a scale, and its elements the nearest codes.
//!
//! Codes are chosen in f32 for scales as they are stored: q = clamp(rint(w / s) + z), half to even;
//! errors are summed in f64. Rows run in parallel in the caller's rayon pool. The bytes of the
//! matrix and the numbers of the report are the same for any number of threads and on any
//! machine.
//!
//! ```
//! use warpwright::Tensor;
//! use warpwright::group_sparse::compress::{Calibration, Options, compress};
//!
//! let weights: Vec<f32> = (0..4 * 32).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
//! let weights = Tensor::from_vec(weights, &[4, 32])?;
//! let options = Options::default().with_bits(4).with_group(8).with_sparsity(0.5);
//! let compressed = compress("layer.weight", &weights, &Calibration::none(), &options)?;
//! assert_eq!(compressed.matrix.kept(), 8);
//! assert!(compressed.report.rel_fro < 1.0);
//! # Ok::<(), warpwright::Error>(())
//! ```
//!
//! Papers: Zeng et al., "GQSA: Group Quantization and Sparsity for Accelerating Large Language Model
//! Inference", 2024, arXiv 2412.17560; Tang et al., "EasyQuant: An Efficient Data-free Quantization
//! Algorithm for LLMs", 2024, arXiv 2403.02775.

use std::time::{Duration, Instant};

use super::NAME;
use super::format::{Format, Matrix, Pattern};
use crate::backend::Cpu;
use crate::tensor::View;
use crate::{Error, Result};

mod adam;
mod calibration;
mod errors;
mod facts;
mod lanes;
mod options;
mod outliers;
mod quantize;
mod range;
mod refit;
mod report;
mod row;
mod rows;
mod saliency;
mod search;
mod select;
mod storage;
#[cfg(test)]
mod tests;
mod text;
mod value;
mod weights;

pub use calibration::Calibration;
pub use options::{Options, OutlierRule, Promote, Range, Saliency, Scope, Store, Target};
pub use report::Report;
pub use value::Value;

use calibration::Importance;
use facts::Facts;
use outliers::Found;
use range::Ranges;
use rows::Rows;
use storage::Storage;
use weights::Weights;

/// A matrix, what it gave, and how long it took.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Compressed {
    /// The matrix.
    pub matrix: Matrix,
    /// Numbers about it, the same in every run.
    pub report: Report,
    /// The time of each phase.
    pub seconds: Phases,
}

/// How long each phase took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Phases {
    /// Looking for numbers that are not finite.
    pub check: Duration,
    /// Finding outliers.
    pub outliers: Duration,
    /// Finding what groups are worth, and choosing those that are kept.
    pub selection: Duration,
    /// Refitting weights, finding scales and codes.
    pub quantization: Duration,
    /// Comparing the matrix with the weights.
    pub report: Duration,
}

/// Compresses W, (N, K) in f32, f16 or bf16 with any strides; errors call it `name`.
///
/// ```
/// use warpwright::group_sparse::compress::{Calibration, Options, Range, compress};
/// use warpwright::Tensor;
///
/// let weight = Tensor::from_vec(vec![1.0f32, -2.0, 4.0, 0.5, -4.0, 3.0, 0.0, 2.0], &[1, 8])?;
/// let options = Options::default().with_group(8).with_range(Range::Rtn);
/// let matrix = compress("layer.weight", &weight, &Calibration::none(), &options)?.matrix;
/// assert_eq!(matrix.parts().scales.get(0), -0.5);
/// assert_eq!((matrix.code(0, 0), matrix.code(0, 2)), (6, 0));
/// # Ok::<(), warpwright::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Option`] where options make no sense, or N or K is 0; [`Error::Shape`] where W has not
/// two axes, or the calibration or the mask is of another size; [`Error::Dtype`] for weights of
/// another type; [`Error::Tensor`] where the calibration lacks what the options need;
/// [`Error::Value`] where a weight is not finite, with the first one and their count, where all
/// h_k are 0, or, with [`Promote::Deny`], where a scale, an offset or an outlier does not fit its
/// type; [`Error::InUse`] while another call writes W.
pub fn compress(
    name: &str,
    weight: &View<Cpu>,
    calibration: &Calibration,
    options: &Options,
) -> Result<Compressed> {
    options.check()?;
    let weights = Weights::new(name, weight)?;
    let format = format(&weights, options, Pattern::Dense);
    format.check()?;
    let importance = calibration.importance(weights.columns)?;
    let saliency = saliency(&importance, options)?;
    let mut seconds = Phases::default();
    timed(&mut seconds.check, || weights.check())?;
    let found = timed(&mut seconds.outliers, || {
        options.outliers.map_or_else(Found::default, |rule| outliers::find(&weights, &rule))
    });
    let (worth, kept) = timed(&mut seconds.selection, || {
        let ranges = Ranges::new(options, Storage(weights.dtype));
        let h = importance.h.as_deref().filter(|_| saliency == Saliency::Hdiag);
        let worth = saliency::of_groups(&weights, &found, h, &format, options, &ranges);
        let kept = select::select(&worth, &format, options)?;
        Ok::<_, Error>((worth, kept))
    })?;
    let made = timed(&mut seconds.quantization, || {
        let format = self::format(&weights, options, kept.pattern);
        let (weights, importance) = (&weights, &importance);
        Rows { weights, outliers: &found, kept: &kept, importance, options, format }.quantize()
    })?;
    let report = timed(&mut seconds.report, || {
        let errors = errors::of_rows(&weights, &made.matrix, &found, &importance);
        let saliency = matches!(options.target, Target::Sparsity(_)).then_some(saliency.name());
        let facts = Facts {
            saliency,
            made: &made,
            kept: &kept,
            worth: &worth,
            found: &found,
            importance: &importance,
            errors: &errors,
        };
        facts.report()
    });
    Ok(Compressed { matrix: made.matrix, report, seconds })
}

fn format(weights: &Weights<'_>, options: &Options, pattern: Pattern) -> Format {
    Format {
        rows: weights.rows,
        columns: weights.columns,
        group: options.group,
        bits: options.bits,
        mode: options.mode,
        pattern,
        scope: options.scale_scope,
    }
}

/// What groups are to be worth, where the calibration has what that and the rest needs.
fn saliency(importance: &Importance<'_>, options: &Options) -> Result<Saliency> {
    let missing = |tensor: &str, expected: &str| Error::Tensor {
        operation: NAME,
        tensor: tensor.to_owned(),
        expected: expected.to_owned(),
        found: "none".to_owned(),
    };
    if options.refit_weights && importance.hessian.is_none() {
        return Err(missing("H", "a calibration with H, which refit_weights needs"));
    }
    match (options.saliency, &importance.h) {
        (Saliency::Hdiag, None) => {
            Err(missing("h", "a calibration, which the saliency hdiag needs"))
        }
        (Saliency::Auto, None) => Ok(Saliency::Magnitude),
        (Saliency::Auto, Some(_)) => Ok(Saliency::Hdiag),
        (saliency, _) => Ok(saliency),
    }
}

fn timed<R>(elapsed: &mut Duration, run: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = run();
    *elapsed = start.elapsed();
    result
}
