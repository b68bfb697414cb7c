//! What a thread knows to lie before it, and how that travels from thread to thread.

use std::sync::Arc;

use super::shadow::Record;
use super::{Geometry, Scope};
use crate::interpreter::row::{Mask, lanes};

/// A reading of a block's clock.
pub(crate) type Time = u32;

/// A time for each of some numbers, sorted by number; 0 for all others.
#[derive(Debug, Clone, Default)]
pub(super) struct Times(Vec<(u32, Time)>);

impl Times {
    pub fn get(&self, number: u32) -> Time {
        match self.0.binary_search_by_key(&number, |&(one, _)| one) {
            Ok(at) => self.0[at].1,
            Err(_) => 0,
        }
    }

    pub fn raise(&mut self, number: u32, time: Time) {
        match self.0.binary_search_by_key(&number, |&(one, _)| one) {
            Ok(at) => self.0[at].1 = self.0[at].1.max(time),
            Err(at) => self.0.insert(at, (number, time)),
        }
    }

    /// The later time of each number.
    fn join(&mut self, other: &Self) {
        const FEW: usize = 4;
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
        } else if other.0.len() <= FEW {
            other.0.iter().for_each(|&(number, time)| self.raise(number, time));
        } else {
            self.0.extend_from_slice(&other.0);
            self.0.sort_unstable();
            // Of equal numbers the later time stands last, and is moved onto the one that stays.
            self.0.dedup_by(|later, kept| {
                let equal = later.0 == kept.0;
                if equal {
                    kept.1 = later.1;
                }
                equal
            });
        }
    }
}

/// Bounds of stamps: an access is known if its stamp is below the bound of its block, warp or thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Knowledge {
    pub(super) blocks: Times,
    pub(super) warps: Times,
    /// Numbered as warp · 32 + lane.
    pub(super) threads: Times,
}

impl Knowledge {
    pub(crate) fn join(&mut self, other: &Self) {
        self.blocks.join(&other.blocks);
        self.warps.join(&other.warps);
        self.threads.join(&other.threads);
    }

    /// The lanes of the record whose access is known, of a record made in this block.
    pub(super) fn known(&self, record: &Record, block: u32) -> Mask {
        let known = |times: &Times, number| times.get(number) > record.time;
        if known(&self.blocks, block) || known(&self.warps, record.warp) {
            return record.lanes;
        }
        if self.threads.0.is_empty() {
            return 0;
        }
        lanes(record.lanes)
            .filter(|&lane| known(&self.threads, record.warp * 32 + lane as u32))
            .fold(0, |mask, lane| mask | 1 << lane)
    }

    /// Leaves out what concerns the block with these warps.
    pub(super) fn forget(&mut self, block: u32, warps: std::ops::Range<u32>) {
        self.blocks.0.retain(|&(one, _)| one != block);
        self.warps.0.retain(|(warp, _)| !warps.contains(warp));
        self.threads.0.retain(|(thread, _)| !warps.contains(&(thread / 32)));
    }
}

/// Adds to what may be nothing yet, or shared with others.
pub(super) fn join(into: &mut Option<Arc<Knowledge>>, news: &Arc<Knowledge>) {
    match into {
        None => *into = Some(Arc::clone(news)),
        Some(have) if Arc::ptr_eq(have, news) => {}
        Some(have) => Arc::make_mut(have).join(news),
    }
}

/// What releases have left at a place in memory.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// The stamp of the write that carries it: one that those who acquire it know too.
    pub(super) stamp: Time,
    /// Whether that is a release, and not a strong write after a fence.
    release: bool,
    parts: Vec<Part>,
}

/// What threads of some blocks have released in one scope.
#[derive(Debug, Clone)]
struct Part {
    /// One of the blocks.
    block: u32,
    /// The narrowest scope that has all the blocks.
    spread: Scope,
    scope: Scope,
    knowledge: Arc<Knowledge>,
}

impl Message {
    pub(super) fn new(stamp: Time, release: bool) -> Self {
        Self { stamp, release, parts: Vec::new() }
    }

    /// Adds what a thread of this block releases.
    pub(super) fn add(&mut self, block: u32, scope: Scope, knowledge: Arc<Knowledge>) {
        self.parts.push(Part { block, spread: Scope::Block, scope, knowledge });
    }

    /// A release sequence goes on: what was released before stays.
    pub(crate) fn join(&mut self, other: &Self, geometry: Geometry) {
        for part in &other.parts {
            self.join_part(part, geometry);
        }
    }

    /// An atomic leaves this after what was there. If it releases, it is taken to acquire as well: what
    /// reached it reaches whomever it reaches.
    pub(super) fn follow(&mut self, earlier: &Self, geometry: Geometry) {
        if self.release {
            for part in &mut self.parts {
                for (_, known) in earlier.reaching(part.block, part.scope, geometry) {
                    Arc::make_mut(&mut part.knowledge).join(known);
                }
            }
        }
        self.join(earlier, geometry);
    }

    /// Parts of different blocks are kept apart while they are few: a narrow acquire may take one of them.
    fn join_part(&mut self, part: &Part, geometry: Geometry) {
        const APART: usize = 16;
        let same = |one: &Part| {
            one.scope == part.scope && one.block == part.block && one.spread == part.spread
        };
        let full = self.parts.len() >= APART;
        let near = |one: &Part| full && one.scope == part.scope;
        let at = self.parts.iter().position(same).or_else(|| self.parts.iter().position(near));
        let Some(into) = at.and_then(|at| self.parts.get_mut(at)) else {
            return self.parts.push(part.clone());
        };
        let apart = geometry.distance(into.block, part.block);
        into.spread = into.spread.max(part.spread).max(apart);
        if !Arc::ptr_eq(&into.knowledge, &part.knowledge) {
            Arc::make_mut(&mut into.knowledge).join(&part.knowledge);
        }
    }

    /// What reaches a reader of this block and scope, each with the scope that it takes.
    pub(super) fn reaching(
        &self,
        block: u32,
        scope: Scope,
        geometry: Geometry,
    ) -> impl Iterator<Item = (Scope, &Arc<Knowledge>)> {
        self.parts.iter().filter_map(move |part| {
            let takes = part.spread.max(geometry.distance(part.block, block));
            (takes <= part.scope && takes <= scope).then_some((takes, &part.knowledge))
        })
    }
}
