//! Releases, acquires, fences, atomics and their scopes.

use super::*;

const DATA: u64 = 0;
const FLAG: u64 = 64;

/// A thread writes, signals; another waits, reads.
fn message(
    grid: &mut Grid,
    signal: impl Fn(&mut Grid, Who),
    wait: impl Fn(&mut Grid, Who),
    from: Who,
    to: Who,
) -> Result<(), Fault> {
    grid.write(from, DATA)?;
    signal(grid, from);
    wait(grid, to);
    grid.read(to, DATA)
}

fn signals(release: bool, scope: Scope) -> impl Fn(&mut Grid, Who) {
    move |grid, who| grid.signal(who, FLAG, release, scope)
}

fn waits(acquire: bool, scope: Scope) -> impl Fn(&mut Grid, Who) {
    move |grid, who| grid.wait(who, FLAG, acquire, scope)
}

#[test]
fn release_and_acquire_pass_a_message() {
    for (release, acquire) in [(true, true), (true, false), (false, true), (false, false)] {
        for to in [(1, 7), (0, 1), (0, 40)] {
            let mut grid = Grid::new(2, 64);
            let (signal, wait) = (signals(release, Scope::Device), waits(acquire, Scope::System));
            let read = message(&mut grid, signal, wait, (0, 0), to);
            assert_eq!(read.is_ok(), release && acquire, "{release} {acquire} {to:?}");
        }
    }
}

#[test]
fn fences_make_relaxed_accesses_pass_a_message() {
    for (before, after) in [(true, true), (true, false), (false, true)] {
        let mut grid = Grid::new(2, 64);
        let signal = |grid: &mut Grid, who| {
            if before {
                grid.fence(who, Scope::Device);
            }
            grid.signal(who, FLAG, false, Scope::Device);
        };
        let wait = |grid: &mut Grid, who| {
            grid.wait(who, FLAG, false, Scope::Device);
            if after {
                grid.fence(who, Scope::Device);
            }
        };
        let read = message(&mut grid, signal, wait, (0, 0), (1, 7));
        assert_eq!(read.is_ok(), before && after, "{before} {after}");
    }
}

#[test]
fn a_fence_releases_what_is_before_it_alone() {
    let mut grid = Grid::new(2, 64);
    grid.fence((0, 0), Scope::Device);
    grid.write((0, 0), DATA).unwrap();
    grid.signal((0, 0), FLAG, false, Scope::Device);
    grid.wait((1, 0), FLAG, true, Scope::Device);
    race(grid.read((1, 0), DATA));
}

#[test]
fn a_release_holds_for_what_is_before_it_alone() {
    let mut grid = Grid::new(2, 64);
    grid.signal((0, 0), FLAG, true, Scope::Device);
    grid.write((0, 0), DATA).unwrap();
    grid.wait((1, 0), FLAG, true, Scope::Device);
    race(grid.read((1, 0), DATA));
}

#[test]
fn scopes_must_have_both_threads() {
    let same = [Scope::Block, Scope::Cluster, Scope::Device];
    for (to, enough) in [((0, 9), Scope::Block), ((1, 0), Scope::Cluster), ((2, 0), Scope::Device)]
    {
        for (one, other) in same.iter().flat_map(|&one| same.map(|other| (one, other))) {
            let mut grid = Grid::with(4, Geometry { threads: 32, cluster: 2 });
            // The flag's own accesses are coherent: the fences are what is narrow.
            let signal = |grid: &mut Grid, who| {
                grid.fence(who, one);
                grid.signal(who, FLAG, false, Scope::Device);
            };
            let wait = |grid: &mut Grid, who| {
                grid.wait(who, FLAG, false, Scope::Device);
                grid.fence(who, other);
            };
            let read = message(&mut grid, signal, wait, (0, 0), to);
            assert_eq!(read.is_ok(), one.min(other) >= enough, "{one:?} {other:?} {to:?}");
        }
    }
}

#[test]
fn a_narrow_fence_does_not_undo_a_wide_one() {
    let mut grid = Grid::new(2, 32);
    let signal = |grid: &mut Grid, who| {
        grid.fence(who, Scope::Device);
        grid.fence(who, Scope::Block);
        grid.signal(who, FLAG, false, Scope::Device);
    };
    message(&mut grid, signal, waits(true, Scope::Device), (0, 0), (1, 0)).unwrap();
}

#[test]
fn strong_accesses_race_where_their_scopes_are_too_narrow() {
    let mut grid = Grid::new(2, 64);
    let block = Strength::Strong(Scope::Block);
    grid.store((0, 0), 0, 4, block).unwrap();
    grid.store((0, 40), 0, 4, block).unwrap();
    let read = grid.load((1, 0), 0, 4, DEVICE);
    assert!(matches!(read, Err(Fault::Race { narrow: true, .. })), "{read:?}");
    grid.store((0, 0), 4, 4, DEVICE).unwrap();
    grid.store((1, 0), 4, 4, DEVICE).unwrap();
    let read = grid.load((1, 0), 4, 4, Strength::Weak);
    assert!(matches!(read, Err(Fault::Race { narrow: false, .. })), "{read:?}");
}

