//! Barriers, and what races without them.

use super::*;

#[test]
fn a_write_races_with_a_read_and_a_write_of_another_thread() {
    let mut grid = Grid::new(2, 64);
    grid.write((0, 3), 0).unwrap();
    let writer = grid.site((0, 3));
    grid.read((0, 3), 0).unwrap();
    assert_eq!(race(grid.read((0, 4), 0)), (writer, true));
    assert_eq!(race(grid.read((1, 3), 0)), (writer, true));
    assert_eq!(race(grid.write((0, 40), 0)), (writer, true));
    grid.read((1, 63), 4).unwrap();
    let reader = grid.site((1, 63));
    assert_eq!(race(grid.write((0, 0), 4)), (reader, false));
    let text = grid.write((0, 0), 4).unwrap_err().to_string();
    assert!(text.starts_with("the other thread read the same bytes"), "{text}");
}

#[test]
fn a_barrier_orders_its_block_alone() {
    let mut grid = Grid::new(2, 96);
    grid.write((0, 3), 0).unwrap();
    grid.barrier(0);
    grid.barrier(1);
    grid.read((0, 95), 0).unwrap();
    grid.read((0, 4), 0).unwrap();
    race(grid.read((1, 3), 0));
    race(grid.write((0, 4), 0));
    grid.barrier(0);
    grid.write((0, 4), 0).unwrap();
    race(grid.read((0, 95), 0));
}

#[test]
fn every_reader_counts_until_a_barrier() {
    for racing in [0, 31, 32, 100, 255] {
        let mut grid = Grid::new(1, 256);
        (0..256).filter(|&thread| thread != racing).for_each(|thread| {
            grid.read((0, thread), 0).unwrap();
        });
        grid.barrier(0);
        grid.read((0, racing), 0).unwrap();
        let writer = (racing + 1) % 256;
        assert_eq!(race(grid.write((0, writer), 0)), (grid_site(racing, grid.pc - 1), false));
        grid.write((0, racing), 0).unwrap();
    }
}

fn grid_site(thread: u32, pc: u32) -> Site {
    Site { thread, pc, asynchronous: false }
}

#[test]
fn a_warp_barrier_orders_its_lanes_alone() {
    let mut grid = Grid::new(1, 64);
    grid.write((0, 1), 0).unwrap();
    grid.write((0, 33), 4).unwrap();
    grid.clocks[0].warp_barrier(0, u32::MAX);
    grid.read((0, 31), 0).unwrap();
    race(grid.read((0, 32), 0));
    race(grid.read((0, 31), 4));
    grid.write((0, 2), 8).unwrap();
    grid.clocks[0].warp_barrier(0, 0b1100);
    grid.read((0, 3), 8).unwrap();
    race(grid.read((0, 1), 8));
    // What a lane has learnt so, it hands on.
    grid.clocks[0].warp_barrier(0, 0b11000);
    grid.read((0, 4), 8).unwrap();
}

#[test]
fn a_partial_warp_meets_as_a_whole() {
    let mut grid = Grid::new(1, 40);
    grid.write((0, 33), 0).unwrap();
    grid.clocks[0].warp_barrier(1, 0xFF);
    grid.read((0, 39), 0).unwrap();
    race(grid.read((0, 0), 0));
}

#[test]
fn a_named_barrier_orders_who_arrived_before_who_left() {
    let mut grid = Grid::new(1, 128);
    let (producers, consumers): (Vec<u32>, Vec<u32>) = ((0..64).collect(), (64..96).collect());
    grid.write((0, 5), 0).unwrap();
    grid.write((0, 70), 4).unwrap();
    let both: Vec<u32> = producers.iter().chain(&consumers).copied().collect();
    grid.clocks[0].barrier_among(&both, &consumers);
    grid.read((0, 64), 0).unwrap();
    grid.read((0, 64), 4).unwrap();
    race(grid.read((0, 100), 0));
    race(grid.read((0, 5), 4));
    race(grid.read((0, 6), 0));
}

