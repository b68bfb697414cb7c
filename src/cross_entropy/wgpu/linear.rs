//! Dispatches of the linear layer's products.

use std::ops::Range;

use super::rows::Lines;
use super::{find, grid, numbers, word};
use crate::Result;
use crate::backend::kernel::VariantInfo;
use crate::backend::wgpu::{Placed, Recorder, Slice, Wgpu, WgpuBuffer};
use crate::cross_entropy::kernels::{ProductWgsl, ProductWgslParams};
use crate::cross_entropy::plan::Chunks;
use crate::cross_entropy::{GradientLines, Problem};
use crate::element::{DType, Element};
use crate::tensor::{Tensor, View};

/// Room for the logits that are there at once.
pub(super) fn room(device: &Wgpu, problem: &Problem, chunks: Chunks) -> Result<WgpuBuffer> {
    match problem.width {
        Some(_) => numbers(device, &[problem.tokens, chunks.line()]),
        None => numbers(device, &[1]),
    }
}

/// Room for the sums of x's gradient, where they are not f32 where they go.
pub(super) fn room_for_sums(
    device: &Wgpu,
    problem: &Problem,
    gradients: &GradientLines<'_, Wgpu>,
) -> Result<Option<WgpuBuffer>> {
    match gradients {
        GradientLines::Linear { x, .. } if x.dtype() != DType::F32 => {
            numbers(device, &[problem.tokens, problem.width.unwrap_or(0)]).map(Some)
        }
        _ => Ok(None),
    }
}

/// A linear layer.
pub(super) struct Linear<'a, T: Element> {
    pub device: &'a Wgpu,
    pub problem: &'a Problem,
    pub x: &'a Tensor<Wgpu, T>,
    pub weight: &'a Tensor<Wgpu, T>,
    /// Where logits are computed, or their gradients.
    pub logits: &'a WgpuBuffer,
    pub chunks: Chunks,
}

impl<T: Element> Linear<'_, T> {
    fn width(&self) -> usize {
        self.problem.width.unwrap_or(0)
    }

    /// Computes the logits of some columns.
    pub fn record_logits(
        &self,
        recorder: &mut Recorder<'_>,
        columns: Range<usize>,
    ) -> Result<Lines> {
        let shape = [self.problem.tokens, columns.len()];
        let line = self.chunks.line();
        let sizes = [self.problem.tokens, columns.len(), self.width()];
        let weights = self.weight.narrowed(0, columns)?;
        let product = Product {
            device: self.device,
            kind: "logits",
            a: Factor::of(self.device, self.x, false)?,
            b: Factor::of(self.device, &weights, false)?,
            adds: false,
            sums: (Slice::whole(self.logits), 0, line),
            result: None,
            sizes,
        };
        product.record::<T>(recorder)?;
        Lines::computed(self.device, self.logits, shape, line)
    }
}

/// Where the gradients of a linear layer go.
pub(super) struct Gradients<'a, T: Element> {
    pub linear: &'a Linear<'a, T>,
    pub dx: &'a View<Wgpu>,
    pub dweight: &'a View<Wgpu>,
    /// The sums of dx, where they do not lie in dx itself.
    pub sums: Option<&'a WgpuBuffer>,
}

