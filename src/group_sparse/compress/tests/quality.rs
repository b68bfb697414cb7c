//! Errors: what the ranges promise of one another, and what the report says.

use super::*;
use crate::group_sparse::format::{Mode, Pattern, ScaleScope};

/// Σ h (w - what)² of a row.
fn row_error(matrix: &Matrix, w: &[f32], h: &[f64], row: usize) -> f64 {
    let columns = matrix.format().columns;
    let found = &represented(matrix)[row * columns..][..columns];
    let differences = found.iter().zip(&w[row * columns..]).map(|(d, &w)| d - f64::from(w));
    differences.zip(h).map(|(e, h)| h * e * e).sum()
}

#[test]
fn search_is_never_worse_than_rtn() {
    let mut random = fastrand::Rng::with_seed(20);
    let w: Vec<f32> = (0..16 * 100).map(|_| student(&mut random)).collect();
    let h: Vec<f64> = (0..100).map(|_| f64::from(gaussian(&mut random)).powi(2)).collect();
    let calibration = Calibration::diagonal(h.clone()).unwrap();
    let weight = view(&w, &[16, 100]);
    for mode in Mode::ALL {
        for bits in [2, 3, 4, 8] {
            for dtype in [DType::F16, DType::F32] {
                let options = Options::default()
                    .with_mode(mode)
                    .with_bits(bits)
                    // With a scale per row groups are the rows, whose errors add up.
                    .with_scale_scope(if bits == 3 { ScaleScope::Row } else { ScaleScope::Group })
                    .with_scale_dtype(dtype);
                let of = |range| {
                    let options = options.clone().with_range(range);
                    compress("w", &weight, &calibration, &options).unwrap().matrix
                };
                let (rtn, search) = (of(Range::Rtn), of(Range::Search));
                let all = |matrix: &Matrix| -> f64 {
                    (0..16).map(|row| row_error(matrix, &w, &h, row)).sum()
                };
                for row in 0..16 {
                    let (rtn, search) =
                        (row_error(&rtn, &w, &h, row), row_error(&search, &w, &h, row));
                    let what = format!("{mode}, {bits} bits, {dtype}, row {row}");
                    assert!(search <= rtn * (1.0 + 1e-12), "{what}: {search} against {rtn}");
                }
                assert!(bits == 8 || all(&search) < 0.95 * all(&rtn), "{mode}, {bits} bits");
            }
        }
    }
}

#[test]
fn adam_comes_near_the_search_on_long_rows() {
    let mut random = fastrand::Rng::with_seed(21);
    for draw in [gaussian, student] {
        let w: Vec<f32> = (0..4 * 4096).map(|_| draw(&mut random)).collect();
        for bits in [2, 3, 4] {
            let options = Options::default().with_bits(bits).with_scale_scope(ScaleScope::Row);
            let of = |range| compressed(&w, 4, &options.clone().with_range(range)).matrix;
            let (adam, search) = (of(Range::Adam), of(Range::Search));
            for row in 0..4 {
                let ones = [1.0; 4096];
                let ratio = row_error(&adam, &w, &ones, row) / row_error(&search, &w, &ones, row);
                assert!(ratio < 1.04, "{bits} bits, row {row}: {ratio} of the search's error");
            }
        }
    }
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let w = weights(37, 200, 22);
    let mut calibration = Calibration::full(200).unwrap();
    calibration.add(&view(&weights(50, 200, 23), &[50, 200])).unwrap();
    let rule = OutlierRule { n_sigma: 2.5, ..OutlierRule::default() };
    let options = Options::default().with_sparsity(0.4).with_outliers(rule);
    let affine = options.clone().with_mode(Mode::Affine).with_row_quantum(4);
    let asym = Options::default().with_mode(Mode::Asym).with_scale_scope(ScaleScope::Row);
    for options in [options.with_refit_weights(true), affine, asym] {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let weight = view(&w, &[37, 200]);
            pool.install(|| compress("w", &weight, &calibration, &options).unwrap())
        };
        let (one, four) = (with(1), with(4));
        assert_eq!(one.matrix, four.matrix, "{options:?}");
        assert_eq!(one.report.to_string(), four.report.to_string(), "{options:?}");
    }
}

