//! Sum: columns and values of the product.

use super::count::CountedRows;
use super::hashed::Pool;
use super::matrices::{optional, places};
use super::{Call, flag, of_kind};
use crate::Result;
use crate::backend::cuda::{Address, Cuda};
use crate::sparse::{Csr, Offset, Value};
use crate::spgemm::gpu::{Bin, bin, hash};
use crate::spgemm::kernels::{CopyPtx, SumLargePtx, SumSmallPtx, SumWindowsPtx};
use crate::spgemm::plan::Table;
use crate::tensor::Tensor;

/// Where the terms of the sums lie, and where the product does.
pub(super) struct Places {
    pub a: [Address; 3],
    pub b: [Address; 3],
    pub c0: [Address; 3],
    pub mask: [Address; 2],
    pub c: [Address; 3],
    pub alpha: u64,
    pub beta: u64,
    pub low: Address,
    pub high: Address,
    pub order: Address,
    pub flags: u32,
}

/// The arguments of a kernel that sums: what all of them take, and its own.
macro_rules! summing {
    ($kernel:ident, $places:expr, { $($own:tt)* }) => {
        $kernel {
            a_row_ptr: $places.a[0],
            a_col: $places.a[1],
            a_val: $places.a[2],
            b_row_ptr: $places.b[0],
            b_col: $places.b[1],
            b_val: $places.b[2],
            c0_row_ptr: $places.c0[0],
            c0_col: $places.c0[1],
            c0_val: $places.c0[2],
            mask_row_ptr: $places.mask[0],
            mask_col: $places.mask[1],
            c_row_ptr: $places.c[0],
            c_col: $places.c[1],
            c_val: $places.c[2],
            alpha: $places.alpha,
            beta: $places.beta,
            low: $places.low,
            high: $places.high,
            order: $places.order,
            flags: $places.flags,
            $($own)*
        }
    };
}

pub(super) use summing;

