//! One set of cases for every backend: inputs, the f64 reference, tolerances.
//!
//! The tests, `warpwright verify` and runs on a GPU call the same code. Tolerances come from the
//! arithmetic, as each operation's specification states them, and stand in one place per
//! operation.

use std::fmt;
use std::time::Duration;

#[cfg(feature = "interpreter")]
use warpwright_ptx::interpreter::Options as Interpretation;

use crate::backend::{Cpu, Device};
use crate::element::DType;
use crate::operation::{self, Operation, Sizes};
use crate::tensor::View;
use crate::{ErrorKind, Result};

pub mod attention;
pub mod causal_conv1d;
#[cfg(feature = "interpreter")]
#[cfg_attr(docsrs, doc(cfg(feature = "interpreter")))]
pub mod conformance;
#[cfg(feature = "interpreter")]
#[cfg_attr(docsrs, doc(cfg(feature = "interpreter")))]
pub mod count;
pub mod cross_entropy;
pub mod group_sparse;
pub mod place;
mod random;
pub mod ring;
pub mod rnn;
mod runs;
pub mod scan_attention;
pub mod selective_scan;
pub mod spgemm;
pub mod time;

#[cfg(feature = "interpreter")]
use count::Counted;
pub use random::Random;
use time::{Setting, Timing};

/// How many cases are run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// Seconds.
    Quick,
    /// Within three minutes for all devices of a machine.
    #[default]
    Default,
    /// The specifications' full grids.
    Thorough,
}

/// How far an output is from the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The output.
    pub tensor: &'static str,
    /// max |x - reference| / max |reference|; infinite where one is a number and the other not.
    /// What f32 holds as a subnormal number counts as zero: devices may flush it.
    pub error: f64,
    /// The largest error that the arithmetic allows.
    pub tolerance: f64,
    /// The worst element, in the order of the reference, and what was found and expected there.
    pub worst: Option<(usize, f64, f64)>,
}

impl Comparison {
    /// Compares the elements of a tensor, in order, with exact values.
    ///
    /// # Errors
    ///
    /// Where the tensor is being written.
    pub fn new(
        tensor: &'static str,
        found: &View<Cpu>,
        exact: &[f64],
        tolerance: f64,
    ) -> Result<Self> {
        Self::of_terms(tensor, found, exact, tolerance, 0.0)
    }

