//! What stops a launch.

use std::fmt;

/// Why a kernel was stopped: what it did, where in the text, and which thread.
///
/// Its text says it all; the fields are for tests.
///
/// ```
/// use warpwright_ptx::interpreter::{FaultKind, Launch, Machine, Options};
///
/// // Threads take their neighbour's word from shared memory without a barrier.
/// let module = warpwright_ptx::parse(".version 7.0
/// .target sm_80
/// .address_size 64
/// .visible .entry swap()
/// {
///     .reg .b32 %thread, %tile, %at, %word; .shared .align 4 .b32 tile[64];
///     mov.u32 %thread, %tid.x;
///     mov.u32 %tile, tile;
///     mad.lo.u32 %at, %thread, 4, %tile;
///     st.shared.b32 [%at], %thread;
///     xor.b32 %at, %at, 128;
///     ld.shared.b32 %word, [%at];
///     ret;
/// }")?;
/// let machine = Machine::new(0, Options::default());
/// let loaded = machine.load(&module)?;
/// let kernel = loaded.kernel("swap").ok_or("no such kernel")?;
/// let launch = Launch {
///     grid: [1; 3],
///     block: [64, 1, 1],
///     cluster: None,
///     dynamic_shared: 0,
///     cooperative: false,
///     arguments: &[],
/// };
/// let fault = machine.launch(kernel, &launch).unwrap_err();
/// assert_eq!(fault.kind, FaultKind::Race);
/// assert_eq!((fault.line, fault.other.map(|other| other.line)), (10, Some(12)));
/// assert_eq!(
///     fault.to_string(),
///     "kernel swap, line 10, block (0, 0, 0), thread (32, 0, 0): data race at 0x80: the other thread read \
///      the same bytes, and nothing orders the two; the other: line 12, block (0, 0, 0), thread (0, 0, 0)"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// What kind of mistake it is.
    pub kind: FaultKind,
    /// The kernel.
    pub kernel: String,
    /// The line of the PTX text, from 1; 0 where no instruction is to blame.
    pub line: u32,
    /// The block, where one is to blame.
    pub block: Option<[u32; 3]>,
    /// The thread within the block, where one is to blame.
    pub thread: Option<[u32; 3]>,
    /// The address, where one is to blame: of global memory, or an offset in shared memory.
    pub address: Option<u64>,
    /// The other access of a race, or what else takes part.
    pub other: Option<Other>,
    /// What was expected, what came, what to do.
    pub message: String,
}

/// The second place that a [`Fault`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Other {
    /// The line of the PTX text.
    pub line: u32,
    /// The block.
    pub block: [u32; 3],
    /// The thread within the block.
    pub thread: [u32; 3],
}

/// The kinds of [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// An access outside every allocation, or outside shared memory.
    OutOfBounds,
    /// An address that is no multiple of the access's size.
    Misaligned,
    /// An access to memory that was freed.
    UseAfterFree,
    /// A register or memory was used before anything was written to it.
    Uninitialised,
    /// Two accesses, at least one a write, that nothing orders.
    Race,
    /// Memory that the kernel reads as read-only was written during the launch.
    ReadOnlyWritten,
    /// An access to memory that an asynchronous copy is still working on.
    AsyncPending,
    /// A `.sync` or `.aligned` instruction that not all of its lanes reach together.
    DivergentSync,
    /// A shuffle that reads a lane which takes no part.
    InactiveLane,
    /// A barrier with counts that do not fit together.
    Barrier,
    /// Shared memory of a block of the cluster that may not have started, or has ended.
    Cluster,
    /// No thread can go on.
    Deadlock,
    /// The launch ran more instructions than [`Options::limit`](super::Options::limit) allows.
    Limit,
    /// Threads wait for a block that may never run beside them.
    NotResident,
    /// A branch that was promised to be uniform is not, or an index has no target.
    Branch,
    /// An address of one space was used in another.
    WrongSpace,
    /// An input for which the instruction has no defined result.
    Undefined,
    /// `trap` or `brkpt`.
    Trap,
    /// The launch does not fit the kernel or the device.
    Launch,
    /// The instruction is in the table but cannot be executed yet.
    Unsupported,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfBounds => "access out of bounds",
            Self::Misaligned => "misaligned access",
            Self::UseAfterFree => "access to freed memory",
            Self::Uninitialised => "use of an unwritten value",
            Self::Race => "data race",
            Self::ReadOnlyWritten => "read-only memory written",
            Self::AsyncPending => "access during an asynchronous copy",
            Self::DivergentSync => "divergent synchronisation",
            Self::InactiveLane => "shuffle from an inactive lane",
            Self::Barrier => "barrier misuse",
            Self::Cluster => "access to a block that may not be there",
            Self::Deadlock => "deadlock",
            Self::Limit => "too many instructions",
            Self::NotResident => "wait for a block that may not be resident",
            Self::Branch => "undefined branch",
            Self::WrongSpace => "address of another space",
            Self::Undefined => "undefined result",
            Self::Trap => "trap",
            Self::Launch => "launch refused",
            Self::Unsupported => "not executed yet",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {}", self.kernel)?;
        if self.line > 0 {
            write!(f, ", line {}", self.line)?;
        }
        if let Some([x, y, z]) = self.block {
            write!(f, ", block ({x}, {y}, {z})")?;
        }
        if let Some([x, y, z]) = self.thread {
            write!(f, ", thread ({x}, {y}, {z})")?;
        }
        write!(f, ": {}", self.kind)?;
        if let Some(address) = self.address {
            write!(f, " at {address:#x}")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(Other { line, block: [a, b, c], thread: [x, y, z] }) = self.other {
            write!(f, "; the other: line {line}, block ({a}, {b}, {c}), thread ({x}, {y}, {z})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}
