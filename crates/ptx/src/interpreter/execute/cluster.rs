//! Clusters: addresses in the shared memory of other blocks, and the barrier of all their threads.
//!
//! A thread arrives, and waits later: in between it is in `arrived` while the phase lasts, and in `passed`
//! from then on. It must not arrive again before it has waited, so there is one phase at a time.

use std::sync::Arc;

use super::super::decode::action::{ClusterBarrier, Place, Register};
use super::super::fault::{Fault, FaultKind};
use super::super::memory::{Access, Clocks, Knowledge, Loaded, Message, Shared};
use super::super::row::{LANES, Mask, Row, lanes};
use super::block::{Block, Common};
use super::gang::Gang;
use super::turn::{Flow, Turn};
use super::warp::Waits;
use super::windows;

/// The number of the cluster's barrier among those that a group may wait at: behind those of the block.
pub(super) const CLUSTER: usize = 16;

/// What a block has to do with the barrier of its cluster.
pub(super) struct Gathering {
    /// How often it was complete.
    phases: u64,
    /// By warp: the lanes that have come in this phase, and those of a complete one that have not waited.
    arrived: Vec<Mask>,
    passed: Vec<Mask>,
    /// Whether anyone has come in this phase.
    begun: bool,
    /// What those who came have released, and whether there were some who did not.
    released: Vec<Knowledge>,
    relaxed: bool,
    /// What those learn who still have to wait for the last complete phase.
    known: Option<Arc<Knowledge>>,
}

impl Gathering {
    pub fn new(warps: usize) -> Self {
        Self {
            phases: 0,
            arrived: vec![0; warps],
            passed: vec![0; warps],
            begun: false,
            released: Vec::new(),
            relaxed: false,
            known: None,
        }
    }

    pub fn describe(&self) -> Option<String> {
        let come: u32 = self.arrived.iter().map(|lanes| lanes.count_ones()).sum();
        self.begun
            .then(|| format!("barrier of the cluster: {come} threads of this block have come"))
    }
}

/// A place in the shared memory of a block of the cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub rank: usize,
    pub offset: u64,
}

impl Turn<'_, '_> {
    /// Where an address of the cluster's window lies. The block must be there: it is once the cluster's
    /// barrier was complete, and until its threads have exited.
    pub fn spot(&self, lane: usize, address: u64) -> Result<Spot, Fault> {
        let (rank, offset) = windows::part(address);
        let own = self.peers.own();
        let rank = rank.unwrap_or(own);
        let Some(peer) = self.peers.get(rank) else {
            if rank == own {
                return Ok(Spot { rank, offset });
            }
            let message = format!("the cluster has no block of rank {rank}");
            return Err(self.fault_at(FaultKind::Cluster, lane, offset, message));
        };
        let message = if self.common.gathering.phases == 0 {
            "the other block may not have started: no barrier of the cluster came before"
        } else if peer.done() {
            "the other block has exited: it must wait at a barrier of the cluster first"
        } else {
            return Ok(Spot { rank, offset });
        };
        Err(self.fault_at(FaultKind::Cluster, lane, offset, message.to_owned()))
    }

    /// What the warps of the block of this rank share.
    pub fn side(&mut self, rank: usize) -> &mut Common {
        match self.peers.get_mut(rank) {
            Some(peer) => &mut peer.common,
            None => self.common,
        }
    }

    /// The clocks of the own block, and the shared memory of the block of this rank.
    pub fn clocks_and_shared(&mut self, rank: usize) -> (&Clocks, &mut Shared) {
        let common = &mut *self.common;
        match self.peers.get_mut(rank) {
            Some(peer) => (&common.clocks, &mut peer.common.shared),
            None => (&common.clocks, &mut common.shared),
        }
    }

    pub fn load_from_cluster(
        &mut self,
        lane: usize,
        access: &Access,
        buffer: &mut [u8; 16],
    ) -> Result<Loaded, Fault> {
        let spot = self.spot(lane, access.address)?;
        let thread = self.thread(lane);
        let (clocks, shared) = self.clocks_and_shared(spot.rank);
        let access = Access { address: spot.offset, ..*access };
        let loaded = shared.load(&clocks.view(thread), &access, buffer);
        loaded.map_err(|fault| self.memory_fault(lane, fault))
    }

