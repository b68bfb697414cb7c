//! What holds for every update of states: sections 4, 8, 9 and 11 of the specification.

use proptest::prelude::*;
use warpwright::operation::{self, Settings};
use warpwright::selective_scan::run_named;
use warpwright::selective_scan::state_update::{Inputs, Options, StateUpdate, update};
use warpwright::verify::selective_scan::Case as Scan;
use warpwright::verify::selective_scan::state_update::{Case, Slots};
use warpwright::{Cpu, DType, Device, Named, Tensor, View, bf16, f16};

use crate::devices::{devices, ieee_devices};

mod errors;
#[cfg(feature = "interpreter")]
mod interpreter;
#[cfg(feature = "wgpu")]
mod wgpu;

/// A view's elements as f64.
fn numbers(view: &View<Cpu>) -> Vec<f64> {
    match view.dtype() {
        DType::F32 => floats(view).into_iter().map(f64::from).collect(),
        DType::BF16 => {
            let values = view.typed::<bf16>().expect("bf16").to_vec().expect("not in use");
            values.into_iter().map(f64::from).collect()
        }
        DType::F16 => {
            let values = view.typed::<f16>().expect("f16").to_vec().expect("not in use");
            values.into_iter().map(f64::from).collect()
        }
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

/// With softplus, as every case has it unless it says otherwise.
fn settings() -> Settings {
    let options = [("dt_softplus".to_owned(), "true".to_owned())];
    Settings { options: options.into(), ..Settings::default() }
}

/// `out` and `state`.
fn run(device: &Device, named: &Named<Cpu>) -> (View<Cpu>, View<Cpu>) {
    let operation = operation::find("state-update").expect("it is there");
    let ran = operation.run(device, named, &settings()).expect("the update runs");
    (ran.outputs["out"].clone(), ran.outputs["state"].clone())
}

/// The same tensors with some others.
fn with(
    named: &Named<Cpu>,
    others: impl IntoIterator<Item = (&'static str, View<Cpu>)>,
) -> Named<Cpu> {
    let mut named = named.clone();
    named.extend(others.into_iter().map(|(name, view)| (name.to_owned(), view)));
    named
}

/// The largest difference over the largest value.
fn distance(found: &View<Cpu>, expected: &View<Cpu>) -> f64 {
    let (found, expected) = (numbers(found), numbers(expected));
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(f64::MIN_POSITIVE, |max, x| max.max(x.abs()));
    let difference = found.iter().zip(&expected).map(|(x, y)| (x - y).abs());
    difference.fold(0.0, f64::max) / scale
}

/// What two paths may differ by, each within the specification's tolerance of a scan's output.
fn paths(device: &Device) -> f64 {
    if device.name().starts_with("wgpu") { 2e-5 } else { 4e-6 }
}

/// The tensors that have an axis of steps, behind the first one, where there are several.
const STEPPED: [&str; 5] = ["x", "dt", "z", "B", "C"];

/// Step t of tensors that hold several.
fn step_of(named: &Named<Cpu>, t: usize) -> Named<Cpu> {
    let cut = |(name, view): (&String, &View<Cpu>)| {
        let view = match STEPPED.contains(&name.as_str()) {
            true => without_axis(&view.narrowed(1, t..t + 1).expect("within the axis"), 1),
            false => view.clone(),
        };
        (name.clone(), view)
    };
    named.iter().map(cut).collect()
}

/// The same elements without an axis of length 1, in memory of their own.
fn without_axis(view: &View<Cpu>, axis: usize) -> View<Cpu> {
    let mut shape = view.shape().to_vec();
    assert_eq!(shape.remove(axis), 1);
    let bytes = view.to_bytes().expect("not in use");
    View::from_bytes(&Cpu, view.dtype(), &bytes, &shape).expect("of this shape")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Steps taken one by one are the scan.
    #[test]
    fn steps_are_the_scan(
        seed in 0u64..1000, steps in 1usize..24, states in 1usize..40, groups in 1usize..4,
    ) {
        let (batch, channels) = (2, 6 * groups);
        let scan = Scan { seed, ..Scan::new(batch, channels, steps, states, groups) };
        let named = scan.tensors::<f32>().expect("tensors");
        for device in devices() {
            let whole = run_named(device, &named, &scan.options()).expect("the scan runs").outputs;
            let mut state = named.get("h0").cloned().unwrap_or_else(|| {
                tensor(vec![0.0; batch * channels * states], &[batch, channels, states])
            });
            for t in 0..steps {
                let at = |name: &str, axis: usize| {
                    without_axis(&named[name].narrowed(axis, t..t + 1).expect("steps"), axis)
                };
                let mut step = Named::from([("state".to_owned(), state)]);
                for (scans, updates, axis) in [
                    ("u", "x", 2), ("delta", "dt", 2), ("z", "z", 2), ("B", "B", 3), ("C", "C", 3),
                ] {
                    if named.contains_key(scans) {
                        step.insert(updates.to_owned(), at(scans, axis));
                    }
                }
                for (scans, updates) in [("A", "A"), ("D", "D"), ("delta_bias", "dt_bias")] {
                    if let Some(view) = named.get(scans) {
                        step.insert(updates.to_owned(), view.clone());
                    }
                }
                let (out, moved) = run(device, &step);
                let expected = without_axis(&whole["out"].narrowed(2, t..t + 1).expect("steps"), 2);
                let scale = numbers(&whole["out"]).iter().fold(0f64, |max, x| max.max(x.abs()));
                let worst = numbers(&out).iter().zip(numbers(&expected))
                    .fold(0f64, |max, (x, y)| max.max((x - y).abs()));
                prop_assert!(worst <= paths(device) * scale, "out {t} on {}", device.name());
                state = moved;
            }
            let off = distance(&state, &whole["last_state"]);
            prop_assert!(off <= paths(device), "state off by {off:.1e} on {}", device.name());
        }
    }

    /// Several steps at once are the same steps one by one, bit for bit, whatever the states' type.
    #[test]
    fn steps_at_once_are_steps_one_by_one(
        seed in 0u64..1000, steps in 1usize..17, states in 1usize..40, heads: bool, kind in 0usize..3,
    ) {
        let state = [DType::F32, DType::BF16, DType::F16][kind];
        let case = match heads {
            true => Case::heads(2, 4, 5, states, 2),
            false => Case::plain(2, 7, states),
        };
        let case = Case { steps: Some(steps), state, seed, slots: Slots::Chosen, ..case };
        let named = case.tensors::<f32>().expect("tensors");
        for device in devices() {
            let (out, last) = run(device, &named);
            let mut state = named["state"].clone();
            for t in 0..steps {
                let step = with(&step_of(&named, t), [("state", state)]);
                let (one, moved) = run(device, &step);
                let expected = without_axis(&out.narrowed(1, t..t + 1).expect("steps"), 1);
                prop_assert_eq!(floats(&one), floats(&expected), "out {} on {}", t, device.name());
                state = moved;
            }
            prop_assert_eq!(numbers(&state), numbers(&last), "state on {}", device.name());
        }
    }

    /// A parameter that a head shares means the same as one repeated for each channel and state.
    #[test]
    fn tied_parameters_are_repeated_ones(seed in 0u64..1000, width in 1usize..6, states in 1usize..20) {
        let (batch, heads) = (2, 6);
        let case = Case { seed, ..Case::heads(batch, heads, width, states, 3) };
        let named = case.tensors::<f32>().expect("tensors");
        let repeat = |name: &str, times: usize, shape: &[usize]| {
            let values = floats(&named[name]);
            let values = values.iter().flat_map(|x| std::iter::repeat_n(*x, times)).collect();
            tensor(values, shape)
        };
        let expanded = with(&named, [
            ("A", repeat("A", width * states, &[heads, width, states])),
            ("dt", repeat("dt", width, &[batch, heads, width])),
            ("D", repeat("D", width, &[heads, width])),
            ("dt_bias", repeat("dt_bias", width, &[heads, width])),
        ]);
        for device in devices() {
            let (one, other) = (run(device, &named), run(device, &expanded));
            prop_assert!(distance(&one.0, &other.0) <= paths(device), "out on {}", device.name());
            prop_assert!(distance(&one.1, &other.1) <= paths(device), "state on {}", device.name());
        }
    }
}

#[test]
fn repeated_runs_give_equal_bits() {
    for device in devices() {
        let named = Case::heads(3, 4, 20, 64, 2).tensors::<bf16>().expect("tensors");
        let (first, second) = (run(device, &named), run(device, &named));
        assert_eq!(numbers(&first.0), numbers(&second.0), "{}", device.name());
        assert_eq!(numbers(&first.1), numbers(&second.1), "{}", device.name());
    }
}

/// Padding gives zeros; no slot is touched but those that are written, whatever lies there.
#[test]
fn slots_that_nobody_writes_keep_their_bits() {
    for device in devices() {
        let case = Case::plain(3, 7, 6);
        let named = case.tensors::<f32>().expect("tensors");
        let slots = named["state"].shape()[0];
        let line = 7 * 6;
        let mut state = floats(&named["state"]);
        // Entry 0 moves slot 2 into slot 4; entry 1 is padding; entry 2 reads slot 5 and writes
        // nothing.
        for slot in (0..slots).filter(|slot| ![2, 5].contains(slot)) {
            state[slot * line..][..line].fill(f32::NAN);
        }
        let named = with(
            &named,
            [
                ("state", tensor(state.clone(), named["state"].shape())),
                ("state_indices", indices(vec![2, -1, 5], &[3])),
                ("out_indices", indices(vec![4, 1, -1], &[3])),
            ],
        );
        let (out, moved) = run(device, &named);
        let out = floats(&out);
        assert!(out[7..14].iter().all(|x| *x == 0.0), "padding on {}", device.name());
        assert!(out.iter().all(|x| x.is_finite()), "{out:?} on {}", device.name());
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        for (slot, (before, after)) in
            state.chunks(line).zip(floats(&moved).chunks(line)).enumerate()
        {
            match slot {
                4 => assert!(after.iter().all(|x| x.is_finite()), "slot 4 on {}", device.name()),
                _ => assert_eq!(bits(before), bits(after), "slot {slot} on {}", device.name()),
            }
        }
    }
}

/// A NaN in one channel of one entry stays there; all else is bit-identical to the clean run.
#[test]
fn a_nan_stays_where_it_belongs() {
    let (channels, states, dirty) = (9, 20, 4);
    for device in ieee_devices() {
        let named = Case::plain(2, channels, states).tensors::<f32>().expect("tensors");
        let clean = run(device, &named);
        let mut x = floats(&named["x"]);
        x[channels + dirty] = f32::NAN;
        let found = run(device, &with(&named, [("x", tensor(x, &[2, channels]))]));
        for (i, (x, y)) in floats(&found.0).into_iter().zip(floats(&clean.0)).enumerate() {
            let expected = i == channels + dirty;
            assert_eq!(x.is_nan(), expected, "out {i} on {}", device.name());
            assert!(expected || x.to_bits() == y.to_bits(), "out {i} on {}", device.name());
        }
        for (i, (x, y)) in floats(&found.1).into_iter().zip(floats(&clean.1)).enumerate() {
            let expected = i / states == channels + dirty;
            assert_eq!(x.is_nan(), expected, "state {i} on {}", device.name());
            assert!(expected || x.to_bits() == y.to_bits(), "state {i} on {}", device.name());
        }
    }
}

/// Section 9: large steps forget the state, small ones keep it, gates of large magnitude are
/// finite.
#[test]
fn extreme_steps_and_gates() {
    for device in devices() {
        let named = Case { skip: false, bias: false, gate: false, ..Case::plain(1, 3, 2) };
        let named = named.tensors::<f32>().expect("tensors");
        let ones = |shape: &[usize]| tensor(vec![1.0; shape.iter().product()], shape);
        let state = tensor(vec![2.0; 18], &[3, 3, 2]);
        let named = with(
            &named,
            [
                ("state", state),
                ("x", ones(&[1, 3])),
                ("B", ones(&[1, 2])),
                ("C", ones(&[1, 2])),
                // Forgets, keeps, and in between: softplus(-12) = 6e-6.
                ("dt", tensor(vec![1e4, -80.0, -12.0], &[1, 3])),
            ],
        );
        let (out, moved) = run(device, &named);
        let (out, moved) = (floats(&out), floats(&moved));
        assert_eq!(moved[..2], [1e4, 1e4], "{}", device.name());
        assert_eq!(out[0], 2e4, "{}", device.name());
        assert_eq!(moved[2..4], [2.0, 2.0], "{}", device.name());
        let small = (-12f64).exp().ln_1p();
        for (n, h) in moved[4..6].iter().enumerate() {
            // h - 2 = -2 (1 - exp(-small (n + 1))) + small, lost if the decay were rounded.
            let exact = 2.0 * (-small * (n as f64 + 1.0)).exp() + small;
            assert!((f64::from(*h) - exact).abs() < 4e-7, "{h} {exact} on {}", device.name());
        }
        for z in [-3e38f32, -100.0, 100.0] {
            let (out, _) = run(device, &with(&named, [("z", tensor(vec![z; 3], &[1, 3]))]));
            assert!(floats(&out).iter().all(|y| y.is_finite()), "z = {z} on {}", device.name());
        }
    }
}

/// Slots that lie apart: their strides count, and what lies between them is left alone.
#[test]
fn slots_may_have_gaps() {
    fn check<B: StateUpdate<f32>>(backend: &B) {
        let tensors = Case::plain(2, 5, 8).tensors::<f32>().expect("tensors");
        let close = tensors["state"].narrowed(0, 0..2).expect("slots");
        // The same states in every other slot of twice as many channels.
        let mut wide = vec![7f32; 2 * 2 * 5 * 8];
        for (slot, values) in floats(&close).chunks(40).enumerate() {
            wide[80 * slot..][..40].copy_from_slice(values);
        }
        let wide = Tensor::from_slice(backend, &wide, &[2, 10, 8]).expect("memory");
        let mut close: Tensor<B, f32> =
            Tensor::from_slice(backend, &floats(&close), &[2, 5, 8]).expect("memory");
        let mut apart = wide.narrowed(1, 0..5).expect("channels");
        let tensors: Named<B> = tensors
            .iter()
            .map(|(name, view)| (name.clone(), view.to_backend(backend).expect("memory")))
            .collect();
        let inputs = Inputs::<B, f32>::from_named(&tensors).expect("good");
        let options = Options::default().with_dt_softplus(true);
        let expected = update(&mut close, &inputs, &options).expect("it runs");
        let found = update(&mut apart, &inputs, &options).expect("it runs");
        assert_eq!(found.to_vec().unwrap(), expected.to_vec().unwrap());
        assert_eq!(apart.to_vec().unwrap(), close.to_vec().unwrap());
        let rest = wide.narrowed(1, 5..10).expect("channels").to_vec().unwrap();
        assert!(rest.iter().all(|x| *x == 7.0), "{rest:?}");
    }
    for device in devices() {
        match device {
            Device::Cpu(backend) => check(backend),
            #[cfg(feature = "wgpu")]
            Device::Wgpu(backend) => check(backend),
            #[cfg(feature = "cuda")]
            Device::Cuda(backend) => check(backend),
            _ => {}
        }
    }
}
