//! The clock of a block, and what each of its threads knows.

use std::sync::Arc;

use super::knowledge::{Knowledge, Message, Time, join};
use super::shadow::ASYNCHRONOUS;
use super::view::View;
use super::{Geometry, Scope};
use crate::interpreter::row::{Mask, lanes};

/// By scope: block, cluster, device and wider.
type ByScope = [Option<Arc<Knowledge>>; 3];

fn index(scope: Scope) -> usize {
    (scope as usize).min(2)
}

const SCOPES: [Scope; 3] = [Scope::Block, Scope::Cluster, Scope::Device];

#[derive(Clone, Default)]
struct Thread {
    /// What it knows beyond what all threads of the block know.
    more: Option<Arc<Knowledge>>,
    /// What it knew at its last fence of each scope: a later strong write releases that.
    fenced: ByScope,
    /// What its strong reads have seen: a later fence of that scope acquires it.
    seen: ByScope,
    /// The message it took last, and how: threads that spin see the same one again and again.
    last: Option<(Arc<Message>, bool, Scope)>,
}

/// The order among the threads of a block, and what they know of others. Threads and warps are numbered
/// in the block.
pub(crate) struct Clocks {
    geometry: Geometry,
    block: u32,
    now: Time,
    /// Everything in the block stamped below this is known to all its threads.
    barrier: Time,
    /// The same for each warp.
    warps: Vec<Time>,
    /// What all threads know of other blocks.
    common: Arc<Knowledge>,
    threads: Vec<Thread>,
    /// Whether any thread may know more than `common`.
    news: bool,
}

impl Clocks {
    /// A grid may have 2^26 warps.
    pub fn new(block: u32, geometry: Geometry) -> Self {
        Self {
            geometry,
            block,
            now: 1,
            barrier: 0,
            warps: vec![0; geometry.warps() as usize],
            common: Arc::default(),
            threads: vec![Thread::default(); geometry.threads as usize],
            news: false,
        }
    }

    /// The first of the block's warps, in the grid.
    fn first_warp(&self) -> u32 {
        self.block * self.geometry.warps()
    }

    /// The lanes that a warp was started with.
    pub(super) fn lanes_of(&self, warp: usize) -> Mask {
        let left = self.geometry.threads.saturating_sub(warp as u32 * 32);
        if left >= 32 { Mask::MAX } else { (1 << left) - 1 }
    }

    /// All threads of the block have met (those that have exited count as met).
    pub fn barrier(&mut self) {
        self.now += 1;
        self.barrier = self.now;
        if !std::mem::take(&mut self.news) {
            return;
        }
        let mut all = Some(Arc::clone(&self.common));
        let mut last = None;
        for more in self.threads.iter_mut().filter_map(|thread| thread.more.take()) {
            if last.as_ref().is_none_or(|last| !Arc::ptr_eq(last, &more)) {
                join(&mut all, &more);
            }
            last = Some(more);
        }
        let mut all = all.unwrap_or_default();
        let first = self.first_warp();
        Arc::make_mut(&mut all).forget(self.block, first..first + self.geometry.warps());
        self.common = all;
    }

    /// All threads of these blocks have met.
    pub fn cluster_barrier(clocks: &mut [&mut Self]) {
        let mut all = Knowledge::default();
        for one in clocks.iter_mut() {
            one.barrier();
            all.join(&one.common);
            all.blocks.raise(one.block, one.barrier);
        }
        let all = Arc::new(all);
        for one in clocks {
            one.common = Arc::clone(&all);
        }
    }

    /// A named barrier is complete: `waiting` threads leave it, and know what those that arrived did. For a
    /// thread that arrived without waiting (`bar.arrive`) call [`arrive`](Self::arrive) when it does, and
    /// [`leave`](Self::leave) with what that gave.
    pub fn barrier_among(&mut self, arrived: &[u32], waiting: &[u32]) {
        let everyone = self.threads.len();
        if arrived.len() == everyone && waiting.len() == everyone {
            return self.barrier();
        }
        let known = Arc::new(self.arrive(arrived));
        self.leave(waiting, &known);
    }

