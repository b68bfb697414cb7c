//! Bounds, alignment, the end of an allocation, initialisation.

use super::*;

fn access(address: u64, bytes: u32) -> Access {
    Access { address, bytes, strength: Strength::Weak, pc: 1 }
}

fn with_memory(checks: Checks, act: impl Fn(&Global, &Clocks)) {
    let clocks = Clocks::new(0, Geometry { threads: 32, cluster: 1 });
    act(&Global::new(0x1000_0001, checks), &clocks);
}

#[test]
fn allocations_have_ends_and_red_zones() {
    for checks in [STRICT, LOOSE] {
        with_memory(checks, |global, clocks| {
            let (one, other) = (global.allocate(1001).unwrap(), global.allocate(64).unwrap());
            assert!(one.is_multiple_of(256) && other.is_multiple_of(256) && other >= one + 1257);
            let memory = global.begin_launch();
            let load = |address, bytes| {
                memory.load(&clocks.view(0), &access(address, bytes), &mut [0; 16]).map(drop)
            };
            load(one + 1000, 1).unwrap();
            load(one + 976, 16).unwrap();
            let ends = |start, len, address, bytes| {
                let nearest = Some((start, len));
                Err(Fault::OutOfBounds { address, bytes, nearest })
            };
            assert_eq!(load(one + 1000, 2), ends(one, 1001, one + 1000, 2));
            assert_eq!(load(one + 992, 16), ends(one, 1001, one + 992, 16));
            assert_eq!(load(other + 64, 4), ends(other, 64, other + 64, 4));
            assert_eq!(load(other - 4, 4), ends(other, 64, other - 4, 4));
            assert_eq!(load(16, 4), ends(one, 1001, 16, 4));
            assert_eq!(load(u64::MAX - 3, 4), ends(other, 64, u64::MAX - 3, 4));
            let odd = one + 4;
            assert_eq!(load(odd, 8), Err(Fault::Misaligned { address: odd, bytes: 8 }));
        });
    }
}

#[test]
fn freed_memory_is_named() {
    with_memory(STRICT, |global, clocks| {
        let (one, other) = (global.allocate(100).unwrap(), global.allocate(100).unwrap());
        let before = global.begin_launch();
        global.free(one).unwrap();
        let freed = |address| Fault::Freed { address, start: one, len: 100 };
        assert_eq!(global.free(one), Err(freed(one)));
        assert_eq!(global.free(other + 4), Err(Fault::NotAllocated { address: other + 4 }));
        assert_eq!(global.write(one + 8, &[0]), Err(freed(one + 8)));
        let again = global.allocate(100).unwrap();
        assert!(again > other);
        let after = global.begin_launch();
        let load = |memory: &GlobalView, address| {
            memory.load(&clocks.view(0), &access(address, 4), &mut [0; 16]).map(drop)
        };
        assert_eq!(load(&after, one + 96), Err(freed(one + 96)));
        load(&after, again).unwrap();
        load(&before, one + 96).unwrap();
    });
}

#[test]
fn too_much_is_refused() {
    with_memory(STRICT, |global, _| {
        let bytes = 1 << 62;
        assert_eq!(global.allocate(bytes), Err(Fault::OutOfMemory { bytes }));
        assert_eq!(global.allocate(u64::MAX), Err(Fault::OutOfMemory { bytes: u64::MAX }));
        global.allocate(4).unwrap();
    });
}

#[test]
fn shared_memory_has_bounds() {
    let clocks = Clocks::new(0, Geometry { threads: 32, cluster: 1 });
    let mut shared = Shared::new(100, STRICT);
    let mut load = |address, bytes| {
        shared.load(&clocks.view(0), &access(address, bytes), &mut [0; 16]).map(drop)
    };
    load(96, 4).unwrap();
    assert!(matches!(load(100, 4), Err(Fault::OutOfBounds { .. })));
    assert!(matches!(load(96, 8), Err(Fault::OutOfBounds { .. })));
    assert!(matches!(load(u64::MAX - 7, 8), Err(Fault::OutOfBounds { .. })));
    assert!(matches!(load(8, 16), Err(Fault::Misaligned { .. })));
}