impl<T: Element> Gradients<'_, T> {
    /// What a chunk, whose gradients of logits are there, adds.
    pub fn record(&self, recorder: &mut Recorder<'_>, columns: Range<usize>) -> Result<()> {
        let linear = self.linear;
        let device = linear.device;
        let (tokens, width) = (linear.problem.tokens, linear.width());
        let line = word(device, "numbers of a row", linear.chunks.line())?;
        let dz = Slice::whole(linear.logits);
        let weights = linear.weight.narrowed(0, columns.clone())?;
        let is_last = columns.end == linear.problem.columns;
        Product {
            device,
            kind: "gradients",
            a: Factor { slice: dz, at: 0, line, term: 1 },
            b: Factor::of(device, &weights, true)?,
            adds: columns.start > 0,
            sums: self.sums(),
            result: self.sums.filter(|_| is_last).map(|_| self.dx),
            sizes: [tokens, width, columns.len()],
        }
        .record::<T>(recorder)?;
        let to = self.dweight.narrowed(0, columns.clone())?;
        Product {
            device,
            kind: "gradients",
            a: Factor { slice: dz, at: 0, line: 1, term: line },
            b: Factor::of(device, linear.x, true)?,
            adds: false,
            // Bound in place of what is absent.
            sums: (dz, 0, 0),
            result: Some(&to),
            sizes: [columns.len(), width, tokens],
        }
        .record::<T>(recorder)
    }

    /// The gradient of x of no column is 0, and yet to be written.
    pub fn finish(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let linear = self.linear;
        if linear.problem.columns > 0 {
            return Ok(());
        }
        let nothing = Factor { slice: Slice::whole(linear.logits), at: 0, line: 1, term: 1 };
        Product {
            device: linear.device,
            kind: "gradients",
            a: nothing,
            b: nothing,
            adds: false,
            sums: self.sums(),
            result: self.sums.map(|_| self.dx),
            sizes: [linear.problem.tokens, linear.width(), 0],
        }
        .record::<T>(recorder)
    }

    /// Where sums of dx lie: the first one's place, and numbers from row to row.
    fn sums(&self) -> (Slice<'_>, u32, usize) {
        match self.sums {
            Some(buffer) => (Slice::whole(buffer), 0, self.linear.width()),
            None => {
                let Placed { slice, at } = Placed::of(self.linear.device, self.dx);
                (slice, at, self.dx.strides()[0])
            }
        }
    }
}

/// A factor: elements from line to line, which are rows of the left and columns of the right one, and
/// from term to term.
#[derive(Clone, Copy)]
struct Factor<'a> {
    slice: Slice<'a>,
    at: u32,
    line: u32,
    term: u32,
}

impl<'a> Factor<'a> {
    /// A tensor whose rows are lines, or terms.
    fn of(device: &Wgpu, view: &'a View<Wgpu>, rows_are_terms: bool) -> Result<Self> {
        let Placed { slice, at } = Placed::of(device, view);
        let stride = if view.shape()[0] > 1 { view.strides()[0] } else { 0 };
        let row = word(device, "elements of a row", stride)?;
        let (line, term) = if rows_are_terms { (1, row) } else { (row, 1) };
        Ok(Self { slice, at, line, term })
    }
}

/// A product of the linear layer.
struct Product<'a> {
    device: &'a Wgpu,
    kind: &'static str,
    a: Factor<'a>,
    b: Factor<'a>,
    /// Whether it is added to what lies in `sums`.
    adds: bool,
    /// Where it goes in f32: the first one's place, and numbers from row to row;
    sums: (Slice<'a>, u32, usize),
    /// or in T.
    result: Option<&'a View<Wgpu>>,
    /// Rows, columns, and terms of a sum.
    sizes: [usize; 3],
}

impl Product<'_> {
    fn record<T: Element>(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        const TILE: usize = 64;
        let (device, [rows, width, terms]) = (self.device, self.sizes);
        if rows * width == 0 {
            return Ok(());
        }
        let is_right = |info: &VariantInfo| {
            info.parameter("kind") == Some(self.kind)
                && info.parameter("element") == Some(T::DTYPE.name())
        };
        let variant = find(device, ProductWgsl::VARIANTS, is_right)?;
        let tiles = width.div_ceil(TILE);
        let (workgroups, grid) = grid(device, rows.div_ceil(TILE) * tiles)?;
        let (sums, sums_at, sums_row) = self.sums;
        let to = self.result.map(|view| (Placed::of(device, view), view.strides()[0]));
        let (result, result_row) = to.unwrap_or((Placed { slice: sums, at: 0 }, 0));
        let params = ProductWgslParams {
            workgroups,
            tiles: word(device, "columns", tiles)?,
            rows: word(device, "rows", rows)?,
            width: word(device, "columns", width)?,
            terms: word(device, "terms", terms)?,
            flags: u32::from(self.adds) | u32::from(self.result.is_some()) << 1,
            a_at: self.a.at,
            a_row: self.a.line,
            a_term: self.a.term,
            b_at: self.b.at,
            b_term: self.b.term,
            b_column: self.b.line,
            sums_at,
            sums_row: word(device, "numbers of a row", sums_row)?,
            result_at: result.at,
            result_row: word(device, "elements of a row", result_row)?,
        };
        ProductWgsl { params, a: self.a.slice, b: self.b.slice, sums, result: result.slice }
            .record(recorder, variant, grid)
    }
}
