//! Records the WGSL: expand, analyse, count, sum.
//!
//! As the launches of the PTX, with less to bind: eight buffers. So entries of A are expanded into
//! records first, which say where their rows of B lie, and all that is known of a row lies in one
//! buffer. The host reads back twice: how many rows each bin has, and how many entries the product
//! has, before memory is taken for them.

mod count;
mod places;
mod prints;
mod sum;
mod totals;

use std::sync::Arc;

use super::gpu::{self, BINS, Matrices, WIDEST_OF_WINDOWS, is_ordered, kind};
use super::kernels::{SumHashedWgsl, SumTablesWgsl, SumWindowsWgsl};
use super::plan::Plan;
use super::{Inputs, NAME, Options, Problem, Semiring, Spgemm, SpgemmPlan, Summary};
use crate::backend::Backend;
use crate::backend::kernel::{Variant, VariantInfo};
use crate::backend::wgpu::{Recorder, Slice, Wgpu, WgpuBuffer, folded};
use crate::element::DType;
use crate::sparse::{Csr, Offset, Value};
use crate::tensor::Tensor;
use crate::{Error, Result};
use count::CountedRows;
use places::Joined;

/// Workgroup memory that every device has.
const SHARED: u32 = 16 * 1024;

/// Words of a row in the workspace, with that of its place in the order.
const ROW_WORDS: u64 = 10;

/// Words of a record.
const RECORD_WORDS: u64 = 3;

impl<T: Value, O: Offset> Spgemm<T, O> for Wgpu {
    fn variants(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        check_types::<T, O>(self)?;
        let asked = tuned::<T>(self, options)?.0;
        if asked != BINS {
            return Ok(vec![asked]);
        }
        // In a wide matrix nearly all windows of a short row would be empty.
        let others = summing::<T>(options.semiring)
            .filter(|name| name.contains("_tables_") || problem.cols <= WIDEST_OF_WINDOWS);
        Ok(std::iter::once(BINS).chain(others).collect())
    }

    /// Sums go from left to right where they are asked to, but compilers of WGSL may contract
    /// product and sum.
    fn is_ordered(_options: &Options) -> bool {
        false
    }

    fn product(
        &self,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T, O>,
        options: &Options,
    ) -> Result<(Csr<Self, T, O>, Summary, Option<Kept<O>>)> {
        check_types::<T, O>(self)?;
        let (variant, options) = tuned::<T>(self, options)?;
        let mut summary = Summary { variant, ..Summary::default() };
        if let Some(empty) = gpu::empty(self, problem, inputs)? {
            return Ok((empty, summary, None));
        }
        let matrices = summary.phase("prepare", || Matrices::of(self, inputs))?;
        places::check(self, &matrices)?;
        let plan = Plan::of(problem, T::DTYPE, SHARED, &options).of_variant(variant);
        let rows = RowData::of(self, problem, &matrices)?;
        let call = Call::of(self, problem, &matrices, &options, &plan, &rows);
        let counted = call.count(&mut summary)?;
        let product = summary.phase("sum", || call.sum(&counted))?;
        Ok((product, summary, Some(Kept { plan, rows, counted: Arc::new(counted) })))
    }

    fn values(
        &self,
        plan: &SpgemmPlan<Self, O>,
        inputs: &Inputs<'_, Self, T, O>,
        options: &Options,
        into: &mut Tensor<Self, T>,
    ) -> Result<()> {
        check_types::<T, O>(self)?;
        let Some(kept) = plan.kept() else { return Ok(()) };
        into.buffer().check_usages(NAME, "values")?;
        let matrices = Matrices::of(self, inputs)?;
        places::check(self, &matrices)?;
        let call = Call::of(self, plan.problem(), &matrices, options, &kept.plan, &kept.rows);
        call.sum_again(&kept.counted, plan.structure().col(), into)
    }
}

/// What is known of a product's rows, for other values at the same places.
#[derive(Clone, Debug)]
pub struct Kept<O: Offset> {
    plan: Plan,
    rows: RowData,
    counted: Arc<CountedRows<O>>,
}