#[test]
fn a_report_says_what_a_naive_look_finds() {
    let (w, x) = (weights(24, 77, 24), weights(30, 77, 25));
    let mut calibration = Calibration::new(77);
    calibration.add(&view(&x, &[30, 77])).unwrap();
    let rule = OutlierRule { n_sigma: 2.5, ..OutlierRule::default() };
    let options = Options::default()
        .with_group(8)
        .with_mode(Mode::Asym)
        .with_sparsity(0.45)
        .with_scale_dtype(DType::F16)
        .with_outliers(rule);
    let weight = view(&w, &[24, 77]);
    let Compressed { matrix, report, .. } = compress("w", &weight, &calibration, &options).unwrap();
    let w: Vec<f64> = w.iter().map(|&w| f64::from(w)).collect();
    let errors: Vec<f64> = represented(&matrix).iter().zip(&w).map(|(d, w)| w - d).collect();
    let square = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
    let rel = (square(&errors) / square(&w)).sqrt();
    close(report.rel_fro, rel, "rel_fro");
    close(report.sqnr_db.unwrap(), -20.0 * rel.log10(), "sqnr_db");
    let parts = [report.rel_fro_pruned, report.rel_fro_quantized, report.rel_fro_outliers];
    close(square(&parts).sqrt(), rel, "the parts of rel_fro");
    let h = calibration.h().unwrap();
    let weighted = |values: &[f64]| -> f64 {
        values.iter().enumerate().map(|(i, value)| h[i % 77] * value * value).sum()
    };
    close(report.weighted_rel.unwrap(), (weighted(&errors) / weighted(&w)).sqrt(), "weighted_rel");
    let [row, column] = report.max_abs_err_at.map(|at| at as usize);
    close(report.max_abs_err, errors[row * 77 + column].abs(), "max_abs_err");
    assert!(errors.iter().all(|e| e.abs() <= report.max_abs_err), "the largest error");
    let row_rel = |row: usize| {
        let part = row * 77..(row + 1) * 77;
        (square(&errors[part.clone()]) / square(&w[part])).sqrt()
    };
    let worst = report.worst_row.unwrap() as usize;
    close(report.worst_row_rel.unwrap(), row_rel(worst), "worst row");
    assert!((0..24).all(|row| row_rel(row) <= row_rel(worst) * (1.0 + 1e-12)), "the worst row");
    let counts: Vec<usize> = (0..24).map(|row| matrix.row(row).len()).collect();
    assert_eq!(report.row_groups_max, *counts.iter().max().unwrap() as u64);
    assert_eq!(report.row_groups_min, *counts.iter().min().unwrap() as u64);
    close(report.imbalance, report.row_groups_max as f64 / report.row_groups_mean, "imbalance");
    assert_eq!(report.bytes, matrix.bytes() as u64);
    assert_eq!(report.bytes_outliers, 4 * 25 + 6 * report.outliers);
    close(report.bits_per_weight, 8.0 * report.bytes as f64 / (24.0 * 77.0), "bits per weight");
    assert_eq!(report.nnz_groups as usize, matrix.kept());
    close(report.sparsity, matrix.sparsity(), "sparsity");
}

#[test]
fn sizes_are_those_of_the_specification() {
    // sym, b = 4, half of the groups, scales f16 and indices u16, row pointers apart.
    for (group, bits) in [(16, 3.0), (32, 2.5), (64, 2.25)] {
        let options = Options::default()
            .with_group(group)
            .with_range(Range::Rtn)
            .with_sparsity(0.5)
            .with_scope(Scope::Row)
            .with_scale_dtype(DType::F16);
        let Compressed { matrix, report, .. } = compressed(&weights(8, 1024, 26), 8, &options);
        assert!(matches!(matrix.format().pattern, Pattern::Uniform(_)));
        close(report.bits_per_weight, bits, "bits per weight");
        // 4096 / (4 G) groups to a tile: both are whole.
        close(report.bits_per_weight_device, bits, "bits per weight on a device");
    }
}

#[test]
fn fields_are_finite_and_shown() {
    let report = compressed(&weights(3, 40, 27), 3, &Options::default()).report;
    let fields = report.fields();
    assert_eq!(fields[0], ("n", Value::Integer(3)));
    assert!(fields.iter().any(|field| *field == ("mode", Value::Text("sym".to_owned()))));
    for (name, value) in &fields {
        assert!(!matches!(value, Value::Real(x) if !x.is_finite()), "{name}");
    }
    let table = report.to_string();
    assert_eq!(table.lines().count(), fields.len());
    assert!(table.lines().next().is_some_and(|line| line.starts_with("n   ")), "{table}");
}
