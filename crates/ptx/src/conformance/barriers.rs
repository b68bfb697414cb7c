//! Barriers of a block and mbarriers, spec 3.8 and 3.13.

use super::Program;
use super::fragment::Fragment;

pub(super) fn programs() -> Vec<Program> {
    let mut all = vec![exchange(), exited(), divergent(), pipeline(), look_back()];
    all.extend(REDUCTIONS.iter().map(reduction));
    all.extend([phases(), states(), dropped(), arrivals_by_count(), copies_arrive()]);
    all
}

/// Every thread reads what another warp stored.
fn exchange() -> Program {
    let body = "
        { .shared .align 4 .b32 tile[128]; .reg .b32 %at, %peer;
        mov.u32 %peer, tile;
        mad.lo.u32 %at, %thread, 4, %peer;
        mad.lo.u32 %peer, %b, 4, %peer;
        st.shared.b32 [%at], %a;
        bar.sync 0;
        ld.shared.b32 %d, [%peer];
        bar.sync 1, 128;
        st.shared.b32 [%at], %d;
        barrier.sync.aligned 15;
        ld.shared.b32 %e, [%peer]; }";
    Fragment::new("bar.sync", "b32 u32 -> b32 b32", body).block(128).rows(256, |row| {
        let (block, thread) = (row / 128, row % 128);
        let peer = |thread: usize| (thread + 77) % 128;
        let value = |thread: usize| (block * 1000 + thread) as u64;
        (
            vec![value(thread), peer(thread) as u64],
            vec![value(peer(thread)), value(peer(peer(thread)))],
        )
    })
}

/// A barrier without a count waits for nobody who has left.
fn exited() -> Program {
    let body = "
        { .shared .align 4 .b32 tile[64]; .reg .b32 %at, %peer;
        st.global.b32 [%out], 5;
        setp.ge.u32 %p, %thread, 64;
        @%p exit;
        mov.u32 %peer, tile;
        mad.lo.u32 %at, %thread, 4, %peer;
        st.shared.b32 [%at], %thread;
        bar.sync 0;
        xor.b32 %at, %at, 128;
        ld.shared.b32 %d, [%at]; }";
    // 64 words of 4 bytes: flipping bit 7 of an address that begins at a multiple of 256 changes the warp.
    let body = body.replace(".align 4 .b32 tile[64]", ".align 256 .b32 tile[64]");
    Fragment::new("bar.sync after threads have left", "-> b32", &body)
        .block(96)
        .rows(96, |row| (vec![], vec![if row < 64 { (row ^ 32) as u64 } else { 5 }]))
}

/// `barrier.sync` without `.aligned` may stand in divergent code.
fn divergent() -> Program {
    let body = "
        { .shared .align 4 .b32 tile[64]; .reg .b32 %at, %peer, %low;
        mov.u32 %peer, tile;
        mad.lo.u32 %at, %thread, 4, %peer;
        mad.lo.u32 %peer, %a, 4, %peer;
        st.shared.b32 [%at], %thread;
        and.b32 %low, %thread, 1;
        setp.eq.u32 %p, %low, 0;
        @%p bra EVEN;
        barrier.sync 0;
        ld.shared.b32 %d, [%peer];
        add.u32 %d, %d, 1000;
        bra OVER;
        EVEN: barrier.sync 0;
        ld.shared.b32 %d, [%peer];
        OVER: }";
    Fragment::new("barrier.sync in divergent code", "u32 -> b32", body).block(64).rows(64, |row| {
        let peer = (row + 33) % 64;
        (vec![peer as u64], vec![(peer + row % 2 * 1000) as u64])
    })
}

