//! The cases whose results another library has computed.

use safetensors::{Dtype, SafeTensors};

use crate::{fixture, temporary, warpwright};

/// The tolerances of section 11 of the specification: `out`, and the states.
fn tolerances(device: &str, dtype: Dtype) -> (f64, f64) {
    match (device, dtype) {
        ("reference", _) => (1e-12, 1e-12),
        (_, Dtype::BF16) => (6e-3, 5e-6),
        (_, Dtype::F16) => (8e-4, 5e-6),
        ("wgpu", _) => (1e-5, 1e-5),
        _ => (2e-6, 2e-6),
    }
}

/// The tolerance of an update's states, f32.
fn step_state(device: &str) -> f64 {
    match device {
        "reference" => 1e-12,
        "wgpu" => 5e-6,
        _ => 1e-6,
    }
}

pub fn numbers(file: &SafeTensors<'_>, name: &str) -> Vec<f64> {
    let tensor = file.tensor(name).unwrap_or_else(|_| panic!("tensor {name} is in the file"));
    let bytes = tensor.data();
    match tensor.dtype() {
        Dtype::F32 => read_chunks::<4>(bytes, |b| f64::from(f32::from_le_bytes(b))),
        Dtype::F64 => read_chunks::<8>(bytes, f64::from_le_bytes),
        Dtype::F16 => read_chunks::<2>(bytes, |b| warpwright::f16::from_le_bytes(b).to_f64()),
        Dtype::BF16 => read_chunks::<2>(bytes, |b| warpwright::bf16::from_le_bytes(b).to_f64()),
        other => panic!("{name} has elements {other:?}"),
    }
}

fn read_chunks<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    bytes.chunks_exact(N).map(|chunk| read(chunk.try_into().expect("of this length"))).collect()
}

/// The tolerances of gradients: of activations' and maps', and of the others.
fn gradient_tolerances(device: &str, dtype: Dtype) -> (f64, f64) {
    match (device, dtype) {
        ("reference", _) => (1e-12, 1e-12),
        (_, Dtype::BF16) => (8e-3, 1e-5),
        (_, Dtype::F16) => (1e-3, 1e-5),
        ("wgpu", _) => (2e-5, 3e-5),
        _ => (5e-6, 1e-5),
    }
}

/// The devices that a fixture is run on.
pub const DEVICES: [&str; 4] = ["reference", "cpu", "wgpu", "ptx"];

/// Runs a fixture on a device and compares every output with the stored results: |x - y| over the
/// largest |y|, for which `tolerance` knows a bound by name and axes.
pub fn compare(
    operation: &str,
    name: &str,
    device: &str,
    tolerance: impl Fn(&str, &[usize]) -> f64,
) {
    let output = temporary(&format!("{name}-{device}"));
    let input = fixture(&format!("{name}.in.safetensors"));
    let ran =
        warpwright(&["run", operation, "--input", &input, "--output", &output, "--device", device]);
    let complaint = String::from_utf8_lossy(&ran.stderr).into_owned();
    if ran.status.code() == Some(3) && device == "wgpu" {
        let required = std::env::var("WARPWRIGHT_REQUIRE").unwrap_or_default();
        assert!(!required.contains("wgpu"), "WARPWRIGHT_REQUIRE names wgpu: {complaint}");
        eprintln!("skipped: {complaint}");
        return;
    }
    assert!(ran.status.success(), "{name} on {device}: {complaint}");
    let found = std::fs::read(&output).expect("the output is there");
    std::fs::remove_file(&output).expect("it can be removed");
    let expected = std::fs::read(fixture(&format!("{name}.out.safetensors"))).expect("fixture");
    let found = SafeTensors::deserialize(&found).expect("the output is whole");
    let expected = SafeTensors::deserialize(&expected).expect("the fixture is whole");
    for (tensor, view) in expected.iter() {
        let shape = found.tensor(tensor).map(|found| found.shape().to_vec());
        assert_eq!(shape.ok().as_deref(), Some(view.shape()), "{name} on {device}: {tensor}");
        let (x, y) = (numbers(&found, tensor), numbers(&expected, tensor));
        let finite = y.iter().filter(|y| y.is_finite());
        let scale = finite.fold(f64::MIN_POSITIVE, |max, y| max.max(y.abs()));
        let most = tolerance(tensor, view.shape());
        for (i, (x, y)) in x.iter().zip(&y).enumerate() {
            let near = x == y || (x - y).abs() <= most * scale;
            assert!(near, "{name} on {device}: {tensor}[{i}] is {x} instead of {y}");
        }
    }
}

/// A fixture of a scan, a convolution or an update.
fn check(operation: &str, name: &str, device: &str) {
    let input = std::fs::read(fixture(&format!("{name}.in.safetensors"))).expect("fixture");
    let input = SafeTensors::deserialize(&input).expect("the fixture is whole");
    let activation = input.tensor("u").or_else(|_| input.tensor("x"));
    let dtype = activation.expect("there is u or x").dtype();
    let (out, state) = tolerances(device, dtype);
    let (activation, parameter) = gradient_tolerances(device, dtype);
    compare(operation, name, device, |tensor, shape| match tensor {
        "out" => out,
        "last_state" => state,
        "state" => step_state(device),
        // Copies.
        "final_state" | "conv_state" => 0.0,
        "du" | "ddelta" | "dz" | "dx" => activation,
        "dB" | "dC" if shape.len() == 4 => activation,
        _ => parameter,
    });
}

#[test]
fn scans_give_what_pytorch_gives() {
    let names = [
        "scan-forward",
        "scan-forward-bld",
        "scan-forward-f16",
        "scan-full",
        "scan-packed",
        "scan-bf16",
    ];
    for name in names {
        for device in DEVICES {
            check("selective-scan", name, device);
        }
    }
}

#[test]
fn updates_give_what_pytorch_gives() {
    for device in DEVICES {
        check("state-update", "step", device);
    }
}

#[test]
fn convolutions_give_what_pytorch_gives() {
    for device in DEVICES {
        check("causal-conv1d", "conv-silu", device);
        check("causal-conv1d-update", "conv-update-circular", device);
    }
}
