//! How a report is drawn up.

use std::f64::consts::{LN_2, LN_10, SQRT_2};

use super::calibration::Importance;
use super::errors::Errors;
use super::outliers::Found;
use super::report::Report;
use super::rows::Made;
use super::saliency::Worth;
use super::select::Kept;
use crate::element::DType;
use crate::group_sparse::format::{Floats, Matrix, Mode, Pattern};

/// What a report is about.
pub(super) struct Facts<'a> {
    pub saliency: Option<&'static str>,
    pub made: &'a Made,
    pub kept: &'a Kept,
    pub worth: &'a Worth,
    pub found: &'a Found,
    pub importance: &'a Importance<'a>,
    /// Of every row.
    pub errors: &'a [Errors],
}

impl Facts<'_> {
    pub fn report(&self) -> Report {
        let mut report = Report { saliency: self.saliency, ..Report::default() };
        self.add_groups(&mut report);
        self.add_bytes(&mut report);
        self.add_errors(&mut report);
        self.add_scales(&mut report);
        self.add_outliers(&mut report);
        report
    }

    fn add_groups(&self, report: &mut Report) {
        let matrix = &self.made.matrix;
        let format = matrix.format();
        report.n = format.rows as u64;
        report.k = format.columns as u64;
        report.group = format.group as u64;
        report.bits = u64::from(format.bits);
        report.mode = format.mode.name();
        report.pattern = format.pattern.name();
        report.scale_scope = format.scope.name();
        report.nnz_groups = matrix.kept() as u64;
        report.sparsity = matrix.sparsity();
        report.kept_energy = self.kept.energy;
        let counts = || (0..format.rows).map(|row| matrix.row(row).len() as u64);
        let mean = matrix.kept() as f64 / format.rows as f64;
        report.row_groups_min = counts().min().unwrap_or(0);
        report.row_groups_mean = mean;
        report.row_groups_max = counts().max().unwrap_or(0);
        let most = report.row_groups_max as f64;
        report.imbalance = if mean > 0.0 { most / mean } else { 1.0 };
        report.zero_groups = self.worth.zero + self.made.underflowed;
        report.underflowed_groups = self.worth.underflowed + self.made.underflowed;
        report.dead_columns = self.importance.dead as u64;
    }

    fn add_bytes(&self, report: &mut Report) {
        let matrix = &self.made.matrix;
        let parts = matrix.parts();
        let floats = |floats: &Floats| floats.as_bytes().len() as u64;
        report.bytes_row_ptr = 4 * parts.row_ptr.len() as u64;
        report.bytes_col_idx = matrix.index_bytes() as u64 - report.bytes_row_ptr;
        report.bytes_codes = parts.codes.len() as u64;
        report.bytes_scales = floats(&parts.scales);
        report.bytes_zeros = parts.zeros.len() as u64;
        report.bytes_offsets = parts.offsets.as_ref().map_or(0, floats);
        report.bytes = matrix.bytes() as u64;
        let others = report.bytes_row_ptr
            + report.bytes_col_idx
            + report.bytes_codes
            + report.bytes_scales
            + report.bytes_zeros
            + report.bytes_offsets;
        report.bytes_outliers = report.bytes - others;
        let elements = parts.format.rows as f64 * parts.format.columns as f64;
        report.bits_per_weight = 8.0 * report.bytes as f64 / elements;
        let device = device_bytes(matrix) + report.bytes_outliers;
        report.bits_per_weight_device = 8.0 * device as f64 / elements;
    }

    fn add_errors(&self, report: &mut Report) {
        let sum = |of: fn(&Errors) -> f64| self.errors.iter().map(of).sum::<f64>();
        let (energy, squares) = (sum(|row| row.energy), sum(Errors::squares));
        report.rel_fro = relative(squares, energy).unwrap_or(0.0);
        report.rel_fro_pruned = relative(sum(|row| row.pruned), energy).unwrap_or(0.0);
        report.rel_fro_quantized = relative(sum(|row| row.quantized), energy).unwrap_or(0.0);
        report.rel_fro_outliers = relative(sum(|row| row.outlier), energy).unwrap_or(0.0);
        let has_ratio = energy > 0.0 && squares > 0.0;
        report.sqnr_db = has_ratio.then(|| 10.0 * (ln(energy) - ln(squares)) / LN_10);
        let weighted_energy = sum(|row| row.weighted_energy);
        if self.importance.h.is_some() {
            report.weighted_rel = relative(sum(|row| row.weighted), weighted_energy);
        }
        for (row, errors) in self.errors.iter().enumerate() {
            if errors.largest > report.max_abs_err {
                report.max_abs_err = errors.largest;
                report.max_abs_err_at = [row as u64, errors.column as u64];
            }
            let of_row = relative(errors.squares(), errors.energy);
            if of_row.is_some() && of_row > report.worst_row_rel {
                (report.worst_row_rel, report.worst_row) = (of_row, Some(row as u64));
            }
        }
        if let Some(refit) = self.made.refit {
            report.refit_rows = Some(refit.rows);
            report.refit_dropped = Some(refit.dropped);
            report.refit_before = relative(refit.before, weighted_energy);
            report.refit_after = relative(refit.after, weighted_energy);
        }
    }

    fn add_scales(&self, report: &mut Report) {
        let scales = &self.made.matrix.parts().scales;
        let least_normal = match scales.dtype() {
            DType::F16 => half::f16::MIN_POSITIVE.to_f32(),
            _ => f32::MIN_POSITIVE,
        };
        let sizes = || scales.iter().map(f32::abs);
        report.scale_dtype = scales.dtype().name();
        report.scale_min = sizes().reduce(f32::min).map(f64::from);
        report.scale_max = sizes().reduce(f32::max).map(f64::from);
        report.scale_subnormal = sizes().filter(|&s| s > 0.0 && s < least_normal).count() as u64;
        report.scale_promoted = self.made.promoted;
        report.clipped_codes = self.made.clipped;
    }

    fn add_outliers(&self, report: &mut Report) {
        report.outliers = self.found.count() as u64;
        report.outlier_mu = self.found.moments.map(|(mean, _)| mean);
        report.outlier_sigma = self.found.moments.map(|(_, deviation)| deviation);
        report.outlier_cap_hit = self.found.capped;
        let outliers = self.made.matrix.parts().outliers.as_ref();
        report.outlier_dtype = outliers.map(|outliers| outliers.val.dtype().name());
        report.outlier_promoted = self.made.outliers_promoted;
    }
}

