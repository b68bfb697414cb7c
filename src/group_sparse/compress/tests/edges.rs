//! Weights, and calibrations, at the ends of what there is.

use half::{bf16, f16};

use super::*;
use crate::group_sparse::format::{Mode, ScaleScope};

#[test]
fn weights_that_are_no_numbers_are_named() {
    let mut w = weights(3, 20, 3);
    (w[27], w[44]) = (f32::INFINITY, f32::NAN);
    assert_eq!(
        message(&w, 3, &rtn()),
        "group-sparse: tensor `w`: expected finite weights, found inf at row 1, column 7; 2 such \
         weights in all"
    );
}

#[test]
fn other_tensors_are_refused() {
    let none = Calibration::none();
    let refused =
        |weight: &View<Cpu>| compress("w", weight, &none, &rtn()).unwrap_err().to_string();
    assert!(refused(&view(&[1.0f32; 8], &[8])).contains("expected two axes, (N, K)"));
    assert!(refused(&view(&[1.0f64; 8], &[1, 8])).contains("expected elements f32, f16 or bf16"));
    assert!(refused(&view(&[0.0f32; 0], &[0, 8])).contains("option `n`"));
}

#[test]
fn a_view_may_have_any_strides() {
    let w = weights(16, 24, 4);
    let turned = view(&w, &[16, 24]).transposed(0, 1).unwrap();
    let copied: Vec<f32> = (0..24 * 16).map(|i| w[i % 16 * 24 + i / 16]).collect();
    let right = compressed(&copied, 24, &Options::default()).matrix;
    let found = compress("w", &turned, &Calibration::none(), &Options::default()).unwrap();
    assert_eq!(found.matrix, right);
}

#[test]
fn types_of_weights_settle_those_of_scales() {
    let w = weights(2, 32, 5);
    let halves: Vec<f16> = w.iter().map(|&w| f16::from_f32(w)).collect();
    let brains: Vec<bf16> = w.iter().map(|&w| bf16::from_f32(w)).collect();
    let none = Calibration::none();
    let of = |weight: View<Cpu>| compress("w", &weight, &none, &rtn()).unwrap().report.scale_dtype;
    assert_eq!(of(view(&w, &[2, 32])), "f32");
    assert_eq!(of(view(&halves, &[2, 32])), "f16");
    assert_eq!(of(view(&brains, &[2, 32])), "bf16");
}

#[test]
fn zeros_get_scale_1_and_the_zero_code() {
    for mode in Mode::ALL {
        for scope in [ScaleScope::Group, ScaleScope::Row] {
            let options = Options::default().with_group(8).with_mode(mode).with_scale_scope(scope);
            let Compressed { matrix, report, .. } = compressed(&[0.0; 20], 2, &options);
            assert!(matrix.parts().scales.iter().all(|s| s == 1.0), "{mode}, scale per {scope}");
            assert!(represented(&matrix).iter().all(|&w| w == 0.0), "{mode}, scale per {scope}");
            assert_eq!((report.rel_fro, report.sqnr_db), (0.0, None));
            assert_eq!(report.zero_groups, 4);
            assert!(report.fields().iter().all(|(_, value)| *value != Value::Real(f64::NAN)));
        }
    }
    let pruned = compressed(&[0.0; 20], 2, &rtn().with_sparsity(0.5)).matrix;
    assert_eq!(pruned.kept(), 0, "groups of zeros go first");
}

#[test]
fn constant_groups_are_met() {
    for constant in [3.7f32, -3.7, 1e-39, -1e-39, 1e30] {
        for mode in Mode::ALL {
            for range in [Range::Rtn, Range::Search] {
                let options = rtn().with_mode(mode).with_range(range);
                let found = represented(&compressed(&[constant; 8], 1, &options).matrix);
                let constant = f64::from(constant);
                // A scale below 2^-126 counts as zero; an offset needs none.
                let is_lost = constant.abs() < 1e-38 && mode != Mode::Affine;
                let right = if is_lost { 0.0 } else { constant };
                let error = (found[0] - right).abs() / constant.abs();
                assert!(error < 1e-7, "{mode}, {range}: {} for {constant}", found[0]);
            }
        }
    }
    let affine = compressed(&[9999.3; 8], 1, &rtn().with_mode(Mode::Affine)).matrix;
    assert_eq!((affine.parts().scales.get(0), affine.code(0, 0)), (1.0, 0));
}

