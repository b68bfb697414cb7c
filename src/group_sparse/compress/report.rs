//! What the compression of a matrix gave, in numbers that are the same in every run.

use std::fmt;

use super::value::{ToValue, Value};

/// A struct of documented fields, and the list of them.
macro_rules! report {
    ($(#[$doc:meta])* $type:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        #[non_exhaustive]
        pub struct $type { $($(#[$field_doc])* pub $field: $kind,)* }

        impl $type {
            /// All that is there, by name, in one order.
            pub fn fields(&self) -> Vec<(&'static str, Value)> {
                let fields = [$((stringify!($field), self.$field.value())),*];
                fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
            }
        }
    };
}

report! {
    /// What a matrix weighs, and how far What, which it represents, is from the weights W; What is
    /// taken exactly, in f64, from what is stored.
    ///
    /// All numbers are finite. [`fields`](Self::fields) lists them, but for those that are not
    /// there; `Display` shows them as a table.
    ///
    /// ```
    /// # use warpwright::{Tensor, group_sparse::compress::{Calibration, Options, compress}};
    /// # let weight = Tensor::from_vec(vec![1.0f32; 32], &[2, 16])?;
    /// let report = compress("w", &weight, &Calibration::none(), &Options::default())?.report;
    /// assert_eq!((report.nnz_groups, report.pattern), (2, "dense"));
    /// assert!(report.to_string().contains("rel_fro"));
    /// # Ok::<(), warpwright::Error>(())
    /// ```
    Report {
        /// N.
        n: u64,
        /// K.
        k: u64,
        /// G.
        group: u64,
        /// b.
        bits: u64,
        /// How a code becomes a number.
        mode: &'static str,
        /// Which groups are kept.
        pattern: &'static str,
        /// What has a scale of its own.
        scale_scope: &'static str,
        /// What the worth of groups was: `magnitude` or `hdiag`; none with a mask.
        saliency: Option<&'static str>,
        /// T, kept groups.
        nnz_groups: u64,
        /// 1 - T / (N ⌈K/G⌉).
        sparsity: f64,
        /// Kept worth of all.
        kept_energy: f64,
        /// The fewest kept groups of a row.
        row_groups_min: u64,
        /// Their mean over the rows.
        row_groups_mean: f64,
        /// The most kept groups of a row.
        row_groups_max: u64,
        /// The most by the mean, the imbalance of workers that take a row each; 1 where nothing is
        /// kept.
        imbalance: f64,
        /// Groups that count as all zero, kept or not.
        zero_groups: u64,
        /// Groups that count as that although they are not: f32 does not hold their scale.
        underflowed_groups: u64,
        /// Bytes of the row pointers.
        bytes_row_ptr: u64,
        /// Bytes of the column groups.
        bytes_col_idx: u64,
        /// Bytes of the codes.
        bytes_codes: u64,
        /// Bytes of the scales.
        bytes_scales: u64,
        /// Bytes of the zeros.
        bytes_zeros: u64,
        /// Bytes of the offsets.
        bytes_offsets: u64,
        /// Bytes of the outliers.
        bytes_outliers: u64,
        /// Bytes of all, as files hold them.
        bytes: u64,
        /// Bits of these by N K.
        bits_per_weight: f64,
        /// The same on a device: codes in tiles of 512 bytes (of 3 bits, 768) whose last one is
        /// filled up, zeros in 16 bits.
        bits_per_weight_device: f64,
        /// ‖W - What‖ / ‖W‖, of Frobenius; 0 where W is 0.
        rel_fro: f64,
        /// The part of the pruned elements: squares of the parts add up to that of the whole.
        rel_fro_pruned: f64,
        /// The part of the quantized elements.
        rel_fro_quantized: f64,
        /// The part of the outliers.
        rel_fro_outliers: f64,
        /// 20 log₁₀ (‖W‖ / ‖W - What‖), where there is an error.
        sqnr_db: Option<f64>,
        /// √(tr((W - What) H (W - What)ᵀ) / tr(W H Wᵀ)), with a calibration; H is diagonal where
        /// only h is known.
        weighted_rel: Option<f64>,
        /// The largest |w - what|.
        max_abs_err: f64,
        /// The first row and column where it is.
        max_abs_err_at: [u64; 2],
        /// The largest ‖w - what‖ / ‖w‖ of a row, where a row is not 0.
        worst_row_rel: Option<f64>,
        /// The first row where it is.
        worst_row: Option<u64>,
        /// The type of scales and offsets.
        scale_dtype: &'static str,
        /// The smallest |s|.
        scale_min: Option<f64>,
        /// The largest |s|.
        scale_max: Option<f64>,
        /// Scales below the normal numbers of their type.
        scale_subnormal: u64,
        /// Whether scales are in f32 because the wanted type does not hold one of them.
        scale_promoted: bool,
        /// Elements whose code was clamped.
        clipped_codes: u64,
        /// Columns with h = 0.
        dead_columns: u64,
        /// Outliers.
        outliers: u64,
        /// The mean that they are far from, where it is one of the whole matrix.
        outlier_mu: Option<f64>,
        /// The standard deviation, likewise.
        outlier_sigma: Option<f64>,
        /// Whether there were more outliers than allowed.
        outlier_cap_hit: bool,
        /// The type of their values.
        outlier_dtype: Option<&'static str>,
        /// Whether these are in f32 because the type of the weights does not hold one of them.
        outlier_promoted: bool,
        /// Rows whose kept weights were refitted.
        refit_rows: Option<u64>,
        /// Rows where that was dropped: the weighted error did not fall.
        refit_dropped: Option<u64>,
        /// `weighted_rel` without refitting, up to the rounding of outliers.
        refit_before: Option<f64>,
        /// The same with it.
        refit_after: Option<f64>,
    }
}

/// A table of two columns.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.fields();
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (i, (name, value)) in fields.iter().enumerate() {
            let end = if i + 1 < fields.len() { "\n" } else { "" };
            match value {
                Value::Text(text) => write!(f, "{name:width$}  {text}{end}")?,
                _ => write!(f, "{name:width$}  {value}{end}")?,
            }
        }
        Ok(())
    }
}
