//! Launches the PTX: analyse, count, sum.
//!
//! What each row takes decides its bin; rows of a bin are counted, and then summed, by kernels with
//! tables or windows of that size. The host reads back twice: how many rows each bin has, and how
//! many entries the product has, before memory is taken for them.

mod count;
mod hashed;
mod matrices;
mod sum;
mod totals;

use std::sync::Arc;

use super::gpu::{self, BINS, Matrices, WIDEST_OF_WINDOWS, is_ordered, kind};
use super::kernels::{PrintPtx, SumHashedPtx, SumLargePtx, SumSmallPtx, SumWindowsPtx};
use super::plan::Plan;
use super::{
    Inputs, NAME, Options, Planned, Problem, Semiring, Spgemm, SpgemmPlan, Summary, Tokens,
};
use crate::backend::Backend;
use crate::backend::cuda::{Address, Cuda, CudaBuffer, Grid, Workspace, linear, only, within};
use crate::backend::kernel::{Variant, VariantInfo};
use crate::sparse::{Csr, Offset, Value};
use crate::tensor::{Tensor, View};
use crate::{Error, Result};
use count::CountedRows;
use hashed::Pool;
use matrices::matrices;

/// Threads that a multiprocessor holds at once.
const THREADS_PER_UNIT: u32 = 2048;

impl<T: Value, O: Offset> Spgemm<T, O> for Cuda {
    fn variants(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        let asked = tuned::<T>(self, options)?.0;
        if asked != BINS {
            return Ok(vec![asked]);
        }
        // In a wide matrix nearly all windows of a short row would be empty.
        let tables = |name: &&str| name.contains("_small_") || name.contains("_large_");
        let others = summing::<T>(options.semiring)
            .filter(|name| tables(name) || problem.cols <= WIDEST_OF_WINDOWS);
        Ok(std::iter::once(BINS).chain(others).collect())
    }

    fn is_ordered(options: &Options) -> bool {
        options.deterministic
    }

    fn product(
        &self,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T, O>,
        options: &Options,
    ) -> Result<(Csr<Self, T, O>, Summary, Option<Kept<O>>)> {
        let (variant, options) = tuned::<T>(self, options)?;
        let mut summary = Summary { variant, ..Summary::default() };
        if let Some(empty) = gpu::empty(self, problem, inputs)? {
            return Ok((empty, summary, None));
        }
        let matrices = summary.phase("prepare", || matrices(self, inputs))?;
        let rows = RowData::of(self, problem)?;
        let shared_bytes = self.limits().shared_bytes;
        let plan = Plan::of(problem, T::DTYPE, shared_bytes, &options).of_variant(variant);
        let call = Call::of(self, problem, &matrices, &options, &plan, &rows);
        let counted = call.count(&mut summary)?;
        let pool = call.pool(&counted)?;
        let product = summary.phase("sum", || call.sum(&counted, pool.as_ref()))?;
        let kept = Kept { plan, rows, counted: Arc::new(counted), pool };
        Ok((product, summary, Some(kept)))
    }

    fn values(
        &self,
        plan: &SpgemmPlan<Self, O>,
        inputs: &Inputs<'_, Self, T, O>,
        options: &Options,
        into: &mut Tensor<Self, T>,
    ) -> Result<()> {
        let Some(kept) = plan.kept() else { return Ok(()) };
        if kept.plan.word_bytes != Plan::word_bytes(T::DTYPE) {
            return Err(Error::Dtype {
                operation: NAME,
                tensor: "values".to_owned(),
                expected: "values as wide as those that the plan was made with".to_owned(),
                found: T::DTYPE.to_string(),
            });
        }
        self.check_streams(NAME, [("values", &**into)])?;
        let mut options = options.clone();
        // Nothing is counted this time, not even who has taken which row.
        options.tuning.tokens = Tokens::Static;
        let matrices = matrices(self, inputs)?;
        let call = Call::of(self, plan.problem(), &matrices, &options, &kept.plan, &kept.rows);
        call.sum_into(&kept.counted, kept.pool.as_ref(), plan.structure().col(), into)
    }
}

impl<O: Offset> Planned<O> for Cuda {
    /// What has been counted; none where there is nothing to multiply.
    type Kept = Option<Kept<O>>;

