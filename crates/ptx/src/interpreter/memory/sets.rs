//! Records of many threads at one word, none of them ordered before another.
//!
//! Sorted by warp, so that a thread finds its warp's among those of thousands of blocks. What is too much is
//! thinned out: first each block keeps its newest record only, then every other block keeps none. A race with the
//! access of a record that is gone is not found; one with the others is.

use super::knowledge::Time;
use super::shadow::{DEVICE, Rank, Record, WORD};
use super::view::View;

/// Records that a set may have before it is looked through for those that no longer matter.
const MANY: usize = 64;
/// Records that it may have at all.
const MOST: usize = 1024;

#[derive(Default)]
struct Set {
    records: Vec<Record>,
    /// Where the last one was put, if it is still there.
    last: usize,
    newest: Time,
    highest: Rank,
    /// The block whose threads made all of them, if it was one; none for asynchronous operations.
    block: Option<u32>,
    /// How many records call for thinning out.
    limit: usize,
}

/// The sets of a stretch of memory.
#[derive(Default)]
pub(super) struct Sets {
    sets: Vec<Set>,
    idle: Vec<u32>,
}

impl Sets {
    /// The records of a set that a new access must be compared with.
    pub fn against(&self, set: &Record, new: &Record) -> &[Record] {
        let set = &self.sets[set.warp as usize];
        if set.highest.max(new.rank()) <= DEVICE { &[] } else { &set.records }
    }

    /// The record that was made last, if it is known.
    pub fn latest(&self, set: &Record) -> Option<&Record> {
        let set = &self.sets[set.warp as usize];
        set.records.get(set.last)
    }

    /// Adds the viewing thread's access to what a word has.
    pub fn record(&mut self, place: &mut Record, new: Record, view: &View) {
        if place.joins(&new) {
            place.lanes |= new.lanes;
        } else if place.is_set() {
            self.insert(place, new, view);
        } else {
            let old = place.beside(&new, view);
            *place = new;
            if !old.is_empty() {
                *place = self.found(old, new, view);
            }
        }
    }

    /// Removes what no longer matters once the viewing thread has made the new access.
    pub fn outdate(&mut self, place: &mut Record, new: &Record, view: &View) {
        if place.is_empty() {
            return;
        }
        if !place.is_set() {
            *place = place.beside(new, view);
            return;
        }
        let set = &mut self.sets[place.warp as usize];
        // Atomics of a whole device only pile up: none of them is compared with any other.
        if set.highest.max(new.rank()) > DEVICE {
            set.outdate(new, view);
            if set.records.is_empty() {
                self.release(place);
            }
        }
    }

    fn insert(&mut self, place: &mut Record, new: Record, view: &View) {
        let set = &mut self.sets[place.warp as usize];
        if set.extend(&new) {
            return;
        }
        let covers = new.bytes() == WORD && set.highest <= new.rank();
        if covers && set.block.is_some_and(|block| view.past(block, set.newest)) {
            self.release(place);
            *place = new;
        } else {
            set.insert(new, view);
        }
    }

    fn found(&mut self, old: Record, new: Record, view: &View) -> Record {
        let number = self.idle.pop().unwrap_or_else(|| {
            self.sets.push(Set::default());
            (self.sets.len() - 1) as u32
        });
        let set = &mut self.sets[number as usize];
        set.block = if old.asynchronous() { None } else { Some(view.made_in(&old)) };
        set.limit = MANY;
        set.put(old, set.block);
        set.put(new, view.block());
        Record::set(number)
    }

    fn release(&mut self, place: &mut Record) {
        let set = &mut self.sets[place.warp as usize];
        set.records.clear();
        (set.last, set.newest, set.highest) = (0, 0, 0);
        self.idle.push(place.warp);
        *place = Record::default();
    }
}

impl Set {
    /// Adds another lane to what was recorded last.
    fn extend(&mut self, new: &Record) -> bool {
        let last = self.records.get_mut(self.last).filter(|last| last.joins(new));
        last.map(|last| last.lanes |= new.lanes).is_some()
    }

    fn insert(&mut self, new: Record, view: &View) {
        if self.records.len() >= self.limit {
            self.thin(&new, view);
        }
        // Warps mostly come in order.
        let behind = self.records.last().is_some_and(|last| last.warp < new.warp);
        if behind || !self.merge(&new, view) {
            self.put(new, view.block());
        }
    }

    /// Lets the records of the warp take the new one in, or removes what it outdates of them.
    fn merge(&mut self, new: &Record, view: &View) -> bool {
        let first = self.records.partition_point(|one| one.warp < new.warp);
        let count = self.records[first..].partition_point(|one| one.warp == new.warp);
        let own = &mut self.records[first..first + count];
        if let Some(at) = own.iter().position(|one| one.joins(new)) {
            own[at].lanes |= new.lanes;
            self.last = first + at;
            return true;
        }
        own.iter_mut().for_each(|one| *one = one.beside(new, view));
        if own.iter().any(Record::is_empty) {
            self.retain(|one| !one.is_empty());
        }
        false
    }

    /// Puts a record made in this block where it belongs.
    fn put(&mut self, new: Record, block: Option<u32>) {
        self.newest = self.newest.max(new.time);
        self.highest = self.highest.max(new.rank());
        if self.block != block {
            self.block = None;
        }
        self.last = match self.records.last() {
            Some(last) if last.warp > new.warp => {
                self.records.partition_point(|one| one.warp <= new.warp)
            }
            _ => self.records.len(),
        };
        self.records.insert(self.last, new);
    }

    fn outdate(&mut self, new: &Record, view: &View) {
        self.retain(|one| {
            *one = one.beside(new, view);
            !one.is_empty()
        });
    }

    fn retain(&mut self, keep: impl FnMut(&mut Record) -> bool) {
        self.records.retain_mut(keep);
        self.last = usize::MAX;
    }

    fn thin(&mut self, new: &Record, view: &View) {
        self.outdate(new, view);
        if self.records.len() >= MOST {
            self.records.dedup_by(|one, kept| {
                let same = view.made_in(one) == view.made_in(kept);
                if same && one.time > kept.time {
                    *kept = *one;
                }
                same
            });
        }
        if self.records.len() >= MOST {
            let mut keep = false;
            self.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.limit = (self.records.len() * 2).clamp(MANY, MOST);
    }
}
