//! Which rows go where on a GPU: pure.

use super::{Options, Problem};
use crate::element::DType;

/// Keys of a symbolic table, in tenths of its slots, at the most.
const SYMBOLIC_LOAD: u32 = 8;

/// Entries of a numeric table, in thousandths of its slots, at the most.
const NUMERIC_LOAD: u32 = 625;

/// A table in shared memory: its slots and the threads of a row, by their logarithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub slots_log: u32,
    pub lanes_log: u32,
}

const fn table(slots: u32, lanes: u32) -> Table {
    Table { slots_log: slots.trailing_zeros(), lanes_log: lanes.trailing_zeros() }
}

/// Tables in which entries are counted.
const SYMBOLIC: [Table; 6] = [
    table(64, 8),
    table(256, 32),
    table(1024, 128),
    table(2048, 256),
    table(4096, 512),
    table(8192, 512),
];

/// Tables in which values are summed. A thread has four slots, in the largest ones eight and
/// sixteen, all in registers while they are sorted: more threads would have too few of these.
const NUMERIC: [Table; 8] = [
    table(32, 8),
    table(64, 16),
    table(256, 64),
    table(512, 128),
    table(1024, 256),
    table(2048, 512),
    table(4096, 512),
    table(8192, 512),
];

impl Table {
    pub fn slots(self) -> u32 {
        1 << self.slots_log
    }

    pub fn lanes(self) -> u32 {
        1 << self.lanes_log
    }

    /// Bytes of shared memory for one row; some are the group's own.
    pub fn bytes(self, word_bytes: u32) -> u32 {
        // A group of warps that sums has a word for each of 32.
        let own = if word_bytes > 0 && self.lanes() > 32 { 144 } else { 16 };
        self.slots() * (4 + word_bytes) + own
    }
}

/// Where the rows of a product go, by what they need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Tables in which entries are counted.
    pub symbolic: Vec<Table>,
    /// Tables in which values are summed.
    pub numeric: Vec<Table>,
    /// Columns of a window in which values are summed, by logarithm.
    pub slot_log: u32,
    /// Columns of a window in which entries are counted, by logarithm.
    pub window_log: u32,
    /// Threads that walk a row of B together, by logarithm.
    pub spread_log: u32,
    /// 1 + log2 of the mean row of B: what it costs to enter a row at a window.
    pub search_cost: u32,
    /// Bytes of a value in a table.
    pub word_bytes: u32,
    /// Whether all long rows are hashed in global memory.
    pub must_hash: bool,
}

/// Columns of the smallest window, by logarithm: their bits fill a word.
pub(super) const LEAST_WINDOW_LOG: u32 = 5;

/// Shared memory that a block gets without being asked twice.
const USUAL_SHARED: u32 = 48 * 1024;

impl Plan {
    /// The plan for blocks of at most so many bytes of shared memory.
    pub fn of(problem: &Problem, dtype: DType, shared_bytes: u32, options: &Options) -> Self {
        let word_bytes = Self::word_bytes(dtype);
        let tuning = &options.tuning;
        let fits = |table: &Table, bytes: u32| {
            tuning.slots.contains(&table.slots()) && table.bytes(bytes) <= shared_bytes
        };
        let numeric: Vec<Table> =
            NUMERIC.into_iter().filter(|table| fits(table, word_bytes)).collect();
        // What no numeric table can hold is counted in windows: those who sum in windows need to
        // know how many entries each has.
        let most = numeric.last().map_or(0, |&table| numeric_limit(table));
        let symbolic = SYMBOLIC
            .into_iter()
            .filter(|table| most > 0 && table.bytes(0) <= shared_bytes)
            .collect();
        let mean = (problem.nnz_b / problem.inner.max(1)).max(1);
        let mean_log = mean.next_power_of_two().trailing_zeros();
        let usual = shared_bytes.min(USUAL_SHARED);
        // A word and two bits for each column; two bits.
        let most = (log_of_room(usual, 8 * word_bytes + 2), log_of_room(usual, 2));
        let (slot_log, window_log) = match tuning.window {
            Some(columns) => {
                let slot_log = columns.max(1).ilog2().clamp(LEAST_WINDOW_LOG, most.0);
                (slot_log, slot_log + 2)
            }
            None => most,
        };
        Self {
            symbolic,
            numeric,
            slot_log,
            window_log,
            spread_log: mean_log.min(5),
            search_cost: 1 + mean_log,
            word_bytes,
            must_hash: false,
        }
    }

    /// The plan so that a variant, which tables and windows are tuned for, has all rows.
    pub fn of_variant(self, variant: &str) -> Self {
        match variant.contains("_hashed_") {
            // So that few rows have one window only.
            true => Self { slot_log: LEAST_WINDOW_LOG, must_hash: true, ..self },
            false => self,
        }
    }

    /// Bytes of a value in a table.
    pub fn word_bytes(dtype: DType) -> u32 {
        if dtype == DType::F64 { 8 } else { 4 }
    }