#[test]
fn a_weak_access_races_with_atomics() {
    let mut grid = Grid::new(2, 64);
    for thread in 0..64 {
        grid.add((thread % 2, thread), 0, true, true);
    }
    race(grid.write((0, 1), 0));
    let mut grid = Grid::new(2, 64);
    grid.write((0, 1), 0).unwrap();
    race(grid.update((0, 2), 0, DEVICE));
    grid.barrier(0);
    grid.add((0, 2), 0, false, false);
}

#[test]
fn red_never_acquires() {
    for acquire in [true, false] {
        let mut grid = Grid::new(2, 64);
        grid.write((0, 0), DATA).unwrap();
        grid.add((0, 0), FLAG, true, false);
        grid.add((1, 0), FLAG, false, acquire);
        assert_eq!(grid.read((1, 0), DATA).is_ok(), acquire);
    }
}

#[test]
fn what_is_released_is_cumulative() {
    let mut grid = Grid::new(3, 64);
    grid.write((0, 50), DATA).unwrap();
    grid.barrier(0);
    grid.signal((0, 0), FLAG, true, Scope::Device);
    grid.wait((1, 0), FLAG, true, Scope::Device);
    race(grid.read((1, 1), DATA));
    grid.barrier(1);
    grid.read((1, 63), DATA).unwrap();
    // And on, through a thread that acquired nothing itself.
    grid.signal((1, 63), FLAG + 4, true, Scope::Device);
    grid.wait((2, 9), FLAG + 4, true, Scope::Device);
    grid.write((2, 9), DATA + 4).unwrap();
    grid.read((2, 9), DATA).unwrap();
    race(grid.read((2, 10), DATA));
}

#[test]
fn atomics_carry_a_release_on_and_stores_do_not() {
    for (atomic, acquires) in [(true, true), (false, false)] {
        let mut grid = Grid::new(3, 32);
        grid.write((0, 0), DATA).unwrap();
        grid.signal((0, 0), FLAG, true, Scope::Device);
        if atomic {
            grid.add((1, 0), FLAG, false, false);
        } else {
            grid.signal((1, 0), FLAG, false, Scope::Device);
        }
        grid.wait((2, 0), FLAG, true, Scope::Device);
        assert_eq!(grid.read((2, 0), DATA).is_ok(), acquires);
    }
}

#[test]
fn the_last_to_arrive_knows_all() {
    const BLOCKS: u32 = 40;
    let mut grid = Grid::new(BLOCKS, 64);
    for block in 0..BLOCKS {
        grid.write((block, 60), 128 + 4 * u64::from(block)).unwrap();
        grid.barrier(block);
        assert_eq!(grid.add((block, 0), FLAG, true, true), block);
        grid.barrier(block);
    }
    for block in 0..BLOCKS {
        grid.read((BLOCKS - 1, 33), 128 + 4 * u64::from(block)).unwrap();
        let earlier = grid.read((BLOCKS - 2, 33), 128 + 4 * u64::from(block));
        assert_eq!(earlier.is_ok(), block < BLOCKS - 1);
    }
}

/// Many blocks read, all meet at a barrier made of atomics, one writes, all meet, all read.
#[test]
fn a_grid_barrier_of_atomics_orders_all_blocks() {
    const BLOCKS: u32 = 100;
    let mut grid = Grid::new(BLOCKS, 128);
    let meet = |grid: &mut Grid, missing: Option<u32>| {
        for block in 0..BLOCKS {
            grid.barrier(block);
            if missing != Some(block) {
                grid.fence((block, 0), Scope::Device);
                grid.add((block, 0), FLAG, false, false);
            }
        }
        for block in 0..BLOCKS {
            (0..3).for_each(|_| grid.wait((block, 0), FLAG, false, Scope::Device));
            grid.fence((block, 0), Scope::Device);
            grid.barrier(block);
        }
    };
    for round in 0..4 {
        for (block, thread) in (0..BLOCKS).flat_map(|block| (0..128).map(move |one| (block, one))) {
            grid.read((block, thread), DATA).unwrap();
        }
        meet(&mut grid, None);
        grid.write((round * 7, 100), DATA).unwrap();
        meet(&mut grid, None);
    }
    (0..BLOCKS).for_each(|block| grid.read((block, 5), DATA).unwrap());
    meet(&mut grid, Some(50));
    assert_eq!(race(grid.write((3, 0), DATA)).0.thread, 50 * 128 + 5);
}

