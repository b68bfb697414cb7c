//! What can be wrong with an access.

use thiserror::Error;

use super::Site;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Fault {
    #[error("{bytes} bytes at {address:#x} are outside of memory{}", near(nearest))]
    OutOfBounds {
        address: u64,
        bytes: u64,
        /// Start and length of the allocation that lies next.
        nearest: Option<(u64, u64)>,
    },
    #[error("{bytes} bytes at {address:#x}: the address is no multiple of {bytes}")]
    Misaligned { address: u64, bytes: u32 },
    #[error("{address:#x} lies in memory that was freed ({len} bytes at {start:#x})")]
    Freed { address: u64, start: u64, len: u64 },
    #[error(
        "{} {} the same bytes, and nothing orders the two{}{}",
        who(other), did(*other_wrote), scopes(*narrow), same(*same_value)
    )]
    Race {
        address: u64,
        other: Site,
        other_wrote: bool,
        /// Both are strong, but a scope does not include the other thread.
        narrow: bool,
        /// The write leaves the bytes as they are.
        same_value: bool,
    },
    #[error(
        "the same grid reads the bytes through ld.global.nc and writes them: {} {} them",
        who(other), did(*other_wrote)
    )]
    ReadOnlyWritten { address: u64, other: Site, other_wrote: bool },
    #[error("an asynchronous operation that this thread has not waited for holds these bytes")]
    Pending { address: u64, other: Site },
    #[error("an atomic operation on {address:#x}, which nobody has written")]
    Undefined { address: u64 },
    #[error("no allocation begins at {address:#x}")]
    NotAllocated { address: u64 },
    #[error("out of memory: {bytes} bytes asked")]
    OutOfMemory { bytes: u64 },
}

fn near(nearest: &Option<(u64, u64)>) -> String {
    nearest
        .map(|(start, len)| format!("; nearest are {len} bytes at {start:#x}"))
        .unwrap_or_default()
}

/// The report names the thread itself; here is only what it did.
fn who(site: &Site) -> &'static str {
    if site.asynchronous { "an asynchronous copy of the other thread" } else { "the other thread" }
}

fn did(wrote: bool) -> &'static str {
    if wrote { "wrote" } else { "read" }
}

fn scopes(narrow: bool) -> &'static str {
    if narrow { " (both are strong, but in scopes too narrow)" } else { "" }
}

fn same(same_value: bool) -> &'static str {
    if same_value { " (the value stays the same)" } else { "" }
}
