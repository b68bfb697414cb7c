//! Memory, and the order of accesses to it: bounds, alignment, initialisation, races.
//!
//! Two accesses **race** if they touch a common byte, one of them writes, neither is ordered before the
//! other, and they are not both strong with scopes that include each other. `a` is ordered before `b` if
//!
//! ```text
//! the same thread did both, a first
//! a's thread arrived at a barrier that b's thread left           (bar.sync, bar.warp.sync, cluster)
//! a's thread released, b's thread acquired and saw that release   (flags, counters, mbarrier)
//! a is ordered before some c, and c before b                      (cumulativity)
//! ```
//!
//! Every block has one clock, which moves on whenever one of its threads arrives, releases or fences. An
//! access is stamped with its thread and the clock ([`shadow`]); what a thread knows is a bound of such
//! stamps for whole blocks, whole warps or single threads ([`knowledge`], [`order`]): an access is ordered
//! before the thread's next one if its stamp is below the bound. So a barrier of a block is one number.
//!
//! Memory keeps stamps for each word of four bytes: those writes and reads that no later access has made
//! irrelevant. What is left out can hide a race, and never invents one.
//!
//! Stricter than PTX in one point: a thread that has merely read a flag by `ld.relaxed`, without a fence, is
//! not taken to be ordered after the write that it saw. Not modelled: the total order of `fence.sc`;
//! proxy fences are the executor's.

mod allocation;
mod defined;
mod fault;
mod global;
mod knowledge;
mod order;
mod page;
mod sets;
mod shadow;
mod shared;
#[cfg(test)]
mod tests;
mod view;
mod words;

use std::sync::Arc;

pub(crate) use fault::Fault;
pub(crate) use global::{Global, GlobalView};
pub(crate) use knowledge::{Knowledge, Message};
pub(crate) use order::{Clocks, Operation};
pub(crate) use shared::Shared;
#[cfg(test)]
pub(crate) use view::View;

/// Who did something, and where in the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Site {
    /// Block number times threads per block, plus the number in the block.
    pub thread: u32,
    pub pc: u32,
    /// Done by an asynchronous copy that the thread started.
    pub asynchronous: bool,
}

/// The threads among which an access or a fence is coherent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    Block,
    Cluster,
    Device,
    System,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strength {
    Weak,
    /// `relaxed` or stronger, and every atomic.
    Strong(Scope),
    /// `ld.global.nc`: no write of the same grid may touch what it reads, ordered or not.
    ReadOnly,
}

/// An access by one lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access {
    /// An address of global memory, or an offset in shared memory.
    pub address: u64,
    /// 1, 2, 4, 8 or 16, and the address a multiple of it.
    pub bytes: u32,
    pub strength: Strength,
    /// Which instruction: below 2^24.
    pub pc: u32,
}

/// What a load gives beside the bytes.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// A bit for each byte that nobody has written.
    pub undefined: u16,
    /// What releases the load has seen: for [`Clocks::learn`].
    pub seen: Option<Arc<Message>>,
}

/// What is checked besides bounds and alignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checks {
    pub races: bool,
    pub uninitialised: bool,
}

/// How a grid is divided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    /// Threads of a block.
    pub threads: u32,
    /// Blocks of a cluster. Blocks are numbered such that those of a cluster follow each other.
    pub cluster: u32,
}

impl Geometry {
    /// Warps of a block.
    fn warps(self) -> u32 {
        self.threads.div_ceil(32).max(1)
    }

    /// The narrowest scope that has both blocks.
    fn distance(self, one: u32, other: u32) -> Scope {
        let cluster = self.cluster.max(1);
        if one == other {
            Scope::Block
        } else if one / cluster == other / cluster {
            Scope::Cluster
        } else {
            Scope::Device
        }
    }
}
