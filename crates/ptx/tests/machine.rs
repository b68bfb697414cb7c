//! Memory, variables and schedules of a machine, from outside.
#![cfg(feature = "interpreter")]

mod common;

use std::thread;

use common::{download, launch, module, run, shape, upload, writes_out, zeros};
use warpwright_ptx::interpreter::{Fault, FaultKind, Launch, Machine, Options, Schedule};
use warpwright_ptx::parse;

fn kind(result: Result<impl Sized, Fault>) -> FaultKind {
    result.map(|_| ()).expect_err("a fault is expected").kind
}

fn shuffled(seed: u64) -> Options {
    Options::default().with_schedule(Schedule::Shuffled).with_seed(seed).with_workers(1)
}

/// Each thread stores its index.
fn indices() -> String {
    writes_out("", "st.global.b32 [%at], %thread;")
}

#[test]
fn freed_memory_is_found() {
    let machine = Machine::new(0, Options::default());
    let (first, second) = (zeros(&machine, 32), zeros(&machine, 32));
    machine.free(first).expect("it was allocated");
    assert_eq!(kind(machine.free(first)), FaultKind::UseAfterFree, "twice");
    assert_eq!(kind(machine.free(second + 4)), FaultKind::OutOfBounds, "not its start");
    assert_eq!(kind(machine.read(first, &mut [0; 4])), FaultKind::UseAfterFree);
    assert_eq!(kind(machine.write(second + 126, &[0; 4])), FaultKind::OutOfBounds);
    assert_eq!(kind(machine.copy(second, first, 4)), FaultKind::UseAfterFree);
    let freed = launch(&machine, &indices(), &shape(1, 32, &[&first.to_le_bytes()]));
    assert_eq!(kind(freed), FaultKind::UseAfterFree);
    launch(&machine, &indices(), &shape(1, 32, &[&second.to_le_bytes()]))
        .expect("the other is there");
}

#[test]
fn machines_do_not_share_addresses() {
    let machines = [0, 1, 65_534].map(|number| Machine::new(number, Options::default()));
    let buffers = machines.each_ref().map(|machine| zeros(machine, 32));
    for (own, machine) in machines.iter().enumerate() {
        for (at, buffer) in buffers.iter().enumerate() {
            let result = launch(machine, &indices(), &shape(1, 32, &[&buffer.to_le_bytes()]));
            match at == own {
                true => drop(result.expect("its own memory")),
                false => assert_eq!(kind(result), FaultKind::OutOfBounds),
            }
        }
    }
    // Any number is taken.
    zeros(&Machine::new(u32::MAX, Options::default()), 1);
}

#[test]
fn a_refused_allocation_takes_no_addresses() {
    let machine = Machine::new(0, Options::default());
    let before = machine.allocate(4).expect("memory");
    for bytes in [1 << 60, u64::MAX] {
        assert_eq!(kind(machine.allocate(bytes)), FaultKind::Launch);
    }
    assert!(machine.allocate(4).expect("memory") - before < 4096);
}

#[test]
fn copies_keep_what_is_unwritten() {
    let machine = Machine::new(0, Options::default());
    let (from, to) = (machine.allocate(8).expect("memory"), zeros(&machine, 2));
    machine.write(from, &7u32.to_le_bytes()).expect("memory");
    machine.copy(to, from, 8).expect("both are there");
    let reads = |offset: u32| {
        writes_out(
            "",
            &format!(
                "ld.global.b32 %a, [%out+{offset}]; add.u32 %a, %a, 1; st.global.b32 [%out], %a;"
            ),
        )
    };
    let arguments = to.to_le_bytes();
    launch(&machine, &reads(0), &shape(1, 1, &[&arguments])).expect("the first word is written");
    assert_eq!(download(&machine, to, 1), [8]);
    let unwritten = launch(&machine, &reads(4), &shape(1, 1, &[&arguments]));
    assert_eq!(kind(unwritten), FaultKind::Uninitialised);
}

