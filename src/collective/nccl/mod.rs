//! Ranks on GPUs of one machine or of several, by NCCL.

use std::ffi::{c_int, c_void};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::lines::without_gaps;
use super::reduce::gather_by_messages;
use super::{Communicator, DEADLINE, Fault, Lines, Parcel, Tag};
use crate::backend::cuda::{Cuda, Event, Stream};
use crate::tensor::View;
use crate::{Error, Result};

mod library;

use library::{BYTES, Config, Handle, IN_PROGRESS, SUCCESS, UniqueId};

/// The lanes that have a communicator of their own, since one would take them one after the other.
const LANES: usize = 2;

/// How often what is under way is asked for.
const PATIENCE: Duration = Duration::from_micros(20);

/// What tells the ranks of an [`Nccl`] that they belong together: made by one of them, and brought to
/// the others by whatever has started them.
#[derive(Clone, PartialEq, Eq)]
pub struct NcclId([u8; Self::BYTES]);

impl NcclId {
    /// Its bytes.
    pub const BYTES: usize = 128 * LANES;

    /// A new one.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where there is no NCCL on this machine, and what it says.
    pub fn new() -> Result<Self> {
        let nccl = library::find()?;
        let mut bytes = [0; Self::BYTES];
        for bytes in bytes.as_chunks_mut::<128>().0 {
            let mut id = UniqueId([0; 128]);
            // SAFETY: the pointer is valid for the call.
            let status = unsafe { (nccl.unique_id)(&raw mut id) };
            checked("ncclGetUniqueId", status).map_err(|fault| communication(0, fault))?;
            *bytes = id.0;
        }
        Ok(Self(bytes))
    }

    /// One that was brought here.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// To be brought elsewhere.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        self.0
    }

    fn of_lane(&self, lane: usize) -> UniqueId {
        UniqueId(self.0.as_chunks::<128>().0[lane])
    }
}

impl fmt::Debug for NcclId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NcclId(..)")
    }
}

/// A rank on a GPU, of a process of its own or not, on this machine or another. NCCL moves the
/// messages, by streams of their own, while the GPU computes. A wait asks again and again whether
/// they have come, for at most the deadline: what was queued before goes on meanwhile.
///
/// NCCL's messages carry no tags. That ranks mean the same is seen when a call begins and they tell
/// each other what they take it for; its messages follow from that.
///
/// ```no_run
/// use warpwright::backend::cuda::Cuda;
/// use warpwright::collective::{Communicator, Nccl, NcclId};
///
/// // Rank 0 makes the id; a file, a socket or MPI brings it to the others.
/// let (rank, size) = (0, 1);
/// let id = NcclId::new()?;
/// let ranks = Nccl::join(&Cuda::new(rank)?, &id, rank, size)?;
/// assert_eq!(ranks.size(), 1);
/// # Ok::<(), warpwright::Error>(())
/// ```
#[derive(Debug)]
pub struct Nccl {
    rank: usize,
    size: usize,
    device: Cuda,
    deadline: Option<Duration>,
    lanes: [Lane; LANES],
    /// What ended it.
    first: Mutex<Option<Error>>,
}

/// A communicator of NCCL's, and the stream that its messages are on.
#[derive(Debug)]
struct Lane {
    handle: Handle,
    stream: Stream,
}

// SAFETY: NCCL's communicators may be used by any thread, one at a time for each: `Nccl` is not
// `Sync`, since a rank belongs to one thread.
unsafe impl Send for Lane {}

/// What a rank of [`Nccl`] has posted.
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    tag: Tag,
    done: Event,
    peers: Vec<usize>,
    /// What is sent, which stays until it is done.
    _sends: Vec<View<Cuda>>,
    /// Where messages come to, and where they are wanted.
    receives: Vec<(View<Cuda>, View<Cuda>)>,
}

impl Nccl {
    /// Joins the ranks with this id. All of them make the call together.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where there is no NCCL on this machine; [`Error::Communication`] where
    /// others do not come within [`DEADLINE`], or NCCL refuses.
    pub fn join(device: &Cuda, id: &NcclId, rank: usize, size: usize) -> Result<Self> {
        let nccl = library::find()?;
        let (of_rank, of_size) = (count(rank)?, count(size)?);
        let lane = |lane: usize| -> Result<Lane> {
            // The GPU is that of the context that is current.
            device.stream().make_current()?;
            let (mut handle, mut config) = (std::ptr::null_mut(), Config::without_blocking());
            // SAFETY: the pointers are valid for the call.
            let status = unsafe {
                (nccl.init)(&raw mut handle, of_size, id.of_lane(lane), of_rank, &raw mut config)
            };
            started("ncclCommInitRankConfig", status)
                .map_err(|fault| communication(rank, fault))?;
            Ok(Lane { handle, stream: device.new_stream()? })
        };
        let joined = Self {
            lanes: [lane(0)?, lane(1)?],
            device: device.clone(),
            deadline: Some(DEADLINE),
            first: Mutex::new(None),
            rank,
            size,
        };
        let start = Instant::now();
        (0..LANES).try_for_each(|lane| joined.settled(lane, start, "joining", rank))?;
        Ok(joined)
    }

