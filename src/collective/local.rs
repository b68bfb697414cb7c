//! Ranks that are threads of one process: a mailbox, whatever carries what lies in it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::carrier::{Carrier, OneDevice};
use super::fault::told;
use super::lines::CHECK;
use super::{Cause, Communicator, DEADLINE, Fault, Lane, Lines, Parcel, Tag};
use crate::backend::Backend;
use crate::tensor::View;
use crate::{Error, Result};

/// A rank that is a thread. All ranks share a device, unless another [`Carrier`] gets messages from
/// one to the other. A message is copied once, from where it lies to where it is wanted, by the
/// receiver while it waits.
#[derive(Debug)]
pub struct Local<B: Backend, C: Carrier<B> = OneDevice> {
    rank: usize,
    deadline: Option<Duration>,
    carrier: C,
    shared: Arc<Shared<B, C::Mark>>,
    /// Meetings that this rank has been to.
    meetings: AtomicU64,
}

#[derive(Debug)]
struct Shared<B: Backend, M> {
    size: usize,
    state: Mutex<State<B, M>>,
    changed: Condvar,
}

/// The way of messages from one rank to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Way {
    from: usize,
    to: usize,
    lane: Lane,
}

#[derive(Debug)]
struct State<B: Backend, M> {
    /// What ended it.
    first: Option<Error>,
    gone: Vec<Option<Cause>>,
    ways: HashMap<Way, Mail<B, M>>,
    /// Messages that are being carried, by where they lie.
    in_hand: Vec<usize>,
    /// What ranks have told all others, by the number of the meeting.
    meetings: BTreeMap<u64, Meeting>,
    /// Ranks that want to begin anew.
    resetting: Vec<bool>,
    /// How often all have begun anew.
    resets: u64,
}

/// Messages on their way, how many there were, and when what was taken has been carried.
#[derive(Debug)]
struct Mail<B: Backend, M> {
    letters: VecDeque<Letter<B, M>>,
    posted: u64,
    taken: u64,
    carried: HashMap<u64, M>,
}

impl<B: Backend, M> Default for Mail<B, M> {
    fn default() -> Self {
        Self { letters: VecDeque::new(), posted: 0, taken: 0, carried: HashMap::new() }
    }
}

#[derive(Debug)]
struct Letter<B: Backend, M> {
    tag: Tag,
    parts: Vec<View<B>>,
    /// When it is written.
    ready: M,
}

#[derive(Debug)]
struct Meeting {
    said: Vec<Option<Vec<u8>>>,
    /// Ranks that have not heard it yet.
    listeners: usize,
}

/// What a rank of [`Local`] has posted.
#[derive(Debug)]
#[must_use]
pub struct Ticket<B: Backend, M> {
    tag: Tag,
    sends: Vec<Outgoing<B>>,
    receives: Vec<Incoming<B>>,
    /// When the places of what is received are free.
    ready: M,
}

/// Which message of a way it is, and where it lies until it was carried.
#[derive(Debug)]
struct Outgoing<B: Backend> {
    way: Way,
    number: u64,
    _parts: Vec<View<B>>,
}

/// Where a message is to lie, and where it is carried to.
#[derive(Debug)]
struct Incoming<B: Backend> {
    parcel: Parcel<B>,
    room: Vec<View<B>>,
}

impl<B: Lines> Local<B> {
    /// So many ranks on one device, each to be moved to a thread of its own.
    pub fn group(size: usize) -> Vec<Self> {
        Self::carried((0..size).map(|_| OneDevice).collect())
    }

    /// Runs every rank in a thread, and gives what they gave. A panic of a rank is an error of the
    /// others, and goes on here when all have ended.
    pub fn run<R: Send>(size: usize, rank: impl Fn(Self) -> Result<R> + Sync) -> Vec<Result<R>> {
        Self::run_all(Self::group(size), rank)
    }
}

