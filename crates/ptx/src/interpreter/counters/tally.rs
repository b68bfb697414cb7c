//! What one instruction did in a launch.

use std::iter::Sum;
use std::ops::AddAssign;

use super::request;
use crate::interpreter::row::{Mask, Row};

/// What moved between a multiprocessor and global memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Requests of a warp, or bulk copies.
    pub requests: u64,
    /// Sectors of 32 bytes that the requests touch, each counted once per request.
    pub sectors: u64,
    /// The distinct bytes that the lanes asked for.
    pub useful_bytes: u64,
}

impl Traffic {
    /// Bytes moved: whole sectors.
    pub fn bytes(&self) -> u64 {
        self.sectors * request::SECTOR
    }

    fn request(&mut self, addresses: &Row, active: Mask, bytes: u32) {
        if active != 0 {
            self.requests += 1;
            self.sectors += u64::from(request::sectors(addresses, active, bytes));
            self.useful_bytes += u64::from(request::distinct(addresses, active)) * u64::from(bytes);
        }
    }

    fn range(&mut self, address: u64, bytes: u64) {
        if bytes > 0 {
            let last = address.saturating_add(bytes - 1) / request::SECTOR;
            self.requests += 1;
            self.sectors += last - address / request::SECTOR + 1;
            self.useful_bytes += bytes;
        }
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.sectors += other.sectors;
        self.useful_bytes += other.useful_bytes;
    }
}

/// What one instruction, or any set of them, did in a launch, summed over all warps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Warp instructions issued.
    pub warps: u64,
    /// Lanes that executed them.
    pub threads: u64,
    /// Warp instructions issued while some living lane of the warp was elsewhere or guarded off.
    pub partial: u64,
    /// Branches that split a warp.
    pub divergent: u64,
    /// Loads of global memory, asynchronous copies included.
    pub loads: Traffic,
    /// Stores to global memory.
    pub stores: Traffic,
    /// Atomics on global memory.
    pub atomics: Traffic,
    /// Wavefronts of shared memory.
    pub wavefronts: u64,
    /// The wavefronts that would have done without a bank conflict.
    pub least_wavefronts: u64,
    /// Bytes to and from shared memory of other blocks of the cluster.
    pub cluster_bytes: u64,
    /// Lanes of an atomic beyond the first on each address.
    pub collisions: u64,
    /// Further rounds of shared atomics: the most lanes on one address, less one.
    pub repeats: u64,
}

impl Tally {
    /// Bytes moved to and from global memory: whole sectors.
    pub fn global_bytes(&self) -> u64 {
        self.loads.bytes() + self.stores.bytes() + self.atomics.bytes()
    }

    /// The bytes of these that a lane asked for.
    pub fn useful_bytes(&self) -> u64 {
        self.loads.useful_bytes + self.stores.useful_bytes + self.atomics.useful_bytes
    }

    /// Wavefronts of shared memory that bank conflicts cost.
    pub fn bank_conflicts(&self) -> u64 {
        self.wavefronts.saturating_sub(self.least_wavefronts)
    }

    /// A warp whose lanes `live` have not exited issues the instruction for the lanes `active`.
    pub(crate) fn issue(&mut self, active: Mask, live: Mask) {
        self.warps += 1;
        self.threads += u64::from(active.count_ones());
        self.partial += u64::from(active != live);
    }

    /// A branch splits the warp.
    pub(crate) fn diverge(&mut self) {
        self.divergent += 1;
    }

    /// Loads `bytes` per lane from global memory; lanes that read nothing are off.
    pub(crate) fn load(&mut self, addresses: &Row, active: Mask, bytes: u32) {
        self.loads.request(addresses, active, bytes);
    }

    /// Stores `bytes` per lane to global memory.
    pub(crate) fn store(&mut self, addresses: &Row, active: Mask, bytes: u32) {
        self.stores.request(addresses, active, bytes);
    }

    /// Changes `bytes` per lane of global memory atomically.
    pub(crate) fn atomic(&mut self, addresses: &Row, active: Mask, bytes: u32) {
        self.atomics.request(addresses, active, bytes);
        self.collisions += u64::from(request::collisions(addresses, active));
    }

    /// Loads or stores `bytes` per lane of shared memory.
    pub(crate) fn shared(&mut self, addresses: &Row, active: Mask, bytes: u32) {
        self.banks(request::wavefronts(addresses, active, bytes));
    }

    /// Loads or stores 1, 2 or 4 matrices, whose rows begin at `addresses`.
    pub(crate) fn matrices(&mut self, addresses: &Row, matrices: u32) {
        self.banks(request::matrix_wavefronts(addresses, matrices));
    }

    /// Changes `bytes` per lane of shared memory atomically.
    pub(crate) fn shared_atomic(&mut self, addresses: &Row, active: Mask, bytes: u32) {
        self.banks(request::atomic_wavefronts(addresses, active, bytes));
        self.collisions += u64::from(request::collisions(addresses, active));
        self.repeats += u64::from(request::crowd(addresses, active).saturating_sub(1));
    }

