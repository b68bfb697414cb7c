//! Files of compressed layers and of other tensors, in the safetensors format, one tensor at a time:
//! memory does not grow with the model.
//!
//! A [`Reader`] reads the header of a file, and then each tensor or layer that it is asked for. A
//! [`Writer`] takes tensors in any order and puts them into the file sorted by name, so that equal
//! input gives equal bytes; the file appears when it is whole.
//!
//! ```
//! use warpwright::group_sparse::file::{Reader, Writer};
//! use warpwright::group_sparse::layer::Layer;
//! use warpwright::{DType, Tensor};
//! # use warpwright::group_sparse::{Floats, Format, Matrix, Mode, Parts, Pattern, ScaleScope};
//! # let format = Format {
//! #     rows: 1, columns: 16, group: 8, bits: 4,
//! #     mode: Mode::Sym, pattern: Pattern::Dense, scope: ScaleScope::Group,
//! # };
//! # let matrix = Matrix::new(Parts {
//! #     format, row_ptr: vec![], col_idx: vec![], codes: vec![0x99; 8],
//! #     scales: Floats::F32(vec![0.5, 0.25]), zeros: vec![], offsets: None, outliers: None, perm: None,
//! # })?;
//! # let path = std::env::temp_dir().join(format!("warpwright-doc-{}", std::process::id()));
//!
//! let norm = Tensor::from_vec(vec![1f32; 16], &[16])?;
//! let mut writer = Writer::create(&path)?;
//! writer.tensor("norm.weight", &norm)?;
//! writer.layer(&Layer::new("mlp", matrix, DType::F32))?;
//! writer.finish()?;
//!
//! let mut reader = Reader::open(&path)?;
//! assert_eq!(reader.headers()["mlp"].format.columns, 16);
//! assert_eq!(reader.layer("mlp")?.matrix.kept(), 2);
//! assert_eq!(reader.tensor("norm.weight")?.shape()[..], [16]);
//! # std::fs::remove_file(path).unwrap();
//! # Ok::<(), warpwright::Error>(())
//! ```

use std::ops::Range;
use std::path::Path;

use crate::Error;
use crate::element::DType;

mod reader;
mod writer;

pub use reader::Reader;
/// The element types that files name; more than tensors of this crate have.
pub use safetensors::Dtype;
pub use writer::Writer;

/// Where a tensor lies, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The type of the elements.
    pub dtype: Dtype,
    /// The lengths of the axes.
    pub shape: Vec<usize>,
    /// Its bytes, counted from the first one behind the header.
    pub range: Range<u64>,
}

impl Entry {
    /// How many bytes it has.
    pub fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// The type of tensors for elements of a file, where there is one; truth values are bytes.
pub fn dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::BOOL | Dtype::U8 => DType::U8,
        Dtype::U16 => DType::U16,
        Dtype::I32 => DType::I32,
        Dtype::U32 => DType::U32,
        Dtype::I64 => DType::I64,
        Dtype::U64 => DType::U64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        _ => return None,
    })
}

/// How files name the type of a tensor.
pub fn stored(dtype: DType) -> Dtype {
    match dtype {
        DType::U8 => Dtype::U8,
        DType::U16 => Dtype::U16,
        DType::I32 => Dtype::I32,
        DType::U32 => Dtype::U32,
        DType::I64 => Dtype::I64,
        DType::U64 => Dtype::U64,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
    }
}

/// Bytes that are read, or copied, at once.
const CHUNK: usize = 1 << 20;

/// What is wrong with a file.
fn wrong(path: &Path, reason: impl ToString) -> Error {
    Error::Io { what: path.display().to_string(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests;
