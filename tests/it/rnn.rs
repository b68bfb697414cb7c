//! Recurrent cells on every device: what holds to the bit, and what must stay apart.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use warpwright::rnn::{Cell, Direction, Inputs, Options, Rnn, StepInputs, check_named, run_named};
use warpwright::verify::rnn::{Before, Case, Given, Lengths, run_case};
use warpwright::{Cpu, DType, Device, Named, Tensor, View, rnn};

use crate::devices::{devices, ieee_devices};

mod errors;
#[cfg(feature = "interpreter")]
mod interpreter;
#[cfg(feature = "interpreter")]
mod resident;
mod torch;

fn run(device: &Device, named: &Named<Cpu>, options: &Options) -> Named<Cpu> {
    let ran = run_named(device, named, options);
    ran.unwrap_or_else(|error| panic!("{}: {error}", device.name())).outputs
}

fn values(view: &View<Cpu>) -> Vec<f32> {
    view.typed::<f32>().expect("f32").to_vec().expect("not in use")
}

fn bits(view: &View<Cpu>) -> Vec<u8> {
    view.to_bytes().expect("not in use")
}

#[track_caller]
fn assert_same_bits(found: &View<Cpu>, expected: &View<Cpu>, what: &str) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let apart =
        values(found).iter().zip(&values(expected)).position(|(x, y)| x.to_bits() != y.to_bits());
    assert_eq!(apart, None, "{what}: the first element that differs");
}

fn part(view: &View<Cpu>, axis: usize, range: std::ops::Range<usize>) -> View<Cpu> {
    view.narrowed(axis, range).expect("within the axis").to_backend(&Cpu).expect("memory")
}

/// The options of a case with every variant of a device that fits, of either pass.
fn ways(device: &Device, case: &Case) -> Vec<Options> {
    fn variants<B: Rnn<f32>>(backend: &B, case: &Case) -> Vec<&'static str> {
        let (problem, options) = (case.problem(DType::F32).expect("it fits"), case.options());
        let forward = backend.variants_forward(&problem, &options).expect("it fits");
        let backward = backend.variants_backward(&problem, &options).expect("it fits");
        [forward, backward].concat()
    }
    let names = match device {
        Device::Cpu(backend) => variants(backend, case),
        #[cfg(feature = "wgpu")]
        Device::Wgpu(backend) => variants(backend, case),
        #[cfg(feature = "cuda")]
        Device::Cuda(backend) => variants(backend, case),
        other => panic!("{} is not known here", other.name()),
    };
    names.into_iter().map(|name| case.options().with_variant(name)).collect()
}

/// What has steps, as the second axis.
const SEQUENCES: [&str; 4] = ["wx", "dh", "dc", "dn"];

#[test]
fn repeated_runs_give_equal_bits() {
    for device in devices() {
        for cell in Cell::ALL {
            let case = Case { given: Given::Everything, ..Case::new(cell, [5, 11, 2, 37]) };
            let named = case.tensors::<f32>().expect("tensors");
            for options in ways(device, &case) {
                let [first, second] = [(); 2].map(|()| run(device, &named, &options));
                for (name, view) in &first {
                    let same = bits(view) == bits(&second[name]);
                    assert!(same, "{cell}: {name} on {}", device.name());
                }
            }
        }
    }
}

/// A case of the full grid, in which all states are small beside the terms that they are sums of.
#[test]
fn few_states_may_be_small_in_16_bits() {
    let case = Case {
        direction: Direction::Reverse,
        before: Before::Empty,
        given: Given::Last,
        bias: false,
        wide: true,
        one_buffer: true,
        seed: 44_862_423,
        ..Case::new(Cell::Slstm, [1, 1, 1, 3])
    };
    for device in devices() {
        let mut complaints = Vec::new();
        run_case(device, &case, |report| complaints.extend(report.complaint()));
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }
}

/// While another thread launches other calls.
#[test]
fn a_thousand_calls_beside_others_give_equal_bits() {
    let case = Case { given: Given::Everything, ..Case::new(Cell::Lstm, [2, 4, 1, 8]) };
    let beside = Case { given: Given::Everything, ..Case::new(Cell::Slstm, [1, 7, 2, 5]) };
    let [named, others] = [&case, &beside].map(|case| case.tensors::<f32>().expect("tensors"));
    for device in devices() {
        let first = run(device, &named, &case.options());
        let is_done = AtomicBool::new(false);
        let apart = thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    run(device, &others, &beside.options());
                }
            });
            let apart = (0..1000).find(|_| {
                let again = run(device, &named, &case.options());
                first.iter().any(|(name, view)| bits(view) != bits(&again[name]))
            });
            is_done.store(true, Ordering::Relaxed);
            apart
        });
        assert_eq!(apart, None, "the first call that differs on {}", device.name());
    }
}

