//! What holds for the gradients of every scan: section 11 of the specification.

use std::ops::Range;

use proptest::prelude::*;
use warpwright::selective_scan::{Options, run_named};
use warpwright::verify::Random;
use warpwright::verify::selective_scan::{Case, Distribution, ResetForm, Sizes};
use warpwright::{Cpu, DType, Device, Named, Tensor, View};

use crate::devices::{devices, ieee_devices};

fn numbers(view: &View<Cpu>) -> Vec<f64> {
    match view.dtype() {
        DType::F32 => {
            let values = view.typed::<f32>().expect("f32").to_vec().expect("not in use");
            values.into_iter().map(f64::from).collect()
        }
        _ => view.typed::<f64>().expect("f64").to_vec().expect("not in use"),
    }
}

/// The tensors of a case and the gradients of its outputs, as f64.
fn in_f64(case: &Case) -> Named<Cpu> {
    let mut named = case.tensors::<f64>().expect("tensors");
    named.extend(case.output_gradients::<f64>().expect("tensors"));
    named
}

fn in_f32(case: &Case) -> Named<Cpu> {
    let mut named = case.tensors::<f32>().expect("tensors");
    named.extend(case.output_gradients::<f32>().expect("tensors"));
    named
}

fn run(device: &Device, named: &Named<Cpu>, options: &Options) -> Named<Cpu> {
    run_named(device, named, options).expect("the scan runs").outputs
}

/// Σ dout out + Σ dlast_state last_state.
fn loss(named: &Named<Cpu>, options: &Options) -> f64 {
    let is_input = |(name, _): &(&String, &View<Cpu>)| {
        !name.starts_with('d') || *name == "delta" || *name == "delta_bias"
    };
    let inputs = named.iter().filter(is_input).map(|(name, view)| (name.clone(), view.clone()));
    let outputs = run(&Device::Cpu(Cpu), &inputs.collect(), options);
    let part = |gradient: &str, output: &str| {
        let Some(gradient) = named.get(gradient) else { return 0.0 };
        let products = numbers(gradient).into_iter().zip(numbers(&outputs[output]));
        products.map(|(x, y)| x * y).sum()
    };
    part("dout", "out") + part("dlast_state", "last_state")
}