    /// These lanes of a warp have met.
    pub fn warp_barrier(&mut self, warp: u32, met: Mask) {
        let threads: Vec<u32> = lanes(met).map(|lane| warp * 32 + lane as u32).collect();
        let informed = threads.iter().any(|&thread| self.threads[thread as usize].more.is_some());
        let whole = met == self.lanes_of(warp as usize);
        if !whole || informed {
            let known = Arc::new(self.arrive(&threads));
            self.leave(&threads, &known);
        }
        if whole {
            self.now += 1;
            self.warps[warp as usize] = self.now;
        }
    }

    /// What these threads have done and know, all together: a release.
    pub fn arrive(&mut self, threads: &[u32]) -> Knowledge {
        let mut known = (*self.common).clone();
        let mut met = vec![0; self.warps.len()];
        let mut last: Option<&Arc<Knowledge>> = None;
        for &thread in threads {
            met[thread as usize / 32] |= 1 << (thread % 32);
            if let Some(more) = &self.threads[thread as usize].more
                && last.is_none_or(|last| !Arc::ptr_eq(last, more))
            {
                known.join(more);
                last = Some(more);
            }
        }
        self.now += 1;
        known.blocks.raise(self.block, self.barrier);
        for (warp, &met) in met.iter().enumerate().filter(|&(_, &met)| met != 0) {
            let number = self.first_warp() + warp as u32;
            if met == self.lanes_of(warp) {
                known.warps.raise(number, self.now);
                continue;
            }
            known.warps.raise(number, self.warps[warp]);
            for lane in lanes(met) {
                known.threads.raise(number * 32 + lane as u32, self.now);
            }
        }
        known
    }

    /// These threads learn what others released to them: an acquire.
    pub fn leave(&mut self, threads: &[u32], known: &Arc<Knowledge>) {
        self.news |= !threads.is_empty();
        // Threads that shared what they knew go on sharing it.
        let [mut before, mut after] = [const { None }; 2];
        for &thread in threads {
            let more = &mut self.threads[thread as usize].more;
            if after.is_none() || !same(&before, more) {
                before = std::mem::take(more);
                after.clone_from(&before);
                join(&mut after, known);
            }
            more.clone_from(&after);
        }
    }

    /// `fence.acq_rel` or `fence.sc`.
    pub fn fence(&mut self, thread: u32, scope: Scope) {
        for at in 0..=index(scope) {
            let state = &mut self.threads[thread as usize];
            state.fenced[at] = None;
            if let Some(seen) = state.seen[at].take() {
                self.leave(&[thread], &seen);
            }
        }
        let known = Arc::new(self.arrive(&[thread]));
        self.threads[thread as usize].fenced[index(scope)] = Some(known);
    }

    /// What a strong write hands to those who read it: all that the thread knows if it is a release,
    /// otherwise what it knew at its last fence. Those who acquire it know the write itself, too.
    pub fn publish(&mut self, thread: u32, release: bool, scope: Scope) -> Option<Arc<Message>> {
        if release {
            let known = Arc::new(self.arrive(&[thread]));
            let mut message = Message::new(self.now - 1, true);
            message.add(self.block, scope, known);
            return Some(Arc::new(message));
        }
        let fenced = &self.threads[thread as usize].fenced;
        let number = self.first_warp() * 32 + thread;
        let earliest = fenced.iter().flatten().map(|known| known.threads.get(number)).min()?;
        // If a barrier came between fence and write, the stamp must not lie before it.
        let barrier = self.barrier.max(self.warps[thread as usize / 32]);
        let stamp = if earliest > barrier { earliest - 1 } else { self.now };
        let mut message = Message::new(stamp, false);
        for (fence, known) in SCOPES.into_iter().zip(fenced) {
            if let Some(known) = known {
                message.add(self.block, scope.min(fence), Arc::clone(known));
            }
        }
        Some(Arc::new(message))
    }