    /// With another time to wait for others; for ever where `None`.
    pub fn with_deadline(mut self, deadline: Option<Duration>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Nothing has gone wrong yet.
    fn check(&self) -> Result<()> {
        match &*self.first.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(first) => {
                Err(communication(self.rank, Fault::Poisoned { first: Box::new(first.clone()) }))
            }
        }
    }

    /// Ends the communicator here, which NCCL tells the others.
    fn fail(&self, fault: Fault) -> Error {
        let error = communication(self.rank, fault);
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() {
            *first = Some(error.clone());
            self.lanes.iter().for_each(Lane::abort);
        }
        error
    }

    /// The communicator of a lane has done what it was asked for, and nothing has gone wrong.
    fn settled(&self, lane: usize, start: Instant, at: &str, peer: usize) -> Result<()> {
        while self.lanes[lane].is_busy().map_err(|fault| self.fail(fault))? {
            self.patience(start, at, peer)?;
        }
        Ok(())
    }

    /// Waits a moment, if there is time.
    fn patience(&self, start: Instant, at: &str, peer: usize) -> Result<()> {
        let elapsed = start.elapsed();
        if self.deadline.is_some_and(|deadline| elapsed >= deadline) {
            let fault = Fault::PeerTimeout { peer, at: at.to_owned(), elapsed };
            return Err(self.fail(fault));
        }
        thread::sleep(PATIENCE);
        Ok(())
    }

    /// Queues messages as one group.
    fn queue(
        &self,
        lane: usize,
        sends: &[(usize, View<Cuda>)],
        receives: &[(usize, View<Cuda>)],
    ) -> Result<(), Fault> {
        let nccl = found()?;
        let Lane { handle, stream } = &self.lanes[lane];
        let stream = stream.handle().0 as *mut c_void;
        // SAFETY: a group is begun and ended by this thread.
        checked("ncclGroupStart", unsafe { (nccl.group_start)() })?;
        let mut queued = Ok(());
        for (peer, view) in sends {
            let (address, bytes) = memory(view);
            // SAFETY: the memory is that of a tensor, which the ticket keeps; the stream is alive.
            let status =
                unsafe { (nccl.send)(address, bytes, BYTES, *peer as c_int, *handle, stream) };
            queued = queued.and(started("ncclSend", status));
        }
        for (peer, view) in receives {
            let (address, bytes) = memory(view);
            // SAFETY: as above.
            let status = unsafe {
                (nccl.receive)(address.cast_mut(), bytes, BYTES, *peer as c_int, *handle, stream)
            };
            queued = queued.and(started("ncclRecv", status));
        }
        // SAFETY: as above; a group is ended whatever has happened in it.
        let ended = started("ncclGroupEnd", unsafe { (nccl.group_end)() });
        queued.and(ended)
    }
}

impl Communicator<Cuda> for Nccl {
    type Ticket = Ticket;

    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn post(
        &self,
        tag: Tag,
        sends: Vec<Parcel<Cuda>>,
        receives: Vec<Parcel<Cuda>>,
    ) -> Result<Ticket> {
        self.check()?;
        let all = || sends.iter().chain(&receives);
        if let Some(parcel) = all().find(|parcel| parcel.peer >= self.size) {
            let expected = format!("a rank below {}", self.size);
            return Err(super::lines::CHECK.wrong_option(
                "peer",
                &expected,
                &parcel.peer.to_string(),
            ));
        }
        let peers = all().map(|parcel| parcel.peer).collect();
        let parts = |parcels: &[Parcel<Cuda>]| -> Vec<(usize, View<Cuda>)> {
            let parts = |parcel: &Parcel<Cuda>| {
                let peer = parcel.peer;
                parcel.parts.iter().map(move |part| (peer, part.clone())).collect::<Vec<_>>()
            };
            parcels.iter().flat_map(parts).filter(|(_, part)| part.elements() > 0).collect()
        };
        let packed = |(peer, part): (usize, View<Cuda>)| Ok((peer, without_gaps(&part)?));
        let sends: Vec<_> = parts(&sends).into_iter().map(packed).collect::<Result<_>>()?;
        let receives = parts(&receives);
        let room = |(peer, part): &(usize, View<Cuda>)| match part.is_contiguous() {
            true => Ok((*peer, part.clone())),
            false => Ok((*peer, View::new(&self.device, part.dtype(), part.shape())?)),
        };
        let rooms: Vec<_> = receives.iter().map(room).collect::<Result<_>>()?;

        let lane = usize::from(tag.lane.0) % LANES;
        let stream = &self.lanes[lane].stream;
        stream.wait_for(&self.device.stream().record()?)?;
        self.queue(lane, &sends, &rooms).map_err(|fault| self.fail(fault))?;
        self.settled(lane, Instant::now(), &tag.to_string(), self.rank)?;
        let receives = rooms.into_iter().zip(receives).map(|((_, room), (_, part))| (room, part));
        Ok(Ticket {
            tag,
            done: stream.record()?,
            peers,
            _sends: sends.into_iter().map(|(_, part)| part).collect(),
            receives: receives.collect(),
        })
    }

