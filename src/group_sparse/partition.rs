//! Who computes what: kept groups, or chunks of them, cut into shares that are as even as can be.
//!
//! With T items, P workers and a quantum of U items:
//!
//! ```text
//! b_p = min(T, U floor(p ⌈T/U⌉ / P))
//! ```
//!
//! worker p has the items from b_p to b_(p+1). A row belongs to the worker in whose share its first
//! item lies; what others have of it they hand over: a worker has at most one such row, at the beginning
//! of its share, its head. The owner's part of a row that goes on in other shares is its tail, and
//!
//! ```text
//! y[r] = tail_p + head_(p+1) + head_(p+2) + …
//! ```
//!
//! in this order. Rows without items belong to somebody, too.

use std::ops::Range;

/// Rows of items, cut among workers.
#[derive(Clone, Debug)]
pub(crate) struct Partition<'a> {
    row_ptr: &'a [u32],
    /// (P + 1)
    bounds: Vec<u32>,
}

/// A row that several workers have parts of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    pub row: usize,
    /// The worker that it belongs to.
    pub first: usize,
    /// The last worker that has a part of it.
    pub last: usize,
}

impl<'a> Partition<'a> {
    /// Shares of equal numbers of items, in whole quanta.
    pub fn even(row_ptr: &'a [u32], workers: usize, quantum: usize) -> Self {
        let items = u64::from(row_ptr[row_ptr.len() - 1]);
        let (workers, quantum) = (workers.max(1) as u64, quantum.max(1) as u64);
        let quanta = items.div_ceil(quantum);
        let bound = |p: u64| items.min(quantum * (p * quanta / workers)) as u32;
        Self { row_ptr, bounds: (0..=workers).map(bound).collect() }
    }

    /// Shares of whole rows, so many each.
    pub fn by_rows(row_ptr: &'a [u32], rows: usize) -> Self {
        let count = row_ptr.len() - 1;
        let bounds = (0..count.div_ceil(rows)).map(|p| row_ptr[p * rows]);
        Self { row_ptr, bounds: bounds.chain([row_ptr[count]]).collect() }
    }

    pub fn workers(&self) -> usize {
        self.bounds.len() - 1
    }

    /// The items of a worker.
    pub fn share(&self, worker: usize) -> Range<usize> {
        self.bounds[worker] as usize..self.bounds[worker + 1] as usize
    }

    /// The first row that begins at an item or behind it; empty rows begin where the next one does.
    fn first_row(&self, item: u32) -> usize {
        let rows = self.row_ptr.len() - 1;
        self.row_ptr[..rows].partition_point(|&begin| begin < item)
    }

    /// The rows of a worker.
    pub fn owned(&self, worker: usize) -> Range<usize> {
        let rows = self.row_ptr.len() - 1;
        let end = match worker + 1 == self.workers() {
            true => rows,
            false => self.first_row(self.bounds[worker + 1]),
        };
        self.first_row(self.bounds[worker])..end
    }

    /// The items of a row.
    pub fn row(&self, row: usize) -> Range<usize> {
        self.row_ptr[row] as usize..self.row_ptr[row + 1] as usize
    }

    /// The row that a worker's share begins within, and the items that it has of it.
    pub fn head(&self, worker: usize) -> Option<(usize, Range<usize>)> {
        let share = self.share(worker);
        let row = self.first_row(self.bounds[worker]).checked_sub(1)?;
        let end = self.row(row).end.min(share.end);
        (share.start < end).then_some((row, share.start..end))
    }

    /// The rows that several workers have parts of, in their order.
    pub fn splits(&self) -> Vec<Split> {
        let mut splits: Vec<Split> = Vec::new();
        for worker in 0..self.workers() {
            let Some((row, _)) = self.head(worker) else { continue };
            match splits.last_mut() {
                Some(split) if split.row == row => split.last = worker,
                _ => splits.push(Split { row, first: self.owner(row, worker), last: worker }),
            }
        }
        splits
    }

    /// The worker, before another one, in whose share a row begins.
    fn owner(&self, row: usize, before: usize) -> usize {
        let begin = self.row_ptr[row];
        self.bounds[..=before].partition_point(|&bound| bound <= begin) - 1
    }
}

