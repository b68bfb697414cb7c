//! A matrix on a WebGPU device: in parts, as bindings hold only so much.

use std::ops::Range;

use crate::Result;
use crate::backend::Backend;
use crate::backend::wgpu::{Slice, Wgpu, WgpuBuffer};
use crate::element::DType;
use crate::group_sparse::format::{Floats, Format, Matrix, Mode, Outliers};
use crate::group_sparse::layout::{Geometry, Layout, TILE};
use crate::group_sparse::plan;

/// A matrix on the device.
#[derive(Debug)]
pub struct Held {
    pub(super) format: Format,
    pub(super) geometry: Geometry,
    /// Of scales and offsets.
    pub(super) scale_dtype: DType,
    /// Of a column group.
    pub(super) column_bytes: u32,
    pub(super) parts: Vec<Part>,
    /// Of all rows, whether they have outliers or not.
    pub(super) outliers: Vec<OutlierPart>,
    pub(super) outlier_dtype: Option<DType>,
    pub(super) permutation: Option<Permutation>,
}

/// Some rows.
#[derive(Debug)]
pub(super) struct Part {
    pub rows: Range<usize>,
    pub tiles: usize,
    codes: WgpuBuffer,
    high: Option<WgpuBuffer>,
    /// A word per tile that says where rows begin; where each row's chunks begin; column groups.
    places: WgpuBuffer,
    scales: WgpuBuffer,
    /// Zeros or offsets.
    beside: Option<WgpuBuffer>,
}

/// The outliers of some rows.
#[derive(Debug)]
pub(super) struct OutlierPart {
    pub rows: Range<usize>,
    pub count: usize,
    /// Where each row's begin, columns, values.
    pub buffer: Option<WgpuBuffer>,
}

/// Which column of x a stored one multiplies, and the other way round.
#[derive(Debug)]
pub(super) struct Permutation {
    pub perm: WgpuBuffer,
    pub inverse: WgpuBuffer,
}

impl Held {
    pub fn new(device: &Wgpu, matrix: &Matrix) -> Result<Self> {
        let limits = device.limits();
        let layout = Layout::new(matrix);
        let parts = plan::parts(&device.name(), &layout.chunk_ptr, &layout.geometry, &limits)?;
        let outliers = matrix.parts().outliers.as_ref();
        let perm = matrix.parts().perm.as_deref();
        Ok(Self {
            format: *matrix.format(),
            geometry: layout.geometry,
            scale_dtype: layout.scale_dtype(),
            column_bytes: layout.columns.bytes() as u32,
            parts: parts
                .into_iter()
                .map(|rows| Part::new(device, &layout, rows))
                .collect::<Result<_>>()?,
            outliers: outlier_parts(device, matrix.format().rows, outliers, limits.binding_bytes)?,
            outlier_dtype: outliers.map(|outliers| outliers.val.dtype()),
            permutation: perm.map(|perm| Permutation::new(device, perm)).transpose()?,
        })
    }

    /// How codes become numbers, as kernels are told.
    pub fn mode(&self) -> u32 {
        match self.format.mode {
            Mode::Sym => 0,
            Mode::Asym => 1,
            Mode::Affine => 2,
        }
    }
}