#[test]
fn host_threads_launch_on_one_machine() {
    let adds = writes_out("", "atom.global.add.u32 %a, [%out], 1;");
    let stores = indices();
    let machine = Machine::new(0, Options::default());
    let counter = zeros(&machine, 1);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let own = zeros(&machine, 64);
                for _ in 0..8 {
                    launch(&machine, &adds, &shape(3, 96, &[&counter.to_le_bytes()]))
                        .expect("atomics");
                    launch(&machine, &stores, &shape(1, 64, &[&own.to_le_bytes()]))
                        .expect("its own");
                }
                assert_eq!(download(&machine, own, 64), (0..64).collect::<Vec<_>>());
            });
        }
    });
    assert_eq!(download(&machine, counter, 1), [4 * 8 * 3 * 96]);
}

/// Blocks store a word each, meet at a barrier made of an atomic, and read their neighbour's.
fn grid_barrier(arrive: &str) -> String {
    let body = format!(
        "
.reg .b32 %blocks;
mov.u32 %a, %ctaid.x; mov.u32 %blocks, %nctaid.x;
mad.wide.u32 %p, %a, 4, %out;
setp.ne.u32 %if, %thread, 0;
@%if bra WAIT;
add.u32 %b, %a, 100;
st.global.b32 [%p+4], %b;
{arrive}
SPIN:
ld.acquire.gpu.global.b32 %b, [%out];
setp.lt.u32 %if, %b, %blocks;
@%if bra SPIN;
WAIT:
bar.sync 0;
setp.ne.u32 %if, %thread, 0;
@%if ret;
add.u32 %a, %a, 1;
rem.u32 %a, %a, %blocks;
mad.wide.u32 %q, %a, 4, %out;
ld.global.b32 %b, [%q+4];
mad.wide.u32 %q, %blocks, 4, %p;
st.global.b32 [%q+4], %b;"
    );
    writes_out("", &body)
}

#[test]
fn cooperative_grids_meet_at_a_barrier() {
    let text = grid_barrier("red.release.gpu.global.add.u32 [%out], 1;");
    for options in [Options::default(), shuffled(1), shuffled(2), shuffled(3)] {
        let machine = Machine::new(0, options);
        let out = zeros(&machine, 41);
        let argument = out.to_le_bytes();
        let arguments: [&[u8]; 1] = [&argument];
        let cooperative = Launch { cooperative: true, ..shape(20, 64, &arguments) };
        launch(&machine, &text, &cooperative).expect("all blocks are resident");
        let neighbours: Vec<u32> = (0..20).map(|block| 100 + (block + 1) % 20).collect();
        assert_eq!(download(&machine, out, 41)[21..], neighbours);
    }
}

#[test]
fn a_barrier_of_the_grid_needs_a_cooperative_launch() {
    let text = grid_barrier("red.release.gpu.global.add.u32 [%out], 1;");
    let machine = Machine::new(0, Options::default().with_patience(20_000).with_workers(1));
    let out = zeros(&machine, 41).to_le_bytes();
    assert_eq!(kind(launch(&machine, &text, &shape(20, 64, &[&out]))), FaultKind::NotResident);
}

#[test]
fn a_barrier_of_the_grid_needs_a_release() {
    let text = grid_barrier("red.relaxed.gpu.global.add.u32 [%out], 1;");
    for options in [Options::default(), shuffled(1), shuffled(2)] {
        let machine = Machine::new(0, options);
        let out = zeros(&machine, 41).to_le_bytes();
        let arguments: [&[u8]; 1] = [&out];
        let cooperative = Launch { cooperative: true, ..shape(20, 64, &arguments) };
        assert_eq!(kind(launch(&machine, &text, &cooperative)), FaultKind::Race);
    }
}

/// Threads take the words of others from shared memory, with a barrier or none between.
fn reversal(barrier: &str) -> String {
    let body = format!(
        "
.shared .align 4 .b32 tile[128];
mov.u32 %b, tile;
mad.lo.u32 %a, %thread, 4, %b;
st.shared.b32 [%a], %thread;
{barrier}
sub.u32 %c, 127, %thread;
mad.lo.u32 %a, %c, 4, %b;
ld.shared.b32 %c, [%a];
st.global.b32 [%at], %c;"
    );
    writes_out("", &body)
}

