//! Compressed layers as files hold them: a [`Matrix`] under the names of its tensors, and what the
//! metadata of the file say of it.
//!
//! The dense weight of a layer P is `P.weight`; compressed, it is these tensors:
//!
//! | tensor | elements | shape | |
//! |---|---|---|---|
//! | `P.gqsa.row_ptr` | u32 | (N + 1) | of the pattern `free` |
//! | `P.gqsa.col_idx` | u16, or u32 beyond 65536 column groups | (T) | not of `dense` |
//! | `P.gqsa.codes` | u8 | (T, G b / 8) | |
//! | `P.gqsa.scales` | f16, bf16, f32 | (T), or (N) | one per group, or per row |
//! | `P.gqsa.zeros` | u8 | as `scales` | of the mode `asym` |
//! | `P.gqsa.offsets` | as `scales` | as `scales` | of the mode `affine` |
//! | `P.gqsa.out_row_ptr`, `out_col`, `out_val` | u32; u16 or u32; f16, bf16, f32 | (N + 1); (O); (O) | outliers, where there are some |
//! | `P.gqsa.perm` | u32 | (K) | where columns are permuted |
//! | `P.bias` | any float | (N) | optional |
//!
//! Indices in i32 are taken as well, if none is negative. Sides, coding and counts stand in the
//! metadata `gqsa.layers`, a JSON object with an entry for each layer, which [`headers`] reads and
//! [`metadata`] writes. What does not fit is an error that names layer, tensor, row and value;
//! nothing is repaired.
//!
//! ```
//! use warpwright::DType;
//! use warpwright::group_sparse::layer::{Layer, headers, metadata};
//! # use warpwright::group_sparse::{Floats, Format, Matrix, Mode, Parts, Pattern, ScaleScope};
//! # let format = Format {
//! #     rows: 1, columns: 16, group: 8, bits: 4,
//! #     mode: Mode::Sym, pattern: Pattern::Dense, scope: ScaleScope::Group,
//! # };
//! # let matrix = Matrix::new(Parts {
//! #     format, row_ptr: vec![], col_idx: vec![], codes: vec![0x99; 8],
//! #     scales: Floats::F32(vec![0.5, 0.25]), zeros: vec![], offsets: None, outliers: None, perm: None,
//! # })?;
//!
//! let layer = Layer::new("mlp", matrix, DType::F32);
//! let tensors = layer.to_named()?;
//! assert_eq!(tensors["mlp.gqsa.codes"].shape()[..], [2, 4]);
//!
//! let said = metadata([("mlp", &layer.header())]);
//! let header = &headers(&said.into())?["mlp"];
//! assert_eq!(Layer::from_named("mlp", header, &tensors)?.matrix, layer.matrix);
//! # Ok::<(), warpwright::Error>(())
//! ```

use std::collections::BTreeMap;

use serde_json::Value;

use super::check::CHECK;
use super::compress::{self, Compressed};
use super::format::Matrix;
use super::partition::imbalance;
use crate::Result;
use crate::backend::{Cpu, Named};
use crate::element::DType;
use crate::tensor::View;

mod header;
mod tensors;

pub use header::{Header, headers, metadata};

pub(super) use tensors::knows;

/// A compressed layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// P, the name without `.weight`.
    pub name: String,
    /// The weight.
    pub matrix: Matrix,
    /// (N), of any float type.
    pub bias: Option<View<Cpu>>,
    /// The type of the weights that were compressed.
    pub source: DType,
    /// What the metadata say besides; see [`Header::info`].
    pub info: BTreeMap<String, Value>,
}

impl Layer {
    /// A layer without a bias, made of weights of this type.
    pub fn new(name: impl Into<String>, matrix: Matrix, source: DType) -> Self {
        Self { name: name.into(), matrix, bias: None, source, info: BTreeMap::new() }
    }

    /// What has come of a compression of weights of this type, with the options of the compressor and
    /// its report.
    pub fn compressed(
        name: impl Into<String>,
        compressed: Compressed,
        source: DType,
        options: &compress::Options,
    ) -> Self {
        // Numbers and truth values as such, names as texts.
        let as_json = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
        let options = options.texts().into_iter().map(|(key, text)| (key, as_json(&text)));
        let report = compressed.report.fields().into_iter();
        let report = report.map(|(key, value)| (key.to_owned(), as_json(&value.to_string())));
        let info = [("options", options.collect()), ("report", report.collect())];
        let info = info.map(|(key, value): (&str, Value)| (key.to_owned(), value)).into();
        Self { info, ..Self::new(name, compressed.matrix, source) }
    }

    /// The layer of this name, made of its tensors; all others are passed over.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`](crate::Error::Tensor) where one is missing, unknown or one too many,
    /// [`Error::Shape`](crate::Error::Shape) and [`Error::Dtype`](crate::Error::Dtype) where one
    /// does not fit what the metadata say, [`Error::Unsupported`](crate::Error::Unsupported) for
    /// scales in two levels, and what [`Matrix::new`] refuses.
    pub fn from_named(name: &str, header: &Header, named: &Named<Cpu>) -> Result<Self> {
        let matrix = tensors::matrix(name, header, named)?;
        let key = bias_name(name);
        let bias = named.get(&key).cloned();
        if let Some(bias) = &bias {
            CHECK.shape(&key, bias, &[("N", header.format.rows)])?;
            CHECK.dtype(&key, bias, &BIASES)?;
        }
        let (source, info) = (header.source, header.info.clone());
        Ok(Self { name: name.to_owned(), matrix, bias, source, info })
    }

    /// The tensors of the layer, under their names in a file.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn to_named(&self) -> Result<Named<Cpu>> {
        let mut named = tensors::named(&self.name, &self.matrix)?;
        named.extend(self.bias.clone().map(|bias| (bias_name(&self.name), bias)));
        Ok(named)
    }

    /// What the metadata of a file say of it.
    pub fn header(&self) -> Header {
        Header { info: self.info.clone(), ..Header::of(&self.matrix, self.source) }
    }

    /// The most kept groups of a row over the mean of all rows.
    pub fn imbalance(&self) -> f64 {
        imbalance(self.matrix.row_ptr(), 1)
    }
}

/// The types of a bias.
const BIASES: [DType; 4] = [DType::F32, DType::BF16, DType::F16, DType::F64];

/// The tensor of a layer's bias.
pub(super) fn bias_name(layer: &str) -> String {
    format!("{layer}.bias")
}

#[cfg(test)]
pub(super) mod random;
#[cfg(test)]
mod tests;
