//! All rows: their storage, their codes, and the arrays of the matrix that they make.

use super::calibration::Importance;
use super::options::{Options, Promote};
use super::outliers::Found;
use super::quantize::{Quantized, Quantizer};
use super::range::Ranges;
use super::refit;
use super::row::Row;
use super::select::Kept;
use super::storage::Storage;
use super::weights::Weights;
use crate::element::DType;
use crate::group_sparse::NAME;
use crate::group_sparse::format::{
    Floats, Format, Matrix, Mode, Names, Outliers, Parts, Pattern, wrong_option,
};
use crate::{Error, Result};

/// What the rows are made of.
pub(super) struct Rows<'a> {
    pub weights: &'a Weights<'a>,
    pub outliers: &'a Found,
    pub kept: &'a Kept,
    pub importance: &'a Importance<'a>,
    pub options: &'a Options,
    /// With the pattern of the kept groups.
    pub format: Format,
}

/// The matrix, and what is not to be seen in it.
pub(super) struct Made {
    pub matrix: Matrix,
    pub promoted: bool,
    pub outliers_promoted: bool,
    pub clipped: u64,
    pub underflowed: u64,
    pub refit: Option<Refit>,
}

/// What refitting did.
#[derive(Clone, Copy, Default)]
pub(super) struct Refit {
    /// Rows that were refitted, and those where it did not help.
    pub rows: u64,
    pub dropped: u64,
    /// Σ eᵀ H e of the quantized rows without and with it.
    pub before: f64,
    pub after: f64,
}

impl Refit {
    fn plus(self, other: &Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            dropped: self.dropped + other.dropped,
            before: self.before + other.before,
            after: self.after + other.after,
        }
    }
}

impl Rows<'_> {
    /// Quantizes all rows.
    pub fn quantize(&self) -> Result<Made> {
        let wanted = self.options.scale_dtype.unwrap_or(self.weights.dtype);
        let storage = self.storage(wanted)?;
        let quantizer = self.quantizer(storage);
        let rows = self.weights.map(|row, values| self.of_row(&quantizer, row, values));
        let refit = self
            .options
            .refit_weights
            .then(|| rows.iter().fold(Refit::default(), |sum, (_, of_row)| sum.plus(of_row)));
        let rows: Vec<Quantized> = rows.into_iter().map(|(row, _)| row).collect();
        let (outliers, outliers_promoted) = self.outliers(&rows)?;
        let joined = |of: fn(&Quantized) -> &[f32]| rows.iter().flat_map(of).copied().collect();
        let floats = |values: Vec<f32>| Floats::rounded(storage.0, &values);
        let Kept { pattern, row_ptr, columns, .. } = self.kept;
        let has_row_ptr = *pattern == Pattern::Free;
        let parts = Parts {
            format: self.format,
            row_ptr: row_ptr.iter().filter(|_| has_row_ptr).map(|&start| start as u32).collect(),
            col_idx: if *pattern == Pattern::Dense { Vec::new() } else { columns.clone() },
            codes: rows.iter().flat_map(|row| &row.codes).copied().collect(),
            scales: floats(joined(|row| &row.scales)),
            zeros: rows.iter().flat_map(|row| &row.zeros).copied().collect(),
            offsets: (self.format.mode == Mode::Affine).then(|| floats(joined(|row| &row.offsets))),
            outliers,
            perm: None,
        };
        Ok(Made {
            matrix: Matrix::named(parts, &Names::of_layer(self.weights.name))?,
            promoted: storage.0 != wanted,
            outliers_promoted,
            clipped: rows.iter().map(|row| row.clipped).sum(),
            underflowed: rows.iter().map(|row| row.underflowed).sum(),
            refit,
        })
    }

    fn quantizer(&self, storage: Storage) -> Quantizer<'_> {
        let ranges = Ranges::new(self.options, storage);
        Quantizer { format: self.format, ranges, h: self.importance.h.as_deref() }
    }

    fn row<'b>(&'b self, row: usize, values: &'b [f32]) -> Row<'b> {
        Row { values, outliers: self.outliers.row(row) }
    }

    /// The wanted type for scales and offsets, or f32 where it does not hold one of them.
    fn storage(&self, wanted: DType) -> Result<Storage> {
        let storage = Storage(wanted);
        if wanted == DType::F32 {
            return Ok(storage);
        }
        let quantizer = self.quantizer(storage);
        let beyond = self
            .weights
            .map(|row, values| quantizer.beyond_storage(self.row(row, values), self.kept.row(row)));
        let first = beyond.iter().enumerate().find_map(|(row, beyond)| Some((row, (*beyond)?)));
        let Some((row, (group, value))) = first else { return Ok(storage) };
        let place = group.map_or(String::new(), |group| format!(", group {group}"));
        self.promoted(storage, "scale or offset", format!("{value:e} in row {row}{place}"))
    }

    /// f32 in place of a type that does not hold a number, where that is allowed.
    fn promoted(&self, storage: Storage, what: &str, found: String) -> Result<Storage> {
        match self.options.scale_promote {
            Promote::Auto => Ok(Storage(DType::F32)),
            Promote::Deny => Err(Error::Value {
                operation: NAME,
                tensor: self.weights.name.to_owned(),
                expected: format!("for each {what} {}, or scale_promote=auto", storage.bounds()),
                found,
            }),
        }
    }

    fn of_row(&self, quantizer: &Quantizer<'_>, row: usize, values: &[f32]) -> (Quantized, Refit) {
        let (of_row, kept) = (self.row(row, values), self.kept.row(row));
        match self.importance.hessian.filter(|_| self.options.refit_weights) {
            None => (quantizer.quantize(of_row, kept, |_, _| ()), Refit::default()),
            Some(hessian) => refit::quantize(quantizer, hessian, of_row, kept),
        }
    }

    /// The outliers in the type of the weights, or in f32 where it does not hold one of them.
    fn outliers(&self, rows: &[Quantized]) -> Result<(Option<Outliers>, bool)> {
        if self.options.outliers.is_none() {
            return Ok((None, false));
        }
        if self.outliers.count() > u32::MAX as usize {
            let found = format!("{} of them", self.outliers.count());
            return Err(wrong_option("max_fraction", "at most 4294967295 outliers", found));
        }
        let mut storage = Storage(self.weights.dtype);
        let mut outliers = Outliers {
            row_ptr: vec![0],
            col: Vec::with_capacity(self.outliers.count()),
            val: Floats::empty(storage.0),
        };
        let mut values = Vec::with_capacity(self.outliers.count());
        let mut beyond = None;
        for (row, quantized) in rows.iter().enumerate() {
            let columns = self.outliers.row(row);
            let first = quantized.outliers.iter().position(|&value| !storage.holds(value));
            beyond = beyond.or_else(|| Some((row, columns[first?], quantized.outliers[first?])));
            outliers.col.extend(columns);
            values.extend(&quantized.outliers);
            outliers.row_ptr.push(values.len() as u32);
        }
        if let Some((row, column, value)) = beyond {
            let found = format!("{value:e} in row {row}, column {column}");
            storage = self.promoted(storage, "outlier", found)?;
        }
        outliers.val = Floats::rounded(storage.0, &values);
        Ok((Some(outliers), storage.0 != self.weights.dtype))
    }
}