#[test]
fn results_are_those_of_any_schedule() {
    let text = reversal("bar.sync 0;");
    let expected: Vec<u32> = (0..128).rev().collect();
    assert_eq!(run(&text, 128, 128, Options::default()).expect("converged"), expected);
    for seed in 0..20 {
        assert_eq!(
            run(&text, 128, 128, shuffled(seed)).expect("shuffled"),
            expected,
            "seed {seed}"
        );
    }
}

#[test]
fn a_seed_gives_one_report() {
    let text = reversal("");
    let mut reports = Vec::new();
    for seed in 0..8 {
        let report = || run(&text, 128, 128, shuffled(seed)).expect_err("a race").to_string();
        reports.push(report());
        assert!((0..4).all(|_| report() == reports[seed as usize]), "seed {seed}");
    }
    reports.sort();
    reports.dedup();
    assert!(reports.len() > 1, "the seed decides nothing: {reports:?}");
}

#[test]
fn unchecked_machines_report_neither_races_nor_unwritten_values() {
    let racing = reversal("");
    let unwritten = writes_out("", "add.u32 %a, %b, 1; st.global.b32 [%at], %a;");
    for (text, expected) in [(&racing, FaultKind::Race), (&unwritten, FaultKind::Uninitialised)] {
        assert_eq!(kind(run(text, 128, 128, Options::default())), expected);
        run(text, 128, 128, Options::default().unchecked()).expect("it runs on");
    }
    let outside = run(&indices(), 33, 32, Options::default().unchecked());
    assert_eq!(kind(outside), FaultKind::OutOfBounds, "bounds are always checked");
}

#[test]
fn variables_begin_with_their_values() {
    let variables = "
.const .align 4 .b32 table[4] = {10, 11, -1};
.global .align 8 .b64 total = 5;
.global .f32 half = 0.5;
.const .b8 small[3] = {1, 2, 255};
.global .align 8 .u64 place = total;
.const .align 8 .u64 anywhere = generic(table);";
    let body = "
setp.ne.u32 %if, %thread, 0; @%if ret;
ld.const.b32 %a, [table+8];       st.global.b32 [%out], %a;
ld.const.b32 %a, [table+12];      st.global.b32 [%out+4], %a;
ld.global.b32 %a, [half];         st.global.b32 [%out+8], %a;
ld.const.u8 %a, [small+2];        st.global.b32 [%out+12], %a;
ld.const.u64 %p, [anywhere];      ld.b32 %a, [%p+4];  st.global.b32 [%out+16], %a;
ld.global.u64 %p, [place];        ld.global.u64 %q, [%p];
add.u64 %q, %q, 1;                st.global.u64 [%p], %q;
st.global.b64 [%out+24], %q;";
    let text = writes_out(variables, body);
    let machine = Machine::new(0, Options::default());
    let out = zeros(&machine, 8);
    let module = parse(&text).expect("it parses");
    // A module keeps its variables from launch to launch, and another load has its own.
    for totals in [vec![6, 7, 8], vec![6]] {
        let loaded = machine.load(&module).expect("it loads");
        let kernel = loaded.kernel(common::KERNEL).expect("the kernel");
        for total in totals {
            machine.launch(kernel, &shape(1, 32, &[&out.to_le_bytes()])).expect("it runs");
            let words = download(&machine, out, 8);
            assert_eq!(words[..5], [u32::MAX, 0, 0.5f32.to_bits(), 255, 11]);
            assert_eq!(words[6..], [total, 0]);
        }
    }
}

#[test]
fn constants_cannot_be_written() {
    let variables = ".const .align 4 .b32 table[4] = {1, 2, 3, 4};";
    let store = "mov.u64 %p, table; cvta.const.u64 %p, %p; st.b32 [%p], %thread;";
    assert_eq!(
        kind(run(&writes_out(variables, store), 1, 1, Options::default())),
        FaultKind::WrongSpace
    );
    let outside = "ld.const.b32 %a, [table+16]; st.global.b32 [%at], %a;";
    // The parser may know better already.
    if parse(&writes_out(variables, outside)).is_ok() {
        assert_eq!(
            kind(run(&writes_out(variables, outside), 1, 1, Options::default())),
            FaultKind::OutOfBounds
        );
    }
}

