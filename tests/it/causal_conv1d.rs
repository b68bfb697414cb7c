//! What holds for every convolution: sections 5, 9 and 11 of the specification.

use std::ops::Range;

use proptest::prelude::*;
use warpwright::causal_conv1d::{Activation, Layout, Options, run_named, update};
use warpwright::verify::Random;
use warpwright::verify::causal_conv1d::{Case, ResetForm, Sizes, run_case};
use warpwright::{Cpu, DType, Device, Named, Tensor, View};

use crate::devices::{devices, ieee_devices, poison};

mod errors;
mod gradients;
#[cfg(feature = "interpreter")]
mod interpreter;
#[cfg(feature = "wgpu")]
mod wgpu;

/// A view's elements as f64; f32 and f64 alike.
fn numbers(view: &View<Cpu>) -> Vec<f64> {
    match view.dtype() {
        DType::F32 => floats(view).into_iter().map(f64::from).collect(),
        _ => view.typed::<f64>().expect("f64").to_vec().expect("not in use"),
    }
}

fn floats(view: &View<Cpu>) -> Vec<f32> {
    view.typed::<f32>().expect("f32").to_vec().expect("not in use")
}

fn tensor(values: Vec<f32>, shape: &[usize]) -> View<Cpu> {
    Tensor::from_vec(values, shape).expect("of this shape").into_view()
}

fn indices(values: Vec<i32>, shape: &[usize]) -> View<Cpu> {
    Tensor::from_vec(values, shape).expect("of this shape").into_view()
}

/// Every output; gradients where those of outputs are among the tensors.
fn run(device: &Device, named: &Named<Cpu>, options: &Options) -> Named<Cpu> {
    run_named(device, named, options).expect("the convolution runs").outputs
}

/// The largest difference over the largest value.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(f64::MIN_POSITIVE, |max, x| max.max(x.abs()));
    let difference = found.iter().zip(expected).map(|(x, y)| (x - y).abs());
    difference.fold(0.0, f64::max) / scale
}

/// A tolerance that covers two roundings of each path: twice the specification's for one.
const PATHS: f64 = 2e-5;

fn plain(sizes: [usize; 4], seed: u64) -> Case {
    let [batch, channels, steps, width] = sizes;
    Case { seed, ..Case::new(batch, channels, steps, width) }
}

/// Parts of time of every tensor that has it, as the last axis.
fn steps_of(named: &Named<Cpu>, steps: Range<usize>) -> Named<Cpu> {
    let cut = |(name, view): (&String, &View<Cpu>)| {
        let part = match name.as_str() {
            "x" | "dout" => view.narrowed(2, steps.clone()).expect("within the axis"),
            _ => view.clone(),
        };
        (name.clone(), part)
    };
    named.iter().map(cut).collect()
}

/// The same tensors without some.
fn without(named: &Named<Cpu>, names: &[&str]) -> Named<Cpu> {
    let kept = named.iter().filter(|(name, _)| !names.contains(&name.as_str()));
    kept.map(|(name, view)| (name.clone(), view.clone())).collect()
}

/// Activations with channels and time exchanged, in memory of their own.
fn turned(named: &Named<Cpu>) -> Named<Cpu> {
    let turn = |(name, view): (&String, &View<Cpu>)| {
        let view = match name.as_str() {
            "x" | "dout" | "out" | "dx" => view.transposed(1, 2).expect("axes"),
            _ => view.clone(),
        };
        (name.clone(), view.to_backend(&Cpu).expect("memory"))
    };
    named.iter().map(turn).collect()
}

/// Whether an output is one that has the same bits whatever the layout and the cut of rows.
fn is_pointwise(name: &str) -> bool {
    !matches!(name, "dweight" | "dbias")
}

#[test]
fn repeated_runs_give_equal_bits() {
    for device in devices() {
        let case = plain([2, 33, 700, 4], 7);
        let named = case.tensors::<f32>().expect("tensors");
        let first = run(device, &named, &case.options());
        let second = run(device, &named, &case.options());
        for (name, view) in &first {
            assert_eq!(floats(view), floats(&second[name]), "{name} on {}", device.name());
        }
    }
}

