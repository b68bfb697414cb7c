//! What tasks read and write: lines of features, scores, states.

use std::ops::Range;

use pulp::Simd;

use super::super::check::CHECK;
use crate::Result;
use crate::backend::cpu::aligned::{Aligned, elements, elements_mut};
use crate::backend::cpu::disjoint::Disjoint;
use crate::backend::{Cpu, ReadGuard, WriteGuard};
use crate::element::{DType, DeviceFloat};
use crate::parameter::Parameter;
use crate::scan_attention::{Carry, Inputs, Layout, Options, Problem, Scores, State};
use crate::tensor::{Tensor, View};

/// Features of a line in scratch: whole vectors, whatever their length on this machine.
pub(super) fn padded(width: usize) -> usize {
    width.next_multiple_of(16)
}

/// Distances in elements between batch entries, heads and steps.
#[derive(Clone, Copy)]
pub(super) struct Strides {
    batch: usize,
    head: usize,
    time: usize,
}

impl Strides {
    pub fn of(view: &View<Cpu>, layout: Layout) -> Self {
        let [batch, second, third] = [0, 1, 2].map(|axis| view.strides()[axis]);
        match layout {
            Layout::Bhld => Self { batch, head: second, time: third },
            Layout::Blhd => Self { batch, head: third, time: second },
        }
    }

    /// Of scores, (B, H, L) in every layout.
    fn of_scores(view: &View<Cpu>) -> Self {
        Self { batch: view.strides()[0], head: view.strides()[1], time: 1 }
    }

    fn index(self, batch: usize, head: usize, t: usize) -> usize {
        batch * self.batch + head * self.head + t * self.time
    }
}

/// Keys, values or gradients of outputs, to be read.
#[derive(Clone, Copy)]
pub(super) struct Source<'a, T> {
    values: &'a [T],
    strides: Strides,
    width: usize,
}

impl<'a, T: DeviceFloat> Source<'a, T> {
    pub fn new(
        name: &str,
        bytes: &'a [u8],
        tensor: &Tensor<Cpu, T>,
        options: &Options,
    ) -> Result<Self> {
        let strides = Strides::of(tensor, options.layout);
        Ok(Self { values: elements(CHECK, name, bytes)?, strides, width: tensor.shape()[3] })
    }

    /// Widens the steps of a head into lines of `padded` features. Lines that are not `wanted`
    /// become zeros.
    #[inline(always)]
    pub fn load(
        &self,
        lines: &mut [f32],
        [batch, head]: [usize; 2],
        steps: Range<usize>,
        wanted: impl Fn(usize) -> bool,
    ) {
        if self.width == 0 {
            return;
        }
        for (i, (line, t)) in lines.chunks_exact_mut(padded(self.width)).zip(steps).enumerate() {
            let line = &mut line[..self.width];
            if wanted(i) {
                let first = self.strides.index(batch, head, t);
                T::widen(&self.values[first..][..self.width], line);
            } else {
                line.fill(0.0);
            }
        }
    }
}

/// Outputs or gradients of keys and values, to be written; each task has heads and steps of its
/// own.
#[derive(Clone, Copy)]
pub(super) struct Target<'a, T> {
    values: Disjoint<'a, T>,
    strides: Strides,
    width: usize,
}

impl<'a, T: DeviceFloat> Target<'a, T> {
    pub fn new(
        name: &str,
        bytes: &'a mut [u8],
        tensor: &Tensor<Cpu, T>,
        options: &Options,
    ) -> Result<Self> {
        let strides = Strides::of(tensor, options.layout);
        let values = Disjoint::new(elements_mut(CHECK, name, bytes)?);
        Ok(Self { values, strides, width: tensor.shape()[3] })
    }

    /// Rounds lines into the steps of a head.
    ///
    /// # Safety
    ///
    /// No other task writes these steps of this head.
    #[inline(always)]
    pub unsafe fn store(
        &self,
        lines: &[f32],
        rounded: &mut Vec<T>,
        [batch, head]: [usize; 2],
        steps: Range<usize>,
    ) {
        if self.width == 0 {
            return;
        }
        rounded.resize(self.width, T::from_f32(0.0));
        for (line, t) in lines.chunks_exact(padded(self.width)).zip(steps) {
            T::narrow(&line[..self.width], rounded);
            // SAFETY: the caller's promise.
            unsafe { self.values.write_run(self.strides.index(batch, head, t), rounded) };
        }
    }
}

