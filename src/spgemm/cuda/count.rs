//! Analyse and count: row pointers of the product.

use super::matrices::places;
use super::totals::{Counted, Totals};
use super::{Call, SCANNED};
use crate::backend::cuda::Cuda;
use crate::backend::cuda::{Address, CudaBuffer, Workspace, only, variant, within, word};
use crate::backend::kernel::VariantInfo;
use crate::sparse::{Offset, Value};
use crate::spgemm::gpu::{Bin, bin, hash};
use crate::spgemm::kernels::{
    AnalysePtx, ClassifyPtx, CountLargePtx, CountSmallPtx, CountWindowsPtx, OffsetsPtx, OrderPtx,
    ScanPtx, TokensPtx,
};
use crate::spgemm::plan::Table;
use crate::spgemm::{NAME, Summary};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// What is known before values are summed.
#[derive(Debug)]
pub(super) struct CountedRows<O: Offset> {
    pub row_ptr: Tensor<Cuda, O>,
    pub totals: Totals,
    pub counted: Counted,
    pub products: u64,
    pub uneven: bool,
    pub slots: Slots,
}

/// The windows of long rows.
#[derive(Debug)]
pub(super) struct Slots {
    workspace: Option<CudaBuffer>,
    pub count: u32,
    token_rows: u64,
    token_windows: u64,
    token_slots: u64,
    slot_rows: u64,
    slot_windows: u64,
    slot_entries: u64,
}

impl Slots {
    fn at(&self, offset: u64) -> Address {
        within(self.workspace.as_ref(), offset)
    }

    pub fn rows(&self) -> Address {
        self.at(self.slot_rows)
    }

    pub fn windows(&self) -> Address {
        self.at(self.slot_windows)
    }

    pub fn entries(&self) -> Address {
        self.at(self.slot_entries)
    }
}