/// WGSL has no types of 64 bits.
fn check_types<T: Value, O: Offset>(device: &Wgpu) -> Result<()> {
    for (what, dtype) in [("values", T::DTYPE), ("row pointers", O::DTYPE)] {
        if dtype.bytes() == 8 {
            let narrow = if dtype == DType::F64 { "f32" } else { "u32" };
            return Err(Error::Unsupported {
                operation: NAME,
                backend: device.name(),
                what: format!("{what} {dtype}"),
                instead: format!("use {narrow}, or the devices cpu or cuda"),
            });
        }
    }
    Ok(())
}

/// The kernels that sum values of a kind, by name.
fn summing<T: Value>(semiring: Semiring) -> impl Iterator<Item = &'static str> {
    let kind = kind::<T>(semiring);
    let tables = SumTablesWgsl::VARIANTS.iter().map(|variant| variant.info);
    let windows = SumWindowsWgsl::VARIANTS.iter().map(|variant| variant.info);
    let hashed = SumHashedWgsl::VARIANTS.iter().map(|variant| variant.info);
    tables
        .chain(windows)
        .chain(hashed)
        .filter(move |info| info.parameter("kind") == Some(&kind))
        .map(|info| info.name)
}

/// The variant of a call, and its options so that only that kernel sums: all rows in the larger
/// tables, or all in windows, as are those that the tables cannot hold, or by hashing in global
/// memory.
fn tuned<T: Value>(device: &Wgpu, options: &Options) -> Result<(&'static str, Options)> {
    let mut options = options.clone();
    let name = gpu::variant(device, &options, || summing::<T>(options.semiring))?;
    if name == BINS {
        return Ok((BINS, options));
    }
    options.tuning.slots = if name.contains("_tables_") { 256..=1024 } else { 0..=0 };
    Ok((name, options))
}

/// A product under way.
struct Call<'a, T: Value, O: Offset> {
    device: &'a Wgpu,
    problem: &'a Problem,
    matrices: &'a Matrices<'a, Wgpu, T, O>,
    options: &'a Options,
    plan: &'a Plan,
    rows: &'a RowData,
    flags: u32,
    /// Whether every sum goes from left to right, where that shows.
    ordered: bool,
}

/// What is known of each row.
#[derive(Clone, Debug)]
struct RowData {
    /// The words of each, and behind them their order.
    rows: WgpuBuffer,
    /// The entries of A, and of each row C0's before them.
    records: WgpuBuffer,
    /// B and C0 one behind the other, where there is a C0.
    joined: Option<Joined>,
}

impl RowData {
    fn of<T: Value, O: Offset>(
        device: &Wgpu,
        problem: &Problem,
        matrices: &Matrices<'_, Wgpu, T, O>,
    ) -> Result<Self> {
        let rows = problem.rows as u64;
        let added = if matrices.c0.is_some() { rows } else { 0 };
        let records = problem.nnz_a as u64 + added;
        let room = |what: &str, words: u64| {
            check_binding(device, what, 4 * words)?;
            device.allocate(4 * words)
        };
        Ok(Self {
            rows: room("what is known of A's rows", ROW_WORDS * rows)?,
            records: room("the records of A's entries", RECORD_WORDS * records)?,
            joined: Joined::of(device, matrices)?,
        })
    }
}

/// The flags of kernels/spgemm/matrix.wgsl.
mod flag {
    pub const LISTED: u32 = 1;
    pub const FORBIDS: u32 = 2;
    pub const SEARCHES: u32 = 4;
    pub const COMPLEMENTS: u32 = 8;
    pub const MASKED: u32 = 16;
    pub const ORDERED: u32 = 32;
    pub const ADDS: u32 = 64;
    pub const A_VALUED: u32 = 128;
    pub const B_VALUED: u32 = 256;
    pub const C0_VALUED: u32 = 512;
    pub const SCALES: u32 = 1024;
    pub const COPIES: u32 = 2048;
    pub const MUST_HASH: u32 = 4096;
    pub const REPEATS: u32 = 8192;
}

impl<'a, T: Value, O: Offset> Call<'a, T, O> {
    fn of(
        device: &'a Wgpu,
        problem: &'a Problem,
        matrices: &'a Matrices<'a, Wgpu, T, O>,
        options: &'a Options,
        plan: &'a Plan,
        rows: &'a RowData,
    ) -> Self {
        let must_hash = if plan.must_hash { flag::MUST_HASH } else { 0 };
        let flags = flags(matrices, options) | must_hash;
        let ordered = is_ordered::<T>(options);
        Self { device, problem, matrices, options, plan, rows, flags, ordered }
    }

