//! Stamps of accesses, word by word: who has written and read it, as far as it still matters.
//!
//! An access makes an earlier one irrelevant if the earlier is ordered before it and it is at least as easily
//! raced with: whatever races with the earlier one then races with it too. So a word seldom has more than one
//! write and one read, and these lie in the word itself. Where threads that are not ordered read it, or
//! update it by atomics, their records lie in a set ([`sets`](super::sets)).

use std::ops::Range;

use super::sets::Sets;
use super::view::View;
use super::{Scope, Strength};
use crate::interpreter::memory::knowledge::Time;
use crate::interpreter::row::Mask;

/// In the number of a warp: not its threads, but asynchronous operations that they started.
pub(super) const ASYNCHRONOUS: u32 = 1 << 26;

/// All four bytes of a word.
pub(super) const WORD: u8 = 0xF;

/// An access to some bytes of a word by lanes of a warp, at one time, by one instruction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Record {
    /// The number in the grid; of a set, its number.
    pub warp: u32,
    /// None: nothing is recorded.
    pub lanes: Mask,
    pub time: Time,
    /// Instruction (24 bits), whether atomic (1), how easily it races (3), bytes of the word (4).
    what: u32,
}

/// How easily an access races, with those strong in the widest scope the least.
pub(super) type Rank = u32;
const WEAK: Rank = 4;
const READ_ONLY: Rank = 5;
const SET: Rank = 7;
/// In `what`: an atomic, which both reads and writes.
const ATOMIC: u32 = 1 << 7;
/// Two accesses up to this rank never race.
pub(super) const DEVICE: Rank = 1;

impl Record {
    pub fn new(warp: u32, lanes: Mask, time: Time, strength: Strength, pc: u32) -> Self {
        let rank = match strength {
            Strength::Strong(Scope::System) => 0,
            Strength::Strong(Scope::Device) => DEVICE,
            Strength::Strong(Scope::Cluster) => 2,
            Strength::Strong(Scope::Block) => 3,
            Strength::Weak => WEAK,
            Strength::ReadOnly => READ_ONLY,
        };
        Self { warp, lanes, time, what: pc << 8 | rank << 4 | u32::from(WORD) }
    }

    /// Stands for a set of records.
    pub fn set(number: u32) -> Self {
        Self { warp: number, lanes: Mask::MAX, time: 0, what: SET << 4 }
    }

    pub fn is_set(&self) -> bool {
        self.rank() == SET
    }

    pub fn is_empty(&self) -> bool {
        self.lanes == 0
    }

    pub fn pc(&self) -> u32 {
        self.what >> 8
    }

    pub fn rank(&self) -> Rank {
        self.what >> 4 & 7
    }

    pub fn bytes(&self) -> u8 {
        self.what as u8 & WORD
    }

    pub fn with_bytes(self, bytes: u8) -> Self {
        Self { what: self.what & !0xF | u32::from(bytes), ..self }
    }

    pub fn atomic(self) -> Self {
        Self { what: self.what | ATOMIC, ..self }
    }

    pub fn asynchronous(&self) -> bool {
        self.warp & ASYNCHRONOUS != 0
    }

    /// Strong in which scope.
    fn scope(&self) -> Option<Scope> {
        match self.rank() {
            0 => Some(Scope::System),
            DEVICE => Some(Scope::Device),
            2 => Some(Scope::Cluster),
            3 => Some(Scope::Block),
            _ => None,
        }
    }

    /// Whether they differ in lanes alone.
    pub fn joins(&self, other: &Self) -> bool {
        self.warp == other.warp && self.time == other.time && self.what == other.what
    }

    /// Whether it is surely no race with the viewing thread's new access; most are decided here.
    #[inline]
    fn precedes(&self, new: &Self, view: &View) -> bool {
        let ordered = || view.ordered(self) == self.lanes;
        self.is_empty() || (self.rank().max(new.rank()) <= WEAK && ordered())
    }

    /// Whether nothing of it matters once the viewing thread has made the new access, and surely no race.
    #[inline]
    fn outdated(&self, new: &Self, view: &View) -> bool {
        let covered = || self.rank() <= new.rank() && self.bytes() & !new.bytes() == 0;
        self.is_empty() || (covered() && view.ordered(self) == self.lanes)
    }