#[test]
fn sums_do_not_depend_on_the_number_of_threads() {
    let case = plain([2, 70, 300, 4], 7);
    let named = case.tensors::<f32>().expect("tensors");
    let first = run(&Device::Cpu(Cpu), &named, &case.options());
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let again = pool.install(|| run(&Device::Cpu(Cpu), &named, &case.options()));
        for (name, view) in &first {
            assert_eq!(floats(view), floats(&again[name]), "{name} on {threads} threads");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// A row cut anywhere, the state handed on, gives the bits of the whole row.
    #[test]
    fn a_split_row_is_the_whole_row(
        seed in 0u64..1000, steps in 2usize..400, cut in 0.0..1.0f64, width in 1usize..9,
    ) {
        let cut = (steps as f64 * cut) as usize;
        let case = plain([2, 6, steps, width], seed);
        let named = case.tensors::<f32>().expect("tensors");
        let named = without(&named, &["dout", "dfinal_state"]);
        for device in devices() {
            let whole = run(device, &named, &case.options());
            let first = run(device, &steps_of(&named, 0..cut), &case.options());
            let mut rest = steps_of(&named, cut..steps);
            rest.insert("s0".to_owned(), first["final_state"].clone());
            let second = run(device, &rest, &case.options());
            for (found, range) in [(&first, 0..cut), (&second, cut..steps)] {
                let expected = whole["out"].narrowed(2, range).expect("steps");
                prop_assert_eq!(floats(&found["out"]), floats(&expected), "{}", device.name());
            }
            prop_assert_eq!(floats(&second["final_state"]), floats(&whole["final_state"]));
        }
    }

    /// Both layouts mean the same, bit for bit but for the sums over time.
    #[test]
    fn layouts_agree(
        seed in 0u64..1000, steps in 1usize..300, channels in 1usize..40, width in 1usize..9,
    ) {
        for device in devices() {
            let case = plain([2, channels, steps, width], seed);
            let named = case.tensors::<f32>().expect("tensors");
            let one = run(device, &named, &case.options());
            let options = case.options().with_layout(Layout::Bld);
            let other = turned(&run(device, &turned(&named), &options));
            for (name, view) in &one {
                let (x, y) = (numbers(view), numbers(&other[name]));
                if is_pointwise(name) {
                    prop_assert_eq!(x, y, "{} on {}", name, device.name());
                } else {
                    prop_assert!(distance(&y, &x) < PATHS, "{name} on {}", device.name());
                }
            }
        }
    }

    /// Steps taken one by one, or a few at a time, are the whole row: the state is the same, and
    /// so is the output.
    #[test]
    fn steps_are_the_convolution(
        seed in 0u64..1000, count in 1usize..6, width in 1usize..9, circular: bool, room in 0usize..3,
    ) {
        let (batch, channels, steps) = (2, 7, 20);
        let case = plain([batch, channels, steps, width], seed);
        let named = case.tensors::<f32>().expect("tensors");
        let named = without(&named, &["dout", "dfinal_state"]);
        // The row ends where the steps of the updates do.
        let named = steps_of(&named, 0..steps / count * count);
        for device in devices() {
            let whole = run(device, &named, &case.options());
            let entries = width - 1 + room;
            let mut state = with_room(&named["s0"], room);
            for first in (0..steps / count * count).step_by(count) {
                let mut step = without(&named, &["s0"]);
                let x = named["x"].narrowed(2, first..first + count).expect("steps");
                step.insert("x".to_owned(), x);
                step.insert("conv_state".to_owned(), state);
                if circular {
                    // The entries of a full state are in order where it stands at 0.
                    let position = vec![first as i32 + 4 * entries as i32; batch];
                    step.insert("cache_seqlens".to_owned(), indices(position, &[batch]));
                }
                let moved = update::run_named(device, &step, &case.options()).expect("it runs");
                let expected = whole["out"].narrowed(2, first..first + count).expect("steps");
                let found = &moved.outputs["out"];
                prop_assert!(
                    distance(&numbers(found), &numbers(&expected)) < PATHS, "{}", device.name()
                );
                state = moved.outputs["conv_state"].clone();
            }
            let position = steps / count * count % entries.max(1);
            let history = (0..width - 1).map(|k| match circular {
                true => (position + entries + k - (width - 1)) % entries,
                false => room + k,
            });
            let history: Vec<usize> = history.collect();
            let entry = |line: usize| {
                let numbers = floats(&state);
                history.iter().map(|k| numbers[line * entries + k]).collect::<Vec<f32>>()
            };
            let found: Vec<f32> = (0..batch * channels).flat_map(entry).collect();
            prop_assert_eq!(found, floats(&whole["final_state"]), "{}", device.name());
        }
    }

    /// Documents told apart by `cu_seqlens`, by `seq_idx`, or each in a call of its own have the
    /// same bits.
    #[test]
    fn documents_share_a_row_or_not(seed in 0u64..1000, bld: bool, width in 1usize..9) {
        let mut random = Random::new(seed);
        let steps = 90;
        let mut bounds: Vec<usize> = (0..4).map(|_| random.below(steps + 1)).collect();
        bounds.extend([0, steps]);
        bounds.sort_unstable();
        let case = Case { s0: false, dfinal_state: false, ..plain([1, 9, steps, width], seed) };
        let named = case.tensors::<f32>().expect("tensors");
        let options = case.options().with_layout(if bld { Layout::Bld } else { Layout::Bdl });
        let turn = |named: &Named<Cpu>| if bld { turned(named) } else { named.clone() };
        let together = |name: &str, form: View<Cpu>| {
            let mut named = named.clone();
            named.insert(name.to_owned(), form);
            named
        };
        let cu_seqlens = bounds.iter().map(|&bound| bound as i32).collect();
        let number = |t: usize| bounds.iter().filter(|&&bound| bound <= t).count() as i32;
        let forms = [
            together("cu_seqlens", indices(cu_seqlens, &[bounds.len()])),
            together("seq_idx", indices((0..steps).map(number).collect(), &[1, steps])),
        ];
        for device in devices() {
            let forms = forms.each_ref().map(|form| turn(&run(device, &turn(form), &options)));
            for pair in bounds.windows(2).filter(|pair| pair[0] < pair[1]) {
                let alone = turn(&steps_of(&named, pair[0]..pair[1]));
                let alone = turn(&run(device, &alone, &options));
                for form in &forms {
                    for name in ["out", "dx"] {
                        let part = form[name].narrowed(2, pair[0]..pair[1]).expect("steps");
                        prop_assert_eq!(
                            floats(&part), floats(&alone[name]), "{} on {}", name, device.name()
                        );
                    }
                }
            }
        }
    }

    /// Random forms at random sizes, on every device, against the reference.
    #[test]
    fn random_cases_pass(seed in 0u64..1_000_000, steps in 0usize..150, width in 1usize..9) {
        let mut random = Random::new(seed);
        let channels = 1 + random.below(40);
        let batch = 1 + random.below(3);
        let case = Case::random(Sizes { batch, channels, steps, width }, &mut random);
        for device in devices() {
            let mut complaints = Vec::new();
            run_case(device, &case, |report| complaints.extend(report.complaint()));
            prop_assert!(complaints.is_empty(), "{}: {complaints:?}", device.name());
        }
    }
}

/// The same states behind some entries more.
fn with_room(state: &View<Cpu>, room: usize) -> View<Cpu> {
    let [batch, channels, entries] = **state.shape() else { panic!("three axes") };
    let numbers = floats(state);
    let line = |line: usize| {
        let own = &numbers[line * entries..][..entries];
        std::iter::repeat_n(9.0, room).chain(own.iter().copied()).collect::<Vec<f32>>()
    };
    tensor((0..batch * channels).flat_map(line).collect(), &[batch, channels, entries + room])
}

/// A NaN in one channel reaches the W steps whose taps meet it, and no other; all else is
/// bit-identical to the clean run.
#[test]
fn a_nan_stays_where_it_belongs() {
    let (channels, steps, width, row, channel, t) = (20, 300, 4, 1, 13, 133);
    for device in ieee_devices() {
        for layout in [Layout::Bdl, Layout::Bld] {
            let case = plain([2, channels, steps, width], 5);
            let options = case.options().with_layout(layout);
            let named = case.tensors::<f32>().expect("tensors");
            let turn = |named: &Named<Cpu>| {
                if layout == Layout::Bld { turned(named) } else { named.clone() }
            };
            let clean = turn(&run(device, &turn(&named), &options));
            let mut dirty = named.clone();
            let mut x = floats(&named["x"]);
            x[(row * channels + channel) * steps + t] = f32::NAN;
            dirty.insert("x".to_owned(), tensor(x, named["x"].shape()));
            let found = turn(&run(device, &turn(&dirty), &options));
            // e is hit at t .. t + W - 1, dx of the steps whose sum meets one of those.
            for (name, hit) in [("out", t..t + width), ("dx", t + 1 - width..t + width)] {
                let pairs = floats(&found[name]).into_iter().zip(floats(&clean[name]));
                for (i, (x, y)) in pairs.enumerate() {
                    let line = i / steps;
                    let expected = line == row * channels + channel && hit.contains(&(i % steps));
                    assert_eq!(x.is_nan(), expected, "{name}: line {line} t {}", i % steps);
                    assert!(expected || x.to_bits() == y.to_bits(), "{name}: {line} {}", i % steps);
                }
            }
            for name in ["dweight", "dbias"] {
                let per_channel = found[name].elements() / channels;
                for (i, x) in floats(&found[name]).into_iter().enumerate() {
                    assert_eq!(x.is_nan(), i / per_channel == channel, "{name} {i}");
                }
            }
        }
    }
}

/// What one document holds reaches no other one, forward or backward, not even as a NaN.
#[test]
fn nothing_leaks_between_documents() {
    let (steps, cut) = (90, 40);
    for device in devices() {
        for resets in [ResetForm::SeqIdx, ResetForm::CuSeqlens] {
            let case = Case { s0: false, dfinal_state: false, ..plain([1, 9, steps, 4], 3) };
            let named = case.tensors::<f32>().expect("tensors");
            let poison = poison(device);
            for (dirty, alone) in [(0..cut, cut..steps), (cut..steps, 0..cut)] {
                let mut together = named.clone();
                for name in ["x", "dout"] {
                    let mut values = floats(&named[name]);
                    for line in values.chunks_exact_mut(steps) {
                        line[dirty.clone()].fill(poison);
                    }
                    together.insert(name.to_owned(), tensor(values, named[name].shape()));
                }
                let (name, form) = match resets {
                    ResetForm::SeqIdx => {
                        let numbers = (0..steps).map(|t| i32::from(t >= cut)).collect();
                        ("seq_idx", indices(numbers, &[1, steps]))
                    }
                    _ => ("cu_seqlens", indices(vec![0, cut as i32, steps as i32], &[3])),
                };
                together.insert(name.to_owned(), form);
                let found = run(device, &together, &case.options());
                let single = run(device, &steps_of(&named, alone.clone()), &case.options());
                for name in ["out", "dx"] {
                    let part = found[name].narrowed(2, alone.clone()).expect("steps");
                    assert_eq!(floats(&part), floats(&single[name]), "{name} on {}", device.name());
                }
            }
        }
    }
}

/// Padding gives zeros, has no gradient, and a NaN in it reaches nothing.
#[test]
fn padding_is_left_out() {
    let steps = 30;
    for device in ieee_devices() {
        let case = Case { dfinal_state: false, ..plain([1, 5, steps, 4], 9) };
        let mut named = case.tensors::<f32>().expect("tensors");
        let expected = run(device, &steps_of(&named, 0..20), &case.options());
        for name in ["x", "dout"] {
            let mut values = floats(&named[name]);
            for line in values.chunks_exact_mut(steps) {
                line[20..].fill(f32::NAN);
            }
            named.insert(name.to_owned(), tensor(values, &[1, 5, steps]));
        }
        let numbers = (0..steps).map(|t| if t < 20 { 4 } else { -1 }).collect();
        named.insert("seq_idx".to_owned(), indices(numbers, &[1, steps]));
        let found = run(device, &named, &case.options());
        for name in ["out", "dx"] {
            let padded = found[name].narrowed(2, 20..steps).expect("steps");
            assert!(floats(&padded).iter().all(|x| *x == 0.0), "{name} on {}", device.name());
            let rest = found[name].narrowed(2, 0..20).expect("steps");
            assert_eq!(floats(&rest), floats(&expected[name]), "{name} on {}", device.name());
        }
        for name in ["dweight", "dbias", "ds0"] {
            assert!(floats(&found[name]).iter().all(|x| x.is_finite()), "{name}");
        }
    }
}

/// Section 9: sums of large magnitude give finite outputs and gradients.
#[test]
fn large_sums_stay_finite() {
    for device in devices() {
        for sum in [1e4f32, -1e4, 1e30, -1e30, 3e38, -3e38] {
            let case =
                Case { bias: false, s0: false, dfinal_state: false, ..plain([1, 2, 9, 1], 1) };
            let mut named = case.tensors::<f32>().expect("tensors");
            named.insert("weight".to_owned(), tensor(vec![1.0; 2], &[2, 1]));
            named.insert("x".to_owned(), tensor(vec![sum; 18], &[1, 2, 9]));
            let options = Options::default().with_activation(Activation::Silu);
            let found = run(device, &named, &options);
            let (out, dx) = (floats(&found["out"]), floats(&found["dx"]));
            let expected = if sum > 0.0 { sum } else { 0.0 };
            assert!(out.iter().all(|x| *x == expected), "{sum} on {}: {out:?}", device.name());
            let dout = floats(&named["dout"]);
            let slope = if sum > 0.0 { 1.0 } else { 0.0 };
            let right = dx.iter().zip(dout).all(|(x, dout)| *x == slope * dout);
            assert!(right, "{sum} on {}: {dx:?}", device.name());
        }
    }
}
