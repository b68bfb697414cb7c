//! What tasks read and write: lines of features, rows of numbers.

use std::ops::Range;

use crate::Result;
use crate::attention::check::CHECK;
use crate::attention::{GradientMut, Layout};
use crate::backend::cpu::aligned::{elements, elements_mut};
use crate::backend::cpu::disjoint::Disjoint;
use crate::backend::cpu::product::LANES;
use crate::backend::{Cpu, ReadGuard, WriteGuard};
use crate::element::{DType, DeviceFloat};
use crate::tensor::View;

/// Features of a line in scratch: whole vectors.
pub(super) fn padded(width: usize) -> usize {
    width.next_multiple_of(LANES)
}

/// A batch entry and a head.
pub(super) type Place = [usize; 2];

/// Distances in elements between batch entries, heads and tokens.
#[derive(Clone, Copy)]
struct Strides([usize; 3]);

impl Strides {
    fn of(view: &View<Cpu>, layout: Layout) -> Result<Self> {
        let view = layout.heads_first(view)?;
        Ok(Self([0, 1, 2].map(|axis| view.strides()[axis])))
    }

    #[inline(always)]
    fn index(self, [batch, head]: Place, token: usize) -> usize {
        let [batches, heads, tokens] = self.0;
        batch * batches + head * heads + token * tokens
    }
}

/// Queries, keys, values or gradients of outputs, to be read.
#[derive(Clone, Copy)]
pub(super) struct Source<'a, T> {
    values: &'a [T],
    strides: Strides,
    width: usize,
}

/// Keys of a panel: two vectors of the widest kind.
pub(super) const PANEL: usize = 2 * LANES;

impl<'a, T: DeviceFloat> Source<'a, T> {
    pub fn new(name: &str, bytes: &'a [u8], view: &View<Cpu>, layout: Layout) -> Result<Self> {
        let width = view.shape().last().copied().unwrap_or(0);
        let strides = Strides::of(view, layout)?;
        Ok(Self { values: elements(CHECK, name, bytes)?, strides, width })
    }

    /// Its features.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The features of a token, widened.
    #[inline(always)]
    pub fn line(&self, place: Place, token: usize, to: &mut [f32]) {
        T::widen(&self.values[self.strides.index(place, token)..][..self.width], to);
    }

    /// Some tokens, a line each, with zeros up to whole vectors.
    #[inline(always)]
    pub fn lines(&self, place: Place, tokens: Range<usize>, to: &mut [f32]) {
        for (line, token) in to.chunks_exact_mut(padded(self.width)).zip(tokens) {
            self.line(place, token, &mut line[..self.width]);
            line[self.width..].fill(0.0);
        }
    }

    /// Some tokens side by side in panels of [`PANEL`], a line for each feature; in the last one
    /// zeros beside them.
    #[inline(always)]
    pub fn panels(&self, place: Place, tokens: Range<usize>, to: &mut [f32]) {
        let mut line = [0.0; crate::attention::MAX_WIDTH];
        let line = &mut line[..self.width];
        for (first, panel) in
            tokens.clone().step_by(PANEL).zip(to.chunks_exact_mut(self.width * PANEL))
        {
            for lane in 0..PANEL {
                match first + lane < tokens.end {
                    true => self.line(place, first + lane, line),
                    false => line.fill(0.0),
                }
                for (to, from) in panel[lane..].iter_mut().step_by(PANEL).zip(&*line) {
                    *to = *from;
                }
            }
        }
    }
}

/// Numbers in f32 or in the activations' type.
#[derive(Clone, Copy)]
enum Numbers<W, N> {
    Wide(W),
    Narrow(N),
}

impl<'a, T: DeviceFloat> Numbers<&'a [f32], &'a [T]> {
    fn new(name: &str, bytes: &'a [u8], view: &View<Cpu>) -> Result<Self> {
        Ok(match view.dtype() {
            DType::F32 => Self::Wide(elements(CHECK, name, bytes)?),
            _ => Self::Narrow(elements(CHECK, name, bytes)?),
        })
    }

    /// Those from `first` on, widened.
    #[inline(always)]
    fn read(self, first: usize, to: &mut [f32]) {
        match self {
            Self::Wide(values) => to.copy_from_slice(&values[first..][..to.len()]),
            Self::Narrow(values) => T::widen(&values[first..][..to.len()], to),
        }
    }
}

/// A bias, to be read.
#[derive(Clone, Copy)]
pub(super) struct BiasSource<'a, T> {
    values: Numbers<&'a [f32], &'a [T]>,
    /// Between batch entries, heads and queries; 0 where they share it.
    strides: [usize; 3],
}

impl<'a, T: DeviceFloat> BiasSource<'a, T> {
    pub fn new(bytes: &'a [u8], view: &View<Cpu>) -> Result<Self> {
        let stride = |axis| if view.shape()[axis] == 1 { 0 } else { view.strides()[axis] };
        let strides = [stride(0), stride(1), view.strides()[2]];
        Ok(Self { values: Numbers::new("bias", bytes, view)?, strides })
    }

