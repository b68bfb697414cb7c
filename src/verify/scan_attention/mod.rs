//! The cases of scan attention.

mod case;
#[cfg(feature = "interpreter")]
mod count;
mod prepared;
mod time;

#[cfg(feature = "interpreter")]
#[cfg_attr(docsrs, doc(cfg(feature = "interpreter")))]
pub use count::{Pass, count};

pub use case::{Case, Distribution, Documents, Sizes, Tolerances};
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
use crate::element::{DType, Float};
use crate::operation::{Operation, Sizes as Lengths};
use crate::scan_attention::{Layout, NAME, RunTime, ScanAttention};

/// The cases of a size.
pub fn cases(size: Size) -> Vec<Case> {
    let mut cases = edge_cases();
    let mut random = Random::new(0xaa_7e55);
    let (lengths, count): (&[usize], usize) = match size {
        Size::Quick => (&[1, 31, 33, 65, 257], 6),
        Size::Default => (&[1, 2, 3, 7, 16, 31, 32, 33, 63, 65, 129, 255, 257, 372, 1025], 30),
        Size::Thorough => (
            &[
                1, 2, 3, 7, 16, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 372, 784,
                1023, 1024, 1025, 1134, 2047, 2048, 2049, 4096, 4099,
            ],
            300,
        ),
    };
    for _ in 0..count {
        let key_heads = random.pick(&[1, 2, 3]);
        let (group, keyed) = (random.pick(&[1, 1, 2, 4]), random.chance(0.5));
        let key_width = keyed.then(|| random.pick(&[1, 2, 3, 31, 64, 96, 100]));
        let sizes = Sizes {
            batch: random.pick(&[1, 2, 3]),
            heads: if keyed { group * key_heads } else { key_heads },
            key_heads,
            steps: random.pick(lengths),
            key_width,
            width: random.pick(&[1, 2, 3, 31, 32, 64, 65, 96, 130]),
        };
        cases.push(Case::random(sizes, &mut random));
    }
    if size > Size::Quick {
        cases.push(Case::scores(1, 1, 16_384, 8));
        cases.push(Case { layout: Layout::Blhd, ..Case::keys(2, [4, 4], 784, 64) });
    }
    cases
}

/// Section 9 of the specification, as far as one call shows it.
fn edge_cases() -> Vec<Case> {
    let scores = Case::scores(2, 3, 37, 5);
    let keys = Case::keys(2, [4, 2], 70, 8);
    let sized = |sizes| Case { sizes, ..keys.clone() };
    let mut cases = vec![
        scores.clone(),
        keys.clone(),
        Case { narrow: true, carry: false, ..scores.clone() },
        sized(Sizes { steps: 0, ..keys.sizes }),
        sized(Sizes { batch: 0, ..keys.sizes }),
        sized(Sizes { heads: 0, key_heads: 0, ..keys.sizes }),
        sized(Sizes { width: 0, ..keys.sizes }),
        Case { output_gradient: false, ..keys.clone() },
        Case { one_buffer: true, layout: Layout::Blhd, ..keys.clone() },
        Case { one_buffer: true, mask: true, narrow: true, ..scores.clone() },
    ];
    for documents in [Documents::SeqIdx, Documents::CuSeqlens] {
        cases.push(Case { documents, mask: true, ..scores.clone() });
        cases.push(Case { documents, layout: Layout::Blhd, ..keys.clone() });
    }
    let distributions = [
        Distribution::Normal(30.0),
        Distribution::Normal(300.0),
        Distribution::Rising,
        Distribution::Adversarial,
    ];
    cases.extend(distributions.map(|distribution| Case { distribution, ..scores.clone() }));
    cases
}

/// The element types that each case is run in.
const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

/// The suite of scan attention.
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

    /// B · H · L · Dv.
    fn elements(&self, sizes: &Lengths) -> usize {
        let counted = |(axis, _): &&(&str, usize)| !matches!(*axis, "Hk" | "Dk");
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
        let pass = if setting.pass == "backward" { Pass::Backward } else { Pass::Forward };
        count(&time::case(setting)?, pass, dtype, None, interpretation)
    }
}

/// Runs one case on a device, in every element type and with every variant that fits.
pub fn run_case(device: &Device, case: &Case, mut report: impl FnMut(Report)) {
    for (index, dtype) in DTYPES.into_iter().enumerate() {
        Runs::of([NAME, "forward"], (index, dtype), case.describe(), &mut report, |runs| {
            dispatch!(NAME, device, dtype, |backend, T| {
                run_variants(
                    backend,
                    &Prepared::<T>::new(case, case.tolerances(device, dtype))?,
                    runs,
                )
            })
        });
    }
}

/// Every variant of both passes.
fn run_variants<B: ScanAttention<T>, T: Float>(
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