    pub fn store_to_cluster(
        &mut self,
        lane: usize,
        access: &Access,
        bytes: &[u8],
        unknown: u16,
        message: Option<Arc<Message>>,
    ) -> Result<(), Fault> {
        let spot = self.spot(lane, access.address)?;
        let thread = self.thread(lane);
        let access = Access { address: spot.offset, ..*access };
        if let Some(proxy) = &mut self.side(spot.rank).proxy {
            proxy.forget(access.address, access.bytes);
        }
        let (clocks, shared) = self.clocks_and_shared(spot.rank);
        let stored = shared.store(&clocks.view(thread), &access, bytes, unknown, message);
        stored.map_err(|fault| self.memory_fault(lane, fault))
    }

    pub fn count_in_cluster(&mut self, addresses: &Row, active: Mask, bytes: u32) {
        let own = self.peers.own();
        let away = |&lane: &usize| windows::part(addresses[lane]).0.is_some_and(|rank| rank != own);
        let away = lanes(active).filter(away).fold(0, |mask: Mask, lane| mask | 1 << lane);
        let tally = self.tally();
        tally.cluster(u64::from(away.count_ones()) * u64::from(bytes));
        if active & !away != 0 {
            tally.shared(addresses, active & !away, bytes);
        }
    }

    /// mapa: the address of the same place in the block of `rank`.
    pub fn map_address(
        &mut self,
        [source, rank, to]: [Register; 3],
        generic: bool,
        active: Mask,
    ) -> Result<(), Fault> {
        let defined = self.defined(&[source, rank]);
        let (from, ranks) = (*self.row(source), *self.row(rank));
        let size = u64::from(self.grid.geometry().cluster);
        let mut row = [0; LANES];
        for lane in lanes(active & defined) {
            let (_, offset) = windows::part(self.cluster_address(lane, from[lane], generic)?);
            if ranks[lane] >= size {
                let message =
                    format!("rank {} in a cluster of {size} blocks, counted from 0", ranks[lane]);
                return Err(self.fault(FaultKind::Cluster, lane, message));
            }
            let mapped = windows::in_block(ranks[lane], offset);
            row[lane] = if generic { windows::to_generic(Place::Cluster, mapped) } else { mapped };
        }
        self.warp.write(to, &row, defined, active);
        Ok(())
    }

    /// getctarank: the rank of the block that an address lies in.
    pub fn rank_of_address(
        &mut self,
        source: Register,
        to: Register,
        generic: bool,
        active: Mask,
    ) -> Result<(), Fault> {
        let defined = self.defined(&[source]);
        let from = *self.row(source);
        let own = self.peers.own();
        let mut row = [0; LANES];
        for lane in lanes(active & defined) {
            let (rank, _) = windows::part(self.cluster_address(lane, from[lane], generic)?);
            row[lane] = rank.unwrap_or(own) as u64;
        }
        self.warp.write(to, &row, defined, active);
        Ok(())
    }

    fn cluster_address(&self, lane: usize, address: u64, generic: bool) -> Result<u64, Fault> {
        let found =
            if generic { windows::from_generic(Place::Cluster, address) } else { Some(address) };
        found.ok_or_else(|| {
            let message = "an address in shared memory is needed".to_owned();
            self.fault_at(FaultKind::WrongSpace, lane, address, message)
        })
    }

    pub fn cluster_barrier(
        &mut self,
        barrier: &ClusterBarrier,
        active: Mask,
        group: Mask,
    ) -> Result<Flow, Fault> {
        let (ClusterBarrier::Arrive { aligned, .. } | ClusterBarrier::Wait { aligned }) = *barrier;
        if aligned && !self.whole_warp(active, group)? {
            return Ok(Flow::WaitForLanes);
        }
        match *barrier {
            ClusterBarrier::Arrive { release, .. } => {
                self.arrive_in_cluster(release, active)?;
                Ok(Flow::Next)
            }
            ClusterBarrier::Wait { .. } => self.wait_in_cluster(active),
        }
    }

    fn arrive_in_cluster(&mut self, release: bool, active: Mask) -> Result<(), Fault> {
        let warp = self.warp.index;
        let gathering = &self.common.gathering;
        let twice = active & (gathering.arrived[warp] | gathering.passed[warp]);
        if twice != 0 {
            let message = "a second arrival at the barrier of the cluster: wait in between";
            return Err(self.fault(FaultKind::Barrier, Self::first(twice), message));
        }
        let threads: Vec<u32> = lanes(active).map(|lane| self.thread(lane)).collect();
        let released = release.then(|| self.common.clocks.arrive(&threads));
        let gathering = &mut self.common.gathering;
        gathering.arrived[warp] |= active;
        gathering.begun = true;
        gathering.relaxed |= !release;
        gathering.released.extend(released);
        self.progress();
        Ok(())
    }

