//! The checks of merges, made once for all backends, and what these establish.

use super::{NAME, Parts};
use crate::Result;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use crate::attention::Problem;
use crate::attention::check::nothing_earlier;
use crate::attention::outputs::OutputLines;
use crate::attention::{Layout, MAX_WIDTH, Outputs, OutputsMut};
use crate::backend::Backend;
use crate::check::Check;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use crate::element::DType;
use crate::element::{Element, Float};
use crate::tensor::{Tensor, View};

pub(super) const CHECK: Check = Check { operation: NAME };

/// A merge whose tensors fit together, as backends see it.
#[derive(Clone, Debug)]
pub struct Merge<B: Backend> {
    /// Results of parts, (B, H, Sq, N, Dv) by any strides, in T or f32.
    pub parts: View<B>,
    /// Their lse, (B, H, Sq, N, 1) by any strides.
    pub parts_lse: View<B>,
    /// Where the merged result goes.
    pub outputs: OutputLines<B>,
    /// Whether it is merged into what `partial` and `lse` hold.
    pub accumulate: bool,
}

impl<B: Backend> Merge<B> {
    /// The lengths of the axes B, H, Sq, N and Dv.
    pub fn sizes(&self) -> [usize; 5] {
        [0, 1, 2, 3, 4].map(|axis| self.parts.shape()[axis])
    }

    /// What parts of the keys gave, in f32 without gaps: results and their lse each from a byte of a
    /// buffer on.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(in crate::attention) fn of_buffers(
        problem: &Problem,
        parts: usize,
        [out, lse]: [(&B::Buffer, u64); 2],
        outputs: OutputLines<B>,
        accumulate: bool,
    ) -> Result<Self> {
        let &Problem { batch, heads, queries, value_width, .. } = problem;
        let backend = outputs.lse.backend();
        let view = |(buffer, at): (&B::Buffer, u64), width| {
            let of_part = batch * heads * queries * width;
            let strides = [heads * queries * width, queries * width, width, of_part, 1];
            let shape = [batch, heads, queries, parts, width];
            View::from_buffer(backend, buffer.clone(), DType::F32, at, &shape, &strides)
        };
        Ok(Self { parts: view(out, value_width)?, parts_lse: view(lse, 1)?, outputs, accumulate })
    }

    /// Every tensor that is present, under its name.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(in crate::attention) fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named = vec![("parts.out", &self.parts), ("parts.lse", &self.parts_lse)];
        named.extend(self.outputs.named());
        named
    }
}

/// How large a merge is, and how its tensors lie.
#[derive(Clone, Debug)]
pub(super) struct Sizes {
    /// N, where there is an axis of parts.
    parts: Option<usize>,
    batch: usize,
    heads: usize,
    queries: usize,
    width: usize,
    is_packed: bool,
    pub layout: Layout,
}

impl Sizes {
    /// Of parts side by side; they fit together.
    pub fn of_parts<B: Backend, T: Float>(parts: &Parts<'_, B, T>, layout: Layout) -> Result<Self> {
        Self::of(parts, ["parts.out", "parts.lse"], true, layout)
    }

    /// Of one part; it fits together.
    pub fn of_block<B: Backend, T: Float>(block: &Parts<'_, B, T>, layout: Layout) -> Result<Self> {
        Self::of(block, ["block.out", "block.lse"], false, layout)
    }