impl Part {
    fn new(device: &Wgpu, layout: &Layout, rows: Range<usize>) -> Result<Self> {
        let geometry = layout.geometry;
        let begin = layout.chunk_ptr[rows.start] as usize / TILE;
        let end = (layout.chunk_ptr[rows.end] as usize).div_ceil(TILE);
        let (chunks, slots) =
            (begin * TILE..end * TILE, geometry.slots(begin * TILE)..geometry.slots(end * TILE));
        let columns = {
            let bytes = layout.columns.bytes() as usize;
            &layout.columns.as_bytes()[slots.start * bytes..slots.end * bytes]
        };
        let mut places: Vec<u8> = bytemuck::cast_slice(&layout.starts[begin..end]).to_vec();
        places.extend_from_slice(bytemuck::cast_slice(&plan::local(&layout.chunk_ptr, &rows)));
        places.extend_from_slice(columns);
        let words = |words: &[u32], of_chunk: usize| {
            device.upload(bytemuck::cast_slice(
                &words[chunks.start * of_chunk..chunks.end * of_chunk],
            ))
        };
        let floats = |floats: &Floats| {
            let bytes = floats.dtype().bytes();
            device.upload(&floats.as_bytes()[slots.start * bytes..slots.end * bytes])
        };
        let beside = match (layout.format.mode, &layout.offsets) {
            (Mode::Asym, _) => Some(device.upload(&layout.zeros[slots.clone()])?),
            (Mode::Affine, Some(offsets)) => Some(floats(offsets)?),
            _ => None,
        };
        Ok(Self {
            tiles: end - begin,
            codes: words(&layout.codes, 4)?,
            high: (layout.format.bits == 3).then(|| words(&layout.high, 2)).transpose()?,
            places: device.upload(&places)?,
            scales: floats(&layout.scales)?,
            beside,
            rows,
        })
    }

    /// Words of `places` before where rows begin.
    pub fn rows_at(&self) -> usize {
        self.tiles
    }

    /// Words of `places` before the column groups.
    pub fn columns_at(&self) -> usize {
        self.tiles + self.rows.len() + 1
    }

    /// What kernels bind: codes, high bits, places, scales, and what stands beside them. The codes in place of
    /// what is absent.
    pub fn slices(&self) -> [Slice<'_>; 5] {
        let codes = Slice::whole(&self.codes);
        [
            codes,
            self.high.as_ref().map_or(codes, Slice::whole),
            Slice::whole(&self.places),
            Slice::whole(&self.scales),
            self.beside.as_ref().map_or(codes, Slice::whole),
        ]
    }
}

impl OutlierPart {
    /// Words before the columns.
    pub fn columns_at(&self) -> usize {
        self.rows.len() + 1
    }

    /// Words before the values.
    pub fn values_at(&self) -> usize {
        self.columns_at() + self.count
    }
}

impl Permutation {
    fn new(device: &Wgpu, perm: &[u32]) -> Result<Self> {
        let mut inverse = vec![0u32; perm.len()];
        for (stored, &input) in perm.iter().enumerate() {
            inverse[input as usize] = stored as u32;
        }
        Ok(Self {
            perm: device.upload(bytemuck::cast_slice(perm))?,
            inverse: device.upload(bytemuck::cast_slice(&inverse))?,
        })
    }
}

/// Outliers in runs of rows whose own fit in a binding. One row's that do not are refused at a launch.
fn outlier_parts(
    device: &Wgpu,
    rows: usize,
    outliers: Option<&Outliers>,
    binding_bytes: u64,
) -> Result<Vec<OutlierPart>> {
    let Some(outliers) = outliers else {
        return Ok(vec![OutlierPart { rows: 0..rows, count: 0, buffer: None }]);
    };
    let bytes = |rows: Range<usize>| {
        let count = outliers.row_ptr[rows.end] - outliers.row_ptr[rows.start];
        4 * (rows.len() as u64 + 2) + 8 * u64::from(count)
    };
    let mut parts = Vec::new();
    let mut first = 0;
    while first < rows {
        let mut end = first + 1;
        while end < rows && bytes(first..end + 1) <= binding_bytes {
            end += 1;
        }
        let own = outliers.row_ptr[first] as usize..outliers.row_ptr[end] as usize;
        let row_ptr = outliers.row_ptr[first..=end].iter().map(|&at| at - own.start as u32);
        let mut words: Vec<u32> = row_ptr.collect();
        words.extend_from_slice(&outliers.col[own.clone()]);
        let mut contents: Vec<u8> = bytemuck::cast_slice(&words).to_vec();
        let width = outliers.val.dtype().bytes();
        contents.extend_from_slice(&outliers.val.as_bytes()[own.start * width..own.end * width]);
        let buffer = Some(device.upload(&contents)?);
        parts.push(OutlierPart { rows: first..end, count: own.len(), buffer });
        first = end;
    }
    Ok(parts)
}