/// Producer and consumer: each side arrives where the other waits, over four rounds.
fn pipeline() -> Program {
    let body = "
        { .shared .align 4 .b32 tile[32]; .reg .b32 %at, %lane, %round, %value;
        mov.u32 %lane, %laneid;
        mov.u32 %at, tile;
        mad.lo.u32 %at, %lane, 4, %at;
        mov.b32 %d, 0;
        mov.b32 %round, 0;
        setp.ge.u32 %p, %thread, 32;
        @%p bra CONSUMER;
        PRODUCER:
        bar.sync 1, 64;
        mad.lo.u32 %value, %round, 100, %lane;
        st.shared.b32 [%at], %value;
        bar.arrive 2, 64;
        add.u32 %round, %round, 1;
        setp.lt.u32 %p, %round, 4;
        @%p bra PRODUCER;
        bra OVER;
        CONSUMER:
        bar.arrive 1, 64;
        bar.sync 2, 64;
        ld.shared.b32 %value, [%at];
        mad.lo.u32 %d, %d, 3, %value;
        add.u32 %round, %round, 1;
        setp.lt.u32 %p, %round, 4;
        @%p bra CONSUMER;
        OVER: }";
    Fragment::new("named barriers", "-> b32", body).block(64).rows(64, |row| {
        let lane = row as u64 % 32;
        let sum = (0..4).fold(0, |sum, round| sum * 3 + round * 100 + lane);
        (vec![], vec![if row < 32 { 0 } else { sum }])
    })
}

/// Decoupled look-back: tile numbers from a counter, each block waits for its predecessor's sum. Behind `in` are
/// the counter, then a flag and a sum for each tile.
fn look_back() -> Program {
    let body = "
        { .shared .align 8 .b32 shared_tile; .shared .align 8 .b32 shared_sum;
        .reg .b64 %base, %mine; .reg .b32 %tile, %flag, %sum;
        ld.param.u64 %base, [in];
        mov.b32 %sum, 0;
        setp.ne.u32 %p, %thread, 0;
        @%p bra JOIN;
        atom.global.add.u32 %tile, [%base], 1;
        mad.wide.u32 %mine, %tile, 4, %base;
        setp.eq.u32 %q, %tile, 0;
        @%q bra FIRST;
        SPIN:
        ld.acquire.gpu.global.b32 %flag, [%mine+4];
        setp.eq.u32 %q, %flag, 0;
        @%q bra SPIN;
        mov.b32 %sum, %flag;
        FIRST:
        add.u32 %flag, %sum, 1;
        st.release.gpu.global.b32 [%mine+8], %flag;
        st.shared.b32 [shared_tile], %tile;
        st.shared.b32 [shared_sum], %sum;
        JOIN:
        bar.sync 0;
        ld.shared.b32 %tile, [shared_tile];
        ld.shared.b32 %sum, [shared_sum];
        setp.eq.u32 %d, %tile, %sum; }";
    // 16 bytes behind `in`: the counter, and flags for two tiles with one to spare.
    Fragment::new("look-back", "-> pred", body).block(64).rows(128, |_| (vec![], vec![1]))
}

/// Name, fragment behind the block's 64 threads with predicate `%a`, result of (all, some, none).
type Reduction = (&'static str, &'static str, [u64; 2]);

/// Rows of the first block hold the predicate in every third thread, those of the second in all.
const REDUCTIONS: &[Reduction] = &[
    ("bar.red.popc.u32 %d, 0, %a;", "b32", [22, 64]),
    ("bar.red.popc.u32 %d, 3, 64, !%a;", "b32", [42, 0]),
    ("bar.red.and.pred %d, 0, %a;", "pred", [0, 1]),
    ("bar.red.or.pred %d, 0, 64, %a;", "pred", [1, 1]),
    ("bar.red.or.pred %d, 0, !%a;", "pred", [1, 0]),
];

fn reduction((body, kind, results): &Reduction) -> Program {
    let name = body.trim_end_matches(';');
    Fragment::new(name, &format!("pred -> {kind}"), body).block(64).rows(128, |row| {
        let all = row >= 64;
        (vec![(all || row % 3 == 0).into()], vec![results[usize::from(all)]])
    })
}

/// A fresh object waits through with parity 1; a phase ends when its arrivals have come.
fn phases() -> Program {
    let body = "
        { .shared .align 8 .b64 barrier;
        mbarrier.init.shared.b64 [barrier], 2;
        mbarrier.test_wait.parity.shared.b64 %d0, [barrier], 0;
        mbarrier.test_wait.parity.shared.b64 %d1, [barrier], 1;
        mbarrier.arrive.shared.b64 _, [barrier];
        mbarrier.test_wait.parity.shared.b64 %d2, [barrier], 0;
        mbarrier.arrive.shared.b64 _, [barrier];
        mbarrier.test_wait.parity.shared.b64 %d3, [barrier], 0;
        mbarrier.test_wait.parity.shared.b64 %d4, [barrier], 1;
        mbarrier.arrive.shared.b64 _, [barrier];
        mbarrier.arrive.shared.b64 _, [barrier];
        mbarrier.test_wait.parity.shared.b64 %d5, [barrier], 1;
        mbarrier.test_wait.parity.shared.b64 %d6, [barrier], 0;
        mbarrier.inval.shared.b64 [barrier];
        st.shared.b64 [barrier], 0; }";
    Fragment::new("mbarrier phases", "-> d:pred*7", body)
        .block(1)
        .rows(1, |_| (vec![], vec![0, 1, 0, 1, 0, 1, 0]))
}

