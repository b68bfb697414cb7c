//! Which groups are kept.

use super::*;
use crate::group_sparse::format::Pattern;

/// Rows of groups of 8 whose elements all have this magnitude.
fn groups(magnitudes: &[&[f32]]) -> Vec<f32> {
    magnitudes.iter().flat_map(|row| row.iter().flat_map(|&w| [w; 8])).collect()
}

fn kept(matrix: &Matrix) -> Vec<Vec<usize>> {
    let columns = |row| matrix.row(row).map(|kept| matrix.column_group(kept)).collect();
    (0..matrix.format().rows).map(columns).collect()
}

#[test]
fn groups_of_all_rows_compete_behind_a_share_for_each_row() {
    let w = groups(&[&[9.0, 8.0, 7.0, 6.0], &[1.0, 2.0, 3.0, 4.0]]);
    let options = rtn().with_sparsity(0.5);
    let free = compressed(&w, 2, &options.clone().with_min_row_fraction(0.0)).matrix;
    assert_eq!(kept(&free), [vec![0, 1, 2, 3], vec![]], "row 0 has the larger groups");
    let shared = compressed(&w, 2, &options).matrix;
    assert_eq!(kept(&shared), [vec![0, 1, 2], vec![3]], "a quarter of each row comes first");
    let most = compressed(&w, 2, &options.with_min_row_fraction(1.0)).matrix;
    assert_eq!(kept(&most), [vec![0, 1], vec![2, 3]], "no share is beyond the target's mean");
}

#[test]
fn ties_go_to_the_first() {
    let w = groups(&[&[1.0; 4], &[1.0; 4], &[1.0; 4]]);
    let options = rtn().with_sparsity(0.5).with_min_row_fraction(0.0);
    assert_eq!(kept(&compressed(&w, 3, &options).matrix), [vec![0, 1, 2, 3], vec![0, 1], vec![]]);
    let by_row = compressed(&w, 3, &options.with_scope(Scope::Row)).matrix;
    assert_eq!(kept(&by_row), [[0, 1]; 3]);
    assert_eq!(by_row.format().pattern, Pattern::Uniform(2));
}

#[test]
fn counts_are_what_the_target_says() {
    let w = weights(13, 250, 1);
    for sparsity in [0.0, 0.1, 0.3, 0.5, 0.75, 0.9, 1.0 - 1.0 / 416.0] {
        let options = rtn().with_sparsity(sparsity).with_pattern(Store::Free);
        let Compressed { matrix, report, .. } = compressed(&w, 13, &options);
        let all = 13 * 32;
        let right = all - (sparsity * all as f64) as usize;
        assert_eq!(matrix.kept(), right, "at sparsity {sparsity}");
        assert_eq!(report.nnz_groups, right as u64);
        assert_eq!(matrix.format().pattern, Pattern::Free);
    }
}

#[test]
fn sparsity_0_is_dense_unless_told_otherwise() {
    let w = groups(&[&[1.0, 0.0], &[2.0, 3.0]]);
    let pattern = |options: &Options| compressed(&w, 2, options).matrix.format().pattern;
    assert_eq!(pattern(&rtn()), Pattern::Dense);
    assert_eq!(pattern(&rtn().with_scope(Scope::Row)), Pattern::Dense);
    assert_eq!(pattern(&rtn().with_pattern(Store::Dense)), Pattern::Dense);
    let free = compressed(&w, 2, &rtn().with_pattern(Store::Free));
    assert_eq!(kept(&free.matrix), [vec![0], vec![0, 1]], "the group of zeros goes");
    assert_eq!(free.report.zero_groups, 1);
    let error = message(&w, 2, &rtn().with_pattern(Store::Dense).with_sparsity(0.1));
    assert!(error.contains("option `sparsity`: expected 0 for the pattern dense"), "{error}");
}

