//! Schedules as data: who meets whom, and that no order of events leads to a standstill.

use std::collections::{BTreeMap, BTreeSet};

use super::super::partition::Scheme;
use super::*;

const ALGORITHMS: [Algorithm; 3] = [Algorithm::KvRing, Algorithm::TwoWay, Algorithm::TokenRing];

/// A mask and sequences that are cut.
#[derive(Debug)]
struct Cut {
    mask: Mask,
    queries: Partition,
    keys: Partition,
}

impl Cut {
    fn new(mask: Mask, scheme: Scheme, [queries, keys]: [usize; 2], ranks: usize) -> Self {
        let cut = |total| Partition::new(scheme, total, ranks).unwrap();
        Self { mask, queries: cut(queries), keys: cut(keys) }
    }

    fn meetings(&self) -> Meetings {
        Meetings::new(&self.mask, &self.queries, &self.keys)
    }

    fn schedules(&self) -> impl Iterator<Item = Schedule> {
        let meetings = self.meetings();
        ALGORITHMS.into_iter().flat_map(move |algorithm| {
            let meetings = meetings.clone();
            [Pass::Forward, Pass::Backward].into_iter().flat_map(move |pass| {
                let meetings = meetings.clone();
                [Direction::Up, Direction::Down]
                    .into_iter()
                    .map(move |direction| Schedule::new(algorithm, pass, direction, &meetings))
            })
        })
    }
}

fn cuts() -> Vec<Cut> {
    let masks = [
        Mask::default(),
        Mask::causal(),
        Mask::causal().with_window(Some(3), None),
        Mask::default().with_window(Some(0), Some(2)),
        Mask::default().with_window(Some(7), Some(0)),
    ];
    let schemes = [Scheme::Contiguous, Scheme::Zigzag, Scheme::Striped];
    let lengths = [[24, 24], [13, 13], [3, 3], [5, 40], [40, 5], [0, 8]];
    let mut cuts = Vec::new();
    for (mask, scheme) in
        masks.into_iter().flat_map(|mask| schemes.into_iter().map(move |scheme| (mask, scheme)))
    {
        for ranks in [1, 2, 3, 4, 5, 8] {
            cuts.extend(lengths.map(|lengths| Cut::new(mask, scheme, lengths, ranks)));
        }
    }
    cuts
}

fn describe(cut: &Cut, schedule: &Schedule) -> String {
    format!("{:?} {} {cut:?}", schedule.pass(), schedule.algorithm())
}

/// Each of two halves of heads.
const HEADS: usize = 2;

#[test]
fn every_pair_is_computed_once_and_what_nobody_sees_never() {
    for cut in cuts() {
        for schedule in cut.schedules() {
            let what = describe(&cut, &schedule);
            let mut met = BTreeSet::new();
            let mut covered = BTreeMap::new();
            for block in schedule.blocks() {
                for head in block.queries.heads.of(HEADS) {
                    let owners = (block.queries.owner, block.keys.owner);
                    assert!(met.insert((owners, head)), "{what}: {owners:?} meet twice");
                    covered.insert((owners, head), block);
                }
                assert_eq!(block.queries.heads, block.keys.heads, "{what}");
            }
            for (r, o) in
                (0..schedule.ranks()).flat_map(|r| (0..schedule.ranks()).map(move |o| (r, o)))
            {
                let (q, k) = (cut.queries.positions(r), cut.keys.positions(o));
                let sight = Sight::new(&cut.mask, q, k);
                let mut pairs = (0..q.len()).flat_map(|i| (0..k.len()).map(move |j| (i, j)));
                let seen: Vec<_> = pairs.by_ref().filter(|&(i, j)| sight.sees(i, j)).collect();
                for head in 0..HEADS {
                    let Some(block) = covered.get(&((r, o), head)) else {
                        assert!(seen.is_empty(), "{what}: {r} and {o} never meet");
                        continue;
                    };
                    assert!(!seen.is_empty(), "{what}: {r} and {o} meet for nothing");
                    let (is, js) = (
                        cut.queries.tokens(r, block.queries.half),
                        cut.keys.tokens(o, block.keys.half),
                    );
                    let all = seen.iter().all(|(i, j)| is.contains(i) && js.contains(j));
                    assert!(all, "{what}: {r} and {o} do not meet whole");
                }
            }
        }
    }
}

/// What a rank holds of one item of one owner, for each half of tokens and each head: who has added
/// to it.
type Held = BTreeMap<(Item, usize, usize, usize), BTreeSet<usize>>;

