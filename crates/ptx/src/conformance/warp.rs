//! Warp instructions and special registers, spec 2 and 3.7: a row is a lane.

use super::fragment::Fragment;
use super::{Program, Target};

/// What a lane holds in the exchanges below: not its number, so that a lane is told from its value.
fn own(lane: usize) -> u64 {
    1000 + lane as u64
}

pub(super) fn programs() -> Vec<Program> {
    let mut all = vec![special_registers(), shape_of_the_grid(), lane_masks()];
    all.extend(SHUFFLES.iter().map(shuffle));
    all.extend([shuffle_of_a_subset(), shuffle_by_register(), shuffle_without_predicate()]);
    all.extend(votes());
    all.extend(matches());
    all.extend(reductions());
    all.push(warp_barrier());
    all.push(election());
    all
}

fn special_registers() -> Program {
    let body = "
        mov.u32 %d0, %tid.x; mov.u32 %d1, %ntid.x; mov.u32 %d2, %ctaid.x; mov.u32 %d3, %nctaid.x;
        mov.u32 %d4, %laneid; mov.u32 %d5, %tid.y; mov.u32 %d6, %ntid.z; mov.u32 %d7, WARP_SZ;";
    Fragment::new("special registers", "-> d:b32*8", body).block(96).rows(192, |row| {
        let (block, thread) = (row as u64 / 96, row as u64 % 96);
        (vec![], vec![thread, 96, block, 2, thread % 32, 0, 1, 32])
    })
}

fn shape_of_the_grid() -> Program {
    let body = "mov.u32 %d, %nctaid.y; mov.u32 %e, %ctaid.z; mov.u16 %f, %tid.x;";
    Fragment::new("grid of one dimension", "-> d:b32 e:b32 f:b16", body)
        .rows(64, |row| (vec![], vec![1, 0, row as u64 % 32]))
}

fn lane_masks() -> Program {
    let body = "
        mov.u32 %d0, %lanemask_eq; mov.u32 %d1, %lanemask_lt; mov.u32 %d2, %lanemask_le;
        mov.u32 %d3, %lanemask_gt; mov.u32 %d4, %lanemask_ge;";
    Fragment::new("lane masks", "-> d:b32*5", body).rows(32, |lane| {
        let all = u64::from(u32::MAX);
        let (equal, less) = (1 << lane, (1 << lane) - 1);
        (vec![], vec![equal, less, less | equal, all & !(less | equal), all & !less])
    })
}

/// Mode, `b`, `c`, and for every lane that does not keep its own: (lanes, the lane they read from).
struct Shuffle {
    operands: &'static str,
    source: fn(usize) -> Option<usize>,
}

/// The source of each lane, `None` where it keeps its own and the predicate is false.
const SHUFFLES: &[Shuffle] = &[
    Shuffle { operands: "up 1, 0", source: |lane| lane.checked_sub(1) },
    Shuffle { operands: "up 5, 0", source: |lane| lane.checked_sub(5) },
    // Segments of 8: c = (32 - 8) << 8, for the others with the clamp 31.
    Shuffle {
        operands: "up 1, 0x1800",
        source: |lane| (!lane.is_multiple_of(8)).then(|| lane - 1),
    },
    Shuffle { operands: "down 1, 31", source: |lane| (lane < 31).then_some(lane + 1) },
    Shuffle { operands: "down 1, 0x181F", source: |lane| (lane % 8 < 7).then_some(lane + 1) },
    Shuffle { operands: "down 3, 0x181F", source: |lane| (lane % 8 < 5).then_some(lane + 3) },
    // A clamp below the segment's end.
    Shuffle { operands: "down 1, 20", source: |lane| (lane < 20).then_some(lane + 1) },
    Shuffle { operands: "bfly 1, 31", source: |lane| Some(lane ^ 1) },
    Shuffle { operands: "bfly 16, 31", source: |lane| Some(lane ^ 16) },
    // Beyond its segment a butterfly reads downward only.
    Shuffle { operands: "bfly 8, 0x181F", source: |lane| (lane & 8 != 0).then_some(lane ^ 8) },
    Shuffle { operands: "bfly 16, 0x0F", source: |lane| (lane >= 16).then_some(lane ^ 16) },
    Shuffle { operands: "idx 7, 31", source: |_| Some(7) },
    // The index is taken modulo 32.
    Shuffle { operands: "idx 35, 31", source: |_| Some(3) },
    Shuffle { operands: "idx 3, 0x181F", source: |lane| Some(lane & !7 | 3) },
    Shuffle { operands: "idx 13, 0x181F", source: |lane| Some(lane & !7 | 5) },
    Shuffle { operands: "idx 9, 4", source: |_| None },
];