/// Given scores, or their gradients, in f32 or in the activations' type.
#[derive(Clone, Copy)]
pub(super) enum Numbers<W, N> {
    Wide(W, Strides),
    Narrow(N, Strides),
}

/// Given scores, to be read.
pub(super) type ScoreSource<'a, T> = Numbers<&'a [f32], &'a [T]>;

impl<'a, T: DeviceFloat> ScoreSource<'a, T> {
    fn new(bytes: &'a [u8], view: &View<Cpu>) -> Result<Self> {
        let strides = Strides::of_scores(view);
        Ok(match view.dtype() {
            DType::F32 => Self::Wide(elements(CHECK, "s", bytes)?, strides),
            _ => Self::Narrow(elements(CHECK, "s", bytes)?, strides),
        })
    }

    #[inline(always)]
    fn load(&self, scores: &mut [f32], [batch, head]: [usize; 2], first: usize) {
        let count = scores.len();
        match self {
            Self::Wide(values, strides) => {
                scores.copy_from_slice(&values[strides.index(batch, head, first)..][..count]);
            }
            Self::Narrow(values, strides) => {
                T::widen(&values[strides.index(batch, head, first)..][..count], scores);
            }
        }
    }
}

/// Gradients of given scores, to be written; each task has heads of its own.
pub(super) type ScoreTarget<'a, T> = Numbers<Disjoint<'a, f32>, Disjoint<'a, T>>;

impl<'a, T: DeviceFloat> ScoreTarget<'a, T> {
    pub fn new(bytes: &'a mut [u8], view: &View<Cpu>) -> Result<Self> {
        let strides = Strides::of_scores(view);
        Ok(match view.dtype() {
            DType::F32 => Self::Wide(Disjoint::new(elements_mut(CHECK, "ds", bytes)?), strides),
            _ => Self::Narrow(Disjoint::new(elements_mut(CHECK, "ds", bytes)?), strides),
        })
    }

    /// # Safety
    ///
    /// No other task writes these steps of this head.
    pub unsafe fn store(&self, ds: &[f32], [batch, head]: [usize; 2], first: usize) {
        match self {
            // SAFETY: the caller's promise, here and below.
            Self::Wide(values, strides) => unsafe {
                values.write_run(strides.index(batch, head, first), ds);
            },
            Self::Narrow(values, strides) => {
                for (i, &ds) in ds.iter().enumerate() {
                    let index = strides.index(batch, head, first + i);
                    // SAFETY: as above.
                    unsafe { values.write(index, T::from_f32(ds)) };
                }
            }
        }
    }
}

/// Where scores come from.
pub(super) enum ScoreLines<'a, T> {
    Given(ScoreSource<'a, T>),
    Keys {
        /// (H, Dk) in padded lines.
        q: Aligned,
        k: Source<'a, T>,
        scale: f32,
    },
}

/// The bytes of keys or scores that are read in place.
pub(super) fn score_bytes<'a, T: DeviceFloat>(
    inputs: &'a Inputs<'_, Cpu, T>,
) -> Result<ReadGuard<'a>> {
    match &inputs.scores {
        Scores::Given(s) => s.read(),
        Scores::Keys { k, .. } => k.read(),
    }
}

impl<'a, T: DeviceFloat> ScoreLines<'a, T> {
    pub fn new(
        inputs: &Inputs<'_, Cpu, T>,
        problem: &Problem,
        options: &Options,
        bytes: &'a [u8],
    ) -> Result<Self> {
        Ok(match &inputs.scores {
            Scores::Given(s) => Self::Given(ScoreSource::new(bytes, s)?),
            Scores::Keys { q, k } => {
                let width = problem.key_width.unwrap_or(0);
                let mut lines = Aligned::default();
                lines.reset(problem.heads * padded(width));
                for (i, &value) in q.to_f32()?.iter().enumerate() {
                    lines[i / width * padded(width) + i % width] = value;
                }
                let scale = options.scale(width) as f32;
                Self::Keys { q: lines, k: Source::new("k", bytes, k, options)?, scale }
            }
        })
    }

