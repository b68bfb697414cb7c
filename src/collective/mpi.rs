//! Ranks that are processes, which `mpirun` has started.

use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mpi::Threading;
use mpi::environment::Universe;

use super::fault::told;
use super::lines::CHECK;
use super::{Communicator, DEADLINE, Fault, Lane, Lines, Parcel, Tag};
use crate::backend::Cpu;
use crate::tensor::View;
use crate::{Error, Result};

mod raw;

use raw::{MOST_BYTES, Request, World};

/// Tags of MPI's world: those of a program that has messages of its own must be others.
const TAGS: c_int = 0x5700;

/// That a rank has given up.
const GIVEN_UP: c_int = TAGS - 1;

/// What all tell all: heads and contents.
const MEETING: [c_int; 2] = [TAGS - 3, TAGS - 2];

/// Most bytes of a reason to give up: so few are sent before anybody asks for them.
const REASON: usize = 1024;

/// How long the others may take to notice that one has given up.
const NOTICE: Duration = Duration::from_secs(1);

/// How long a rank sleeps between looks at what has come, when nothing has for a while.
const NAP: Duration = Duration::from_micros(50);

/// A rank that is a process of MPI's world, on the CPU. Tensors are packed into messages and put in
/// their places when these have come; all is non-blocking, and looked at again and again until the
/// deadline. MPI's errors are returned.
///
/// MPI is initialised by [`world`](Self::world) where it is not yet, and finalised when the rank is
/// dropped; not after a fault, for finalising waits for all: then [`end`](Self::end) ends the job.
///
/// ```no_run
/// use warpwright::collective::{Communicator, Mpi, barrier};
///
/// let ranks = Mpi::world()?;
/// if let Err(error) = barrier(&ranks) {
///     eprintln!("{error}");
///     ranks.end(1);
/// }
/// println!("rank {} of {}", ranks.rank(), ranks.size());
/// # Ok::<(), warpwright::Error>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct Mpi {
    world: World,
    deadline: Cell<Option<Duration>>,
    state: RefCell<State>,
    /// MPI, where it was initialised here.
    universe: Option<Finalised>,
}

#[derive(Debug)]
struct State {
    /// What ended it.
    first: Option<Error>,
    /// Receives that another has given up.
    ear: Option<Request>,
    /// Meetings that this rank has been to.
    meetings: u64,
}

/// MPI, which is finalised when this is dropped.
struct Finalised(#[allow(dead_code)] Universe);

impl std::fmt::Debug for Finalised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Universe")
    }
}

/// What a message says before its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    tag: Tag,
    /// Of element types and shapes.
    form: u64,
    bytes: u64,
}

/// Bytes of a head.
const HEAD: usize = 29;

impl Head {
    fn of(tag: Tag, parcel: &Parcel<Cpu>) -> Self {
        let mut hasher = DefaultHasher::new();
        for part in &parcel.parts {
            (part.dtype().name(), &part.shape()[..]).hash(&mut hasher);
        }
        Self { tag, form: hasher.finish(), bytes: parcel.bytes() }
    }

    /// Of what a rank says in a meeting.
    fn of_meeting(number: u64, bytes: usize) -> Self {
        let tag = Tag { call: number, step: 0, lane: Lane(0) };
        Self { tag, form: 0, bytes: bytes as u64 }
    }

    fn to_bytes(self) -> Vec<u8> {
        let Self { tag: Tag { call, step, lane }, form, bytes } = self;
        let mut head = Vec::with_capacity(HEAD);
        for number in [call, form, bytes] {
            head.extend(number.to_le_bytes());
        }
        head.extend(step.to_le_bytes());
        head.push(lane.0);
        head
    }

    /// What came, which has the length of a head.
    fn read(head: &[u8]) -> Self {
        let byte = |i: usize| u64::from(head.get(i).copied().unwrap_or(0));
        let number = |from: usize, count: usize| {
            (0..count).rev().fold(0, |number, i| number << 8 | byte(from + i))
        };
        let (step, lane) = (number(24, 4) as u32, Lane(byte(28) as u8));
        Self {
            tag: Tag { call: number(0, 8), step, lane },
            form: number(8, 8),
            bytes: number(16, 8),
        }
    }

    fn told(&self, other: &Self) -> String {
        let told = told(&self.tag, self.bytes);
        match (self.tag, self.bytes) == (other.tag, other.bytes) {
            true => format!("{told} in other shapes or types"),
            false => told,
        }
    }
}

