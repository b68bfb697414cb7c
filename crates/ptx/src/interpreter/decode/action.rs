//! What instructions become: operands are indices, immediates are registers, nothing is text.

use super::super::arithmetic::Rule;
use super::super::exchange::shuffle::Shuffle;
use super::super::exchange::{Reduction, Vote};
use super::super::memory::{Scope, Strength};
use super::super::row::{Mask, Row};
use super::super::tensor::product::Product;
use crate::types::Type;

/// A register, as an index into the rows of a warp. Constants and special registers have rows too.
pub(crate) type Register = u32;

/// A predicate register, as an index into the masks of a warp.
pub(crate) type Predicate = u32;

/// One instruction.
pub(crate) struct Step {
    pub guard: Option<Condition>,
    pub action: Action,
    /// The line of the PTX text.
    pub line: u32,
}

/// A predicate as a source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Condition {
    Register { register: Predicate, negated: bool },
    Constant(bool),
}

/// What a step does.
pub(crate) enum Action {
    /// Hints, and what has no effect that a kernel can see.
    Nothing,
    Compute(Compute),
    Test(Test),
    /// d = p ? a : b
    Select {
        sources: [Register; 2],
        condition: Condition,
        to: Register,
    },
    /// Logic on predicates.
    Logic {
        operation: Logic,
        sources: [Condition; 2],
        to: Predicate,
    },
    Pack {
        sources: Vec<Register>,
        bits: u32,
        to: Register,
    },
    Unpack {
        source: Register,
        bits: u32,
        to: Vec<Option<Register>>,
    },
    /// cvta and isspacep.
    Window(Window),
    Clock {
        to: Register,
        bits: u32,
        shift: u32,
    },
    Load(Load),
    Store(Store),
    Atomic(Atomic),
    Copy(Copy),
    CopyCommit,
    /// Waits until at most this many groups are pending.
    CopyWait(usize),
    /// cp.async.mbarrier.arrive: when this thread's earlier copies are done.
    CopyArrive {
        address: Address,
        counted: bool,
    },
    Branch {
        target: usize,
        uniform: bool,
    },
    BranchIndexed {
        index: Register,
        targets: Vec<usize>,
        uniform: bool,
    },
    Exit,
    Trap(&'static str),
    Shuffle {
        mode: Shuffle,
        sources: [Register; 4],
        to: Register,
        found: Option<Predicate>,
    },
    Vote {
        question: Vote,
        condition: Condition,
        members: Register,
        to: Predicate,
    },
    Ballot {
        condition: Condition,
        members: Register,
        to: Register,
    },
    Match {
        all: bool,
        source: Register,
        members: Register,
        to: Option<Register>,
        found: Option<Predicate>,
    },
    Reduce {
        operation: Reduction,
        source: Register,
        members: Register,
        to: Register,
    },
    ActiveMask {
        to: Register,
    },
    Elect {
        members: Register,
        to: Option<Register>,
        leader: Predicate,
    },
    WarpBarrier {
        members: Register,
    },
    Barrier(Barrier),
    ClusterBarrier(ClusterBarrier),
    Fence {
        scope: Scope,
    },
    MatrixLoad {
        address: Address,
        transposed: bool,
        to: Vec<Register>,
    },
    MatrixStore {
        address: Address,
        transposed: bool,
        sources: Vec<Register>,
    },
    MatrixTranspose {
        source: Register,
        to: Register,
    },
    Product {
        product: Box<Product>,
        a: Vec<Register>,
        b: Vec<Register>,
        c: Vec<Register>,
        to: Vec<Register>,
    },
    ObjectBarrier(ObjectBarrier),
    Bulk(Bulk),
    BulkTensor(BulkTensor),
    BulkCommit,
    /// Waits until at most this many bulk groups are pending; `read`: until their sources are free.
    BulkWait {
        pending: u64,
        read: bool,
    },
    RemoteStore(RemoteStore),
    /// Instructions of warpgroups.
    Warpgroup(Warpgroup),
    /// fence.proxy.async, as far as it concerns shared memory.
    ProxyFence,
}

impl Action {
    /// Whether it accesses shared memory through the asynchronous proxy.
    pub fn is_asynchronous(&self) -> bool {
        matches!(
            self,
            Self::Bulk(_) | Self::BulkTensor(_) | Self::Warpgroup(Warpgroup::Multiply(_))
        )
    }
}

/// An arithmetic instruction with one result.
pub(crate) struct Compute {
    pub rule: Rule,
    /// What `set` writes where its comparison holds.
    pub truth: [u64; 2],
    /// Whether the carry is read, and whether it is written.
    pub carries: [bool; 2],
    /// The predicate that `set` or `lop3` combines their result with.
    pub combine: Option<(Logic, Condition)>,
    pub forbidden: Option<fn(&[&Row; 4]) -> Mask>,
    pub sources: [Register; 4],
    pub used: usize,
    pub to: Option<Register>,
    /// The type of the result and that of a wider register that takes it.
    pub extend: Option<(Type, Type)>,
    /// lop3 with a predicate: whether the result is not zero.
    pub nonzero: Option<Predicate>,
}

/// A comparison with up to two predicates as result.
pub(crate) struct Test {
    pub rule: fn(&[&Row; 4]) -> [Mask; 2],
    pub sources: [Register; 4],
    pub used: usize,
    pub combine: Option<(Logic, Condition)>,
    pub to: [Option<Predicate>; 2],
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Logic {
    And,
    Or,
    Xor,
    Not,
    Move,
}

impl Logic {
    pub fn apply(self, a: Mask, b: Mask) -> Mask {
        match self {
            Self::And => a & b,
            Self::Or => a | b,
            Self::Xor => a ^ b,
            Self::Not => !a,
            Self::Move => a,
        }
    }
}

/// Where a load or store goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Generic,
    Global,
    /// `.shared`, `.shared::cta`
    Shared,
    /// `.shared::cluster`
    Cluster,
    Local,
    Const,
    Param,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    pub place: Place,
    pub base: Register,
    pub offset: i64,
}

/// Between generic addresses and those of a space.
pub(crate) enum Window {
    ToGeneric {
        place: Place,
        source: Register,
        to: Register,
    },
    FromGeneric {
        place: Place,
        source: Register,
        to: Register,
    },
    Inside {
        place: Place,
        source: Register,
        to: Predicate,
    },
    /// mapa: the address of the same place in another block of the cluster.
    Map {
        source: Register,
        rank: Register,
        to: Register,
        generic: bool,
    },
    /// getctarank
    Rank {
        source: Register,
        to: Register,
        generic: bool,
    },
}

pub(crate) struct Load {
    pub address: Address,
    pub ty: Type,
    pub strength: Strength,
    pub acquire: bool,
    /// Registers of the elements, with the types that they are declared with.
    pub to: Vec<(Option<Register>, Type)>,
}

pub(crate) struct Store {
    pub address: Address,
    pub ty: Type,
    pub strength: Strength,
    pub release: bool,
    pub sources: Vec<Register>,
}

pub(crate) struct Atomic {
    pub address: Address,
    pub operation: AtomicOperation,
    pub ty: Type,
    pub scope: Scope,
    pub acquire: bool,
    pub release: bool,
    /// Empty for `red`; `None` is the sink.
    pub to: Vec<Option<Register>>,
    /// One per element; cas has the value to compare before the new one.
    pub sources: Vec<Register>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum AtomicOperation {
    Add,
    Min,
    Max,
    Increment,
    Decrement,
    And,
    Or,
    Xor,
    Exchange,
    CompareAndSwap,
}

/// cp.async
pub(crate) struct Copy {
    pub to: Address,
    pub from: Address,
    pub bytes: u32,
    /// How many bytes are read; the others become zero.
    pub taken: Option<Register>,
    pub ignored: Option<Condition>,
}

/// cp.async.bulk and cp.reduce.async.bulk
pub(crate) struct Bulk {
    pub to: Address,
    pub from: Address,
    pub bytes: Register,
    /// The mbarrier that it completes on; without one it belongs to a bulk group.
    pub object: Option<Address>,
    /// The ranks of the blocks that get a copy, as a mask.
    pub ranks: Option<Register>,
    pub combine: Option<(AtomicOperation, Type)>,
}

/// cp.async.bulk.tensor and cp.reduce.async.bulk.tensor
pub(crate) struct BulkTensor {
    /// Of the tensor map.
    pub map: Address,
    pub coordinates: Vec<Register>,
    pub shared: Address,
    /// The mbarrier that a load completes on; a store belongs to a bulk group.
    pub object: Option<Address>,
    /// The ranks of the blocks that get a copy, as a mask.
    pub ranks: Option<Register>,
    pub combine: Option<AtomicOperation>,
}

/// st.async and red.async
pub(crate) struct RemoteStore {
    pub to: Address,
    pub object: Address,
    pub ty: Type,
    pub sources: Vec<Register>,
    pub combine: Option<AtomicOperation>,
}

/// wgmma and setmaxnreg
pub(crate) enum Warpgroup {
    /// wgmma.fence
    Fence,
    Multiply(Box<Multiply>),
    Commit,
    /// Waits until at most this many groups are pending.
    Wait(u64),
    /// setmaxnreg: nothing that a kernel can see.
    Registers,
}

/// wgmma.mma_async: D = ±A·B, or D ± A·B
pub(crate) struct Multiply {
    pub product: Product,
    pub to: Vec<Register>,
    pub left: Factor,
    pub right: Factor,
    /// Whether D counts.
    pub keep: Condition,
    pub negated: bool,
}

/// A matrix to multiply.
pub(crate) enum Factor {
    Registers(Vec<Register>),
    /// In shared memory.
    Memory {
        descriptor: Register,
        mn_major: bool,
    },
}

/// bar and barrier
pub(crate) struct Barrier {
    pub id: Register,
    pub threads: Option<Register>,
    /// The threads of a warp must come together.
    pub aligned: bool,
    pub kind: BarrierKind,
}

/// barrier.cluster
pub(crate) enum ClusterBarrier {
    Arrive { release: bool, aligned: bool },
    Wait { aligned: bool },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum BarrierKind {
    Sync,
    Arrive,
    Count { condition: Condition, to: Register },
    All { condition: Condition, to: Predicate },
    Any { condition: Condition, to: Predicate },
}

/// mbarrier
pub(crate) struct ObjectBarrier {
    pub address: Address,
    pub operation: ObjectOperation,
}

pub(crate) enum ObjectOperation {
    Init {
        count: Register,
    },
    Invalidate,
    Arrive(Arrive),
    /// More bytes, or fewer, are missing in the phase.
    Bytes {
        count: Register,
        complete: bool,
    },
    /// `acquire`: the scope of what is learnt.
    Test {
        state: Register,
        parity: bool,
        acquire: Option<Scope>,
        to: Predicate,
    },
}

pub(crate) struct Arrive {
    /// One, where it is missing.
    pub count: Option<Register>,
    /// `.expect_tx`: the bytes that are expected from now on.
    pub bytes: Option<Register>,
    pub drop: bool,
    /// `.noComplete`: the phase must not end by it.
    pub open: bool,
    pub release: Option<Scope>,
    pub to: Option<Register>,
}
