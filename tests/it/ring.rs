//! Rings of ranks that share a device, against one call that has everything.

mod faults;
mod packed;
#[cfg(feature = "interpreter")]
mod peers;
mod scores;
mod workspace;

use warpwright::attention::{self, Layout, Mask, Options};
use warpwright::collective::{Communicator, Local};
use warpwright::operation::{self, Settings};
use warpwright::ring::{self, Algorithm, Direction, Pass, Scheme};
use warpwright::verify::attention::Sizes;
use warpwright::verify::ring::{Case, Prepared, cases, run_case};
use warpwright::verify::{Outcome, Size};
use warpwright::{Cpu, Device, Error, Named, bf16};

use crate::devices::devices;

/// Every schedule, pass and element type of a case is as close as the specification asks for, and
/// sends what its schedule says.
fn check(device: &Device, case: &Case) {
    let mut seen = 0;
    run_case(device, case, |report| {
        assert_eq!(report.complaint(), None, "{}", device.name());
        let is_compared = matches!(report.outcome, Outcome::Compared(_));
        assert!(is_compared, "{}: {:?}", case.describe(), report.outcome);
        seen += 1;
    });
    assert_eq!(seen, 6 * case.algorithms().count(), "{}", case.describe());
}

fn check_on_cpu(case: &Case) {
    check(&Device::Cpu(Cpu), case);
}

/// The same with another call.
fn with(case: &Case, change: impl FnOnce(&mut Case)) -> Case {
    let mut case = case.clone();
    change(&mut case);
    case
}

#[test]
fn every_device_gives_what_one_call_gives() {
    for device in devices() {
        // Every third where a kernel is interpreted, or a GPU imitated.
        let step = if matches!(device, Device::Cpu(_)) { 1 } else { 3 };
        cases(Size::Quick).iter().step_by(step).for_each(|case| check(device, case));
    }
}

#[test]
fn rings_of_any_size_give_what_one_rank_gives() {
    for ranks in [2, 3, 4, 5, 8, 16] {
        check_on_cpu(&Case::new(Scheme::Zigzag, Mask::causal(), 64, ranks));
    }
}

#[test]
fn rings_in_f64_are_exact() {
    let case = Case::new(Scheme::Zigzag, Mask::causal(), 64, 4);
    let prepared = Prepared::<f64>::new(&case).expect("tensors");
    for algorithm in Algorithm::ALL {
        let case = case.with_algorithm(algorithm);
        let ran = prepared.run(&Cpu, &case).expect("it runs");
        for pass in [Pass::Forward, Pass::Backward] {
            for output in prepared.compare(&ran, &case, pass).expect("outputs") {
                assert!(output.passed(), "{algorithm}: {output}");
            }
        }
    }
}

#[test]
fn every_scheme_meets_every_mask() {
    let masks = [
        Mask::default(),
        Mask::causal(),
        Mask::causal().with_window(Some(5), None),
        Mask::default().with_window(Some(0), Some(9)),
    ];
    for (scheme, mask) in Scheme::ALL.into_iter().flat_map(|s| masks.map(|mask| (s, mask))) {
        check_on_cpu(&Case::new(scheme, mask, 37, 3));
    }
}

/// Shards of nothing, of one token, of keys of another sequence.
#[test]
fn shards_may_be_unequal_and_empty() {
    for scheme in Scheme::ALL {
        for [queries, keys] in [[3, 3], [1, 1], [5, 40], [40, 5], [2, 0], [0, 7]] {
            let case = Case::new(scheme, Mask::causal(), queries, 4);
            check_on_cpu(&with(&case, |case| case.call.sizes.keys = keys));
        }
    }
}

#[test]
fn softcaps_slopes_and_sinks_go_round() {
    for scheme in Scheme::ALL {
        let case = Case::new(scheme, Mask::causal(), 29, 4);
        check_on_cpu(&with(&case, |case| case.call.softcap = Some(2.0)));
        check_on_cpu(&with(&case, |case| case.call.alibi = true));
        check_on_cpu(&with(&case, |case| case.call.sink = true));
        check_on_cpu(&with(&case, |case| {
            let call = &mut case.call;
            (call.sink, call.alibi) = (true, true);
            call.mask = Mask::causal().with_window(Some(2), None);
        }));
    }
}

