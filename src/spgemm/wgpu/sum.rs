//! Sum: columns and values of the product.

use super::count::CountedRows;
use super::{Call, check_binding, flag, variant};
use crate::Result;
use crate::backend::Backend;
use crate::backend::wgpu::{Placed, Recorder, Slice, Wgpu};
use crate::sparse::{Csr, Offset, Value};
use crate::spgemm::gpu::{Bin, bin, hash, hash_by_row, kind};
use crate::spgemm::kernels::{
    CopyWgsl, CopyWgslParams, SumHashedWgsl, SumHashedWgslParams, SumTablesWgsl,
    SumTablesWgslParams, SumWindowsWgsl, SumWindowsWgslParams,
};
use crate::spgemm::plan::Table;
use crate::tensor::Tensor;

/// Bytes of tables in global memory, at the most; one there is always.
const POOL: u64 = 1 << 26;

/// Workgroups that use them side by side: WebGPU does not tell how many a device holds.
const RESIDENT: u32 = 256;

/// The arrays that are written.
#[derive(Clone, Copy)]
struct Product<'a> {
    col: Slice<'a>,
    val: Placed<'a>,
}

impl<T: Value, O: Offset> Call<'_, T, O> {
    /// Sums the rows, whose entries are counted.
    pub fn sum(&self, counted: &CountedRows<O>) -> Result<Csr<Wgpu, T, O>> {
        let entries = usize::try_from(counted.counted.entries).unwrap_or(usize::MAX);
        check_binding(self.device, "columns of the product", 4 * counted.counted.entries)?;
        let col = Tensor::new(self.device, &[entries])?;
        let val = Tensor::new(self.device, &[entries])?;
        self.submit(|recorder| self.sum_into(recorder, counted, &col, &val))?;
        let shape = [self.problem.rows, self.problem.cols];
        // SAFETY: the kernels write row pointers that ascend to the count of entries, and for each
        // row its columns in order.
        unsafe { Csr::from_tensors(shape, counted.row_ptr.clone(), col, Some(val), [true, true]) }
    }

    /// Sums other values at places that are known.
    pub fn sum_again(
        &self,
        counted: &CountedRows<O>,
        col: &Tensor<Wgpu, u32>,
        val: &Tensor<Wgpu, T>,
    ) -> Result<()> {
        self.submit(|recorder| {
            self.expand(recorder)?;
            self.sum_into(recorder, counted, col, val)
        })
    }

    fn sum_into(
        &self,
        recorder: &mut Recorder<'_>,
        counted: &CountedRows<O>,
        col: &Tensor<Wgpu, u32>,
        val: &Tensor<Wgpu, T>,
    ) -> Result<()> {
        if val.elements() == 0 {
            return Ok(());
        }
        // The columns are the product's own, which begin where their buffer does.
        let product =
            Product { col: Slice::whole(col.buffer()), val: Placed::of(self.device, val) };
        let bins = &counted.counted.bins;
        self.copy(recorder, product, bins.bin(bin::COPIED))?;
        for (number, &table) in (bin::TABLES..).zip(&self.plan.numeric) {
            self.sum_tables(recorder, table, product, bins.bin(number))?;
        }
        self.sum_windows(recorder, product, counted, Some(bins.bin(bin::WINDOW)))?;
        self.sum_windows(recorder, product, counted, None)?;
        self.sum_hashed(recorder, product, counted)
    }

    /// Only where values are summed their order counts.
    fn sum_flags(&self) -> u32 {
        let repeats = self.ordered && self.matrices.repeats();
        self.flags
            | if self.ordered { flag::ORDERED } else { 0 }
            | if repeats { flag::REPEATS } else { 0 }
    }

    /// Threads that take a record together, of so many; in order, all of them.
    fn spread_log(&self, lanes_log: u32) -> u32 {
        if self.ordered { lanes_log } else { self.plan.spread_log.min(lanes_log) }
    }

    fn copy(&self, recorder: &mut Recorder<'_>, product: Product<'_>, rows: Bin) -> Result<()> {
        let kernel = variant(CopyWgsl::VARIANTS, "kind", &kind::<T>(self.options.semiring))?;
        let (b_col, b_val) = (self.b_col(), self.b_val());
        let lanes_log = self.plan.spread_log;
        CopyWgsl {
            params: CopyWgslParams {
                first: self.order(rows),
                count: rows.rows,
                lanes_log,
                flags: self.sum_flags(),
                b_col_at: b_col.at,
                b_val_at: b_val.at,
                c_val_at: product.val.at,
            },
            rows: self.rows(),
            records: self.records(),
            b_col: b_col.slice,
            b_val: b_val.slice,
            c_col: product.col,
            c_val: product.val.slice,
        }
        .record(
            recorder,
            kernel,
            self.threads(u64::from(rows.rows) << lanes_log, kernel.info)?,
        )
    }

    fn sum_tables(
        &self,
        recorder: &mut Recorder<'_>,
        table: Table,
        product: Product<'_>,
        rows: Bin,
    ) -> Result<()> {
        let kernel = variant(SumTablesWgsl::VARIANTS, "kind", &kind::<T>(self.options.semiring))?;
        let (multiplier, shift) = hash(self.options.tuning.hash, table);
        let (b_col, b_val, mask_col) = (self.b_col(), self.b_val(), self.mask_col());
        SumTablesWgsl {
            params: SumTablesWgslParams {
                first: self.order(rows),
                count: rows.rows,
                lanes_log: table.lanes_log,
                spread_log: self.spread_log(table.lanes_log),
                multiplier,
                shift,
                flags: self.sum_flags(),
                b_col_at: b_col.at,
                mask_col_at: mask_col.at,
                b_val_at: b_val.at,
                c_val_at: product.val.at,
            },
            rows: self.rows(),
            records: self.records(),
            b_col: b_col.slice,
            mask_col: mask_col.slice,
            b_val: b_val.slice,
            c_col: product.col,
            c_val: product.val.slice,
        }
        .record(
            recorder,
            kernel,
            self.threads(u64::from(rows.rows) << table.lanes_log, kernel.info)?,
        )
    }

    /// Rows of one window, or the slots of long rows, each of which knows its row.
    fn sum_windows(
        &self,
        recorder: &mut Recorder<'_>,
        product: Product<'_>,
        counted: &CountedRows<O>,
        rows: Option<Bin>,
    ) -> Result<()> {
        let kernel = variant(SumWindowsWgsl::VARIANTS, "kind", &kind::<T>(self.options.semiring))?;
        let (b_col, b_val, mask_col) = (self.b_col(), self.b_val(), self.mask_col());
        let count = rows.map_or(counted.slots.count, |rows| rows.rows);
        SumWindowsWgsl {
            params: SumWindowsWgslParams {
                count,
                window_log: self.plan.slot_log,
                spread_log: self.spread_log(kernel.info.block[0].ilog2()),
                flags: self.sum_flags(),
                b_col_at: b_col.at,
                mask_col_at: mask_col.at,
                b_val_at: b_val.at,
                c_val_at: product.val.at,
                of_slots: u32::from(rows.is_none()),
                first: rows.map_or(0, |rows| self.order(rows)),
            },
            rows: self.rows(),
            records: self.records(),
            b_col: b_col.slice,
            mask_col: mask_col.slice,
            slots: counted.slots.slice(),
            b_val: b_val.slice,
            c_col: product.col,
            c_val: product.val.slice,
        }
        .record(recorder, kernel, self.grid(u64::from(count))?)
    }

    /// Long rows in tables of a pool, each of which a workgroup uses for row after row.
    fn sum_hashed(
        &self,
        recorder: &mut Recorder<'_>,
        product: Product<'_>,
        counted: &CountedRows<O>,
    ) -> Result<()> {
        let rows = counted.counted.bins.bin(bin::HASHED);
        if rows.rows == 0 {
            return Ok(());
        }
        let kernel = variant(SumHashedWgsl::VARIANTS, "kind", &kind::<T>(self.options.semiring))?;
        // Slots for 1.6 times the entries, each of a key and a word.
        let slots_log = (u64::from(counted.counted.largest) * 8 / 5).max(1).ilog2() + 1;
        let bytes = 8_u64 << slots_log;
        let tables = (POOL / bytes).clamp(1, u64::from(rows.rows.min(RESIDENT)));
        check_binding(self.device, "tables of long rows", bytes * tables)?;
        let pool = self.device.allocate(bytes * tables)?;
        let (multiplier, shift) = hash_by_row(self.options.tuning.hash);
        let (b_col, b_val, mask_col) = (self.b_col(), self.b_val(), self.mask_col());
        SumHashedWgsl {
            params: SumHashedWgslParams {
                first: self.order(rows),
                count: rows.rows,
                row_count: self.row_count(),
                entries: counted.counted.entries as u32,
                tables: tables as u32,
                slots_log,
                spread_log: self.spread_log(kernel.info.block[0].ilog2()),
                multiplier,
                shift,
                flags: self.sum_flags(),
                b_col_at: b_col.at,
                mask_col_at: mask_col.at,
                b_val_at: b_val.at,
                c_val_at: product.val.at,
            },
            rows: self.rows(),
            records: self.records(),
            b_col: b_col.slice,
            mask_col: mask_col.slice,
            b_val: b_val.slice,
            c_col: product.col,
            c_val: product.val.slice,
            pool: Slice::whole(&pool),
        }
        .record(recorder, kernel, self.grid(tables)?)
    }
}