    /// Moves `bytes` to or from shared memory of another block of the cluster.
    pub(crate) fn cluster(&mut self, bytes: u64) {
        self.cluster_bytes += bytes;
    }

    /// Copies a range of global memory into shared memory in bulk.
    pub(crate) fn bulk_load(&mut self, address: u64, bytes: u64) {
        self.loads.range(address, bytes);
        self.bulk_shared(bytes);
    }

    /// Copies a range of shared memory to global memory in bulk.
    pub(crate) fn bulk_store(&mut self, address: u64, bytes: u64) {
        self.stores.range(address, bytes);
        self.bulk_shared(bytes);
    }

    fn bulk_shared(&mut self, bytes: u64) {
        let wavefronts = bytes.div_ceil(request::WAVEFRONT);
        self.wavefronts += wavefronts;
        self.least_wavefronts += wavefronts;
    }

    fn banks(&mut self, (taken, least): (u32, u32)) {
        self.wavefronts += u64::from(taken);
        self.least_wavefronts += u64::from(least);
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.warps += other.warps;
        self.threads += other.threads;
        self.partial += other.partial;
        self.divergent += other.divergent;
        self.loads += other.loads;
        self.stores += other.stores;
        self.atomics += other.atomics;
        self.wavefronts += other.wavefronts;
        self.least_wavefronts += other.least_wavefronts;
        self.cluster_bytes += other.cluster_bytes;
        self.collisions += other.collisions;
        self.repeats += other.repeats;
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guarded_load_and_a_full_store() {
        let row: Row = std::array::from_fn(|lane| 1024 + 4 * lane as u64);
        let mut tally = Tally::default();
        tally.issue(0xff, Mask::MAX);
        tally.load(&row, 0xff, 4);
        tally.issue(Mask::MAX, Mask::MAX);
        tally.store(&row, Mask::MAX, 4);
        assert_eq!((tally.warps, tally.threads, tally.partial), (2, 40, 1));
        assert_eq!(tally.loads, Traffic { requests: 1, sectors: 1, useful_bytes: 32 });
        assert_eq!(tally.stores, Traffic { requests: 1, sectors: 4, useful_bytes: 128 });
        assert_eq!((tally.global_bytes(), tally.useful_bytes()), (160, 160));
    }

    #[test]
    fn a_broadcast_is_useful_once() {
        let mut tally = Tally::default();
        tally.load(&[4096; 32], Mask::MAX, 4);
        assert_eq!((tally.global_bytes(), tally.useful_bytes()), (32, 4));
        tally.load(&[4096; 32], 0, 4);
        assert_eq!(tally.loads.requests, 1, "no lane, no request");
    }

    #[test]
    fn shared_conflicts_and_rounds() {
        let mut tally = Tally::default();
        tally.shared(&std::array::from_fn(|lane| 8 * lane as u64), Mask::MAX, 4);
        assert_eq!((tally.wavefronts, tally.bank_conflicts()), (2, 1));
        tally.shared_atomic(&std::array::from_fn(|lane| 4 * (lane as u64 / 4)), Mask::MAX, 4);
        assert_eq!((tally.wavefronts, tally.bank_conflicts()), (6, 4));
        assert_eq!((tally.collisions, tally.repeats), (24, 3));
    }

    #[test]
    fn bulk_copies_move_whole_sectors() {
        let mut tally = Tally::default();
        tally.bulk_load(4096 + 16, 1024);
        assert_eq!(tally.loads, Traffic { requests: 1, sectors: 33, useful_bytes: 1024 });
        assert_eq!((tally.wavefronts, tally.bank_conflicts()), (8, 0));
        tally.bulk_store(4096, 0);
        assert_eq!(tally.stores, Traffic::default());
    }

    #[test]
    fn sums_add_every_field() {
        let traffic = |n| Traffic { requests: n, sectors: n + 1, useful_bytes: n + 2 };
        let one = Tally {
            warps: 1,
            threads: 2,
            partial: 3,
            divergent: 4,
            loads: traffic(5),
            stores: traffic(8),
            atomics: traffic(11),
            wavefronts: 14,
            least_wavefronts: 15,
            cluster_bytes: 16,
            collisions: 17,
            repeats: 18,
        };
        let traffic =
            |n: u64| Traffic { requests: 2 * n, sectors: 2 * n + 2, useful_bytes: 2 * n + 4 };
        let two = Tally {
            warps: 2,
            threads: 4,
            partial: 6,
            divergent: 8,
            loads: traffic(5),
            stores: traffic(8),
            atomics: traffic(11),
            wavefronts: 28,
            least_wavefronts: 30,
            cluster_bytes: 32,
            collisions: 34,
            repeats: 36,
        };
        assert_eq!([one, one].into_iter().sum::<Tally>(), two);
    }
}