impl<T: Value, O: Offset> Call<'_, T, O> {
    /// Sums the rows, whose entries are counted.
    pub fn sum(&self, counted: &CountedRows<O>, pool: Option<&Pool>) -> Result<Csr<Cuda, T, O>> {
        let entries = usize::try_from(counted.counted.entries).unwrap_or(usize::MAX);
        let col = Tensor::new(self.device, &[entries])?;
        let val = Tensor::new(self.device, &[entries])?;
        self.sum_into(counted, pool, &col, &val)?;
        let shape = [self.problem.rows, self.problem.cols];
        // SAFETY: the kernels write row pointers that ascend to the count of entries, and for each
        // row its columns in order.
        unsafe { Csr::from_tensors(shape, counted.row_ptr.clone(), col, Some(val), [true, true]) }
    }

    /// The same into tensors of as many entries.
    pub fn sum_into(
        &self,
        counted: &CountedRows<O>,
        pool: Option<&Pool>,
        col: &Tensor<Cuda, u32>,
        val: &Tensor<Cuda, T>,
    ) -> Result<()> {
        let places = self.places(counted, col, val);
        self.copy(&places, counted.counted.bins.bin(bin::COPIED))?;
        for (number, &table) in (bin::TABLES..).zip(&self.plan.numeric) {
            self.sum_tables(table, &places, counted.counted.bins.bin(number), counted)?;
        }
        self.sum_windows(&places, counted)?;
        pool.map_or(Ok(()), |pool| self.sum_hashed(&places, counted, pool))
    }

    fn places(
        &self,
        counted: &CountedRows<O>,
        col: &Tensor<Cuda, u32>,
        val: &Tensor<Cuda, T>,
    ) -> Places {
        let options = self.options;
        // What a factor of 0 leaves nothing of is not read: it may hold a NaN.
        let valued = |matrix: Option<&Csr<Cuda, T, O>>, factor: f64| {
            let [row_ptr, col] = places(matrix);
            let val = matrix.and_then(|matrix| matrix.val()).filter(|_| factor != 0.0);
            [row_ptr, col, optional(val.map(|val| &**val))]
        };
        let beta = options.beta.unwrap_or(0.0);
        let claims = self.matrices.mask.is_none() && counted.products < 4 * counted.counted.entries;
        Places {
            a: valued(Some(self.matrices.a), options.alpha),
            b: valued(Some(&*self.matrices.b), options.alpha),
            c0: valued(self.matrices.c0.as_deref(), beta),
            mask: places(self.matrices.mask.as_deref()),
            c: [Address::of(&counted.row_ptr), Address::of(col), Address::of(val)],
            alpha: bits(T::from_f64(options.alpha)),
            beta: bits(T::from_f64(beta)),
            low: self.at(self.rows.low),
            high: self.at(self.rows.high),
            order: self.at(self.rows.order),
            flags: self.flags
                | if claims { flag::CLAIMS_FIRST } else { 0 }
                | if self.ordered { flag::ORDERED } else { 0 }
                | if self.ordered && self.matrices.repeats() { flag::REPEATS } else { 0 },
        }
    }

    /// Threads that walk a row of B together, of so many; in order, all of them.
    pub fn spread_log(&self, lanes_log: u32) -> u32 {
        if self.ordered { lanes_log } else { self.plan.spread_log.min(lanes_log) }
    }

    fn copy(&self, places: &Places, rows: Bin) -> Result<()> {
        let kernel = of_kind::<_, T>(CopyPtx::VARIANTS, self.options.semiring, |_| true)?;
        let lanes_log = self.plan.spread_log;
        let per_block = kernel.info.block[0] >> lanes_log;
        summing!(CopyPtx, places, {
            first: rows.first,
            count: rows.rows,
            lanes_log,
        })
        .launch(
            self.device.stream(),
            kernel,
            self.grid(u64::from(rows.rows.div_ceil(per_block)), 0)?,
        )
    }

    fn sum_tables(
        &self,
        table: Table,
        places: &Places,
        rows: Bin,
        counted: &CountedRows<O>,
    ) -> Result<()> {
        if rows.rows == 0 {
            return Ok(());
        }
        let (stream, semiring) = (self.device.stream(), self.options.semiring);
        let (multiplier, shift) = hash(self.options.tuning.hash, table);
        let Table { slots_log, lanes_log } = table;
        let (spread_log, word_bytes) = (self.spread_log(lanes_log), self.plan.word_bytes);
        if lanes_log <= 5 {
            let kernel = of_kind::<_, T>(SumSmallPtx::VARIANTS, semiring, |_| true)?;
            let (blocks, shared) = self.of_groups(table, kernel.info, word_bytes, rows.rows, false);
            return summing!(SumSmallPtx, places, {
                first: rows.first,
                count: rows.rows,
                lanes_log,
                slots_log,
                spread_log,
                multiplier,
                shift,
            })
            .launch(stream, kernel, self.grid(blocks, shared)?);
        }
        let kernel = of_kind::<_, T>(SumLargePtx::VARIANTS, semiring, |info| {
            info.number("most_slots").is_some_and(|most| most >= table.slots())
        })?;
        let takes = self.takes(counted.uneven);
        let (blocks, shared) = self.of_groups(table, kernel.info, word_bytes, rows.rows, takes);
        summing!(SumLargePtx, places, {
            taken: if takes { counted.totals.taken(rows.number) } else { Address::NULL },
            first: rows.first,
            count: rows.rows,
            lanes_log,
            slots_log,
            spread_log,
            multiplier,
            shift,
        })
        .launch(stream, kernel, self.grid(blocks, shared)?)
    }

    /// Long rows by their slots, and rows of one window.
    fn sum_windows(&self, places: &Places, counted: &CountedRows<O>) -> Result<()> {
        let slots = &counted.slots;
        let rows = counted.counted.bins.bin(bin::WINDOW);
        self.sum_window(places, counted, rows, [Address::NULL; 3])?;
        let long = counted.counted.bins.bin(bin::WINDOWS);
        if long.rows == 0 {
            return Ok(());
        }
        let all = Bin { first: 0, rows: slots.count, ..long };
        self.sum_window(places, counted, all, [slots.rows(), slots.windows(), slots.entries()])
    }

    fn sum_window(
        &self,
        places: &Places,
        counted: &CountedRows<O>,
        tokens: Bin,
        [token_rows, token_windows, token_slots]: [Address; 3],
    ) -> Result<()> {
        let semiring = self.options.semiring;
        let kernel = of_kind::<_, T>(SumWindowsPtx::VARIANTS, semiring, |_| true)?;
        let (takes, shared) = (self.takes(true), self.plan.sum_window_bytes());
        let blocks = self.blocks(u64::from(tokens.rows), 1, kernel.info, shared, takes);
        summing!(SumWindowsPtx, places, {
            token_rows,
            token_windows,
            token_slots,
            taken: if takes { counted.totals.taken(tokens.number) } else { Address::NULL },
            first: tokens.first,
            count: tokens.rows,
            window_log: self.plan.slot_log,
            spread_log: self.spread_log(kernel.info.block[0].ilog2()),
        })
        .launch(self.device.stream(), kernel, self.grid(blocks, shared)?)
    }
}

/// The bits of a value, as kernels get them.
fn bits<T: Value>(value: T) -> u64 {
    let mut bytes = [0; 8];
    let own = bytemuck::bytes_of(&value);
    bytes[..own.len()].copy_from_slice(own);
    u64::from_le_bytes(bytes)
}
