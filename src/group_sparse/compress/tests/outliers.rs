//! Elements that are stored apart.

use half::f16;

use super::*;
use crate::group_sparse::format::{Floats, Mode};

fn rule(n_sigma: f64, max_fraction: f64) -> OutlierRule {
    OutlierRule { n_sigma, max_fraction, scope: Scope::Tensor }
}

fn columns(matrix: &Matrix) -> Vec<Vec<usize>> {
    let of_row = |row| matrix.outliers(row).map(|(column, _)| column).collect();
    (0..matrix.format().rows).map(of_row).collect()
}

#[test]
fn far_elements_are_exact_and_out_of_ranges() {
    let mut w = weights(4, 64, 10);
    (w[10], w[200]) = (40.0, -50.0);
    for mode in Mode::ALL {
        let options = rtn().with_mode(mode).with_outliers(rule(6.0, 1.0));
        let Compressed { matrix, report, .. } = compressed(&w, 4, &options);
        assert_eq!(columns(&matrix), [vec![10], vec![], vec![], vec![8]], "{mode}");
        let found = represented(&matrix);
        assert!((found[10] - 40.0).abs() < 1e-5 && (found[200] + 50.0).abs() < 1e-5, "{mode}");
        let plain = compressed(&w, 4, &rtn().with_mode(mode)).report;
        assert!(report.max_abs_err < 0.2 * plain.max_abs_err, "{mode}: ranges are narrower");
        assert_eq!((report.outliers, report.outlier_cap_hit), (2, false));
        let mean = w.iter().map(|&w| f64::from(w)).sum::<f64>() / 256.0;
        let square: f64 = w.iter().map(|&w| (f64::from(w) - mean).powi(2)).sum();
        close(report.outlier_mu.unwrap(), mean, "mu");
        close(report.outlier_sigma.unwrap(), (square / 256.0).sqrt(), "sigma");
        if mode != Mode::Affine {
            let (column, value) = matrix.outliers(0).next().unwrap();
            assert_eq!((column, value), (10, 40.0), "with the zero code nothing is decoded there");
        }
    }
}

#[test]
fn an_affine_outlier_has_the_code_nearest_to_0() {
    // Numbers -2 -1 0 … 13 for the codes; without 0 among them: 0.5 and -0.5 are as near.
    let mut w = [[-2.0f32; 8], [13.0; 8]].concat();
    w[3] = 100.0;
    let options = Options::default().with_range(Range::Rtn).with_mode(Mode::Affine);
    let options = options.with_outliers(rule(3.0, 1.0));
    let matrix = compressed(&w, 1, &options).matrix;
    assert_eq!((matrix.code(0, 3), matrix.outliers(0).next()), (2, Some((3, 100.0))));
    w.iter_mut().for_each(|w| *w -= 0.5);
    let matrix = compressed(&w, 1, &options).matrix;
    assert_eq!(matrix.code(0, 3), 2, "-2.5 + 2 is as near as -2.5 + 3, and lower");
    assert_eq!(matrix.outliers(0).next(), Some((3, 100.0)), "99.5 + 0.5");
}

#[test]
fn the_cap_keeps_the_farthest_and_of_equals_the_first() {
    // Mean 0; 8 elements of ±4 among 64 zeros and ones.
    let mut w = [0.0f32; 64];
    for (i, at) in [1, 9, 17, 25, 33, 41, 49, 57].into_iter().enumerate() {
        w[at] = if i % 2 == 0 { 4.0 } else { -4.0 };
    }
    w[33] = 5.0;
    w[41] = -5.0;
    let found = compressed(&w, 2, &rtn().with_outliers(rule(2.0, 4.0 / 64.0)));
    assert_eq!(columns(&found.matrix), [vec![1, 9], vec![1, 9]], "5, -5, and the first two of ±4");
    assert!(found.report.outlier_cap_hit);
    assert_eq!(found.report.outliers, 4);
    let none = compressed(&w, 2, &rtn().with_outliers(rule(2.0, 0.0)));
    assert_eq!((none.report.outliers, none.report.outlier_cap_hit), (0, true));
}

#[test]
fn an_outlier_may_lie_in_a_pruned_group() {
    let mut w = [[1.0f32; 8], [0.01; 8], [-1.0; 8], [0.01; 8]].concat();
    w[12] = 30.0;
    let options = rtn().with_sparsity(0.5).with_outliers(rule(4.0, 1.0));
    let Compressed { matrix, report, .. } = compressed(&w, 1, &options);
    assert_eq!(
        (matrix.column_group(0), matrix.column_group(1)),
        (0, 2),
        "without it group 1 is small"
    );
    assert_eq!(matrix.outliers(0).collect::<Vec<_>>(), [(12, 30.0)]);
    assert_eq!(report.rel_fro_outliers, 0.0);
}

#[test]
fn every_element_may_be_an_outlier() {
    let w = [[1.0f32, -1.0], [2.0, -2.0]].concat().repeat(4);
    let by_row = OutlierRule { n_sigma: 0.1, max_fraction: 1.0, scope: Scope::Row };
    for mode in Mode::ALL {
        for sparsity in [0.0, 0.5] {
            let options = rtn().with_mode(mode).with_sparsity(sparsity).with_outliers(by_row);
            let Compressed { matrix, report, .. } = compressed(&w, 2, &options);
            assert_eq!(report.outliers, 16, "{mode}");
            assert_eq!(matrix.kept(), if sparsity > 0.0 { 0 } else { 2 }, "groups of nothing");
            assert_eq!((report.rel_fro, report.outlier_mu), (0.0, None), "{mode}");
        }
    }
    let equal = compressed(&[1.0; 16], 2, &rtn().with_outliers(by_row)).report;
    assert_eq!(equal.outliers, 0, "equal elements are not far from their mean");
}

#[test]
fn outliers_beyond_f16_are_promoted_or_denied() {
    let halves = |w: &[f32]| -> Vec<f16> { w.iter().map(|&w| f16::from_f32(w)).collect() };
    let none = Calibration::none();
    let of = |w: &[f32], options: &Options| {
        compress("w", &view(&halves(w), &[1, w.len()]), &none, options)
    };
    let mut w = [1e-4f32; 64];
    w[5] = 0.5;
    let options = rtn().with_outliers(rule(4.0, 1.0)).with_scale_dtype(DType::F32);
    let fine = of(&w, &options).unwrap();
    let values = &fine.matrix.parts().outliers.as_ref().unwrap().val;
    assert_eq!(*values, Floats::rounded(DType::F16, &[0.5]));
    // All weights are outliers but zeros, and 1e-5 is below 2^-14.
    let mut w = [0.0f32; 64];
    w[5] = 1e-5;
    let small = of(&w, &options).unwrap();
    assert_eq!((small.report.outlier_dtype, small.report.outlier_promoted), (Some("f32"), true));
    assert_eq!(small.report.rel_fro, 0.0, "f32 holds it");
    let error = of(&w, &options.with_scale_promote(Promote::Deny)).unwrap_err().to_string();
    assert!(error.contains("for each outlier") && error.contains("row 0, column 5"), "{error}");
}
