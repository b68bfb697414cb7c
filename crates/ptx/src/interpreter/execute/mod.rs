//! Running a launch: host threads take blocks, a few at a time, and run their warps in turns.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

mod access;
mod atomic;
mod barrier;
mod block;
mod bulk;
mod cluster;
mod copy;
mod gang;
mod grid;
mod object;
mod proxy;
mod step;
mod tile;
mod together;
mod transfer;
mod turn;
mod warp;
mod warpgroup;
mod windows;

pub(crate) use grid::Grid;
pub(crate) use object::MOST_ARRIVALS;
pub(crate) use windows::to_generic;

use super::counters::{Counters, Tally};
use super::fault::Fault;
use super::memory::GlobalView;
use super::options::Schedule;
use super::random::Random;
use gang::Gang;

/// Most gangs that a host thread runs side by side.
const MOST_RESIDENT: usize = 3;

/// Runs all blocks; gives what each instruction has counted.
pub(crate) fn run(
    grid: &Grid<'_>,
    memory: &GlobalView,
    counters: Counters,
) -> Result<Counters, Fault> {
    let total = Mutex::new(counters);
    let queue = Queue::new(grid);
    let fault: Mutex<Option<Fault>> = Mutex::new(None);
    let work = |memory: GlobalView| {
        let mut worker = Worker::new(grid, &queue, memory);
        match worker.run() {
            Ok(()) => lock(&total).absorb(&worker.tallies, worker.completed),
            Err(found) => {
                grid.failed.store(true, Ordering::Relaxed);
                lock(&fault).get_or_insert(found);
            }
        }
    };
    match workers(grid) {
        1 => work(memory.clone()),
        workers => thread::scope(|scope| {
            for _ in 0..workers {
                let memory = memory.clone();
                scope.spawn(|| work(memory));
            }
        }),
    }
    match fault.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(fault) => Err(fault),
        None => Ok(total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)),
    }
}

/// Blocks that wait for one another are run by one host thread.
fn workers(grid: &Grid<'_>) -> usize {
    if grid.cooperative {
        return 1;
    }
    let wanted = match grid.options.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        some => some,
    };
    wanted.min(usize::try_from(grid.gangs()).unwrap_or(usize::MAX)).max(1)
}

/// The gangs that have not started, in the order in which they will.
struct Queue {
    next: AtomicU64,
    count: u64,
    /// Numbers are multiplied by this, modulo the count, so that any gang may come first.
    stride: u64,
    first: u64,
}

impl Queue {
    fn new(grid: &Grid<'_>) -> Self {
        let count = grid.gangs();
        let (mut stride, mut first) = (1, 0);
        if grid.options.schedule == Schedule::Shuffled && count > 1 {
            let mut random = Random::new(grid.options.seed, grid.number);
            first = random.next() % count;
            stride = (random.next() % count).max(1);
            while common_divisor(stride, count) != 1 {
                stride += 1;
            }
        }
        Self { next: AtomicU64::new(0), count, stride, first }
    }

    fn take(&self) -> Option<u32> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        if index >= self.count {
            return None;
        }
        let number = (u128::from(index) * u128::from(self.stride) + u128::from(self.first))
            % u128::from(self.count);
        u32::try_from(number).ok()
    }

    fn left(&self) -> bool {
        self.next.load(Ordering::Relaxed) < self.count
    }
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// A host thread with the gangs that it runs.
struct Worker<'g> {
    grid: &'g Grid<'g>,
    queue: &'g Queue,
    memory: GlobalView,
    resident: Vec<Gang<'g>>,
    tallies: Vec<Tally>,
    completed: u64,
}

impl<'g> Worker<'g> {
    fn new(grid: &'g Grid<'g>, queue: &'g Queue, memory: GlobalView) -> Self {
        let tallies = vec![Tally::default(); grid.code.steps.len()];
        Self { grid, queue, memory, resident: Vec::new(), tallies, completed: 0 }
    }

    fn run(&mut self) -> Result<(), Fault> {
        let mut random = Random::new(self.grid.options.seed, !self.grid.number);
        let most = match self.grid.options.schedule {
            _ if self.grid.cooperative => usize::MAX,
            Schedule::Converged => 1,
            Schedule::Shuffled => 1 + random.below(MOST_RESIDENT),
        };
        let mut idle = 0;
        let mut seen = 0;
        loop {
            while self.resident.len() < most {
                let Some(number) = self.queue.take() else { break };
                self.resident.push(Gang::new(self.grid, &self.memory, number));
            }
            if self.resident.is_empty() || self.grid.failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            if self.grid.ran.load(Ordering::Relaxed) > self.grid.options.limit {
                return Err(self.resident[0].waiting().endless());
            }
            let ran = self.round()?;
            self.grid.ran.fetch_add(ran, Ordering::Relaxed);
            idle += ran;
            let now = self.grid.progress.load(Ordering::Relaxed);
            if now != seen {
                (idle, seen) = (0, now);
            }
            if idle > self.grid.options.patience {
                let others = !self.grid.cooperative && self.queue.left();
                return Err(self.resident[0].waiting().spinning(others));
            }
        }
    }

    /// A round for every gang; gives the instructions that ran. A gang that is done leaves.
    fn round(&mut self) -> Result<u64, Fault> {
        let mut ran = 0;
        for gang in &mut self.resident {
            ran += gang.round()?;
        }
        let (tallies, completed) = (&mut self.tallies, &mut self.completed);
        self.resident.retain(|gang| {
            if gang.done() {
                *completed += gang.add_to(tallies);
            }
            !gang.done()
        });
        Ok(ran)
    }
}

/// Nothing under these locks is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