/// Directions, and heads that do not share keys, or share one.
#[test]
fn directions_and_groups_do_not_matter() {
    let case = Case::new(Scheme::Zigzag, Mask::causal(), 40, 4);
    for direction in [Direction::Up, Direction::Down] {
        check_on_cpu(&Case { direction: Some(direction), ..case.clone() });
    }
    for kv_heads in [3, 1] {
        let heads = Sizes { heads: 3, kv_heads, ..Sizes::square([1, 3, 3, 24, 8]) };
        check_on_cpu(&with(&case, |case| case.call.sizes = heads));
    }
}

/// The bytes of every output.
fn bits(outputs: &Named<Cpu>) -> Vec<(String, Vec<u8>)> {
    let bytes = |(name, view): (&String, &warpwright::View<Cpu>)| {
        (name.clone(), view.to_bytes().expect("it is on the CPU"))
    };
    outputs.iter().map(bytes).collect()
}

/// One rank is a plain call, and the same call gives the same bits twice.
#[test]
fn equal_calls_give_equal_bits() {
    let alone = Case::new(Scheme::Contiguous, Mask::causal(), 50, 1);
    let prepared = Prepared::<f32>::new(&alone).expect("tensors");
    let ran = prepared.run(&Cpu, &alone).expect("it runs");
    assert_eq!(ran.sent, [[0, 0]]);
    let options = Options::default().with_mask(Mask::causal());
    let plain = attention::run_named(&Device::Cpu(Cpu), prepared.tensors(), &options);
    assert!(bits(&ran.outputs) == bits(&plain.expect("it runs").outputs), "one rank is a call");

    let case =
        with(&Case::new(Scheme::Zigzag, Mask::causal(), 50, 4), |case| case.call.sink = true);
    let prepared = Prepared::<f32>::new(&case).expect("tensors");
    for case in Algorithm::ALL.map(|algorithm| case.with_algorithm(algorithm)) {
        let run = || bits(&prepared.run(&Cpu, &case).expect("it runs").outputs);
        let first = run();
        for _ in 0..3 {
            assert!(run() == first, "{}", case.describe());
        }
    }
}

/// Whole tensors that one rank has are sent to the others, and collected, by any engine.
#[test]
fn tensors_are_spread_and_collected_over_messages() {
    let case = with(&Case::new(Scheme::Zigzag, Mask::causal(), 23, 3), |case| {
        (case.call.sink, case.call.layout) = (true, Layout::Bhsd);
    });
    let prepared = Prepared::<bf16>::new(&case).expect("tensors");
    let pairs = [("causal", "true"), ("layout", "BHSD"), ("ranks", "3"), ("schedule", "two-way")];
    let options = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let settings = Settings { options, ..Settings::default() };
    let call = (prepared.tensors(), &settings);
    let spread =
        Local::<Cpu>::run(3, |ranks| ring::run_over(&ranks, (ranks.rank() == 0).then_some(call)));
    let spread: Vec<_> = spread.into_iter().collect::<Result<_, _>>().expect("it runs");
    let [Some(spread), None, None] = spread.as_slice() else { panic!("only the first is given") };
    let ring = operation::find("ring").expect("there are rings");
    let whole = ring.run(&Device::Cpu(Cpu), prepared.tensors(), &settings).expect("it runs");
    assert!(bits(&spread.outputs) == bits(&whole.outputs), "other bits");
    assert_eq!(spread.metadata["bytes_sent"], whole.metadata["bytes_sent"]);
    assert_eq!(spread.variant, "two-way");

    // What the first finds wrong is an error of all.
    let broken = Settings { options: [("ranks".into(), "4".into())].into(), ..Settings::default() };
    let call = (prepared.tensors(), &broken);
    let ends = Local::<Cpu>::run(3, |ranks| {
        ring::run_over(&ranks, (ranks.rank() == 0).then_some(call)).map(drop)
    });
    assert!(matches!(ends[0], Err(Error::Option { .. })), "{ends:?}");
    for end in &ends[1..] {
        assert!(matches!(end, Err(Error::Communication { .. })), "{ends:?}");
    }
}

/// Errors do not grow with the number of ranks.
#[test]
fn errors_are_flat() {
    let errors = [2, 16].map(|ranks| {
        let case = Case::new(Scheme::Zigzag, Mask::causal(), 256, ranks);
        let case = case.with_algorithm(Algorithm::KvRing);
        let prepared = Prepared::<f32>::new(&case).expect("tensors");
        let ran = prepared.run(&Cpu, &case).expect("it runs");
        let all = prepared.compare(&ran, &case, Pass::Forward).expect("outputs");
        all.iter().find(|output| output.tensor == "out, norm").expect("out").error
    });
    assert!(errors[1] <= 1.5 * errors[0], "{errors:?} with 2 and with 16 ranks");
}
