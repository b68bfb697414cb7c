//! The cases of attention.

mod case;
#[cfg(feature = "interpreter")]
mod count;
mod merge;
mod prepared;
mod time;

#[cfg(feature = "interpreter")]
#[cfg_attr(docsrs, doc(cfg(feature = "interpreter")))]
pub use count::{count, plans};

pub use case::{Bias, Case, Numbers, Shard, Sizes, Tolerances};
pub use merge::{MergeCase, MergeCases, merge_cases};
pub use prepared::Prepared;

#[cfg(feature = "interpreter")]
use warpwright_ptx::interpreter::Options as Interpretation;

#[cfg(feature = "interpreter")]
use super::count::Counted;
use super::runs::Runs;
use super::time::{Setting, Timing};
use super::{Random, Report, Size, Suite};
use crate::Result;
use crate::attention::{Alignment, Attention, Layout, Mask, NAME, RunTime};
use crate::backend::{Device, dispatch};
use crate::element::{DType, Float};
use crate::operation::{Operation, Sizes as AxisLengths};

/// The cases of a size: edges, then sizes of section 13 of the specification in forms drawn at
/// random.
pub fn cases(size: Size) -> Vec<Case> {
    let mut cases = edge_cases();
    let mut random = Random::new(0xa77e_4710);
    let (widths, tokens, count): (&[usize], &[usize], usize) = match size {
        Size::Quick => (&[8, 17, 40, 64], &[1, 2, 15, 33, 70], 14),
        Size::Default => (
            &[1, 8, 17, 32, 40, 64, 80, 96, 112, 128, 160, 192, 256],
            &[1, 2, 3, 15, 64, 65, 113, 203],
            70,
        ),
        Size::Thorough => (
            &[8, 24, 40, 64, 80, 96, 112, 128, 160, 192, 224, 256, 384, 512],
            &[1, 3, 15, 64, 113, 128, 203, 239, 799, 1024],
            300,
        ),
    };
    for _ in 0..count {
        let kv_heads = random.pick(&[1, 1, 2, 3]);
        let sizes = Sizes {
            batch: random.pick(&[1, 1, 2, 3]),
            heads: kv_heads * random.pick(&[1, 1, 2, 3, 4]),
            kv_heads,
            queries: random.pick(tokens),
            keys: random.pick(tokens),
            width: random.pick(widths),
            value_width: 0,
        };
        let value_width = if random.chance(0.7) { sizes.width } else { random.pick(widths) };
        cases.push(Case::random(Sizes { value_width, ..sizes }, &mut random));
    }
    if size == Size::Thorough {
        cases.extend(long_cases());
    }
    cases
}

/// Section 13 of the specification, as far as one call shows it.
fn edge_cases() -> Vec<Case> {
    let sizes = Sizes::square([2, 4, 2, 19, 24]);
    let of = |queries, keys| Sizes { queries, keys, ..sizes };
    let (case, causal) = (Case::new(sizes), Case::causal(sizes));
    let window = |left, right| case.mask.with_window(Some(left), Some(right));
    let top_left = causal.mask.with_alignment(Alignment::TopLeft);
    vec![
        case.clone(),
        causal.clone(),
        Case::new(Sizes { batch: 0, ..sizes }),
        Case::new(Sizes { heads: 0, kv_heads: 0, ..sizes }),
        Case::new(of(0, 5)),
        Case { dlse: true, sink: true, ..Case::new(of(5, 0)) },
        Case { dlse: true, ..Case::new(of(1, 37)) },
        Case::new(of(37, 1)),
        Case { poison: true, dlse: true, ..Case::causal(of(23, 7)) },
        Case { poison: true, mask: top_left, ..Case::new(of(7, 23)) },
        Case { mask: window(0, 0), ..case.clone() },
        Case { mask: window(500, 500), ..case.clone() },
        Case { mask: window(3, 2), alibi: true, ..case.clone() },
        Case { scale: Some(0.0), ..causal.clone() },
        Case { scale: Some(-0.5), ..causal.clone() },
        Case { numbers: Numbers::Alike, ..causal.clone() },
        Case { numbers: Numbers::Outliers, layout: Layout::Bhsd, ..case.clone() },
        Case { softcap: Some(2.0), alibi: true, bias: Bias::Full, sink: true, ..causal.clone() },
        Case { bias: Bias::Masks, dlse: true, ..case.clone() },
        Case { bias: Bias::OfAll, one_buffer: true, ..causal.clone() },
        Case { bias: Bias::OfHead, narrow: true, ..case.clone() },
        Case { bias: Bias::OfBatch, layout: Layout::Bhsd, ..case.clone() },
        Case { one_buffer: true, sink: true, narrow: true, ..causal.clone() },
        Case { parts: 3, sink: true, dlse: true, ..causal.clone() },
        Case { splits: Some(3), ..causal.clone() },
        Case { shard: Shard::Zigzag, alibi: true, ..causal.clone() },
        Case { shard: Shard::Striped, ..causal.clone() },
        Case {
            shard: Shard::Packed,
            poison: true,
            alibi: true,
            ..Case::causal(Sizes { batch: 1, queries: 40, keys: 52, ..sizes })
        },
        Case::causal(Sizes { heads: 32, kv_heads: 1, ..of(3, 40) }),
        Case::causal(Sizes { heads: 8, kv_heads: 8, ..of(9, 40) }),
        Case::new(Sizes { width: 1, value_width: 1, ..sizes }),
        Case::new(Sizes { width: 72, value_width: 33, ..sizes }),
    ]
}

/// The long ones of section 13.
fn long_cases() -> Vec<Case> {
    let case = |queries, keys, width| {
        let square = Sizes::square([1, 2, 1, queries, width]);
        Case::causal(Sizes { keys, ..square })
    };
    vec![
        case(113, 203, 64),
        case(239, 1, 64),
        case(799, 3, 128),
        case(1023, 1024, 128),
        case(1024, 1023, 64),
        case(4224, 4224, 64),
        Case { mask: Mask::default(), ..case(1024, 1024, 512) },
    ]
}

/// The element types that each case is run in.
const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

/// The suite of attention.
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
        time::scores(sizes)
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
fn run_variants<B: Attention<T>, T: Float>(
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
