//! Blocks that run on host threads of their own.

use std::thread;

use super::*;

const GEOMETRY: Geometry = Geometry { threads: 32, cluster: 1 };

#[test]
fn atomics_of_every_width_are_exact() {
    const ROUNDS: u64 = 20_000;
    for checks in [STRICT, LOOSE] {
        let global = Global::new(0, checks);
        let at = global.allocate(64).unwrap();
        global.write(at, &[0; 64]).unwrap();
        let memory = global.begin_launch();
        thread::scope(|scope| {
            for block in 0..2 {
                let memory = memory.clone();
                scope.spawn(move || {
                    let clocks = Clocks::new(block, GEOMETRY);
                    for (round, bytes) in
                        (0..ROUNDS).flat_map(|one| [(one, 4), (one, 8), (one, 16)])
                    {
                        let address = at + u64::from(bytes);
                        let access = Access { address, bytes, strength: DEVICE, pc: 1 };
                        let view = clocks.view(round as u32 % 32);
                        // Carries run through all words of the value.
                        let step = (u128::MAX / 3) >> (128 - 8 * bytes);
                        let mask = u128::MAX >> (128 - 8 * bytes);
                        let mut add = |old: u128| Some(old.wrapping_add(step) & mask);
                        memory.atomic(&view, &access, None, &mut add).unwrap();
                    }
                });
            }
        });
        for bytes in [4_u32, 8, 16] {
            let mut sum = [0; 16];
            global.read(at + u64::from(bytes), &mut sum[..bytes as usize]).unwrap();
            let (step, mask) =
                ((u128::MAX / 3) >> (128 - 8 * bytes), u128::MAX >> (128 - 8 * bytes));
            let expected = step.wrapping_mul(u128::from(2 * ROUNDS)) & mask;
            assert_eq!(u128::from_le_bytes(sum), expected, "{bytes} bytes");
        }
    }
}

#[test]
fn bytes_of_one_word_do_not_overwrite_each_other() {
    for checks in [STRICT, LOOSE] {
        let global = Global::new(0, checks);
        let at = global.allocate(4).unwrap();
        let memory = global.begin_launch();
        thread::scope(|scope| {
            for block in 0..2 {
                let memory = memory.clone();
                scope.spawn(move || {
                    let clocks = Clocks::new(block, GEOMETRY);
                    let address = at + u64::from(block);
                    let access = Access { address, bytes: 1, strength: Strength::Weak, pc: 1 };
                    for round in 0..20_000_u32 {
                        let value = [round as u8];
                        memory.store(&clocks.view(0), &access, &value, 0, None).unwrap();
                        let mut back = [0; 16];
                        memory.load(&clocks.view(0), &access, &mut back).unwrap();
                        assert_eq!(back[0], value[0]);
                    }
                });
            }
        });
    }
}

/// One block fills a buffer and raises a flag, the other waits for it: with the order checked, and with the
/// host's own memory order alone.
#[test]
fn a_flag_brings_the_data_along() {
    for checks in [STRICT, LOOSE] {
        let global = Global::new(0, checks);
        let at = global.allocate(8192).unwrap();
        global.write(at, &[0; 8192]).unwrap();
        let memory = global.begin_launch();
        let weak = |address| Access { address, bytes: 4, strength: Strength::Weak, pc: 1 };
        let flag = Access { address: at + 8188, bytes: 4, strength: DEVICE, pc: 2 };
        thread::scope(|scope| {
            let (to, from) = (memory.clone(), memory);
            scope.spawn(move || {
                let mut clocks = Clocks::new(0, GEOMETRY);
                for at in (at..at + 4096).step_by(4) {
                    to.store(&clocks.view(3), &weak(at), &[5; 4], 0, None).unwrap();
                }
                let publish = clocks.publish(3, true, Scope::Device);
                to.store(&clocks.view(3), &flag, &[1; 4], 0, publish).unwrap();
            });
            scope.spawn(move || {
                let mut clocks = Clocks::new(1, GEOMETRY);
                let mut bytes = [0; 16];
                while bytes[0] == 0 {
                    let loaded = from.load(&clocks.view(0), &flag, &mut bytes).unwrap();
                    clocks.learn(0, true, Scope::Device, loaded.seen.as_ref());
                    thread::yield_now();
                }
                for at in (at..at + 4096).step_by(4) {
                    from.load(&clocks.view(0), &weak(at), &mut bytes).unwrap();
                    assert_eq!(bytes[..4], [5; 4]);
                }
            });
        });
    }
}