    /// What each symbolic table can hold, but no more than some numeric one.
    pub fn symbolic_limits(&self) -> impl Iterator<Item = u32> {
        let most = self.numeric.last().map_or(0, |&table| numeric_limit(table));
        self.symbolic.iter().map(move |table| (table.slots() * SYMBOLIC_LOAD / 10).min(most))
    }

    /// What each numeric table can hold.
    pub fn numeric_limits(&self) -> impl Iterator<Item = u32> {
        self.numeric.iter().map(|&table| numeric_limit(table))
    }

    /// What would run, and why, in lines.
    pub fn explain(&self, variant: &str, dtype: DType) -> String {
        let joined =
            |limits: Vec<u32>| limits.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        format!(
            "variant    {variant}\n\
             because    every row goes to the smallest table that holds it\n\
             counted    in tables for {} entries, then in windows of {} columns\n\
             summed     in tables for {} entries, then in windows of {} columns\n\
             values     {dtype}\n\
             row of B   {} threads side by side",
            joined(self.symbolic_limits().collect()),
            1_u64 << self.window_log,
            joined(self.numeric_limits().collect()),
            1_u64 << self.slot_log,
            1 << self.spread_log,
        )
    }

    /// Bytes of shared memory for a window in which values are summed.
    #[cfg(any(feature = "cuda", test))]
    pub fn sum_window_bytes(&self) -> u32 {
        (self.word_bytes << self.slot_log) + (2 << self.slot_log) / 8 + 16
    }

    /// Bytes of shared memory for a window in which entries are counted.
    #[cfg(any(feature = "cuda", test))]
    pub fn count_window_bytes(&self) -> u32 {
        (2 << self.window_log) / 8 + 16
    }
}

fn numeric_limit(table: Table) -> u32 {
    table.slots() * NUMERIC_LOAD / 1000
}

/// The largest power of two of columns, of so many bits each, that leaves room for the block's own
/// 16 bytes; by logarithm.
fn log_of_room(bytes: u32, bits_of_column: u32) -> u32 {
    ((bytes - 16) * 8 / bits_of_column).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(shared_bytes: u32, dtype: DType, options: &Options) -> Plan {
        let problem = Problem { rows: 10, inner: 100, cols: 10, nnz_a: 5, nnz_b: 700, dots: false };
        Plan::of(&problem, dtype, shared_bytes, options)
    }

    #[test]
    fn a_row_that_windows_sum_has_been_counted_in_windows() {
        for shared_bytes in [48 * 1024, 99 * 1024, 163 * 1024, 227 * 1024] {
            for dtype in [DType::F32, DType::F64] {
                let plan = plan(shared_bytes, dtype, &Options::default());
                let numeric = plan.numeric_limits().max().unwrap_or(0);
                assert!(plan.symbolic_limits().all(|limit| limit <= numeric), "{plan:?}");
                let largest = plan.numeric.iter().map(|table| table.bytes(plan.word_bytes)).max();
                assert!(largest.unwrap_or(0) <= shared_bytes, "{plan:?}");
                assert!(plan.sum_window_bytes() <= shared_bytes, "{plan:?}");
                assert!(plan.count_window_bytes() <= shared_bytes, "{plan:?}");
            }
        }
    }

    #[test]
    fn tables_and_windows_are_those_of_the_specification() {
        let plan = plan(163 * 1024, DType::F32, &Options::default());
        assert_eq!(
            plan.numeric_limits().collect::<Vec<_>>(),
            [20, 40, 160, 320, 640, 1280, 2560, 5120]
        );
        assert_eq!(plan.symbolic_limits().collect::<Vec<_>>(), [51, 204, 819, 1638, 3276, 5120]);
        assert_eq!((plan.slot_log, plan.window_log), (13, 17));
        assert_eq!((plan.spread_log, plan.search_cost), (3, 4));
    }

    #[test]
    fn those_of_webgpu_fit_into_what_every_device_has() {
        let plan = plan(16 * 1024, DType::F32, &Options::default());
        assert_eq!(plan.numeric_limits().collect::<Vec<_>>(), [20, 40, 160, 320, 640]);
        assert_eq!(plan.symbolic_limits().collect::<Vec<_>>(), [51, 204, 640, 640]);
        assert_eq!((plan.slot_log, plan.window_log), (11, 15));
        // An invocation has eight slots of a table in which entries are counted, four of another.
        assert!(plan.symbolic.iter().all(|table| table.slots() == 8 * table.lanes()));
        assert!(plan.numeric.iter().all(|table| table.slots() == 4 * table.lanes()));
    }

    #[test]
    fn without_tables_all_rows_take_windows() {
        let mut options = Options::default();
        (options.tuning.slots, options.tuning.window) = (0..=0, Some(64));
        let plan = plan(163 * 1024, DType::F32, &options);
        assert_eq!((plan.symbolic.len(), plan.numeric.len()), (0, 0));
        assert_eq!((plan.slot_log, plan.window_log), (6, 8));
        // No window is longer than the memory for it.
        options.tuning.window = Some(1 << 20);
        let plan = self::plan(16 * 1024, DType::F32, &options);
        assert_eq!((plan.slot_log, plan.window_log), (11, 13));
    }
}
