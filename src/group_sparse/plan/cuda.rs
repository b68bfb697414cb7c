//! The plans of CUDA devices: a worker is a warp.

use super::{Cut, Plan, Share, choose, chunk_ptr};
use crate::Result;
use crate::backend::Limits;
use crate::backend::kernel::VariantInfo;
use crate::element::DType;
use crate::group_sparse::format::Mode;
use crate::group_sparse::kernels::{ProductPtx, ProductsPtx};
use crate::group_sparse::layout::Geometry;
use crate::group_sparse::{Options, Problem};

/// Threads of blocks that a multiprocessor has at once, where registers are the bound.
const RESIDENT_THREADS: u32 = 1024;

/// Shared memory that a block takes besides its own.
const BLOCK_SHARED: u32 = 1024;

/// The kernels that fit, the best first: for one vector the one that keeps it in shared memory, if it has
/// room there; else those that decode for the fewest vectors.
pub(in crate::group_sparse) fn cuda_kernels(
    limits: &Limits,
    problem: &Problem,
) -> Vec<&'static VariantInfo> {
    let format = &problem.format;
    let geometry = Geometry::of(format);
    let of_bits = |info: &VariantInfo| info.number("bits") == Some(format.bits);
    let scale = if problem.scales == DType::F32 { "f32" } else { "half" };
    let has_room = shared_bytes(problem) <= limits.shared_bytes as usize;
    let is_narrow = format.column_groups() <= usize::from(u16::MAX);
    let is_one = problem.vectors == 1 && format.mode != Mode::Affine && is_narrow && has_room;
    let staged = ProductPtx::VARIANTS.iter().map(|one| one.info).filter(|info| {
        is_one
            && of_bits(info)
            && info.number("segment") == Some(geometry.segment as u32)
            && info.parameter("scale") == Some(scale)
    });
    let mut others: Vec<_> = ProductsPtx::VARIANTS.iter().map(|one| one.info).collect();
    others.retain(|info| of_bits(info) && vectors_of(info) >= problem.vectors);
    others.sort_by_key(|info| vectors_of(info));
    staged.chain(others).collect()
}

/// Vectors that a kernel takes at once.
pub(in crate::group_sparse) fn vectors_of(info: &VariantInfo) -> usize {
    info.number("vectors").unwrap_or(1) as usize
}

/// Whether a kernel keeps its vector in shared memory.
pub(in crate::group_sparse) fn is_staged(info: &VariantInfo) -> bool {
    info.number("segment").is_some()
}

/// Bytes of a vector in shared memory.
pub(in crate::group_sparse) fn shared_bytes(problem: &Problem) -> usize {
    Geometry::of(&problem.format).staged(problem.format.column_groups()).1
}

/// Where a product's workspace holds what, in bytes from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::group_sparse) struct Space {
    /// Parts of rows.
    pub slots: u64,
    /// Vectors in f32, as kernels for several read them.
    pub spread: u64,
    /// What outliers add.
    pub base: u64,
    pub bytes: u64,
}

impl Space {
    pub fn of(problem: &Problem, info: &VariantInfo, workers: usize) -> Self {
        let vectors = vectors_of(info);
        let whole = |bytes: usize| (bytes as u64).next_multiple_of(256);
        let slots = whole(workers * 2 * vectors * 4);
        let columns = Geometry::of(&problem.format).staged(problem.format.column_groups()).0;
        let spread = if is_staged(info) { 0 } else { whole(columns * vectors * 4) };
        let has_outliers = problem.outliers > 0;
        let base = if has_outliers { whole(problem.format.rows * vectors * 4) } else { 0 };
        Self { slots: 0, spread: slots, base: slots + spread, bytes: slots + spread + base }
    }
}

/// Chooses the kernel, and cuts the chunks among warps.
pub(in crate::group_sparse) fn cuda(
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    let info = choose(device, options, &cuda_kernels(limits, problem))?;
    let threads = info.block[0];
    let shared = if is_staged(info) { shared_bytes(problem) as u32 + BLOCK_SHARED } else { 0 };
    let by_shared = limits.shared_bytes.checked_div(shared).unwrap_or(u32::MAX).max(1);
    let blocks = (RESIDENT_THREADS / threads).min(by_shared) * limits.units.max(1);
    let warps = threads / 32;
    let (cut, reason) = Cut::of(&chunk_ptr(problem), (blocks * warps) as usize, options);
    let kept = (cut.workers + 1) * size_of::<Share>() + cut.workers * 4;
    Ok(Plan {
        variant: info.name,
        scheme: cut.scheme,
        workers: cut.workers,
        quantum: crate::group_sparse::layout::TILE,
        rows: cut.rows,
        vectors: vectors_of(info).min(problem.vectors),
        blocks: u32::try_from(cut.workers.div_ceil(warps as usize)).unwrap_or(u32::MAX),
        workspace: Space::of(problem, info, cut.workers).bytes + kept as u64,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group_sparse::{Format, Pattern, ScaleScope, Scheme};

    fn problem(rows: usize, columns: usize, group: usize, mode: Mode, vectors: usize) -> Problem {
        let (pattern, scope) = (Pattern::Free, ScaleScope::Group);
        let format = Format { rows, columns, group, bits: 4, mode, pattern, scope };
        Problem::even(format, rows * format.column_groups() / 2, vectors).unwrap()
    }

    fn planned(problem: &Problem) -> Plan {
        cuda("cuda:0", &Limits::of_h100(), problem, &Options::default()).unwrap()
    }

    #[test]
    fn one_vector_lies_in_shared_memory_where_it_has_room() {
        let variant = |columns, group, mode, vectors| {
            planned(&problem(4096, columns, group, mode, vectors)).variant
        };
        assert_eq!(variant(4096, 16, Mode::Sym, 1), "group_sparse_product_4_s16_half");
        assert_eq!(variant(4096, 128, Mode::Asym, 1), "group_sparse_product_4_s32_half");
        assert_eq!(variant(4096, 16, Mode::Affine, 1), "group_sparse_products_4_m1");
        assert_eq!(variant(28_672, 16, Mode::Sym, 1), "group_sparse_product_4_s16_half");
        assert_eq!(variant(65_536, 16, Mode::Sym, 1), "group_sparse_products_4_m1");
        assert_eq!(variant(4096, 16, Mode::Sym, 5), "group_sparse_products_4_m8");
    }

    #[test]
    fn rows_fill_the_device_or_are_cut() {
        let plan = planned(&problem(152_064, 8192, 128, Mode::Sym, 1));
        assert_eq!((plan.scheme, plan.rows), (Scheme::DataCentric, 4));
        let plan = planned(&problem(4096, 4096, 16, Mode::Sym, 1));
        assert_eq!(plan.scheme, Scheme::TaskCentric);
        assert_eq!(plan.workers, 4096 * 64 / 128, "2 KiB of codes each");
        assert_eq!(plan.blocks as usize, plan.workers / 16);
    }
}