/// A row that is cut, the states handed over, and their gradients the other way round.
#[test]
fn a_row_may_be_cut_anywhere() {
    const STEPS: usize = 12;
    for device in devices() {
        for (cell, cut) in Cell::ALL.into_iter().zip([1, 5, 11, 4, 7]) {
            let case = Case { given: Given::Everything, ..Case::new(cell, [3, STEPS, 2, 21]) };
            for options in ways(device, &case) {
                cut_in_two(device, &case, &options, cut);
            }
        }
    }
}

fn cut_in_two(device: &Device, case: &Case, options: &Options, cut: usize) {
    let (cell, steps) = (case.cell, case.sizes.steps);
    let named = case.tensors::<f32>().expect("tensors");
    let whole = run(device, &named, options);
    let of = |range: std::ops::Range<usize>| -> Named<Cpu> {
        let cut = |(name, view): (&String, &View<Cpu>)| match SEQUENCES.contains(&name.as_str()) {
            true => (name.clone(), part(view, 1, range.clone())),
            false => (name.clone(), view.clone()),
        };
        named.iter().map(cut).collect()
    };
    let (mut early, mut late) = (of(0..cut), of(cut..steps));
    let forward = run(device, &early, options);
    for (from, to) in [("last_h", "h0"), ("last_c", "c0"), ("last_n", "n0"), ("last_m", "m0")] {
        late.extend(forward.get(from).map(|state| (to.to_owned(), state.clone())));
    }
    let late = run(device, &late, options);
    for (from, to) in [("dh0", "dlast_h"), ("dc0", "dlast_c"), ("dn0", "dlast_n")] {
        early.extend(late.get(from).map(|state| (to.to_owned(), state.clone())));
    }
    let early = run(device, &early, options);
    let what = |name: &str| format!("{cell} cut at {cut}: {name} on {}", device.name());
    for name in ["h", "c", "n", "m", "dwx"] {
        let Some(view) = whole.get(name) else { continue };
        assert_same_bits(&early[name], &part(view, 1, 0..cut), &what(name));
        assert_same_bits(&late[name], &part(view, 1, cut..steps), &what(name));
    }
    for name in ["last_h", "last_c", "last_n", "last_m"] {
        if let Some(view) = whole.get(name) {
            assert_same_bits(&late[name], view, &what(name));
        }
    }
    for name in ["dh0", "dc0", "dn0"] {
        if let Some(view) = whole.get(name) {
            assert_same_bits(&early[name], view, &what(name));
        }
    }
}

/// One step at a time, in place.
#[test]
fn steps_are_the_steps_of_a_recurrence() {
    for device in devices() {
        for cell in Cell::ALL {
            match device {
                Device::Cpu(backend) => steps_are_a_recurrence(backend, cell),
                #[cfg(feature = "wgpu")]
                Device::Wgpu(backend) => steps_are_a_recurrence(backend, cell),
                #[cfg(feature = "cuda")]
                Device::Cuda(backend) => steps_are_a_recurrence(backend, cell),
                other => panic!("{} is not known here", other.name()),
            }
        }
    }
}

fn steps_are_a_recurrence<B: Rnn<f32>>(backend: &B, cell: Cell) {
    const SIZES: [usize; 4] = [3, 6, 2, 21];
    let case = Case { before: Before::Nothing, ..Case::new(cell, SIZES) };
    let mut named = case.tensors::<f32>().expect("tensors");
    named.remove("dh");
    let there: Named<B> = named
        .iter()
        .map(|(name, view)| (name.clone(), view.to_backend(backend).expect("copied")))
        .collect();
    let inputs = Inputs::<B, f32>::from_named(&there).expect("they fit");
    let problem = rnn::Problem::check(&inputs, &Options::new(cell)).expect("it fits");
    for variant in backend.variants_forward(&problem, &Options::new(cell)).expect("it fits") {
        let options = Options::new(cell).with_variant(variant);
        let whole = rnn::forward(&inputs, &options).expect("it runs");
        let h = whole.h.to_backend(&Cpu).expect("read");
        let mut state = rnn::State::<B, f32>::zeros(backend, &problem).expect("memory");
        let what = format!("{cell} on {}", backend.name());
        for t in 0..SIZES[1] {
            let wx = values(&part(&named["wx"], 1, t..t + 1));
            let shape = [SIZES[0], cell.input_gates().len(), SIZES[2], SIZES[3]];
            let wx = Tensor::from_slice(backend, &wx, &shape).expect("fits");
            let step = StepInputs { wx: &wx, r: inputs.r, b: inputs.b };
            let stepped = rnn::step(&step, &options, &mut state).expect("it runs");
            let expected = values(&part(&h, 1, t..t + 1));
            assert_eq!(stepped.to_vec().expect("read"), expected, "{what}, step {t}");
        }
        let last = [state.h.to_vec(), whole.last.h.to_vec()].map(|h| h.expect("read"));
        assert_eq!(last[0], last[1], "{what}");
    }
}

