//! Random programs against the definition: full vector clocks, and every access compared with all before.

use super::*;

/// Numbers from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ mixed >> 31) % u64::from(bound)) as u32
    }

    fn scope(&mut self) -> Scope {
        [Scope::Block, Scope::Cluster, Scope::Device][self.below(3) as usize]
    }
}

type Clock = Vec<u32>;

fn join(into: &mut Clock, other: &Clock) {
    into.iter_mut().zip(other).for_each(|(one, other)| *one = (*one).max(*other));
}

/// Who released what, in which scope.
type Release = (Who, Scope, Clock);

struct Past {
    by: Who,
    time: u32,
    word: u64,
    kind: Kind,
    strength: Strength,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Read,
    Write,
    Atomic,
}

struct Oracle {
    geometry: Geometry,
    clocks: Vec<Clock>,
    fenced: Vec<Vec<(Scope, Clock)>>,
    seen: Vec<Vec<Release>>,
    flags: Vec<Vec<Release>>,
    past: Vec<Past>,
}

impl Oracle {
    fn new(blocks: u32, geometry: Geometry) -> Self {
        let count = (blocks * geometry.threads) as usize;
        Self {
            geometry,
            clocks: vec![vec![0; count]; count],
            fenced: vec![vec![]; count],
            seen: vec![vec![]; count],
            flags: vec![vec![]; 2],
            past: vec![],
        }
    }

    fn number(&self, who: Who) -> usize {
        (who.0 * self.geometry.threads + who.1) as usize
    }

    /// Some threads arrive at a barrier, some leave it.
    fn pass(&mut self, arrived: &[Who], waiting: &[Who]) {
        let mut all = vec![0; self.clocks.len()];
        arrived.iter().for_each(|&one| join(&mut all, &self.clocks[self.number(one)]));
        for &one in waiting {
            let at = self.number(one);
            join(&mut self.clocks[at], &all);
        }
    }

    fn meet(&mut self, who: &[Who]) {
        self.pass(who, who);
    }

    /// Whether the access races with one before it.
    fn races(&self, by: Who, word: u64, kind: Kind, strength: Strength) -> bool {
        let me = self.number(by);
        let ordered = |one: &Past| self.clocks[me][self.number(one.by)] >= one.time;
        let coherent = |one: &Past| match (one.strength, strength) {
            (Strength::Strong(one_scope), Strength::Strong(scope)) => {
                self.geometry.distance(one.by.0, by.0) <= one_scope.min(scope)
            }
            _ => false,
        };
        let same_word = || self.past.iter().filter(|one| one.word == word);
        let wrote = |one: &Past| one.kind != Kind::Read;
        // An atomic has observed all that came before it in the word.
        let latest = same_word().rfind(|one| wrote(one));
        let observed = latest.is_some_and(|one| one.kind == Kind::Atomic && ordered(one));
        same_word().any(|one| {
            (wrote(one) || kind != Kind::Read)
                && !(wrote(one) && observed)
                && !ordered(one)
                && !coherent(one)
        })
    }

    fn record(&mut self, by: Who, word: u64, kind: Kind, strength: Strength) {
        let me = self.number(by);
        self.clocks[me][me] += 1;
        self.past.push(Past { by, time: self.clocks[me][me], word, kind, strength });
    }

    fn fence(&mut self, who: Who, scope: Scope) {
        let me = self.number(who);
        for (from, released, clock) in self.seen[me].clone() {
            if self.geometry.distance(from.0, who.0) <= released.min(scope) {
                join(&mut self.clocks[me], &clock);
            }
        }
        let clock = self.clocks[me].clone();
        self.fenced[me].push((scope, clock));
    }

    fn write_flag(&mut self, who: Who, flag: usize, release: bool, scope: Scope, atomic: bool) {
        let me = self.number(who);
        if !atomic {
            self.flags[flag].clear();
        }
        if release {
            let mut clock = self.clocks[me].clone();
            // An atomic that releases is taken to acquire, as far as it goes on releasing.
            for (from, released, earlier) in &self.flags[flag] {
                if self.geometry.distance(from.0, who.0) <= *released.min(&scope) {
                    join(&mut clock, earlier);
                }
            }
            self.flags[flag].push((who, scope, clock));
        }
        for (fence, clock) in &self.fenced[me] {
            self.flags[flag].push((who, scope.min(*fence), clock.clone()));
        }
    }

    fn read_flag(&mut self, who: Who, flag: usize, acquire: bool, scope: Scope) {
        let me = self.number(who);
        for (from, released, clock) in self.flags[flag].clone() {
            if !acquire {
                self.seen[me].push((from, released.min(scope), clock));
            } else if self.geometry.distance(from.0, who.0) <= released.min(scope) {
                join(&mut self.clocks[me], &clock);
            }
        }
    }
}

