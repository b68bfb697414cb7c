//! A matrix on a CUDA device.

use super::implicit_zero;
use crate::Result;
use crate::backend::Backend;
use crate::backend::cuda::{Address, Cuda, CudaBuffer, element, word};
use crate::element::DType;
use crate::group_sparse::format::{Format, Matrix};
use crate::group_sparse::kernels::DecompressPtx;
use crate::group_sparse::layout::{Geometry, Layout};
use crate::tensor::View;

/// A matrix on the device, in the layout of its kernels.
#[derive(Debug)]
pub struct Held {
    format: Format,
    pub(super) geometry: Geometry,
    /// Of scales and offsets.
    pub(super) scale_dtype: DType,
    /// Of a column group.
    pub(super) column_bytes: u64,
    /// Slots of a row, where all groups are kept; else 1.
    row_slots: usize,
    chunk_ptr: CudaBuffer,
    pub(super) codes: CudaBuffer,
    high: Option<CudaBuffer>,
    columns: Option<CudaBuffer>,
    pub(super) scales: CudaBuffer,
    zeros: Option<CudaBuffer>,
    offsets: Option<CudaBuffer>,
    pub(super) starts: CudaBuffer,
    perm: Option<CudaBuffer>,
    pub(super) outliers: Option<HeldOutliers>,
}

/// A few exact elements, in compressed rows.
#[derive(Debug)]
pub(super) struct HeldOutliers {
    pub row_ptr: CudaBuffer,
    pub columns: CudaBuffer,
    pub values: CudaBuffer,
    pub dtype: DType,
}

fn address(buffer: Option<&CudaBuffer>) -> Address {
    buffer.map_or(Address::NULL, |buffer| Address::within(buffer, 0))
}

impl Held {
    pub(super) fn new(device: &Cuda, matrix: &Matrix) -> Result<Self> {
        let layout = Layout::new(matrix);
        let parts = matrix.parts();
        let upload = |bytes: &[u8]| device.upload(bytes);
        let some = |bytes: &[u8]| match bytes.len() {
            0 => Ok(None),
            _ => device.upload(bytes).map(Some),
        };
        let outliers = parts.outliers.as_ref().filter(|outliers| !outliers.col.is_empty());
        let outliers = outliers.map(|outliers| -> Result<HeldOutliers> {
            Ok(HeldOutliers {
                row_ptr: upload(bytemuck::cast_slice(&outliers.row_ptr))?,
                columns: upload(bytemuck::cast_slice(&outliers.col))?,
                values: upload(outliers.val.as_bytes())?,
                dtype: outliers.val.dtype(),
            })
        });
        // Rows whose groups are all kept have as many chunks as the first one.
        let row_slots = match layout.columns.bytes() {
            0 => layout.geometry.slots(layout.chunk_ptr[1] as usize),
            _ => 1,
        };
        Ok(Self {
            format: layout.format,
            geometry: layout.geometry,
            scale_dtype: layout.scale_dtype(),
            column_bytes: layout.columns.bytes(),
            row_slots,
            chunk_ptr: upload(bytemuck::cast_slice(&layout.chunk_ptr))?,
            codes: upload(bytemuck::cast_slice(&layout.codes))?,
            high: some(bytemuck::cast_slice(&layout.high))?,
            columns: some(layout.columns.as_bytes())?,
            scales: upload(layout.scales.as_bytes())?,
            zeros: some(&layout.zeros)?,
            offsets: some(layout.offsets.as_ref().map_or(&[], |offsets| offsets.as_bytes()))?,
            starts: upload(bytemuck::cast_slice(&layout.starts))?,
            perm: parts.perm.as_ref().map(|perm| upload(bytemuck::cast_slice(perm))).transpose()?,
            outliers: outliers.transpose()?,
        })
    }

    pub(super) fn high(&self) -> Address {
        address(self.high.as_ref())
    }

    pub(super) fn columns(&self) -> Address {
        address(self.columns.as_ref())
    }

    pub(super) fn zeros(&self) -> Address {
        address(self.zeros.as_ref())
    }

    pub(super) fn offsets(&self) -> Address {
        address(self.offsets.as_ref())
    }

    pub(super) fn perm(&self) -> Address {
        address(self.perm.as_ref())
    }

    /// A group is 1 << this segments.
    pub(super) fn shift(&self) -> u32 {
        self.geometry.segments_of_group().ilog2()
    }

    /// Segments of a row, where all groups are kept.
    pub(super) fn row_segments(&self) -> u32 {
        word(self.row_slots * self.geometry.segments_of_group())
    }

    /// The launch that decodes rows from `first` on.
    pub(super) fn decompressed(&self, first: usize, dense: &View<Cuda>) -> DecompressPtx {
        let outliers = self.outliers.as_ref();
        let per_word = match self.format.bits {
            8 => 0,
            4 => 1,
            _ => 2,
        };
        DecompressPtx {
            perm: self.perm(),
            chunk_ptr: Address::within(&self.chunk_ptr, 0),
            codes: Address::within(&self.codes, 0),
            high: self.high(),
            columns: self.columns(),
            scales: Address::within(&self.scales, 0),
            zeros: self.zeros(),
            moved: self.offsets(),
            out_row_ptr: address(outliers.map(|outliers| &outliers.row_ptr)),
            out_columns: address(outliers.map(|outliers| &outliers.columns)),
            out_values: address(outliers.map(|outliers| &outliers.values)),
            dense: Address::of(dense),
            dense_stride: dense.strides()[0] as u64,
            width: word(self.format.columns),
            first_row: word(first),
            group_shift: self.format.group.ilog2(),
            segment_shift: self.geometry.segment.ilog2(),
            segments_shift: self.geometry.segments().ilog2(),
            per_word_shift: per_word,
            wide_columns: u32::from(self.column_bytes == 4),
            zero: implicit_zero(self.format.mode, self.format.middle()),
            scale_type: element(self.scale_dtype),
            value_type: element(outliers.map_or(DType::F32, |outliers| outliers.dtype)),
            dense_type: element(dense.dtype()),
        }
    }
}
