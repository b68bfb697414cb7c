//! Counters and estimates of a small kernel whose work is known by hand.

use crate::ast::Instruction;
use crate::interpreter::counters::*;
use crate::interpreter::row::{Mask, Row};

const SOURCE: &str = ".version 8.0
.target sm_90a
.address_size 64
.visible .entry twice(.param .u64 x) {
.reg .b64 %at; .reg .f32 %value, %power; .shared .f32 tile[1024];
ld.global.f32 %value, [%at];
ex2.approx.f32 %power, %value;
fma.rn.f32 %value, %power, %power, %value;
st.shared.f32 [tile], %value;
red.shared.add.f32 [tile], %value;
st.global.f32 [%at], %value;
ret;
}";

const LAUNCH: Launch = Launch {
    grid: [264, 1, 1],
    block: [256, 1, 1],
    cluster: 1,
    static_shared: 4096,
    dynamic_shared: 0,
};

/// `each` runs of every warp over the body of `twice`.
fn counted(launch: Launch, each: u64) -> Counters {
    let module = crate::parse(SOURCE).unwrap_or_else(|why| panic!("{why}"));
    let entry = module.entry("twice").unwrap();
    let instructions: Vec<&Instruction> = entry.instructions();
    let mut tallies = vec![Tally::default(); instructions.len()];
    let step = |words: u64| -> Row { std::array::from_fn(|lane| 4 * words * lane as u64) };
    for _ in 0..each * launch.blocks() * launch.threads() / 32 {
        for tally in &mut tallies {
            tally.issue(Mask::MAX, Mask::MAX);
        }
        tallies[0].load(&step(2), Mask::MAX, 4);
        tallies[3].shared(&step(2), Mask::MAX, 4);
        tallies[4].shared_atomic(&[0; 32], Mask::MAX, 4);
        tallies[5].store(&step(1), Mask::MAX, 4);
    }
    let mut counters = Counters::new("twice", &instructions, launch);
    counters.absorb(&tallies, 0);
    counters
}

#[test]
fn totals_lines_and_classes() {
    let counters = counted(Launch { grid: [1; 3], ..LAUNCH }, 1);
    let total = counters.total();
    assert_eq!((total.warps, total.threads), (7 * 8, 7 * 256));
    assert_eq!((total.loads.bytes(), total.loads.useful_bytes), (2048, 1024));
    assert_eq!((total.stores.bytes(), total.stores.useful_bytes), (1024, 1024));
    // The store meets each bank twice, the atomic one address 32 times.
    assert_eq!((total.wavefronts, total.bank_conflicts()), (8 * 34, 8 * 32));
    assert_eq!((total.collisions, total.repeats), (8 * 31, 8 * 31));
    assert_eq!(counters.of(Class::Special).warps, 8);
    assert_eq!(counters.of(Class::Half), Tally::default());
    assert_eq!(counters.within(6..=8).warps, 3 * 8);
    assert_eq!(counters.lines(9..=9).next().unwrap().text, "st.shared.f32");
    assert_eq!(counters.by_class().len(), 6);
    // Every warp: 1 load, 4 for ex2, 1 fma, 2 stores, 1 ret, and 32 rounds of 5.
    assert_eq!(counters.issue_slots(), 8 * (1 + 4 + 1 + 2 + 1 + 32 * 5));
}

#[test]
fn workers_and_launches_add_up() {
    let one = counted(Launch { grid: [3, 1, 1], ..LAUNCH }, 1);
    let mut sum = one.clone();
    assert!(sum.add(&counted(Launch { grid: [5, 1, 1], ..LAUNCH }, 1)));
    assert_eq!(sum.launches.len(), 2);
    assert_eq!(sum.total(), counted(Launch { grid: [8, 1, 1], ..LAUNCH }, 1).total());

    let mut worker = one.clone();
    worker.absorb(&one.all().iter().map(|line| line.tally).collect::<Vec<_>>(), 7);
    assert_eq!((worker.launches.len(), worker.barriers), (1, 7));
    assert_eq!(worker.total().warps, 2 * one.total().warps);

    let mut other = one;
    other.kernel = "thrice".into();
    assert!(!sum.add(&other), "another kernel");
}

