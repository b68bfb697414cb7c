//! Schedules: what every rank computes, sends, receives and merges, as data.
//!
//! A schedule is made once for all ranks, as one list of transfers and one of blocks; what a rank
//! has to do, its [program](Schedule::program), is what of them concerns it. So every send has its
//! receive, by construction. What nobody sees is neither computed nor sent: of a shard that is
//! passed on only the half goes that a later holder needs.

use std::fmt;

use super::partition::Partition;
use crate::attention::{Class, Mask, Sight};

/// Which of a rank's tokens: in a zigzag the early half are those of its first chunk, the late
/// half those of its second; otherwise all are early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Half {
    Whole,
    Early,
    Late,
}

impl Half {
    fn of(early: bool, late: bool) -> Option<Self> {
        match (early, late) {
            (true, true) => Some(Self::Whole),
            (true, false) => Some(Self::Early),
            (false, true) => Some(Self::Late),
            (false, false) => None,
        }
    }

    /// Whether the early tokens are among them, and the late ones.
    pub fn holds(self) -> [bool; 2] {
        [self != Self::Late, self != Self::Early]
    }

    /// Those of either.
    fn union(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let [a, b] = [one, other].map(|half| half.map_or([false; 2], Self::holds));
        Self::of(a[0] || b[0], a[1] || b[1])
    }
}

/// Which heads of keys, and the heads of queries that share them: a ring in two directions sends
/// the first half one way, and the second the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Heads {
    All,
    First,
    Second,
}

impl Heads {
    /// Of so many.
    pub fn of(self, heads: usize) -> std::ops::Range<usize> {
        match self {
            Self::All => 0..heads,
            Self::First => 0..heads / 2,
            Self::Second => heads / 2..heads,
        }
    }
}

/// Some tokens of a rank, and some heads of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Piece {
    /// The rank whose tokens they are.
    pub owner: usize,
    /// Which of them.
    pub half: Half,
    /// Which heads.
    pub heads: Heads,
}

/// What travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Item {
    /// Keys and values.
    Keys,
    /// Queries; backward with the gradients of results, lse and row terms.
    Queries,
    /// A partial result and its lse.
    Result,
    /// Sums of gradients of keys and values.
    KeyGradients,
    /// A partial gradient of queries.
    QueryGradients,
}

/// Transfers of different lanes do not wait for one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Of what is to be computed with.
    Inputs,
    /// Of what was computed.
    Results,
}

/// A transfer between two ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Transfer {
    /// The step at which both sides post it: inputs before its block is computed, results behind.
    pub step: usize,
    /// Its lane.
    pub lane: Lane,
    /// What travels.
    pub item: Item,
    /// Of which tokens and heads.
    pub piece: Piece,
    /// The rank that sends.
    pub from: usize,
    /// The rank that receives.
    pub to: usize,
}

/// A block of attention that a rank computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block {
    /// The step.
    pub step: usize,
    /// The rank that computes.
    pub rank: usize,
    /// The queries.
    pub queries: Piece,
    /// The keys.
    pub keys: Piece,
}

/// A way to let shards meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Queries stay; keys and values go round, and backward their gradients behind them.
    KvRing,
    /// The same in both directions, with half of the heads each.
    TwoWay,
    /// Keys and values stay; queries go round, and what was computed for them goes straight home.
    TokenRing,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::KvRing, Self::TwoWay, Self::TokenRing];

    /// As text names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::KvRing => "kv-ring",
            Self::TwoWay => "two-way",
            Self::TokenRing => "token-ring",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Pass {
    Forward,
    Backward,
}