/// An access by both; gives whether each finds a race. Most of those that race are left out, so that
/// programs get long.
fn access(random: &mut Random, grid: &mut Grid, oracle: &mut Oracle, who: Who) -> (bool, bool) {
    let word = u64::from(random.below(12)) * 4;
    let (kind, strength) = match random.below(16) {
        0..=8 => (Kind::Read, Strength::Weak),
        9..=12 => (Kind::Write, Strength::Weak),
        13 => (Kind::Read, Strength::Strong(random.scope())),
        14 => (Kind::Write, Strength::Strong(random.scope())),
        _ => (Kind::Atomic, Strength::Strong(random.scope())),
    };
    let expected = oracle.races(who, word, kind, strength);
    if expected && random.below(64) != 0 {
        return (false, false);
    }
    oracle.record(who, word, kind, strength);
    let found = match kind {
        Kind::Read => grid.load(who, word, 4, strength).map(drop),
        Kind::Write => grid.store(who, word, 4, strength),
        Kind::Atomic => grid.update(who, word, strength),
    };
    (found.is_err(), expected)
}

/// One random event for both; gives whether each finds a race.
fn step(random: &mut Random, grid: &mut Grid, oracle: &mut Oracle) -> (bool, bool) {
    const FLAGS: u64 = 1024;
    let geometry = grid.geometry;
    // Few threads, so that they meet again.
    let thread = [0, 1, 2, 33, 34, 39][random.below(6) as usize] % geometry.threads;
    let who = (random.below(grid.clocks.len() as u32), thread);
    let flag = random.below(2);
    let at = FLAGS + u64::from(flag) * 4;
    let scope = random.scope();
    let [release, acquire] = [(); 2].map(|()| random.below(2) == 0);
    match random.below(32) {
        0..=14 => return access(random, grid, oracle, who),
        15 => {
            grid.barrier(who.0);
            oracle.meet(&(0..geometry.threads).map(|one| (who.0, one)).collect::<Vec<_>>());
        }
        16..=19 => {
            let (warp, full) =
                (who.1 / 32, grid.clocks[who.0 as usize].lanes_of(who.1 as usize / 32));
            let mask = if release { full } else { full & (random.below(u32::MAX) | 1) };
            grid.clocks[who.0 as usize].warp_barrier(warp, mask);
            let met = crate::interpreter::row::lanes(mask);
            oracle.meet(&met.map(|lane| (who.0, warp * 32 + lane as u32)).collect::<Vec<_>>());
        }
        20 => {
            let first = who.0 / 2 * 2;
            let pair = grid.clocks[first as usize..].chunks_mut(2).next().unwrap_or_default();
            let met = first..first + pair.len() as u32;
            Clocks::cluster_barrier(&mut pair.iter_mut().collect::<Vec<_>>());
            let all = met.flat_map(|block| (0..geometry.threads).map(move |one| (block, one)));
            oracle.meet(&all.collect::<Vec<_>>());
        }
        21 => {
            let half = |random: &mut Random| -> Vec<u32> {
                (0..geometry.threads).filter(|_| random.below(2) == 0).collect()
            };
            let (arrived, waiting) = (half(random), half(random));
            grid.clocks[who.0 as usize].barrier_among(&arrived, &waiting);
            let [arrived, waiting] = [arrived, waiting]
                .map(|all| all.iter().map(|&one| (who.0, one)).collect::<Vec<_>>());
            oracle.pass(&arrived, &waiting);
        }
        22..=23 => {
            grid.fence(who, scope);
            oracle.fence(who, scope);
        }
        24..=26 => {
            let device = if acquire { Scope::Device } else { Scope::System };
            grid.signal(who, at, release, device);
            oracle.write_flag(who, flag as usize, release, Scope::Device, false);
        }
        27..=29 => {
            grid.wait(who, at, acquire, Scope::Device);
            oracle.read_flag(who, flag as usize, acquire, Scope::Device);
        }
        _ => {
            grid.add(who, at, release, acquire);
            // An update sees what was there before it.
            oracle.read_flag(who, flag as usize, acquire, Scope::Device);
            oracle.write_flag(who, flag as usize, release, Scope::Device, true);
        }
    }
    (false, false)
}

#[test]
fn random_programs_race_where_the_definition_says() {
    let (mut races, mut steps) = (0, 0);
    for seed in 0..1000 {
        let geometry = Geometry { threads: [3, 40, 64][seed as usize % 3], cluster: 2 };
        let blocks = 1 + seed as u32 % 5;
        let mut random = Random(seed);
        let mut grid = Grid::with(blocks, geometry);
        let mut oracle = Oracle::new(blocks, geometry);
        for number in 0..400 {
            let (found, expected) = step(&mut random, &mut grid, &mut oracle);
            assert_eq!(found, expected, "seed {seed}, step {number}");
            steps += 1;
            if expected {
                races += 1;
                break;
            }
        }
    }
    // Both outcomes must be common for the comparison to mean something.
    assert!(races > 300 && steps > 100_000, "{races} races in {steps} steps");
}