fn with_element(named: &Named<Cpu>, name: &str, at: usize, by: f64) -> Named<Cpu> {
    let mut values = numbers(&named[name]);
    values[at] += by;
    let mut named = named.clone();
    let shape = named[name].shape().to_vec();
    named.insert(name.to_owned(), Tensor::from_vec(values, &shape).expect("shape").into_view());
    named
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The f64 code against central differences, for every input.
    #[test]
    fn gradients_are_the_slopes_of_the_loss(seed in 0u64..10_000) {
        let mut random = Random::new(seed);
        let groups = random.pick(&[1, 2, 4]);
        let sizes = Sizes { batch: 2, channels: 4, steps: random.pick(&[1, 5, 9]), states: 3, groups };
        let mut case = Case::random(sizes, &mut random);
        // Differences need slopes that exist, and values that do not drown them.
        case.distribution = random.pick(&[Distribution::Mamba, Distribution::Broad]);
        (case.clamp, case.softplus) = (false, true);
        let (named, options) = (in_f64(&case), case.options());
        let gradients = run(&Device::Cpu(Cpu), &named, &options);
        for (name, view) in &named {
            let Some(gradient) = gradients.get(&format!("d{name}")) else { continue };
            let gradient = numbers(gradient);
            let scale = gradient.iter().fold(1.0f64, |max, x| max.max(x.abs()));
            for _ in 0..4.min(view.elements()) {
                let at = random.below(view.elements());
                const STEP: f64 = 1e-6;
                let above = loss(&with_element(&named, name, at, STEP), &options);
                let below = loss(&with_element(&named, name, at, -STEP), &options);
                let slope = (above - below) / (2.0 * STEP);
                prop_assert!(
                    (slope - gradient[at]).abs() <= 1e-6 * scale,
                    "d{name} at {at}: {} against a slope of {slope}, {}", gradient[at], case.describe()
                );
            }
        }
    }

    /// A scan cut anywhere, the state handed on and its gradient handed back, has the gradients
    /// of the whole scan.
    #[test]
    fn the_gradients_of_a_split_scan_are_those_of_the_whole(
        seed in 0u64..1000, steps in 2usize..600, cut in 0.0..1.0f64,
    ) {
        let cut = (steps as f64 * cut) as usize;
        let case = Case { seed, ..Case::new(2, 6, steps, 5, 2) };
        let (named, options) = (in_f32(&case), case.options());
        for device in devices() {
            let whole = run(device, &named, &options);
            let mut first = steps_of(&named, 0..cut);
            let state = run(device, &without(&first, &["dout", "dlast_state"]), &options)["last_state"].clone();
            let mut second = steps_of(&named, cut..steps);
            second.insert("h0".to_owned(), state);
            let second = run(device, &second, &options);
            first.insert("dlast_state".to_owned(), second["dh0"].clone());
            let first = run(device, &first, &options);
            for (name, expected) in whole.iter().filter(|(name, _)| name.starts_with('d')) {
                let (x, y, z) = (numbers(&first[name]), numbers(&second[name]), numbers(expected));
                let joined: Vec<f64> = match name.as_str() {
                    "du" | "ddelta" | "dz" | "dB" | "dC" => {
                        let lines = z.len() / steps;
                        (0..lines).flat_map(|line| {
                            let (x, y) = (&x[line * cut..][..cut], &y[line * (steps - cut)..][..steps - cut]);
                            x.iter().chain(y).copied().collect::<Vec<f64>>()
                        }).collect()
                    }
                    "dh0" => x,
                    _ => x.iter().zip(&y).map(|(x, y)| x + y).collect(),
                };
                let scale = z.iter().fold(f64::MIN_POSITIVE, |max, x| max.max(x.abs()));
                let error = joined.iter().zip(&z).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max) / scale;
                prop_assert!(error < 2e-5, "{name} on {}: {error:e}", device.name());
            }
        }
    }
}

fn without(named: &Named<Cpu>, names: &[&str]) -> Named<Cpu> {
    let kept = named.iter().filter(|(name, _)| !names.contains(&name.as_str()));
    kept.map(|(name, view)| (name.clone(), view.clone())).collect()
}

/// Parts of time of every tensor that has it, as the last axis.
fn steps_of(named: &Named<Cpu>, steps: Range<usize>) -> Named<Cpu> {
    let cut = |(name, view): (&String, &View<Cpu>)| {
        let timed = matches!(name.as_str(), "u" | "delta" | "z" | "B" | "C" | "dout");
        let axis = view.shape().len() - 1;
        let part = if timed { view.narrowed(axis, steps.clone()) } else { Ok(view.clone()) };
        (name.clone(), part.expect("within the axis"))
    };
    named.iter().map(cut).collect()
}

fn bits(view: &View<Cpu>) -> Vec<u8> {
    view.to_bytes().expect("not in use")
}

#[test]
fn repeated_backward_passes_give_equal_bits_on_any_number_of_threads() {
    let case = Case { seed: 7, ..Case::new(2, 70, 300, 16, 2) };
    let (named, options) = (in_f32(&case), case.options());
    for device in devices() {
        let first = run(device, &named, &options);
        for threads in [1, 3] {
            let pool = rayon_pool(threads);
            let again = pool.install(|| run(device, &named, &options));
            for (name, view) in &first {
                assert_eq!(bits(view), bits(&again[name]), "{name} on {threads} threads");
            }
        }
    }
}

/// Changes elements of a tensor in f32.
fn change(named: &mut Named<Cpu>, name: &str, how: impl FnOnce(&mut [f32])) {
    let mut values = named[name].typed::<f32>().expect("f32").to_vec().expect("free");
    how(&mut values);
    let tensor = Tensor::from_vec(values, named[name].shape()).expect("shape");
    named.insert(name.to_owned(), tensor.into_view());
}

fn rayon_pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
}

