//! A block: its warps and what they share.

use super::super::counters::Tally;
use super::super::fault::{Fault, FaultKind};
use super::super::memory::{Clocks, GlobalView, Shared};
use super::super::options::Schedule;
use super::super::random::Random;
use super::super::row::{Mask, lanes};
use super::access::Pattern;
use super::barrier::Named;
use super::cluster::{CLUSTER, Gathering};
use super::gang::Peers;
use super::grid::Grid;
use super::object::Objects;
use super::proxy::Proxy;
use super::transfer::Transfers;
use super::turn::Turn;
use super::warp::{Group, Waits, Warp};
use super::warpgroup::{PRODUCTS, Products};

/// Warp instructions of a turn in the converged schedule.
const TURN: u32 = 512;
/// At most as many in the shuffled one.
const SHORT_TURN: usize = 24;

pub(super) struct Block<'g> {
    pub grid: &'g Grid<'g>,
    /// Its number in the grid.
    pub number: u32,
    pub warps: Vec<Warp>,
    pub common: Common,
}

/// What the warps of a block share.
pub(super) struct Common {
    pub memory: GlobalView,
    pub shared: Shared,
    pub clocks: Clocks,
    pub barriers: [Named; 16],
    pub objects: Objects,
    pub gathering: Gathering,
    pub transfers: Transfers,
    /// By warp.
    pub products: Vec<Products>,
    /// Where something in the kernel uses the asynchronous proxy.
    pub proxy: Option<Proxy>,
    pub random: Random,
    /// What each instruction has counted.
    pub tallies: Vec<Tally>,
    /// How each instruction asked for memory last.
    pub patterns: Vec<Option<Box<Pattern>>>,
    /// An unwritten value was stored. The block runs on, because the cause may show: a race with the write
    /// that should have come first.
    pub suspect: Option<Fault>,
    /// Barriers that were completed.
    pub completed: u64,
    /// Whether anything was done that may let others go on.
    pub progress: bool,
}

impl<'g> Block<'g> {
    pub fn new(grid: &'g Grid<'g>, memory: GlobalView, number: u32) -> Self {
        let place = grid.place(number);
        let geometry = grid.geometry();
        let shared = usize::try_from(grid.shared_bytes()).unwrap_or(usize::MAX);
        let warps =
            (0..grid.warps_per_block()).map(|index| Warp::new(index, grid, place)).collect();
        let seed = grid.options.seed ^ grid.number.rotate_left(32);
        Self {
            grid,
            number,
            warps,
            common: Common {
                memory,
                shared: Shared::new(shared, grid.checks()),
                clocks: Clocks::new(number, geometry),
                barriers: std::array::from_fn(|_| Named::default()),
                objects: Objects::default(),
                gathering: Gathering::new(grid.warps_per_block()),
                transfers: Transfers::default(),
                products: (0..grid.warps_per_block()).map(|_| Products::default()).collect(),
                proxy: grid
                    .code
                    .asynchronous
                    .then(|| Proxy::new(grid.shared_bytes(), grid.threads_per_block())),
                random: Random::new(seed, u64::from(number)),
                tallies: vec![Tally::default(); grid.code.steps.len()],
                patterns: grid.code.steps.iter().map(|_| None).collect(),
                suspect: None,
                completed: 0,
                progress: false,
            },
        }
    }

    pub fn done(&self) -> bool {
        self.warps.iter().all(|warp| warp.live == 0)
    }

    /// A turn for every warp; gives the instructions that ran.
    pub fn round(&mut self, peers: Peers<'_, 'g>) -> Result<u64, Fault> {
        let ran =
            self.turns(peers).map_err(|fault| match (fault.kind, self.common.suspect.take()) {
                (FaultKind::Race | FaultKind::ReadOnlyWritten, _) | (_, None) => fault,
                (_, Some(suspect)) => suspect,
            })?;
        match self.common.suspect.take() {
            Some(suspect) if self.done() || !self.ready() => Err(suspect),
            suspect => {
                self.common.suspect = suspect;
                Ok(ran)
            }
        }
    }

    fn turns(&mut self, mut peers: Peers<'_, 'g>) -> Result<u64, Fault> {
        let mut order: Vec<usize> = (0..self.warps.len()).collect();
        let shuffled = self.grid.options.schedule == Schedule::Shuffled;
        if shuffled {
            self.common.random.shuffle(&mut order);
        }
        let mut ran = 0;
        for index in order {
            let budget = match shuffled {
                true => 1 + self.common.random.below(SHORT_TURN) as u32,
                false => TURN,
            };
            if self.warps[index].live != 0 {
                ran += u64::from(self.turn(index, peers.lend()).run(budget)?);
            }
        }
        if self.complete_barriers() {
            self.common.progress = true;
        }
        Ok(ran)
    }

