//! Lines in host memory.

use std::cmp::Ordering;

use half::{bf16, f16};
use rayon::prelude::*;

use super::{CHECK, Lines, Runs, Work};
use crate::Result;
use crate::backend::Cpu;
use crate::backend::cpu::aligned::{elements, elements_mut};
use crate::backend::cpu::disjoint::Disjoint;
use crate::element::{DType, Element, Float};
use crate::tensor::View;

/// Elements that are worth a thread.
const SHARE: usize = 1 << 16;

/// Does something to each run; runs whose elements are apart are taken one element at a time.
fn each_run<S: Element, D: Element>(
    from: &View<Cpu>,
    to: &View<Cpu>,
    does: impl Fn(&[S], &mut [D]) + Sync,
) -> Result<()> {
    if from.elements() == 0 {
        return Ok(());
    }
    let runs = Runs::new(from, to);
    let (source, mut target) = (from.read()?, to.write()?);
    let source: &[S] = elements(CHECK, "from", &source)?;
    let target = Disjoint::<D>::new(elements_mut(CHECK, "to", &mut target)?);
    let at_once = (SHARE / runs.length).max(1);
    (0..runs.count().div_ceil(at_once)).into_par_iter().for_each(|share| {
        let first = share * at_once;
        for run in first..(first + at_once).min(runs.count()) {
            let [read, write] = runs.begin(run);
            if runs.steps == [1, 1] {
                // SAFETY: elements of a view that is written are distinct, and each run has its own.
                let line = unsafe { target.run(write, runs.length) };
                does(&source[read..read + runs.length], line);
                continue;
            }
            for i in 0..runs.length {
                let (read, write) = (read + i * runs.steps[0], write + i * runs.steps[1]);
                // SAFETY: as above.
                let line = unsafe { target.run(write, 1) };
                does(&source[read..=read], line);
            }
        }
    });
    Ok(())
}

fn copy<T: Element>(from: &View<Cpu>, to: &View<Cpu>) -> Result<()> {
    each_run::<T, T>(from, to, |from, to| to.copy_from_slice(from))
}

fn round<T: Float>(from: &View<Cpu>, to: &View<Cpu>) -> Result<()> {
    each_run::<f32, T>(from, to, |from, to| {
        to.iter_mut().zip(from).for_each(|(to, &from)| *to = T::from_f32(from));
    })
}

fn add<T: Float + std::ops::AddAssign>(from: &View<Cpu>, to: &View<Cpu>) -> Result<()> {
    each_run::<T, T>(from, to, |from, to| {
        to.iter_mut().zip(from).for_each(|(to, &from)| *to += from);
    })
}

fn max<T: Float + PartialOrd>(from: &View<Cpu>, to: &View<Cpu>) -> Result<()> {
    each_run::<T, T>(from, to, |from, to| {
        for (to, &from) in to.iter_mut().zip(from) {
            // Nothing can be said of NaN, which stays, or wins.
            let is_nan = to.partial_cmp(&to).is_none();
            let stays = matches!(from.partial_cmp(to), Some(Ordering::Less | Ordering::Equal));
            if !is_nan && !stays {
                *to = from;
            }
        }
    })
}

impl Lines for Cpu {
    fn copy_lines(&self, from: &View<Self>, to: &View<Self>) -> Result<()> {
        match (Work::of_copy(from, to)?, to.dtype()) {
            (Work::Round, DType::F16) => round::<f16>(from, to),
            (Work::Round, _) => round::<bf16>(from, to),
            (_, dtype) => match dtype.bytes() {
                1 => copy::<u8>(from, to),
                2 => copy::<f16>(from, to),
                4 => copy::<u32>(from, to),
                _ => copy::<u64>(from, to),
            },
        }
    }

    fn add_lines(&self, from: &View<Self>, to: &View<Self>) -> Result<()> {
        Work::Add.check(from, to, &[DType::F32, DType::F64])?;
        match to.dtype() {
            DType::F64 => add::<f64>(from, to),
            _ => add::<f32>(from, to),
        }
    }

    fn max_lines(&self, from: &View<Self>, to: &View<Self>) -> Result<()> {
        Work::Max.check(from, to, &[DType::F32, DType::F64])?;
        match to.dtype() {
            DType::F64 => max::<f64>(from, to),
            _ => max::<f32>(from, to),
        }
    }
}
