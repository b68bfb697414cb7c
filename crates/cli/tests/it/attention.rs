//! Attention and merges of its results on the cases whose results another library has computed.

use crate::fixtures::{DEVICES, compare};

/// The tolerances of section 11 of the specification.
fn tolerance(device: &str, tensor: &str) -> f64 {
    match tensor {
        _ if device == "reference" => 1e-12,
        "out" | "lse" => 2e-6,
        _ => 4e-6,
    }
}

#[test]
fn attention_gives_what_pytorch_gives() {
    for device in DEVICES {
        let of = |tensor: &str, _: &[usize]| tolerance(device, tensor);
        compare("attention", "attention-causal-gqa", device, of);
    }
}

#[test]
fn merges_give_what_pytorch_gives() {
    for device in DEVICES {
        let of = |tensor: &str, _: &[usize]| tolerance(device, tensor);
        compare("merge", "merge", device, of);
    }
}