/// A rank that carries out its program on nothing but names.
struct Rank {
    program: Vec<Action>,
    next: usize,
    held: Held,
    posted: BTreeMap<(usize, Lane), (Vec<Transfer>, Vec<Transfer>)>,
}

impl Rank {
    fn new(schedule: &Schedule, rank: usize) -> Self {
        let mut held = Held::new();
        for (half, head) in halves(Half::Whole, Heads::All) {
            for item in [Item::Keys, Item::Queries] {
                held.insert((item, rank, half, head), BTreeSet::new());
            }
        }
        Self { program: schedule.program(rank), next: 0, held, posted: BTreeMap::new() }
    }
}

fn halves(half: Half, heads: Heads) -> impl Iterator<Item = (usize, usize)> {
    let held = half.holds();
    heads
        .of(HEADS)
        .flat_map(move |head| (0..2).filter(move |&side| held[side]).map(move |side| (side, head)))
}

/// The product that a block adds to, of queries or of keys.
fn product(pass: Pass, of_queries: bool) -> Item {
    match (pass, of_queries) {
        (_, false) => Item::KeyGradients,
        (Pass::Forward, true) => Item::Result,
        (Pass::Backward, true) => Item::QueryGradients,
    }
}

/// A half of tokens and a head, and who has added to it.
type Part = ((usize, usize), BTreeSet<usize>);

/// All ranks, one action after the other.
struct Machine {
    pass: Pass,
    ranks: Vec<Rank>,
    /// What was sent, as it was when it was posted.
    flying: BTreeMap<Transfer, Vec<Part>>,
}

impl Machine {
    fn new(schedule: &Schedule) -> Self {
        let ranks = (0..schedule.ranks()).map(|rank| Rank::new(schedule, rank)).collect();
        Self { pass: schedule.pass(), ranks, flying: BTreeMap::new() }
    }

    fn has_posted(&self, rank: usize, step: usize, lane: Lane) -> bool {
        self.ranks[rank].posted.contains_key(&(step, lane))
    }

    /// Whether a rank's next action can be done now. The most impatient transport is assumed: a
    /// send is done only when its receive was posted.
    fn can_go_on(&self, rank: usize) -> bool {
        let state = &self.ranks[rank];
        match state.program.get(state.next) {
            None => false,
            Some(Action::Wait { step, lane }) => {
                let (sends, receives) = &state.posted[&(*step, *lane)];
                sends.iter().all(|send| self.has_posted(send.to, *step, *lane))
                    && receives.iter().all(|receive| self.has_posted(receive.from, *step, *lane))
            }
            Some(_) => true,
        }
    }

    fn go_on(&mut self, rank: usize) {
        let action = self.ranks[rank].program[self.ranks[rank].next].clone();
        self.ranks[rank].next += 1;
        match action {
            Action::Post { step, lane, sends, receives } => {
                for send in &sends {
                    self.send(rank, send);
                }
                let twice = self.ranks[rank].posted.insert((step, lane), (sends, receives));
                assert!(twice.is_none(), "step {step} of {lane:?} is posted twice");
            }
            Action::Wait { step, lane } => {
                for receive in self.ranks[rank].posted[&(step, lane)].1.clone() {
                    if receive.lane == Lane::Inputs {
                        self.receive(rank, &receive);
                    }
                }
            }
            Action::Compute(block) => self.compute(rank, &block),
            Action::Merge(transfer) => self.receive(rank, &transfer),
        }
    }

    fn send(&mut self, rank: usize, transfer: &Transfer) {
        let Transfer { item, piece, .. } = *transfer;
        let held = &mut self.ranks[rank].held;
        let parts = halves(piece.half, piece.heads).map(|(half, head)| {
            let key = (item, piece.owner, half, head);
            // Inputs are copied, results move.
            let found = match transfer.lane {
                Lane::Inputs => held.get(&key).cloned(),
                Lane::Results => held.remove(&key),
            };
            (
                (half, head),
                found.unwrap_or_else(|| panic!("{rank} sends what it has not: {transfer:?}")),
            )
        });
        let parts = parts.collect();
        assert!(self.flying.insert(*transfer, parts).is_none(), "sent twice: {transfer:?}");
    }

    fn receive(&mut self, rank: usize, transfer: &Transfer) {
        let Some(parts) = self.flying.remove(transfer) else { panic!("not sent: {transfer:?}") };
        for ((half, head), adders) in parts {
            let key = (transfer.item, transfer.piece.owner, half, head);
            let held = self.ranks[rank].held.entry(key).or_default();
            for adder in adders {
                assert!(held.insert(adder), "{adder} is added twice: {transfer:?}");
            }
        }
    }

