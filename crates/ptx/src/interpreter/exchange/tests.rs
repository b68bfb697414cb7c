//! Rows of the conformance list, and the definitions once more in the plainest form.

use super::shuffle::{Inactive, Shuffle, shuffle};
use super::*;

const ALL: Mask = u32::MAX;

fn numbered() -> Row {
    std::array::from_fn(|lane| lane as u64)
}

/// A shuffle of lane numbers by all lanes: sources, and `p`.
fn by_all(mode: Shuffle, b: u64, c: u64) -> (Row, Mask) {
    let shuffled = shuffle(mode, &numbered(), &[b; LANES], &[c; LANES], ALL);
    let shuffled = shuffled.expect("all lanes take part");
    assert_eq!(shuffled.values, shuffled.sources.map(u64::from));
    (shuffled.values, shuffled.in_range)
}

#[test]
fn shuffle_up() {
    let (d, p) = by_all(Shuffle::Up, 1, 0);
    assert_eq!((d[0], d[31], p), (0, 30, !1));
    let (d, p) = by_all(Shuffle::Up, 1, 0x1800);
    assert_eq!((d[8], d[16], d[7]), (8, 16, 6));
    assert_eq!(p, !0x0101_0101);
}

#[test]
fn shuffle_down() {
    let (d, p) = by_all(Shuffle::Down, 1, 0x181F);
    assert_eq!((d[7], d[6]), (7, 7));
    assert_eq!(p, !0x8080_8080);
    let (d, p) = by_all(Shuffle::Down, 31, 31);
    assert_eq!((d[0], d[1], p), (31, 1, 1));
}

#[test]
fn shuffle_butterfly() {
    let (d, p) = by_all(Shuffle::Butterfly, 8, 0x181F);
    assert_eq!((d[0], p & 1), (0, 0));
    assert_eq!((d[8], p >> 8 & 1), (0, 1));
    assert_eq!(d[31], 23);
    let (d, p) = by_all(Shuffle::Butterfly, 16, 0x0F);
    assert_eq!((d[0], d[16]), (0, 0));
    assert_eq!(p, 0xFFFF_0000);
    let (d, p) = by_all(Shuffle::Butterfly, 5, 31);
    assert_eq!((d[0], d[31], p), (5, 26, ALL));
}

#[test]
fn shuffle_index() {
    assert_eq!(by_all(Shuffle::Index, 3, 0x181F).0[9], 11);
    assert_eq!(by_all(Shuffle::Index, 13, 0x181F).0[17], 21);
    let (d, p) = by_all(Shuffle::Index, 35, 31);
    assert_eq!((d, p), ([3; LANES], ALL));
}

#[test]
fn shuffle_with_operands_of_each_lane() {
    let reversed: Row = std::array::from_fn(|lane| 31 - lane as u64);
    let shuffled = shuffle(Shuffle::Index, &numbered(), &reversed, &[31; LANES], ALL);
    assert_eq!(shuffled.expect("all lanes take part").values, reversed);
}

#[test]
fn shuffle_reads_only_active_lanes() {
    let ask = |mode, b, active| shuffle(mode, &numbered(), &[b; LANES], &[31; LANES], active);
    assert_eq!(ask(Shuffle::Down, 1, 0x1F), Err(Inactive { reader: 4, source: 5 }));
    assert_eq!(ask(Shuffle::Index, 3, 0x7), Err(Inactive { reader: 0, source: 3 }));
    // Out of range nothing is read, so nothing is wrong.
    let last = ask(Shuffle::Down, 1, 1 << 31).expect("it keeps its own");
    assert_eq!((last.values[31], last.in_range), (31, 0));
    assert!(ask(Shuffle::Butterfly, 1, 0b1100).is_ok());
}

#[test]
fn votes() {
    let active = 0x0000_FFF0;
    let ask = |question, predicate| vote(question, predicate, active) == active;
    // The lanes outside hold what would change each answer.
    assert!(ask(Vote::All, active) && !ask(Vote::All, !0x10));
    assert!(ask(Vote::Any, 0x10) && !ask(Vote::Any, !active));
    assert!(ask(Vote::Uniform, !active) && ask(Vote::Uniform, active) && !ask(Vote::Uniform, 0x10));
    assert_eq!(vote(Vote::All, 0, active), 0);
    assert_eq!(ballot(0xF0F0_F0F0, active), [0xF0F0 & 0xFFF0; LANES]);
}

#[test]
fn match_any_groups_equal_values() {
    let active = 0x7FFF_FFFE;
    let a: Row = std::array::from_fn(|lane| (lane as u64 % 5) << 40);
    let d = match_any(&a, active);
    for lane in lanes(active) {
        let same = (0..32).filter(|&other| a[other] == a[lane]);
        let expected = same.fold(0, |mask: u32, other| mask | 1 << other) & active;
        assert_eq!(d[lane], u64::from(expected), "lane {lane}");
    }
}

#[test]
fn match_all_agrees_or_not() {
    let mut a = [1 << 63; LANES];
    a[3] = 0;
    assert_eq!(match_all(&a, ALL), ([0; LANES], 0));
    assert_eq!(match_all(&a, !8), ([u64::from(!8_u32); LANES], !8));
}

#[test]
fn reductions() {
    let signs: Row = std::array::from_fn(|lane| if lane % 2 == 0 { 0xFFFF_FFFF } else { 1 });
    let expected = [
        (Reduction::Add, numbered(), ALL, 496),
        (Reduction::Add, numbered(), 0x8000_0003, 32),
        (Reduction::Add, [0x8000_0001; LANES], 3, 2),
        (Reduction::MinSigned, signs, ALL, 0xFFFF_FFFF),
        (Reduction::MaxSigned, signs, ALL, 1),
        (Reduction::MinUnsigned, signs, ALL, 1),
        (Reduction::MaxUnsigned, signs, ALL, 0xFFFF_FFFF),
        (Reduction::MinUnsigned, signs, 0x5555_5555, 0xFFFF_FFFF),
        (Reduction::And, numbered(), 0b1010_0000, 5),
        (Reduction::Or, numbered(), 0b1010_0000, 7),
        (Reduction::Xor, numbered(), 0b1010_0000, 2),
    ];
    for (operation, a, active, result) in expected {
        assert_eq!(reduce(operation, &a, active), [result; LANES], "{operation:?} {active:#x}");
    }
}

#[test]
fn decoding() {
    let body = "shfl.sync.bfly.b32 %r0|%p0, %r1, 1, 31, -1; vote.sync.uni.pred %p0, %p1, -1;
        redux.sync.min.s32 %r0, %r1, -1; redux.sync.xor.b32 %r0, %r1, -1;
        vote.sync.ballot.b32 %r0, %p0, -1;";
    let source = format!(
        ".version 7.0 .target sm_80 .address_size 64
        .visible .entry k() {{ .reg .pred %p<2>; .reg .b32 %r<2>; {body} }}"
    );
    let module = crate::parse(&source).expect("a module");
    let code = module.entries[0].instructions();
    assert_eq!(Shuffle::of(code[0]), Some(Shuffle::Butterfly));
    assert_eq!(Vote::of(code[1]), Some(Vote::Uniform));
    assert_eq!(Reduction::of(code[2]), Some(Reduction::MinSigned));
    assert_eq!(Reduction::of(code[3]), Some(Reduction::Xor));
    assert_eq!(Vote::of(code[4]), None);
}
