//! Launches the PTX: what outliers add, then the product, whose warps put rows together by themselves.

use std::ops::Range;
use std::sync::Arc;

use super::format::{Matrix, Mode};
use super::kernels::{DecompressPtx, OutliersPtx, ProductPtx, ProductsPtx, SpreadPtx};
use super::plan::{self, Space};
use super::{GroupSparse, NAME, Options, Plan, Problem, Product, Weights};
use crate::Result;
use crate::backend::Backend;
use crate::backend::cuda::{
    Address, Cuda, CudaBuffer, Grid, Stream, element, grid_length, linear, only, variant, word,
};
use crate::backend::kernel::VariantInfo;
use crate::element::DType;
use crate::tensor::View;

mod held;

pub use held::Held;

impl GroupSparse for Cuda {
    type Held = Arc<Held>;
    type Kept = Kept;

    fn hold(&self, matrix: &Matrix) -> Result<Arc<Held>> {
        Held::new(self, matrix).map(Arc::new)
    }

    fn plan(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cuda(&self.name(), &self.limits(), problem, options)
    }

    fn variants(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        let planned = self.plan(problem, options)?.variant;
        let others = plan::cuda_kernels(&self.limits(), problem).into_iter().map(|info| info.name);
        Ok(std::iter::once(planned).chain(others.filter(|&name| name != planned)).collect())
    }

    fn prepare(&self, problem: &Problem, plan: &Plan) -> Result<Kept> {
        let kept = Kept::new(self, problem, plan)?;
        let stream = self.stream();
        stream.preload(kept.info)?;
        if !plan::is_staged(kept.info) {
            stream.preload(only(NAME, SpreadPtx::VARIANTS)?.info)?;
        }
        match problem.outliers {
            0 => Ok(kept),
            _ => stream.preload(only(NAME, OutliersPtx::VARIANTS)?.info).map(|()| kept),
        }
    }

    fn launch(
        &self,
        product: &Product<Self>,
        x: &View<Self>,
        bias: Option<&View<Self>>,
        y: &View<Self>,
    ) -> Result<()> {
        self.check_streams(NAME, [("x", x), ("y", y)])?;
        self.check_streams(NAME, bias.map(|bias| ("bias", bias)))?;
        let call = Call { stream: self.stream(), product, x, y };
        let base = call.launch_outliers(bias)?;
        match plan::is_staged(product.kept().info) {
            true => call.launch_one(base),
            false => call.launch_several(base),
        }
    }

    fn launch_decompress(
        &self,
        weights: &Weights<Self>,
        rows: Range<usize>,
        dense: &View<Self>,
    ) -> Result<()> {
        self.check_streams(NAME, [("dense", dense)])?;
        let (stream, held) = (self.stream(), weights.held());
        let kernel = only(NAME, DecompressPtx::VARIANTS)?;
        let most = stream.limits().grid[1] as usize;
        // A grid is only so high.
        for first in rows.clone().step_by(most) {
            let count = most.min(rows.end - first);
            let at = first - rows.start;
            let part = dense.narrowed(0, at..at + count)?;
            let columns = weights.problem().format.columns as u64;
            let across = linear(NAME, stream, columns.div_ceil(u64::from(kernel.info.block[0])))?;
            let grid = Grid { blocks: [across.blocks[0], word(count), 1], ..across };
            held.decompressed(first, &part).launch(stream, kernel, grid)?;
        }
        Ok(())
    }
}

/// What a planned product keeps on the device.
#[derive(Debug)]
pub struct Kept {
    info: &'static VariantInfo,
    space: Space,
    workspace: CudaBuffer,
    /// The shares of the workers.
    shares: CudaBuffer,
    /// How many parts of each worker's last row have come: 0 between calls.
    counters: CudaBuffer,
}

impl Kept {
    fn new(device: &Cuda, problem: &Problem, plan: &Plan) -> Result<Self> {
        let fitting = plan::cuda_kernels(&device.limits(), problem);
        let planned = Options::default().with_variant(plan.variant);
        let info = plan::choose(&device.name(), &planned, &fitting)?;
        let chunk_ptr = plan::chunk_ptr(problem);
        let shares = plan::shares(&plan.partition(&chunk_ptr), problem.format.rows);
        let space = Space::of(problem, info, plan.workers);
        Ok(Self {
            info,
            space,
            workspace: device.allocate(space.bytes)?,
            shares: device.upload(bytemuck::cast_slice(&shares))?,
            counters: device.upload(&vec![0; plan.workers * 4])?,
        })
    }

    fn at(&self, place: u64) -> Address {
        Address::within(&self.workspace, place)
    }
}

/// What is added to each sum: where it lies, its type, and the elements from a vector to the next.
#[derive(Clone, Copy)]
struct Base {
    address: Address,
    dtype: DType,
    stride: u64,
}

struct Call<'a> {
    stream: &'a Stream,
    product: &'a Product<Cuda>,
    x: &'a View<Cuda>,
    y: &'a View<Cuda>,
}

