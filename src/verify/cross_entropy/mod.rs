//! The cases of cross entropy.

mod case;
#[cfg(feature = "interpreter")]
mod count;
mod prepared;
mod time;

#[cfg(feature = "interpreter")]
#[cfg_attr(docsrs, doc(cfg(feature = "interpreter")))]
pub use count::count;

pub use case::{Case, Numbers, Sizes, Targets, Tolerances};
pub use prepared::Prepared;

#[cfg(feature = "interpreter")]
use warpwright_ptx::interpreter::Options as Interpretation;

#[cfg(feature = "interpreter")]
use super::count::Counted;
use super::runs::Runs;
use super::time::{Setting, Timing};
use super::{Random, Report, Size, Suite};
use crate::Result;
use crate::backend::{Device, dispatch};
use crate::collective::Lines;
use crate::cross_entropy::{CrossEntropy, NAME, Reduction, RunTime};
use crate::element::{DType, Float};
use crate::operation::{Operation, Sizes as Lengths};

/// The cases of a size.
pub fn cases(size: Size) -> Vec<Case> {
    let mut cases = edge_cases();
    let mut random = Random::new(0xce_7e55);
    let count = match size {
        Size::Quick => 8,
        Size::Default => 40,
        Size::Thorough => 300,
    };
    let large = usize::from(size > Size::Quick);
    for _ in 0..count {
        let width = random.chance(0.5).then(|| random.pick(&[1, 3, 16, 40, 65, 130]));
        let vocabularies: &[usize] = match width {
            Some(_) => &[1, 2, 5, 64, 100, 131, 300],
            None => &[1, 2, 3, 17, 64, 100, 1000, 1025, 3001],
        };
        let tokens = random.pick(&[1, 2, 3, 7, 33, 70 + large * 67]);
        let sizes = Sizes { tokens, vocabulary: random.pick(vocabularies), width };
        cases.push(Case::random(sizes, &mut random));
    }
    if size > Size::Quick {
        // Rows that are cut, and columns that do not all fit at once.
        cases.push(Case { label_smoothing: 0.1, ..Case::given(2, 70_000) });
        cases.push(Case { shards: 3, ..Case::linear(70, 5000, 24) });
    }
    cases
}

/// Section 8.2 of the specification, and what is at its edges.
fn edge_cases() -> Vec<Case> {
    let (given, linear) = (Case::given(9, 37), Case::linear(9, 37, 11));
    let all = Case {
        label_smoothing: 0.1,
        z_loss: 1e-2,
        softcap: Some(3.0),
        reduction: Reduction::None,
        ..given.clone()
    };
    let mut cases = vec![
        given.clone(),
        linear.clone(),
        all.clone(),
        Case { sizes: linear.sizes, ..all.clone() },
        // Nothing to do, nothing to choose from, nothing that counts.
        Case::given(0, 37),
        Case::linear(0, 37, 11),
        Case { targets: Targets::Hostile, ..Case::given(9, 0) },
        Case { reduction: Reduction::None, targets: Targets::Hostile, ..Case::linear(9, 0, 11) },
        Case { reduction: Reduction::None, ..Case::given(0, 5) },
        Case { targets: Targets::Columns, ..Case::given(5, 1) },
        Case { targets: Targets::Columns, ..Case::linear(5, 7, 0) },
        Case { targets: Targets::AllIgnored, ..given.clone() },
        Case { targets: Targets::AllIgnored, shards: 2, ..linear.clone() },
        Case { targets: Targets::Hostile, ..given.clone() },
        Case { targets: Targets::Hostile, index: DType::U64, ..linear.clone() },
        Case { targets: Targets::SomeIgnored, index: DType::I32, ..given.clone() },
        Case { targets: Targets::SomeIgnored, index: DType::U32, ..given.clone() },
        Case { numbers: Numbers::Alike, ..Case::given(4, 700) },
        Case { numbers: Numbers::Outliers, reduction: Reduction::Sum, ..Case::given(3, 4099) },
        Case { label_smoothing: 1.0, ..given.clone() },
        Case { one_buffer: true, narrow: true, ..all.clone() },
        Case { one_buffer: true, sizes: linear.sizes, ..all.clone() },
        Case { one_buffer: true, ..Case::given(5, 600) },
    ];
    for shards in [2, 3, 5] {
        cases.push(Case { shards, ..all.clone() });
        cases.push(Case { shards, empty_shards: true, ..linear.clone() });
    }
    // More ranks than columns.
    cases.push(Case { shards: 5, ..Case::given(4, 3) });
    cases.push(Case { shards: 3, targets: Targets::Hostile, ..Case::given(4, 0) });
    cases
}

/// The element types that each case is run in.
const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

/// The suite of cross entropy.
pub(super) struct Cases;

impl Suite for Cases {
    fn operation(&self) -> &'static dyn Operation {
        &RunTime
    }

    fn count(&self, size: Size) -> usize {
        cases(size).len() * DTYPES.len()
    }

    fn run(&self, device: &Device, size: Size, report: &mut dyn FnMut(Report)) {
        for (number, case) in cases(size).iter().enumerate() {
            run_case(device, case, |case| {
                report(Report { index: number * DTYPES.len() + case.index, ..case });
            });
        }
    }

    fn settings(&self) -> Vec<Setting> {
        time::settings()
    }

    /// T · V.
    fn elements(&self, sizes: &Lengths) -> usize {
        let counted = |(axis, _): &&(&str, usize)| *axis != "E";
        sizes.axes().iter().filter(counted).map(|(_, length)| length).product()
    }

    fn time(
        &self,
        device: &Device,
        setting: &Setting,
        dtype: DType,
        runs: Option<usize>,
    ) -> Result<Timing> {
        time::time(device, setting, dtype, runs)
    }

    #[cfg(feature = "interpreter")]
    fn count_kernels(
        &self,
        setting: &Setting,
        dtype: DType,
        interpretation: Interpretation,
    ) -> Result<Counted> {
        count(&time::case(setting)?, setting.pass, dtype, None, interpretation)
    }
}

/// Runs one case on a device, in every element type and with every variant that fits.
pub fn run_case(device: &Device, case: &Case, mut report: impl FnMut(Report)) {
    for (index, dtype) in DTYPES.into_iter().enumerate() {
        Runs::of([NAME, "forward"], (index, dtype), case.describe(), &mut report, |runs| {
            dispatch!(NAME, device, dtype, |backend, T| {
                run_variants(backend, &Prepared::<T>::new(case)?, runs)
            })
        });
    }
}

/// Every variant of both passes.
fn run_variants<B: CrossEntropy<T> + Lines, T: Float>(
    backend: &B,
    prepared: &Prepared<T>,
    runs: &mut Runs<'_>,
) -> Result<()> {
    for variant in prepared.forward_variants(backend)? {
        runs.run("forward", variant, || prepared.forward(backend, variant));
    }
    for variant in prepared.backward_variants(backend)? {
        runs.run("backward", variant, || prepared.backward(backend, variant));
    }
    Ok(())
}