/// Most items that a worker has, over the mean, where each has so many whole rows.
pub(crate) fn imbalance(row_ptr: &[u32], rows: usize) -> f64 {
    let shares = Partition::by_rows(row_ptr, rows);
    let most = (0..shares.workers()).map(|p| shares.share(p).len()).max().unwrap_or(0);
    let items = row_ptr[row_ptr.len() - 1];
    if items == 0 { 1.0 } else { most as f64 * shares.workers() as f64 / f64::from(items) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pointers(lengths: &[u32]) -> Vec<u32> {
        let mut sum = 0;
        let ends = lengths.iter().map(|length| {
            sum += length;
            sum
        });
        std::iter::once(0).chain(ends.collect::<Vec<_>>()).collect()
    }

    /// Sums items as workers do, and counts how often each row is written.
    fn summed(shares: &Partition<'_>, rows: usize) -> (Vec<u64>, Vec<u32>) {
        let value = |range: Range<usize>| range.map(|item| item as u64 + 1).sum::<u64>();
        let (mut sums, mut written) = (vec![0; rows], vec![0; rows]);
        let mut heads = vec![0; shares.workers()];
        for (p, head) in heads.iter_mut().enumerate() {
            if let Some((_, items)) = shares.head(p) {
                *head = value(items);
            }
            let end = shares.share(p).end;
            for row in shares.owned(p) {
                let items = shares.row(row);
                sums[row] = value(items.start..items.end.min(end));
                written[row] += 1;
            }
        }
        for Split { row, first, last } in shares.splits() {
            assert!(shares.owned(first).contains(&row), "row {row} is not worker {first}'s");
            sums[row] += heads[first + 1..=last].iter().sum::<u64>();
        }
        (sums, written)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn every_row_is_written_once_and_whole(
            lengths in proptest::collection::vec(prop_oneof![Just(0u32), 0u32..5, 0u32..60], 1..40),
            workers in 1usize..70,
            quantum in prop_oneof![Just(1usize), 1usize..40],
        ) {
            let row_ptr = pointers(&lengths);
            let shares = Partition::even(&row_ptr, workers, quantum);
            let (sums, written) = summed(&shares, lengths.len());
            for (row, pair) in row_ptr.windows(2).enumerate() {
                let right: u64 = (pair[0]..pair[1]).map(|item| u64::from(item) + 1).sum();
                prop_assert_eq!(sums[row], right, "row {} of {:?}", row, &lengths);
                prop_assert_eq!(written[row], 1, "row {} of {:?}", row, &lengths);
            }
            // Loads differ by at most a quantum, but for the rest at the end.
            let loads: Vec<usize> = (0..workers).map(|p| shares.share(p).len()).collect();
            let most = loads.iter().max().copied().unwrap_or(0);
            let whole = loads.iter().filter(|load| *load % quantum == 0).min();
            prop_assert!(most - whole.copied().unwrap_or(most).min(most) <= quantum, "{:?}", loads);
        }

        #[test]
        fn whole_rows_are_never_split(
            lengths in proptest::collection::vec(0u32..60, 1..40),
            rows in 1usize..9,
        ) {
            let row_ptr = pointers(&lengths);
            let shares = Partition::by_rows(&row_ptr, rows);
            prop_assert_eq!(shares.splits(), vec![]);
            let (sums, _) = summed(&shares, lengths.len());
            let all: u64 = (1..=u64::from(row_ptr[lengths.len()])).sum();
            prop_assert_eq!(sums.iter().sum::<u64>(), all);
        }
    }

    #[test]
    fn edges_of_partitions() {
        // No items; one row of all; more workers than items; empty rows before, between and behind.
        for (lengths, workers) in [
            (vec![0, 0, 0], 4),
            (vec![100], 7),
            (vec![2, 1], 9),
            (vec![0, 0, 5, 0, 9, 0], 3),
            (vec![0, 0, 0, 8], 1),
        ] {
            let row_ptr = pointers(&lengths);
            let (sums, written) = summed(&Partition::even(&row_ptr, workers, 1), lengths.len());
            assert!(written.iter().all(|&times| times == 1), "{lengths:?}: {written:?}");
            let all: u64 = (1..=u64::from(row_ptr[lengths.len()])).sum();
            assert_eq!(sums.iter().sum::<u64>(), all, "{lengths:?}");
        }
    }

    #[test]
    fn imbalance_is_the_most_over_the_mean() {
        assert_eq!(imbalance(&pointers(&[4, 4, 4, 4]), 1), 1.0);
        assert_eq!(imbalance(&pointers(&[8, 0, 4, 4]), 1), 2.0);
        assert_eq!(imbalance(&pointers(&[8, 0, 4, 4]), 2), 1.0);
        assert_eq!(imbalance(&pointers(&[0, 0]), 1), 1.0);
    }
}