#[test]
fn bytes_are_undefined_until_they_are_written() {
    with_memory(STRICT, |global, clocks| {
        let at = global.allocate(2048).unwrap();
        global.write(at + 3, &[1, 2]).unwrap();
        let memory = global.begin_launch();
        let view = clocks.view(0);
        let undefined = |address, bytes| {
            let loaded = memory.load(&view, &access(address, bytes), &mut [0; 16]).unwrap();
            loaded.undefined
        };
        assert_eq!(undefined(at, 16), 0xFFE7);
        memory.store(&view, &access(at + 8, 8), &[9; 8], 0x81, None).unwrap();
        assert_eq!(undefined(at, 16), 0x81E7);
        assert_eq!(undefined(at + 15, 1), 1);
        assert_eq!(undefined(at + 1020, 4), 0xF);
        let sum = memory.atomic(&view, &access(at, 4), None, &mut |old| Some(old + 1));
        assert_eq!(sum.unwrap_err(), Fault::Undefined { address: at });
        global.copy(at + 3, at + 1021, 13).unwrap();
        assert_eq!(undefined(at + 1016, 8), 0x9F);
        assert_eq!(undefined(at + 1024, 16), 0xFE07);
    });
}

#[test]
fn shared_memory_starts_undefined() {
    let clocks = Clocks::new(0, Geometry { threads: 32, cluster: 1 });
    let mut shared = Shared::new(64, STRICT);
    let view = clocks.view(0);
    shared.store(&view, &access(4, 4), &[1, 2, 3, 4], 0b100, None).unwrap();
    let mut bytes = [0; 16];
    let loaded = shared.load(&view, &access(0, 8), &mut bytes).unwrap();
    assert_eq!((loaded.undefined, &bytes[4..8]), (0x4F, &[1, 2, 3, 4][..]));
    let or = shared.atomic(&view, &access(0, 4), None, &mut |old| Some(old | 1));
    assert_eq!(or.unwrap_err(), Fault::Undefined { address: 0 });
}

/// Whatever is written comes back, at every offset and length, whoever wrote it.
#[test]
fn bytes_come_back() {
    with_memory(LOOSE, |global, clocks| {
        let at = global.allocate(64).unwrap();
        let mut expected: Vec<u8> = (0..64).collect();
        global.write(at, &expected).unwrap();
        for (offset, len) in (0..16).flat_map(|offset| (0..20).map(move |len| (offset, len))) {
            let bytes: Vec<u8> = (0..len).map(|one| (offset * 20 + len + one) as u8).collect();
            global.write(at + offset as u64, &bytes).unwrap();
            expected[offset..offset + len].copy_from_slice(&bytes);
            let mut all = [0; 64];
            global.read(at, &mut all).unwrap();
            assert_eq!(all[..], expected);
            global.read(at + offset as u64, &mut all[..len]).unwrap();
            assert_eq!(all[..len], bytes);
        }
        let memory = global.begin_launch();
        for bytes in [1, 2, 4, 8, 16] {
            let place = access(at + 16, bytes);
            let value = &[0xA5; 16][..bytes as usize];
            memory.store(&clocks.view(0), &place, value, 0, None).unwrap();
            expected[16..16 + bytes as usize].fill(0xA5);
            let mut all = [0; 64];
            global.read(at, &mut all).unwrap();
            assert_eq!(all[..], expected);
            let mut into = [0; 16];
            memory.load(&clocks.view(0), &access(at + 16, 16), &mut into).unwrap();
            assert_eq!(into[..], expected[16..32]);
            let swap = memory.atomic(&clocks.view(0), &place, None, &mut |old| Some(!old));
            assert_eq!(swap.unwrap().0, u128::from_le_bytes([0xA5; 16]) >> (128 - 8 * bytes));
            expected[16..16 + bytes as usize].fill(0x5A);
        }
    });
}
