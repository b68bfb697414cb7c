//! Asynchronous operations under way, and how they are carried out: at a random time between their start and
//! the wait for them.
//!
//! An operation is two pseudo-threads: one reads the source, one writes the destination. Both start with what
//! the thread knew. The waiter of an mbarrier learns of both; that of a bulk group may learn of the reads
//! alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::decode::action::AtomicOperation;
use super::super::fault::{Fault, FaultKind};
use super::super::memory::{Knowledge, Operation, Scope, Strength};
use super::super::options::Schedule;
use super::super::row::LANES;
use super::super::tensor_map::{Swizzle, TensorMap};
use super::atomic;
use super::block::Block;
use super::bulk::UNIT;
use super::cluster::Spot;
use super::gang::Peers;
use super::turn::Turn;
use crate::types::Type;

pub(super) enum Source {
    Global(u64),
    Tile(Tile),
    /// An offset in the shared memory of the own block.
    Shared(u64),
    /// The bytes themselves, and a bit for each that nobody has written.
    Value([u8; 16], u16),
}

pub(super) enum Target {
    Global(u64),
    Tile(Tile),
    Shared(Vec<Spot>),
}

/// A box of a tensor in global memory.
pub(super) struct Tile {
    pub map: TensorMap,
    /// Where the box begins.
    pub first: Vec<i32>,
}

/// What an operation does.
pub(super) struct Work {
    pub source: Source,
    pub target: Target,
    pub bytes: u32,
    pub combine: Option<Combine>,
    /// How units lie in shared memory.
    pub swizzle: Swizzle,
}

#[derive(Clone, Copy)]
pub(super) struct Combine {
    pub operation: AtomicOperation,
    pub ty: Type,
}

/// How its end is made known.
#[derive(Clone, Copy)]
pub(super) enum Tracked {
    /// By the mbarrier at this offset in each block that it writes to.
    Object(u64),
    /// By the bulk group of this number of its thread.
    Group(u64),
}

/// An operation under way.
pub(super) struct Transfer {
    /// In the block.
    pub thread: u32,
    pub pc: usize,
    pub work: Work,
    pub tracked: Tracked,
    pub reader: Operation,
    pub writer: Operation,
}

/// The operations that the threads of a block have started.
#[derive(Default)]
pub(super) struct Transfers {
    pub flying: Vec<Transfer>,
    groups: BTreeMap<u32, Groups>,
}

/// The bulk groups of a thread.
#[derive(Default)]
struct Groups {
    /// The number of the group that is open.
    open: u64,
    /// What has been carried out and not waited for.
    done: Vec<Done>,
}

struct Done {
    group: u64,
    pc: usize,
    /// Whether somebody has waited for the reads.
    free: bool,
    read: Arc<Knowledge>,
    written: Arc<Knowledge>,
}

impl Transfers {
    pub fn open_group(&self, thread: u32) -> u64 {
        self.groups.get(&thread).map_or(0, |groups| groups.open)
    }

    pub fn commit(&mut self, thread: u32) {
        self.groups.entry(thread).or_default().open += 1;
    }

    /// The operations of a thread's groups below `end` that are under way.
    pub fn take_groups(&mut self, thread: u32, end: u64) -> Vec<Transfer> {
        let due = |one: &mut Transfer| {
            one.thread == thread && matches!(one.tracked, Tracked::Group(group) if group < end)
        };
        self.flying.extract_if(.., due).collect()
    }

    /// What a thread learns that has waited for its groups below `end`.
    pub fn learn(&mut self, thread: u32, end: u64, read: bool) -> Vec<Arc<Knowledge>> {
        let Some(groups) = self.groups.get_mut(&thread) else { return Vec::new() };
        let due = |one: &mut Done| one.group < end;
        if !read {
            return groups.done.extract_if(.., due).map(|one| one.written).collect();
        }
        let due = groups.done.iter_mut().filter(|one| one.group < end && !one.free);
        due.map(|one| {
            one.free = true;
            Arc::clone(&one.read)
        })
        .collect()
    }

    /// The instruction of an operation of a bulk group whose reads the thread has not waited for.
    pub fn unread(&self, thread: u32) -> Option<usize> {
        let grouped =
            |one: &&Transfer| one.thread == thread && matches!(one.tracked, Tracked::Group(_));
        let flying = self.flying.iter().find(grouped).map(|one| one.pc);
        let done = || self.groups.get(&thread)?.done.iter().find(|one| !one.free).map(|one| one.pc);
        flying.or_else(done)
    }
}

