//! Products at the settings of section 13 of their specification.

use super::{Case, Rows};
use crate::Result;
use crate::backend::{Device, dispatch};
use crate::element::DType;
use crate::group_sparse::{AXES, Format, GroupSparse, Mode, NAME, Pattern, ScaleScope, Weights};
use crate::operation::{Settings, Sizes};
use crate::tensor::View;
use crate::verify::Random;
use crate::verify::time::{Setting, Timing, repeat};

/// M, N, K, the percentage of pruned groups, G and b, and whether it is meant for a GPU.
const SETTINGS: [([usize; 6], bool); 14] = [
    ([1, 4096, 4096, 0, 128, 4], false),
    ([1, 4096, 4096, 0, 32, 4], false),
    ([1, 4096, 4096, 0, 16, 4], false),
    ([1, 4096, 4096, 50, 16, 4], false),
    ([1, 4096, 4096, 50, 32, 4], false),
    ([1, 4096, 4096, 50, 32, 2], false),
    ([1, 4096, 4096, 50, 32, 3], false),
    ([1, 4096, 4096, 50, 32, 8], false),
    ([4, 4096, 4096, 50, 16, 4], false),
    ([16, 4096, 4096, 50, 16, 4], false),
    ([1, 11_008, 4096, 50, 16, 4], true),
    ([1, 4096, 11_008, 50, 16, 4], true),
    ([1, 28_672, 8192, 50, 16, 4], true),
    ([1, 28_672, 8192, 0, 128, 4], true),
];

pub(super) fn settings() -> Vec<Setting> {
    let setting = |(sizes, large)| {
        let sizes = Sizes::new(&AXES, sizes);
        Setting { large, ..Setting::new("G", "product", sizes, Settings::default()) }
    };
    SETTINGS.map(setting).into()
}

/// Kept weights times vectors; 0 where the sizes make no sense.
pub(super) fn kept(sizes: &Sizes) -> usize {
    let Ok([vectors, rows, columns, pruned, ..]) = sizes.lengths::<6>(NAME) else { return 0 };
    vectors * rows * columns * (100 - pruned.min(100)) / 100
}

/// The case of a setting: scales in f16, y in the type of x.
///
/// # Errors
///
/// [`Error::Option`](crate::Error::Option) for sizes that make no sense.
pub(super) fn case(setting: &Setting) -> Result<Case> {
    let [vectors, rows, columns, pruned, group, bits] = setting.sizes.lengths(NAME)?;
    let pattern = if pruned == 0 { Pattern::Dense } else { Pattern::Free };
    let (mode, scope) = (Mode::Sym, ScaleScope::Group);
    let bits = u32::try_from(bits).unwrap_or(u32::MAX);
    let format = Format { rows, columns, group, bits, mode, pattern, scope };
    format.check()?;
    let all = rows * format.column_groups();
    let rows = Rows::Kept(all - all * pruned.min(100) / 100);
    Ok(Case { rows, vectors, scales: DType::F16, y: DType::F16, ..Case::new(format) })
}

/// One call to warm up, then calls into the same tensor, each by the clock from the launch until the
/// device has finished.
pub(super) fn time(
    device: &Device,
    setting: &Setting,
    dtype: DType,
    runs: Option<usize>,
) -> Result<Timing> {
    let case = case(setting)?;
    dispatch!(NAME, device, dtype, |backend, T| {
        time_on(backend, &case, <T as crate::element::Element>::DTYPE, runs)
    })
}

fn time_on<B: GroupSparse>(
    backend: &B,
    case: &Case,
    dtype: DType,
    runs: Option<usize>,
) -> Result<Timing> {
    let mut random = Random::new(case.seed);
    let weights = Weights::new(backend, &case.matrix(&mut random)?)?;
    let shape = [case.vectors, case.format.columns];
    let x = Case::numbers(dtype, &shape, false, &mut random)?.to_backend(backend)?;
    let y = View::new(backend, dtype, &[case.vectors, case.format.rows])?;
    let mut product = weights.product(case.vectors, &case.options())?;
    product.run(&x, None, &y)?;
    backend.synchronise()?;
    let seconds = repeat(runs, || {
        product.run(&x, None, &y)?;
        backend.synchronise()
    })?;
    let bytes = least_bytes(case, weights.problem().kept(), dtype);
    Ok(Timing { variant: product.plan().variant, seconds, bytes })
}

/// The matrix as files hold it, but for its row pointers, and x and y.
pub(super) fn least_bytes(case: &Case, kept: usize, dtype: DType) -> u64 {
    let Format { rows, columns, pattern, .. } = case.format;
    let index = if pattern == Pattern::Dense { 0 } else { 2 };
    let of_group = case.format.group_bytes() + case.scales.bytes() + index;
    (kept * of_group + case.vectors * (rows + columns) * dtype.bytes()) as u64
}
