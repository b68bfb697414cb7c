//! Long rows whose entries lie far apart, hashed in global memory.

use super::count::CountedRows;
use super::sum::Places;
use super::{Call, of_kind};
use crate::Result;
use crate::backend::cuda::{Address, CudaBuffer};
use crate::sparse::{Offset, Value};
use crate::spgemm::gpu::{bin, hash_by_row};
use crate::spgemm::kernels::SumHashedPtx;

/// Bytes of tables in global memory, at the most; one there is always.
const POOL: u64 = 1 << 30;

/// Tables in global memory, each of which a block uses for row after row.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    memory: CudaBuffer,
    tables: u64,
    slots_log: u32,
}

impl<T: Value, O: Offset> Call<'_, T, O> {
    /// The tables that the rows need, if there are such rows.
    pub fn pool(&self, counted: &CountedRows<O>) -> Result<Option<Pool>> {
        let rows = counted.counted.bins.bin(bin::HASHED).rows;
        if rows == 0 {
            return Ok(None);
        }
        let info = of_kind::<_, T>(SumHashedPtx::VARIANTS, self.options.semiring, |_| true)?.info;
        // Slots for 1.6 times the entries.
        let slots_log = (u64::from(counted.counted.largest) * 8 / 5).max(1).ilog2() + 1;
        let bytes = u64::from(4 + self.plan.word_bytes) << slots_log;
        let resident = self.blocks(u64::from(rows), 1, info, info.shared_bytes, true);
        let tables = resident.min(POOL / bytes).max(1);
        let memory = self.device.stream().workspace(bytes.saturating_mul(tables))?;
        Ok(Some(Pool { memory, tables, slots_log }))
    }

    pub fn sum_hashed(&self, places: &Places, counted: &CountedRows<O>, pool: &Pool) -> Result<()> {
        let rows = counted.counted.bins.bin(bin::HASHED);
        let kernel = of_kind::<_, T>(SumHashedPtx::VARIANTS, self.options.semiring, |_| true)?;
        let (multiplier, shift) = hash_by_row(self.options.tuning.hash);
        SumHashedPtx {
            a_row_ptr: places.a[0],
            a_col: places.a[1],
            a_val: places.a[2],
            b_row_ptr: places.b[0],
            b_col: places.b[1],
            b_val: places.b[2],
            c0_row_ptr: places.c0[0],
            c0_col: places.c0[1],
            c0_val: places.c0[2],
            mask_row_ptr: places.mask[0],
            mask_col: places.mask[1],
            c_row_ptr: places.c[0],
            c_col: places.c[1],
            c_val: places.c[2],
            alpha: places.alpha,
            beta: places.beta,
            low: places.low,
            high: places.high,
            order: places.order,
            pool: Address::within(&pool.memory, 0),
            first: rows.first,
            count: rows.rows,
            slots_log: pool.slots_log,
            spread_log: self.spread_log(kernel.info.block[0].ilog2()),
            multiplier,
            shift,
            flags: places.flags,
        }
        .launch(self.device.stream(), kernel, self.grid(pool.tables, 0)?)
    }
}