/// A message of a peer: its head, and its contents as far as they are asked for.
#[derive(Debug)]
struct Coming {
    peer: usize,
    head: Request,
    contents: Vec<Request>,
}

impl Coming {
    /// Its head, once it is there.
    fn head(&mut self) -> Result<Option<Head>, Fault> {
        Ok(self.head.test()?.then(|| Head::read(self.head.bytes())))
    }

    fn contents(&self) -> Vec<u8> {
        self.contents.iter().flat_map(|part| part.bytes()).copied().collect()
    }
}

/// Whether all have ended.
fn all_ended(requests: &mut [Request]) -> Result<bool, Fault> {
    requests.iter_mut().try_fold(true, |all, request| Ok(request.test()? && all))
}

/// A peer whose message has not come yet.
fn missing(tag: Tag, receives: &mut [(Parcel<Cpu>, Coming)]) -> Result<Option<usize>, Fault> {
    let mut late = None;
    for (parcel, coming) in receives {
        // Contents are looked at when their head is the right one: others may be longer.
        let is_there = match coming.head()? {
            None => false,
            Some(found) => {
                expect(coming.peer, Head::of(tag, parcel), found)?;
                all_ended(&mut coming.contents)?
            }
        };
        late = late.or((!is_there).then_some(coming.peer));
    }
    Ok(late)
}

/// What has come is what was expected.
fn expect(peer: usize, expected: Head, found: Head) -> Result<(), Fault> {
    match expected == found {
        true => Ok(()),
        false => Err(Fault::MessageMismatch {
            peer,
            expected: told(&expected.tag, expected.bytes),
            found: found.told(&expected),
        }),
    }
}

/// What a rank of [`Mpi`] has posted.
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    tag: Tag,
    sends: Vec<(usize, Vec<Request>)>,
    receives: Vec<(Parcel<Cpu>, Coming)>,
}

/// Whether this process has a rank.
static TAKEN: AtomicBool = AtomicBool::new(false);

impl Mpi {
    /// This process, among all of the job.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where the process has one already, or MPI does not allow its threads
    /// to call it in turns; [`Error::Communication`] where MPI refuses a call.
    pub fn world() -> Result<Self> {
        let refuse = |reason: &str| Error::Unavailable {
            device: "mpi".to_owned(),
            reason: reason.to_owned(),
            instead: "use the engine local".to_owned(),
        };
        if TAKEN.swap(true, Ordering::SeqCst) {
            return Err(refuse("this process is a rank already"));
        }
        let (universe, threading) = match mpi::initialize_with_threading(Threading::Serialized) {
            Some((universe, threading)) => (Some(Finalised(universe)), threading),
            None => (None, mpi::environment::threading_support()),
        };
        if threading < Threading::Serialized {
            return Err(refuse("this MPI does not let threads call it in turns"));
        }
        let fault = |fault| Error::Communication { rank: 0, fault };
        let world = World::new().map_err(fault)?;
        let ear = world.receive_any(GIVEN_UP, REASON).map_err(fault)?;
        let state = State { first: None, ear: Some(ear), meetings: 0 };
        let deadline = Cell::new(Some(DEADLINE));
        Ok(Self { world, deadline, state: RefCell::new(state), universe })
    }

    /// Waits so long for others from now on; for ever where `None`.
    pub fn set_deadline(&self, deadline: Option<Duration>) {
        self.deadline.set(deadline);
    }

    /// Ends all processes of the job with this status, after a fault: a second later, so that
    /// every rank that waits has been told before, also what it wants to say. Processes that are
    /// stopped end as well.
    pub fn end(self, status: u8) -> ! {
        thread::sleep(NOTICE);
        self.world.end(status);
        std::process::exit(i32::from(status))
    }

    fn error(&self, fault: Fault) -> Error {
        Error::Communication { rank: self.world.rank, fault }
    }

    /// Ends the communicator, and tells the others.
    fn fail(&self, error: Error) -> Error {
        let is_first = self.state.borrow().first.is_none();
        if is_first {
            self.state.borrow_mut().first = Some(error.clone());
            self.tell(&error.to_string());
        }
        error
    }

    fn faulty(&self, fault: Fault) -> Error {
        self.fail(self.error(fault))
    }