#[test]
fn an_estimate_by_hand() {
    let counters = counted(LAUNCH, 1);
    let gpu = Gpu::named("h100").unwrap();
    let estimate = Estimate::of(&counters, Some(32), gpu).unwrap();
    // 264 blocks on 132 multiprocessors: two each, 16 warps.
    assert!((estimate.balance - 1.0).abs() < 1e-12);
    assert_eq!(estimate.occupancy.blocks, 8);
    assert!((estimate.waves - 0.25).abs() < 1e-12);
    let near = |name: &str, seconds: f64, least: f64| {
        let unit = estimate.unit(name).unwrap_or_else(|| panic!("no {name}"));
        assert!((unit.seconds / seconds - 1.0).abs() < 1e-9, "{name}: {unit:?}");
        assert!((unit.least / least - 1.0).abs() < 1e-9, "{name}: {unit:?}");
    };
    let clocks = |clocks: f64| clocks / 1.755e9;
    near("issue", clocks(16.0 * 169.0 / 4.0), clocks(16.0 * 14.0 / 4.0));
    near("special", clocks(16.0 * 2.0), clocks(16.0 * 2.0));
    near("f32", clocks(16.0 * 0.25), clocks(16.0 * 0.25));
    near("shared", clocks(16.0 * 34.0), clocks(16.0 * 2.0));
    let warps = 264.0 * 8.0;
    near("memory", warps * 384.0 / 3.35e12, warps * 256.0 / 3.35e12);
    assert_eq!(estimate.units.len(), 5);
    assert_eq!(estimate.bound().unwrap().name, "issue");
    assert!((estimate.seconds() - clocks(676.0)).abs() < 1e-15);
}

#[test]
fn an_uneven_grid_waits_for_the_busiest() {
    let gpu = Gpu::named("a100").unwrap();
    let even = Estimate::of(&counted(Launch { grid: [108, 1, 1], ..LAUNCH }, 1), None, gpu);
    let uneven = Estimate::of(&counted(Launch { grid: [109, 1, 1], ..LAUNCH }, 1), None, gpu);
    let (even, uneven) = (even.unwrap(), uneven.unwrap());
    let issue = |estimate: &Estimate| estimate.unit("issue").unwrap().seconds;
    assert!((issue(&uneven) / issue(&even) - 2.0).abs() < 1e-9, "one block more, twice the time");
    let memory = |estimate: &Estimate| estimate.unit("memory").unwrap().seconds;
    assert!((memory(&uneven) / memory(&even) - 109.0 / 108.0).abs() < 1e-9);
    assert!((uneven.balance - 109.0 / 216.0).abs() < 1e-12);
}

#[test]
fn what_a_machine_cannot_run_has_no_estimate() {
    let gpu = Gpu::named("rtx 4090").unwrap();
    let large = Launch { dynamic_shared: 128 << 10, grid: [1; 3], ..LAUNCH };
    let refused = Estimate::of(&counted(large, 1), None, gpu).unwrap_err();
    assert_eq!(refused, NoEstimate::TooLarge { gpu: "RTX 4090", limit: Limit::Shared });
    let none = counted(Launch { grid: [0, 1, 1], ..LAUNCH }, 1);
    assert_eq!(Estimate::of(&none, None, gpu), Err(NoEstimate::Nothing));

    let mut remote = counted(Launch { grid: [1; 3], ..LAUNCH }, 1);
    let tally = Tally { warps: 1, cluster_bytes: 64, ..Tally::default() };
    remote.absorb(&[tally], 0);
    let lacks = NoEstimate::Lacks { gpu: "RTX 4090", class: Class::Cluster };
    assert_eq!(Estimate::of(&remote, None, gpu), Err(lacks));
    assert!(Estimate::of(&remote, None, Gpu::named("h200").unwrap()).is_ok());
}

#[test]
fn tables_align() {
    let counters = counted(Launch { grid: [2, 1, 1], ..LAUNCH }, 1);
    assert_eq!(counters.to_string(), COUNTED);
    let estimate = Estimate::of(&counters, Some(32), Gpu::named("h100").unwrap()).unwrap();
    assert_eq!(estimate.to_string(), ESTIMATED);
}

const COUNTED: &str = "\
twice: grid 2x1x1, block 256x1x1, 4096 bytes shared
0 barriers, 0 divergent branches, 4096 of 6144 global bytes useful

line  instruction         class          warps  lanes  slots  sectors  wavefronts  conflicts  collisions
   6  ld.global.f32       global            16   32.0     16      128
   7  ex2.approx.f32      special           16   32.0     64
   8  fma.rn.f32          f32               16   32.0     16
   9  st.shared.f32       shared            16   32.0     16                   32         16
  10  red.shared.add.f32  shared atomic     16   32.0   2560                  512        496         496
  11  st.global.f32       global            16   32.0     16       64
  12  ret                 control           16   32.0     16
      all                 f32               16   32.0     16
      all                 special           16   32.0     64
      all                 global            32   32.0     32      192
      all                 shared            16   32.0     16                   32         16
      all                 shared atomic     16   32.0   2560                  512        496         496
      all                 control           16   32.0     16
      all                                  112   32.0   2704      192         544        512         496
";

const ESTIMATED: &str = "\
H100: at least 0.19 us, bound by issue
a multiprocessor holds 64 warps (limit: warps); 0.00 waves, 2 % balanced

unit       us  of the bound  least us
issue    0.19         100 %      0.02
shared   0.15          80 %      0.01
special  0.01           5 %      0.01
memory   0.00           1 %      0.00
f32      0.00           1 %      0.00
";
