//! The arrays of a matrix as the tensors of a layer in a file, and back.

use crate::backend::{Cpu, Named};
use crate::element::DType;
use crate::group_sparse::check::CHECK;
use crate::group_sparse::format::{
    Floats, Format, Matrix, Mode, Names, Outliers, Parts, Pattern, ScaleScope,
};
use crate::tensor::View;
use crate::{Error, Result};

use super::header::{Header, in_layer};
use crate::group_sparse::NAME;

/// The tensors that a layer P may have, as `P.gqsa.row_ptr`.
const TENSORS: [&str; 10] = [
    "row_ptr",
    "col_idx",
    "codes",
    "scales",
    "zeros",
    "offsets",
    "out_row_ptr",
    "out_col",
    "out_val",
    "perm",
];

/// The tensor of a second scale for each row, which this version does not read.
const ROW_SCALE: &str = "row_scale";

/// The types of pointers and of a permutation.
const POINTERS: [DType; 2] = [DType::U32, DType::I32];

/// The types of columns.
const COLUMNS: [DType; 3] = [DType::U16, DType::U32, DType::I32];

/// The types of scales, offsets and outliers.
const FLOATS: [DType; 3] = [DType::F16, DType::BF16, DType::F32];

/// Of the tensors that belong to a layer, all are known.
pub(in crate::group_sparse) fn knows(layer: &str, named: &Named<Cpu>) -> Result<()> {
    let names = Names::of_layer(layer);
    let own = |name: &'_ String| name.strip_prefix(&names.prefix).map(str::to_owned);
    let unknown = named.keys().filter_map(own).find(|name| !TENSORS.contains(&name.as_str()));
    match unknown.as_deref() {
        None => Ok(()),
        Some(ROW_SCALE) => Err(Error::Unsupported {
            operation: NAME,
            backend: concat!("version ", env!("CARGO_PKG_VERSION")).to_owned(),
            what: format!("scales in two levels, tensor `{}`", names.of(ROW_SCALE)),
            instead: "store the scales in f16 or f32".to_owned(),
        }),
        Some(name) => {
            let expected = format!("one of {}", TENSORS.join(" "));
            Err(CHECK.wrong_tensor(&names.of(name), expected, "an unknown tensor"))
        }
    }
}

/// The matrix of a layer, checked against what the metadata say.
pub(super) fn matrix(layer: &str, header: &Header, named: &Named<Cpu>) -> Result<Matrix> {
    knows(layer, named)?;
    let names = Names::of_layer(layer);
    let parts = Source { names: &names, named }.parts(header)?;
    Matrix::named(parts, &names).map_err(|error| in_layer(layer, error))
}

/// The tensors of a layer.
struct Source<'a> {
    names: &'a Names,
    named: &'a Named<Cpu>,
}

