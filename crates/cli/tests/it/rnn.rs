//! Recurrent cells on cases whose results another library has computed.

use crate::fixtures::{DEVICES, compare};

/// The tolerances of section 13 of the specification, of the largest value.
fn tolerance(device: &str, tensor: &str) -> f64 {
    match tensor {
        _ if device == "reference" => 1e-12,
        "h" | "last_h" | "last_c" | "last_n" | "last_m" => 1e-5,
        _ => 2e-5,
    }
}

#[test]
fn cells_give_what_pytorch_gives() {
    for case in ["rnn-lstm", "rnn-slstm"] {
        for device in DEVICES {
            compare("rnn", case, device, |tensor, _| tolerance(device, tensor));
        }
    }
}
