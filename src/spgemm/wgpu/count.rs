//! Analyse and count: row pointers of the product.

use super::totals::{Counted, Totals};
use super::{Call, check_binding, variant};
use crate::backend::wgpu::{Recorder, Slice, Wgpu, WgpuBuffer};
use crate::backend::{Backend, kernel::Variant};
use crate::element::DType;
use crate::sparse::{Offset, Value};
use crate::spgemm::gpu::{Bin, bin, hash};
use crate::spgemm::kernels::{
    AnalyseWgsl, AnalyseWgslParams, ClassifyWgsl, ClassifyWgslParams, CountTablesWgsl,
    CountTablesWgslParams, CountWindowsWgsl, CountWindowsWgslParams, ExpandWgsl, ExpandWgslParams,
    OffsetsWgsl, OffsetsWgslParams, OrderWgsl, OrderWgslParams, ScanWgsl, ScanWgslParams,
    TokensWgsl, TokensWgslParams,
};
use crate::spgemm::plan::Table;
use crate::spgemm::{NAME, Summary};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// What is known before values are summed.
#[derive(Debug)]
pub(super) struct CountedRows<O: Offset> {
    pub row_ptr: Tensor<Wgpu, O>,
    pub counted: Counted,
    pub slots: Slots,
}

/// The windows of long rows.
#[derive(Debug)]
pub(super) struct Slots {
    slots: WgpuBuffer,
    tokens: WgpuBuffer,
    pub count: u32,
    token_count: u32,
}

impl Slots {
    pub fn slice(&self) -> Slice<'_> {
        Slice::whole(&self.slots)
    }
}

/// Rows whose entries a workgroup of a scan sums.
const SCANNED: u32 = 2048;

/// Words of a slot, and of a token.
const SLOT_WORDS: u64 = 3;