impl Turn<'_, '_> {
    /// Carries an operation out, as a whole.
    pub fn carry_out(&mut self, transfer: &Transfer) -> Result<(), Fault> {
        let pc = std::mem::replace(&mut self.pc, transfer.pc);
        let carried = self.carry_out_here(transfer);
        self.pc = pc;
        carried
    }

    fn carry_out_here(&mut self, transfer: &Transfer) -> Result<(), Fault> {
        let lane = transfer.thread as usize % LANES;
        if let Target::Shared(spots) = &transfer.work.target {
            let gone = |spot: &&Spot| self.peers.get(spot.rank).is_some_and(Block::done);
            if let Some(spot) = spots.iter().find(gone) {
                let message = "the block of the destination ends before an asynchronous operation";
                let offset = spot.offset;
                return Err(self.fault_at(FaultKind::AsyncPending, lane, offset, message.into()));
            }
        }
        let step = transfer.work.bytes.min(UNIT);
        for at in (0..transfer.work.bytes).step_by(step as usize) {
            let (bytes, unknown) = self.fetch(lane, transfer, at, step)?;
            self.put(lane, transfer, at, &bytes[..step as usize], unknown)?;
        }
        self.finish(lane, transfer)?;
        self.progress();
        Ok(())
    }

    /// A unit of the source, and a bit for each of its bytes that nobody has written.
    fn fetch(
        &mut self,
        lane: usize,
        transfer: &Transfer,
        at: u32,
        bytes: u32,
    ) -> Result<([u8; 16], u16), Fault> {
        let mut buffer = [0; 16];
        let view = transfer.reader.view();
        let at = u64::from(at);
        let loaded = match &transfer.work.source {
            Source::Value(value, unknown) => return Ok((*value, *unknown)),
            Source::Tile(tile) => return self.fetch_from_tile(lane, transfer, tile, at),
            Source::Global(start) => {
                let access = self.access(start + at, bytes, Strength::Weak);
                self.common.memory.load(&view, &access, &mut buffer)
            }
            Source::Shared(start) => {
                let address = transfer.work.swizzle.address(start + at);
                let access = self.access(address, bytes, Strength::Weak);
                self.common.shared.load(&view, &access, &mut buffer)
            }
        };
        match loaded {
            Ok(loaded) => Ok((buffer, loaded.undefined)),
            Err(fault) => Err(self.memory_fault(lane, fault)),
        }
    }

    /// Outside of the tensor there are zeros.
    fn fetch_from_tile(
        &mut self,
        lane: usize,
        transfer: &Transfer,
        tile: &Tile,
        at: u64,
    ) -> Result<([u8; 16], u16), Fault> {
        let (mut unit, mut unknown) = ([0; 16], 0);
        for (offset, address, bytes) in tile.map.pieces(&tile.first, at) {
            let Some(address) = address else { continue };
            let mut buffer = [0; 16];
            let access = self.access(address, bytes, Strength::Weak);
            let loaded = self.common.memory.load(&transfer.reader.view(), &access, &mut buffer);
            let loaded = loaded.map_err(|fault| self.memory_fault(lane, fault))?;
            unknown |= loaded.undefined << offset;
            let (start, bytes) = (offset as usize, bytes as usize);
            unit[start..start + bytes].copy_from_slice(&buffer[..bytes]);
        }
        Ok((unit, unknown))
    }

    fn put(
        &mut self,
        lane: usize,
        transfer: &Transfer,
        at: u32,
        bytes: &[u8],
        unknown: u16,
    ) -> Result<(), Fault> {
        let at = u64::from(at);
        match &transfer.work.target {
            Target::Global(start) => {
                self.put_part(lane, transfer, None, start + at, bytes, unknown)
            }
            Target::Tile(tile) => {
                for (offset, address, size) in tile.map.pieces(&tile.first, at) {
                    let Some(address) = address else { continue };
                    let piece = &bytes[offset as usize..][..size as usize];
                    self.put_part(lane, transfer, None, address, piece, unknown >> offset)?;
                }
                Ok(())
            }
            Target::Shared(spots) => spots.iter().try_for_each(|spot| {
                let address = transfer.work.swizzle.address(spot.offset + at);
                self.put_part(lane, transfer, Some(spot.rank), address, bytes, unknown)
            }),
        }
    }