/// Documents in one row have the gradients that they have alone, bit for bit.
#[test]
fn documents_do_not_touch_one_another() {
    for resets in [ResetForm::Flags, ResetForm::CuSeqlens] {
        let case = Case { seed: 3, h0: false, ..Case::new(1, 9, 70, 6, 1) };
        let (mut named, options) = (in_f32(&case), case.options());
        named.remove("dlast_state");
        let cut = 33;
        // What the first document holds must not reach the second one's gradients, nor back.
        let poisoned = |part: Range<usize>| {
            let mut named = named.clone();
            for name in ["u", "dout"] {
                change(&mut named, name, |values| {
                    for line in values.chunks_exact_mut(70) {
                        line[part.clone()].fill(f32::NAN);
                    }
                });
            }
            with_documents(named, resets, cut)
        };
        for device in devices() {
            for (part, alone) in [(0..cut, cut..70), (cut..70, 0..cut)] {
                let together = run(device, &poisoned(part), &options);
                let single = run(device, &steps_of(&named, alone.clone()), &options);
                for name in ["du", "ddelta", "dz"] {
                    let found = together[name].narrowed(2, alone.clone()).expect("steps");
                    assert_eq!(
                        bits(&found),
                        bits(&single[name]),
                        "{name} of {alone:?}, {resets:?}"
                    );
                }
            }
        }
    }
}

fn with_documents(mut named: Named<Cpu>, resets: ResetForm, cut: usize) -> Named<Cpu> {
    let (name, view) = match resets {
        ResetForm::Flags => {
            let flags: Vec<u8> = (0..70).map(|t| u8::from(t == cut)).collect();
            ("reset", Tensor::from_vec(flags, &[1, 70]).expect("shape").into_view())
        }
        _ => {
            let bounds = vec![0i32, cut as i32, 70];
            ("cu_seqlens", Tensor::from_vec(bounds, &[3]).expect("shape").into_view())
        }
    };
    named.insert(name.to_owned(), view);
    named
}

/// Section 9, backward. With a NaN in dout at a step, the gradients of its channel are lost from
/// there back; with a NaN in u, what depends on the state is lost from there on. Sums over time
/// lose the channel, those over channels the group, and all else keeps its bits.
#[test]
fn a_nan_stays_where_it_belongs() {
    let (channels, steps, states, groups, row, channel, t) = (20, 70, 5, 2, 1, 13, 33);
    let case = Case { seed: 5, ..Case::new(2, channels, steps, states, groups) };
    let (named, options) = (in_f32(&case), case.options());
    let ours = |b: usize, d: usize| b == row && d == channel;
    let group = |b: usize, g: usize| b == row && g == channel / (channels / groups);
    for device in ieee_devices() {
        let clean = run(device, &named, &options);
        for poisoned in ["dout", "u"] {
            let back = poisoned == "dout";
            let at = (row * channels + channel) * steps + t;
            let mut dirty = named.clone();
            change(&mut dirty, poisoned, |values| values[at] = f32::NAN);
            let found = run(device, &dirty, &options);
            let hit = |name: &str, i: usize| {
                let (line, l) = (i / steps, i % steps);
                let (b, d) = (line / channels, line % channels);
                let (b_map, g) = (line / states / groups, line / states % groups);
                match name {
                    "du" => ours(b, d) && back && l <= t,
                    "ddelta" => ours(b, d) && if back { l <= t } else { l >= t },
                    "dz" => ours(b, d) && if back { l == t } else { l >= t },
                    "dB" => group(b_map, g) && if back { l <= t } else { l == t },
                    "dC" => group(b_map, g) && if back { l == t } else { l >= t },
                    "dA" => i / states == channel,
                    "dD" | "ddelta_bias" => i == channel,
                    "dh0" => back && ours(i / states / channels, i / states % channels),
                    other => panic!("{other} is no gradient"),
                }
            };
            for (name, view) in found.iter().filter(|(name, _)| name.starts_with('d')) {
                let pairs = numbers(view).into_iter().zip(numbers(&clean[name]));
                for (i, (x, y)) in pairs.enumerate() {
                    let place = format!("{name}[{i}], NaN in {poisoned}, on {}", device.name());
                    assert_eq!(x.is_nan(), hit(name, i), "{place}: {x}");
                    assert!(x.is_nan() || x.to_bits() == y.to_bits(), "{place}: {x}, clean {y}");
                }
            }
        }
    }
}
