//! The cases of rings: every schedule against one call that has everything.

mod case;
#[cfg(feature = "interpreter")]
mod count;
mod prepared;
mod time;

pub use case::Case;
pub use prepared::{Prepared, Ran};

use std::time::Duration;

#[cfg(feature = "interpreter")]
use warpwright_ptx::interpreter::Options as Interpretation;

#[cfg(feature = "interpreter")]
use super::count::Counted;
use super::runs::Runs;
use super::time::{Setting, Timing};
use super::{Outcome, Random, Report, Size, Suite};
use crate::Result;
use crate::attention::{Attention, Mask};
use crate::backend::{Device, dispatch};
use crate::collective::Lines;
use crate::element::{DType, Float};
use crate::operation::{Operation, Sizes as AxisLengths};
use crate::ring::{NAME, Pass, RunTime, Scheme};
use crate::verify::attention::Sizes;

/// The cases of a size: edges, then sizes and forms drawn at random.
pub fn cases(size: Size) -> Vec<Case> {
    let mut cases = edge_cases();
    let mut random = Random::new(0x4177_0071);
    let (widths, tokens, ranks, count): (&[usize], &[usize], &[usize], usize) = match size {
        Size::Quick => (&[8, 16], &[3, 16, 33], &[2, 3, 4], 4),
        Size::Default => (&[8, 16, 24, 40, 64], &[1, 3, 16, 33, 65, 113], &[2, 3, 4, 5], 24),
        Size::Thorough => {
            (&[8, 24, 64, 128, 256], &[1, 15, 64, 203, 512, 799], &[2, 3, 4, 5, 8, 16, 64], 120)
        }
    };
    for _ in 0..count {
        let kv_heads = random.pick(&[1, 2, 2, 3]);
        let width = random.pick(widths);
        let sizes = Sizes {
            batch: random.pick(&[1, 1, 2]),
            heads: kv_heads * random.pick(&[1, 2, 3]),
            kv_heads,
            queries: random.pick(tokens),
            keys: random.pick(tokens),
            width,
            value_width: if random.chance(0.7) { width } else { random.pick(widths) },
        };
        cases.push(Case::random(sizes, random.pick(ranks), &mut random));
    }
    cases
}

/// Section 13 of the specification, as far as it is about rings.
fn edge_cases() -> Vec<Case> {
    let window = |left| Mask::causal().with_window(Some(left), None);
    let zigzag = Case::new(Scheme::Zigzag, Mask::causal(), 29, 4);
    let of = |change: &dyn Fn(&mut Case)| {
        let mut case = zigzag.clone();
        change(&mut case);
        case
    };
    vec![
        zigzag.clone(),
        Case::new(Scheme::Striped, Mask::causal(), 29, 4),
        Case::new(Scheme::Contiguous, Mask::default(), 29, 3),
        Case::new(Scheme::Contiguous, window(5), 37, 4),
        // More ranks than tokens, and tokens that see nothing.
        Case::new(Scheme::Zigzag, Mask::causal(), 3, 5),
        of(&|case| case.call.sizes.keys = 7),
        of(&|case| case.call.sizes.queries = 0),
        of(&|case| case.call.sizes.batch = 0),
        of(&|case| case.ranks = 1),
        of(&|case| (case.call.sink, case.call.alibi, case.call.mask) = (true, true, window(2))),
        of(&|case| (case.call.softcap, case.call.sizes.kv_heads) = (Some(2.0), 1)),
    ]
}

/// The element types that each case is run in.
const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

/// The suite of rings.
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

    /// B · H · Sq · Sk, whatever the mask.
    fn elements(&self, sizes: &AxisLengths) -> usize {
        crate::verify::attention::Cases.elements(sizes)
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
        count::count(&time::case(setting)?, setting.pass, dtype, interpretation)
    }
}

/// Runs one case on a device, in every element type and by every schedule.
pub fn run_case(device: &Device, case: &Case, mut report: impl FnMut(Report)) {
    for (index, dtype) in DTYPES.into_iter().enumerate() {
        Runs::of([NAME, "forward"], (index, dtype), case.describe(), &mut report, |runs| {
            dispatch!(NAME, device, dtype, |backend, T| {
                run_schedules(backend, &Prepared::<T>::new(case)?, runs)
            })
        });
    }
}

/// Both passes by every schedule.
fn run_schedules<B: Attention<T> + Lines, T: Float>(
    backend: &B,
    prepared: &Prepared<T>,
    runs: &mut Runs<'_>,
) -> Result<()> {
    for algorithm in prepared.case().algorithms() {
        let case = prepared.case().with_algorithm(algorithm);
        let ran = prepared.run(backend, &case);
        for (i, pass) in [Pass::Forward, Pass::Backward].into_iter().enumerate() {
            let (elapsed, compared) = match &ran {
                Ok(ran) => (ran.elapsed[i], prepared.compare(ran, &case, pass)),
                Err(error) => (Duration::ZERO, Err(error.clone())),
            };
            runs.tell(pass.name(), algorithm.name(), elapsed, Outcome::from(compared));
        }
    }
    Ok(())
}