    /// Writes one unit to global memory, or to the shared memory of the block of this rank.
    fn put_part(
        &mut self,
        lane: usize,
        transfer: &Transfer,
        rank: Option<usize>,
        start: u64,
        bytes: &[u8],
        unknown: u16,
    ) -> Result<(), Fault> {
        let view = transfer.writer.view();
        let written = (1u32 << bytes.len()) - 1;
        if rank.is_none() && u32::from(unknown) & written != 0 {
            self.suspect(lane, start);
        }
        let Some(Combine { operation, ty }) = transfer.work.combine else {
            let access = self.access(start, bytes.len() as u32, Strength::Weak);
            let stored = match rank {
                None => self.common.memory.store(&view, &access, bytes, unknown, None),
                Some(rank) => {
                    let side = self.side(rank);
                    if let Some(proxy) = &mut side.proxy {
                        proxy.forget(start, access.bytes);
                    }
                    side.shared.store(&view, &access, bytes, unknown, None)
                }
            };
            return stored.map_err(|fault| self.memory_fault(lane, fault));
        };
        let size = ty.bytes();
        for (at, element) in (0..).step_by(size as usize).zip(bytes.chunks(size as usize)) {
            let mut operand = [0; 8];
            operand[..element.len()].copy_from_slice(element);
            let operand = u64::from_le_bytes(operand);
            let mut update = |old: u128| {
                let new = atomic::combine(operation, ty, old as u64, [operand, 0], rank.is_none());
                new.map(u128::from)
            };
            let scope = if rank.is_none() { Scope::Device } else { Scope::Cluster };
            let access = self.access(start + at, size, Strength::Strong(scope));
            let done = match rank {
                None => self.common.memory.atomic(&view, &access, None, &mut update),
                Some(rank) => self.side(rank).shared.atomic(&view, &access, None, &mut update),
            };
            done.map_err(|fault| self.memory_fault(lane, fault))?;
        }
        Ok(())
    }

    /// Tells those who wait.
    fn finish(&mut self, lane: usize, transfer: &Transfer) -> Result<(), Fault> {
        let written = Arc::new(transfer.writer.complete());
        match (&transfer.tracked, &transfer.work.target) {
            (Tracked::Object(offset), Target::Shared(spots)) => {
                for &Spot { rank, .. } in spots {
                    let landed = match self.side(rank).objects.get_mut(*offset) {
                        Some(object) => object.land(transfer.work.bytes, &written),
                        None => Err("no mbarrier was initialised there".to_owned()),
                    };
                    landed.map_err(|message| {
                        self.fault_at(FaultKind::Barrier, lane, *offset, message)
                    })?;
                }
            }
            (Tracked::Group(group), _) => {
                let read = Arc::new(transfer.reader.complete());
                let done = Done { group: *group, pc: transfer.pc, free: false, read, written };
                self.common.transfers.groups.entry(transfer.thread).or_default().done.push(done);
            }
            (Tracked::Object(_), _) => {}
        }
        Ok(())
    }
}

impl<'g> Block<'g> {
    /// Carries out some of the operations that are under way: all of them in the converged schedule, any in
    /// the shuffled one.
    pub fn carry(&mut self, mut peers: Peers<'_, 'g>) -> Result<(), Fault> {
        let all = self.grid.options.schedule == Schedule::Converged || self.done();
        let mut at = 0;
        while at < self.common.transfers.flying.len() {
            if !all && !self.common.random.once_in(3) {
                at += 1;
                continue;
            }
            let transfer = self.common.transfers.flying.remove(at);
            let done = self.done();
            let lane = transfer.thread as usize % LANES;
            let mut turn = self.turn(transfer.thread as usize / LANES, peers.lend());
            if done && !matches!(transfer.work.source, Source::Value(..)) {
                turn.pc = transfer.pc;
                let message = "the block ends before an asynchronous copy of its shared memory";
                return Err(turn.fault(FaultKind::AsyncPending, lane, message));
            }
            turn.carry_out(&transfer)?;
        }
        Ok(())
    }
}
