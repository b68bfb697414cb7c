//! What holds for every scan: section 11 of the specification.

use proptest::prelude::*;
use warpwright::selective_scan::{Layout, Options, run_named};
use warpwright::verify::Random;
use warpwright::verify::selective_scan::{Case, Distribution, ResetForm, Sizes};
use warpwright::{Cpu, DType, Device, Element, Named, Tensor, View, bf16, f16};

use crate::devices::{devices, ieee_devices, poison};

/// A view's elements as f64.
fn numbers(view: &View<Cpu>) -> Vec<f64> {
    match view.dtype() {
        DType::F32 => values::<f32>(view).into_iter().map(f64::from).collect(),
        DType::F16 => values::<f16>(view).into_iter().map(f64::from).collect(),
        DType::BF16 => values::<bf16>(view).into_iter().map(f64::from).collect(),
        DType::F64 => values(view),
        other => panic!("{other} is no float"),
    }
}

fn values<T: Element>(view: &View<Cpu>) -> Vec<T> {
    view.typed::<T>().expect("of this type").to_vec().expect("not in use")
}

fn tensor(values: Vec<f32>, shape: &[usize]) -> View<Cpu> {
    Tensor::from_vec(values, shape).expect("of this shape").into_view()
}

/// `out` and `last_state`.
fn scan(device: &Device, named: &Named<Cpu>, options: &Options) -> (View<Cpu>, View<Cpu>) {
    let ran = run_named(device, named, options).expect("the scan runs");
    (ran.outputs["out"].clone(), ran.outputs["last_state"].clone())
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

fn plain(sizes: [usize; 5], seed: u64) -> Case {
    let [batch, channels, steps, states, groups] = sizes;
    Case { seed, ..Case::new(batch, channels, steps, states, groups) }
}

#[test]
fn repeated_runs_give_equal_bits() {
    for device in devices() {
        let case = plain([2, 33, 257, 16, 1], 7);
        let named = case.tensors::<f32>().expect("tensors");
        let (first, second) =
            (scan(device, &named, &case.options()), scan(device, &named, &case.options()));
        assert_eq!(values::<f32>(&first.0), values::<f32>(&second.0), "{}", device.name());
        assert_eq!(values::<f32>(&first.1), values::<f32>(&second.1), "{}", device.name());
    }
}

/// Parts of time of every tensor that has it, as the last axis.
fn steps_of(named: &Named<Cpu>, steps: std::ops::Range<usize>) -> Named<Cpu> {
    let cut = |(name, view): (&String, &View<Cpu>)| {
        let timed = matches!(name.as_str(), "u" | "delta" | "z" | "B" | "C");
        let axis = view.shape().len() - 1;
        let part = if timed { view.narrowed(axis, steps.clone()) } else { Ok(view.clone()) };
        (name.clone(), part.expect("within the axis"))
    };
    named.iter().map(cut).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// A scan cut anywhere, with the state handed over, is the whole scan.
    #[test]
    fn a_split_scan_is_the_whole_scan(seed in 0u64..1000, steps in 2usize..300, cut in 0.0..1.0f64) {
        let cut = (steps as f64 * cut) as usize;
        for device in devices() {
            let case = plain([2, 6, steps, 5, 2], seed);
            let named = case.tensors::<f32>().expect("tensors");
            let (whole, last) = scan(device, &named, &case.options());
            let (first, state) = scan(device, &steps_of(&named, 0..cut), &case.options());
            let mut rest = steps_of(&named, cut..steps);
            rest.insert("h0".to_owned(), state);
            let (second, end) = scan(device, &rest, &case.options());
            let (first, second) = (numbers(&first), numbers(&second));
            let mut joined = Vec::new();
            for line in 0..12 {
                joined.extend(&first[line * cut..(line + 1) * cut]);
                joined.extend(&second[line * (steps - cut)..(line + 1) * (steps - cut)]);
            }
            prop_assert!(distance(&joined, &numbers(&whole)) < PATHS, "{}", device.name());
            prop_assert!(distance(&numbers(&end), &numbers(&last)) < PATHS, "{}", device.name());
        }
    }

    /// Both layouts mean the same.
    #[test]
    fn layouts_agree(seed in 0u64..1000, steps in 1usize..100, channels in 1usize..40) {
        for device in devices() {
            let case = plain([2, channels, steps, 7, 1], seed);
            let named = case.tensors::<f32>().expect("tensors");
            let turned: Named<Cpu> = named
                .iter()
                .map(|(name, view)| {
                    let turned = match name.as_str() {
                        "u" | "delta" | "z" => view.transposed(1, 2),
                        // (B, G, N, L) to (B, L, G, N).
                        "B" | "C" => view.transposed(2, 3).and_then(|view| view.transposed(1, 2)),
                        _ => Ok(view.clone()),
                    };
                    let turned = turned.expect("axes").to_backend(&Cpu).expect("memory");
                    (name.clone(), turned)
                })
                .collect();
            let (out, state) = scan(device, &named, &case.options());
            let (other, other_state) =
                scan(device, &turned, &case.options().with_layout(Layout::Bld));
            let other = other.transposed(1, 2).expect("axes");
            prop_assert!(distance(&numbers(&other), &numbers(&out)) < PATHS, "{}", device.name());
            prop_assert!(
                distance(&numbers(&other_state), &numbers(&state)) < PATHS,
                "{}",
                device.name()
            );
        }
    }

    /// Random forms at random sizes, on every device, against the reference.
    #[test]
    fn random_cases_pass(seed in 0u64..1_000_000, steps in 0usize..150, states in 0usize..40) {
        let mut random = Random::new(seed);
        let groups = random.pick(&[1, 2, 4]);
        let channels = groups * (1 + random.below(9));
        let batch = 1 + random.below(3);
        let sizes = Sizes { batch, channels, steps, states, groups };
        let case = Case::random(sizes, &mut random);
        for device in devices() {
            let mut complaints = Vec::new();
            warpwright::verify::selective_scan::run_case(device, &case, |report| {
                complaints.extend(report.complaint());
            });
            prop_assert!(complaints.is_empty(), "{}: {complaints:?}", device.name());
        }
    }
}

/// A reset keeps documents apart bit for bit: with a NaN in the first document, the second is as
/// if it stood alone.
#[test]
fn nothing_leaks_through_a_reset() {
    let (steps, cut) = (90, 40);
    for device in devices() {
        let case = Case { h0: false, ..plain([1, 9, steps, 6, 3], 3) };
        let named = case.tensors::<f32>().expect("tensors");
        let alone = scan(device, &steps_of(&named, cut..steps), &case.options());
        let mut dirty = named.clone();
        let mut u = values::<f32>(&named["u"]);
        u[cut - 1] = poison(device);
        dirty.insert("u".to_owned(), tensor(u, &[1, 9, steps]));
        let at_cut = |value: i32| -> Vec<i32> {
            (0..steps).map(|t| if t == cut { value } else { 0 }).collect()
        };
        let flags: Vec<u8> = at_cut(1).into_iter().map(|flag| flag as u8).collect();
        let numbers: Vec<i32> = (0..steps).map(|t| i32::from(t >= cut)).collect();
        let bounds = vec![0i32, cut as i32, steps as i32];
        let forms = [
            ("reset", Tensor::from_vec(flags, &[1, steps]).expect("shape").into_view()),
            ("seq_idx", Tensor::from_vec(numbers, &[1, steps]).expect("shape").into_view()),
            ("cu_seqlens", Tensor::from_vec(bounds, &[3]).expect("shape").into_view()),
        ];
        for (name, form) in forms {
            let mut named = dirty.clone();
            named.insert(name.to_owned(), form);
            let (out, state) = scan(device, &named, &case.options());
            let after = out.narrowed(2, cut..steps).expect("steps");
            let sequences = state.shape()[0];
            let state = state.narrowed(0, sequences - 1..sequences).expect("rows");
            let tolerance = 2e-6 * values::<f32>(&alone.0).iter().fold(0f32, |m, x| m.max(x.abs()));
            for (x, y) in values::<f32>(&after).iter().zip(values::<f32>(&alone.0)) {
                assert!((x - y).abs() <= tolerance, "{name} on {}: {x} {y}", device.name());
            }
            for (x, y) in values::<f32>(&state).iter().zip(values::<f32>(&alone.1)) {
                assert!((x - y).abs() <= tolerance, "{name} on {}: {x} {y}", device.name());
            }
        }
    }
}

/// A NaN in one channel stays in it, from its step on; all else is bit-identical to the clean
/// run. A NaN in B reaches every channel of its group, a NaN in C only its step.
#[test]
fn a_nan_stays_where_it_belongs() {
    let (batch, channels, steps, states, groups, t) = (2, 20, 70, 5, 2, 33);
    let case = plain([batch, channels, steps, states, groups], 5);
    let named = case.tensors::<f32>().expect("tensors");
    for device in ieee_devices() {
        let clean = values::<f32>(&scan(device, &named, &case.options()).0);
        let check = |name: &str, at: usize, hit: &dyn Fn(usize, usize, usize) -> bool| {
            let mut dirty = named.clone();
            let mut numbers = values::<f32>(&named[name]);
            numbers[at] = f32::NAN;
            dirty.insert(name.to_owned(), tensor(numbers, named[name].shape()));
            let found = values::<f32>(&scan(device, &dirty, &case.options()).0);
            for (i, (x, y)) in found.iter().zip(&clean).enumerate() {
                let (b, d, l) = (i / (channels * steps), i / steps % channels, i % steps);
                let expected = hit(b, d, l);
                let place = format!("NaN in {name} on {}: b {b} d {d} t {l}", device.name());
                assert_eq!(x.is_nan(), expected, "{place} is {x}");
                assert!(expected || x.to_bits() == y.to_bits(), "{place}: {x}, clean {y}");
            }
        };
        let (row, channel) = (1, 13);
        let place = (row * channels + channel) * steps + t;
        for name in ["u", "delta"] {
            check(name, place, &|b, d, l| b == row && d == channel && l >= t);
        }
        let map = ((row * groups + 1) * states + 2) * steps + t;
        check("B", map, &|b, d, l| b == row && d >= channels / 2 && l >= t);
        check("C", map, &|b, d, l| b == row && d >= channels / 2 && l == t);
    }
}

/// Section 9: step sizes that are huge or vanish give finite results, as the formula says.
#[test]
fn extreme_step_sizes_stay_finite() {
    for device in devices() {
        let case = Case {
            distribution: Distribution::Broad,
            h0: true,
            bias: false,
            ..plain([1, 8, 4, 4, 1], 2)
        };
        let mut named = case.tensors::<f32>().expect("tensors");
        // State forgotten at once, with a = 0.
        named.insert("delta".to_owned(), tensor(vec![1e4; 32], &[1, 8, 4]));
        let (out, _) = scan(device, &named, &case.options());
        assert!(numbers(&out).iter().all(|x| x.is_finite()), "{}", device.name());
        // State kept, with a = 1.
        named.insert("delta".to_owned(), tensor(vec![-200.0; 32], &[1, 8, 4]));
        let (_, state) = scan(device, &named, &case.options());
        assert_eq!(values::<f32>(&state), values::<f32>(&named["h0"]), "{}", device.name());
    }
}

/// Section 9: growth overflows to infinity, as the formula says, and not to a NaN.
#[test]
fn growth_overflows_to_infinity() {
    for a in [1.0, 0.45] {
        let case = Case {
            gate: false,
            bias: false,
            skip: false,
            softplus: false,
            ..plain([1, 3, 2, 1, 1], 4)
        };
        let mut named = case.tensors::<f32>().expect("tensors");
        for (name, value) in
            [("u", 1.0), ("delta", 200.0), ("B", 1.0), ("C", 1.0), ("h0", 1.0), ("A", a)]
        {
            let shape = named[name].shape().to_vec();
            named.insert(name.to_owned(), tensor(vec![value; shape.iter().product()], &shape));
        }
        for device in ieee_devices() {
            let (out, _) = scan(device, &named, &case.options());
            let out = values::<f32>(&out);
            assert!(out.iter().all(|x| *x == f32::INFINITY), "{}: {out:?}", device.name());
        }
    }
}

/// Padding gives zeros and passes the state through.
#[test]
fn padding_passes_the_state_through() {
    for device in devices() {
        let case = Case { resets: ResetForm::None, ..plain([1, 5, 30, 3, 1], 9) };
        let mut named = case.tensors::<f32>().expect("tensors");
        let (_, expected) = scan(device, &steps_of(&named, 0..20), &case.options());
        let numbers = (0..30).map(|t| if t < 20 { 4i64 } else { -1 }).collect();
        let seq_idx = Tensor::from_vec(numbers, &[1, 30]).expect("shape").into_view();
        named.insert("seq_idx".to_owned(), seq_idx);
        let (out, state) = scan(device, &named, &case.options());
        let padded = out.narrowed(2, 20..30).expect("steps");
        assert!(values::<f32>(&padded).iter().all(|x| *x == 0.0), "{}", device.name());
        let (state, expected) = (values::<f32>(&state), values::<f32>(&expected));
        let far = state.iter().zip(&expected).any(|(x, y)| (x - y).abs() > 1e-5 * y.abs().max(1.0));
        assert!(!far, "{}: {state:?} {expected:?}", device.name());
    }
}