#[test]
fn dynamic_shared_memory_lies_behind_what_is_declared() {
    let variables = ".extern .shared .align 16 .b8 rest[];";
    let body = "
.shared .align 4 .b8 head[20];
mov.u32 %a, rest;
mad.lo.u32 %b, %thread, 4, %a;
st.shared.b32 [%b], %thread;
bar.sync 0;
xor.b32 %c, %thread, 1;
mad.lo.u32 %b, %c, 4, %a;
ld.shared.b32 %b, [%b];
mov.u32 %c, %dynamic_smem_size;
add.u32 %b, %b, %c;
add.u32 %b, %b, %a;
st.global.b32 [%at], %b;";
    let text = writes_out(variables, body);
    let machine = Machine::new(0, Options::default());
    let out = zeros(&machine, 32);
    let argument = out.to_le_bytes();
    let arguments: [&[u8]; 1] = [&argument];
    let with = |dynamic_shared| Launch { dynamic_shared, ..shape(1, 32, &arguments) };
    launch(&machine, &text, &with(128)).expect("it fits");
    // 20 bytes are declared, so the array begins at 32.
    let expected: Vec<u32> = (0..32).map(|thread| (thread ^ 1) + 128 + 32).collect();
    assert_eq!(download(&machine, out, 32), expected);
    assert_eq!(kind(launch(&machine, &text, &with(124))), FaultKind::OutOfBounds);
}

#[test]
fn local_memory_is_each_threads_own() {
    let body = |store: &str, load: u32| {
        writes_out(
            "",
            &format!(
                ".local .align 8 .b8 own[16];
mov.u64 %p, own; cvta.local.u64 %q, %p;
{store}
ld.b32 %a, [%q+{load}];
ld.local.b32 %b, [own+12];
add.u32 %a, %a, %b;
st.global.b32 [%at], %a;"
            ),
        )
    };
    let stores = "st.local.b32 [%p+8], %thread; st.local.b32 [%p+12], 1000;";
    let words = run(&body(stores, 8), 64, 64, Options::default()).expect("it runs");
    assert_eq!(words, (1000..1064).collect::<Vec<_>>());
    for (text, expected) in [
        (body(stores, 4), FaultKind::Uninitialised),
        (body(stores, 16), FaultKind::OutOfBounds),
        (body(stores, 10), FaultKind::Misaligned),
    ] {
        assert_eq!(kind(run(&text, 64, 64, Options::default())), expected);
    }
}

#[test]
fn endless_kernels_are_stopped() {
    let spins = writes_out("", "L: bra L;");
    let stuck = run(&spins, 64, 64, Options::default().with_patience(10_000));
    assert_eq!(kind(stuck), FaultKind::Deadlock);
    // Stores may let others go on, so that only a limit ends this.
    let stores = writes_out("", "L: st.global.b32 [%at], %thread; bra L;");
    for options in [Options::default(), shuffled(5)] {
        let options = options.with_patience(10_000).with_limit(100_000);
        assert_eq!(kind(run(&stores, 64, 64, options)), FaultKind::Limit);
    }
    // Blocks that end one after the other count together.
    let machine = Machine::new(0, Options::default().unchecked().with_limit(1_000));
    let out = zeros(&machine, 32).to_le_bytes();
    assert_eq!(kind(launch(&machine, &indices(), &shape(1 << 20, 32, &[&out]))), FaultKind::Limit);
    // A kernel within the limit is not concerned.
    run(&indices(), 64, 64, Options::default().with_limit(16)).expect("2 warps x 7 instructions");
}

#[test]
fn a_fault_leaves_the_machine_as_it_is() {
    let machine = Machine::new(0, Options::default());
    let out = upload(&machine, &[9; 32]);
    let argument = out.to_le_bytes();
    let outside = launch(&machine, &indices(), &shape(1, 64, &[&argument]));
    assert_eq!(kind(outside), FaultKind::OutOfBounds);
    let text = module("", ".param .u64 out", "", "trap; ret;");
    assert_eq!(kind(launch(&machine, &text, &shape(1, 1, &[&argument]))), FaultKind::Trap);
    launch(&machine, &indices(), &shape(1, 32, &[&argument])).expect("it goes on");
    assert_eq!(download(&machine, out, 32), (0..32).collect::<Vec<_>>());
}
