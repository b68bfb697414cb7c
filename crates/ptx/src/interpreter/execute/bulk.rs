//! Operations of the asynchronous proxy on their start: `cp.async.bulk`, `cp.reduce.async.bulk`, `st.async`,
//! `red.async`; and the wait for those in bulk groups.

use super::super::decode::action::{Address, Bulk, Place, RemoteStore};
use super::super::fault::{Fault, FaultKind};
use super::super::memory::Site;
use super::super::row::{Mask, lanes};
use super::super::tensor_map::Swizzle;
use super::cluster::Spot;
use super::transfer::{Combine, Source, Target, Tracked, Transfer, Work};
use super::turn::Turn;
use super::windows;

/// Bulk copies are made of units of this many bytes, at multiples of it.
pub(super) const UNIT: u32 = 16;

impl Turn<'_, '_> {
    pub fn bulk(&mut self, bulk: &Bulk, active: Mask) -> Result<(), Fault> {
        let (to, from) = (self.addresses(bulk.to, active)?, self.addresses(bulk.from, active)?);
        self.require(self.defined(&[bulk.bytes]), active, "the size of a bulk copy")?;
        for lane in lanes(active) {
            let bytes = self.row(bulk.bytes)[lane] as u32;
            self.check_bulk(lane, [to[lane], from[lane]], bytes)?;
            let source = self.bulk_source(lane, bulk.from, from[lane], bytes)?;
            let object = match bulk.object {
                Some(object) => Some(self.bulk_object(lane, object)?),
                None => None,
            };
            let target = match (bulk.to.place, object) {
                (Place::Global, _) => Target::Global(to[lane]),
                _ => {
                    let spot = self.object_spot(lane, bulk.to, to[lane])?;
                    self.same_block(lane, spot, object)?;
                    Target::Shared(self.spread(lane, spot, bulk.ranks)?)
                }
            };
            let combine = bulk.combine.map(|(operation, ty)| Combine { operation, ty });
            let work = Work { source, target, bytes, combine, swizzle: Swizzle::None };
            self.send(lane, work, object);
        }
        Ok(())
    }

    fn check_bulk(&self, lane: usize, ends: [u64; 2], bytes: u32) -> Result<(), Fault> {
        if bytes == 0 || !bytes.is_multiple_of(UNIT) {
            let message = format!("a bulk copy of {bytes} bytes: it needs a multiple of {UNIT}");
            return Err(self.fault(FaultKind::Undefined, lane, message));
        }
        match ends.into_iter().find(|end| !end.is_multiple_of(u64::from(UNIT))) {
            Some(end) => {
                let message = format!("a bulk copy needs addresses at multiples of {UNIT}");
                Err(self.fault_at(FaultKind::Misaligned, lane, end, message))
            }
            None => Ok(()),
        }
    }

    fn bulk_source(
        &self,
        lane: usize,
        from: Address,
        value: u64,
        bytes: u32,
    ) -> Result<Source, Fault> {
        if from.place == Place::Global {
            return Ok(Source::Global(value));
        }
        self.check_proxy(lane, value, bytes)?;
        Ok(Source::Shared(value))
    }

    /// What the asynchronous proxy reads must be fenced from plain writes.
    pub fn check_proxy(&self, lane: usize, offset: u64, bytes: u32) -> Result<(), Fault> {
        let thread = self.thread(lane);
        let proxy = self.common.proxy.as_ref().filter(|_| self.grid.options.races);
        let Some((at, writer)) = proxy.and_then(|proxy| proxy.unfenced(thread, offset, bytes))
        else {
            return Ok(());
        };
        let [x, y, z] = self.grid.thread(writer);
        let message = format!(
            "thread ({x}, {y}, {z}) wrote it by a plain store: it must execute fence.proxy.async \
             behind that, before this operation reads it"
        );
        Err(self.fault_at(FaultKind::Race, lane, at, message))
    }

    pub fn bulk_object(&self, lane: usize, object: Address) -> Result<Spot, Fault> {
        let address = self.addresses(object, 1 << lane)?[lane];
        self.object_spot(lane, object, address)
    }