    /// Of results and lse of these names, with an axis of parts or without.
    pub fn of<B: Backend, T: Float>(
        parts: &Parts<'_, B, T>,
        [out, lse]: [&str; 2],
        has_parts: bool,
        layout: Layout,
    ) -> Result<Self> {
        let view: &View<B> = &parts.out;
        let is_packed = match (has_parts, view.shape().len()) {
            (true, 5) | (false, 4) => false,
            (true, 4) | (false, 3) => true,
            _ => return Err(CHECK.wrong_shape(out, view, shapes(has_parts, layout))),
        };
        let mut sizes = Self {
            parts: has_parts.then(|| view.shape()[0]),
            batch: 1,
            heads: 0,
            queries: 0,
            width: 0,
            is_packed,
            layout,
        };
        let lines = sizes.lines(view)?;
        [sizes.batch, sizes.heads, sizes.queries, sizes.width] =
            [0, 1, 2, 4].map(|axis| lines.shape()[axis]);
        if !(1..=MAX_WIDTH).contains(&sizes.width) {
            let expected = format!("1 to {MAX_WIDTH} features, Dv");
            return Err(CHECK.wrong_shape(out, view, expected));
        }
        CHECK.fastest_last(out, view)?;
        CHECK.dtype(out, view, &[T::State::DTYPE, T::DTYPE])?;
        CHECK.shape(lse, parts.lse, &sizes.lse_axes(sizes.parts))?;
        CHECK.same_device(parts.lse.backend(), [(out, view)])?;
        Ok(sizes)
    }

    /// The running result fits, and shares no memory.
    pub fn check_running<B: Backend, T: Float>(
        &self,
        block: &Parts<'_, B, T>,
        running: &OutputsMut<'_, B, T>,
    ) -> Result<()> {
        if running.partial.is_none() {
            return Err(nothing_earlier(CHECK));
        }
        for (name, view) in running.named() {
            if name == "lse" {
                CHECK.shape(name, view, &self.lse_axes(None))?;
                continue;
            }
            CHECK.shape(name, view, &self.out_axes())?;
            CHECK.fastest_last(name, view)?;
        }
        let written = running.named();
        CHECK.same_device(block.lse.backend(), written.iter().copied())?;
        let block = [("block.out", block.out.view()), ("block.lse", block.lse)];
        CHECK.disjoint(&written, &block)
    }

    /// New tensors for the result.
    pub fn outputs<B: Backend, T: Float>(&self, backend: &B) -> Result<Outputs<B, T>> {
        let shape = |axes: Vec<(_, usize)>| axes.into_iter().map(|axis| axis.1).collect::<Vec<_>>();
        Ok(Outputs {
            out: Tensor::new(backend, &shape(self.out_axes()))?,
            lse: Tensor::new(backend, &shape(self.lse_axes(None)))?,
        })
    }

    fn out_axes(&self) -> Vec<(&'static str, usize)> {
        let Self { batch, heads, queries, width, is_packed, layout, .. } = *self;
        let axes = layout.axes([("B", batch), ("H", heads), ("Sq", queries), ("Dv", width)]);
        axes[usize::from(is_packed)..].to_vec()
    }

    fn lse_axes(&self, parts: Option<usize>) -> Vec<(&'static str, usize)> {
        let axes = [("B", self.batch), ("H", self.heads), ("Sq", self.queries)];
        let of_one = &axes[usize::from(self.is_packed)..];
        parts.map(|parts| ("N", parts)).into_iter().chain(of_one.iter().copied()).collect()
    }

    /// Results of parts as [`Merge::parts`] has them.
    pub fn lines<B: Backend>(&self, view: &View<B>) -> Result<View<B>> {
        let view = if self.parts.is_some() { view.clone() } else { view.unsqueezed(0)? };
        let view = if self.is_packed { view.unsqueezed(1)? } else { view };
        // From (N, B, H, Sq, Dv).
        let view = self.layout.heads_first(&view)?;
        view.transposed(0, 1)?.transposed(1, 2)?.transposed(2, 3)
    }

    /// Their lse as [`Merge::parts_lse`] has them.
    pub fn lse_lines<B: Backend>(&self, view: &View<B>) -> Result<View<B>> {
        let of_one_number = view.unsqueezed(view.shape().len())?;
        Self { layout: Layout::Bhsd, ..self.clone() }.lines(&of_one_number)
    }
}

/// The shapes that results of parts may have.
fn shapes(has_parts: bool, layout: Layout) -> String {
    let parts = if has_parts { "N, " } else { "" };
    match layout {
        Layout::Bshd => format!("shape ({parts}B, Sq, H, Dv), or ({parts}Tq, H, Dv) if packed"),
        Layout::Bhsd => format!("shape ({parts}B, H, Sq, Dv), or ({parts}H, Tq, Dv) if packed"),
    }
}