/// The state of an arrival waits for its phase and counts what was pending.
fn states() -> Program {
    let body = "
        { .shared .align 8 .b64 barrier; .reg .b64 %first, %second, %third;
        mbarrier.init.shared.b64 [barrier], 3;
        mbarrier.arrive.shared.b64 %first, [barrier];
        mbarrier.arrive.shared.b64 %second, [barrier];
        mbarrier.test_wait.shared.b64 %d0, [barrier], %first;
        mbarrier.arrive.shared.b64 %third, [barrier];
        mbarrier.test_wait.shared.b64 %d1, [barrier], %first;
        mbarrier.test_wait.shared.b64 %d2, [barrier], %third;
        mbarrier.pending_count.b64 %e0, %first;
        mbarrier.pending_count.b64 %e1, %second; }";
    Fragment::new("mbarrier states", "-> d:pred*3 e:b32*2", body)
        .block(1)
        .rows(1, |_| (vec![], vec![0, 1, 1, 3, 2]))
}

/// Who drops out is not expected in later phases.
fn dropped() -> Program {
    let body = "
        { .shared .align 8 .b64 barrier; .reg .b64 %state;
        mbarrier.init.shared.b64 [barrier], 2;
        mbarrier.arrive_drop.shared.b64 %state, [barrier];
        mbarrier.arrive.shared.b64 %state, [barrier];
        mbarrier.test_wait.parity.shared.b64 %d, [barrier], 0;
        mbarrier.arrive.shared.b64 %state, [barrier];
        mbarrier.test_wait.parity.shared.b64 %e, [barrier], 1; }";
    Fragment::new("mbarrier.arrive_drop", "-> d:pred e:pred", body)
        .block(1)
        .rows(1, |_| (vec![], vec![1, 1]))
}

fn arrivals_by_count() -> Program {
    let body = "
        { .shared .align 8 .b64 barrier; .reg .b64 %state;
        mbarrier.init.shared.b64 [barrier], 5;
        mbarrier.arrive.noComplete.shared.b64 %state, [barrier], 4;
        mbarrier.test_wait.parity.shared.b64 %d, [barrier], 0;
        mbarrier.arrive.shared.b64 %state, [barrier];
        mbarrier.test_wait.parity.shared.b64 %e, [barrier], 0; }";
    Fragment::new("mbarrier.arrive.noComplete", "-> d:pred e:pred", body)
        .block(1)
        .rows(1, |_| (vec![], vec![0, 1]))
}

/// The arrival of a thread's copies: all 64 threads read what others copied.
fn copies_arrive() -> Program {
    let body = "
        { .shared .align 8 .b64 barrier; .shared .align 16 .b32 tile[64]; .reg .b32 %at, %peer;
        mov.u32 %peer, tile;
        mad.lo.u32 %at, %thread, 4, %peer;
        mad.lo.u32 %peer, %b, 4, %peer;
        setp.eq.u32 %p, %thread, 0;
        @%p mbarrier.init.shared.b64 [barrier], 64;
        bar.sync 0;
        cp.async.ca.shared.global [%at], [%in], 4;
        cp.async.mbarrier.arrive.noinc.shared.b64 [barrier];
        WAIT:
        mbarrier.test_wait.parity.shared.b64 %q, [barrier], 0;
        @!%q bra WAIT;
        ld.shared.b32 %d, [%peer];
        cp.async.wait_all; }";
    Fragment::new("cp.async.mbarrier.arrive", "b32 u32 -> b32", body).block(64).rows(64, |row| {
        let peer = (row * 5 + 3) % 64;
        (vec![100 + row as u64, peer as u64], vec![100 + peer as u64])
    })
}