    /// The same where the exact values are small differences of large terms: the error is
    /// relative to the largest term, or to the largest value if that is larger.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn of_terms(
        tensor: &'static str,
        found: &View<Cpu>,
        exact: &[f64],
        tolerance: f64,
        terms: f64,
    ) -> Result<Self> {
        let flushed = |x: &f64| if x.abs() < f64::from(f32::MIN_POSITIVE) { 0.0 } else { *x };
        let found: Vec<f64> = found.to_f64()?.iter().map(flushed).collect();
        let exact: Vec<f64> = exact.iter().map(flushed).collect();
        let scale = exact.iter().filter(|x| x.is_finite()).fold(terms, |max, x| max.max(x.abs()));
        let mut comparison = Self { tensor, error: 0.0, tolerance, worst: None };
        if found.len() != exact.len() {
            comparison.error = f64::INFINITY;
            return Ok(comparison);
        }
        for (i, (&x, &y)) in found.iter().zip(&exact).enumerate() {
            let same_kind = x == y || x.is_nan() && y.is_nan();
            let error = match (x - y).abs() / scale {
                _ if same_kind => 0.0,
                error if error.is_nan() => f64::INFINITY,
                error => error,
            };
            if error > comparison.error {
                comparison.error = error;
                comparison.worst = Some((i, x, y));
            }
        }
        Ok(comparison)
    }

    /// Compares all elements together: |x - reference| / |reference| in the Euclidean norm, or
    /// relative to the norm of the terms if that is larger.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn of_norms(
        tensor: &'static str,
        found: &View<Cpu>,
        exact: &[f64],
        tolerance: f64,
        terms: f64,
    ) -> Result<Self> {
        let found = found.to_f64()?;
        let pairs = found.iter().zip(exact);
        let apart = |(&x, &y): (&f64, &f64)| {
            let same_kind = x == y || x.is_nan() && y.is_nan();
            if same_kind { 0.0 } else { (x - y) * (x - y) }
        };
        let difference = pairs.map(apart).sum::<f64>().sqrt();
        let scale = exact.iter().filter(|x| x.is_finite()).map(|x| x * x).sum::<f64>().sqrt();
        let error = match difference / scale.max(terms) {
            _ if found.len() != exact.len() => f64::INFINITY,
            _ if difference == 0.0 => 0.0,
            error if error.is_nan() => f64::INFINITY,
            error => error,
        };
        Ok(Self { tensor, error, tolerance, worst: None })
    }

    /// Compares the elements of a tensor, in order, with exact values, each with an allowance of its
    /// own: errors are shares of it.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn within(
        tensor: &'static str,
        found: &View<Cpu>,
        exact: &[f64],
        allowed: impl Fn(usize) -> f64,
    ) -> Result<Self> {
        let found = found.to_f64()?;
        let mut comparison = Self { tensor, error: 0.0, tolerance: 1.0, worst: None };
        if found.len() != exact.len() {
            comparison.error = f64::INFINITY;
            return Ok(comparison);
        }
        for (i, (&x, &y)) in found.iter().zip(exact).enumerate() {
            let same_kind = x == y || x.is_nan() && y.is_nan();
            let error = match (x - y).abs() / allowed(i) {
                _ if same_kind => 0.0,
                error if error.is_nan() => f64::INFINITY,
                error => error,
            };
            if error > comparison.error {
                comparison.error = error;
                comparison.worst = Some((i, x, y));
            }
        }
        Ok(comparison)
    }

    /// Whether the output is as close as the arithmetic allows.
    pub fn passed(&self) -> bool {
        self.error <= self.tolerance
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: error {:.2e}, tolerance {:.0e}", self.tensor, self.error, self.tolerance)?;
        match self.worst {
            Some((i, x, y)) => write!(f, "; element {i} is {x:e}, expected {y:e}"),
            None => Ok(()),
        }
    }
}

/// What one case gave with one variant of one device.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The operation, as the command names it.
    pub operation: &'static str,
    /// The pass: `forward`.
    pub pass: &'static str,
    /// The variant that ran.
    pub variant: &'static str,
    /// The element type of the activations.
    pub dtype: DType,
    /// The number of the case, from 0 to before [`Suite::count`].
    pub index: usize,
    /// The case, as its sizes and options.
    pub case: String,
    /// The time of the run.
    pub elapsed: Duration,
    /// How it went.
    pub outcome: Outcome,
}

/// How a case went.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Each output against the reference.
    Compared(Vec<Comparison>),
    /// It failed, or hurt something that it must not touch.
    Failed(String),
    /// The device says that it cannot do this.
    Unsupported(String),
}

impl From<Result<Vec<Comparison>>> for Outcome {
    /// What came of a run whose outputs were compared.
    fn from(ran: Result<Vec<Comparison>>) -> Self {
        match ran {
            Ok(outputs) => Self::Compared(outputs),
            Err(error) if error.kind() == ErrorKind::Ability => {
                Self::Unsupported(error.to_string())
            }
            Err(error) => Self::Failed(error.to_string()),
        }
    }
}

impl Report {
    /// What is wrong, in a line; nothing where the case passed or is not supported.
    pub fn complaint(&self) -> Option<String> {
        let wrong = match &self.outcome {
            Outcome::Failed(wrong) => wrong.clone(),
            Outcome::Unsupported(_) => return None,
            Outcome::Compared(outputs) => {
                let wrong: Vec<String> = outputs
                    .iter()
                    .filter(|output| !output.passed())
                    .map(ToString::to_string)
                    .collect();
                if wrong.is_empty() {
                    return None;
                }
                wrong.join("; ")
            }
        };
        let Self { operation, variant, dtype, case, .. } = self;
        Some(format!("{operation} {dtype} {variant}, {case}: {wrong}"))
    }