#[test]
fn weights_too_small_for_a_scale_count_as_zero() {
    let mut w = vec![1e-39f32; 8];
    w.extend([1.0; 8]);
    let Compressed { matrix, report, .. } = compressed(&w, 1, &rtn().with_sparsity(0.5));
    assert_eq!(matrix.column_group(0), 1);
    assert_eq!((report.zero_groups, report.underflowed_groups), (1, 1));
    let dense = compressed(&w, 1, &rtn());
    assert_eq!(dense.matrix.parts().scales.get(0), 1.0);
    let options = rtn().with_scale_scope(ScaleScope::Row);
    let report = compressed(&[1e-39; 16], 1, &options).report;
    assert_eq!((report.zero_groups, report.underflowed_groups), (2, 2), "with a scale per row");
}

#[test]
fn scales_beyond_f16_are_promoted_or_denied() {
    for (size, text) in [(1e-30f32, "-1.25e-31"), (1e30, "-1.25e29")] {
        let mut w = weights(2, 16, 6);
        w[24..].copy_from_slice(&[size, -size / 2.0, size / 4.0, 0.0, 0.0, 0.0, 0.0, size / 8.0]);
        for mode in Mode::ALL {
            let options =
                Options::default().with_group(8).with_mode(mode).with_scale_dtype(DType::F16);
            let Compressed { matrix, report, .. } = compressed(&w, 2, &options);
            assert_eq!(
                (report.scale_dtype, report.scale_promoted),
                ("f32", true),
                "{mode}, {size}"
            );
            let found = represented(&matrix);
            assert!((found[24] / f64::from(size) - 1.0).abs() < 0.1, "{mode}: {}", found[24]);
            let error = message(&w, 2, &options.with_scale_promote(Promote::Deny));
            assert!(error.contains("in row 1, group 1"), "{mode}: {error}");
            assert!(mode != Mode::Sym || error.contains(text), "{error} without {text}");
        }
        let report = compressed(&w, 2, &rtn().with_scale_dtype(DType::BF16)).report;
        assert_eq!((report.scale_dtype, report.scale_promoted), ("bf16", false));
    }
    // The span is in order, but the offset is not.
    let w: Vec<f32> = (0..8).map(|i| 1e6 + i as f32).collect();
    let options = rtn().with_mode(Mode::Affine).with_scale_dtype(DType::F16);
    assert!(compressed(&w, 1, &options).report.scale_promoted, "an offset of 1e6");
}

#[test]
fn huge_weights_stay_finite() {
    let w = [3e38f32, -3e38, 1e38, 2e38, -1e38, 0.0, 1.0, -2e38];
    for mode in Mode::ALL {
        let report = compressed(&w, 1, &Options::default().with_group(8).with_mode(mode)).report;
        // In f32 w - m is infinite for some of them: they get the highest code.
        let most = if mode == Mode::Affine { 0.2 } else { 0.1 };
        assert!(report.rel_fro < most, "{mode}: {}", report.rel_fro);
    }
}

#[test]
fn widths_that_are_no_multiple_of_the_group() {
    for columns in [1, 7, 15, 16, 17, 31, 33] {
        for mode in Mode::ALL {
            let w: Vec<f32> = weights(3, columns, 7).iter().map(|w| w + 5.0).collect();
            let options = Options::default().with_bits(8).with_mode(mode);
            // `Matrix::new` has looked at the codes behind the last column.
            let Compressed { matrix, report, .. } = compressed(&w, 3, &options);
            assert_eq!(matrix.kept(), 3 * columns.div_ceil(16));
            assert!(report.rel_fro < 0.01, "K = {columns}, {mode}: {}", report.rel_fro);
        }
    }
}

