//! Heads that share keys are heads with keys of their own.

use warpwright::verify::attention::{Case, Sizes};
use warpwright::{Cpu, Device, DeviceFloat, Named, View, f16};

use super::{assert_close, assert_same_bits, numbers, run, tensor, ways};
use crate::devices::devices;

/// Groups of one are what the others are compared with.
#[test]
fn heads_that_share_keys_are_heads_with_keys_of_their_own() {
    for device in devices() {
        for group in [2, 3, 8, 32] {
            groups_are_heads::<f32>(device, group);
            groups_are_heads::<f16>(device, group);
        }
    }
}

fn groups_are_heads<T: DeviceFloat>(device: &Device, group: usize) {
    let sizes = Sizes {
        batch: 1,
        heads: 2 * group,
        kv_heads: 2,
        queries: 9,
        keys: 40,
        width: 16,
        value_width: 24,
    };
    let case = Case { dlse: true, ..Case::causal(sizes) };
    let named = case.tensors::<T>().expect("tensors");
    let mut own = named.clone();
    for name in ["k", "v"] {
        own.insert(name.to_owned(), repeated::<T>(&named[name], group));
    }
    let own: Named<Cpu> = run(device, &own, &case.options());
    for options in ways::<T>(device, &named, &case.options()) {
        let shared = run(device, &named, &options);
        let what = format!("{group} heads for each of the keys', {options:?} on {}", device.name());
        for name in ["out", "lse", "dq"] {
            // The CPU walks a row alike whatever rows are with it; GPUs have other tiles.
            match device {
                Device::Cpu(_) => assert_same_bits(&shared[name], &own[name], &what),
                _ => assert_close(T::DTYPE, name, &shared[name], &own[name], &what),
            }
        }
        for name in ["dk", "dv"] {
            let sums = added_up::<T>(&own[name], group);
            assert_close(T::DTYPE, name, &shared[name], &sums, &what);
        }
    }
}

/// (B, S, Hk, D) with each head so many times.
fn repeated<T: DeviceFloat>(view: &View<Cpu>, times: usize) -> View<Cpu> {
    let mut shape = view.shape().to_vec();
    shape[2] *= times;
    let values: Vec<f64> =
        numbers(view).chunks_exact(shape[3]).flat_map(|head| head.repeat(times)).collect();
    tensor::<T>(&values, &shape)
}

/// (B, S, H, D) with so many neighbouring heads added up.
fn added_up<T: DeviceFloat>(view: &View<Cpu>, group: usize) -> View<Cpu> {
    let mut shape = view.shape().to_vec();
    shape[2] /= group;
    let width = shape[3];
    let of_group = |heads: &[f64]| -> Vec<f64> {
        (0..width).map(|d| heads.iter().skip(d).step_by(width).sum()).collect()
    };
    let values: Vec<f64> = numbers(view).chunks_exact(group * width).flat_map(of_group).collect();
    tensor::<T>(&values, &shape)
}