    fn prints<T: Value>(
        &self,
        matrices: [Option<&Csr<Self, T, O>>; 4],
    ) -> Result<[Option<u64>; 4]> {
        let sums = self.upload(&[0; 32])?;
        let kernel = only(NAME, PrintPtx::VARIANTS)?;
        for (at, matrix) in (0..).zip(matrices) {
            let Some(matrix) = matrix else { continue };
            let row_ptr: &View<Self> = matrix.row_ptr();
            for places in [row_ptr, matrix.col()] {
                self.check_streams(NAME, [("matrix", places)])?;
                let count = (places.elements() * places.dtype().bytes() / 4) as u64;
                let blocks = count.div_ceil(u64::from(kernel.info.block[0]));
                let resident = u64::from(self.limits().units.max(1) * BLOCKS_PER_UNIT);
                let grid = linear(NAME, self.stream(), blocks.min(resident))?;
                PrintPtx { words: Address::of(places), sums: Address::within(&sums, 0), count, at }
                    .launch(self.stream(), kernel, grid)?;
            }
        }
        let mut bytes = [0; 32];
        self.download(&sums, 0, &mut bytes)?;
        let mut found = bytes
            .chunks_exact(8)
            .map(|sum| sum.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)));
        Ok(matrices.map(|matrix| found.next().filter(|_| matrix.is_some())))
    }
}

/// Blocks that a multiprocessor holds of a kernel that only reads.
const BLOCKS_PER_UNIT: u32 = 8;

/// What is known of a product's rows, for other values at the same places.
#[derive(Clone, Debug)]
pub struct Kept<O: Offset> {
    plan: Plan,
    rows: RowData,
    counted: Arc<CountedRows<O>>,
    pool: Option<Pool>,
}

/// The variant of a table for a kind.
fn of_kind<E, T: Value>(
    table: &'static [Variant<E>],
    semiring: Semiring,
    is_right: impl Fn(&VariantInfo) -> bool,
) -> Result<&'static Variant<E>> {
    let kind = kind::<T>(semiring);
    crate::backend::cuda::variant(NAME, table, |info| {
        info.parameter("kind") == Some(&kind) && is_right(info)
    })
}

/// The kernels that sum values of a kind, by name.
fn summing<T: Value>(semiring: Semiring) -> impl Iterator<Item = &'static str> {
    let kind = kind::<T>(semiring);
    let small = SumSmallPtx::VARIANTS.iter().map(|variant| variant.info);
    let large = SumLargePtx::VARIANTS.iter().map(|variant| variant.info);
    let windows = SumWindowsPtx::VARIANTS.iter().map(|variant| variant.info);
    let hashed = SumHashedPtx::VARIANTS.iter().map(|variant| variant.info);
    small
        .chain(large)
        .chain(windows)
        .chain(hashed)
        .filter(move |info| info.parameter("kind") == Some(&kind))
        .map(|info| info.name)
}

/// The variant of a call, and its options so that only that kernel sums: rows that its tables
/// cannot hold, or of which it has none, go by windows, or by hashing in global memory if that is
/// the variant.
fn tuned<T: Value>(device: &Cuda, options: &Options) -> Result<(&'static str, Options)> {
    let mut options = options.clone();
    let name = gpu::variant(device, &options, || summing::<T>(options.semiring))?;
    if name == BINS {
        return Ok((BINS, options));
    }
    options.tuning.slots = match () {
        () if name.contains("_small_") => 32..=64,
        () if name.ends_with("_1024") => 256..=1024,
        () if name.ends_with("_4096") => 2048..=4096,
        () if name.ends_with("_8192") => 8192..=8192,
        () => 0..=0,
    };
    Ok((name, options))
}

/// A product under way.
struct Call<'a, T: Value, O: Offset> {
    device: &'a Cuda,
    problem: &'a Problem,
    matrices: &'a Matrices<'a, Cuda, T, O>,
    options: &'a Options,
    plan: &'a Plan,
    rows: &'a RowData,
    flags: u32,
    /// Whether every sum goes from left to right, where that shows.
    ordered: bool,
}

/// What is known of each row, and where the workspace holds it.
#[derive(Clone, Debug)]
struct RowData {
    workspace: Option<CudaBuffer>,
    products: u64,
    low: u64,
    high: u64,
    order: u64,
    classes: u64,
    sums: u64,
}

