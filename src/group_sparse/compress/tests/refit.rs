//! Kept weights that make up for pruned ones.

use super::*;

/// Samples whose neighbours are alike.
fn samples(count: usize, columns: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut values = Vec::with_capacity(count * columns);
    for _ in 0..count {
        let mut x = 0.0;
        for _ in 0..columns {
            x = 0.9 * x + gaussian(&mut random);
            values.push(x);
        }
    }
    values
}

fn weighted_error(matrix: &Matrix, w: &[f32], x: &[f32]) -> f64 {
    let columns = matrix.format().columns;
    let found = represented(matrix);
    let differences: Vec<f64> = found.iter().zip(w).map(|(d, &w)| f64::from(w) - d).collect();
    let output =
        |e: &[f64], x: &[f32]| -> f64 { e.iter().zip(x).map(|(e, &x)| e * f64::from(x)).sum() };
    let of_row = |e: &[f64]| x.chunks(columns).map(|x| output(e, x).powi(2)).sum::<f64>();
    differences.chunks(columns).map(of_row).sum()
}

#[test]
fn the_calibrated_error_falls() {
    let (w, x) = (weights(16, 96, 30), samples(400, 96, 31));
    let mut calibration = Calibration::full(96).unwrap();
    calibration.add(&view(&x, &[400, 96])).unwrap();
    let rule = OutlierRule { n_sigma: 2.8, ..OutlierRule::default() };
    let base = Options::default().with_group(8).with_sparsity(0.5);
    for options in [base.clone(), base.with_outliers(rule)] {
        let of = |refit| {
            let options = options.clone().with_refit_weights(refit);
            compress("w", &view(&w, &[16, 96]), &calibration, &options).unwrap()
        };
        let (plain, refitted) = (of(false), of(true));
        let errors = [&plain, &refitted].map(|of| weighted_error(&of.matrix, &w, &x));
        assert!(errors[1] < 0.6 * errors[0], "{errors:?}");
        let zero = compressed(&w, 16, &Options::default().with_mask(vec![false; 96])).matrix;
        let right = |error: f64| (error / weighted_error(&zero, &w, &x)).sqrt();
        let report = refitted.report;
        assert!(report.refit_rows.unwrap() >= 12, "{:?} of 16 rows", report.refit_rows);
        let [before, after] = [report.refit_before.unwrap(), report.refit_after.unwrap()];
        let near = |found: f64, right: f64| (found / right - 1.0).abs() < 1e-6;
        assert!(near(before, right(errors[0])), "before: {before}, naively {}", right(errors[0]));
        assert!(near(after, right(errors[1])), "after: {after}, naively {}", right(errors[1]));
        assert!(near(report.weighted_rel.unwrap(), after), "{:?}", report.weighted_rel);
        assert_eq!(plain.report.refit_rows, None);
    }
}

#[test]
fn without_correlation_nothing_changes() {
    let w = weights(4, 32, 32);
    let mut hessian = vec![0.0; 32 * 32];
    (0..32).for_each(|i| hessian[33 * i] = 1.0 + i as f64);
    let calibration = Calibration::hessian(32, hessian.clone()).unwrap();
    let options = rtn().with_sparsity(0.5);
    let of = |calibration: &Calibration, options: &Options| {
        compress("w", &view(&w, &[4, 32]), calibration, options).unwrap()
    };
    let plain = of(&calibration, &options);
    let refitted = of(&calibration, &options.clone().with_refit_weights(true));
    assert_eq!(plain.matrix, refitted.matrix);
    assert_eq!(refitted.report.refit_rows, Some(0));
    // H and its diagonal say the same.
    let h = Calibration::diagonal((0..32).map(|i| hessian[33 * i]).collect()).unwrap();
    let of_diagonal = of(&h, &options);
    assert_eq!(plain.matrix, of_diagonal.matrix);
    let [full, diagonal] = [plain, of_diagonal].map(|of| of.report.weighted_rel.unwrap());
    close(full, diagonal, "weighted error");
}

#[test]
fn it_needs_the_whole_h() {
    let h = Calibration::diagonal(vec![1.0; 16]).unwrap();
    let options = rtn().with_refit_weights(true);
    let error = compress("w", &view(&[1.0f32; 16], &[1, 16]), &h, &options).unwrap_err();
    let right = "group-sparse: tensor `H`: expected a calibration with H, which refit_weights \
                 needs, found none";
    assert_eq!(error.to_string(), right);
}
