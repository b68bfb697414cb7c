//! sm_90: transaction counts of mbarriers, bulk copies, and the shared memory of a cluster, spec 3.13 to 3.15.

use super::fragment::Fragment;
use super::{Program, Target};

pub(super) fn programs() -> Vec<Program> {
    vec![
        transactions(),
        bulk_load(),
        bulk_store(),
        bulk_sum(),
        ranks(),
        exchange(),
        remote_arrival(),
        remote_store(),
        multicast(),
    ]
}

fn sm_90(name: &str, signature: &str, body: &str) -> Fragment {
    Fragment::new(name, signature, body).on("8.1", Target::Sm90)
}

/// A phase is complete when nobody and no byte is missing, in whichever order they come.
fn transactions() -> Program {
    let body = "
        { .shared .align 8 .b64 barrier;
        mbarrier.init.shared.b64 [barrier], 1;
        mbarrier.arrive.expect_tx.shared.b64 _, [barrier], 32;
        mbarrier.test_wait.parity.shared.b64 %d0, [barrier], 0;
        mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [barrier], 16;
        mbarrier.test_wait.parity.shared.b64 %d1, [barrier], 0;
        mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [barrier], 16;
        mbarrier.test_wait.parity.shared.b64 %d2, [barrier], 0;
        mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [barrier], 8;
        mbarrier.test_wait.parity.shared.b64 %d3, [barrier], 1;
        mbarrier.arrive.expect_tx.shared.b64 _, [barrier], 8;
        mbarrier.test_wait.parity.shared.b64 %d4, [barrier], 1; }";
    sm_90("mbarrier transactions", "-> d:pred*5", body)
        .block(1)
        .rows(1, |_| (vec![], vec![0, 0, 1, 0, 1]))
}

/// Loops until the phase of parity 0 is complete.
const WAIT: &str = "
    WAIT: mbarrier.try_wait.parity.shared.b64 %q, [barrier], 0;
    @!%q bra WAIT;";

/// Thread 0 initialises and issues, everybody waits and reads.
fn bulk_load() -> Program {
    let body = format!(
        "{{ .shared .align 128 .b32 tile[64]; .shared .align 8 .b64 barrier; .reg .b32 %at;
        setp.ne.u32 %p, %thread, 0;
        @%p bra JOIN;
        mbarrier.init.shared.b64 [barrier], 1;
        fence.mbarrier_init.release.cluster;
        mbarrier.arrive.expect_tx.shared.b64 _, [barrier], 256;
        cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [tile], [%in], 240, [barrier];
        add.u64 %in, %in, 240;
        cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [tile+240], [%in], 16, [barrier];
        JOIN: bar.sync 0; {WAIT}
        mov.u32 %at, tile;
        xor.b32 %thread, %thread, 63;
        mad.lo.u32 %at, %thread, 4, %at;
        ld.shared.b32 %d, [%at]; }}"
    );
    sm_90("cp.async.bulk into shared memory", "b32 -> b32", &body)
        .block(64)
        .rows(64, |row| (vec![row as u64 + 9], vec![(row as u64 ^ 63) + 9]))
}

/// What lies outside the 128 bytes of the store keeps its value.
fn bulk_store() -> Program {
    let body = "
        { .shared .align 128 .b32 tile[32]; .reg .b32 %at; .reg .b64 %base;
        mov.b32 %d, 3;
        st.global.b32 [%out], %d;
        mov.u32 %at, tile;
        mad.lo.u32 %at, %thread, 4, %at;
        setp.lt.u32 %p, %thread, 32;
        @%p st.shared.b32 [%at], %a;
        fence.proxy.async;
        bar.sync 0;
        setp.ne.u32 %q, %thread, 0;
        @%q bra JOIN;
        ld.param.u64 %base, [out];
        cp.async.bulk.global.shared::cta.bulk_group [%base+64], [tile], 128;
        cp.async.bulk.commit_group;
        cp.async.bulk.wait_group 0;
        JOIN: bar.sync 0;
        ld.global.b32 %d, [%out]; }";
    sm_90("cp.async.bulk into global memory", "b32 -> b32", body).block(64).rows(64, |row| {
        let inside = (16..48).contains(&row);
        (vec![row as u64 + 100], vec![if inside { row as u64 - 16 + 100 } else { 3 }])
    })
}

fn bulk_sum() -> Program {
    let body = "
        { .shared .align 128 .f32 tile[32]; .reg .b32 %at; .reg .b64 %base;
        st.global.f32 [%out], %b;
        mov.u32 %at, tile;
        mad.lo.u32 %at, %thread, 4, %at;
        st.shared.f32 [%at], %a;
        fence.proxy.async;
        bar.sync 0;
        setp.ne.u32 %q, %thread, 0;
        @%q bra JOIN;
        ld.param.u64 %base, [out];
        cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%base], [tile], 128;
        cp.async.bulk.commit_group;
        cp.async.bulk.wait_group 0;
        JOIN: bar.sync 0;
        ld.global.f32 %d, [%out]; }";
    sm_90("cp.reduce.async.bulk", "f32 f32 -> f32", body).rows(32, |row| {
        let bits = |value: f32| u64::from(value.to_bits());
        (vec![bits(row as f32), bits(0.5)], vec![bits(row as f32 + 0.5)])
    })
}

