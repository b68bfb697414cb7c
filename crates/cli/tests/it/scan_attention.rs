//! Scan attention on the case whose results another library has computed.

use crate::fixtures::{DEVICES, compare};

/// The tolerances of section 11 of the specification.
fn tolerance(device: &str, tensor: &str) -> f64 {
    let coarse = device == "wgpu";
    match tensor {
        _ if device == "reference" => 1e-12,
        "o" | "lse" => [2e-6, 1e-5][usize::from(coarse)],
        "dv" | "ds" => [5e-6, 2e-5][usize::from(coarse)],
        _ => [1e-5, 3e-5][usize::from(coarse)],
    }
}

#[test]
fn aaren_gives_what_pytorch_gives() {
    for device in DEVICES {
        let of = |tensor: &str, _: &[usize]| tolerance(device, tensor);
        compare("scan-attention", "aaren-carry", device, of);
    }
}
