//! Kernels in WGSL that use features of a device, and the baseline that every device has.

use warpwright::backend::Backend;
use warpwright::backend::wgpu::Wgpu;
use warpwright::verify::attention::{Case, Sizes, run_case};
use warpwright::{Device, f16};

use super::{assert_all_same_bits, change, everything, everything_packed, run, ways};
use crate::devices::devices;
use crate::wgpu::baseline;

/// The variants of both passes for f16.
fn offered(device: &Wgpu) -> Vec<String> {
    let case = everything();
    let named = case.tensors::<f16>().expect("tensors");
    let ways = ways::<f16>(&Device::Wgpu(device.clone()), &named, &case.options());
    ways.into_iter().filter_map(|options| options.variant).collect()
}

/// Whether features are held in f16 or in f32, products and sums are in f32; subnormal ones, too.
#[test]
fn features_held_in_f16_give_the_bits_of_those_that_are_widened_before() {
    let wide = Case::causal(Sizes::square([1, 4, 2, 37, 200]));
    for device in devices() {
        for case in [everything(), everything_packed(), wide.clone()] {
            let mut named = case.tensors::<f16>().expect("tensors");
            for name in ["k", "v", "dout"] {
                change::<f16>(&mut named, name, |i, x| if i % 3 == 0 { x * 1e-6 } else { x });
            }
            for native in ways::<f16>(device, &named, &case.options()) {
                let name = native.variant.clone().expect("one is asked for");
                if !name.contains("_native_") {
                    continue;
                }
                let widened = native.clone().with_variant(name.replace("_native_", "_"));
                let [found, expected] = [native, widened].map(|way| run(device, &named, &way));
                assert_all_same_bits(&found, &expected, &format!("{name} on {}", device.name()));
            }
        }
    }
}

#[test]
fn the_baseline_suffices() {
    let Some(device) = baseline() else { return };
    assert!(device.limits().shared_bytes <= 16 << 10);
    let names = offered(device);
    assert!(!names.iter().any(|name| name.contains("_native_") || name.contains("_subgroup_")));
    let mut complaints = Vec::new();
    let wide = Case::causal(Sizes::square([1, 2, 1, 37, 200]));
    for case in [everything(), everything_packed(), wide] {
        run_case(&Device::Wgpu(device.clone()), &case, |report| {
            complaints.extend(report.complaint());
        });
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// A device that somebody else has made tells its features, too.
#[test]
fn a_borrowed_device_runs_what_its_features_allow() {
    if baseline().is_none() {
        return;
    }
    let own = Wgpu::new(0).expect("the adapter opens in full");
    let borrowed = Wgpu::borrow(own.device().clone(), own.queue().clone());
    assert_eq!(borrowed.limits(), own.limits());
    let features = own.device().features();
    assert_eq!(own.limits().native_f16, features.contains(warpwright::wgpu::Features::SHADER_F16));
    assert_eq!(offered(&borrowed), offered(&own));
}
