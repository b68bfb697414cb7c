//! Asynchronous copies.

use super::*;

fn access(address: u64, bytes: u32) -> Access {
    Access { address, bytes, strength: Strength::Weak, pc: 1 }
}

#[test]
fn the_destination_of_a_copy_is_untouchable_until_the_wait() {
    let mut clocks = Clocks::new(0, Geometry { threads: 64, cluster: 1 });
    let mut shared = Shared::new(64, STRICT);
    let site = Site { thread: 3, pc: 9, asynchronous: true };
    let mut bytes = [0; 16];
    shared.poison(&clocks.view(3), &access(16, 16), site).unwrap();
    let pending = |address| Fault::Pending { address, other: site };
    let read = shared.load(&clocks.view(3), &access(20, 4), &mut bytes);
    assert_eq!(read.unwrap_err(), pending(20));
    let again = shared.poison(&clocks.view(3), &access(24, 8), site);
    assert_eq!(again.unwrap_err(), pending(24));
    clocks.barrier();
    let write = shared.store(&clocks.view(9), &access(31, 1), &[0], 0, None);
    assert_eq!(write.unwrap_err(), pending(28));
    shared.store(&clocks.view(9), &access(32, 4), &[0; 4], 0, None).unwrap();
    shared.settle(&clocks.view(3), &access(16, 16), &[7; 16], 0).unwrap();
    let own = shared.load(&clocks.view(3), &access(16, 16), &mut bytes).unwrap();
    assert_eq!((bytes, own.undefined), ([7; 16], 0));
    // The wait is the thread's own: the barrier came too early for the others.
    let other = shared.load(&clocks.view(4), &access(16, 16), &mut bytes).map(drop);
    assert_eq!(race(other).0.thread, 3);
    clocks.barrier();
    shared.load(&clocks.view(4), &access(16, 16), &mut bytes).unwrap();
}

#[test]
fn a_copy_must_not_begin_while_others_read() {
    let mut clocks = Clocks::new(0, Geometry { threads: 64, cluster: 1 });
    let mut shared = Shared::new(64, LOOSE_READS);
    let site = Site { thread: 3, pc: 9, asynchronous: true };
    shared.load(&clocks.view(8), &access(16, 4), &mut [0; 16]).unwrap();
    race(shared.poison(&clocks.view(3), &access(16, 16), site));
    clocks.barrier();
    shared.poison(&clocks.view(3), &access(16, 16), site).unwrap();
}

const LOOSE_READS: Checks = Checks { races: true, uninitialised: false };

/// As a bulk copy that completes on an mbarrier.
#[test]
fn only_those_who_wait_for_an_operation_know_its_writes() {
    let mut clocks = Clocks::new(0, Geometry { threads: 64, cluster: 1 });
    let mut shared = Shared::new(64, STRICT);
    shared.store(&clocks.view(0), &access(0, 16), &[1; 16], 0, None).unwrap();
    let copy = clocks.start(0);
    shared.store(&clocks.view(0), &access(32, 16), &[1; 16], 0, None).unwrap();
    shared.store(&copy.view(), &access(0, 16), &[2; 16], 0, None).unwrap();
    // It began before that.
    race(shared.store(&copy.view(), &access(32, 16), &[2; 16], 0, None));
    clocks.barrier();
    for thread in [0, 1] {
        let read = shared.load(&clocks.view(thread), &access(0, 4), &mut [0; 16]).map(drop);
        let (other, wrote) = race(read);
        assert_eq!((other.thread, other.asynchronous, wrote), (0, true, true));
    }
    clocks.leave(&[1], &Arc::new(copy.complete()));
    shared.load(&clocks.view(1), &access(0, 4), &mut [0; 16]).unwrap();
    race(shared.load(&clocks.view(0), &access(0, 4), &mut [0; 16]).map(drop));
    clocks.barrier();
    shared.load(&clocks.view(0), &access(0, 4), &mut [0; 16]).unwrap();
}

#[test]
fn another_block_of_the_cluster_writes_by_its_own_clock() {
    let geometry = Geometry { threads: 64, cluster: 2 };
    let (mut one, mut other) = (Clocks::new(0, geometry), Clocks::new(1, geometry));
    let mut shared = Shared::new(64, STRICT);
    shared.store(&other.view(5), &access(0, 4), &[1; 4], 0, None).unwrap();
    one.barrier();
    let (site, wrote) = race(shared.load(&one.view(5), &access(0, 4), &mut [0; 16]).map(drop));
    assert_eq!((site.thread, wrote), (69, true));
    Clocks::cluster_barrier(&mut [&mut one, &mut other]);
    shared.load(&one.view(5), &access(0, 4), &mut [0; 16]).unwrap();
}