    /// The scores of steps of a head; `keys` is room for its lines of keys.
    #[inline(always)]
    pub fn load<S: Simd>(
        &self,
        simd: S,
        problem: &Problem,
        scores: &mut [f32],
        keys: &mut Aligned,
        [batch, head]: [usize; 2],
        first: usize,
    ) {
        match self {
            Self::Given(source) => source.load(scores, [batch, head], first),
            Self::Keys { q, k, scale } => {
                let width = padded(problem.key_width.unwrap_or(0));
                if width == 0 {
                    return scores.fill(0.0);
                }
                let steps = first..first + scores.len();
                keys.reset(steps.len() * width);
                k.load(keys, [batch, head / problem.group()], steps, |_| true);
                let query = &q[head * width..][..width];
                for (score, key) in scores.iter_mut().zip(keys.chunks_exact(width)) {
                    *score = scale * dot(simd, query, key);
                }
            }
        }
    }
}

/// The product of two lines of whole vectors.
#[inline(always)]
pub(super) fn dot<S: Simd>(simd: S, x: &[f32], y: &[f32]) -> f32 {
    let pairs = S::as_simd_f32s(x).0.iter().zip(S::as_simd_f32s(y).0);
    let sum = pairs.fold(simd.splat_f32s(0.0), |sum, (&x, &y)| simd.mul_add_f32s(x, y, sum));
    simd.reduce_sum_f32s(sum)
}

/// y += a x, for lines of whole vectors.
#[inline(always)]
pub(super) fn add_scaled<S: Simd>(simd: S, y: &mut [f32], a: f32, x: &[f32]) {
    let a = simd.splat_f32s(a);
    for (y, &x) in S::as_mut_simd_f32s(y).0.iter_mut().zip(S::as_simd_f32s(x).0) {
        *y = simd.mul_add_f32s(a, x, *y);
    }
}

/// The states that rows begin with, in f32.
pub(super) struct Initial {
    m: Vec<f32>,
    u: Vec<f32>,
    w: Vec<f32>,
    width: usize,
}

impl Initial {
    pub fn new(carry: Option<&Carry<'_, Cpu>>, problem: &Problem) -> Result<Option<Self>> {
        let read = |Carry { m, u, w }: &Carry<'_, Cpu>| -> Result<Self> {
            Ok(Self { m: m.to_f32()?, u: u.to_f32()?, w: w.to_f32()?, width: problem.width })
        };
        carry.map(read).transpose()
    }

    /// m, u and w of a state (row, head).
    pub fn state(&self, line: usize) -> (f32, f32, &[f32]) {
        (self.m[line], self.u[line], &self.w[line * self.width..][..self.width])
    }
}

/// Optional parameters in f32.
pub(super) fn optional(parameter: Option<Parameter<'_, Cpu>>) -> Result<Option<Vec<f32>>> {
    parameter.map(|parameter| parameter.to_f32()).transpose()
}

/// A state to be written, a task for each of its lines.
pub(super) struct StateTarget<'a> {
    pub m: Disjoint<'a, f32>,
    pub u: Disjoint<'a, f32>,
    pub w: Disjoint<'a, f32>,
}

impl StateTarget<'_> {
    /// # Safety
    ///
    /// No other task writes this line.
    pub unsafe fn write(&self, line: usize, m: f32, u: f32, w: &[f32]) {
        // SAFETY: the caller's promise.
        unsafe {
            self.m.write(line, m);
            self.u.write(line, u);
            self.w.write_run(line * w.len(), w);
        }
    }
}

/// Numbers that tasks write, where there are any.
pub(super) fn numbers<'a>(
    name: &str,
    bytes: Option<&'a mut WriteGuard<'_>>,
) -> Result<Option<Disjoint<'a, f32>>> {
    bytes.map(|bytes| Ok(Disjoint::new(elements_mut(CHECK, name, bytes)?))).transpose()
}

/// The bytes of a state, claimed for writing.
pub(super) struct StateBytes<'a>([WriteGuard<'a>; 3]);

impl<'a> StateBytes<'a> {
    pub fn claim<T: DeviceFloat>(state: &'a State<Cpu, T>) -> Result<Self> {
        Self::of([&state.m, &state.u, &state.w])
    }

    pub fn of(views: [&'a View<Cpu>; 3]) -> Result<Self> {
        let [m, u, w] = views;
        Ok(Self([m.write()?, u.write()?, w.write()?]))
    }

    pub fn target(&mut self) -> Result<StateTarget<'_>> {
        let Self([m, u, w]) = self;
        Ok(StateTarget {
            m: Disjoint::new(elements_mut(CHECK, "m", m)?),
            u: Disjoint::new(elements_mut(CHECK, "u", u)?),
            w: Disjoint::new(elements_mut(CHECK, "w", w)?),
        })
    }
}
