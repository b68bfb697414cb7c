//! `cp.async`, spec 3.10: sizes, what is filled with zeros, groups.

use super::fragment::Fragment;
use super::{Program, Target};

pub(super) fn programs() -> Vec<Program> {
    let mut all: Vec<Program> = Vec::new();
    for (cache, size) in [("ca", 4), ("ca", 8), ("ca", 16), ("cg", 16)] {
        all.push(copy(cache, size, None));
        all.extend([0, 1, 3, size].map(|source| copy(cache, size, Some(source))));
    }
    all.extend([size_by_register(), ignored(false), ignored(true), groups(), tile()]);
    all
}

/// Two words behind `in`: 16 bytes, each other than zero.
const SOURCE: [u64; 2] = [0x1817_1615_1413_1211, 0x2827_2625_2423_2221];

/// The copied bytes: the first `source` of those `size`, then zeros, then what was there.
fn copied(size: u32, source: u32) -> Vec<u64> {
    let all = u128::from(SOURCE[0]) | u128::from(SOURCE[1]) << 64;
    let low = |bytes: u32| if bytes == 16 { u128::MAX } else { (1 << (8 * bytes)) - 1 };
    let result = (all & low(source)) | !low(size);
    vec![result as u64, (result >> 64) as u64]
}

/// The fragment with `copy` between the initial store of ones and the wait.
fn fragment(name: &str, inputs: &str, copy: &str) -> Fragment {
    let body = format!(
        "{{ .shared .align 16 .b64 tile[2];
        st.shared.v2.b64 [tile], {{-1, -1}};
        {copy}
        cp.async.commit_group;
        cp.async.wait_group 0;
        ld.shared.v2.b64 {{%d0, %d1}}, [tile]; }}"
    );
    Fragment::new(name, &format!("{inputs} -> d:b64*2"), &body).block(1)
}

fn copy(cache: &str, size: u32, source: Option<u32>) -> Program {
    let given = source.map_or(String::new(), |source| format!(", {source}"));
    let copy = format!("cp.async.{cache}.shared.global [tile], [%in], {size}{given};");
    let name = copy.trim_end_matches(';').to_owned();
    fragment(&name, "a:b64 b:b64", &copy)
        .rows(1, |_| (SOURCE.into(), copied(size, source.unwrap_or(size))))
}

fn size_by_register() -> Program {
    let copy = "{ .reg .b32 %size; cvt.u32.u64 %size, %c; cp.async.ca.shared.global [tile], [%in], 16, %size; }";
    // Every row is its own block: one tile each.
    fragment("cp.async with the size in a register", "a:b64 b:b64 c:b64 x:b64", copy).rows(
        17,
        |row| {
            let mut inputs: Vec<u64> = SOURCE.into();
            inputs.extend([row as u64, 0]); // the fourth word keeps rows aligned to 16 bytes
            (inputs, copied(16, row as u32))
        },
    )
}

fn ignored(ignore: bool) -> Program {
    let copy = "
        setp.ne.u64 %p, %c, 0;
        cp.async.cg.shared.global [tile], [%in], 16, %p;";
    fragment(&format!("cp.async with ignore-src {ignore}"), "a:b64 b:b64 c:b64", copy)
        .on("7.5", Target::Sm80)
        .rows(1, |_| {
            let mut inputs: Vec<u64> = SOURCE.into();
            inputs.push(ignore.into());
            (inputs, if ignore { vec![0, 0] } else { SOURCE.into() })
        })
}

/// `wait_group 1` leaves the newest group pending; the older ones are there.
fn groups() -> Program {
    let body = "
        { .shared .align 16 .b64 tile[4];
        cp.async.ca.shared.global [tile], [%in], 8;
        cp.async.commit_group;
        cp.async.ca.shared.global [tile+8], [%in+8], 8;
        cp.async.commit_group;
        cp.async.commit_group;
        cp.async.wait_group 2;
        ld.shared.b64 %d, [tile];
        cp.async.ca.shared.global [tile+16], [%in], 8;
        cp.async.wait_group 1;
        ld.shared.b64 %e, [tile+8];
        cp.async.wait_all;
        ld.shared.b64 %f, [tile+16]; }";
    Fragment::new("cp.async groups", "b64 b64 -> b64 b64 b64", body)
        .block(1)
        .rows(1, |_| (SOURCE.into(), vec![SOURCE[0], SOURCE[1], SOURCE[0]]))
}

/// A block copies a tile and reads it crosswise behind the barrier.
fn tile() -> Program {
    let body = "
        { .shared .align 16 .b64 tile[128]; .reg .b32 %at, %peer;
        mov.u32 %peer, tile;
        mad.lo.u32 %at, %thread, 16, %peer;
        cp.async.cg.shared.global [%at], [%in], 16;
        cp.async.commit_group;
        cp.async.wait_group 0;
        bar.sync 0;
        xor.b32 %at, %thread, 37;
        mad.lo.u32 %peer, %at, 16, %peer;
        ld.shared.v2.b64 {%d, %e}, [%peer]; }";
    Fragment::new("a tile by cp.async", "b64 b64 -> b64 b64", body).block(64).rows(64, |row| {
        let words = |row: usize| vec![row as u64, row as u64 | 1 << 40];
        (words(row), words(row ^ 37))
    })
}
