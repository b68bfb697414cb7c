//! Packed sequences are calls of their own.

use std::ops::Range;

use warpwright::attention::Options;
use warpwright::verify::attention::{Bias, Case, Sizes};
use warpwright::{Cpu, Device, DeviceFloat, Named, Tensor, View, bf16};

use super::{assert_all_same_bits, assert_close, everything, part, run, ways};
use crate::devices::devices;

/// Tensors that have a batch axis.
const WITH_BATCH: [&str; 10] = ["q", "k", "v", "dout", "dlse", "out", "lse", "dq", "dk", "dv"];

/// Tensors of one batch entry, without that axis.
fn without_batch(named: &Named<Cpu>) -> Named<Cpu> {
    let strip = |(name, view): (&String, &View<Cpu>)| {
        let stripped = match WITH_BATCH.contains(&name.as_str()) {
            true => {
                let bytes = view.to_bytes().expect("not in use");
                View::from_bytes(&Cpu, view.dtype(), &bytes, &view.shape()[1..]).expect("a shape")
            }
            false => view.clone(),
        };
        (name.clone(), stripped)
    };
    named.iter().map(strip).collect()
}

/// The same tensors as packed sequences that begin at these queries and keys.
fn packed(named: &Named<Cpu>, queries: &[i32], keys: &[i32]) -> Named<Cpu> {
    let mut packed = without_batch(named);
    for (name, bounds) in [("cu_seqlens_q", queries), ("cu_seqlens_k", keys)] {
        let bounds = Tensor::from_slice(&Cpu, bounds, &[bounds.len()]).expect("of this shape");
        packed.insert(name.to_owned(), bounds.into_view());
    }
    packed
}

/// All that a call of one batch entry may have beside packed sequences.
fn case() -> Case {
    let whole = everything();
    Case { sizes: Sizes { batch: 1, ..whole.sizes }, bias: Bias::Nothing, ..whole }
}

#[test]
fn one_packed_sequence_is_the_call_itself() {
    for device in devices() {
        one_is_the_call::<f32>(device);
        one_is_the_call::<bf16>(device);
    }
}

fn one_is_the_call<T: DeviceFloat>(device: &Device) {
    let case = case();
    let named = case.tensors::<T>().expect("tensors");
    let Sizes { queries, keys, .. } = case.sizes;
    let packed = packed(&named, &[0, queries as i32], &[0, keys as i32]);
    let plain = ways::<T>(device, &named, &case.options());
    // Some kernels are for packed sequences alone, some for all others.
    let both = ways::<T>(device, &packed, &case.options());
    let both: Vec<&Options> = both.iter().filter(|options| plain.contains(options)).collect();
    assert!(!both.is_empty(), "no kernel takes both forms on {}", device.name());
    for options in both {
        let expected = without_batch(&run(device, &named, options));
        let what = format!("{options:?} on {}", device.name());
        assert_all_same_bits(&run(device, &packed, options), &expected, &what);
    }
}

/// Some are empty, of queries, of keys or of both. Tiles are not cut where these calls cut them, so that
/// they agree within the roundings.
#[test]
fn packed_sequences_are_calls_of_their_own() {
    for device in devices() {
        sequences_stand_alone::<f32>(device);
        sequences_stand_alone::<bf16>(device);
    }
}

fn sequences_stand_alone<T: DeviceFloat>(device: &Device) {
    const QUERIES: [i32; 7] = [0, 5, 5, 9, 9, 20, 37];
    const KEYS: [i32; 7] = [0, 9, 14, 14, 14, 43, 300];
    let sizes = Sizes { keys: 300, ..case().sizes };
    // The gradient of a sink is a sum over all sequences.
    let case = Case { sizes, sink: false, ..case() };
    let named = case.tensors::<T>().expect("tensors");
    let packed = packed(&named, &QUERIES, &KEYS);
    for options in ways::<T>(device, &packed, &case.options()) {
        let together = run(device, &packed, &options);
        for (queries, keys) in QUERIES.windows(2).zip(KEYS.windows(2)) {
            let [queries, keys] = [queries, keys].map(|pair| pair[0] as usize..pair[1] as usize);
            let alone = tokens(&named, [&queries, &keys], 1);
            let expected = without_batch(&run(device, &alone, &case.options()));
            let found = tokens(&together, [&queries, &keys], 0);
            let what = format!("{queries:?} of {options:?} on {}", device.name());
            for (name, expected) in &expected {
                assert_close(T::DTYPE, name, &found[name], expected, &what);
            }
        }
    }
}

/// Some tokens of all tensors that have them, behind so many axes; heads come before the tokens of
/// lse.
fn tokens(named: &Named<Cpu>, [queries, keys]: [&Range<usize>; 2], axes: usize) -> Named<Cpu> {
    let cut = |(name, view): (&String, &View<Cpu>)| {
        let of_tokens = match name.as_str() {
            "q" | "dout" | "out" | "dq" => part(view, axes, queries.clone()),
            "k" | "v" | "dk" | "dv" => part(view, axes, keys.clone()),
            "lse" | "dlse" => part(view, axes + 1, queries.clone()),
            _ => view.clone(),
        };
        (name.clone(), of_tokens)
    };
    named.iter().map(cut).collect()
}