impl<T: Value, O: Offset> Call<'_, T, O> {
    /// Counts the entries of each row.
    pub fn count(&self, summary: &mut Summary) -> Result<CountedRows<O>> {
        let analysed = summary.phase("analyse", || self.analyse())?;
        summary.products = analysed.products;
        let counted = summary.phase("count", || self.count_rows(&analysed))?;
        summary.entries = counted.counted.entries;
        Ok(counted)
    }

    /// What each row takes, and the order of the rows by bin.
    fn analyse(&self) -> Result<Counted> {
        let totals = Totals::new(self.device)?;
        self.submit(|recorder| {
            self.expand(recorder)?;
            self.bound(recorder, &totals)?;
            self.classify(recorder, "symbolic", self.plan.symbolic_limits(), &totals)
        })?;
        totals.read(self.device)
    }

    /// Threads that have a row together, by logarithm.
    fn lanes_log(&self) -> u32 {
        let mean = self.problem.nnz_a / self.problem.rows.max(1);
        mean.clamp(1, 32).next_power_of_two().trailing_zeros()
    }

    /// Entries of A become records, and C0's lie behind those of B.
    pub fn expand(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        self.join(recorder);
        let lanes_log = self.lanes_log();
        let element = match T::DTYPE {
            DType::F32 => "f32",
            DType::U8 => "u8",
            _ => "u32",
        };
        let kernel = variant(ExpandWgsl::VARIANTS, "element", element)?;
        let (a, b) = (Some(self.matrices.a), Some(&*self.matrices.b));
        let (a_row_ptr, a_col, a_val) = (self.row_ptr(a), self.col(a), self.val(a));
        let b_row_ptr = self.row_ptr(b);
        let c0_row_ptr = self.row_ptr(self.matrices.c0.as_deref());
        let mask_row_ptr = self.row_ptr(self.matrices.mask.as_deref());
        ExpandWgsl {
            params: ExpandWgslParams {
                row_count: self.row_count(),
                lanes_log,
                flags: self.flags,
                alpha: bits(T::from_f64(self.options.alpha)),
                beta: bits(T::from_f64(self.options.beta.unwrap_or(0.0))),
                entries_of_b: self.matrices.b.nnz() as u32,
                a_row_ptr_at: a_row_ptr.at,
                a_col_at: a_col.at,
                a_val_at: a_val.at,
                b_row_ptr_at: b_row_ptr.at,
                c0_row_ptr_at: c0_row_ptr.at,
                mask_row_ptr_at: mask_row_ptr.at,
            },
            a_row_ptr: a_row_ptr.slice,
            a_col: a_col.slice,
            a_val: a_val.slice,
            b_row_ptr: b_row_ptr.slice,
            c0_row_ptr: c0_row_ptr.slice,
            mask_row_ptr: mask_row_ptr.slice,
            rows: self.rows(),
            records: self.records(),
        }
        .record(recorder, kernel, self.lanes(kernel, lanes_log)?)
    }

    /// The products and the columns of each row.
    fn bound(&self, recorder: &mut Recorder<'_>, totals: &Totals) -> Result<()> {
        let (kernel, b_col) = (&AnalyseWgsl::VARIANTS[0], self.b_col());
        let lanes_log = self.lanes_log();
        AnalyseWgsl {
            params: AnalyseWgslParams {
                row_count: self.row_count(),
                lanes_log,
                b_col_at: b_col.at,
            },
            rows: self.rows(),
            records: self.records(),
            b_col: b_col.slice,
            totals: totals.slice(),
        }
        .record(recorder, kernel, self.lanes(kernel, lanes_log)?)
    }

    /// The bin of each row, and the order of the rows by bin.
    fn classify(
        &self,
        recorder: &mut Recorder<'_>,
        stage: &str,
        limits: impl Iterator<Item = u32>,
        totals: &Totals,
    ) -> Result<()> {
        let mut of_tables = [[0; 4]; 2];
        of_tables.as_flattened_mut().iter_mut().zip(limits).for_each(|(to, limit)| *to = limit);
        let kernel = variant(ClassifyWgsl::VARIANTS, "stage", stage)?;
        ClassifyWgsl {
            params: ClassifyWgslParams {
                row_count: self.row_count(),
                slot_log: self.plan.slot_log,
                window_log: self.plan.window_log,
                search_cost: self.plan.search_cost,
                flags: self.flags,
                limits: of_tables,
                ..bytemuck::Zeroable::zeroed()
            },
            rows: self.rows(),
            records: self.records(),
            totals: totals.slice(),
        }
        .record(recorder, kernel, self.lanes(kernel, 0)?)?;
        let kernel = &OrderWgsl::VARIANTS[0];
        OrderWgsl {
            params: OrderWgslParams { row_count: self.row_count() },
            rows: self.rows(),
            totals: totals.slice(),
        }
        .record(recorder, kernel, self.lanes(kernel, 0)?)
    }

    /// A grid of so many invocations for each row.
    fn lanes<E>(&self, kernel: &Variant<E>, lanes_log: u32) -> Result<[u32; 3]> {
        self.threads((self.problem.rows as u64) << lanes_log, kernel.info)
    }

    /// Counts the rows of each bin, and makes row pointers of that.
    fn count_rows(&self, analysed: &Counted) -> Result<CountedRows<O>> {
        let row_ptr = Tensor::new(self.device, &[self.problem.rows + 1])?;
        let (slots, totals) = (self.slots(analysed)?, Totals::new(self.device)?);
        self.submit(|recorder| {
            for (number, &table) in (bin::TABLES..).zip(&self.plan.symbolic) {
                self.count_tables(recorder, table, analysed.bins.bin(number))?;
            }
            self.count_windows(recorder, analysed, &slots, &totals)?;
            self.classify(recorder, "numeric", self.plan.numeric_limits(), &totals)?;
            self.offsets(recorder, &slots)?;
            self.scan(recorder, &row_ptr)
        })?;
        let counted = totals.read(self.device)?;
        if counted.entries > O::MOST_ENTRIES {
            let (nnz, limit) = (counted.entries, O::MOST_ENTRIES);
            return Err(Error::OutputTooLarge { operation: NAME, nnz, limit });
        }
        Ok(CountedRows { row_ptr, counted, slots })
    }

    fn count_tables(&self, recorder: &mut Recorder<'_>, table: Table, rows: Bin) -> Result<()> {
        let kernel = &CountTablesWgsl::VARIANTS[0];
        let (multiplier, shift) = hash(self.options.tuning.hash, table);
        let (b_col, mask_col) = (self.b_col(), self.mask_col());
        CountTablesWgsl {
            params: CountTablesWgslParams {
                first: self.order(rows),
                count: rows.rows,
                lanes_log: table.lanes_log,
                spread_log: self.plan.spread_log.min(table.lanes_log),
                multiplier,
                shift,
                flags: self.flags,
                b_col_at: b_col.at,
                mask_col_at: mask_col.at,
            },
            rows: self.rows(),
            records: self.records(),
            b_col: b_col.slice,
            mask_col: mask_col.slice,
        }
        .record(
            recorder,
            kernel,
            self.threads(u64::from(rows.rows) << table.lanes_log, kernel.info)?,
        )
    }

    /// Room for the windows of long rows.
    fn slots(&self, analysed: &Counted) -> Result<Slots> {
        let room = |count: u64| {
            let bytes = 4 * SLOT_WORDS * count;
            check_binding(self.device, "windows of long rows", bytes)?;
            Ok((self.device.allocate(bytes)?, count as u32))
        };
        let ((slots, count), (tokens, token_count)) =
            (room(analysed.slots)?, room(analysed.tokens)?);
        Ok(Slots { slots, tokens, count, token_count })
    }

    fn count_windows(
        &self,
        recorder: &mut Recorder<'_>,
        analysed: &Counted,
        slots: &Slots,
        totals: &Totals,
    ) -> Result<()> {
        let (long, hashed) = (analysed.bins.bin(bin::WINDOWS), analysed.bins.bin(bin::HASHED));
        let count = long.rows + hashed.rows;
        let Self { plan, .. } = self;
        TokensWgsl {
            params: TokensWgslParams {
                first: self.order(long),
                count,
                slot_log: plan.slot_log,
                window_log: plan.window_log,
            },
            rows: self.rows(),
            totals: totals.slice(),
            tokens: Slice::whole(&slots.tokens),
            slots: slots.slice(),
        }
        .record(recorder, &TokensWgsl::VARIANTS[0], self.grid(u64::from(count))?)?;
        let kernel = &CountWindowsWgsl::VARIANTS[0];
        let (b_col, mask_col) = (self.b_col(), self.mask_col());
        CountWindowsWgsl {
            params: CountWindowsWgslParams {
                count: slots.token_count,
                window_log: plan.window_log,
                spread_log: plan.spread_log,
                flags: self.flags,
                b_col_at: b_col.at,
                mask_col_at: mask_col.at,
                slot_log: plan.slot_log,
            },
            rows: self.rows(),
            records: self.records(),
            b_col: b_col.slice,
            mask_col: mask_col.slice,
            slots: slots.slice(),
            tokens: Slice::whole(&slots.tokens),
        }
        .record(recorder, kernel, self.grid(u64::from(slots.token_count))?)
    }

    /// From the entries of windows to those before them.
    fn offsets(&self, recorder: &mut Recorder<'_>, slots: &Slots) -> Result<()> {
        let kernel = &OffsetsWgsl::VARIANTS[0];
        OffsetsWgsl {
            params: OffsetsWgslParams { count: slots.count, slot_log: self.plan.slot_log },
            rows: self.rows(),
            slots: slots.slice(),
        }
        .record(recorder, kernel, self.threads(u64::from(slots.count), kernel.info)?)
    }

    /// From the entries of rows to row pointers.
    fn scan(&self, recorder: &mut Recorder<'_>, row_ptr: &Tensor<Wgpu, O>) -> Result<()> {
        let rows = self.row_count();
        let blocks = rows.div_ceil(SCANNED);
        let sums = self.device.allocate(4 * u64::from(blocks))?;
        for (part, count, blocks) in
            [("sums", rows, blocks), ("tops", blocks, 1), ("rows", rows, blocks)]
        {
            ScanWgsl {
                params: ScanWgslParams { count },
                rows: self.rows(),
                sums: Slice::whole(&sums),
                c_row_ptr: Slice::new(row_ptr.buffer(), row_ptr.byte_range()),
            }
            .record(
                recorder,
                variant(ScanWgsl::VARIANTS, "part", part)?,
                self.grid(u64::from(blocks))?,
            )?;
        }
        Ok(())
    }
}

/// The bits of a value, as kernels get them.
fn bits<T: Value>(value: T) -> u32 {
    let mut bytes = [0; 4];
    let own = bytemuck::bytes_of(&value);
    bytes[..own.len()].copy_from_slice(own);
    u32::from_le_bytes(bytes)
}
