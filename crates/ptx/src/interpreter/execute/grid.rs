//! A launch: what all of its blocks share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::super::decode::Code;
use super::super::fault::{Fault, FaultKind, Other};
use super::super::memory::{Checks, Geometry, Site};
use super::super::options::Options;
use super::super::row::LANES;

pub(crate) struct Grid<'a> {
    pub code: &'a Code,
    pub options: &'a Options,
    /// The module's constant bank.
    pub constants: &'a [u8],
    /// The argument buffer.
    pub arguments: Vec<u8>,
    pub blocks: [u32; 3],
    pub block: [u32; 3],
    pub cluster: Option<[u32; 3]>,
    pub cooperative: bool,
    pub dynamic_shared: u32,
    pub multiprocessors: u32,
    /// Its number among the launches of the machine.
    pub number: u64,
    /// Counts whatever any block does that may let another go on.
    pub progress: AtomicU64,
    /// Warp instructions that all of its blocks have run.
    pub ran: AtomicU64,
    /// Set once a block has failed, so that the others stop.
    pub failed: AtomicBool,
}

impl Grid<'_> {
    pub fn threads_per_block(&self) -> u32 {
        self.block.iter().product()
    }

    pub fn geometry(&self) -> Geometry {
        let cluster = self.cluster.map_or(1, |cluster| cluster.iter().product());
        Geometry { threads: self.threads_per_block(), cluster }
    }

    pub fn checks(&self) -> Checks {
        Checks { races: self.options.races, uninitialised: self.options.uninitialised }
    }

    pub fn warps_per_block(&self) -> usize {
        (self.threads_per_block() as usize).div_ceil(LANES)
    }

    /// All blocks.
    pub fn count(&self) -> u64 {
        self.blocks.iter().map(|&extent| u64::from(extent)).product()
    }

    /// All gangs: clusters, or blocks where there are none.
    pub fn gangs(&self) -> u64 {
        self.count() / u64::from(self.geometry().cluster)
    }

    /// The number of a block: those of a cluster follow each other, x fastest in the cluster and among
    /// clusters.
    pub fn linear(&self, block: [u32; 3]) -> u32 {
        let cluster = self.cluster.unwrap_or([1; 3]);
        let clusters: [u32; 3] = std::array::from_fn(|axis| self.blocks[axis] / cluster[axis]);
        let gang = number(std::array::from_fn(|axis| block[axis] / cluster[axis]), clusters);
        let rank = number(std::array::from_fn(|axis| block[axis] % cluster[axis]), cluster);
        gang.wrapping_mul(self.geometry().cluster).wrapping_add(rank)
    }

    /// The block of this number.
    pub fn place(&self, linear: u32) -> [u32; 3] {
        let cluster = self.cluster.unwrap_or([1; 3]);
        let clusters: [u32; 3] = std::array::from_fn(|axis| self.blocks[axis] / cluster[axis]);
        let size = self.geometry().cluster;
        let (gang, rank) = (place(linear / size, clusters), place(linear % size, cluster));
        std::array::from_fn(|axis| gang[axis] * cluster[axis] + rank[axis])
    }

    /// Bytes of shared memory of a block.
    pub fn shared_bytes(&self) -> u64 {
        self.code.static_shared + u64::from(self.dynamic_shared)
    }

    /// The coordinates of a thread within its block.
    pub fn thread(&self, index: u32) -> [u32; 3] {
        place(index, self.block)
    }

    /// The block and the thread that made an access.
    pub fn other(&self, site: Site) -> Other {
        let threads = self.threads_per_block().max(1);
        Other {
            line: self.line(site.pc as usize),
            block: self.place(site.thread / threads),
            thread: self.thread(site.thread % threads),
        }
    }

    pub fn line(&self, pc: usize) -> u32 {
        self.code.steps.get(pc).map_or(0, |step| step.line)
    }

    /// A fault of the launch as a whole.
    pub fn fault(&self, kind: FaultKind, pc: usize, message: impl Into<String>) -> Fault {
        Fault {
            kind,
            kernel: self.code.name.clone(),
            line: self.line(pc),
            block: None,
            thread: None,
            address: None,
            other: None,
            message: message.into(),
        }
    }

    pub fn made_progress(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }
}

/// The number of a place in a box of these extents, x fastest.
fn number([x, y, z]: [u32; 3], [width, height, _]: [u32; 3]) -> u32 {
    x.wrapping_add(width.wrapping_mul(y.wrapping_add(height.wrapping_mul(z))))
}

/// The place of this number.
fn place(number: u32, extents: [u32; 3]) -> [u32; 3] {
    let [width, height, _] = extents.map(|extent| extent.max(1));
    [number % width, number / width % height, number / width / height]
}