fn shuffle(case: &Shuffle) -> Program {
    let (mode, rest) = case.operands.split_once(' ').unwrap_or((case.operands, ""));
    let body = format!("shfl.sync.{mode}.b32 %d|%e, %a, {rest}, -1;");
    Fragment::new(&format!("shfl {}", case.operands), "b32 -> b32 pred", &body).rows(32, |lane| {
        let source = (case.source)(lane);
        let came = own(source.unwrap_or(lane));
        (vec![own(lane)], vec![came, source.is_some().into()])
    })
}

/// Lanes outside the mask do something else meanwhile.
fn shuffle_of_a_subset() -> Program {
    let body = "
        mov.b32 %d, 7;
        setp.lt.u32 %p, %thread, 16;
        @!%p bra OTHERS;
        shfl.sync.bfly.b32 %d, %a, 1, 31, 0xFFFF;
        OTHERS:";
    Fragment::new("shfl of the lower half", "b32 -> b32", body)
        .rows(32, |lane| (vec![own(lane)], vec![if lane < 16 { own(lane ^ 1) } else { 7 }]))
}

fn shuffle_by_register() -> Program {
    let body = "shfl.sync.idx.b32 %d|%e, %a, %b, %c, %x;";
    Fragment::new("shfl by registers", "f32 u32 u32 b32 -> b32 pred", body).rows(32, |lane| {
        let source = (lane * 7 + 3) % 32;
        let inputs = vec![own(lane), source as u64 + 32, 31, u32::MAX.into()];
        (inputs, vec![own(source), 1])
    })
}

fn shuffle_without_predicate() -> Program {
    let body = "shfl.sync.up.b32 %d, %a, %b, 0, -1;";
    Fragment::new("shfl up by each lane's own distance", "b32 u32 -> b32", body).rows(32, |lane| {
        let distance = lane % 4;
        (vec![own(lane), distance as u64], vec![own(lane - distance)])
    })
}

fn votes() -> [Program; 2] {
    let body = "
        vote.sync.all.pred %d0, %a, -1; vote.sync.any.pred %d1, %a, -1; vote.sync.uni.pred %d2, %a, -1;
        vote.sync.all.pred %d3, !%a, -1; vote.sync.any.pred %d4, !%a, -1;
        vote.sync.ballot.b32 %e, %a, -1; vote.sync.ballot.b32 %f, 1, -1;";
    let signature = "a:pred -> d:pred*5 e:b32 f:b32";
    let mixed = Fragment::new("vote", signature, body).block(96).rows(96, |row| {
        let all = u64::from(u32::MAX);
        // One warp in two minds, one of ones, one of zeros.
        match row / 32 {
            0 => ((row % 3 == 0).into(), [0, 1, 0, 0, 1, 0x4924_9249, all]),
            1 => (1, [1, 1, 1, 0, 0, all, all]),
            _ => (0, [0, 0, 1, 1, 1, 0, all]),
        }
        .into_row()
    });
    let body = "
        mov.b32 %d, 0;
        setp.ge.u32 %p, %thread, 24;
        @%p bra OTHERS;
        vote.sync.ballot.b32 %d, %a, 0x00FFFFFF;
        OTHERS:";
    let subset = Fragment::new("vote of a subset", "pred -> b32", body)
        .rows(32, |lane| (vec![1], vec![if lane < 24 { 0x00FF_FFFF } else { 0 }]));
    [mixed, subset]
}

/// An input beside its outputs, as a row.
trait IntoRow {
    fn into_row(self) -> (Vec<u64>, Vec<u64>);
}

impl<const N: usize> IntoRow for (u64, [u64; N]) {
    fn into_row(self) -> (Vec<u64>, Vec<u64>) {
        (vec![self.0], self.1.into())
    }
}