    fn rows(&self) -> Slice<'_> {
        Slice::whole(&self.rows.rows)
    }

    fn records(&self) -> Slice<'_> {
        Slice::whole(&self.rows.records)
    }

    /// How many rows there are.
    fn row_count(&self) -> u32 {
        // Columns and rows are fewer than 2³¹.
        self.problem.rows as u32
    }

    /// The word of `rows` where the order of a bin begins.
    fn order(&self, bin: gpu::Bin) -> u32 {
        (ROW_WORDS as u32 - 1) * self.row_count() + bin.first
    }

    /// Records into an encoder, and submits it.
    fn submit(&self, record: impl FnOnce(&mut Recorder<'_>) -> Result<()>) -> Result<()> {
        let descriptor = ::wgpu::CommandEncoderDescriptor { label: Some(NAME) };
        let mut encoder = self.device.device().create_command_encoder(&descriptor);
        record(&mut Recorder::new(self.device, &mut encoder))?;
        self.device.submit(encoder)
    }

    /// A grid of so many workgroups.
    fn grid(&self, workgroups: u64) -> Result<[u32; 3]> {
        folded(workgroups, self.device.limits().grid)
            .ok_or_else(|| refused(self.device, format!("{workgroups} workgroups")))
    }

    /// A grid with an invocation for each of so many.
    fn threads(&self, threads: u64, info: &VariantInfo) -> Result<[u32; 3]> {
        self.grid(threads.div_ceil(u64::from(info.block[0])))
    }
}

fn flags<T: Value, O: Offset>(matrices: &Matrices<'_, Wgpu, T, O>, options: &Options) -> u32 {
    let Matrices { a, b, c0, mask } = matrices;
    let searches = matrices.searches(options);
    let preloads = mask.is_some() && !searches;
    // What a factor of 0 leaves nothing of is not read: it may hold a NaN.
    let (alpha, beta) = (options.alpha, options.beta.unwrap_or(0.0));
    [
        (preloads && !options.complement, flag::LISTED),
        (preloads && options.complement, flag::FORBIDS),
        (searches, flag::SEARCHES),
        (options.complement, flag::COMPLEMENTS),
        (mask.is_some(), flag::MASKED),
        (c0.is_some(), flag::ADDS),
        (a.val().is_some() && alpha != 0.0, flag::A_VALUED),
        (b.val().is_some() && alpha != 0.0, flag::B_VALUED),
        (c0.as_ref().is_some_and(|c0| c0.val().is_some()) && beta != 0.0, flag::C0_VALUED),
        (alpha != 1.0, flag::SCALES),
        (matrices.copies(), flag::COPIES),
    ]
    .into_iter()
    .fold(0, |flags, (set, bit)| if set { flags | bit } else { flags })
}

/// The first variant of a table that is right. There is one for every kind of values.
fn variant<E>(
    table: &'static [Variant<E>],
    parameter: &str,
    value: &str,
) -> Result<&'static Variant<E>> {
    let found = table.iter().find(|variant| variant.info.parameter(parameter) == Some(value));
    found.ok_or_else(|| Error::Unsupported {
        operation: NAME,
        backend: "wgpu".to_owned(),
        what: format!("products of the {parameter} {value}"),
        instead: "use the device cpu".to_owned(),
    })
}

/// An array fits into a binding, wherever it begins.
fn check_binding(device: &Wgpu, what: &str, bytes: u64) -> Result<()> {
    let most = device.limits().binding_bytes.saturating_sub(places::SLACK);
    if bytes > most {
        return Err(refused(device, format!("{bytes} bytes of {what}, {most} are most")));
    }
    Ok(())
}

fn refused(device: &Wgpu, what: String) -> Error {
    Error::Unsupported {
        operation: NAME,
        backend: device.name(),
        what,
        instead: "split the matrices, or use the devices cpu or cuda".to_owned(),
    }
}

/// What would run, and why, in lines.
pub(super) fn explain(problem: &Problem, options: &Options) -> String {
    let dtype = options.semiring.values()[0];
    Plan::of(problem, dtype, SHARED, options).explain(BINS, dtype)
}