    /// What of this record still matters once the viewing thread has made the new one.
    pub fn beside(mut self, new: &Self, view: &View) -> Self {
        if self.rank() > new.rank() || self.bytes() & new.bytes() == 0 {
            return self;
        }
        let ordered = view.ordered(&self);
        if self.bytes() & !new.bytes() == 0 {
            self.lanes &= !ordered;
        } else if ordered == self.lanes {
            self = self.with_bytes(self.bytes() & !new.bytes());
        }
        self
    }

    /// The lanes that race with the viewing thread's new access, of which one is a write.
    pub fn racing(&self, new: &Self, view: &View) -> Mask {
        if self.bytes() & new.bytes() == 0 {
            return 0;
        }
        if self.rank() == READ_ONLY || new.rank() == READ_ONLY {
            return self.lanes;
        }
        let racing = self.lanes & !view.ordered(self);
        if racing != 0 && self.coherent(new, view) { 0 } else { racing }
    }

    /// Both are strong, and each scope has the other's thread.
    fn coherent(&self, new: &Self, view: &View) -> bool {
        match (self.scope(), new.scope()) {
            (Some(one), Some(other)) => view.distance(self) <= one.min(other),
            _ => false,
        }
    }
}

/// An earlier access that conflicts with the present one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conflict {
    pub record: Record,
    pub lane: u32,
    pub wrote: bool,
    /// Either is a read that forbids writes by the whole grid.
    pub read_only: bool,
    pub narrow: bool,
}

impl Conflict {
    fn new(record: Record, racing: Mask, wrote: bool, new: &Record) -> Self {
        Self {
            record,
            lane: racing.trailing_zeros(),
            wrote,
            read_only: record.rank() == READ_ONLY || new.rank() == READ_ONLY,
            narrow: record.scope().is_some() && new.scope().is_some(),
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Word {
    written: Record,
    read: Record,
}

/// The records of a stretch of memory.
#[derive(Default)]
pub(super) struct Shadow {
    words: Vec<Word>,
    sets: Sets,
}

impl Shadow {
    pub fn new(words: usize) -> Self {
        Self { words: vec![Word::default(); words], sets: Sets::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Forgets all accesses.
    pub fn clear(&mut self) {
        self.words.fill(Word::default());
        self.sets = Sets::default();
    }

    /// The viewing thread reads these words. Fails with the number of the first word that is raced for.
    #[inline]
    pub fn read(
        &mut self,
        at: Range<usize>,
        new: Record,
        view: &View,
    ) -> Result<(), (usize, Conflict)> {
        for (at, word) in at.clone().zip(&mut self.words[at]) {
            if !word.written.precedes(&new, view) {
                refuse(&self.sets, &word.written, true, &new, view).map_err(|one| (at, one))?;
            }
            if word.read.joins(&new) {
                word.read.lanes |= new.lanes;
            } else if word.read.outdated(&new, view) {
                word.read = new;
            } else {
                self.sets.record(&mut word.read, new, view);
            }
        }
        Ok(())
    }

    /// The viewing thread writes these words. Fails with the number of the first word that is raced for.
    #[inline]
    pub fn write(
        &mut self,
        at: Range<usize>,
        new: Record,
        view: &View,
    ) -> Result<(), (usize, Conflict)> {
        for (at, word) in at.clone().zip(&mut self.words[at]) {
            if word.written.outdated(&new, view) && word.read.outdated(&new, view) {
                *word = Word { written: new, read: Record::default() };
                continue;
            }
            refuse(&self.sets, &word.written, true, &new, view).map_err(|one| (at, one))?;
            refuse(&self.sets, &word.read, false, &new, view).map_err(|one| (at, one))?;
            self.sets.outdate(&mut word.read, &new, view);
            self.sets.outdate(&mut word.written, &new, view);
            self.sets.record(&mut word.written, new, view);
        }
        Ok(())
    }
}

/// Fails if one of the earlier accesses races with the new one.
fn refuse(
    sets: &Sets,
    earlier: &Record,
    wrote: bool,
    new: &Record,
    view: &View,
) -> Result<(), Conflict> {
    if earlier.is_empty() {
        return Ok(());
    }
    let conflict = |record: &Record| match record.racing(new, view) {
        0 => None,
        racing => Some(Conflict::new(*record, racing, wrote, new)),
    };
    let found = if earlier.is_set() {
        // An atomic has observed all that came before it in a word.
        let latest = sets.latest(earlier).filter(|latest| latest.what & ATOMIC != 0);
        if latest.is_some_and(|latest| latest.precedes(new, view)) {
            return Ok(());
        }
        sets.against(earlier, new).iter().find_map(conflict)
    } else {
        conflict(earlier)
    };
    found.map_or(Ok(()), Err)
}