impl<'a> Source<'a> {
    fn get(&self, tensor: &str) -> Option<&'a View<Cpu>> {
        self.named.get(&self.names.of(tensor))
    }

    fn required(&self, tensor: &str) -> Result<&'a View<Cpu>> {
        self.get(tensor)
            .ok_or_else(|| CHECK.wrong_tensor(&self.names.of(tensor), "this tensor", "none"))
    }

    fn parts(&self, header: &Header) -> Result<Parts> {
        let (format, kept) = (header.format, header.kept);
        let length = match format.scope {
            ScaleScope::Group => ("T", kept),
            ScaleScope::Row => ("N", format.rows),
        };
        let (pattern, mode) = (format.pattern.name(), format.mode.name());
        let has_columns = format.pattern != Pattern::Dense;
        Ok(Parts {
            format,
            row_ptr: self.row_ptr(&format, kept)?,
            col_idx: self
                .only_if(has_columns, "col_idx", pattern, |tensor| {
                    self.indices(tensor, ("T", kept), &COLUMNS)
                })?
                .unwrap_or_default(),
            codes: self.bytes("codes", &[("T", kept), ("G b / 8", format.group_bytes())])?,
            scales: self.floats("scales", length)?,
            zeros: self
                .only_if(format.mode == Mode::Asym, "zeros", mode, |tensor| {
                    self.bytes(tensor, &[length])
                })?
                .unwrap_or_default(),
            offsets: self.only_if(format.mode == Mode::Affine, "offsets", mode, |tensor| {
                self.floats(tensor, length)
            })?,
            outliers: self.outliers(&format, header.outliers)?,
            perm: match self.get("perm") {
                Some(_) => Some(self.indices("perm", ("K", format.columns), &POINTERS)?),
                None => None,
            },
        })
    }

    /// The row pointers of the pattern `free`, which end at T.
    fn row_ptr(&self, format: &Format, kept: usize) -> Result<Vec<u32>> {
        let is_free = format.pattern == Pattern::Free;
        let row_ptr = self.only_if(is_free, "row_ptr", format.pattern.name(), |tensor| {
            self.indices(tensor, ("N + 1", format.rows + 1), &POINTERS)
        })?;
        match row_ptr.as_ref().and_then(|row_ptr| row_ptr.last()) {
            Some(&end) if end as usize != kept => {
                let expected = format!("nnz_groups = {kept} as the last row pointer");
                let found = format!("{end} at index {}", format.rows);
                Err(self.names.wrong_value("row_ptr", expected, found))
            }
            _ => Ok(row_ptr.unwrap_or_default()),
        }
    }

    /// Reads a tensor that is there exactly where the pattern, or the mode, has it.
    fn only_if<T>(
        &self,
        expected: bool,
        tensor: &str,
        of: &str,
        read: impl FnOnce(&str) -> Result<T>,
    ) -> Result<Option<T>> {
        match (expected, self.get(tensor)) {
            (true, _) => read(tensor).map(Some),
            (false, None) => Ok(None),
            (false, Some(_)) => {
                let expected = format!("no such tensor with {of}");
                Err(CHECK.wrong_tensor(&self.names.of(tensor), expected, "one"))
            }
        }
    }

    /// A tensor of one of these types with these axes.
    fn shaped(
        &self,
        tensor: &str,
        axes: &[(&str, usize)],
        types: &[DType],
    ) -> Result<&'a View<Cpu>> {
        let view = self.required(tensor)?;
        CHECK.shape(&self.names.of(tensor), view, axes)?;
        CHECK.dtype(&self.names.of(tensor), view, types)?;
        Ok(view)
    }

    fn indices(&self, tensor: &str, length: (&str, usize), types: &[DType]) -> Result<Vec<u32>> {
        let view = self.shaped(tensor, &[length], types)?;
        let bytes = view.to_bytes()?;
        match view.dtype() {
            DType::U16 => {
                let narrow: Vec<u16> = bytemuck::pod_collect_to_vec(&bytes);
                Ok(narrow.into_iter().map(u32::from).collect())
            }
            DType::I32 => {
                let signed: Vec<i32> = bytemuck::pod_collect_to_vec(&bytes);
                match signed.iter().position(|&index| index < 0) {
                    None => Ok(signed.into_iter().map(i32::cast_unsigned).collect()),
                    Some(at) => {
                        let found = format!("{} at index {at}", signed[at]);
                        Err(self.names.wrong_value(tensor, "numbers of at least 0", found))
                    }
                }
            }
            _ => Ok(bytemuck::pod_collect_to_vec(&bytes)),
        }
    }

    fn bytes(&self, tensor: &str, axes: &[(&str, usize)]) -> Result<Vec<u8>> {
        self.shaped(tensor, axes, &[DType::U8])?.to_bytes()
    }

    fn floats(&self, tensor: &str, length: (&str, usize)) -> Result<Floats> {
        let view = self.shaped(tensor, &[length], &FLOATS)?;
        let floats = Floats::from_bytes(view.dtype(), &view.to_bytes()?);
        floats.ok_or_else(|| {
            CHECK.wrong_tensor(&self.names.of(tensor), "floats", view.dtype().name())
        })
    }

    /// All three tensors of outliers, or none.
    fn outliers(&self, format: &Format, count: usize) -> Result<Option<Outliers>> {
        let tensors = ["out_row_ptr", "out_col", "out_val"];
        if count == 0 && tensors.iter().all(|tensor| self.get(tensor).is_none()) {
            return Ok(None);
        }
        Ok(Some(Outliers {
            row_ptr: self.indices("out_row_ptr", ("N + 1", format.rows + 1), &POINTERS)?,
            col: self.indices("out_col", ("outliers", count), &COLUMNS)?,
            val: self.floats("out_val", ("outliers", count))?,
        }))
    }
}

/// The tensors of a matrix, as a file has them for this layer.
pub(super) fn named(layer: &str, matrix: &Matrix) -> Result<Named<Cpu>> {
    let Parts { format, row_ptr, col_idx, codes, scales, zeros, offsets, outliers, perm } =
        matrix.parts();
    let names = Names::of_layer(layer);
    let mut tensors = Named::new();
    let mut put = |tensor: &str, dtype: DType, bytes: &[u8], shape: &[usize]| -> Result<()> {
        tensors.insert(names.of(tensor), View::from_bytes(&Cpu, dtype, bytes, shape)?);
        Ok(())
    };
    let wide = |indices: &[u32]| (DType::U32, bytemuck::cast_slice(indices).to_vec());
    // Those below `end`, in 16 bits where all of them fit.
    let narrow = |indices: &[u32], end: usize| match end <= 1 << 16 {
        true => {
            let indices: Vec<u16> = indices.iter().map(|&index| index as u16).collect();
            (DType::U16, bytemuck::cast_slice(&indices).to_vec())
        }
        false => wide(indices),
    };
    if format.pattern == Pattern::Free {
        let (dtype, bytes) = wide(row_ptr);
        put("row_ptr", dtype, &bytes, &[row_ptr.len()])?;
    }
    if format.pattern != Pattern::Dense {
        let (dtype, bytes) = narrow(col_idx, format.column_groups());
        put("col_idx", dtype, &bytes, &[col_idx.len()])?;
    }
    put("codes", DType::U8, codes, &[matrix.kept(), format.group_bytes()])?;
    put("scales", scales.dtype(), scales.as_bytes(), &[scales.len()])?;
    if format.mode == Mode::Asym {
        put("zeros", DType::U8, zeros, &[zeros.len()])?;
    }
    if let Some(offsets) = offsets {
        put("offsets", offsets.dtype(), offsets.as_bytes(), &[offsets.len()])?;
    }
    if let Some(Outliers { row_ptr, col, val }) = outliers {
        let (dtype, bytes) = wide(row_ptr);
        put("out_row_ptr", dtype, &bytes, &[row_ptr.len()])?;
        let (dtype, bytes) = narrow(col, format.columns);
        put("out_col", dtype, &bytes, &[col.len()])?;
        put("out_val", val.dtype(), val.as_bytes(), &[val.len()])?;
    }
    if let Some(perm) = perm {
        let (dtype, bytes) = wide(perm);
        put("perm", dtype, &bytes, &[perm.len()])?;
    }
    Ok(tensors)
}
