//! Layers become tensors and come back; what does not fit is named.

use fastrand::Rng;
use serde_json::json;

use super::*;
use crate::element::Element;
use crate::group_sparse::format::{Format, Mode, Pattern, ScaleScope};
use crate::tensor::Tensor;

const FORMAT: Format = Format {
    rows: 4,
    columns: 30,
    group: 8,
    bits: 4,
    mode: Mode::Asym,
    pattern: Pattern::Free,
    scope: ScaleScope::Group,
};

/// A layer `up` that has outliers and a permutation.
fn layer(format: Format) -> Layer {
    let mut rng = Rng::with_seed(5);
    loop {
        let matrix = random::of_format(&mut rng, format);
        let parts = matrix.parts();
        let has_outliers = parts.outliers.as_ref().is_some_and(|outliers| outliers.col.len() > 2);
        if has_outliers && parts.perm.is_some() && matrix.row(0).len() > 1 {
            return Layer::new("up", matrix, DType::F16);
        }
    }
}

fn view<T: Element>(values: &[T]) -> View<Cpu> {
    Tensor::from_vec(values.to_vec(), &[values.len()]).unwrap().into_view()
}

/// The message for a layer whose tensors, or header, were changed.
fn message(format: Format, change: impl FnOnce(&mut Header, &mut Named<Cpu>)) -> String {
    let layer = layer(format);
    let (mut header, mut named) = (layer.header(), layer.to_named().unwrap());
    assert_eq!(Layer::from_named("up", &header, &named).unwrap().matrix, layer.matrix);
    change(&mut header, &mut named);
    Layer::from_named("up", &header, &named).unwrap_err().to_string()
}

#[track_caller]
fn refused(expected: &str, change: impl FnOnce(&mut Header, &mut Named<Cpu>)) {
    let found = message(FORMAT, change);
    assert_eq!(found, format!("group-sparse: {expected}"));
}

fn put(named: &mut Named<Cpu>, tensor: &str, view: View<Cpu>) {
    named.insert(format!("up.gqsa.{tensor}"), view);
}

fn indices(named: &Named<Cpu>, tensor: &str) -> Vec<u32> {
    let view = &named[&format!("up.gqsa.{tensor}")];
    view.to_i64().unwrap().into_iter().map(|index| index as u32).collect()
}

#[test]
fn matrices_of_every_kind_come_back() {
    let mut rng = Rng::with_seed(1);
    for _ in 0..500 {
        let mut layer = Layer::new("a.b", random::matrix(&mut rng), DType::BF16);
        layer.bias = rng.bool().then(|| view(&vec![0.5f32; layer.matrix.format().rows]));
        layer.info.insert("report".to_owned(), json!({"rel_fro": 0.1, "rows": [1, 2]}));
        let said = metadata([("a.b", &layer.header())]);
        let header = &headers(&said.into()).unwrap()["a.b"];
        let named = layer.to_named().unwrap();
        let found = Layer::from_named("a.b", header, &named).unwrap();
        assert_eq!(found.matrix, layer.matrix);
        assert_eq!((found.source, &found.info), (layer.source, &layer.info));
        assert_eq!(found.bias.is_some(), layer.bias.is_some());
        let bytes: usize = named
            .iter()
            .filter(|(name, _)| name.contains(".gqsa."))
            .map(|(_, view)| view.to_bytes().unwrap().len())
            .sum();
        assert_eq!(bytes, layer.matrix.bytes(), "{:?}", layer.matrix.format());
    }
}

#[test]
fn a_compression_tells_its_options_and_its_report() {
    let weights: Vec<f32> = (0..4 * 32).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
    let weights = Tensor::from_vec(weights, &[4, 32]).unwrap();
    let options = compress::Options::default().with_group(8).with_sparsity(0.25);
    let nothing = compress::Calibration::none();
    let compressed = compress::compress("up.weight", &weights, &nothing, &options).unwrap();
    let report = compressed.report.clone();
    let layer = Layer::compressed("up", compressed, DType::F32, &options);
    assert_eq!(layer.info["options"]["group"], json!(8));
    assert_eq!(layer.info["options"]["sparsity"], json!(0.25));
    assert_eq!(layer.info["options"]["mode"], json!("sym"));
    assert_eq!(layer.info["report"]["rel_fro"], json!(report.rel_fro));
    assert_eq!(layer.info["report"]["pattern"], json!("free"));
    assert_eq!(layer.imbalance(), report.imbalance);
    let said = metadata([("up", &layer.header())]);
    assert_eq!(headers(&said.into()).unwrap()["up"], layer.header());
}

#[test]
fn columns_are_wide_where_there_are_many_groups() {
    let mut rng = Rng::with_seed(2);
    for (groups, expected) in [(65536, DType::U16), (65537, DType::U32)] {
        let (columns, pattern) = (8 * groups, Pattern::Uniform(1));
        let format = Format { rows: 2, columns, pattern, mode: Mode::Sym, ..FORMAT };
        let layer = Layer::new("up", random::of_format(&mut rng, format), DType::F16);
        let named = layer.to_named().unwrap();
        assert_eq!(named["up.gqsa.col_idx"].dtype(), expected);
        let found = Layer::from_named("up", &layer.header(), &named).unwrap();
        assert_eq!(found.matrix, layer.matrix);
    }
}