/// Steps turned round, run in reverse.
#[test]
fn reverse_is_forward_of_what_is_turned_round() {
    for device in devices() {
        for cell in Cell::ALL {
            let case = Case { given: Given::Everything, ..Case::new(cell, [2, 9, 2, 6]) };
            let named = case.tensors::<f32>().expect("tensors");
            let turn = |view: &View<Cpu>| {
                let (shape, values) = (view.shape().to_vec(), values(view));
                let of_step: usize = shape[2..].iter().product();
                let rows = values.chunks_exact(shape[1] * of_step);
                let turned: Vec<f32> = rows
                    .flat_map(|row| row.chunks_exact(of_step).rev().flatten().copied())
                    .collect();
                Tensor::from_slice(&Cpu, &turned, &shape).expect("fits").into_view()
            };
            let turned: Named<Cpu> = named
                .iter()
                .map(|(name, view)| match SEQUENCES.contains(&name.as_str()) {
                    true => (name.clone(), turn(view)),
                    false => (name.clone(), view.clone()),
                })
                .collect();
            for options in ways(device, &case) {
                let forward = run(device, &named, &options);
                let reverse = run(device, &turned, &options.with_direction(Direction::Reverse));
                for (name, view) in &forward {
                    let what = format!("{cell}: {name} on {}", device.name());
                    match name.as_str() {
                        "h" | "c" | "n" | "m" | "dwx" => {
                            assert_same_bits(&turn(&reverse[name]), view, &what);
                        }
                        "dR" | "db" => {}
                        _ => assert_same_bits(&reverse[name], view, &what),
                    }
                }
            }
        }
    }
}

/// A NaN in one element of the input stays in its head of its row, from its step on.
#[test]
fn a_nan_stays_in_its_head_of_its_row() {
    const SIZES: [usize; 4] = [4, 7, 3, 10];
    const AT: [usize; 3] = [2, 3, 1];
    for device in ieee_devices() {
        for cell in Cell::ALL {
            let case = Case { given: Given::Everything, ..Case::new(cell, SIZES) };
            let mut named = case.tensors::<f32>().expect("tensors");
            let clean = named.clone();
            let mut wx = values(&named["wx"]);
            let gates = cell.input_gates().len();
            let [row, t, head] = AT;
            wx[(((row * SIZES[1] + t) * gates) * SIZES[2] + head) * SIZES[3] + 4] = f32::NAN;
            let shape = named["wx"].shape().to_vec();
            named.insert(
                "wx".to_owned(),
                Tensor::from_slice(&Cpu, &wx, &shape).expect("fits").into_view(),
            );
            for options in ways(device, &case) {
                let clean = run(device, &clean, &options);
                let hurt = run(device, &named, &options);
                let what = format!("{cell} on {}", device.name());
                // Of a tensor (rows, .., heads, D), which elements belong to the head of the row.
                for (name, view) in &clean {
                    let (x, y) = (values(view), values(&hurt[name]));
                    let lines = x.len() / SIZES[0];
                    for (i, (x, y)) in x.iter().zip(&y).enumerate() {
                        let here = i / lines == row && i / SIZES[3] % SIZES[2] == head;
                        let shared = matches!(name.as_str(), "dR" | "db");
                        assert!(
                            here || shared || x.to_bits() == y.to_bits(),
                            "{what}: {name}[{i}]"
                        );
                    }
                }
                let h = values(&hurt["h"]);
                let line = |t: usize| {
                    &h[((row * SIZES[1] + t) * SIZES[2] + head) * SIZES[3]..][..SIZES[3]]
                };
                assert!(line(t)[4].is_nan(), "{what}");
                assert!(line(t + 1).iter().all(|h| h.is_nan()), "{what}: a step later");
                assert!(line(t - 1).iter().all(|h| h.is_finite()), "{what}: a step before");
            }
        }
    }
}