    /// Sends all others the reason to give up. Who cannot be reached cannot be told.
    fn tell(&self, reason: &str) {
        let mut end = reason.len().min(REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let told = self.others().filter_map(|peer| {
            self.world.send(peer, GIVEN_UP, reason.as_bytes()[..end].to_vec()).ok()
        });
        let mut told: Vec<Request> = told.collect();
        let start = Instant::now();
        while !told.is_empty() && start.elapsed() < NOTICE / 4 {
            told.retain_mut(|request| matches!(request.test(), Ok(false)));
            thread::sleep(NAP);
        }
    }

    fn others(&self) -> impl Iterator<Item = usize> {
        let rank = self.world.rank;
        (0..self.world.size).filter(move |&peer| peer != rank)
    }

    /// Nothing has gone wrong yet, here or elsewhere.
    fn check(&self) -> Result<()> {
        let mut state = self.state.borrow_mut();
        if let Some(first) = &state.first {
            return Err(self.error(Fault::Poisoned { first: Box::new(first.clone()) }));
        }
        let Some(ear) = &mut state.ear else { return Ok(()) };
        match ear.test() {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(fault) => {
                drop(state);
                return Err(self.faulty(fault));
            }
        }
        let reason = String::from_utf8_lossy(ear.bytes()).into_owned();
        let error = self.error(Fault::Aborted { peer: ear.source(), reason });
        (state.first, state.ear) = (Some(error.clone()), None);
        Err(error)
    }

    /// Waits until there is nobody that is waited for: `awaits` looks at what has come, and says who
    /// has not.
    fn until(
        &self,
        at: impl Fn() -> String,
        mut awaits: impl FnMut() -> Result<Option<usize>, Fault>,
    ) -> Result<()> {
        let start = Instant::now();
        let mut looks = 0u32;
        loop {
            self.check()?;
            let Some(peer) = awaits().map_err(|fault| self.faulty(fault))? else { return Ok(()) };
            let elapsed = start.elapsed();
            if self.deadline.get().is_some_and(|deadline| elapsed >= deadline) {
                return Err(self.faulty(Fault::PeerTimeout { peer, at: at(), elapsed }));
            }
            looks = looks.saturating_add(1);
            match looks {
                0..100 => thread::yield_now(),
                _ => thread::sleep(NAP),
            }
        }
    }

    /// Starts sending a head and its contents.
    fn send(
        &self,
        peer: usize,
        tags: [c_int; 2],
        head: Head,
        contents: &[u8],
    ) -> Result<Vec<Request>> {
        let fault = |fault| self.faulty(fault);
        let mut requests = vec![self.world.send(peer, tags[0], head.to_bytes()).map_err(fault)?];
        for part in contents.chunks(MOST_BYTES) {
            requests.push(self.world.send(peer, tags[1], part.to_vec()).map_err(fault)?);
        }
        Ok(requests)
    }

    /// Starts receiving contents of so many bytes.
    fn receive(&self, peer: usize, tag: c_int, bytes: usize) -> Result<Vec<Request>, Fault> {
        let starts = (0..bytes).step_by(MOST_BYTES);
        let lengths = starts.map(|start| MOST_BYTES.min(bytes - start));
        lengths.map(|length| self.world.receive(peer, tag, length)).collect()
    }

    /// Starts receiving a head, and contents of so many bytes.
    fn coming(&self, peer: usize, tags: [c_int; 2], bytes: usize) -> Result<Coming> {
        let coming = || {
            let head = self.world.receive(peer, tags[0], HEAD)?;
            Ok(Coming { peer, head, contents: self.receive(peer, tags[1], bytes)? })
        };
        coming().map_err(|fault| self.faulty(fault))
    }
}

/// Tags of heads and contents of a lane.
fn tags(lane: Lane) -> [c_int; 2] {
    [0, 1].map(|part| TAGS + 2 * c_int::from(lane.0) + part)
}

/// Puts the contents of a message where they are wanted.
fn unpack(contents: &[u8], parts: &[View<Cpu>]) -> Result<()> {
    let mut from = 0;
    for part in parts {
        let end = from + part.elements() * part.dtype().bytes();
        let came = View::from_bytes(&Cpu, part.dtype(), &contents[from..end], part.shape())?;
        Cpu.copy_lines(&came, part)?;
        from = end;
    }
    Ok(())
}

impl Communicator<Cpu> for Mpi {
    type Ticket = Ticket;

