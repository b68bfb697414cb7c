//! The cases of products with compressed weights, and of their decoding.

mod case;
#[cfg(feature = "interpreter")]
mod count;
mod prepared;
mod time;

#[cfg(feature = "interpreter")]
#[cfg_attr(docsrs, doc(cfg(feature = "interpreter")))]
pub use count::count;

pub use case::{Case, Rows};
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
use crate::group_sparse::{
    BITS, Format, GROUPS, GroupSparse, Mode, NAME, Pattern, RunTime, ScaleScope, Scheme,
};
use crate::operation::{Operation, Sizes as Lengths};

/// The cases of a size.
pub fn cases(size: Size) -> Vec<Case> {
    let mut cases = edge_cases();
    if size != Size::Quick {
        // More rows than 16 bits count, which take the interpreter minutes.
        let format = Format {
            rows: 65_537,
            columns: 8,
            group: 8,
            bits: 4,
            mode: Mode::Asym,
            pattern: Pattern::Free,
            scope: ScaleScope::Group,
        };
        cases.push(Case { rows: Rows::Kept(40_000), ..Case::new(format) });
    }
    let mut random = Random::new(0x9_05a);
    let (times, largest) = match size {
        Size::Quick => (1, 100),
        Size::Default => (3, 300),
        Size::Thorough => (20, 1500),
    };
    for bits in BITS {
        for group in GROUPS {
            for mode in Mode::ALL {
                for _ in 0..times {
                    cases.push(Case::random(bits, group, mode, largest, &mut random));
                }
            }
        }
    }
    cases
}

/// Section 11 of the specification, as far as it concerns products.
fn edge_cases() -> Vec<Case> {
    let format = |rows, columns, group, bits, pattern| Format {
        rows,
        columns,
        group,
        bits,
        mode: Mode::Asym,
        pattern,
        scope: ScaleScope::Group,
    };
    let free = Case::new(format(37, 100, 16, 4, Pattern::Free));
    let mut cases = vec![
        // One row; a row shorter than a group; nothing kept; all in the last row, for many workers.
        Case::new(format(1, 640, 16, 4, Pattern::Dense)),
        Case::new(format(5, 3, 128, 4, Pattern::Dense)),
        Case::new(format(1, 1, 8, 2, Pattern::Free)),
        Case { rows: Rows::Empty, bias: Some(DType::F16), ..free.clone() },
        Case { rows: Rows::Kept(1), workers: Some(40), ..free.clone() },
        Case { rows: Rows::Last, ..Case::new(format(1001, 100, 16, 4, Pattern::Free)) },
        Case { rows: Rows::Empty, vectors: 0, ..free.clone() },
        // More column groups than 16 bits count, and as many as they do.
        Case {
            rows: Rows::Kept(9),
            scales: DType::F16,
            ..Case::new(format(3, 65_537 * 8 - 3, 8, 4, Pattern::Free))
        },
        Case { rows: Rows::Kept(9), ..Case::new(format(3, 65_536 * 8, 8, 8, Pattern::Free)) },
    ];
    // A row over several workers, at every boundary between tiles.
    for workers in [1, 2, 3, 7, 40] {
        for vectors in [1, 3] {
            let long = Case::new(format(3, 9000, 16, 4, Pattern::Free));
            let rows = Rows::Kept(3 * 400);
            let scheme = Some(Scheme::TaskCentric);
            let workers = Some(workers);
            cases.push(Case { rows, scheme, workers, vectors, scales: DType::F16, ..long });
        }
    }
    for vectors in 1..=17 {
        cases.push(Case { vectors, y: DType::F16, ..free.clone() });
    }
    // Many rows of few chunks, of which a warp keeps more than 32.
    let rows = Case::new(format(700, 40, 16, 4, Pattern::Uniform(2)));
    for scheme in Scheme::ALL {
        cases.push(Case { scheme: Some(scheme), workers: Some(2), y: DType::BF16, ..rows.clone() });
    }
    cases
}

/// The types of x that each case is run in.
const DTYPES: [DType; 3] = case::TYPES;

/// The suite of compressed weights.
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

    /// Kept weights, times vectors.
    fn elements(&self, sizes: &Lengths) -> usize {
        time::kept(sizes)
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
        count(&time::case(setting)?, dtype, None, interpretation)
    }
}

/// Runs one case on a device, with x in every type and with every variant that fits.
pub fn run_case(device: &Device, case: &Case, mut report: impl FnMut(Report)) {
    for (index, dtype) in DTYPES.into_iter().enumerate() {
        Runs::of([NAME, "product"], (index, dtype), case.describe(), &mut report, |runs| {
            dispatch!(NAME, device, dtype, |backend, T| {
                run_variants::<_, T>(backend, &Prepared::new(case, dtype)?, runs)
            })
        });
    }
}

/// Every variant of the product, and the decoding.
fn run_variants<B: GroupSparse, T: Float>(
    backend: &B,
    prepared: &Prepared,
    runs: &mut Runs<'_>,
) -> Result<()> {
    for variant in prepared.variants(backend)? {
        runs.run("product", variant, || prepared.product(backend, variant));
    }
    runs.run("decompress", "group_sparse_decompress", || prepared.decompress::<B, T>(backend));
    Ok(())
}