#[test]
fn signed_and_wide_indices_are_taken() {
    let layer = layer(FORMAT);
    let mut named = layer.to_named().unwrap();
    for tensor in ["row_ptr", "col_idx"] {
        let signed: Vec<i32> =
            indices(&named, tensor).into_iter().map(|index| index as i32).collect();
        put(&mut named, tensor, view(&signed));
    }
    let wide = indices(&named, "out_col");
    put(&mut named, "out_col", view(&wide));
    let found = Layer::from_named("up", &layer.header(), &named).unwrap();
    assert_eq!(found.matrix, layer.matrix);
    refused(
        "tensor `up.gqsa.col_idx`: expected numbers of at least 0, found -3 at index 1",
        |_, named| {
            let mut signed = vec![0i32; indices(named, "col_idx").len()];
            signed[1] = -3;
            put(named, "col_idx", view(&signed));
        },
    );
}

#[test]
fn tensors_must_be_there_and_known() {
    for tensor in ["row_ptr", "col_idx", "codes", "scales", "zeros", "out_row_ptr", "out_val"] {
        let expected = format!("tensor `up.gqsa.{tensor}`: expected this tensor, found none");
        refused(&expected, |_, named| {
            named.remove(&format!("up.gqsa.{tensor}"));
        });
    }
    let one = || view(&[1.0f32]);
    let found = message(FORMAT, |_, named| put(named, "scale", one()));
    assert!(found.contains("`up.gqsa.scale`: expected one of row_ptr"), "{found}");
    let found = message(FORMAT, |_, named| put(named, "row_scale", one()));
    assert!(found.contains("does not support scales in two levels"), "{found}");
    let expected = "tensor `up.gqsa.offsets`: expected no such tensor with asym, found one";
    refused(expected, |_, named| put(named, "offsets", one()));
    let dense = Format { pattern: Pattern::Dense, ..FORMAT };
    let found = message(dense, |_, named| put(named, "col_idx", view(&[0u16])));
    assert!(found.contains("`up.gqsa.col_idx`: expected no such tensor with dense"), "{found}");
}

#[test]
fn types_and_shapes_must_fit() {
    let expected = "tensor `up.gqsa.scales`: expected elements f16 or bf16 or f32, found f64";
    refused(expected, |header, named| put(named, "scales", view(&vec![1.0f64; header.kept])));
    let expected = "tensor `up.gqsa.row_ptr`: expected elements u32 or i32, found i64";
    refused(expected, |_, named| put(named, "row_ptr", view(&[0i64; 5])));
    let expected = "tensor `up.gqsa.row_ptr`: expected shape (N + 1) = (5), found shape (4)";
    refused(expected, |_, named| put(named, "row_ptr", view(&[0u32; 4])));
    let found = message(FORMAT, |header, named| {
        let codes = Tensor::from_vec(vec![0u8; 3 * header.kept], &[header.kept, 3]);
        put(named, "codes", codes.unwrap().into_view());
    });
    assert!(found.contains("`up.gqsa.codes`: expected shape (T, G b / 8) = ("), "{found}");
    let expected = "tensor `up.bias`: expected shape (N) = (4), found shape (3)";
    refused(expected, |_, named| {
        named.insert("up.bias".to_owned(), view(&[0.0f32; 3]));
    });
}

#[test]
fn values_must_keep_the_rules() {
    let found = message(FORMAT, |_, named| {
        let mut row_ptr = indices(named, "row_ptr");
        row_ptr[2] = 0;
        put(named, "row_ptr", view(&row_ptr));
    });
    let expected = "`up.gqsa.row_ptr`: expected row pointers that never descend, found row 1: 0";
    assert!(found.contains(expected), "{found}");
    let found = message(FORMAT, |header, _| header.kept += 1);
    assert!(found.contains("`up.gqsa.row_ptr`: expected nnz_groups = "), "{found}");
    for (column, told) in [(0, "row 0: 0 at index 1"), (4, "row 0: 4 at index 1")] {
        let found = message(FORMAT, |_, named| {
            let mut columns = indices(named, "col_idx");
            (columns[0], columns[1]) = (0, column);
            put(named, "col_idx", view(&columns));
        });
        let expected = "`up.gqsa.col_idx`: expected columns that ascend in every row, below 4";
        assert!(found.contains(expected) && found.ends_with(told), "{found}");
    }
    let expected = "tensor `up.gqsa.scales`: expected finite numbers, found NaN at index 1";
    refused(expected, |header, named| {
        let mut scales = vec![1.0f32; header.kept];
        scales[1] = f32::NAN;
        put(named, "scales", view(&scales));
    });
    let expected =
        "tensor `up.gqsa.perm`: expected each column from 0 to 29 once, found 0 at index 1";
    refused(expected, |_, named| put(named, "perm", view(&[0u32; 30])));
    let found = message(FORMAT, |header, named| {
        let codes = Tensor::from_vec(vec![0u8; 4 * header.kept], &[header.kept, 4]).unwrap();
        put(named, "codes", codes.into_view());
        put(named, "zeros", view(&vec![9u8; header.kept]));
    });
    let expected = "`up.gqsa.codes`: expected the zero code 9 behind column 29, found row";
    assert!(found.contains(expected), "{found}");
}