    fn compute(&mut self, rank: usize, block: &Block) {
        for (item, piece) in [(Item::Queries, block.queries), (Item::Keys, block.keys)] {
            for (half, head) in halves(piece.half, piece.heads) {
                let key = (item, piece.owner, half, head);
                assert!(
                    self.ranks[rank].held.contains_key(&key),
                    "{rank} has not {key:?}: {block:?}"
                );
            }
        }
        let mut add = |item, piece: Piece, adder| {
            for (half, head) in halves(piece.half, piece.heads) {
                let key = (item, piece.owner, half, head);
                let new = self.ranks[rank].held.entry(key).or_default().insert(adder);
                assert!(new, "{adder} is added twice: {block:?}");
            }
        };
        add(product(self.pass, true), block.queries, block.keys.owner);
        if self.pass == Pass::Backward {
            add(product(self.pass, false), block.keys, block.queries.owner);
        }
    }

    /// Every result lies with the rank whose tokens they are, and everybody who is seen, or sees,
    /// has added to it.
    fn check(&self, meetings: &Meetings, what: &str) {
        assert!(self.flying.is_empty(), "{what}: nobody took {:?}", self.flying.keys().next());
        let items = [product(self.pass, true), Item::KeyGradients];
        for (rank, state) in self.ranks.iter().enumerate() {
            for (item, owner, ..) in state.held.keys().filter(|key| items.contains(&key.0)) {
                assert_eq!(*owner, rank, "{what}: {item:?} of {owner} is left with {rank}");
            }
            for (half, head) in halves(Half::Whole, Heads::All) {
                let adders = |item, side: usize| {
                    let meets = |&other: &usize| {
                        let meet = match side {
                            0 => meetings.of(rank, other),
                            _ => meetings.of(other, rank),
                        };
                        meet.is_some_and(|meet| meet[side].holds()[half])
                    };
                    let expected: BTreeSet<usize> = (0..self.ranks.len()).filter(meets).collect();
                    let found = state.held.get(&(item, rank, half, head)).cloned();
                    assert_eq!(found.unwrap_or_default(), expected, "{what}: {item:?} of {rank}");
                };
                adders(product(self.pass, true), 0);
                if self.pass == Pass::Backward {
                    adders(Item::KeyGradients, 1);
                }
            }
        }
    }
}

/// Whoever is the quickest, the lowest or the highest rank, in turns or not.
#[test]
fn programs_end_with_everything_where_it_belongs() {
    for cut in cuts() {
        for schedule in cut.schedules() {
            let what = describe(&cut, &schedule);
            for order in 0..3 {
                let mut machine = Machine::new(&schedule);
                let ranks = schedule.ranks();
                let mut turn = 0;
                loop {
                    let mut candidates: Vec<usize> = (0..ranks).collect();
                    match order {
                        0 => {}
                        1 => candidates.reverse(),
                        _ => candidates.rotate_left(turn % ranks),
                    }
                    turn += 1;
                    match candidates.into_iter().find(|&rank| machine.can_go_on(rank)) {
                        Some(rank) => machine.go_on(rank),
                        None => break,
                    }
                }
                for (rank, state) in machine.ranks.iter().enumerate() {
                    let left = state.program.get(state.next);
                    assert!(left.is_none(), "{what}: {rank} stands still at {left:?}");
                }
                machine.check(&cut.meetings(), &what);
            }
        }
    }
}

/// Every order of events of few ranks: which actions ranks have done says all about who may go on.
#[test]
fn no_order_of_events_leads_to_a_standstill() {
    for ranks in [2, 3, 4] {
        for cut in [
            Cut::new(Mask::causal(), Scheme::Zigzag, [24, 24], ranks),
            Cut::new(Mask::default(), Scheme::Contiguous, [24, 24], ranks),
            Cut::new(Mask::causal().with_window(Some(4), None), Scheme::Striped, [9, 9], ranks),
        ] {
            for schedule in cut.schedules() {
                explore(&schedule, &describe(&cut, &schedule));
            }
        }
    }
}