    /// A warp with all that its instructions may touch.
    pub fn turn<'a>(&'a mut self, warp: usize, peers: Peers<'a, 'g>) -> Turn<'a, 'g> {
        Turn {
            grid: self.grid,
            block: self.number,
            warp: &mut self.warps[warp],
            common: &mut self.common,
            peers,
            pc: 0,
        }
    }

    /// Whether a warp can run.
    pub fn ready(&self) -> bool {
        let ready = |group: &Group| group.waits == Waits::No;
        self.warps.iter().any(|warp| warp.live != 0 && warp.groups.iter().any(ready))
    }

    /// Why nobody in this block can go on.
    pub fn stuck(&self) -> Fault {
        for warp in &self.warps {
            if let Some(group) = warp.groups.iter().find(|group| group.waits == Waits::Lanes) {
                return self.missing_lanes(warp, group);
            }
        }
        let live: u32 = self.warps.iter().map(|warp| warp.live.count_ones()).sum();
        let mut message = String::from("no thread can go on");
        let mut pc = 0;
        for (id, named) in self.common.barriers.iter().enumerate().filter(|(_, named)| named.used())
        {
            pc = named.pc();
            message.push_str(&format!(
                "; barrier {id} (line {}): {}",
                self.grid.line(pc),
                named.describe(live)
            ));
        }
        let groups = self.warps.iter().flat_map(|warp| &warp.groups);
        for group in groups {
            match group.waits {
                Waits::Barrier(CLUSTER) => pc = group.pc,
                Waits::Barrier(PRODUCTS) => {
                    pc = group.pc;
                    message.push_str(
                        "; a warp waits for products that its warpgroup did not all issue",
                    );
                }
                _ => {}
            }
        }
        if let Some(told) = self.common.gathering.describe() {
            message.push_str(&format!("; {told}"));
        }
        let mut fault = self.grid.fault(FaultKind::Deadlock, pc, message);
        fault.block = Some(self.grid.place(self.number));
        fault
    }

    /// Threads run, and nothing comes of it.
    pub fn spinning(&self, may_be_others: bool) -> Fault {
        let mut message = String::from("threads run on and nothing changes");
        let objects = self.common.objects.describe();
        if !objects.is_empty() {
            message.push_str(&format!("; {objects}"));
        }
        let kind = match may_be_others {
            true => {
                message.push_str("; blocks that have not started may never run beside this one");
                FaultKind::NotResident
            }
            false => FaultKind::Deadlock,
        };
        self.running(kind, message)
    }

    /// The launch has run more instructions than it may.
    pub fn endless(&self) -> Fault {
        let limit = self.grid.options.limit;
        self.running(FaultKind::Limit, format!("the launch may run {limit} warp instructions"))
    }

    /// A fault of the block while its threads run.
    fn running(&self, kind: FaultKind, message: String) -> Fault {
        let groups = self.warps.iter().flat_map(|warp| &warp.groups);
        let pc = groups.filter(|group| group.waits == Waits::No).map(|group| group.pc).next();
        let mut fault = self.grid.fault(kind, pc.unwrap_or(0), message);
        fault.block = Some(self.grid.place(self.number));
        fault
    }

    /// Lanes wait at a `.sync` for others that are somewhere else for good.
    fn missing_lanes(&self, warp: &Warp, group: &Group) -> Fault {
        let missing: Mask = warp.live & !group.lanes;
        let where_at = |lane: usize| {
            let found = warp.groups.iter().find(|other| other.lanes >> lane & 1 == 1);
            found.map_or(0, |other| self.grid.line(other.pc))
        };
        let told = match lanes(missing).next() {
            Some(lane) => format!(
                "lanes {:#010x} wait for others of their warp; lane {lane} waits at line {} instead",
                group.lanes,
                where_at(lane)
            ),
            None => format!("lanes {:#010x} wait for lanes that have exited", group.lanes),
        };
        let mut fault = self.grid.fault(FaultKind::DivergentSync, group.pc, told);
        fault.block = Some(self.grid.place(self.number));
        let thread = (warp.index * super::super::row::LANES) as u32 + group.lanes.trailing_zeros();
        fault.thread = Some(self.grid.thread(thread));
        fault
    }
}