#[test]
fn counts_of_rows_are_multiples_of_the_quantum() {
    let w = weights(9, 8 * 21, 2);
    for quantum in [2, 4, 8, 16] {
        for scope in [Scope::Tensor, Scope::Row] {
            let options = rtn().with_sparsity(0.6).with_row_quantum(quantum).with_scope(scope);
            let matrix = compressed(&w, 9, &options).matrix;
            let what = format!("quantum {quantum}, scope {scope}");
            for row in 0..9 {
                let count = matrix.row(row).len();
                assert!(
                    count.is_multiple_of(quantum) || count == 21,
                    "{what}: {count} in row {row}"
                );
            }
            let target = if scope == Scope::Row { 9 * (21 - 12) } else { 189 - 113 };
            let most = if scope == Scope::Row { 9 * quantum } else { quantum };
            assert!((target..target + most).contains(&matrix.kept()), "{what}: {}", matrix.kept());
        }
    }
}

#[test]
fn a_run_may_keep_zeros_along() {
    let w = groups(&[&[0.0, 5.0, 0.0, 0.0], &[0.0, 0.0, 0.0, 0.0]]);
    let options = rtn().with_sparsity(0.25).with_row_quantum(2);
    let matrix = compressed(&w, 2, &options).matrix;
    assert_eq!(kept(&matrix), [vec![0, 1], vec![]], "a run of zeros alone is never kept");
    assert!((0..8).all(|j| matrix.code(0, j) == 8), "zeros get the zero code");
}

#[test]
fn a_mask_is_followed() {
    let w = groups(&[&[9.0, 8.0, 0.0], &[1.0, 2.0, 3.0]]);
    let mask = vec![false, true, true, true, false, false];
    let Compressed { matrix, report, .. } = compressed(&w, 2, &rtn().with_mask(mask.clone()));
    assert_eq!(kept(&matrix), [vec![1, 2], vec![0]]);
    assert_eq!(report.saliency, None);
    assert_eq!(matrix.parts().scales.get(1), 1.0, "the scale of zeros");
    let error = message(&w, 2, &rtn().with_mask(mask.clone()).with_scope(Scope::Row));
    assert!(error.contains("tensor `mask`: expected 2 kept groups in every row"), "{error}");
    let error = message(&w, 2, &rtn().with_mask(mask[1..].to_vec()));
    assert!(error.contains("tensor `mask`: expected N ⌈K/G⌉ = 6 elements, found 5"), "{error}");
    let error = message(&w, 2, &rtn().with_mask(mask).with_row_quantum(2));
    assert!(error.contains("option `row_quantum`: expected 1 with a mask"), "{error}");
    let all = compressed(&w, 2, &rtn().with_mask(vec![true; 6])).matrix;
    assert_eq!(all.format().pattern, Pattern::Dense);
}

#[test]
fn important_columns_keep_their_groups() {
    let w = groups(&[&[1.0, 2.0, 3.0, 4.0]]);
    let h: Vec<f64> = [100.0, 0.0, 1.0, 1.0].into_iter().flat_map(|h| [h; 8]).collect();
    let calibration = Calibration::diagonal(h).unwrap();
    let of = |options: &Options| compress("w", &view(&w, &[1, 32]), &calibration, options).unwrap();
    let options = rtn().with_sparsity(0.5);
    let weighted = of(&options);
    assert_eq!(kept(&weighted.matrix), [[0, 3]]);
    assert_eq!((weighted.report.saliency, weighted.report.dead_columns), (Some("hdiag"), 8));
    let plain = of(&options.clone().with_saliency(Saliency::Magnitude));
    assert_eq!(kept(&plain.matrix), [[2, 3]]);
    assert!(plain.report.weighted_rel > weighted.report.weighted_rel, "what the weights are for");
    let error = message(&w, 1, &options.with_saliency(Saliency::Hdiag));
    assert!(error.contains("tensor `h`: expected a calibration"), "{error}");
}

#[test]
fn the_mean_favours_short_groups() {
    // 8 elements of 1 and the last 3 of 1.5: sums 8 and 6.75, means 1 and 2.25.
    let mut w = vec![1.0f32; 8];
    w.extend([1.5; 3]);
    let options = rtn().with_sparsity(0.5);
    assert_eq!(kept(&compressed(&w, 1, &options).matrix), [[0]]);
    assert_eq!(kept(&compressed(&w, 1, &options.with_normalize_mean(true)).matrix), [[1]]);
}
