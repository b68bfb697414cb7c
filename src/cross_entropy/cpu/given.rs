//! Given logits: a task reads a part of a row, once.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::rows::{PIECE, Running, Slopes, pieces, told};
use crate::Result;
use crate::backend::Cpu;
use crate::backend::cpu::aligned::{Aligned, elements, elements_mut};
use crate::backend::cpu::disjoint::Disjoint;
use crate::cross_entropy::check::CHECK;
use crate::cross_entropy::plan::CPU_PART;
use crate::cross_entropy::reference::targets;
use crate::cross_entropy::{Options, Problem};
use crate::element::DeviceFloat;
use crate::parameter::Indices;
use crate::tensor::{Tensor, View};

/// What all columns tell of each token.
pub(super) fn statistics<T: DeviceFloat>(
    problem: &Problem,
    logits: &Tensor<Cpu, T>,
    target: Indices<'_, Cpu>,
    options: &Options,
    to: &Tensor<Cpu, f32>,
) -> Result<()> {
    let targets = targets(problem, target, options)?;
    let bytes = logits.read()?;
    let values: &[T] = elements(CHECK, "logits", &bytes)?;
    let (stride, softcap) = (logits.strides()[0], options.softcap);
    let parts = problem.columns.div_ceil(CPU_PART);
    let arch = Arch::new();
    let one = |scratch: &mut Aligned, i: usize| {
        let (token, first) = (i / parts, i % parts * CPU_PART);
        let columns = first..problem.columns.min(first + CPU_PART);
        let part = &values[token * stride + columns.start..][..columns.len()];
        let place = problem.first + columns.start;
        arch.dispatch(Part { part, scratch, first: place, target: targets[token], softcap })
    };
    let told: Vec<Running> =
        (0..problem.tokens * parts).into_par_iter().map_init(Aligned::default, one).collect();
    super::loss::write_statistics(to, |token| {
        let mut whole = Running::NONE;
        told[token * parts..][..parts].iter().for_each(|part| whole.merge(*part));
        whole
    })
}

/// A task: a part of a row.
struct Part<'a, T> {
    part: &'a [T],
    scratch: &'a mut Aligned,
    first: usize,
    target: Option<usize>,
    softcap: Option<f32>,
}

impl<T: DeviceFloat> WithSimd for Part<'_, T> {
    type Output = Running;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Running {
        let mut whole = Running::NONE;
        for (begin, count) in pieces(0..self.part.len()) {
            self.scratch.resize(count.next_multiple_of(16));
            T::widen(&self.part[begin..begin + count], &mut self.scratch[..count]);
            let place = (self.first + begin, count);
            whole.merge(told(simd, self.scratch, place, self.target, self.softcap));
        }
        whole
    }
}

/// The gradient of each logit.
pub(super) fn gradient<T: DeviceFloat>(
    problem: &Problem,
    logits: &Tensor<Cpu, T>,
    slopes: &Slopes,
    to: &View<Cpu>,
) -> Result<()> {
    let (bytes, mut written) = (logits.read()?, to.write()?);
    let values: &[T] = elements(CHECK, "logits", &bytes)?;
    let target = Disjoint::new(elements_mut::<T>(CHECK, "dlogits", &mut written)?);
    let strides = [logits.strides()[0], to.strides()[0]];
    let parts = problem.columns.div_ceil(CPU_PART);
    let arch = Arch::new();
    (0..problem.tokens * parts).into_par_iter().for_each_init(Aligned::default, |scratch, i| {
        let (token, first) = (i / parts, i % parts * CPU_PART);
        let count = CPU_PART.min(problem.columns - first);
        let from = &values[token * strides[0] + first..][..count];
        // SAFETY: a task for each part of a row, and rows of what is written lie apart.
        let to = unsafe { target.run(token * strides[1] + first, count) };
        arch.dispatch(Turned { from, to, scratch, slopes, token, first: problem.first + first });
    });
    Ok(())
}

/// A task: a part of a row, and where its gradient goes.
struct Turned<'a, T> {
    from: &'a [T],
    to: &'a mut [T],
    scratch: &'a mut Aligned,
    slopes: &'a Slopes,
    token: usize,
    first: usize,
}

impl<T: DeviceFloat> WithSimd for Turned<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lines = self.from.chunks(PIECE).zip(self.to.chunks_mut(PIECE)).enumerate();
        for (i, (from, to)) in lines {
            self.scratch.reset(from.len().next_multiple_of(16));
            T::widen(from, &mut self.scratch[..from.len()]);
            let place = (self.first + i * PIECE, from.len());
            self.slopes.turn(simd, self.token, self.scratch, place);
            T::narrow(&self.scratch[..from.len()], to);
        }
    }
}
