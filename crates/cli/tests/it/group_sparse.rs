//! Compressed layers: products, and the commands for their files.

use std::path::Path;

use safetensors::tensor::TensorView;
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

fn remove(paths: &[String]) {
    paths.iter().for_each(|path| std::fs::remove_file(path).expect("it can be removed"));
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
    let is_built = |device: &&str| *device != "ptx" || cfg!(feature = "interpreter");
    for device in DEVICES.into_iter().filter(is_built) {
        let tolerance = if device == "reference" { 1e-14 } else { 2e-6 };
        compare("group-sparse", "group-sparse-w4", device, |_, _| tolerance);
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

/// A file of f32 tensors with these names and shapes, whose elements look random.
fn dense(name: &str, tensors: &[(&str, &[usize])]) -> String {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(name, shape)| {
            let element = |i: usize| ((i * 7919 + name.len() * 31) % 1009) as f32 / 504.5 - 1.0;
            (0..shape.iter().product()).flat_map(|i| element(i).to_le_bytes()).collect()
        })
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape), bytes)| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes).expect("a view");
        ((*name).to_owned(), view)
    });
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let path = temporary(name);
    let bytes = safetensors::serialize(views, Some(metadata)).expect("it can be written");
    std::fs::write(&path, bytes).expect("it can be written");
    path
}

/// Two layers, an embedding, and tensors that are no weights of layers.
const MODEL: [(&str, &[usize]); 5] = [
    ("embed.weight", &[20, 64]),
    ("m.0.up.bias", &[12]),
    ("m.0.up.weight", &[12, 64]),
    ("m.1.down.weight", &[9, 41]),
    ("norm.weight", &[64]),
];

#[test]
fn models_are_compressed_and_come_back() {
    let input = dense("model.safetensors", &MODEL);
    let (small, again) = (temporary("small.safetensors"), temporary("again.safetensors"));
    let options = ["--bits", "8", "--group", "8", "--mode", "asym", "--exclude", "embed*"];
    let told_of = |output: &str| {
        told(
            &[&["compress", &input, "-o", output, "--set", "row_quantum=2"], &options[..]].concat(),
        )
    };
    let said = told_of(&small);
    for part in ["m.0.up", "m.1.down", "asym", "2 layers, 1137 weights of "] {
        assert!(said.contains(part), "expected {part} in {said}");
    }
    assert!(!said.contains("embed"), "{said}");
    told_of(&again);
    let (bytes, others) = (std::fs::read(&small), std::fs::read(&again));
    let bytes = bytes.expect("written");
    assert!(bytes == others.expect("written"), "equal input gives equal bytes");
    let file = SafeTensors::deserialize(&bytes).expect("whole");
    assert!(file.tensor("m.0.up.weight").is_err() && file.tensor("m.0.up.gqsa.codes").is_ok());
    told(&["decompress", &small, "-o", &again]);
    let (before, after) = (std::fs::read(&input), std::fs::read(&again));
    let (before, after) = (before.expect("there"), after.expect("written"));
    let before = SafeTensors::deserialize(&before).expect("whole");
    let after = SafeTensors::deserialize(&after).expect("whole");
    assert_eq!(after.names().len(), MODEL.len());
    for (name, shape) in MODEL {
        let (found, right) =
            (after.tensor(name).expect("there"), before.tensor(name).expect("there"));
        assert_eq!((found.dtype(), found.shape()), (Dtype::F32, shape));
        if !name.starts_with("m.") || name.ends_with("bias") {
            assert_eq!(found.data(), right.data(), "{name} is copied");
        }
        for (x, y) in numbers(&after, name).into_iter().zip(numbers(&before, name)) {
            assert!((x - y).abs() < 0.005, "{name}: {x} instead of {y}");
        }
    }
    remove(&[input, small, again]);
}

#[test]
fn a_calibration_weighs_the_error() {
    let input = dense("calibrated.safetensors", &MODEL);
    let inputs = dense("inputs.safetensors", &[("m.0.up", &[70, 64]), ("m.1.down", &[70, 41])]);
    let output = temporary("calibrated-small.safetensors");
    let files = ["compress", &input, "-o", &output, "--calibration", &inputs, "--include", "m.*"];
    let options = ["--sparsity", "0.5", "--group", "8", "--refit-weights", "--outliers", "1.5"];
    told(&[&files[..], &options].concat());
    let bytes = std::fs::read(&output).expect("written");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("whole");
    let metadata = header.metadata().clone().expect("there is some");
    assert_eq!(metadata["format"], "pt");
    let layers: serde_json::Value = serde_json::from_str(&metadata["gqsa.layers"]).expect("JSON");
    let layer = &layers["m.1.down"];
    assert_eq!((&layer["n"], &layer["k"], &layer["group"]), (&9.into(), &41.into(), &8.into()));
    assert!(layer["outliers"].as_u64().expect("a count") > 0, "{layer}");
    assert!(layer["report"]["weighted_rel"].as_f64().expect("told") < 1.0, "{layer}");
    assert_eq!(layer["options"]["refit_weights"], true);
    let shown = told(&["inspect", &output]);
    assert!(shown.contains("50.0 %") && !shown.contains(" - "), "{shown}");
    remove(&[input, inputs, output]);
}

#[test]
fn what_cannot_be_compressed_is_refused() {
    let input = dense("refused-model.safetensors", &MODEL);
    let inputs = dense("refused-inputs.safetensors", &[("m.0.up", &[7, 63])]);
    refused(
        &["compress", &input, "--bits", "5"],
        2,
        "option `bits`: expected 2, 3, 4 or 8, found 5",
    );
    refused(&["compress", &input, "--set", "rows=5"], 2, "option `rows`: expected one of");
    refused(&["compress", &input, "--include", "mlp.*"], 2, "expected a tensor NAME.weight");
    let calibrated = ["compress", &input, "--calibration", &inputs, "--include"];
    let part = "tensor `m.1.down`: expected inputs of every layer, found none";
    refused(&[&calibrated[..], &["*.down.*"]].concat(), 2, part);
    refused(&[&calibrated[..], &["*.up.*"]].concat(), 2, "64");
    refused(&["compress", &input, "--refit-weights"], 2, "--calibration");
    remove(&[input, inputs]);
}