    fn wait_in_cluster(&mut self, active: Mask) -> Result<Flow, Fault> {
        let warp = self.warp.index;
        let gathering = &self.common.gathering;
        let passed = active & gathering.passed[warp];
        let early = active & !passed & !gathering.arrived[warp];
        if early != 0 {
            let message = "a wait at the barrier of the cluster without an arrival before";
            return Err(self.fault(FaultKind::Barrier, Self::first(early), message));
        }
        if passed == 0 {
            return Ok(Flow::WaitAtBarrier(CLUSTER));
        }
        let threads: Vec<u32> = lanes(passed).map(|lane| self.thread(lane)).collect();
        if let Some(known) = self.common.gathering.known.clone() {
            self.common.clocks.leave(&threads, &known);
        }
        self.common.gathering.passed[warp] &= !passed;
        match active & !passed {
            0 => Ok(Flow::Next),
            rest => Ok(Flow::Scatter(vec![(self.pc + 1, passed), (self.pc, rest)])),
        }
    }
}

impl Block<'_> {
    fn all_arrived(&self) -> bool {
        let arrived = &self.common.gathering.arrived;
        self.warps.iter().zip(arrived).all(|(warp, &arrived)| warp.live & !arrived == 0)
    }

    /// Whether all who live wait already.
    fn all_wait(&self) -> bool {
        let groups = self.warps.iter().flat_map(|warp| &warp.groups);
        groups.into_iter().all(|group| group.waits == Waits::Barrier(CLUSTER))
    }

    /// What this block brings to the barrier: threads that have exited count as met.
    fn brings(&mut self) -> Knowledge {
        let most = self.grid.threads_per_block();
        let gone =
            |warp: usize, live: Mask| lanes(!live).map(move |lane| (warp * LANES + lane) as u32);
        let gone = self.warps.iter().flat_map(|warp| gone(warp.index, warp.live));
        let gone: Vec<u32> = gone.filter(|&thread| thread < most).collect();
        let common = &mut self.common;
        let mut all = common.clocks.arrive(&gone);
        common.gathering.released.drain(..).for_each(|one| all.join(&one));
        all
    }

    /// The phase is complete: those who wait go on.
    fn pass(&mut self, known: Option<&Arc<Knowledge>>) {
        let gathering = &mut self.common.gathering;
        gathering.phases += 1;
        (gathering.begun, gathering.relaxed) = (false, false);
        gathering.released.clear();
        gathering.known = known.cloned();
        for warp in &mut self.warps {
            let waits = |group: &&mut super::warp::Group| group.waits == Waits::Barrier(CLUSTER);
            let mut waiting = 0;
            for group in warp.groups.iter_mut().filter(waits) {
                waiting |= group.lanes;
                group.waits = Waits::No;
                group.pc += 1;
            }
            let arrived = std::mem::take(&mut gathering.arrived[warp.index]);
            gathering.passed[warp.index] |= arrived & !waiting;
            if let Some(known) = known {
                let threads = lanes(waiting).map(|lane| (warp.index * LANES + lane) as u32);
                self.common.clocks.leave(&threads.collect::<Vec<_>>(), known);
            }
        }
        self.common.progress = true;
    }
}

impl Gang<'_> {
    /// Lets go those who wait at the barrier of the cluster, if all have come.
    pub fn complete_cluster_barrier(&mut self) {
        let begun = self.blocks.iter().any(|block| block.common.gathering.begun);
        if !begun || !self.blocks.iter().all(Block::all_arrived) {
            return;
        }
        let relaxed = self.blocks.iter().any(|block| block.common.gathering.relaxed);
        if !relaxed && self.blocks.iter().all(Block::all_wait) {
            let clocks = self.blocks.iter_mut().map(|block| &mut block.common.clocks);
            Clocks::cluster_barrier(&mut clocks.collect::<Vec<_>>());
            self.blocks.iter_mut().for_each(|block| block.pass(None));
            return;
        }
        let mut all = Knowledge::default();
        for block in &mut self.blocks {
            all.join(&block.brings());
        }
        let all = Arc::new(all);
        self.blocks.iter_mut().for_each(|block| block.pass(Some(&all)));
    }
}
