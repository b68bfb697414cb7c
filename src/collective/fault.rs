//! What can go wrong between ranks.

use std::time::Duration;

use super::Tag;
use crate::Error;

/// Why a rank does not answer any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It has left before the others.
    Left,
    /// It has panicked.
    Panicked,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Left => "it has left before the others",
            Self::Panicked => "it has panicked",
        })
    }
}

/// What went wrong between ranks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Another rank did not come in time.
    #[error(
        "rank {peer} is late: nothing came within {elapsed:?} at {at}; is it still running, and in the same call?"
    )]
    PeerTimeout {
        /// The rank that was waited for.
        peer: usize,
        /// What it was waited for in.
        at: String,
        /// How long.
        elapsed: Duration,
    },
    /// Another rank is gone.
    #[error("rank {peer} is gone: {cause}")]
    PeerFailed {
        /// The rank.
        peer: usize,
        /// Why.
        cause: Cause,
    },
    /// The ranks do not make the same call.
    #[error("ranks differ in `{field}`: {}; all must be given the same", values.join(", "))]
    DescriptorMismatch {
        /// What differs first.
        field: &'static str,
        /// What each rank has, in the order of ranks.
        values: Vec<String>,
    },
    /// A message came that is not the one that was expected.
    #[error("rank {peer} has sent {found}, expected {expected}; it is in another call or step")]
    MessageMismatch {
        /// The rank that sent it.
        peer: usize,
        /// What was expected.
        expected: String,
        /// What came.
        found: String,
    },
    /// The engine that carries messages has refused a call.
    #[error("{call} failed: {reason}")]
    Transport {
        /// The call.
        call: &'static str,
        /// What the engine said.
        reason: String,
    },
    /// A rank has given up.
    #[error("rank {peer} has given up: {reason}")]
    Aborted {
        /// The rank.
        peer: usize,
        /// What it said.
        reason: String,
    },
    /// An earlier error has ended the communicator.
    #[error("the communicator is poisoned: {first}; let all ranks reset it")]
    Poisoned {
        /// The first error.
        first: Box<Error>,
    },
}

/// A message as errors tell of it.
pub(super) fn told(tag: &Tag, bytes: u64) -> String {
    format!("{bytes} bytes of {tag}")
}