impl Call<'_> {
    fn vectors(&self) -> usize {
        self.x.shape()[0]
    }

    /// The bias, with what outliers add where there are any.
    fn launch_outliers(&self, bias: Option<&View<Cuda>>) -> Result<Base> {
        let (held, kept) = (self.product.weights().held(), self.product.kept());
        let (address, dtype) = match bias {
            Some(bias) => (Address::of(bias), bias.dtype()),
            None => (Address::NULL, DType::F32),
        };
        let Some(outliers) = &held.outliers else {
            return Ok(Base { address, dtype, stride: 0 });
        };
        let kernel = only(NAME, OutliersPtx::VARIANTS)?;
        let rows = self.product.problem().format.rows;
        let grid = linear(
            NAME,
            self.stream,
            (rows as u64).div_ceil(u64::from(kernel.info.block[0] / 32)),
        )?;
        let base = kept.at(kept.space.base);
        OutliersPtx {
            x: Address::of(self.x),
            perm: held.perm(),
            row_ptr: Address::within(&outliers.row_ptr, 0),
            columns: Address::within(&outliers.columns, 0),
            values: Address::within(&outliers.values, 0),
            bias: address,
            base,
            x_stride: self.x.strides()[0] as u64,
            rows: word(rows),
            vectors: word(self.vectors()),
            x_type: element(self.x.dtype()),
            value_type: element(outliers.dtype),
            bias_type: element(dtype),
        }
        .launch(self.stream, kernel, grid)?;
        Ok(Base { address: base, dtype: DType::F32, stride: rows as u64 })
    }

    /// A grid of a warp per worker.
    fn grid(&self, dynamic_shared: usize) -> Result<Grid> {
        let warps = self.product.kept().info.block[0] / 32;
        let blocks = (self.product.plan().workers as u64).div_ceil(u64::from(warps));
        let blocks = grid_length(NAME, self.stream.device_name(), self.stream.limits(), blocks)?;
        let dynamic_shared = word(dynamic_shared);
        Ok(Grid { blocks: [blocks, 1, 1], dynamic_shared, ..Grid::default() })
    }

    /// One vector, in shared memory.
    fn launch_one(&self, base: Base) -> Result<()> {
        let (held, kept) = (self.product.weights().held(), self.product.kept());
        let format = &self.product.problem().format;
        let kernel = variant(NAME, ProductPtx::VARIANTS, |info| info.name == kept.info.name)?;
        let (staged, shared) = held.geometry.staged(format.column_groups());
        for m in 0..self.vectors() {
            let (x, y) = (self.x.narrowed(0, m..m + 1)?, self.y.narrowed(0, m..m + 1)?);
            let above = m as u64 * base.stride * base.dtype.bytes() as u64;
            ProductPtx {
                x: Address::of(&x),
                perm: held.perm(),
                codes: Address::within(&held.codes, 0),
                high: held.high(),
                columns: held.columns(),
                scales: Address::within(&held.scales, 0),
                zeros: held.zeros(),
                starts: Address::within(&held.starts, 0),
                shares: Address::within(&kept.shares, 0),
                base: base.address.plus(above),
                y: Address::of(&y),
                slots: kept.at(kept.space.slots),
                counters: Address::within(&kept.counters, 0),
                width: word(format.columns),
                staged: word(staged),
                shift: held.shift(),
                row_segments: held.row_segments(),
                workers: word(self.product.plan().workers),
                x_type: element(x.dtype()),
                scale_type: element(held.scale_dtype),
                base_type: element(base.dtype),
                y_type: element(y.dtype()),
            }
            .launch(self.stream, kernel, self.grid(shared)?)?;
        }
        Ok(())
    }

    /// Several vectors, or one that shared memory has no room for.
    fn launch_several(&self, base: Base) -> Result<()> {
        let (held, kept) = (self.product.weights().held(), self.product.kept());
        let format = &self.product.problem().format;
        let kernel = variant(NAME, ProductsPtx::VARIANTS, |info| info.name == kept.info.name)?;
        let slots = plan::vectors_of(kernel.info);
        let steps = held.geometry.staged(format.column_groups()).0 / 4;
        let spread = only(NAME, SpreadPtx::VARIANTS)?;
        let threads = (steps * slots) as u64;
        let grid = linear(NAME, self.stream, threads.div_ceil(u64::from(spread.info.block[0])))?;
        SpreadPtx {
            x: Address::of(self.x),
            perm: held.perm(),
            to: kept.at(kept.space.spread),
            x_stride: self.x.strides()[0] as u64,
            width: word(format.columns),
            steps: word(steps),
            slots: word(slots),
            vectors: word(self.vectors()),
            x_type: element(self.x.dtype()),
        }
        .launch(self.stream, spread, grid)?;
        ProductsPtx {
            x: kept.at(kept.space.spread),
            codes: Address::within(&held.codes, 0),
            high: held.high(),
            columns: held.columns(),
            scales: Address::within(&held.scales, 0),
            zeros: held.zeros(),
            moved: held.offsets(),
            starts: Address::within(&held.starts, 0),
            shares: Address::within(&kept.shares, 0),
            base: base.address,
            y: Address::of(self.y),
            slots: kept.at(kept.space.slots),
            counters: Address::within(&kept.counters, 0),
            base_stride: base.stride,
            y_stride: self.y.strides()[0] as u64,
            vectors: word(self.vectors()),
            shift: held.shift(),
            steps_shift: (held.geometry.segment / 4).ilog2(),
            row_segments: held.row_segments(),
            workers: word(self.product.plan().workers),
            wide_columns: u32::from(held.column_bytes == 4),
            zero: implicit_zero(format.mode, format.middle()),
            scale_type: element(held.scale_dtype),
            base_type: element(base.dtype),
            y_type: element(self.y.dtype()),
        }
        .launch(self.stream, kernel, self.grid(0)?)
    }
}

/// The zero of a matrix that has none of its own.
fn implicit_zero(mode: Mode, middle: u8) -> u32 {
    match mode {
        Mode::Sym | Mode::Asym => middle.into(),
        Mode::Affine => 0,
    }
}