/// √(part / whole); H that is given may make the part negative.
fn relative(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| (part.max(0.0) / whole).sqrt()).filter(|ratio| ratio.is_finite())
}

/// Bytes that kernels on a device read, in tiles of 32 chunks of 16 bytes of codes.
fn device_bytes(matrix: &Matrix) -> u64 {
    let format = matrix.format();
    let low_bits = if format.bits == 3 { 2 } else { format.bits as usize };
    let tile_groups = 4096 / (low_bits * format.group);
    let tiles = matrix.kept().div_ceil(tile_groups);
    let index = match format.pattern {
        Pattern::Dense => 0,
        _ if format.column_groups() > 1 << 16 => 4,
        _ => 2,
    };
    let scale = matrix.parts().scales.dtype().bytes();
    let coding = match format.mode {
        Mode::Sym => scale,
        Mode::Asym => scale + 2,
        Mode::Affine => 2 * scale,
    };
    let groups = tiles * tile_groups;
    let tile_bytes = if format.bits == 3 { 768 } else { 512 };
    let bytes = tiles * tile_bytes + groups * index + format.scale_count(groups) * coding;
    (bytes + 4 * matrix.parts().row_ptr.len()) as u64
}

/// The natural logarithm, of basic operations alone, so that it is the same on every machine.
fn ln(x: f64) -> f64 {
    let (mut mantissa, mut exponent) = (x, 0.0);
    while mantissa > SQRT_2 {
        (mantissa, exponent) = (mantissa * 0.5, exponent + 1.0);
    }
    while mantissa < SQRT_2 / 2.0 {
        (mantissa, exponent) = (mantissa * 2.0, exponent - 1.0);
    }
    // 2 artanh t, |t| < 0.172.
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let series = (0..12).rev().fold(0.0, |sum, i| sum * (t * t) + 1.0 / f64::from(2 * i + 1));
    exponent * LN_2 + 2.0 * t * series
}
