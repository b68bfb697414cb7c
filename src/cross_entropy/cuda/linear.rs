//! Launches of the linear layer's products.

use std::ops::Range;

use super::rows::Lines;
use crate::Result;
use crate::backend::cuda::{Address, Cuda, Stream, Workspace, bytes, linear, variant, word};
use crate::cross_entropy::kernels::ProductPtx;
use crate::cross_entropy::plan::Chunks;
use crate::cross_entropy::{GradientLines, NAME, Problem};
use crate::element::{DType, Element};
use crate::tensor::{Tensor, View};

/// Room for the logits that are there at once.
pub(super) fn take_logits(problem: &Problem, chunks: Chunks, workspace: &mut Workspace) -> u64 {
    match problem.width {
        Some(_) => workspace.take(bytes(&[problem.tokens, chunks.line()], 4)),
        None => workspace.take(0),
    }
}

/// Room for the sums of x's gradient, where they are not f32 where they go, and more than one chunk
/// adds to them.
pub(super) fn take_sums(
    problem: &Problem,
    chunks: Chunks,
    gradients: &GradientLines<'_, Cuda>,
    workspace: &mut Workspace,
) -> Option<u64> {
    match gradients {
        GradientLines::Linear { x, .. } if x.dtype() != DType::F32 && chunks.count() > 1 => {
            Some(workspace.take(bytes(&[problem.tokens, problem.width.unwrap_or(0)], 4)))
        }
        _ => None,
    }
}

/// A linear layer.
pub(super) struct Linear<'a, T: Element> {
    pub stream: &'a Stream,
    pub problem: &'a Problem,
    pub x: &'a Tensor<Cuda, T>,
    pub weight: &'a Tensor<Cuda, T>,
    /// Where logits are computed, or their gradients.
    pub logits: Address,
    pub chunks: Chunks,
}

impl<T: Element> Linear<'_, T> {
    fn width(&self) -> usize {
        self.problem.width.unwrap_or(0)
    }

    /// The weights of some columns.
    fn weights(&self, columns: &Range<usize>) -> Factor {
        row(self.weight, columns.start)
    }

    /// Computes the logits of some columns.
    pub fn launch_logits(&self, columns: Range<usize>) -> Result<Lines> {
        let lines = Lines { address: self.logits, stride: self.chunks.line() as u64 };
        let product = Product {
            kind: "logits",
            a: row(self.x, 0),
            b: self.weights(&columns),
            before: None,
            to: Target::Sums(lines),
            sizes: [self.problem.tokens, columns.len(), self.width()],
        };
        product.launch::<T>(self.stream)?;
        Ok(lines)
    }
}

/// Where the gradients of a linear layer go.
pub(super) struct Gradients<'a, T: Element> {
    pub linear: &'a Linear<'a, T>,
    pub dx: &'a View<Cuda>,
    pub dweight: &'a View<Cuda>,
    /// The sums of dx before the last chunk, where they do not lie in dx itself.
    pub sums: Option<Address>,
}