impl Pass {
    /// As text names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
        }
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where travelling shards go: to the next rank, or to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Direction {
    Up,
    Down,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

impl Direction {
    /// The rank that is so many hops away.
    fn hops(self, from: usize, hops: usize, ranks: usize) -> usize {
        match self {
            Self::Up => (from + hops) % ranks,
            Self::Down => (from + ranks - hops % ranks) % ranks,
        }
    }
}

/// Who needs what of whom: which tokens of a rank's queries and of another's keys meet.
#[derive(Clone, Debug)]
pub struct Meetings {
    ranks: usize,
    /// By the owner of queries and that of keys.
    meet: Vec<Option<[Half; 2]>>,
}

impl Meetings {
    /// Of a sequence of queries and one of keys, cut among the same ranks.
    ///
    /// # Panics
    ///
    /// Where they are cut among different numbers of ranks.
    pub fn new(mask: &Mask, queries: &Partition, keys: &Partition) -> Self {
        assert_eq!(queries.ranks(), keys.ranks(), "ranks of queries and keys");
        let ranks = queries.ranks();
        let meet = (0..ranks * ranks).map(|pair| {
            let [of_queries, of_keys] =
                [queries.positions(pair / ranks), keys.positions(pair % ranks)];
            let sight = Sight::new(mask, of_queries, of_keys);
            let early = |positions: crate::attention::Positions| positions.segments()[0].length;
            let halves = |early: usize, all: usize| [0..early, early..all];
            let q = halves(early(of_queries), of_queries.len());
            let k = halves(early(of_keys), of_keys.len());
            let meets = |i: usize, j: usize| match sight.class(q[i].clone(), k[j].clone()) {
                Class::Skip => false,
                Class::Full => true,
                // Perhaps nobody sees anything: a window may be narrower than what lies between.
                Class::Partial => q[i].clone().any(|query| {
                    let seen = sight.keys_of(query);
                    seen.start.max(k[j].start) < seen.end.min(k[j].end)
                }),
            };
            let [ee, el, le, ll] = [meets(0, 0), meets(0, 1), meets(1, 0), meets(1, 1)];
            let of_queries = Half::of(ee || el, le || ll)?;
            let of_keys = Half::of(ee || le, el || ll)?;
            Some([of_queries, of_keys])
        });
        Self { ranks, meet: meet.collect() }
    }

    /// The halves of queries and keys that meet.
    pub fn of(&self, queries: usize, keys: usize) -> Option<[Half; 2]> {
        self.meet[queries * self.ranks + keys]
    }
}

/// What a rank does, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Starts transfers, all at once; it does not wait.
    Post {
        /// The step.
        step: usize,
        /// The lane.
        lane: Lane,
        /// What is sent.
        sends: Vec<Transfer>,
        /// What is received.
        receives: Vec<Transfer>,
    },
    /// Waits for what was posted for a step and lane.
    Wait {
        /// The step.
        step: usize,
        /// The lane.
        lane: Lane,
    },
    /// Computes a block.
    Compute(Block),
    /// Puts what has come together with what is there: partial results are merged, gradients added.
    Merge(Transfer),
}

/// What all ranks do.
#[derive(Clone, Debug)]
pub struct Schedule {
    algorithm: Algorithm,
    pass: Pass,
    ranks: usize,
    transfers: Vec<Transfer>,
    blocks: Vec<Block>,
}

impl Schedule {
    /// Of shards that meet so. Two ways need at least two heads of keys.
    pub fn new(
        algorithm: Algorithm,
        pass: Pass,
        direction: Direction,
        meetings: &Meetings,
    ) -> Self {
        let (transfers, blocks) = (Vec::new(), Vec::new());
        let mut schedule = Self { algorithm, pass, ranks: meetings.ranks, transfers, blocks };
        match algorithm {
            Algorithm::KvRing => schedule.keys_travel(Heads::All, direction, meetings),
            Algorithm::TwoWay => {
                schedule.keys_travel(Heads::First, Direction::Up, meetings);
                schedule.keys_travel(Heads::Second, Direction::Down, meetings);
            }
            Algorithm::TokenRing => schedule.queries_travel(direction, meetings),
        }
        schedule.transfers.sort_unstable();
        schedule.blocks.sort_unstable();
        schedule
    }

    /// The way of shards.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The pass.
    pub fn pass(&self) -> Pass {
        self.pass
    }

    /// The ranks.
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// All transfers, in the order of their steps.
    pub fn transfers(&self) -> &[Transfer] {
        &self.transfers
    }

    /// All blocks, in the order of their steps.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Passes a shard on from its owner, step by step, as long as somebody needs some of it. `needs`
    /// are what its holders need, in their order.
    fn pass_on(
        &mut self,
        item: Item,
        owner: usize,
        heads: Heads,
        holders: &[usize],
        needs: &[Option<Half>],
    ) {
        for step in 0..holders.len() - 1 {
            let later = needs[step + 1..].iter().fold(None, |all, &half| Half::union(all, half));
            let Some(half) = later else { return };
            self.transfers.push(Transfer {
                step,
                lane: Lane::Inputs,
                item,
                piece: Piece { owner, half, heads },
                from: holders[step],
                to: holders[step + 1],
            });
        }
    }

    fn keys_travel(&mut self, heads: Heads, direction: Direction, meetings: &Meetings) {
        for owner in 0..self.ranks {
            let holders: Vec<usize> =
                (0..self.ranks).map(|step| direction.hops(owner, step, self.ranks)).collect();
            let meet: Vec<_> = holders.iter().map(|&rank| meetings.of(rank, owner)).collect();
            let needs: Vec<_> = meet.iter().map(|meet| meet.map(|[_, keys]| keys)).collect();
            self.pass_on(Item::Keys, owner, heads, &holders, &needs);
            for (step, (&rank, meet)) in holders.iter().zip(&meet).enumerate() {
                let Some([queries, keys]) = *meet else { continue };
                let queries = Piece { owner: rank, half: queries, heads };
                let keys = Piece { owner, half: keys, heads };
                self.blocks.push(Block { step, rank, queries, keys });
            }
            if self.pass == Pass::Backward {
                self.gradients_follow(owner, heads, &holders, &needs);
            }
        }
    }