    /// A strong read has seen this: an acquire knows it at once, any other from the next fence on.
    pub fn learn(&mut self, thread: u32, acquire: bool, scope: Scope, seen: Option<&Arc<Message>>) {
        let Some(seen) = seen else {
            return;
        };
        let state = &mut self.threads[thread as usize];
        let again = |(last, how, wide): &(Arc<Message>, bool, Scope)| {
            Arc::ptr_eq(last, seen) && *how == acquire && *wide == scope
        };
        if state.last.as_ref().is_some_and(again) {
            return;
        }
        state.last = Some((Arc::clone(seen), acquire, scope));
        for (takes, known) in seen.reaching(self.block, scope, self.geometry) {
            let into = if acquire { &mut state.more } else { &mut state.seen[index(takes)] };
            join(into, known);
            self.news |= acquire;
        }
    }

    /// An asynchronous operation of this thread begins: it knows what its thread knows now.
    pub fn start(&mut self, thread: u32) -> Operation {
        let before = Arc::new(self.arrive(&[thread]));
        let time = self.now;
        self.now += 1;
        let warp = (self.first_warp() + thread / 32) | ASYNCHRONOUS;
        Operation {
            geometry: self.geometry,
            block: self.block,
            warp,
            lane: thread % 32,
            time,
            before,
        }
    }

    /// Whether these lanes of a warp know the same, so that one [`view_of`](Self::view_of) serves all.
    #[inline]
    pub fn know_the_same(&self, warp: u32, lanes: Mask) -> bool {
        let uninformed = |lane: usize| self.threads[warp as usize * 32 + lane].more.is_none();
        !self.news || self::lanes(lanes).all(uninformed)
    }

    /// What a check has to know about lanes of a warp that read the same place together. What one of several
    /// did before is not ordered before the others' reads.
    #[inline]
    pub fn view_of(&self, warp: u32, lanes: Mask) -> View<'_> {
        let own = if lanes.is_power_of_two() { lanes } else { 0 };
        let view = self.view(warp * 32 + lanes.trailing_zeros());
        View { lane: lanes, own, ..view }
    }

    /// What a check has to know about a thread.
    #[inline]
    pub fn view(&self, thread: u32) -> View<'_> {
        let warp = thread / 32;
        let first_warp = self.first_warp();
        View {
            geometry: self.geometry,
            block: self.block,
            first_warp,
            warps: self.geometry.warps(),
            warp: first_warp + warp,
            lane: 1 << (thread % 32),
            own: 1 << (thread % 32),
            now: self.now,
            barrier: self.barrier,
            warp_barrier: self.warps[warp as usize],
            common: &self.common,
            more: self.threads[thread as usize].more.as_deref(),
        }
    }
}

fn same(one: &Option<Arc<Knowledge>>, other: &Option<Arc<Knowledge>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    }
}

/// An asynchronous operation: it is ordered after what its thread had done when it started it, and before
/// nothing until somebody learns of its completion; not even before its own thread's next access.
pub(crate) struct Operation {
    geometry: Geometry,
    block: u32,
    warp: u32,
    lane: u32,
    time: Time,
    before: Arc<Knowledge>,
}

impl Operation {
    pub fn view(&self) -> View<'_> {
        View {
            geometry: self.geometry,
            block: self.block,
            first_warp: self.warp,
            warps: 0,
            warp: self.warp,
            lane: 1 << self.lane,
            own: 0,
            now: self.time,
            barrier: 0,
            warp_barrier: 0,
            common: &self.before,
            more: None,
        }
    }

    /// What those learn who wait for it.
    pub fn complete(&self) -> Knowledge {
        let mut known = (*self.before).clone();
        known.threads.raise(self.warp * 32 + self.lane, self.time + 1);
        known
    }
}
