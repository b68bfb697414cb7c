//! Wrong input: one clear line, the right exit status, nothing written.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::{fixture, temporary, warpwright};

/// Runs `run selective-scan` and expects a status and a part of the line.
#[track_caller]
fn refused(input: &str, arguments: &[&str], status: i32, part: &str) {
    let output = temporary("refused");
    let mut all = vec!["run", "selective-scan", "--input", input, "--output", &output];
    all.extend(arguments);
    let ran = warpwright(&all);
    let line = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(status), "{line}");
    assert!(line.contains(part), "expected `{part}` in: {line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(ran.stdout.is_empty());
    assert!(!Path::new(&output).exists(), "an output was left behind");
}

/// A tensor of zeros: its name, type and shape.
type Tensor<'a> = (&'a str, Dtype, &'a [usize]);

/// A copy of the first fixture with some tensors changed, under a name of its own.
fn changed(name: &str, tensors: &[Tensor<'_>]) -> String {
    let bytes = std::fs::read(fixture("scan-forward.in.safetensors")).expect("fixture");
    let file = SafeTensors::deserialize(&bytes).expect("whole");
    let zeros = vec![0u8; 1 << 20];
    let mut views: HashMap<String, TensorView<'_>> =
        file.iter().map(|(name, view)| (name.to_owned(), view)).collect();
    for (name, dtype, shape) in tensors {
        let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let view = TensorView::new(*dtype, shape.to_vec(), &zeros[..bytes]).expect("a view");
        views.insert((*name).to_owned(), view);
    }
    let path = temporary(name);
    let bytes = safetensors::serialize(views, None).expect("it can be written");
    std::fs::write(&path, bytes).expect("it can be written");
    path
}

#[test]
fn tensors() {
    use Dtype::{F32, F64, I64};
    let cases: [(&str, &[Tensor<'_>], &str); 7] = [
        ("shape", &[("delta", F32, &[2, 6, 36])], "tensor `delta`: expected shape (B, D, L)"),
        ("dtype", &[("z", F64, &[2, 6, 37])], "tensor `z`: expected elements f32, found f64"),
        (
            "groups",
            &[("B", F32, &[2, 4, 5, 37]), ("C", F32, &[2, 4, 5, 37])],
            "a number of groups G that divides D = 6",
        ),
        (
            "states",
            &[
                ("A", F32, &[6, 257]),
                ("B", F32, &[2, 2, 257, 37]),
                ("C", F32, &[2, 2, 257, 37]),
                ("h0", F32, &[2, 6, 257]),
            ],
            "at most 256",
        ),
        ("unknown", &[("gate", F32, &[2, 6, 37])], "tensor `gate`"),
        ("gradient", &[("dout", F32, &[2, 6, 36])], "tensor `dout`: expected shape"),
        ("indices", &[("u", I64, &[2, 6, 37])], "expected"),
    ];
    for (name, tensors, part) in cases {
        let input = changed(name, tensors);
        refused(&input, &["--device", "cpu"], 2, part);
        // A device that is not there comes after the tensors.
        refused(&input, &["--device", "wgpu:97"], 2, part);
        std::fs::remove_file(input).expect("it can be removed");
    }
}

#[test]
fn options_devices_and_variants() {
    let input = fixture("scan-forward.in.safetensors");
    refused(&input, &["--set", "softplus=true"], 2, "option `softplus`");
    refused(&input, &["--set", "layout"], 2, "expected KEY=VALUE, found layout");
    refused(&input, &["--set", "layout=LBD"], 2, "expected BDL or BLD, found LBD");
    refused(&input, &["--set", "delta_clamp=2,1"], 2, "min <= max");
    refused(&input, &["--device", "gpu"], 2, "found gpu");
    refused(&input, &["--device", "wgpu:one"], 2, "found wgpu:one");
    refused(&input, &["--device", "wgpu:97"], 3, "not available");
    refused(&input, &["--device", "ptx:1"], 2, "found ptx:1");
    refused(&input, &["--device", "cpu", "--variant", "fast"], 3, "variant `fast`");
    refused(&input, &["--device", "cpu", "--set", "complex=true"], 3, "complex");
    refused(&input, &["--frobnicate"], 2, "--frobnicate");
}

#[test]
fn files() {
    refused("no-such-file.safetensors", &[], 2, "no-such-file.safetensors");
    let whole = std::fs::read(fixture("scan-forward.in.safetensors")).expect("fixture");
    for length in [0, 7, 100, 2000, whole.len() - 1] {
        let path = temporary("truncated");
        std::fs::write(&path, &whole[..length]).expect("it can be written");
        refused(&path, &["--device", "cpu"], 2, "not a whole safetensors file");
        std::fs::remove_file(path).expect("it can be removed");
    }
}

#[test]
fn operations() {
    let ran = warpwright(&["run", "selective_scan", "--input", "x", "--output", "y"]);
    assert_eq!(ran.status.code(), Some(2));
    for command in [["verify", "scan"], ["bench", "scan"]] {
        let ran = warpwright(&command);
        let line = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(2), "{line}");
        assert!(line.contains("selective-scan") && line.contains("found scan"), "{line}");
    }
}

#[test]
fn an_output_that_cannot_be_written_leaves_nothing() {
    let input = fixture("scan-forward.in.safetensors");
    let output = "/no/such/folder/out.safetensors";
    let ran = warpwright(&[
        "run",
        "selective-scan",
        "--input",
        &input,
        "--output",
        output,
        "--device",
        "cpu",
    ]);
    assert_eq!(ran.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&ran.stderr).lines().count(), 1);
}