/// Gates far out are exactly 0 or 1, and nothing overflows.
#[test]
fn large_inputs_saturate() {
    for device in devices() {
        for cell in [Cell::ELMAN, Cell::Lstm, Cell::Gru, Cell::Slstm] {
            let case = Case { before: Before::Nothing, ..Case::new(cell, [2, 6, 1, 5]) };
            let mut named = case.tensors::<f32>().expect("tensors");
            let wx: Vec<f32> = values(&named["wx"])
                .iter()
                .enumerate()
                .map(|(i, x)| if i % 3 == 0 { 1e4f32.copysign(*x) } else { *x })
                .collect();
            let shape = named["wx"].shape().to_vec();
            named.insert(
                "wx".to_owned(),
                Tensor::from_slice(&Cpu, &wx, &shape).expect("fits").into_view(),
            );
            for (name, view) in &run(device, &named, &case.options()) {
                let finite = values(view).iter().all(|x| x.is_finite());
                assert!(finite, "{cell}: {name} on {}", device.name());
            }
        }
    }
}

/// (c e^-s, n e^-s, m + s) is the same state of sLSTM for all s.
#[test]
fn a_shift_of_the_stabiliser_changes_nothing() {
    for device in devices() {
        let case = Case::new(Cell::Slstm, [2, 9, 2, 6]);
        let mut named = case.tensors::<f32>().expect("tensors");
        named.remove("dh");
        // No floor binds: what is shifted down stays above none.
        let options = Options::new(Cell::Slstm).with_n_floor(0.0);
        let plain = run(device, &named, &options);
        let shift = 2f32;
        for (name, factor, more) in
            [("c0", (-shift).exp(), 0.0), ("n0", (-shift).exp(), 0.0), ("m0", 1.0, shift)]
        {
            let view = &named[name];
            let (shape, values) = (view.shape().to_vec(), values(view));
            let shifted: Vec<f32> = values.iter().map(|x| x * factor + more).collect();
            let shifted = Tensor::from_slice(&Cpu, &shifted, &shape).expect("fits").into_view();
            named.insert(name.to_owned(), shifted);
        }
        let shifted = run(device, &named, &options);
        for (x, y) in values(&shifted["h"]).iter().zip(&values(&plain["h"])) {
            assert!((x - y).abs() <= 2e-6, "{x} instead of {y} on {}", device.name());
        }
    }
}

/// A forget gate next to 1 over very many steps: n and m stay finite, and h stays near.
#[test]
fn a_long_memory_of_slstm_stays_finite() {
    const STEPS: usize = 100_000;
    let z = |t: usize| ((t * 7919 % 1009) as f32 / 504.5 - 1.0) * 2.0;
    let wx: Vec<f32> = (0..STEPS).flat_map(|t| [0.0, 20.0, z(t), 30.0]).collect();
    let wx = Tensor::from_slice(&Cpu, &wx, &[1, STEPS, 4, 1, 1]).expect("fits");
    let r = Tensor::from_slice(&Cpu, &[0f32; 4], &[4, 1, 1, 1]).expect("fits");
    let (inputs, options) = (Inputs::new(&wx, &r), Options::new(Cell::Slstm));
    let exact = rnn::reference::forward(&inputs, &options).expect("it runs");
    let ran = rnn::forward(&inputs, &options).expect("it runs");
    let found = ran.h.to_vec().expect("not in use");
    let largest = exact.states[0].iter().fold(0.0, |max: f64, h| max.max(h.abs()));
    for (t, (x, y)) in found.iter().zip(&exact.states[0]).enumerate() {
        assert!((f64::from(*x) - y).abs() <= 1e-5 * largest, "step {t}: {x} instead of {y}");
    }
    let n = ran.last.n.expect("sLSTM has it").to_vec().expect("not in use");
    assert!(n[0] > 0.99 * STEPS as f32 && n[0].is_finite(), "{}", n[0]);
}

/// Lengths beyond 0 and T: told by the CPU, the nearest on other devices.
#[test]
fn wrong_lengths_are_told_or_bounded() {
    let case = Case { lengths: Lengths::Drawn, ..Case::new(Cell::Lstm, [3, 5, 1, 4]) };
    let mut named = case.tensors::<f32>().expect("tensors");
    let lengths = |values: Vec<i64>| Tensor::from_vec(values, &[3]).expect("fits").into_view();
    named.insert("lengths".to_owned(), lengths(vec![-3, 2, 9]));
    let message = check_named(&named, &case.options()).expect_err("wrong").to_string();
    assert_eq!(message, "rnn: tensor `lengths`: expected 0 to T = 5, found -3 in row 0");
    for device in devices().iter().filter(|device| !matches!(device, Device::Cpu(_))) {
        let found = run(device, &named, &case.options());
        let mut nearest = named.clone();
        nearest.insert("lengths".to_owned(), lengths(vec![0, 2, 5]));
        let nearest = run(device, &nearest, &case.options());
        assert_same_bits(&found["h"], &nearest["h"], &device.name());
    }
}