#[test]
fn what_follows_an_arrival_is_not_released_by_it() {
    let mut grid = Grid::new(1, 64);
    let producers: Vec<u32> = (0..32).collect();
    let consumers: Vec<u32> = (32..64).collect();
    grid.write((0, 1), 0).unwrap();
    let mut phase = grid.clocks[0].arrive(&producers);
    grid.write((0, 1), 4).unwrap();
    phase.join(&grid.clocks[0].arrive(&consumers));
    grid.clocks[0].leave(&consumers, &Arc::new(phase));
    grid.read((0, 40), 0).unwrap();
    race(grid.read((0, 40), 4));
}

#[test]
fn a_cluster_barrier_orders_its_blocks() {
    let mut grid = Grid::with(4, Geometry { threads: 64, cluster: 2 });
    grid.write((0, 3), 0).unwrap();
    let (first, _) = grid.clocks.split_at_mut(2);
    Clocks::cluster_barrier(&mut first.iter_mut().collect::<Vec<_>>());
    grid.read((1, 60), 0).unwrap();
    race(grid.read((2, 0), 0));
    grid.write((1, 60), 4).unwrap();
    race(grid.read((0, 3), 4));
}

#[test]
fn bytes_of_a_word_are_accessed_apart() {
    let mut grid = Grid::new(1, 64);
    for thread in 0..4 {
        grid.store((0, thread), u64::from(thread), 1, Strength::Weak).unwrap();
    }
    for thread in 0..4 {
        grid.load((0, thread), u64::from(thread), 1, Strength::Weak).unwrap();
    }
    race(grid.store((0, 1), 2, 2, Strength::Weak));
    grid.barrier(0);
    grid.store((0, 40), 0, 2, Strength::Weak).unwrap();
    grid.load((0, 41), 3, 1, Strength::Weak).unwrap();
    race(grid.load((0, 41), 1, 1, Strength::Weak).map(drop));
    race(grid.load((0, 41), 0, 16, Strength::Weak).map(drop));
}

#[test]
fn the_other_words_of_a_vector_race_too() {
    let mut grid = Grid::new(1, 64);
    grid.write((0, 0), 12).unwrap();
    let address = grid.at + 12;
    match grid.load((0, 1), 0, 16, Strength::Weak) {
        Err(Fault::Race { address: at, .. }) => assert_eq!(at, address),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_same_value_races_and_says_so() {
    let mut grid = Grid::new(1, 64);
    let access = grid.access(0, 4, Strength::Weak);
    for (thread, value) in [(0, 7), (1, 7), (2, 8)] {
        let view = grid.clocks[0].view(thread);
        match (thread, grid.memory.store(&view, &access, &[value; 4], 0, None)) {
            (0, Ok(())) => {}
            (_, Err(Fault::Race { same_value, .. })) => assert_eq!(same_value, value == 7),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn grids_follow_each_other() {
    let mut grid = Grid::new(2, 64);
    grid.write((0, 0), 0).unwrap();
    grid.launch();
    grid.load((1, 5), 0, 4, Strength::ReadOnly).unwrap();
    grid.launch();
    grid.write((1, 0), 0).unwrap();
    race(grid.read((0, 0), 0));
}

#[test]
fn read_only_loads_exclude_writes_of_the_grid() {
    let mut grid = Grid::new(1, 64);
    grid.load((0, 1), 0, 4, Strength::ReadOnly).unwrap();
    let reader = grid.site((0, 1));
    grid.barrier(0);
    grid.read((0, 1), 0).unwrap();
    grid.barrier(0);
    match grid.write((0, 1), 0) {
        Err(Fault::ReadOnlyWritten { other, other_wrote: false, .. }) => assert_eq!(other, reader),
        other => panic!("{other:?}"),
    }
    grid.write((0, 1), 4).unwrap();
    grid.barrier(0);
    grid.read((0, 2), 4).unwrap();
    let read = grid.load((0, 1), 4, 4, Strength::ReadOnly);
    assert!(matches!(read, Err(Fault::ReadOnlyWritten { other_wrote: true, .. })), "{read:?}");
}

#[test]
fn a_thousand_blocks_may_read_and_the_newest_is_remembered() {
    let mut grid = Grid::new(5000, 32);
    for block in 0..5000 {
        for thread in 0..32 {
            grid.read((block, thread), 0).unwrap();
        }
    }
    let last = grid.site((4999, 31));
    for block in [0, 100, 4999] {
        let (other, wrote) = race(grid.write((block, 0), 0));
        assert!(!wrote && other.thread <= last.thread);
    }
}
