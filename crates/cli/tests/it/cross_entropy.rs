//! Cross entropy on the case whose results another library has computed.

use crate::fixtures::{DEVICES, compare};
use crate::warpwright;

/// The tolerances of section 11 of the specification.
fn tolerance(device: &str, tensor: &str) -> f64 {
    match tensor {
        _ if device == "reference" => 1e-12,
        "loss" | "lse" => 2e-6,
        _ => 4e-6,
    }
}

#[test]
fn three_shards_give_what_pytorch_gives() {
    for device in DEVICES {
        let of = |tensor: &str, _: &[usize]| tolerance(device, tensor);
        compare("cross-entropy", "cross-entropy", device, of);
    }
}

#[test]
fn a_plan_tells_how_many_columns_are_there_at_once() {
    let shape = ["--shape", "T=8192,V=131072,E=4096", "--dtype", "bf16", "--device", "ptx"];
    let ran = warpwright(&[&["plan", "cross-entropy"], &shape[..]].concat());
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(told.contains("columns    8192 at once"), "{told}");
    let ran = warpwright(&["plan", "cross-entropy", "--shape", "T=5,V=9", "--set", "shards=0"]);
    assert_eq!(ran.status.code(), Some(2), "{}", String::from_utf8_lossy(&ran.stderr));
}