    /// The bias of a query for the keys from `first` on, widened.
    #[inline(always)]
    pub fn row(&self, [batch, head]: Place, query: usize, first: usize, to: &mut [f32]) {
        let [batches, heads, queries] = self.strides;
        self.values.read(batch * batches + head * heads + query * queries + first, to);
    }
}

/// What parts of the keys gave, to be read: lines of features, or of one number.
#[derive(Clone, Copy)]
pub(super) struct PartSource<'a, T> {
    values: Numbers<&'a [f32], &'a [T]>,
    strides: Strides,
    /// Between parts.
    parts: usize,
}

impl<'a, T: DeviceFloat> PartSource<'a, T> {
    /// A tensor with axes batch, head, token, part, feature.
    pub fn new(name: &str, bytes: &'a [u8], view: &View<Cpu>) -> Result<Self> {
        let strides = Strides([0, 1, 2].map(|axis| view.strides()[axis]));
        Ok(Self { values: Numbers::new(name, bytes, view)?, strides, parts: view.strides()[3] })
    }

    /// Lines without gaps, of all tokens of all heads of all batch entries of one part after the other.
    pub fn of_lines(values: &'a [f32], [batch, heads, tokens]: [usize; 3], width: usize) -> Self {
        let strides = Strides([heads * tokens * width, tokens * width, width]);
        let parts = batch * heads * tokens * width;
        Self { values: Numbers::Wide(values), strides, parts }
    }

    /// A line of a part, widened.
    #[inline(always)]
    pub fn line(&self, part: usize, place: Place, token: usize, to: &mut [f32]) {
        self.values.read(part * self.parts + self.strides.index(place, token), to);
    }
}

/// A result or a gradient, to be written; each task has heads and tokens of its own.
#[derive(Clone, Copy)]
pub(super) struct Target<'a, T> {
    values: Numbers<Disjoint<'a, f32>, Disjoint<'a, T>>,
    strides: Strides,
    add: bool,
}

impl<'a, T: DeviceFloat> Target<'a, T> {
    /// A tensor of T.
    pub fn rounded(
        name: &str,
        bytes: &'a mut WriteGuard<'_>,
        view: &View<Cpu>,
        layout: Layout,
    ) -> Result<Self> {
        let values = Numbers::Narrow(Disjoint::new(elements_mut(CHECK, name, bytes)?));
        Ok(Self { values, strides: Strides::of(view, layout)?, add: false })
    }

    /// A tensor of f32.
    pub fn partial(
        name: &str,
        bytes: &'a mut WriteGuard<'_>,
        view: &View<Cpu>,
        layout: Layout,
    ) -> Result<Self> {
        let values = Numbers::Wide(Disjoint::new(elements_mut(CHECK, name, bytes)?));
        Ok(Self { values, strides: Strides::of(view, layout)?, add: false })
    }

    /// As the caller wants it.
    pub fn gradient(
        name: &str,
        bytes: &'a mut WriteGuard<'_>,
        gradient: &GradientMut<'_, Cpu, T>,
        layout: Layout,
    ) -> Result<Self> {
        let view = gradient.view();
        match gradient {
            GradientMut::Rounded(_) => Self::rounded(name, bytes, view, layout),
            GradientMut::Partial(_) => Self::partial(name, bytes, view, layout),
            GradientMut::Added(_) => {
                Ok(Self { add: true, ..Self::partial(name, bytes, view, layout)? })
            }
        }
    }

    /// What is there, of f32.
    ///
    /// # Safety
    ///
    /// No other task writes this token of this head.
    pub unsafe fn read(&self, place: Place, token: usize, to: &mut [f32]) {
        if let Numbers::Wide(values) = self.values {
            // SAFETY: the caller's promise.
            unsafe { values.read_run(self.strides.index(place, token), to) };
        }
    }

    /// Writes, or adds, a line.
    ///
    /// # Safety
    ///
    /// No other task touches this token of this head.
    #[inline(always)]
    pub unsafe fn write(&self, place: Place, token: usize, line: &[f32]) {
        let first = self.strides.index(place, token);
        // SAFETY: the caller's promise.
        unsafe {
            match self.values {
                Numbers::Wide(values) => {
                    let to = values.run(first, line.len());
                    match self.add {
                        true => to.iter_mut().zip(line).for_each(|(to, x)| *to += x),
                        false => to.copy_from_slice(line),
                    }
                }
                Numbers::Narrow(values) => T::narrow(line, values.run(first, line.len())),
            }
        }
    }
}

/// The bytes of an optional tensor.
pub(super) fn read<'a>(view: Option<&'a View<Cpu>>) -> Result<Option<ReadGuard<'a>>> {
    view.map(View::read).transpose()
}