fn matches() -> [Program; 3] {
    let any = |width: u32| {
        let signature = format!("b{width} -> b32");
        let body = format!("match.any.sync.b{width} %d, %a, -1;");
        // Values that differ in the upper half only, where there is one.
        let value = move |lane: usize| ((lane % 3) as u64) << (width - 8) | 5;
        Fragment::new(&format!("match.any.b{width}"), &signature, &body).rows(32, move |lane| {
            let equal = (0..32).filter(|other| other % 3 == lane % 3);
            (vec![value(lane)], vec![equal.map(|other| 1 << other).sum()])
        })
    };
    let body = "match.all.sync.b32 %d|%e, %a, -1;";
    let all = Fragment::new("match.all", "b32 -> b32 pred", body).block(64).rows(64, |row| {
        if row < 32 {
            (vec![9], vec![u32::MAX.into(), 1])
        } else {
            (vec![if row == 50 { 8 } else { 9 }], vec![0, 0])
        }
    });
    [any(32), any(64), all]
}

fn reductions() -> Vec<Program> {
    let minus = |value: u64| value.wrapping_neg() & u64::from(u32::MAX);
    let mut all: Vec<Program> = Vec::new();
    let mut add = |op: &str, input: &dyn Fn(usize) -> u64, result: u64| {
        let body = format!("redux.sync.{op} %d, %a, -1;");
        let program = Fragment::new(&format!("redux.{op}"), "b32 -> b32", &body)
            .rows(32, |lane| (vec![input(lane)], vec![result]));
        all.push(program);
    };
    add("add.u32", &|lane| lane as u64, 496);
    add("add.s32", &|lane| if lane == 0 { 0x7FFF_FFFF } else { 1 }, 0x8000_001E);
    let mixed = |lane: usize| if lane == 20 { u64::from(u32::MAX) } else { 1 + lane as u64 };
    add("min.s32", &mixed, minus(1));
    add("max.s32", &mixed, 32);
    add("min.u32", &mixed, 1);
    add("max.u32", &mixed, u32::MAX.into());
    add("and.b32", &|lane| 0xFF00 | lane as u64, 0xFF00);
    add("or.b32", &|lane| 1 << lane, u32::MAX.into());
    add("xor.b32", &|lane| lane as u64 | 0x100, 0);
    let body = "
        mov.b32 %d, 0;
        setp.lt.u32 %p, %thread, 8;
        @%p redux.sync.add.u32 %d, %a, 0xFF;";
    all.push(
        Fragment::new("redux of a subset", "b32 -> b32", body)
            .rows(32, |lane| (vec![lane as u64], vec![if lane < 8 { 28 } else { 0 }])),
    );
    all
}

/// Every lane reads what its neighbour stored before the barrier.
fn warp_barrier() -> Program {
    let body = "
        { .shared .align 4 .b32 tile[32]; .reg .b32 %at, %peer;
        mov.u32 %at, tile;
        mad.lo.u32 %peer, %b, 4, %at;
        mad.lo.u32 %at, %thread, 4, %at;
        st.shared.b32 [%at], %a;
        bar.warp.sync -1;
        ld.shared.b32 %d, [%peer]; }";
    Fragment::new("bar.warp.sync orders memory", "b32 u32 -> b32", body).rows(32, |lane| {
        let peer = (lane + 13) % 32;
        (vec![own(lane), peer as u64], vec![own(peer)])
    })
}

/// One lane of the mask leads, the same for all; which one is open.
fn election() -> Program {
    let body = "
        { .reg .b32 %leader, %lane, %many;
        elect.sync %leader|%p, -1;
        mov.u32 %lane, %laneid;
        setp.eq.and.u32 %d, %leader, %lane, %p;
        setp.ne.and.u32 %q, %leader, %lane, !%p;
        or.pred %d, %d, %q;
        vote.sync.ballot.b32 %many, %p, -1;
        popc.b32 %e, %many; }";
    Fragment::new("elect", "-> d:pred e:u32", body)
        .on("8.0", Target::Sm90)
        .rows(32, |_| (vec![], vec![1, 1]))
}