    pub fn same_block(&self, lane: usize, to: Spot, object: Option<Spot>) -> Result<(), Fault> {
        match object {
            Some(object) if object.rank != to.rank => {
                let message = "the mbarrier lies in another block than the destination";
                Err(self.fault_at(FaultKind::Barrier, lane, object.offset, message.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// The same place in all blocks of a mask.
    pub fn spread(
        &self,
        lane: usize,
        spot: Spot,
        ranks: Option<super::super::decode::action::Register>,
    ) -> Result<Vec<Spot>, Fault> {
        let Some(ranks) = ranks else { return Ok(vec![spot]) };
        self.require(self.defined(&[ranks]), 1 << lane, "the mask of blocks")?;
        let mask = self.row(ranks)[lane] as u16;
        let chosen = (0..16).filter(|rank| mask >> rank & 1 == 1);
        chosen.map(|rank| self.spot(lane, windows::in_block(rank, spot.offset))).collect()
    }

    fn count_bulk(&mut self, work: &Work) {
        let size = u64::from(work.bytes);
        let own = self.peers.own();
        let tally = self.tally();
        match (&work.source, &work.target) {
            (Source::Global(address), _) => tally.bulk_load(*address, size),
            (_, Target::Global(address)) => tally.bulk_store(*address, size),
            (Source::Tile(tile), _) => {
                tile.rows().for_each(|(address, bytes)| tally.bulk_load(address, bytes));
            }
            (_, Target::Tile(tile)) => {
                tile.rows().for_each(|(address, bytes)| tally.bulk_store(address, bytes));
            }
            _ => {}
        }
        if let Target::Shared(spots) = &work.target {
            let away = spots.iter().filter(|spot| spot.rank != own).count() as u64;
            tally.cluster(away * size);
        }
    }

    pub fn remote_store(&mut self, store: &RemoteStore, active: Mask) -> Result<(), Fault> {
        let addresses = self.addresses(store.to, active)?;
        let size = store.ty.bytes() as usize;
        let bytes = (size * store.sources.len()) as u32;
        for lane in lanes(active) {
            let to = self.object_spot(lane, store.to, addresses[lane])?;
            let object = self.bulk_object(lane, store.object)?;
            self.same_block(lane, to, Some(object))?;
            if !to.offset.is_multiple_of(u64::from(bytes)) {
                let message = format!("a store of {bytes} bytes needs a multiple of {bytes}");
                return Err(self.fault_at(FaultKind::Misaligned, lane, to.offset, message));
            }
            let mut value = [0; 16];
            for (element, &source) in store.sources.iter().enumerate() {
                let row = self.row(source)[lane].to_le_bytes();
                value[element * size..][..size].copy_from_slice(&row[..size]);
            }
            let unknown = self.unknown_bytes(&store.sources, lane, size as u32);
            let target = Target::Shared(vec![to]);
            let source = Source::Value(value, unknown);
            let combine = store.combine.map(|operation| Combine { operation, ty: store.ty });
            let work = Work { source, target, bytes, combine, swizzle: Swizzle::None };
            self.send(lane, work, Some(object));
        }
        Ok(())
    }

    /// The operation is under way.
    pub fn send(&mut self, lane: usize, work: Work, object: Option<Spot>) {
        self.count_bulk(&work);
        let (thread, pc) = (self.thread(lane), self.pc);
        let reader = self.common.clocks.start(thread);
        let writer = self.common.clocks.start(thread);
        let transfers = &mut self.common.transfers;
        let tracked = match object {
            Some(spot) => Tracked::Object(spot.offset),
            None => Tracked::Group(transfers.open_group(thread)),
        };
        transfers.flying.push(Transfer { thread, pc, work, tracked, reader, writer });
    }

    pub fn bulk_commit(&mut self, active: Mask) {
        for lane in lanes(active) {
            let thread = self.thread(lane);
            self.common.transfers.commit(thread);
        }
    }

    /// Waits until at most `pending` groups are under way: the older ones arrive now.
    pub fn bulk_wait(&mut self, pending: u64, read: bool, active: Mask) -> Result<(), Fault> {
        for lane in lanes(active) {
            let thread = self.thread(lane);
            let end = self.common.transfers.open_group(thread).saturating_sub(pending);
            for transfer in self.common.transfers.take_groups(thread, end) {
                self.carry_out(&transfer)?;
            }
            for known in self.common.transfers.learn(thread, end, read) {
                self.common.clocks.leave(&[thread], &known);
            }
        }
        Ok(())
    }

    /// A thread must not end before its bulk copies have read their sources.
    pub fn check_bulk_exit(&self, active: Mask) -> Result<(), Fault> {
        let unread = |&lane: &usize| self.common.transfers.unread(self.thread(lane)).is_some();
        let Some(lane) = lanes(active).find(unread) else { return Ok(()) };
        let thread = self.grid_thread(lane);
        let message = "the thread ends before a bulk copy that it started: wait for its group";
        let mut fault = self.fault(FaultKind::AsyncPending, lane, message);
        fault.other = self
            .common
            .transfers
            .unread(self.thread(lane))
            .map(|pc| self.grid.other(Site { thread, pc: pc as u32, asynchronous: true }));
        Err(fault)
    }
}
