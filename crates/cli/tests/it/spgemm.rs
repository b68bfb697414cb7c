//! Products and triangles by the command.

use safetensors::{SafeTensors, tensor::TensorView};

use crate::fixtures::numbers;
use crate::{fixture, root, temporary, warpwright};

fn graph(name: &str) -> String {
    root().join("examples/data").join(name).display().to_string()
}

fn places(tensor: &TensorView<'_>) -> Vec<i64> {
    match tensor.dtype() {
        safetensors::Dtype::I64 => tensor
            .data()
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes(b.try_into().expect("8")))
            .collect(),
        _ => {
            let words = tensor.data().chunks_exact(4);
            words.map(|b| i64::from(u32::from_le_bytes(b.try_into().expect("4")))).collect()
        }
    }
}

#[test]
fn products_agree_with_another_library() {
    for (device, tolerance) in [("reference", 1e-14), ("cpu", 1e-6)] {
        let output = temporary(&format!("spgemm-small-{device}"));
        let input = fixture("spgemm-small.in.safetensors");
        let ran = warpwright(&[
            "run", "spgemm", "--input", &input, "--output", &output, "--device", device,
        ]);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let (found, expected) =
            (std::fs::read(&output), std::fs::read(fixture("spgemm-small.out.safetensors")));
        let (found, expected) = (found.expect("written"), expected.expect("fixture"));
        std::fs::remove_file(&output).expect("it can be removed");
        let (_, header) = SafeTensors::read_metadata(&found).expect("whole");
        let shape = header.metadata().as_ref().and_then(|metadata| metadata.get("c_shape"));
        assert_eq!(shape.map(String::as_str), Some("13,11"));
        let found = SafeTensors::deserialize(&found).expect("whole");
        let expected = SafeTensors::deserialize(&expected).expect("whole");
        for name in ["c_row_ptr", "c_col"] {
            let [found, expected] =
                [&found, &expected].map(|file| places(&file.tensor(name).expect("it is there")));
            assert_eq!(found, expected, "{name} on {device}");
        }
        let (found, expected) = (numbers(&found, "c_val"), numbers(&expected, "c_val"));
        for (i, (x, y)) in found.iter().zip(&expected).enumerate() {
            assert!((x - y).abs() <= tolerance, "c_val {i} on {device}: {x}, expected {y}");
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn files_are_multiplied_and_written_whole() {
    let (graph, output) = (graph("karate.mtx"), temporary("square.mtx"));
    let ran = warpwright(&[
        "spgemm",
        &graph,
        &graph,
        "-o",
        &output,
        "--semiring",
        "plus-pair",
        "--device",
        "cpu",
    ]);
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    assert!(text(&ran.stdout).contains("products, "), "{}", text(&ran.stdout));
    let written = std::fs::read_to_string(&output).expect("written");
    std::fs::remove_file(&output).expect("it can be removed");
    assert!(written.starts_with("%%MatrixMarket matrix coordinate integer general\n34 34 "));
    // The first vertex has 16 neighbours.
    assert!(written.contains("\n1 1 16\n"), "{written}");
}

#[test]
fn triangles_are_counted() {
    let ran = warpwright(&["triangles", &graph("karate.mtx"), "--device", "cpu"]);
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    let said = text(&ran.stdout);
    for expected in ["triangles        45", "edges            78", "mean clustering  0.5706"] {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn wrong_files_are_refused_in_one_line() {
    let output = temporary("refused.mtx");
    let (karate, lesmis) = (graph("karate.mtx"), graph("lesmis.mtx"));
    let no_graph = fixture("spgemm-small.in.safetensors");
    for (first, second, expected) in [
        (&karate, &lesmis, "expected 34 rows, as A has columns, found 77 x 77"),
        (&no_graph, &karate, "Matrix Market, line 1"),
        (&"nowhere.mtx".to_owned(), &karate, "nowhere.mtx"),
    ] {
        let ran = warpwright(&["spgemm", first, second, "-o", &output, "--device", "cpu"]);
        let complaint = text(&ran.stderr);
        assert_eq!(ran.status.code(), Some(2), "{complaint}");
        assert!(complaint.contains(expected), "{complaint}");
        assert_eq!(complaint.trim_end().lines().count(), 1, "{complaint}");
        assert!(!std::path::Path::new(&output).exists());
    }
}