#[test]
fn wide_rows_have_wide_indices() {
    for groups in [65536u64, 65537] {
        let w = vec![1.0f32; groups as usize * 8];
        let report = compressed(&w, 1, &rtn().with_sparsity(0.5)).report;
        let wide = if groups > 65536 { 4 } else { 2 };
        assert_eq!(report.bytes_col_idx, wide * report.nnz_groups, "KG = {groups}");
    }
}

#[test]
fn calibrations_are_looked_at() {
    let text = |result: Result<Calibration>| result.unwrap_err().to_string();
    assert!(text(Calibration::diagonal(vec![1.0, -2.0])).contains("found -2 at index 1"));
    assert!(text(Calibration::diagonal(vec![f64::NAN])).contains("found NaN at index 0"));
    assert!(text(Calibration::diagonal(vec![0.0; 3])).contains("found 0 at all of 3"));
    assert!(text(Calibration::hessian(2, vec![1.0; 3])).contains("tensor `H`: expected K²"));
    let skewed = Calibration::hessian(2, vec![1.0, 0.5, 0.4, 1.0]);
    assert!(text(skewed).contains("0.5 at row 0, column 1, and 0.4"));
    let infinite = Calibration::hessian(2, vec![1.0, f64::INFINITY, 0.4, 1.0]);
    assert!(text(infinite).contains("found inf at row 0, column 1"));
    assert!(Calibration::hessian(2, vec![1.0, 0.5, 0.5 + 1e-8, 1.0]).is_ok());

    let mut calibration = Calibration::new(2);
    let mut add = |x: View<Cpu>| calibration.add(&x).unwrap_err().to_string();
    assert!(add(view(&[1.0f32; 3], &[1, 3])).contains("shape (samples, K) with K = 2"));
    assert!(add(view(&[1u32; 2], &[1, 2])).contains("of a float type"));
    let error = add(view(&[1.0f32, 2.0, f32::NAN, f32::INFINITY], &[2, 2]));
    assert!(error.contains("NaN at row 1, column 0; 2 such inputs in all"), "{error}");
    let weight = view(&[1.0f32; 16], &[1, 16]);
    let refused = |calibration: &Calibration| {
        compress("w", &weight, calibration, &rtn()).unwrap_err().to_string()
    };
    let error = refused(&calibration);
    assert!(error.contains("tensor `x`: expected K = 16") && error.contains("K = 2"), "{error}");
    assert!(refused(&Calibration::new(16)).contains("at least one sample"));
    let mut zeros = Calibration::full(16).unwrap();
    zeros.add(&view(&[0.0f32; 32], &[2, 16])).unwrap();
    assert!(refused(&zeros).contains("a column whose mean square is above 0"));
    assert!(matches!(Calibration::full(usize::MAX), Err(Error::OutOfMemory { .. })));
    let mut given = Calibration::diagonal(vec![1.0]).unwrap();
    assert!(given.add(&view(&[1.0f32], &[1, 1])).is_err());
}

#[test]
fn batches_add_up_to_the_same_bits() {
    let x = weights(11, 6, 8);
    for full in [false, true] {
        let of = |parts: &[usize]| {
            let mut all = if full { Calibration::full(6).unwrap() } else { Calibration::new(6) };
            let mut first = 0;
            for rows in parts {
                all.add(&view(&x[first * 6..(first + rows) * 6], &[*rows, 6])).unwrap();
                first += rows;
            }
            all.h().unwrap()
        };
        assert_eq!(of(&[11]), of(&[1, 6, 4]), "full: {full}");
        let naive: f64 = (0..11).map(|i| f64::from(x[6 * i + 2]).powi(2)).sum::<f64>() / 11.0;
        close(of(&[11])[2], naive, "h_2");
    }
}