    fn test(&self, ticket: &mut Ticket) -> Result<bool> {
        self.check()?;
        let lane = usize::from(ticket.tag.lane.0) % LANES;
        self.lanes[lane].is_busy().map_err(|fault| self.fail(fault))?;
        ticket.done.is_done()
    }

    fn wait(&self, ticket: Ticket) -> Result<()> {
        self.check()?;
        let (lane, start) = (usize::from(ticket.tag.lane.0) % LANES, Instant::now());
        let peer = ticket.peers.first().copied().unwrap_or(self.rank);
        while !ticket.done.is_done()? {
            self.lanes[lane].is_busy().map_err(|fault| self.fail(fault))?;
            self.patience(start, &ticket.tag.to_string(), peer)?;
        }
        self.device.stream().wait_for(&ticket.done)?;
        let strided = ticket.receives.iter().filter(|(_, part)| !part.is_contiguous());
        strided.into_iter().try_for_each(|(room, part)| self.device.copy_lines(room, part))
    }

    /// Messages carry no tags, nor do meetings need them.
    fn gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        gather_by_messages(self, &self.device, (0, 0), bytes)
    }

    fn abort(&self, reason: &str) {
        self.fail(Fault::Aborted { peer: self.rank, reason: reason.to_owned() });
    }
}

impl Lane {
    /// Whether something is under way.
    fn is_busy(&self) -> Result<bool, Fault> {
        let mut status = SUCCESS;
        // SAFETY: the communicator is alive, and the pointer valid for the call.
        checked("ncclCommGetAsyncError", unsafe {
            (found()?.async_error)(self.handle, &raw mut status)
        })?;
        started("an operation of NCCL", status)?;
        Ok(status == IN_PROGRESS)
    }

    /// Ends the communicator, and what is under way with it, so that nobody touches the memory of its
    /// messages any more. There is nobody to tell of an error.
    fn abort(&self) {
        if let Ok(nccl) = found() {
            // SAFETY: this is done once, and nothing uses the communicator afterwards.
            let _ = unsafe { (nccl.abort)(self.handle) };
        }
        let _ = self.stream.synchronise();
    }
}

/// A rank that leaves gives its communicators back, when they have done what they were asked for.
impl Drop for Nccl {
    fn drop(&mut self) {
        if self.check().is_ok()
            && let Ok(nccl) = found()
        {
            for lane in &self.lanes {
                // SAFETY: nothing uses the communicator afterwards. There is nobody to tell of an
                // error.
                let _ = unsafe { (nccl.destroy)(lane.handle) };
            }
        }
    }
}

/// The library, which has been found before.
fn found() -> Result<&'static library::Nccl, Fault> {
    library::find().map_err(|error| Fault::Transport { call: "NCCL", reason: error.to_string() })
}

/// A call that has done what it was asked for.
fn checked(call: &'static str, status: c_int) -> Result<(), Fault> {
    match status {
        SUCCESS => Ok(()),
        _ => Err(Fault::Transport { call, reason: found()?.meaning(status) }),
    }
}

/// A call that has done, or does, what it was asked for.
fn started(call: &'static str, status: c_int) -> Result<(), Fault> {
    if status == IN_PROGRESS { Ok(()) } else { checked(call, status) }
}

fn communication(rank: usize, fault: Fault) -> Error {
    Error::Communication { rank, fault }
}

/// A number of ranks as NCCL counts them.
fn count(ranks: usize) -> Result<c_int> {
    c_int::try_from(ranks).map_err(|_| {
        super::lines::CHECK.wrong_option("ranks", "a number of 31 bits", &ranks.to_string())
    })
}

/// The memory of a tensor without gaps.
fn memory(view: &View<Cuda>) -> (*const c_void, usize) {
    let address = view.buffer().address() + view.offset();
    (address as *const c_void, view.elements() * view.dtype().bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With NCCL on the machine an id is made; without it the error says what to do.
    #[test]
    fn an_id_is_made_where_there_is_nccl() {
        match NcclId::new() {
            Ok(id) => {
                assert_eq!(NcclId::from_bytes(id.to_bytes()), id);
                assert_ne!(NcclId::new().unwrap(), id);
            }
            Err(Error::Unavailable { device, reason, .. }) => {
                assert_eq!(device, "nccl");
                assert!(reason.contains("NCCL"), "{reason}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}
