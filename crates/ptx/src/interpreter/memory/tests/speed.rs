//! How long a checked access takes. `cargo test --release -p warpwright-ptx --lib memory::tests::speed --
//! --ignored --nocapture` prints nanoseconds by lane.

use std::hint::black_box;
use std::time::Instant;

use super::*;

const GEOMETRY: Geometry = Geometry { threads: 256, cluster: 1 };

/// Times `act`, called for each thread of a block in turn, with a barrier after each round of all. The
/// least of many times counts: the machine may have other work.
fn time(name: &str, mut act: impl FnMut(&View, u64)) {
    const ROUNDS: u32 = 20;
    let mut clocks = Clocks::new(0, GEOMETRY);
    let batch = |_| {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            for thread in 0..GEOMETRY.threads {
                act(&clocks.view(thread), u64::from(thread));
            }
            clocks.barrier();
        }
        start.elapsed()
    };
    let least = (0..200).map(batch).min().unwrap_or_default();
    let each = least.as_nanos() as f64 / f64::from(ROUNDS * GEOMETRY.threads);
    println!("{name:40} {each:6.1} ns");
}

fn access(address: u64) -> Access {
    Access { address, bytes: 16, strength: Strength::Weak, pc: 1 }
}

#[test]
#[ignore = "prints times"]
fn of_shared_memory() {
    let mut shared = Shared::new(4096, STRICT);
    let mut into = [0; 16];
    time("shared store", |view, thread| {
        shared.store(view, &access(thread * 16), &[1; 16], 0, None).unwrap();
    });
    let mut shared = Shared::new(4096, STRICT);
    time("shared load, each its own", |view, thread| {
        black_box(shared.load(view, &access(thread * 16), &mut into).unwrap());
    });
    time("shared load, warps the same", |view, thread| {
        black_box(shared.load(view, &access(thread % 32 * 16), &mut into).unwrap());
    });
    time("shared load, all the same", |view, _| {
        black_box(shared.load(view, &access(0), &mut into).unwrap());
    });
}

#[test]
#[ignore = "prints times"]
fn of_global_memory() {
    for checks in [STRICT, LOOSE] {
        let global = Global::new(0, checks);
        let at = global.allocate(4096).unwrap();
        global.write(at, &[0; 4096]).unwrap();
        let mut into = [0; 16];
        println!("{checks:?}");
        let memory = global.begin_launch();
        time("global store", |view, thread| {
            memory.store(view, &access(at + thread * 16), &[1; 16], 0, None).unwrap();
        });
        let memory = global.begin_launch();
        time("global load, each its own", |view, thread| {
            black_box(memory.load(view, &access(at + thread * 16), &mut into).unwrap());
        });
        time("global load, all the same", |view, _| {
            black_box(memory.load(view, &access(at), &mut into).unwrap());
        });
        let memory = global.begin_launch();
        let block = |block| {
            let clocks = Clocks::new(block, GEOMETRY);
            let start = Instant::now();
            for thread in 0..GEOMETRY.threads {
                memory.load(&clocks.view(thread), &access(at), &mut into).unwrap();
            }
            start.elapsed()
        };
        let least = (0..3000).map(block).skip(1000).min().unwrap_or_default();
        let each = least.as_nanos() as f64 / f64::from(GEOMETRY.threads);
        println!("{:40} {each:6.1} ns", "global load, all blocks the same");
    }
}