fn ranks() -> Program {
    let body = "
        { .shared .align 8 .b64 tile; .reg .b32 %at, %peer; .reg .b64 %generic;
        mov.u32 %d0, %cluster_ctarank; mov.u32 %d1, %cluster_nctarank;
        mov.u32 %d2, %clusterid.x; mov.u32 %d3, %nclusterid.x; mov.u32 %d4, %cluster_ctaid.x;
        mov.u32 %at, tile;
        mapa.shared::cluster.u32 %peer, %at, 1;
        getctarank.shared::cluster.u32 %d5, %peer;
        mapa.shared::cluster.u32 %peer, %at, %d0;
        getctarank.shared::cluster.u32 %d6, %peer; }";
    sm_90("ranks in a cluster", "-> d:b32*7", body).block(32).cluster(2).rows(128, |row| {
        let block = row as u64 / 32;
        (vec![], vec![block % 2, 2, block / 2, 2, block % 2, 1, block % 2])
    })
}

const SYNC: &str = "
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;";

/// Each thread reads the word of its twin in the other block.
fn exchange() -> Program {
    let body = format!(
        "{{ .shared .align 4 .b32 tile[32]; .reg .b32 %at, %peer, %rank;
        mov.u32 %at, tile;
        mad.lo.u32 %at, %thread, 4, %at;
        st.shared.b32 [%at], %a; {SYNC}
        mov.u32 %rank, %cluster_ctarank;
        xor.b32 %rank, %rank, 1;
        mapa.shared::cluster.u32 %peer, %at, %rank;
        ld.shared::cluster.b32 %d, [%peer]; {SYNC} }}"
    );
    sm_90("shared memory of the other block", "b32 -> b32", &body)
        .cluster(2)
        .rows(64, |row| (vec![row as u64 + 7], vec![(row as u64 ^ 32) + 7]))
}

/// Every thread stores into the other block and arrives at its mbarrier.
fn remote_arrival() -> Program {
    let body = format!(
        "{{ .shared .align 8 .b32 tile[32]; .shared .align 8 .b64 barrier;
        .reg .b32 %at, %peer, %rank, %there;
        setp.eq.u32 %p, %thread, 0;
        @%p mbarrier.init.shared.b64 [barrier], 32;
        @%p fence.mbarrier_init.release.cluster; {SYNC}
        mov.u32 %rank, %cluster_ctarank;
        xor.b32 %rank, %rank, 1;
        mov.u32 %at, tile;
        mad.lo.u32 %at, %thread, 4, %at;
        mapa.shared::cluster.u32 %peer, %at, %rank;
        st.shared::cluster.b32 [%peer], %a;
        mov.u32 %there, barrier;
        mapa.shared::cluster.u32 %there, %there, %rank;
        mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%there];
        WAIT: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %q, [barrier], 0;
        @!%q bra WAIT;
        xor.b32 %at, %at, 4;
        ld.shared.b32 %d, [%at]; {SYNC} }}"
    );
    sm_90("remote mbarrier arrival", "b32 -> b32", &body)
        .cluster(2)
        .rows(64, |row| (vec![row as u64 + 7], vec![(row as u64 ^ 33) + 7]))
}

fn remote_store() -> Program {
    let body = format!(
        "{{ .shared .align 16 .b32 tile[64]; .shared .align 8 .b64 barrier;
        .reg .b32 %at, %peer, %rank, %there;
        setp.ne.u32 %p, %thread, 0;
        @%p bra JOIN;
        mbarrier.init.shared.b64 [barrier], 1;
        fence.mbarrier_init.release.cluster;
        mbarrier.arrive.expect_tx.shared.b64 _, [barrier], 256;
        JOIN: {SYNC}
        mov.u32 %rank, %cluster_ctarank;
        xor.b32 %rank, %rank, 1;
        mov.u32 %at, tile;
        mad.lo.u32 %at, %thread, 8, %at;
        mapa.shared::cluster.u32 %peer, %at, %rank;
        mov.u32 %there, barrier;
        mapa.shared::cluster.u32 %there, %there, %rank;
        st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%peer], {{%a, %b}}, [%there];
        {WAIT}
        ld.shared.v2.b32 {{%d, %e}}, [%at]; {SYNC} }}"
    );
    sm_90("st.async", "b32 b32 -> b32 b32", &body).cluster(2).rows(64, |row| {
        let words = |row: usize| vec![row as u64, row as u64 + 1000];
        (words(row), words(row ^ 32))
    })
}

/// One copy lands in both blocks, at the same place, and completes both mbarriers.
fn multicast() -> Program {
    let body = format!(
        "{{ .shared .align 128 .b32 tile[32]; .shared .align 8 .b64 barrier;
        .reg .b32 %at, %rank; .reg .b16 %both;
        setp.ne.u32 %p, %thread, 0;
        @%p bra JOIN;
        mbarrier.init.shared.b64 [barrier], 1;
        fence.mbarrier_init.release.cluster;
        mbarrier.arrive.expect_tx.shared.b64 _, [barrier], 128;
        JOIN: {SYNC}
        mov.u32 %rank, %cluster_ctarank;
        setp.ne.or.u32 %p, %rank, 1, %p;
        @%p bra READ;
        mov.b16 %both, 3;
        cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [tile], [%in], 128, [barrier], %both;
        READ: {WAIT}
        mov.u32 %at, tile;
        mad.lo.u32 %at, %thread, 4, %at;
        ld.shared.b32 %d, [%at]; {SYNC} }}"
    );
    sm_90("multicast", "b32 -> b32", &body)
        .cluster(2)
        .rows(64, |row| (vec![row as u64], vec![row as u64 % 32 + 32]))
}
