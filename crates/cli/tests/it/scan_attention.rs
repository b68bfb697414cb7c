//! Scan attention on the case whose results another library has computed.

use safetensors::SafeTensors;

use crate::fixtures::numbers;
use crate::{fixture, temporary, warpwright};

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
    for device in ["reference", "cpu", "wgpu", "ptx"] {
        let input = fixture("aaren-carry.in.safetensors");
        let output = temporary(&format!("aaren-{device}"));
        let ran = warpwright(&[
            "run",
            "scan-attention",
            "--input",
            &input,
            "--output",
            &output,
            "--device",
            device,
        ]);
        let complaint = String::from_utf8_lossy(&ran.stderr).into_owned();
        if ran.status.code() == Some(3) && device == "wgpu" {
            eprintln!("skipped: {complaint}");
            continue;
        }
        assert!(ran.status.success(), "{device}: {complaint}");
        let found = std::fs::read(&output).expect("the output is there");
        std::fs::remove_file(&output).expect("it can be removed");
        let expected = std::fs::read(fixture("aaren-carry.out.safetensors")).expect("fixture");
        let found = SafeTensors::deserialize(&found).expect("the output is whole");
        let expected = SafeTensors::deserialize(&expected).expect("the fixture is whole");
        for (name, tensor) in expected.tensors() {
            let shape = found.tensor(&name).map(|found| found.shape().to_vec());
            assert_eq!(shape.ok().as_deref(), Some(tensor.shape()), "{name} on {device}");
            let (x, y) = (numbers(&found, &name), numbers(&expected, &name));
            let scale = y.iter().fold(f64::MIN_POSITIVE, |max, y| max.max(y.abs()));
            let worst = x.iter().zip(&y).fold(0f64, |max, (x, y)| max.max((x - y).abs())) / scale;
            let most = tolerance(device, &name);
            assert!(worst <= most, "{device}: {name} is off by {worst:.1e}");
        }
    }
}
