//! The WGSL kernels: x is staged, products go from the matrix to sums of rows, and sums become y.

use std::ops::Range;
use std::sync::Arc;

use super::format::Matrix;
use super::kernels::{FinishWgsl, ProductWgsl, StageWgsl};
use super::plan::{self, Work};
use super::{GroupSparse, NAME, Options, Plan, Problem, Product, Weights};
use crate::Result;
use crate::backend::Backend;
use crate::backend::wgpu::{Recorder, Wgpu, WgpuBuffer, folded, refused};
use crate::element::DType;
use crate::tensor::View;

mod decompress;
mod held;
mod product;
#[cfg(test)]
mod tests;

pub use held::Held;

impl GroupSparse for Wgpu {
    type Held = Arc<Held>;
    type Kept = Kept;

    fn hold(&self, matrix: &Matrix) -> Result<Arc<Held>> {
        Held::new(self, matrix).map(Arc::new)
    }

    fn plan(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::wgpu(&self.name(), &self.limits(), problem, options)
    }

    fn variants(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        let planned = self.plan(problem, options)?.variant;
        let others = plan::kernels(problem, &self.limits()).into_iter().map(|info| info.name);
        Ok(std::iter::once(planned).chain(others.filter(|&name| name != planned)).collect())
    }

    fn prepare(&self, problem: &Problem, plan: &Plan) -> Result<Kept> {
        for info in [StageWgsl::VARIANTS[0].info, FinishWgsl::VARIANTS[0].info] {
            self.preload(info)?;
        }
        if let Some(variant) =
            ProductWgsl::VARIANTS.iter().find(|one| one.info.name == plan.variant)
        {
            self.preload(variant.info)?;
        }
        Kept::new(self, problem, plan)
    }

    fn launch(
        &self,
        product: &Product<Self>,
        x: &View<Self>,
        bias: Option<&View<Self>>,
        y: &View<Self>,
    ) -> Result<()> {
        let named = [("x", x), ("y", y)].into_iter().chain(bias.map(|bias| ("bias", bias)));
        for (name, view) in named {
            view.buffer().check_usages(NAME, name)?;
        }
        product::launch(self, product, x, bias, y)
    }

    fn launch_decompress(
        &self,
        weights: &Weights<Self>,
        rows: Range<usize>,
        dense: &View<Self>,
    ) -> Result<()> {
        dense.buffer().check_usages(NAME, "dense")?;
        decompress::launch(self, weights.held(), rows, dense)
    }
}

/// What a planned product keeps on the device.
#[derive(Debug)]
pub struct Kept {
    /// The shares of work, then a word per row, see [`Work`].
    plan: WgpuBuffer,
    staged: WgpuBuffer,
    sums: WgpuBuffer,
    work: Work,
}

impl Kept {
    fn new(device: &Wgpu, problem: &Problem, plan: &Plan) -> Result<Self> {
        let work = Work::of(&device.name(), &device.limits(), problem, plan)?;
        let mut words: Vec<u32> = bytemuck::cast_slice(&work.shares).to_vec();
        words.extend_from_slice(&work.joins);
        Ok(Self {
            plan: device.upload(bytemuck::cast_slice(&words))?,
            staged: device.allocate(4 * (work.at_once * work.staged) as u64)?,
            sums: device.allocate(4 * (work.at_once * work.line()) as u64)?,
            work,
        })
    }
}

/// Records into an encoder of our own and submits it.
fn recorded(
    device: &Wgpu,
    label: &str,
    record: impl FnOnce(&mut Recorder<'_>) -> Result<()>,
) -> Result<()> {
    let descriptor = ::wgpu::CommandEncoderDescriptor { label: Some(label) };
    let mut encoder = device.device().create_command_encoder(&descriptor);
    record(&mut Recorder::new(device, &mut encoder))?;
    device.submit(encoder)
}

/// A size as kernels take it.
fn word(device: &Wgpu, what: &str, size: usize) -> Result<u32> {
    u32::try_from(size).map_err(|_| refused(NAME, device, format!("{size} {what}")))
}

/// A grid of so many workgroups.
fn grid(device: &Wgpu, count: usize) -> Result<[u32; 3]> {
    folded(count as u64, device.limits().grid)
        .ok_or_else(|| refused(NAME, device, format!("{count} workgroups")))
}

/// What stands for a type of numbers that are absent.
const ABSENT: u32 = 3;

/// A type of numbers, as kernels are told of it.
fn kind(dtype: DType) -> u32 {
    match dtype {
        DType::BF16 => 1,
        DType::F16 => 2,
        _ => 0,
    }
}

/// Rows of a tensor that one binding holds.
fn rows_at_once(device: &Wgpu, view: &View<Wgpu>) -> usize {
    let row = view.strides()[0].saturating_mul(view.dtype().bytes()).max(1) as u64;
    // A binding begins at a boundary below its first element.
    let most = device.limits().binding_bytes.saturating_sub(256);
    usize::try_from(most / row).unwrap_or(usize::MAX).max(1)
}

/// Elements from row to row, 0 where there is one row.
fn stride(device: &Wgpu, view: &View<Wgpu>) -> Result<u32> {
    let stride = if view.shape()[0] > 1 { view.strides()[0] } else { 0 };
    word(device, "elements from row to row", stride)
}

/// Words of a row that begins anywhere, with those that it has a half of.
fn words_of_row(dtype: DType, elements: usize) -> usize {
    match dtype.bytes() {
        2 => elements / 2 + 1,
        _ => elements,
    }
}