impl RowData {
    fn of(device: &Cuda, problem: &Problem) -> Result<Self> {
        let rows = problem.rows as u64;
        let mut workspace = Workspace::default();
        let places = Self {
            products: workspace.take(4 * rows),
            low: workspace.take(4 * rows),
            high: workspace.take(4 * rows),
            order: workspace.take(4 * rows),
            classes: workspace.take(rows),
            sums: workspace.take(8 * rows.div_ceil(SCANNED)),
            workspace: None,
        };
        Ok(Self { workspace: workspace.allocate(device.stream())?, ..places })
    }
}

/// The flags of kernels/spgemm/matrix.ptx.
mod flag {
    pub const WIDE: u32 = 1;
    pub const LISTED: u32 = 2;
    pub const FORBIDS: u32 = 4;
    pub const SEARCHES: u32 = 8;
    pub const ORDERED: u32 = 16;
    pub const CLAIMS_FIRST: u32 = 32;
    pub const COMPLEMENTS: u32 = 64;
    pub const MAY_HASH: u32 = 128;
    pub const MUST_HASH: u32 = 256;
    pub const REPEATS: u32 = 512;
}

/// Rows whose entries a block of a scan sums.
const SCANNED: u64 = 2048;

impl<'a, T: Value, O: Offset> Call<'a, T, O> {
    fn of(
        device: &'a Cuda,
        problem: &'a Problem,
        matrices: &'a Matrices<'a, Cuda, T, O>,
        options: &'a Options,
        plan: &'a Plan,
        rows: &'a RowData,
    ) -> Self {
        let flags = flags::<T, O>(matrices, options)
            | if plan.must_hash { flag::MUST_HASH } else { flag::MAY_HASH };
        Self {
            device,
            problem,
            matrices,
            options,
            plan,
            rows,
            flags,
            ordered: is_ordered::<T>(options),
        }
    }

    /// The address of what the workspace holds.
    fn at(&self, offset: u64) -> Address {
        within(self.rows.workspace.as_ref(), offset)
    }

    /// A grid of this many blocks, with so much shared memory.
    fn grid(&self, blocks: u64, dynamic_shared: u32) -> Result<Grid> {
        Ok(Grid { dynamic_shared, ..linear(NAME, self.device.stream(), blocks)? })
    }

    /// Blocks for so many tokens; where groups take them one by one, no more than are resident.
    fn blocks(
        &self,
        tokens: u64,
        per_block: u32,
        info: &VariantInfo,
        shared: u32,
        take: bool,
    ) -> u64 {
        let all = tokens.div_ceil(u64::from(per_block));
        if !take {
            return all;
        }
        let limits = self.device.limits();
        let by_threads = THREADS_PER_UNIT / info.block[0].max(1);
        let by_shared = limits.shared_bytes / shared.max(1);
        let resident = by_threads.min(by_shared).max(1) * limits.units.max(1);
        all.min(u64::from(resident))
    }

    /// Whether groups take tokens one by one.
    fn takes(&self, uneven: bool) -> bool {
        match self.options.tuning.tokens {
            Tokens::Static => false,
            Tokens::Dynamic => true,
            Tokens::Auto => uneven,
        }
    }
}

fn flags<T: Value, O: Offset>(matrices: &Matrices<'_, Cuda, T, O>, options: &Options) -> u32 {
    let searches = matrices.searches(options);
    let preloads = matrices.mask.is_some() && !searches;
    [
        (O::DTYPE.bytes() == 8, flag::WIDE),
        (preloads && !options.complement, flag::LISTED),
        (preloads && options.complement, flag::FORBIDS),
        (searches, flag::SEARCHES),
        (options.complement, flag::COMPLEMENTS),
    ]
    .into_iter()
    .fold(0, |flags, (set, bit)| if set { flags | bit } else { flags })
}

/// What would run, and why, in lines.
pub(super) fn explain(device: &Cuda, problem: &Problem, options: &Options) -> Result<String> {
    let dtype = options.semiring.values()[0];
    let plan = Plan::of(problem, dtype, device.limits().shared_bytes, options);
    Ok(plan.explain(BINS, dtype))
}