/// Each thread of a block releases by itself, as consumers arrive on an mbarrier.
#[test]
fn single_arrivals_add_up() {
    let mut grid = Grid::new(1, 160);
    (32..160).for_each(|thread| grid.read((0, thread), DATA).unwrap());
    for missing in [None, Some(77)] {
        (32..160).for_each(|thread| grid.read((0, thread), DATA).unwrap());
        let mut phase = Knowledge::default();
        for thread in (32..160).filter(|&thread| Some(thread) != missing) {
            phase.join(&grid.clocks[0].arrive(&[thread]));
        }
        grid.clocks[0].leave(&[0], &Arc::new(phase));
        match missing {
            None => grid.write((0, 0), DATA).unwrap(),
            Some(thread) => assert_eq!(race(grid.write((0, 0), DATA)).0.thread, thread),
        }
        grid.barrier(0);
    }
}

#[test]
fn decoupled_look_back_passes() {
    const BLOCKS: u32 = 50;
    let mut grid = Grid::new(BLOCKS, 96);
    let tile = |block: u32| 1024 + 16 * u64::from(block);
    for block in 0..BLOCKS {
        grid.write((block, 1), tile(block)).unwrap();
        grid.barrier(block);
        for lane in 0..block.min(32) {
            let before = block - 1 - lane;
            grid.wait((block, lane), tile(before) + 8, true, Scope::Device);
            grid.read((block, lane), tile(before)).unwrap();
        }
        grid.clocks[block as usize].warp_barrier(0, u32::MAX);
        grid.signal((block, 0), tile(block) + 8, true, Scope::Device);
        grid.barrier(block);
    }
    grid.read((BLOCKS - 1, 95), tile(0)).unwrap();
    race(grid.read((0, 0), tile(1)));
}

/// Whoever has acquired a flag, or has updated it last, may reset it by a weak store.
#[test]
fn the_flag_itself_is_passed_on() {
    for (release, fences) in [(true, false), (false, true), (false, false)] {
        let mut grid = Grid::new(3, 32);
        for block in 0..3 {
            if fences {
                grid.fence((block, 0), Scope::Device);
            }
            grid.add((block, 0), FLAG, release, release);
        }
        race(grid.write((1, 0), FLAG));
        race(grid.write((2, 1), FLAG));
        grid.write((2, 0), FLAG).unwrap();
    }
    for acquire in [true, false] {
        let mut grid = Grid::new(2, 32);
        grid.signal((0, 0), FLAG, true, Scope::Device);
        grid.wait((1, 0), FLAG, acquire, Scope::Device);
        assert_eq!(grid.write((1, 0), FLAG).is_ok(), acquire);
    }
}

/// A barrier between fence and write hides nothing from the block.
#[test]
fn a_write_after_fence_and_barrier_is_after_both() {
    let mut grid = Grid::new(1, 64);
    grid.fence((0, 0), Scope::Device);
    grid.barrier(0);
    grid.signal((0, 0), FLAG, false, Scope::Device);
    race(grid.read((0, 40), FLAG));
}

/// However many blocks release at one place, a narrow acquire takes none of the others.
#[test]
fn a_narrow_fence_learns_nothing_of_other_blocks() {
    const BLOCKS: u32 = 30;
    for scope in [Scope::Block, Scope::Device] {
        let mut grid = Grid::new(BLOCKS, 32);
        for block in 0..BLOCKS {
            grid.write((block, 0), 128 + 4 * u64::from(block)).unwrap();
            grid.fence((block, 0), Scope::Device);
            grid.add((block, 0), FLAG, false, false);
        }
        for block in 0..BLOCKS {
            grid.wait((block, 1), FLAG, false, Scope::Device);
            grid.fence((block, 1), scope);
            for other in (0..BLOCKS).filter(|&other| other != block) {
                let read = grid.read((block, 1), 128 + 4 * u64::from(other));
                assert_eq!(read.is_ok(), scope == Scope::Device, "{other} by {block}");
            }
        }
    }
}

#[test]
fn atomics_of_a_cluster_race_with_those_of_another() {
    let mut grid = Grid::with(4, Geometry { threads: 64, cluster: 2 });
    let cluster = Strength::Strong(Scope::Cluster);
    for who in [(0, 0), (0, 40), (1, 3)] {
        grid.update(who, 0, cluster).unwrap();
    }
    race(grid.update((2, 0), 0, cluster));
    race(grid.update((3, 0), 0, DEVICE));
    grid.update((1, 50), 0, DEVICE).unwrap();
}

/// As the last taker of a ticket resets the counter, however many there were.
#[test]
fn the_last_atomic_of_many_has_seen_all_others() {
    for count in [2, 63, 64, 65, 66, 128, 1023, 1024, 1025, 1500] {
        let mut grid = Grid::new(count, 32);
        (0..count).for_each(|block| grid.update((block, 0), FLAG, DEVICE).unwrap());
        race(grid.write((0, 0), FLAG));
        grid.write((count - 1, 0), FLAG).unwrap();
    }
}