    /// The output whose error comes closest to its tolerance, or exceeds it most.
    pub fn worst(&self) -> Option<&Comparison> {
        let Outcome::Compared(outputs) = &self.outcome else { return None };
        let strain = |output: &&Comparison| output.error / output.tolerance;
        outputs.iter().max_by(|x, y| strain(x).total_cmp(&strain(y)))
    }
}

/// What the cases, timings and counts of one operation offer alike.
pub trait Suite: Sync {
    /// The operation.
    fn operation(&self) -> &'static dyn Operation;

    /// How many cases there are, element types counted.
    fn count(&self, size: Size) -> usize;

    /// Runs the cases on a device, in every element type and with every variant that fits, and
    /// hands the reports over one by one. What goes wrong with a case stands in its report.
    fn run(&self, device: &Device, size: Size, report: &mut dyn FnMut(Report));

    /// The calls that the specification asks to be timed.
    fn settings(&self) -> Vec<Setting>;

    /// The types of values that are timed.
    fn dtypes(&self) -> &'static [DType] {
        &[DType::F32, DType::BF16, DType::F16]
    }

    /// The elements that a call's cost is stated for: B · D · L · N of a scan.
    fn elements(&self, sizes: &Sizes) -> usize;

    /// Times a call on a device: once to warm up, then `runs` times into the same outputs.
    /// Without a number of runs it goes on for three seconds, for 7 runs at least and 50 at most.
    ///
    /// # Errors
    ///
    /// As the call.
    fn time(
        &self,
        device: &Device,
        setting: &Setting,
        dtype: DType,
        runs: Option<usize>,
    ) -> Result<Timing>;

    /// Runs a call once on an interpreter of its own and counts what its kernels do.
    ///
    /// # Errors
    ///
    /// As the call.
    #[cfg(feature = "interpreter")]
    #[cfg_attr(docsrs, doc(cfg(feature = "interpreter")))]
    fn count_kernels(
        &self,
        setting: &Setting,
        dtype: DType,
        interpretation: Interpretation,
    ) -> Result<Counted>;
}

/// The cases of every operation.
pub const SUITES: [&dyn Suite; 12] = [
    &selective_scan::Cases,
    &selective_scan::state_update::Cases,
    &causal_conv1d::Cases,
    &causal_conv1d::UpdateCases,
    &scan_attention::Cases,
    &rnn::Cases,
    &attention::Cases,
    &attention::MergeCases,
    &cross_entropy::Cases,
    &ring::Cases,
    &spgemm::Cases,
    &group_sparse::Cases,
];

/// The cases of the operation of this name.
///
/// # Errors
///
/// [`Error::Option`](crate::Error::Option) where there is none.
pub fn find(name: &str) -> Result<&'static dyn Suite> {
    let operation = operation::find(name)?;
    let suite = SUITES.into_iter().find(|suite| suite.operation().name() == operation.name());
    suite.ok_or_else(|| operation::unknown(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;

    fn compare(found: &[f64], exact: &[f64]) -> Comparison {
        let found = Tensor::from_slice(&Cpu, found, &[found.len()]).unwrap();
        Comparison::new("x", &found, exact, 0.1).unwrap()
    }

    #[test]
    fn errors_are_relative_to_the_largest_value() {
        let comparison = compare(&[1.0, -3.0, 10.5], &[1.0, -2.0, 10.0]);
        assert_eq!(comparison.error, 0.1);
        assert_eq!(comparison.worst, Some((1, -3.0, -2.0)));
        assert!(comparison.passed());
    }

    #[test]
    fn what_is_no_number_must_be_so_on_both_sides() {
        assert!(compare(&[f64::NAN, 1.0], &[f64::NAN, 1.0]).passed());
        assert!(compare(&[f64::INFINITY, 1.0], &[f64::INFINITY, 1.0]).passed());
        assert!(!compare(&[f64::NAN, 1.0], &[0.0, 1.0]).passed());
        assert!(!compare(&[0.0, 1.0], &[f64::NAN, 1.0]).passed());
        assert!(!compare(&[f64::INFINITY, 1.0], &[3.0, 1.0]).passed());
        assert!(!compare(&[1e-30], &[0.0]).passed());
        assert!(!compare(&[1.0], &[1.0, 1.0]).passed());
    }
}