fn explore(schedule: &Schedule, what: &str) {
    let ranks = schedule.ranks();
    let programs: Vec<Vec<Action>> = (0..ranks).map(|rank| schedule.program(rank)).collect();
    // Where in its program each rank posts what.
    let posts: Vec<BTreeMap<(usize, Lane), usize>> = programs
        .iter()
        .map(|program| {
            let post = |(at, action): (usize, &Action)| match action {
                Action::Post { step, lane, .. } => Some(((*step, *lane), at)),
                _ => None,
            };
            program.iter().enumerate().filter_map(post).collect()
        })
        .collect();
    let peers = |rank: usize, step: usize, lane: Lane| -> Vec<usize> {
        let of = |transfer: &&Transfer| (transfer.step, transfer.lane) == (step, lane);
        let transfers = schedule.transfers().iter().filter(of);
        transfers
            .filter_map(|transfer| match () {
                () if transfer.from == rank => Some(transfer.to),
                () if transfer.to == rank => Some(transfer.from),
                () => None,
            })
            .collect()
    };
    let mut seen = BTreeSet::from([vec![0usize; ranks]]);
    let mut open = vec![vec![0usize; ranks]];
    while let Some(state) = open.pop() {
        let mut stuck = true;
        for rank in 0..ranks {
            let goes_on = match programs[rank].get(state[rank]) {
                None => false,
                Some(Action::Wait { step, lane }) => peers(rank, *step, *lane)
                    .into_iter()
                    .all(|peer| state[peer] > posts[peer][&(*step, *lane)]),
                Some(_) => true,
            };
            if goes_on {
                stuck = false;
                let mut next = state.clone();
                next[rank] += 1;
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        let done = state.iter().zip(&programs).all(|(&at, program)| at == program.len());
        assert!(!stuck || done, "{what}: nobody can go on at {state:?}");
    }
}

/// The tables of section 7.3 of the specification.
#[test]
fn a_token_ring_of_four_is_that_of_the_paper() {
    let dense = Cut::new(Mask::default(), Scheme::Contiguous, [16, 16], 4);
    let schedule =
        Schedule::new(Algorithm::TokenRing, Pass::Forward, Direction::Up, &dense.meetings());
    let owners = |step: usize| -> Vec<usize> {
        let blocks = schedule.blocks().iter().filter(|block| block.step == step);
        blocks.map(|block| block.queries.owner).collect()
    };
    assert_eq!(owners(0), [0, 1, 2, 3]);
    assert_eq!(by_rank(&schedule, 1), [3, 0, 1, 2]);
    assert_eq!(by_rank(&schedule, 3), [1, 2, 3, 0]);

    let zigzag = Cut::new(Mask::causal(), Scheme::Zigzag, [16, 16], 4);
    let schedule =
        Schedule::new(Algorithm::TokenRing, Pass::Forward, Direction::Down, &zigzag.meetings());
    assert_eq!(by_rank(&schedule, 2), [2, 3, 0, 1]);
    let sent = |step: usize| -> Vec<(usize, usize, Half)> {
        let of = |transfer: &&Transfer| (transfer.step, transfer.lane) == (step, Lane::Inputs);
        let transfers = schedule.transfers().iter().filter(of);
        let mut sent: Vec<_> =
            transfers.map(|transfer| (transfer.from, transfer.to, transfer.piece.half)).collect();
        sent.sort_unstable();
        sent
    };
    let (whole, late) = (Half::Whole, Half::Late);
    assert_eq!(sent(0), [(0, 3, late), (1, 0, whole), (2, 1, whole), (3, 2, whole)]);
    assert_eq!(sent(1), [(0, 3, late), (1, 0, whole), (2, 1, whole), (3, 2, late)]);
    assert_eq!(sent(2), [(0, 3, late), (1, 0, whole), (2, 1, late), (3, 2, late)]);
    assert_eq!(sent(3), []);
    for block in schedule.blocks().iter().filter(|block| block.step > 0) {
        let expected = match block.rank < block.queries.owner {
            true => [Half::Whole, Half::Early],
            false => [Half::Late, Half::Whole],
        };
        assert_eq!([block.queries.half, block.keys.half], expected, "{block:?}");
    }
}

/// The owners of the queries that each rank computes for in a step.
fn by_rank(schedule: &Schedule, step: usize) -> Vec<usize> {
    let mut of_ranks: Vec<_> = schedule
        .blocks()
        .iter()
        .filter(|block| block.step == step)
        .map(|block| (block.rank, block.queries.owner))
        .collect();
    of_ranks.sort_unstable();
    of_ranks.into_iter().map(|(_, owner)| owner).collect()
}

#[test]
fn one_rank_sends_nothing() {
    for schedule in Cut::new(Mask::causal(), Scheme::Zigzag, [9, 9], 1).schedules() {
        assert!(schedule.transfers().is_empty());
        let program = schedule.program(0);
        assert!(program.iter().all(|action| matches!(action, Action::Compute(_))), "{program:?}");
    }
}
