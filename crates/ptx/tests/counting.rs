//! Counters of kernels whose work is known by hand.
#![cfg(feature = "interpreter")]

mod common;

use common::{launch, shape, writes_out, zeros};
use warpwright_ptx::interpreter::{
    Class, Counters, Estimate, GPUS, Gpu, Machine, NoEstimate, Options,
};

/// One block of 64 threads: two full warps.
fn counted(body: &str) -> Counters {
    let machine = Machine::new(0, Options::default());
    let out = zeros(&machine, 64 * 16);
    launch(&machine, &writes_out("", body), &shape(1, 64, &[&out.to_le_bytes()])).expect("it runs")
}

#[test]
fn neighbouring_words_share_sectors() {
    let total = counted("st.global.b32 [%at], %thread;").total();
    // A warp stores 128 bytes, which are four sectors.
    assert_eq!((total.stores.requests, total.stores.sectors), (2, 8));
    assert_eq!((total.stores.bytes(), total.stores.useful_bytes), (256, 256));
}

#[test]
fn strided_words_waste_sectors() {
    let body =
        "mad.wide.u32 %p, %thread, 32, %out; ld.global.b32 %a, [%p]; st.global.b32 [%at], %a;";
    let machine = Machine::new(0, Options::default());
    let out = zeros(&machine, 64 * 16);
    // One warp: no word is read by one thread and written by another.
    let body = body.replace("st.global.b32 [%at]", "st.global.b32 [%p]");
    let counters = launch(&machine, &writes_out("", &body), &shape(1, 32, &[&out.to_le_bytes()]))
        .expect("it runs");
    let loads = counters.total().loads;
    assert_eq!(
        (loads.requests, loads.sectors, loads.bytes(), loads.useful_bytes),
        (1, 32, 1024, 128)
    );
}

#[test]
fn words_of_one_bank_conflict() {
    for (stride, wavefronts, conflicts) in
        [(4, 1, 0), (8, 2, 1), (16, 4, 3), (128, 32, 31), (132, 1, 0)]
    {
        let body = format!(
            ".shared .align 4 .b8 tile[{}]; mov.u32 %a, tile; mad.lo.u32 %a, %thread, {stride}, %a;
             st.shared.b32 [%a], %thread;",
            64 * stride
        );
        let total = counted(&body).total();
        assert_eq!(total.wavefronts, 2 * wavefronts, "stride {stride}");
        assert_eq!(total.bank_conflicts(), 2 * conflicts, "stride {stride}");
    }
}

#[test]
fn branches_and_guards_leave_lanes_out() {
    let counters = counted(
        "and.b32 %a, %thread, 1; setp.eq.u32 %if, %a, 0;
@%if bra EVEN;
mov.u32 %b, 1;
EVEN:
@%if mov.u32 %b, 2;
st.global.b32 [%at], %b;",
    );
    let total = counters.total();
    assert_eq!(total.divergent, 2, "both warps split");
    // 16 of 32 lanes take the move between, 16 the guarded one, in each of two warps.
    assert_eq!(total.partial, 2 * 3, "branch, move and guarded move");
    assert_eq!(counters.of(Class::Control).warps, counters.by_class()[&Class::Control].warps);
}

#[test]
fn atomics_on_one_word_collide() {
    let total = counted("atom.global.add.u32 %a, [%out], 1;").total();
    assert_eq!((total.atomics.requests, total.atomics.sectors), (2, 2));
    assert_eq!(total.collisions, 2 * 31);
}

#[test]
fn barriers_count_once() {
    assert_eq!(counted("bar.sync 0; bar.sync 0; bar.sync 1;").barriers, 3);
}

#[test]
fn lines_add_up_and_launches_too() {
    let body = "st.global.b32 [%at], %thread;";
    let (mut all, once) = (counted(body), counted(body));
    assert!(all.add(&once));
    assert_eq!(all.total().stores.bytes(), 512);
    assert_eq!(all.launches.len(), 2);
    let lines = once.lines(1..=u32::MAX).map(|line| line.tally.warps).sum::<u64>();
    assert_eq!(lines, once.total().warps);
    assert!(!all.add(&counted("bar.sync 0;")), "another text");
    // Two warps run six instructions of the head, the store and the return.
    assert_eq!(once.total().warps, 2 * 6);
    assert_eq!(once.total().threads, 64 * 6);
}

#[test]
fn workers_do_not_change_what_is_counted() {
    let text = writes_out("", "atom.global.add.u32 %a, [%out], 1; bar.sync 0;");
    let run = |workers| {
        let machine = Machine::new(0, Options::default().with_workers(workers));
        let out = zeros(&machine, 1).to_le_bytes();
        launch(&machine, &text, &shape(40, 96, &[&out])).expect("it runs")
    };
    let one = run(1);
    assert_eq!(one, run(4));
    assert_eq!(one.barriers, 40);
}

#[test]
fn estimates_exist_for_every_gpu() {
    let counters = counted("st.global.b32 [%at], %thread;");
    for gpu in GPUS {
        let estimate = Estimate::of(&counters, None, gpu).expect("a small kernel fits");
        let memory = estimate.unit("memory").expect("it stores");
        assert!((memory.seconds - 256.0 / gpu.bandwidth).abs() < 1e-15, "{estimate}");
        assert!(estimate.seconds() >= memory.seconds);
    }
    let mut nothing = counters.clone();
    nothing.launches.clear();
    let h100 = Gpu::named("h100").expect("it is known");
    assert_eq!(Estimate::of(&nothing, None, h100), Err(NoEstimate::Nothing));
    assert!(Gpu::named("abacus").is_err());
}
