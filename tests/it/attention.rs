//! Attention on every device: what holds to the bit, and what calls have to do with one another.

use warpwright::attention::{Attention, Inputs, Options, Problem, run_named};
use warpwright::verify::attention::{Bias, Case, Shard, Sizes, Tolerances};
use warpwright::{Cpu, DType, Device, DeviceFloat, Named, Tensor, View, bf16, f16};

use crate::devices::{devices, on_backend};

mod edges;
mod errors;
mod heads;
#[cfg(feature = "interpreter")]
mod interpreter;
mod merge;
mod packed;
mod parts;
mod properties;
mod strides;
#[cfg(feature = "wgpu")]
mod wgsl;

fn run(device: &Device, named: &Named<Cpu>, options: &Options) -> Named<Cpu> {
    let ran = run_named(device, named, options);
    ran.unwrap_or_else(|error| panic!("{}: {error}", device.name())).outputs
}

/// The options with every kind of variant of a device that fits the call, of either pass. Of variants
/// that differ in how wide lines may be it is the narrowest: the suite runs them all.
fn ways<T: DeviceFloat>(device: &Device, named: &Named<Cpu>, options: &Options) -> Vec<Options> {
    let mut inputs = named.clone();
    inputs.retain(|name, _| !matches!(name.as_str(), "dout" | "dlse"));
    let inputs = Inputs::<Cpu, T>::from_named(&inputs).expect("they fit");
    let problem = Problem::check(&inputs, options).expect("it fits");
    let names = on_backend!(device, |backend| {
        let forward = Attention::<T>::variants_forward(backend, &problem, options);
        let backward = Attention::<T>::variants_backward(backend, &problem, options);
        [forward.expect("it fits"), backward.expect("it fits")].concat()
    });
    let kind = |name: &'static str| name.rsplit_once("_d").map_or(name, |(kind, _)| kind);
    let is_first = |i: &usize| !names[..*i].iter().any(|other| kind(other) == kind(names[*i]));
    let names = (0..names.len()).filter(is_first).map(|i| names[i]);
    names.map(|name| options.clone().with_variant(name)).collect()
}

fn numbers(view: &View<Cpu>) -> Vec<f64> {
    fn of<T: DeviceFloat>(view: &View<Cpu>) -> Vec<f64> {
        let values = view.typed::<T>().expect("of this type").to_vec().expect("not in use");
        values.into_iter().map(T::to_f64).collect()
    }
    match view.dtype() {
        DType::F16 => of::<f16>(view),
        DType::BF16 => of::<bf16>(view),
        _ => of::<f32>(view),
    }
}

fn tensor<T: DeviceFloat>(values: &[f64], shape: &[usize]) -> View<Cpu> {
    let values: Vec<T> = values.iter().copied().map(T::from_f64).collect();
    Tensor::from_vec(values, shape).expect("of this shape").into_view()
}

/// Changes numbers of a tensor, each by its place.
fn change<T: DeviceFloat>(named: &mut Named<Cpu>, name: &str, to: impl Fn(usize, f64) -> f64) {
    let values = numbers(&named[name]);
    let values: Vec<f64> = values.into_iter().enumerate().map(|(i, x)| to(i, x)).collect();
    let changed = tensor::<T>(&values, named[name].shape());
    named.insert(name.to_owned(), changed);
}

/// The same numbers, without gaps.
fn copied(view: &View<Cpu>) -> View<Cpu> {
    view.to_backend(&Cpu).expect("memory")
}

fn part(view: &View<Cpu>, axis: usize, range: std::ops::Range<usize>) -> View<Cpu> {
    copied(&view.narrowed(axis, range).expect("within the axis"))
}

#[track_caller]
fn assert_same_bits(found: &View<Cpu>, expected: &View<Cpu>, what: &str) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let [x, y] = [found, expected].map(|view| view.to_bytes().expect("not in use"));
    let apart = x.iter().zip(&y).position(|(x, y)| x != y);
    let apart = apart.map(|byte| byte / found.dtype().bytes());
    assert_eq!(apart, None, "{what}: the first element that differs");
}

/// Everything that `expected` has is in `found`, to the bit.
#[track_caller]
fn assert_all_same_bits(found: &Named<Cpu>, expected: &Named<Cpu>, what: &str) {
    for (name, view) in expected {
        assert_same_bits(&found[name], view, &format!("{name}, {what}"));
    }
}

/// What two ways to the same result, in activations of a type, may be apart: twice what section 11.2
/// of the specification allows one.
#[track_caller]
fn assert_close(dtype: DType, name: &str, found: &View<Cpu>, expected: &View<Cpu>, what: &str) {
    assert_eq!(found.shape(), expected.shape(), "{name}, {what}");
    let case = Case::new(Sizes::square([1, 1, 1, 1, 1]));
    let Tolerances { out, gradients, lse } = case.tolerances(dtype);
    let (x, y) = (numbers(found), numbers(expected));
    if name == "lse" {
        for (i, (x, y)) in x.iter().zip(&y).enumerate() {
            let near = x == y || (x - y).abs() <= 2.0 * lse * (1.0 + y.abs());
            assert!(near, "lse[{i}], {what}: {x} instead of {y}");
        }
        return;
    }
    let most = 2.0 * if matches!(name, "out" | "partial") { out } else { gradients };
    let error = norm(x.iter().zip(&y).map(|(x, y)| x - y)) / norm(y).max(f64::MIN_POSITIVE);
    assert!(error <= most, "{name}, {what}: off by {error:.1e}");
}

fn norm(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// A call that has everything: heads that share keys, more keys than queries, every tensor.
fn everything() -> Case {
    let sizes = Sizes {
        batch: 2,
        heads: 6,
        kv_heads: 2,
        queries: 37,
        keys: 70,
        width: 40,
        value_width: 24,
    };
    Case {
        softcap: Some(1.5),
        alibi: true,
        bias: Bias::OfHead,
        sink: true,
        dlse: true,
        ..Case::causal(sizes)
    }
}

/// The same of packed sequences, which have no bias.
fn everything_packed() -> Case {
    let whole = everything();
    let sizes = Sizes { batch: 1, ..whole.sizes };
    Case { sizes, shard: Shard::Packed, bias: Bias::Nothing, ..whole }
}

#[test]
fn repeated_runs_give_equal_bits_on_any_number_of_threads() {
    for device in devices() {
        for case in [everything(), everything_packed()] {
            runs_repeat::<f32>(device, &case);
            runs_repeat::<bf16>(device, &case);
        }
    }
}

fn runs_repeat<T: DeviceFloat>(device: &Device, case: &Case) {
    let named = case.tensors::<T>().expect("tensors");
    for options in ways::<T>(device, &named, &case.options()) {
        let [first, second] = [1, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("threads").install(|| run(device, &named, &options))
        });
        assert_all_same_bits(&second, &first, &format!("{options:?} on {}", device.name()));
    }
}
