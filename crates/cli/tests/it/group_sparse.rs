//! Compressed layers: products, and the commands for their files.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::fixtures::{DEVICES, compare, numbers};
use crate::{fixture, temporary, warpwright};

const W4: &str = "group-sparse-w4.in.safetensors";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The output of a command that succeeds.
fn told(arguments: &[&str]) -> String {
    let ran = warpwright(arguments);
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    text(&ran.stdout)
}

/// Expects a status and a part of the line, and no output.
#[track_caller]
fn refused(arguments: &[&str], status: i32, part: &str) {
    let output = temporary("refused");
    let ran = warpwright(&[arguments, &["-o", &output]].concat());
    let line = text(&ran.stderr);
    assert_eq!(ran.status.code(), Some(status), "{line}");
    assert!(line.contains(part), "expected `{part}` in: {line}");
    assert_eq!(line.trim_end().lines().count(), 1, "{line}");
    assert!(!Path::new(&output).exists(), "an output was left behind");
}

#[test]
fn products_give_what_another_library_gives() {
    for device in DEVICES.into_iter().filter(|device| has(device)) {
        let tolerance = if device == "reference" { 1e-14 } else { 2e-6 };
        compare("group-sparse", "group-sparse-w4", device, |_, _| tolerance);
    }
}

/// Whether the command was built with the device's backend.
fn has(device: &str) -> bool {
    match device {
        "wgpu" => cfg!(feature = "wgpu"),
        "ptx" => cfg!(feature = "interpreter"),
        _ => true,
    }
}

#[test]
fn options_of_products_are_looked_at() {
    let (input, output) = (fixture(W4), temporary("product"));
    let run = |set: &str| {
        let files = ["run", "group-sparse", "--input", &input, "--output", &output];
        let ran = warpwright(&[&files[..], &["--device", "cpu", "--set", set]].concat());
        (ran.status.code(), text(&ran.stderr))
    };
    for set in ["layer=layer", "scheme=task-centric", "scheme=data-centric", "workers=7"] {
        assert_eq!(run(set), (Some(0), String::new()), "{set}");
        std::fs::remove_file(&output).expect("it can be removed");
    }
    for (set, part) in [
        ("layer=up", "option `layer`: expected layer, found up"),
        ("scheme=fast", "expected task-centric or data-centric, found fast"),
        ("groups=3", "option `groups`: expected one of layer scheme workers"),
    ] {
        let (status, line) = run(set);
        assert_eq!(status, Some(2), "{line}");
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn a_plan_is_explained() {
    let plan = told(&["plan", "group-sparse", "--shape", "N=4096,K=4096,S=50", "--device", "cpu"]);
    assert!(plan.contains("group_sparse_cpu") && plan.contains("because"), "{plan}");
}

#[test]
fn layers_are_shown() {
    let input = fixture(W4);
    let shown = told(&["inspect", &input]);
    for part in ["asym", "free", "24", "80", "1 layer, 1920 weights of ", "2 other tensors"] {
        assert!(shown.contains(part), "expected {part} in {shown}");
    }
    let svg = temporary("layers.svg");
    told(&["inspect", &input, "--svg", &svg]);
    let picture = std::fs::read_to_string(&svg).expect("written");
    std::fs::remove_file(&svg).expect("it can be removed");
    assert!(picture.starts_with("<?xml") && picture.contains("class=\"kept\""), "{picture}");
    assert!(picture.trim_end().ends_with("</svg>"), "{picture}");
}

#[test]
fn decompressed_layers_multiply_as_the_compressed_ones() {
    let (input, output) = (fixture(W4), temporary("dense.safetensors"));
    for (arguments, dtype) in [
        (&["--dtype", "f32"][..], Dtype::F32),
        (&["--dtype", "bf16"], Dtype::BF16),
        (&[], Dtype::F16),
    ] {
        let said = told(&[&["decompress", &input, "-o", &output], arguments].concat());
        assert!(said.contains("1 layer decompressed"), "{said}");
        let bytes = std::fs::read(&output).expect("written");
        std::fs::remove_file(&output).expect("it can be removed");
        let file = SafeTensors::deserialize(&bytes).expect("whole");
        assert_eq!(file.names().len(), 3, "layer.bias, layer.weight and x");
        let weight = file.tensor("layer.weight").expect("it is there");
        assert_eq!((weight.dtype(), weight.shape()), (dtype, &[24, 80][..]));
        if dtype != Dtype::F32 {
            continue;
        }
        let (weight, x) = (numbers(&file, "layer.weight"), numbers(&file, "x"));
        let bias = numbers(&file, "layer.bias");
        let expected = std::fs::read(fixture("group-sparse-w4.out.safetensors")).expect("fixture");
        let expected = SafeTensors::deserialize(&expected).expect("whole");
        for (row, y) in numbers(&expected, "y").into_iter().enumerate() {
            let products = weight[row * 80..(row + 1) * 80].iter().zip(&x).map(|(w, x)| w * x);
            let found = products.sum::<f64>() + bias[row];
            assert!((found - y).abs() < 1e-5, "row {row}: {found} instead of {y}");
        }
    }
}

#[test]
fn wrong_files_are_refused_in_one_line() {
    let whole = std::fs::read(fixture(W4)).expect("fixture");
    let broken = temporary("broken.safetensors");
    let write = |bytes: &[u8]| std::fs::write(&broken, bytes).expect("it can be written");
    write(&whole[..whole.len() - 1]);
    refused(&["decompress", &broken], 2, "not a whole safetensors file");
    // The last row pointer, and the version, of which the first digit is a known one.
    let header = u64::from_le_bytes(whole[..8].try_into().expect("8")) as usize;
    let end = 8 + header + 416 + 100;
    let mut changed = whole.clone();
    changed[end - 4] += 1;
    write(&changed);
    refused(&["decompress", &broken], 2, "tensor `layer.gqsa.row_ptr`: expected nnz_groups = 54");
    let text = String::from_utf8(whole[8..8 + header].to_vec()).expect("text");
    let version = r#""gqsa.version":"#;
    let at = 8 + text.find(version).expect("it is there") + version.len();
    let mut changed = whole.clone();
    let digit = changed[at..].iter().position(|&byte| byte == b'1').expect("1");
    changed[at + digit] = b'2';
    write(&changed);
    refused(&["decompress", &broken], 2, "option `gqsa.version`: expected 1, found 2");
    std::fs::remove_file(&broken).expect("it can be removed");
    refused(&["decompress", "nowhere.safetensors"], 2, "nowhere.safetensors");
    let other = fixture("spgemm-small.in.safetensors");
    refused(&["decompress", &other], 2, "expected compressed layers");
    refused(&["decompress", &other, "--dtype", "f64"], 2, "expected f32, f16 or bf16");
}
