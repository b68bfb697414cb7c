//! Long rows whose entries lie far apart, hashed in global memory.

use super::count::CountedRows;
use super::sum::{Places, summing};
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
        summing!(SumHashedPtx, places, {
            pool: Address::within(&pool.memory, 0),
            first: rows.first,
            count: rows.rows,
            slots_log: pool.slots_log,
            spread_log: self.spread_log(kernel.info.block[0].ilog2()),
            multiplier,
            shift,
        })
        .launch(self.device.stream(), kernel, self.grid(pool.tables, 0)?)
    }
}