impl<T: Value, O: Offset> Call<'_, T, O> {
    /// Counts the entries of each row.
    pub fn count(&self, summary: &mut Summary) -> Result<CountedRows<O>> {
        let row_ptr = Tensor::new(self.device, &[self.problem.rows + 1])?;
        let analysed = summary.phase("analyse", || self.analyse(&row_ptr))?;
        summary.products = analysed.1.products;
        let counted = summary.phase("count", || self.count_rows(row_ptr, &analysed))?;
        summary.entries = counted.counted.entries;
        Ok(counted)
    }

    /// What each row takes, and the order of the rows by bin.
    fn analyse(&self, row_ptr: &Tensor<Cuda, O>) -> Result<(Totals, Counted)> {
        let (stream, rows) = (self.device.stream(), word(self.problem.rows));
        let totals = Totals::new(self.device)?;
        let mean = self.problem.nnz_a / self.problem.rows.max(1);
        let lanes_log = mean.clamp(1, 32).next_power_of_two().trailing_zeros();
        let kernel = only(NAME, AnalysePtx::VARIANTS)?;
        let per_block = kernel.info.block[0] >> lanes_log;
        let [a_row_ptr, a_col] = places(Some(self.matrices.a));
        let [b_row_ptr, b_col] = places(Some(&*self.matrices.b));
        let [c0_row_ptr, c0_col] = places(self.matrices.c0.as_deref());
        AnalysePtx {
            a_row_ptr,
            a_col,
            b_row_ptr,
            b_col,
            c0_row_ptr,
            c0_col,
            products: self.at(self.rows.products),
            low: self.at(self.rows.low),
            high: self.at(self.rows.high),
            totals: totals.address(),
            rows,
            lanes_log,
            flags: self.flags,
        }
        .launch(
            stream,
            kernel,
            self.grid(u64::from(rows).div_ceil(u64::from(per_block)), 0)?,
        )?;
        self.classify("symbolic", self.plan.symbolic_limits(), row_ptr, &totals)?;
        let counted = totals.read(self.device)?;
        Ok((totals, counted))
    }

    /// The bin of each row, and the order of the rows by bin.
    fn classify(
        &self,
        stage: &str,
        limits: impl Iterator<Item = u32>,
        row_ptr: &Tensor<Cuda, O>,
        totals: &Totals,
    ) -> Result<()> {
        let (stream, rows) = (self.device.stream(), word(self.problem.rows));
        let mut of_tables = [0; 8];
        of_tables.iter_mut().zip(limits).for_each(|(limit, given)| *limit = given);
        let [limit0, limit1, limit2, limit3, limit4, limit5, limit6, limit7] = of_tables;
        let kernel =
            variant(NAME, ClassifyPtx::VARIANTS, |info| info.parameter("stage") == Some(stage))?;
        let blocks = u64::from(rows).div_ceil(u64::from(kernel.info.block[0]));
        ClassifyPtx {
            a_row_ptr: places(Some(self.matrices.a))[0],
            c0_row_ptr: places(self.matrices.c0.as_deref())[0],
            mask_row_ptr: places(self.matrices.mask.as_deref())[0],
            c_row_ptr: Address::of(row_ptr),
            products: self.at(self.rows.products),
            low: self.at(self.rows.low),
            high: self.at(self.rows.high),
            classes: self.at(self.rows.classes),
            totals: totals.address(),
            limit0,
            limit1,
            limit2,
            limit3,
            limit4,
            limit5,
            limit6,
            limit7,
            slot_log: self.plan.slot_log,
            window_log: self.plan.window_log,
            search_cost: self.plan.search_cost,
            copies: u32::from(self.matrices.copies()),
            rows,
            flags: self.flags,
        }
        .launch(stream, kernel, self.grid(blocks, 0)?)?;
        OrderPtx {
            classes: self.at(self.rows.classes),
            totals: totals.address(),
            order: self.at(self.rows.order),
            rows,
        }
        .launch(stream, only(NAME, OrderPtx::VARIANTS)?, self.grid(blocks, 0)?)
    }

    /// Counts the rows of each bin, and makes row pointers of that.
    fn count_rows(
        &self,
        row_ptr: Tensor<Cuda, O>,
        (totals, analysed): &(Totals, Counted),
    ) -> Result<CountedRows<O>> {
        let mean = analysed.products / self.problem.rows.max(1) as u64;
        let uneven = u64::from(analysed.most_products) > 8 * mean;
        for (number, &table) in (bin::TABLES..).zip(&self.plan.symbolic) {
            self.count_tables(table, analysed.bins.bin(number), &row_ptr, totals, uneven)?;
        }
        let slots = self.slots(analysed)?;
        self.count_windows(analysed, &slots, &row_ptr, totals)?;
        let totals = Totals::new(self.device)?;
        self.classify("numeric", self.plan.numeric_limits(), &row_ptr, &totals)?;
        self.offsets(&slots)?;
        self.scan(&row_ptr, &totals)?;
        let counted = totals.read(self.device)?;
        if counted.entries > O::MOST_ENTRIES {
            let (nnz, limit) = (counted.entries, O::MOST_ENTRIES);
            return Err(Error::OutputTooLarge { operation: NAME, nnz, limit });
        }
        Ok(CountedRows { row_ptr, totals, counted, products: analysed.products, uneven, slots })
    }

    fn count_tables(
        &self,
        table: Table,
        rows: Bin,
        row_ptr: &Tensor<Cuda, O>,
        totals: &Totals,
        uneven: bool,
    ) -> Result<()> {
        if rows.rows == 0 {
            return Ok(());
        }
        let stream = self.device.stream();
        let [a_row_ptr, a_col] = places(Some(self.matrices.a));
        let [b_row_ptr, b_col] = places(Some(&*self.matrices.b));
        let [c0_row_ptr, c0_col] = places(self.matrices.c0.as_deref());
        let [mask_row_ptr, mask_col] = places(self.matrices.mask.as_deref());
        let (multiplier, shift) = hash(self.options.tuning.hash, table);
        let Table { slots_log, lanes_log } = table;
        let spread_log = self.plan.spread_log.min(lanes_log);
        let (low, high) = (self.at(self.rows.low), self.at(self.rows.high));
        let (order, c_row_ptr) = (self.at(self.rows.order), Address::of(row_ptr));
        let Bin { number, first, rows: count } = rows;
        if lanes_log <= 5 {
            let kernel = only(NAME, CountSmallPtx::VARIANTS)?;
            let (blocks, shared) = self.of_groups(table, kernel.info, 0, count, false);
            return CountSmallPtx {
                a_row_ptr,
                a_col,
                b_row_ptr,
                b_col,
                c0_row_ptr,
                c0_col,
                mask_row_ptr,
                mask_col,
                c_row_ptr,
                low,
                high,
                order,
                first,
                count,
                lanes_log,
                slots_log,
                spread_log,
                multiplier,
                shift,
                flags: self.flags,
            }
            .launch(stream, kernel, self.grid(blocks, shared)?);
        }
        let kernel = threads(CountLargePtx::VARIANTS, table)?;
        let takes = self.takes(uneven);
        let (blocks, shared) = self.of_groups(table, kernel.info, 0, count, takes);
        CountLargePtx {
            a_row_ptr,
            a_col,
            b_row_ptr,
            b_col,
            c0_row_ptr,
            c0_col,
            mask_row_ptr,
            mask_col,
            c_row_ptr,
            low,
            high,
            order,
            taken: if takes { totals.taken(number) } else { Address::NULL },
            first,
            count,
            lanes_log,
            slots_log,
            spread_log,
            multiplier,
            shift,
            flags: self.flags,
        }
        .launch(stream, kernel, self.grid(blocks, shared)?)
    }

    /// Blocks for so many rows with a table each, and their shared memory.
    pub fn of_groups(
        &self,
        table: Table,
        info: &VariantInfo,
        word_bytes: u32,
        rows: u32,
        takes: bool,
    ) -> (u64, u32) {
        let groups = info.block[0] >> table.lanes_log;
        let shared = groups * table.bytes(word_bytes);
        (self.blocks(u64::from(rows), groups, info, shared, takes), shared)
    }

    /// The windows of long rows.
    fn slots(&self, analysed: &Counted) -> Result<Slots> {
        let (tokens, slots) = (analysed.tokens, analysed.slots);
        let mut workspace = Workspace::default();
        let long = Slots {
            count: u32::try_from(slots).unwrap_or(u32::MAX),
            token_rows: workspace.take(4 * tokens),
            token_windows: workspace.take(4 * tokens),
            token_slots: workspace.take(4 * tokens),
            slot_rows: workspace.take(4 * slots),
            slot_windows: workspace.take(4 * slots),
            slot_entries: workspace.take(4 * slots),
            workspace: None,
        };
        let long = Slots { workspace: workspace.allocate(self.device.stream())?, ..long };
        Ok(long)
    }

    fn count_windows(
        &self,
        analysed: &Counted,
        slots: &Slots,
        row_ptr: &Tensor<Cuda, O>,
        totals: &Totals,
    ) -> Result<()> {
        let Bin { number, first, rows: count } = analysed.bins.bin(bin::WINDOWS);
        if count == 0 {
            return Ok(());
        }
        let stream = self.device.stream();
        let kernel = only(NAME, TokensPtx::VARIANTS)?;
        let warps = kernel.info.block[0] / 32;
        let [a_row_ptr, a_col] = places(Some(self.matrices.a));
        let (low, high) = (self.at(self.rows.low), self.at(self.rows.high));
        TokensPtx {
            a_row_ptr,
            products: self.at(self.rows.products),
            low,
            high,
            order: self.at(self.rows.order),
            totals: totals.address(),
            token_rows: slots.at(slots.token_rows),
            token_windows: slots.at(slots.token_windows),
            token_slots: slots.at(slots.token_slots),
            slot_rows: slots.rows(),
            slot_windows: slots.windows(),
            first,
            count,
            slot_log: self.plan.slot_log,
            window_log: self.plan.window_log,
            search_cost: self.plan.search_cost,
            flags: self.flags,
        }
        .launch(stream, kernel, self.grid(u64::from(count.div_ceil(warps)), 0)?)?;
        let [b_row_ptr, b_col] = places(Some(&*self.matrices.b));
        let [c0_row_ptr, c0_col] = places(self.matrices.c0.as_deref());
        let [mask_row_ptr, mask_col] = places(self.matrices.mask.as_deref());
        let kernel = only(NAME, CountWindowsPtx::VARIANTS)?;
        let (takes, shared) = (self.takes(true), self.plan.count_window_bytes());
        let blocks = self.blocks(analysed.tokens, 1, kernel.info, shared, takes);
        CountWindowsPtx {
            a_row_ptr,
            a_col,
            b_row_ptr,
            b_col,
            c0_row_ptr,
            c0_col,
            mask_row_ptr,
            mask_col,
            c_row_ptr: Address::of(row_ptr),
            low,
            high,
            order: Address::NULL,
            token_rows: slots.at(slots.token_rows),
            token_windows: slots.at(slots.token_windows),
            token_slots: slots.at(slots.token_slots),
            slot_entries: slots.entries(),
            taken: if takes { totals.taken(number) } else { Address::NULL },
            first: 0,
            count: u32::try_from(analysed.tokens).unwrap_or(u32::MAX),
            window_log: self.plan.window_log,
            slot_log: self.plan.slot_log,
            spread_log: self.plan.spread_log,
            flags: self.flags,
        }
        .launch(stream, kernel, self.grid(blocks, shared)?)
    }

    /// From the entries of windows to those before them.
    fn offsets(&self, slots: &Slots) -> Result<()> {
        let kernel = only(NAME, OffsetsPtx::VARIANTS)?;
        let warps = kernel.info.block[0] / 32;
        OffsetsPtx {
            low: self.at(self.rows.low),
            high: self.at(self.rows.high),
            classes: self.at(self.rows.classes),
            slot_rows: slots.rows(),
            slot_windows: slots.windows(),
            slot_entries: slots.entries(),
            slots: slots.count,
            slot_log: self.plan.slot_log,
        }
        .launch(
            self.device.stream(),
            kernel,
            self.grid(u64::from(slots.count.div_ceil(warps)), 0)?,
        )
    }

    /// From the entries of rows to row pointers.
    fn scan(&self, row_ptr: &Tensor<Cuda, O>, totals: &Totals) -> Result<()> {
        let rows = word(self.problem.rows);
        let blocks = u64::from(rows).div_ceil(SCANNED);
        for (part, blocks) in [("sums", blocks), ("tops", 1), ("rows", blocks)] {
            let kernel =
                variant(NAME, ScanPtx::VARIANTS, |info| info.parameter("part") == Some(part))?;
            ScanPtx {
                c_row_ptr: Address::of(row_ptr),
                sums: self.at(self.rows.sums),
                totals: totals.address(),
                rows,
                flags: self.flags,
            }
            .launch(self.device.stream(), kernel, self.grid(blocks, 0)?)?;
        }
        Ok(())
    }
}

/// The variant of the fewest threads that has a group for a table.
pub(super) fn threads<E>(
    table: &'static [crate::backend::kernel::Variant<E>],
    of: Table,
) -> Result<&'static crate::backend::kernel::Variant<E>> {
    variant(NAME, table, |info| info.block[0] >= of.lanes())
}
