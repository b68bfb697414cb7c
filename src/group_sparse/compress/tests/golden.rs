//! Small matrices whose bytes were worked out by hand.

use super::*;
use crate::group_sparse::format::{Floats, Mode, Pattern, ScaleScope};

#[test]
fn sym_takes_the_first_largest_element_to_code_0() {
    let w = [1.0, -2.0, 4.0, 0.5, -4.0, 3.0, 0.0, 2.0];
    let Compressed { matrix, report, .. } = compressed(&w, 1, &rtn());
    let parts = matrix.parts();
    assert_eq!(parts.format.pattern, Pattern::Dense, "nothing is pruned");
    assert_eq!(parts.scales, Floats::F32(vec![-0.5]), "s = -4 / 8");
    // w / s + 8 = 6 12 0 7 (16) 2 8 4.
    assert_eq!(parts.codes, [0xC6, 0x70, 0x2F, 0x48]);
    assert_eq!(report.clipped_codes, 1, "-4 would get code 16");
    assert!(parts.zeros.is_empty() && parts.offsets.is_none());
}

#[test]
fn sym_restricted_has_positive_scales_and_no_code_0() {
    let w = [7.0, -7.0, 3.5, 2.5, 0.0, 1.0, -1.0, -0.4];
    let Compressed { matrix, report, .. } = compressed(&w, 1, &rtn().with_sym_restricted(true));
    assert_eq!(matrix.parts().scales, Floats::F32(vec![1.0]));
    let codes: Vec<u8> = (0..8).map(|j| matrix.code(0, j)).collect();
    assert_eq!(codes, [15, 1, 12, 10, 8, 9, 7, 8], "halves go to the even integer");
    assert_eq!(report.clipped_codes, 0);
}

#[test]
fn asym_rounds_its_zero() {
    let w = [-1.0, 2.0, 0.5, 1.5, -0.5, 0.6, 1.4, 0.0];
    let options = rtn().with_bits(2).with_mode(Mode::Asym);
    let parts = compressed(&w, 1, &options).matrix.into_parts();
    assert_eq!((parts.scales, parts.zeros), (Floats::F32(vec![1.0]), vec![1]));
    assert_eq!(parts.codes, [0xDC, 0x69], "codes 0 3 1 3 1 2 2 1");
}

#[test]
fn affine_spans_the_values_in_three_bits() {
    let w = [10.0, 17.0, 12.5, 13.5, 11.0, 10.4, 16.0, 14.0];
    let options = rtn().with_bits(3).with_mode(Mode::Affine);
    let parts = compressed(&w, 1, &options).matrix.into_parts();
    assert_eq!(parts.scales, Floats::F32(vec![1.0]));
    assert_eq!(parts.offsets, Some(Floats::F32(vec![10.0])));
    assert_eq!(parts.codes, [0x2C, 0x21, 0xCA], "codes 0 7 2 4 1 0 6 4 in two planes");
}

#[test]
fn eight_bits_reach_both_ends() {
    let w = [128.0, -127.0, 1.0, -1.0, 0.0, 64.0, -64.0, 2.5];
    let parts = compressed(&w, 1, &rtn().with_bits(8)).matrix.into_parts();
    assert_eq!(parts.scales, Floats::F32(vec![-1.0]));
    assert_eq!(parts.codes, [0, 255, 127, 129, 128, 64, 192, 126]);
}

#[test]
fn half_of_the_groups_go_and_the_last_one_is_filled_by_the_zero_code() {
    // Groups of 8 and 3 columns; those of row 0 are worth 8 and 12, those of row 1 72 and 3.
    let mut w = vec![1.0f32; 8];
    w.extend([2.0; 3]);
    w.extend([-3.0; 8]);
    w.extend([1.0; 3]);
    let options = rtn().with_sparsity(0.5).with_min_row_fraction(0.0);
    let Compressed { matrix, report, .. } = compressed(&w, 2, &options);
    let parts = matrix.parts();
    assert_eq!((&parts.row_ptr[..], &parts.col_idx[..]), (&[0, 1, 2][..], &[1, 0][..]));
    assert_eq!(parts.scales, Floats::F32(vec![-0.25, 0.375]));
    assert_eq!(parts.codes, [0x00, 0x80, 0x88, 0x88, 0, 0, 0, 0]);
    close(report.kept_energy, 84.0 / 95.0, "kept energy");
    close(report.rel_fro, (11.0f64 / 95.0).sqrt(), "relative error");
    close(report.rel_fro_pruned, report.rel_fro, "all of the error is of pruned groups");
    assert_eq!(report.sqnr_db.map(|db| (db * 1e6).round()), Some(9_363_309.0));
}