impl<B: Lines, C: Carrier<B>> Local<B, C> {
    /// Ranks whose messages these carry.
    pub(super) fn carried(carriers: Vec<C>) -> Vec<Self> {
        let size = carriers.len();
        let state = State {
            first: None,
            gone: vec![None; size],
            ways: HashMap::new(),
            in_hand: vec![0; size],
            meetings: BTreeMap::new(),
            resetting: vec![false; size],
            resets: 0,
        };
        let changed = Condvar::new();
        let shared = Arc::new(Shared { size, state: Mutex::new(state), changed });
        let one = |(rank, carrier)| Self {
            rank,
            deadline: Some(DEADLINE),
            carrier,
            shared: Arc::clone(&shared),
            meetings: AtomicU64::new(0),
        };
        carriers.into_iter().enumerate().map(one).collect()
    }

    /// What carries this rank's messages.
    #[cfg(feature = "cuda")]
    pub(super) fn carrier(&self) -> &C {
        &self.carrier
    }

    /// Runs these ranks, each in a thread.
    pub(super) fn run_all<R: Send>(
        group: Vec<Self>,
        rank: impl Fn(Self) -> Result<R> + Sync,
    ) -> Vec<Result<R>> {
        let rank = &rank;
        thread::scope(|scope| {
            let threads: Vec<_> =
                group.into_iter().map(|own| scope.spawn(move || rank(own))).collect();
            let ends: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
            let ends = ends.into_iter();
            ends.map(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        })
    }

    /// With another time to wait for others; for ever where `None`.
    pub fn with_deadline(mut self, deadline: Option<Duration>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Begins anew after an error, when all ranks do.
    ///
    /// # Errors
    ///
    /// [`Error::Communication`] where a rank is late or gone.
    pub fn reset(&self) -> Result<()> {
        let mut state = self.state();
        let before = state.resets;
        state.resetting[self.rank] = true;
        if state.resetting.iter().all(|&resets| resets) {
            state.first = None;
            state.ways.clear();
            state.meetings.clear();
            state.resetting.fill(false);
            state.resets += 1;
            self.shared.changed.notify_all();
        }
        let start = Instant::now();
        while state.resets == before {
            if let Some(peer) = (0..self.shared.size).find(|&peer| !state.resetting[peer]) {
                state = self.patience(state, peer, start, "a reset")?;
            }
        }
        drop(state);
        self.meetings.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State<B, C::Mark>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, fault: Fault) -> Error {
        Error::Communication { rank: self.rank, fault }
    }

    /// Ends the communicator for all.
    fn fail(&self, state: &mut State<B, C::Mark>, error: Error) -> Error {
        state.first.get_or_insert_with(|| error.clone());
        self.shared.changed.notify_all();
        error
    }

    /// Nothing has gone wrong yet.
    fn check(&self, state: &State<B, C::Mark>) -> Result<()> {
        match &state.first {
            None => Ok(()),
            Some(first) => Err(self.error(Fault::Poisoned { first: Box::new(first.clone()) })),
        }
    }

    /// Waits for something to change; not for a peer that is gone, and not longer than the deadline.
    fn patience<'a>(
        &self,
        mut state: MutexGuard<'a, State<B, C::Mark>>,
        peer: usize,
        start: Instant,
        at: &str,
    ) -> Result<MutexGuard<'a, State<B, C::Mark>>> {
        if let Some(cause) = state.gone[peer] {
            let fault = Fault::PeerFailed { peer, cause };
            return Err(self.fail(&mut state, self.error(fault)));
        }
        let elapsed = start.elapsed();
        let left = match self.deadline {
            None => Duration::from_secs(3600),
            Some(deadline) => match deadline.checked_sub(elapsed) {
                Some(left) if !left.is_zero() => left,
                _ => {
                    let fault = Fault::PeerTimeout { peer, at: at.to_owned(), elapsed };
                    return Err(self.fail(&mut state, self.error(fault)));
                }
            },
        };
        let waited = self.shared.changed.wait_timeout(state, left);
        Ok(waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// The next message of a way, when it comes, and its number. It is in hand then.
    fn take(&self, way: Way, tag: &Tag) -> Result<(Letter<B, C::Mark>, u64)> {
        let start = Instant::now();
        let mut state = self.state();
        loop {
            self.check(&state)?;
            if let Some(mail) = state.ways.get_mut(&way)
                && let Some(letter) = mail.letters.pop_front()
            {
                mail.taken += 1;
                let number = mail.taken - 1;
                state.in_hand[way.from] += 1;
                return Ok((letter, number));
            }
            state = self.patience(state, way.from, start, &tag.to_string())?;
        }
    }

    fn receive(&self, tag: &Tag, receive: &Incoming<B>, ready: &C::Mark) -> Result<()> {
        let way = Way { from: receive.parcel.peer, to: self.rank, lane: tag.lane };
        let (letter, number) = self.take(way, tag)?;
        let carried = self.carry(tag, letter, receive, ready);
        let mut state = self.state();
        state.in_hand[way.from] -= 1;
        let carried = match carried {
            Ok(carried) => carried,
            Err(error) => return Err(self.fail(&mut state, error)),
        };
        if let Some(mail) = state.ways.get_mut(&way) {
            mail.carried.insert(number, carried);
        }
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Carries a message to its place. It is given back before the sender hears of it, which thus
    /// is the last to hold it.
    fn carry(
        &self,
        tag: &Tag,
        letter: Letter<B, C::Mark>,
        receive: &Incoming<B>,
        ready: &C::Mark,
    ) -> Result<C::Mark> {
        let Incoming { parcel, room } = receive;
        let sent = Parcel { peer: parcel.peer, parts: letter.parts };
        let fits = |(from, to): (&View<B>, &View<B>)| {
            from.dtype() == to.dtype() && from.shape() == to.shape()
        };
        let same = letter.tag == *tag
            && sent.parts.len() == parcel.parts.len()
            && sent.parts.iter().zip(&parcel.parts).all(fits);
        if !same {
            let expected = told(tag, parcel.bytes());
            let found = told(&letter.tag, sent.bytes());
            let fault = Fault::MessageMismatch { peer: parcel.peer, expected, found };
            return Err(self.error(fault));
        }
        let parts = sent.parts.iter().zip(room);
        let carried = self.carrier.carry(tag.lane, parts, [&letter.ready, ready])?;
        self.carrier.after(&carried)?;
        for (from, to) in room.iter().zip(&parcel.parts) {
            self.carrier.unpack(from, to)?;
        }
        Ok(carried)
    }

    /// Waits until a message was taken, and orders what follows behind its copy.
    fn sent(&self, tag: &Tag, send: &Outgoing<B>) -> Result<()> {
        let Outgoing { way, number, .. } = *send;
        let start = Instant::now();
        let mut state = self.state();
        loop {
            let mail = state.ways.get_mut(&way);
            if let Some(carried) = mail.and_then(|mail| mail.carried.remove(&number)) {
                drop(state);
                return self.carrier.after(&carried);
            }
            self.check(&state)?;
            state = self.patience(state, way.to, start, &tag.to_string())?;
        }
    }

    /// Nobody touches this rank's memory any more, after an error: what others have in hand of it is
    /// carried, which takes them no time.
    fn settle(&self) -> Result<()> {
        let mut state = self.state();
        while state.in_hand[self.rank] > 0 {
            let waited = self.shared.changed.wait_timeout(state, SETTLING);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        self.carrier.settle()
    }
}

/// How often a rank looks whether others have carried what they have in hand.
const SETTLING: Duration = Duration::from_millis(10);

impl<B: Lines, C: Carrier<B>> Communicator<B> for Local<B, C> {
    type Ticket = Ticket<B, C::Mark>;

    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.size
    }

    fn post(
        &self,
        tag: Tag,
        sends: Vec<Parcel<B>>,
        receives: Vec<Parcel<B>>,
    ) -> Result<Self::Ticket> {
        let size = self.shared.size;
        if let Some(parcel) = sends.iter().chain(&receives).find(|parcel| parcel.peer >= size) {
            let expected = format!("a rank below {size}");
            return Err(CHECK.wrong_option("peer", &expected, &parcel.peer.to_string()));
        }
        self.check(&self.state())?;
        let packed = |parcel: Parcel<B>| -> Result<Parcel<B>> {
            let parts = parcel.parts.iter().map(|part| self.carrier.pack(part));
            Ok(Parcel { peer: parcel.peer, parts: parts.collect::<Result<_>>()? })
        };
        let sends: Vec<Parcel<B>> = sends.into_iter().map(packed).collect::<Result<_>>()?;
        let with_room = |parcel: Parcel<B>| -> Result<Incoming<B>> {
            let room = parcel.parts.iter().map(|part| self.carrier.room(part));
            Ok(Incoming { room: room.collect::<Result<_>>()?, parcel })
        };
        let receives = receives.into_iter().map(with_room).collect::<Result<_>>()?;
        let ready = self.carrier.mark()?;
        let mut state = self.state();
        self.check(&state)?;
        let posted = sends.into_iter().map(|Parcel { peer, parts }| {
            let way = Way { from: self.rank, to: peer, lane: tag.lane };
            let mail = state.ways.entry(way).or_default();
            let letter = Letter { tag, parts: parts.clone(), ready: ready.clone() };
            mail.letters.push_back(letter);
            mail.posted += 1;
            Outgoing { way, number: mail.posted - 1, _parts: parts }
        });
        let sends = posted.collect();
        self.shared.changed.notify_all();
        Ok(Ticket { tag, sends, receives, ready })
    }

    fn test(&self, ticket: &mut Self::Ticket) -> Result<bool> {
        let state = self.state();
        self.check(&state)?;
        let mut awaited: HashMap<Way, usize> = HashMap::new();
        for Incoming { parcel, .. } in &ticket.receives {
            let way = Way { from: parcel.peer, to: self.rank, lane: ticket.tag.lane };
            *awaited.entry(way).or_default() += 1;
        }
        let come = |way: &Way| state.ways.get(way).map_or(0, |mail| mail.letters.len());
        Ok(awaited.iter().all(|(way, &count)| come(way) >= count))
    }

    fn wait(&self, ticket: Self::Ticket) -> Result<()> {
        let Ticket { tag, sends, receives, ready } = &ticket;
        let received = receives.iter().try_for_each(|receive| self.receive(tag, receive, ready));
        let done = received.and_then(|()| sends.iter().try_for_each(|send| self.sent(tag, send)));
        done.inspect_err(|_| {
            // The first error is the one to tell of.
            let _ = self.settle();
        })
    }

    fn gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let number = self.meetings.fetch_add(1, Ordering::Relaxed);
        let size = self.shared.size;
        let start = Instant::now();
        let mut state = self.state();
        self.check(&state)?;
        let new = || Meeting { said: vec![None; size], listeners: size };
        state.meetings.entry(number).or_insert_with(new).said[self.rank] = Some(bytes.to_vec());
        self.shared.changed.notify_all();
        loop {
            // A meeting that has ended has ended for all, also where some do not like what they heard.
            let missing = match state.meetings.get_mut(&number) {
                Some(meeting) => match meeting.said.iter().position(Option::is_none) {
                    Some(peer) => peer,
                    None => {
                        let said = meeting.said.iter().flatten().cloned().collect();
                        meeting.listeners -= 1;
                        if meeting.listeners == 0 {
                            state.meetings.remove(&number);
                        }
                        return Ok(said);
                    }
                },
                None => self.rank,
            };
            self.check(&state)?;
            state = self.patience(state, missing, start, &format!("meeting {number}"))?;
        }
    }

    fn abort(&self, reason: &str) {
        let fault = Fault::Aborted { peer: self.rank, reason: reason.to_owned() };
        self.fail(&mut self.state(), self.error(fault));
    }
}

/// A rank that leaves is told to those that wait for it.
impl<B: Backend, C: Carrier<B>> Drop for Local<B, C> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let cause = if thread::panicking() { Cause::Panicked } else { Cause::Left };
        state.gone[self.rank] = Some(cause);
        self.shared.changed.notify_all();
    }
}