impl<T: Element> Gradients<'_, T> {
    /// What a chunk, whose gradients of logits are there, adds.
    pub fn launch(&self, columns: Range<usize>, dz: Lines) -> Result<()> {
        let linear = self.linear;
        let (tokens, width) = (linear.problem.tokens, linear.width());
        let a = Factor { lines: dz, bytes: 4 };
        let sums = match self.sums {
            Some(address) => Lines { address, stride: width as u64 },
            None => self.dx.into(),
        };
        let is_last = columns.end == linear.problem.columns;
        let to = match self.dx.dtype() {
            DType::F32 => Target::Sums(self.dx.into()),
            _ if is_last => Target::Result(self.dx.into()),
            _ => Target::Sums(sums),
        };
        let before = (columns.start > 0).then_some(sums);
        let (b, sizes) = (linear.weights(&columns), [tokens, width, columns.len()]);
        Product { kind: "dx", a, b, before, to, sizes }.launch::<T>(linear.stream)?;
        let to = Lines {
            address: row_of(self.dweight, columns.start),
            stride: self.dweight.strides()[0] as u64,
        };
        Product {
            kind: "dweight",
            a,
            b: row(linear.x, 0),
            before: None,
            to: Target::Result(to),
            sizes: [columns.len(), width, tokens],
        }
        .launch::<T>(linear.stream)
    }

    /// The gradient of x of no column is 0, and yet to be written.
    pub fn finish(&self) -> Result<()> {
        if self.linear.problem.columns > 0 {
            return Ok(());
        }
        let nothing = Factor { lines: Lines { address: Address::NULL, stride: 0 }, bytes: 4 };
        let to = match self.dx.dtype() {
            DType::F32 => Target::Sums(self.dx.into()),
            _ => Target::Result(self.dx.into()),
        };
        let sizes = [self.linear.problem.tokens, self.linear.width(), 0];
        Product { kind: "dx", a: nothing, b: nothing, before: None, to, sizes }
            .launch::<T>(self.linear.stream)
    }
}

/// The address of a row.
fn row_of(view: &View<Cuda>, row: usize) -> Address {
    Address::of(view).plus((row * view.strides()[0] * view.dtype().bytes()) as u64)
}

/// A factor from a row of a tensor on.
fn row(view: &View<Cuda>, row: usize) -> Factor {
    let lines = Lines { address: row_of(view, row), stride: view.strides()[0] as u64 };
    Factor { lines, bytes: view.dtype().bytes() as u64 }
}

/// A factor, and the bytes of an element.
#[derive(Clone, Copy)]
struct Factor {
    lines: Lines,
    bytes: u64,
}

/// Where a product goes.
#[derive(Clone, Copy)]
enum Target {
    /// In f32.
    Sums(Lines),
    /// In T.
    Result(Lines),
}

/// A product of the linear layer.
struct Product {
    kind: &'static str,
    a: Factor,
    b: Factor,
    /// What is added to it.
    before: Option<Lines>,
    to: Target,
    /// Rows, columns, and terms of a sum.
    sizes: [usize; 3],
}

impl Product {
    fn launch<T: Element>(&self, stream: &Stream) -> Result<()> {
        const ROWS: usize = 128;
        const COLUMNS: usize = 64;
        let element = Some(T::DTYPE.name());
        let kernel = variant(NAME, ProductPtx::VARIANTS, |info| {
            info.parameter("kind") == Some(self.kind) && info.parameter("element") == element
        })?;
        let [rows, width, terms] = self.sizes;
        let absent = Lines { address: Address::NULL, stride: 0 };
        let before = self.before.unwrap_or(absent);
        let (sums, result) = match self.to {
            Target::Sums(lines) => (lines, absent),
            Target::Result(lines) => (absent, lines),
        };
        let element = T::DTYPE.bytes() as u64;
        let aligned = [
            (self.a.lines, self.a.bytes),
            (self.b.lines, self.b.bytes),
            (before, 4),
            (sums, 4),
            (result, element),
        ];
        let in_fours = |(lines, bytes): (Lines, u64)| {
            lines.stride.is_multiple_of(4) && lines.address.is_multiple_of(4 * bytes)
        };
        let flags = aligned.into_iter().enumerate().filter(|(_, one)| in_fours(*one));
        let tiles = width.div_ceil(COLUMNS);
        let grid = linear(NAME, stream, (rows.div_ceil(ROWS) * tiles) as u64)?;
        ProductPtx {
            a: self.a.lines.address,
            b: self.b.lines.address,
            before: before.address,
            sums: sums.address,
            result: result.address,
            a_stride: self.a.lines.stride,
            b_stride: self.b.lines.stride,
            before_stride: before.stride,
            sums_stride: sums.stride,
            result_stride: result.stride,
            rows: word(rows),
            width: word(width),
            terms: word(terms),
            aligned: flags.map(|(i, _)| 1 << i).sum(),
            tiles: word(tiles),
        }
        .launch(stream, kernel, grid)
    }
}