    /// Sums of gradients of a shard go from each rank that adds to them to the next one that does,
    /// and home from the last, each half by itself; halves that go the same way go together.
    fn gradients_follow(
        &mut self,
        owner: usize,
        heads: Heads,
        holders: &[usize],
        needs: &[Option<Half>],
    ) {
        let mut hops: Vec<(usize, usize, [bool; 2])> = Vec::new();
        for side in [0, 1] {
            let adds = |step: &usize| needs[*step].is_some_and(|half| half.holds()[side]);
            let adding: Vec<usize> = (0..holders.len()).filter(adds).collect();
            for (i, &step) in adding.iter().enumerate() {
                let to = adding.get(i + 1).map_or(owner, |&next| holders[next]);
                if to == holders[step] {
                    continue;
                }
                match hops.iter_mut().find(|hop| (hop.0, hop.1) == (step, to)) {
                    Some(hop) => hop.2[side] = true,
                    None => hops.push((step, to, [side == 0, side == 1])),
                }
            }
        }
        self.transfers.extend(hops.into_iter().filter_map(|(step, to, [early, late])| {
            let half = Half::of(early, late)?;
            let (piece, from) = (Piece { owner, half, heads }, holders[step]);
            let (lane, item) = (Lane::Results, Item::KeyGradients);
            Some(Transfer { step, lane, item, piece, from, to })
        }));
    }

    fn queries_travel(&mut self, direction: Direction, meetings: &Meetings) {
        let heads = Heads::All;
        let item = match self.pass {
            Pass::Forward => Item::Result,
            Pass::Backward => Item::QueryGradients,
        };
        for owner in 0..self.ranks {
            let holders: Vec<usize> =
                (0..self.ranks).map(|step| direction.hops(owner, step, self.ranks)).collect();
            let meet: Vec<_> = holders.iter().map(|&rank| meetings.of(owner, rank)).collect();
            let needs: Vec<_> = meet.iter().map(|meet| meet.map(|[queries, _]| queries)).collect();
            self.pass_on(Item::Queries, owner, heads, &holders, &needs);
            for (step, (&rank, meet)) in holders.iter().zip(&meet).enumerate() {
                let Some([queries, keys]) = *meet else { continue };
                let queries = Piece { owner, half: queries, heads };
                let keys = Piece { owner: rank, half: keys, heads };
                self.blocks.push(Block { step, rank, queries, keys });
                if rank != owner {
                    let (lane, piece) = (Lane::Results, queries);
                    self.transfers.push(Transfer {
                        step,
                        lane,
                        item,
                        piece,
                        from: rank,
                        to: owner,
                    });
                }
            }
        }
    }

    /// What a rank does. All that a step transfers is posted before anything is waited for, and
    /// results travel while the next block is computed.
    pub fn program(&self, rank: usize) -> Vec<Action> {
        let mut program = Vec::new();
        let mut open = Vec::new();
        for step in 0..self.ranks {
            let posted = self.post(&mut program, rank, step, Lane::Inputs);
            let blocks =
                self.blocks.iter().filter(|block| (block.step, block.rank) == (step, rank));
            program.extend(blocks.copied().map(Action::Compute));
            // What came for blocks of this step is added to them before they go on.
            let due: Vec<usize> = match self.algorithm {
                Algorithm::TokenRing => Vec::new(),
                Algorithm::KvRing | Algorithm::TwoWay => std::mem::take(&mut open),
            };
            self.merge(&mut program, rank, due);
            let sent = self.post(&mut program, rank, step, Lane::Results);
            // Of queries' results those of the step before have come meanwhile.
            let due = std::mem::take(&mut open);
            self.merge(&mut program, rank, due);
            open.extend(sent.then_some(step));
            if posted {
                program.push(Action::Wait { step, lane: Lane::Inputs });
            }
        }
        self.merge(&mut program, rank, open);
        program
    }

    /// Posts what a step of a lane has for a rank; whether there is anything.
    fn post(&self, program: &mut Vec<Action>, rank: usize, step: usize, lane: Lane) -> bool {
        let of_step = || {
            let transfers = self.transfers.iter().copied();
            transfers.filter(move |transfer| (transfer.step, transfer.lane) == (step, lane))
        };
        let sends: Vec<_> = of_step().filter(|transfer| transfer.from == rank).collect();
        let receives: Vec<_> = of_step().filter(|transfer| transfer.to == rank).collect();
        let any = !sends.is_empty() || !receives.is_empty();
        if any {
            program.push(Action::Post { step, lane, sends, receives });
        }
        any
    }

    /// Waits for results of steps, and merges what came.
    fn merge(&self, program: &mut Vec<Action>, rank: usize, steps: Vec<usize>) {
        for step in steps {
            program.push(Action::Wait { step, lane: Lane::Results });
            let came = self.transfers.iter().filter(|transfer| {
                (transfer.step, transfer.lane, transfer.to) == (step, Lane::Results, rank)
            });
            program.extend(came.copied().map(Action::Merge));
        }
    }
}

#[cfg(test)]
mod tests;
