//! A thread as the checks of one access see it.

use super::knowledge::{Knowledge, Time};
use super::shadow::{ASYNCHRONOUS, Record};
use super::{Geometry, Scope, Site, Strength};
use crate::interpreter::row::Mask;

/// Where a thread stands, and what it knows.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(super) geometry: Geometry,
    pub(super) block: u32,
    /// The warps of its block, in the grid: `warps` of them from `first_warp` on.
    pub(super) first_warp: u32,
    pub(super) warps: u32,
    pub(super) warp: u32,
    pub(super) lane: Mask,
    /// The lane, if its earlier accesses are ordered before this one.
    pub(super) own: Mask,
    pub(super) now: Time,
    pub(super) barrier: Time,
    pub(super) warp_barrier: Time,
    pub(super) common: &'a Knowledge,
    pub(super) more: Option<&'a Knowledge>,
}

impl View<'_> {
    /// The record of an access of the thread, now, to all bytes of a word.
    #[inline]
    pub(super) fn record(&self, strength: Strength, pc: u32) -> Record {
        Record::new(self.warp, self.lane, self.now, strength, pc)
    }

    /// The lanes of an earlier record that are ordered before the thread's access.
    #[inline]
    pub(super) fn ordered(&self, record: &Record) -> Mask {
        if record.time < self.barrier && record.warp.wrapping_sub(self.first_warp) < self.warps {
            return record.lanes;
        }
        let mut ordered = 0;
        if record.warp == self.warp {
            ordered = if record.time < self.warp_barrier { record.lanes } else { self.own };
        }
        if record.lanes & !ordered != 0 {
            ordered |= self.learnt(record);
        }
        record.lanes & ordered
    }

    fn learnt(&self, record: &Record) -> Mask {
        let block = self.block_of(record);
        let more = self.more.map_or(0, |more| more.known(record, block));
        if more == record.lanes { more } else { more | self.common.known(record, block) }
    }

    /// The block that the bounds of blocks speak of; asynchronous operations are in none.
    fn block_of(&self, record: &Record) -> u32 {
        if record.asynchronous() { u32::MAX } else { record.warp / self.geometry.warps() }
    }

    /// The narrowest scope that has the record's thread and this one.
    pub(super) fn distance(&self, record: &Record) -> Scope {
        self.geometry.distance(self.made_in(record), self.block)
    }

    /// The block of the thread that made the record.
    pub(super) fn made_in(&self, record: &Record) -> u32 {
        (record.warp & !ASYNCHRONOUS) / self.geometry.warps()
    }

    /// The block whose barriers order what the thread does; none for an asynchronous operation.
    pub(super) fn block(&self) -> Option<u32> {
        (self.warps != 0).then_some(self.block)
    }

    /// Whether all that was done in this block up to a time is ordered before the thread's access.
    pub(super) fn past(&self, block: u32, time: Time) -> bool {
        block == self.block && time < self.barrier
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Who made the record, for a report.
    pub(super) fn site(&self, record: &Record, lane: u32) -> Site {
        let warp = record.warp & !ASYNCHRONOUS;
        let (block, warp) = (warp / self.geometry.warps(), warp % self.geometry.warps());
        Site {
            thread: block * self.geometry.threads + warp * 32 + lane,
            pc: record.pc(),
            asynchronous: record.asynchronous(),
        }
    }
}
