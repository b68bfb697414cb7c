//! Ranks that are threads of one process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::fault::told;
use super::lines::CHECK;
use super::{Cause, Communicator, DEADLINE, Fault, Lane, Lines, Parcel, Tag};
use crate::backend::Backend;
use crate::tensor::View;
use crate::{Error, Result};

/// A rank that is a thread: all ranks share a device. A message is copied once, from where it lies
/// to where it is wanted, by the receiver while it waits.
#[derive(Debug)]
pub struct Local<B: Backend> {
    rank: usize,
    deadline: Option<Duration>,
    shared: Arc<Shared<B>>,
    /// Meetings that this rank has been to.
    meetings: AtomicU64,
}

#[derive(Debug)]
struct Shared<B: Backend> {
    size: usize,
    state: Mutex<State<B>>,
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
struct State<B: Backend> {
    /// What ended it.
    first: Option<Error>,
    gone: Vec<Option<Cause>>,
    ways: HashMap<Way, Mail<B>>,
    /// What ranks have told all others, by the number of the meeting.
    meetings: BTreeMap<u64, Meeting>,
    /// Ranks that want to begin anew.
    resetting: Vec<bool>,
    /// How often all have begun anew.
    resets: u64,
}

/// Messages on their way, and how many there were.
#[derive(Debug)]
struct Mail<B: Backend> {
    letters: VecDeque<Letter<B>>,
    posted: u64,
    taken: u64,
}

#[derive(Debug)]
struct Letter<B: Backend> {
    tag: Tag,
    parts: Vec<View<B>>,
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
pub struct Ticket<B: Backend> {
    tag: Tag,
    /// Which message of a way each send is.
    sends: Vec<(Way, u64)>,
    receives: Vec<Parcel<B>>,
}

impl<B: Lines> Local<B> {
    /// So many ranks, each to be moved to a thread of its own.
    pub fn group(size: usize) -> Vec<Self> {
        let state = State {
            first: None,
            gone: vec![None; size],
            ways: HashMap::new(),
            meetings: BTreeMap::new(),
            resetting: vec![false; size],
            resets: 0,
        };
        let changed = Condvar::new();
        let shared = Arc::new(Shared { size, state: Mutex::new(state), changed });
        let one = |rank| Self {
            rank,
            deadline: Some(DEADLINE),
            shared: Arc::clone(&shared),
            meetings: AtomicU64::new(0),
        };
        (0..size).map(one).collect()
    }

    /// Runs every rank in a thread, and gives what they gave. A panic of a rank is an error of the
    /// others, and goes on here when all have ended.
    pub fn run<R: Send>(size: usize, rank: impl Fn(Self) -> Result<R> + Sync) -> Vec<Result<R>> {
        let rank = &rank;
        thread::scope(|scope| {
            let threads: Vec<_> =
                Self::group(size).into_iter().map(|own| scope.spawn(move || rank(own))).collect();
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

    fn state(&self) -> MutexGuard<'_, State<B>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, fault: Fault) -> Error {
        Error::Communication { rank: self.rank, fault }
    }

    /// Ends the communicator for all.
    fn fail(&self, state: &mut State<B>, error: Error) -> Error {
        state.first.get_or_insert_with(|| error.clone());
        self.shared.changed.notify_all();
        error
    }

    /// Nothing has gone wrong yet.
    fn check(&self, state: &State<B>) -> Result<()> {
        match &state.first {
            None => Ok(()),
            Some(first) => Err(self.error(Fault::Poisoned { first: Box::new(first.clone()) })),
        }
    }

    /// Waits for something to change; not for a peer that is gone, and not longer than the deadline.
    fn patience<'a>(
        &self,
        mut state: MutexGuard<'a, State<B>>,
        peer: usize,
        start: Instant,
        at: &str,
    ) -> Result<MutexGuard<'a, State<B>>> {
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

    /// The next message of a way, when it comes.
    fn take(&self, way: Way, tag: &Tag) -> Result<Letter<B>> {
        let start = Instant::now();
        let mut state = self.state();
        loop {
            self.check(&state)?;
            let mail = state.ways.get_mut(&way);
            if let Some(letter) = mail.and_then(|mail| mail.letters.pop_front()) {
                return Ok(letter);
            }
            state = self.patience(state, way.from, start, &tag.to_string())?;
        }
    }

    fn receive(&self, tag: &Tag, parcel: &Parcel<B>) -> Result<()> {
        let way = Way { from: parcel.peer, to: self.rank, lane: tag.lane };
        let letter = self.take(way, tag)?;
        let sent = Parcel { peer: parcel.peer, parts: letter.parts };
        let fits = |(from, to): (&View<B>, &View<B>)| {
            from.dtype() == to.dtype() && from.shape() == to.shape()
        };
        let same = letter.tag == *tag
            && sent.parts.len() == parcel.parts.len()
            && sent.parts.iter().zip(&parcel.parts).all(fits);
        if !same {
            let fault = Fault::MessageMismatch {
                peer: parcel.peer,
                expected: told(tag, parcel.bytes()),
                found: told(&letter.tag, sent.bytes()),
            };
            return Err(self.fail(&mut self.state(), self.error(fault)));
        }
        for (from, to) in sent.parts.iter().zip(&parcel.parts) {
            let copied = to.backend().copy_lines(from, to);
            copied.map_err(|error| self.fail(&mut self.state(), error))?;
        }
        let mut state = self.state();
        if let Some(mail) = state.ways.get_mut(&way) {
            mail.taken += 1;
        }
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Waits until a message was taken.
    fn sent(&self, tag: &Tag, way: Way, number: u64) -> Result<()> {
        let start = Instant::now();
        let mut state = self.state();
        loop {
            if state.ways.get(&way).is_some_and(|mail| mail.taken > number) {
                return Ok(());
            }
            self.check(&state)?;
            state = self.patience(state, way.to, start, &tag.to_string())?;
        }
    }
}

impl<B: Lines> Communicator<B> for Local<B> {
    type Ticket = Ticket<B>;

    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.size
    }

    fn post(&self, tag: Tag, sends: Vec<Parcel<B>>, receives: Vec<Parcel<B>>) -> Result<Ticket<B>> {
        let size = self.shared.size;
        if let Some(parcel) = sends.iter().chain(&receives).find(|parcel| parcel.peer >= size) {
            let expected = format!("a rank below {size}");
            return Err(CHECK.wrong_option("peer", &expected, &parcel.peer.to_string()));
        }
        let mut state = self.state();
        self.check(&state)?;
        let posted = sends.into_iter().map(|Parcel { peer, parts }| {
            let way = Way { from: self.rank, to: peer, lane: tag.lane };
            let empty = || Mail { letters: VecDeque::new(), posted: 0, taken: 0 };
            let mail = state.ways.entry(way).or_insert_with(empty);
            mail.letters.push_back(Letter { tag, parts });
            mail.posted += 1;
            (way, mail.posted - 1)
        });
        let sends = posted.collect();
        self.shared.changed.notify_all();
        Ok(Ticket { tag, sends, receives })
    }

    fn wait(&self, ticket: Ticket<B>) -> Result<()> {
        let Ticket { tag, sends, receives } = ticket;
        receives.iter().try_for_each(|parcel| self.receive(&tag, parcel))?;
        sends.into_iter().try_for_each(|(way, number)| self.sent(&tag, way, number))
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
impl<B: Backend> Drop for Local<B> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let cause = if thread::panicking() { Cause::Panicked } else { Cause::Left };
        state.gone[self.rank] = Some(cause);
        self.shared.changed.notify_all();
    }
}