    fn rank(&self) -> usize {
        self.world.rank
    }

    fn size(&self) -> usize {
        self.world.size
    }

    fn post(
        &self,
        tag: Tag,
        sends: Vec<Parcel<Cpu>>,
        receives: Vec<Parcel<Cpu>>,
    ) -> Result<Ticket> {
        let size = self.world.size;
        if let Some(parcel) = sends.iter().chain(&receives).find(|parcel| parcel.peer >= size) {
            let expected = format!("a rank below {size}");
            return Err(CHECK.wrong_option("peer", &expected, &parcel.peer.to_string()));
        }
        self.check()?;
        let tags = tags(tag.lane);
        let receives = receives.into_iter().map(|parcel| {
            let coming = self.coming(parcel.peer, tags, parcel.bytes() as usize)?;
            Ok((parcel, coming))
        });
        let receives = receives.collect::<Result<_>>()?;
        let sends = sends.iter().map(|parcel| {
            let parts = parcel.parts.iter().map(View::to_bytes);
            let packed = parts.collect::<Result<Vec<_>>>().map_err(|error| self.fail(error))?;
            let requests = self.send(parcel.peer, tags, Head::of(tag, parcel), &packed.concat())?;
            Ok((parcel.peer, requests))
        });
        Ok(Ticket { tag, sends: sends.collect::<Result<_>>()?, receives })
    }

    fn test(&self, ticket: &mut Ticket) -> Result<bool> {
        self.check()?;
        let missing = missing(ticket.tag, &mut ticket.receives);
        Ok(missing.map_err(|fault| self.faulty(fault))?.is_none())
    }

    fn wait(&self, ticket: Ticket) -> Result<()> {
        let Ticket { tag, mut sends, mut receives } = ticket;
        let awaits = || {
            let mut late = missing(tag, &mut receives)?;
            for (peer, requests) in &mut sends {
                late = late.or((!all_ended(requests)?).then_some(*peer));
            }
            Ok(late)
        };
        self.until(|| tag.to_string(), awaits)?;
        for (parcel, coming) in &receives {
            unpack(&coming.contents(), &parcel.parts).map_err(|error| self.fail(error))?;
        }
        Ok(())
    }

    /// Heads say how much is told, and which meeting it is.
    fn gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.check()?;
        let number = self.state.borrow().meetings;
        self.state.borrow_mut().meetings += 1;
        let mut coming: Vec<Coming> =
            self.others().map(|peer| self.coming(peer, MEETING, 0)).collect::<Result<_>>()?;
        let head = Head::of_meeting(number, bytes.len());
        let sends = self.others().map(|peer| Ok((peer, self.send(peer, MEETING, head, bytes)?)));
        let mut sends: Vec<(usize, Vec<Request>)> = sends.collect::<Result<_>>()?;
        let awaits = || {
            let mut late = None;
            for coming in &mut coming {
                let is_there = match coming.head()? {
                    None => false,
                    Some(found) => {
                        let bytes = found.bytes as usize;
                        expect(coming.peer, Head::of_meeting(number, bytes), found)?;
                        if coming.contents.is_empty() {
                            coming.contents = self.receive(coming.peer, MEETING[1], bytes)?;
                        }
                        all_ended(&mut coming.contents)?
                    }
                };
                late = late.or((!is_there).then_some(coming.peer));
            }
            for (peer, requests) in &mut sends {
                late = late.or((!all_ended(requests)?).then_some(*peer));
            }
            Ok(late)
        };
        self.until(|| format!("meeting {number}"), awaits)?;
        let mut said: Vec<Vec<u8>> = coming.iter().map(Coming::contents).collect();
        said.insert(self.world.rank, bytes.to_vec());
        Ok(said)
    }

    fn abort(&self, reason: &str) {
        let fault = Fault::Aborted { peer: self.world.rank, reason: reason.to_owned() };
        let is_first = self.state.borrow().first.is_none();
        if is_first {
            self.state.borrow_mut().first = Some(self.error(fault));
            self.tell(reason);
        }
    }
}

/// Finalises MPI, unless something has gone wrong: it waits for all then.
impl Drop for Mpi {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let ear = state.ear.take();
        match (&state.first, thread::panicking()) {
            (None, false) => ear.map(Request::cancel).unwrap_or_default(),
            _ => mem::forget(self.universe.take()),
        }
    }
}
