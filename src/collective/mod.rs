//! Communicators: how ranks exchange tensors.
//!
//! An operation that is cut among ranks says what is to be sent, [`Communicator`] carries it: all
//! that a step transfers is posted at once, and waited for when it is needed. Messages carry a
//! [`Tag`], and two sides that do not mean the same end in an error, as does a rank that is late,
//! gone or wrong: nothing hangs, and nothing is interpreted as what it is not.
//!
//! | engine | ranks |
//! |---|---|
//! | [`Local`] | threads of one process, on one device |
//! | [`CudaPeer`] | threads of one process, each on a GPU of its own |
//! | [`Nccl`] | GPUs of one machine or of several, by NCCL, which is looked for at run time |
//! | `Mpi`, with the feature `mpi` | processes that `mpirun` has started, on the CPU |
//!
//! ```
//! use warpwright::collective::{Communicator, Lane, Local, Parcel, Tag};
//! use warpwright::{Cpu, Tensor};
//!
//! // Everybody tells the next rank its own number.
//! let heard = Local::<Cpu>::run(3, |ranks| {
//!     let (own, size) = (ranks.rank(), ranks.size());
//!     let number = Tensor::from_vec(vec![own as f32], &[1])?.into_view();
//!     let heard = Tensor::from_vec(vec![0.0f32], &[1])?;
//!     let sends = vec![Parcel { peer: (own + 1) % size, parts: vec![number] }];
//!     let receives = vec![Parcel { peer: (own + size - 1) % size, parts: vec![(*heard).clone()] }];
//!     let ticket = ranks.post(Tag { call: 1, step: 0, lane: Lane(0) }, sends, receives)?;
//!     ranks.wait(ticket)?;
//!     heard.to_vec()
//! });
//! assert_eq!(heard.into_iter().collect::<Result<Vec<_>, _>>()?, [[2.0], [0.0], [1.0]]);
//! # Ok::<(), warpwright::Error>(())
//! ```

mod carrier;
mod descriptor;
mod fault;
mod lines;
mod local;
mod meter;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "cuda")]
mod nccl;
#[cfg(feature = "cuda")]
mod peer;
mod reduce;
mod split;

pub use carrier::{Carrier, OneDevice};
pub(crate) use descriptor::Descriptor;
pub use fault::{Cause, Fault};
pub use lines::Lines;
pub(crate) use lines::without_gaps;
pub use local::Local;
pub use meter::Meter;
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
#[cfg(feature = "cuda")]
#[cfg_attr(docsrs, doc(cfg(feature = "cuda")))]
pub use nccl::{Nccl, NcclId};
#[cfg(feature = "cuda")]
#[cfg_attr(docsrs, doc(cfg(feature = "cuda")))]
pub use peer::{CudaPeer, PeerCopies};
pub use reduce::{all_gather, all_reduce, all_reduce_max, all_to_all, barrier, reduce_scatter};
pub use split::{Split, split};

use std::fmt;
use std::time::Duration;

use crate::Result;
use crate::backend::Backend;
use crate::tensor::View;

/// How long a rank waits for another by default.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Messages of different lanes do not wait for one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane(pub u8);

/// What a message belongs to; sender and receiver must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    /// The call, told from what it is given: ranks that are not in the same call differ.
    pub call: u64,
    /// The step of it.
    pub step: u32,
    /// The lane.
    pub lane: Lane,
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {:016x}, step {}, lane {}", self.call, self.step, self.lane.0)
    }
}

/// A message of one or more tensors to, or from, another rank. A parcel without a byte is not sent;
/// both sides must leave it out.
#[derive(Clone, Debug)]
pub struct Parcel<B: Backend> {
    /// The other rank.
    pub peer: usize,
    /// What is sent, or where what is received shall lie: of any strides.
    pub parts: Vec<View<B>>,
}

impl<B: Backend> Parcel<B> {
    /// Its bytes.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| (part.elements() * part.dtype().bytes()) as u64).sum()
    }
}

/// A rank's way to the others.
///
/// All ranks make the same calls in the same order. After any error the communicator is poisoned:
/// waits that are pending end, and calls that follow fail at once, on every rank that can be
/// reached. What the caller owns stays allocated and valid; what was to be written is unspecified.
pub trait Communicator<B: Backend> {
    /// What has been posted and not been waited for.
    type Ticket;

    /// This rank.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn size(&self) -> usize;

    /// Starts sending and receiving: all or nothing, without waiting. What is sent must not be
    /// written, and what is received into not be used, before [`wait`](Self::wait).
    ///
    /// # Errors
    ///
    /// [`Error::Communication`](crate::Error::Communication), with the first fault of any rank.
    fn post(
        &self,
        tag: Tag,
        sends: Vec<Parcel<B>>,
        receives: Vec<Parcel<B>>,
    ) -> Result<Self::Ticket>;

    /// Whether everything that a ticket receives has come, so that [`wait`](Self::wait) has nothing to
    /// wait for but others that take what is sent to them. Does not wait.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait), but for the deadline.
    fn test(&self, ticket: &mut Self::Ticket) -> Result<bool>;

    /// Waits until everything of a ticket was sent and received.
    ///
    /// # Errors
    ///
    /// [`Error::Communication`](crate::Error::Communication): a peer that is late or gone, or has
    /// sent something else.
    fn wait(&self, ticket: Self::Ticket) -> Result<()>;

    /// Gives every rank the bytes of all, in the order of ranks.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    fn gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Tells all ranks that this one cannot go on.
    fn abort(&self, reason: &str);
}

/// A borrowed way is one as well.
impl<B: Backend, C: Communicator<B>> Communicator<B> for &C {
    type Ticket = C::Ticket;

    fn rank(&self) -> usize {
        (**self).rank()
    }

    fn size(&self) -> usize {
        (**self).size()
    }

    fn post(
        &self,
        tag: Tag,
        sends: Vec<Parcel<B>>,
        receives: Vec<Parcel<B>>,
    ) -> Result<Self::Ticket> {
        (**self).post(tag, sends, receives)
    }

    fn test(&self, ticket: &mut Self::Ticket) -> Result<bool> {
        (**self).test(ticket)
    }

    fn wait(&self, ticket: Self::Ticket) -> Result<()> {
        (**self).wait(ticket)
    }

    fn gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        (**self).gather_bytes(bytes)
    }

    fn abort(&self, reason: &str) {
        (**self).abort(reason);
    }
}