#[test]
fn a_scale_per_row_spans_its_kept_groups() {
    let w = [[4.0; 8], [8.0; 8], [0.5; 8], [1.0; 8]].concat();
    let options = rtn()
        .with_scale_scope(ScaleScope::Row)
        .with_sparsity(0.5)
        .with_scope(Scope::Row)
        .with_row_quantum(1);
    let parts = compressed(&w, 2, &options).matrix.into_parts();
    assert_eq!(parts.format.pattern, Pattern::Uniform(1));
    assert_eq!(parts.col_idx, [1, 1]);
    assert_eq!(parts.scales, Floats::F32(vec![-1.0, -0.125]));
    assert_eq!(parts.codes, [0; 8]);
}

#[test]
fn scales_are_rounded_before_codes_are_chosen() {
    // s = -1/8 - 2^-14, which f16 takes down to -1/8: in its unit -0.0625 - 2^-17 is no longer
    // below half.
    let w = [1.0 + 1.0 / 2048.0, 0.0625, -0.0625 - 1.0 / 65536.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let matrix = compressed(&w, 1, &rtn().with_scale_dtype(DType::F16)).matrix;
    assert_eq!(matrix.parts().scales, Floats::rounded(DType::F16, &[-0.125]));
    let codes: Vec<u8> = (0..3).map(|j| matrix.code(0, j)).collect();
    assert_eq!(codes, [0, 8, 9], "with the scale as it was, the last would be 8");
}

#[test]
fn search_finds_the_scale_that_all_but_one_element_share() {
    // One element twice as far as 15 others on a grid of 0.25: a span for these is better.
    let mut w = [0.25f32; 16];
    w.iter_mut().enumerate().for_each(|(i, w)| *w *= (i as f32 - 8.0).clamp(-7.0, 7.0));
    w[0] = -2.5;
    let matrix = compressed(&w, 1, &Options::default().with_group(16)).matrix;
    let rtn = compressed(&w, 1, &Options::default().with_range(Range::Rtn)).report.rel_fro;
    let error: f64 =
        represented(&matrix).iter().zip(w).map(|(d, w)| (d - f64::from(w)).powi(2)).sum();
    let energy: f64 = w.iter().map(|&w| f64::from(w).powi(2)).sum();
    assert!((error / energy).sqrt() < 0.95 * rtn, "{} beside {rtn}", (error / energy).sqrt());
}

/// FNV-1a of all arrays.
fn fingerprint(matrix: &Matrix) -> u64 {
    let parts = matrix.parts();
    let indices: Vec<u8> =
        parts.row_ptr.iter().chain(&parts.col_idx).flat_map(|i| i.to_le_bytes()).collect();
    let floats = [Some(&parts.scales), parts.offsets.as_ref()];
    let floats: Vec<u8> = floats
        .into_iter()
        .flatten()
        .flat_map(Floats::iter)
        .flat_map(|x| x.to_bits().to_le_bytes())
        .collect();
    let bytes = indices.iter().chain(&parts.codes).chain(&parts.zeros).chain(&floats);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn bytes_are_the_same_on_every_machine() {
    let mut random = fastrand::Rng::with_seed(50);
    // Products of uniform numbers: no function of the system's library has a say.
    let mut draw = || (random.f32() - 0.5) * random.f32() * random.f32();
    let w: Vec<f32> = (0..24 * 100).map(|_| draw()).collect();
    let h = (0..100).map(|_| f64::from(draw().abs())).collect();
    let calibration = Calibration::diagonal(h).unwrap();
    let base = Options::default().with_scale_dtype(DType::F16).with_sparsity(0.3);
    let by_row = base.clone().with_scale_scope(ScaleScope::Row);
    let all = [
        (base.clone().with_range(Range::Rtn), 0x61ea_dcc9_516f_f148),
        (base.clone(), 0xb3bc_4197_7f24_03c2),
        (base.clone().with_mode(Mode::Asym).with_bits(3), 0xd0ac_0391_56df_4e98),
        (base.with_mode(Mode::Affine).with_bits(2), 0x0d11_a25e_46ff_2a27),
        (by_row.with_range(Range::Adam), 0xe152_0fdd_8d30_c254),
    ];
    let found = all.map(|(options, right)| {
        let matrix = compress("w", &view(&w, &[24, 100]), &calibration, &options).unwrap().matrix;
        (fingerprint(&matrix), right)
    });
    assert!(found.iter().all(|(found, right)| found == right), "{found:#x?}");
}
