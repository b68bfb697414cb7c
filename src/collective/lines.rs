//! Copies and sums of tensors of any strides, which messages are packed and put together with.

use half::{bf16, f16};
use rayon::prelude::*;

use crate::backend::cpu::aligned::{elements, elements_mut};
use crate::backend::cpu::disjoint::Disjoint;
use crate::backend::{Backend, Cpu};
use crate::check::Check;
use crate::element::{DType, Element, Float};
use crate::tensor::View;
use crate::{Error, Result};

pub(super) const CHECK: Check = Check { operation: "lines" };

/// A backend that copies and adds tensors of any strides.
pub trait Lines: Backend {
    /// `to` = `from`, of the same shape: in the same type, or rounded from f32.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`], [`Error::Dtype`] and [`Error::Aliased`] where the two do not fit together, and
    /// the device's refusal.
    fn copy_lines(&self, from: &View<Self>, to: &View<Self>) -> Result<()>;

    /// `to` += `from`, of the same shape, both in f32 or both in f64.
    ///
    /// # Errors
    ///
    /// As [`copy_lines`](Self::copy_lines).
    fn add_lines(&self, from: &View<Self>, to: &View<Self>) -> Result<()>;
}

/// The two have one shape, and what is written is written once and read nowhere.
fn check_pair<B: Backend>(from: &View<B>, to: &View<B>) -> Result<()> {
    match from.shape() == to.shape() {
        true => CHECK.disjoint(&[("to", to)], &[("from", from)]),
        false => Err(CHECK.wrong_shape("to", to, format!("shape {}", from.shape()))),
    }
}

fn wrong_types<B: Backend>(from: &View<B>, to: &View<B>, expected: &str) -> Error {
    Error::Dtype {
        operation: CHECK.operation,
        tensor: "to".to_owned(),
        expected: expected.to_owned(),
        found: format!("{} from {}", to.dtype(), from.dtype()),
    }
}

/// Runs of neighbours that two views have alike: axes that are one in both are taken together.
struct Runs {
    /// Length, and the distance between neighbours in either, of the outer axes.
    axes: Vec<(usize, [usize; 2])>,
    /// Elements of a run, and the distance between them.
    length: usize,
    steps: [usize; 2],
}

impl Runs {
    fn new<B: Backend>(from: &View<B>, to: &View<B>) -> Self {
        let mut axes: Vec<(usize, [usize; 2])> = Vec::new();
        let strides = from.strides().iter().zip(to.strides().iter());
        for (&length, (&from, &to)) in from.shape().iter().zip(strides) {
            match axes.last_mut() {
                _ if length == 1 => {}
                Some((before, steps)) if *steps == [from * length, to * length] => {
                    *before *= length;
                    *steps = [from, to];
                }
                _ => axes.push((length, [from, to])),
            }
        }
        let (length, steps) = axes.pop().unwrap_or((1, [1, 1]));
        Self { axes, length, steps }
    }

    fn count(&self) -> usize {
        self.axes.iter().map(|(length, _)| length).product()
    }

    /// Where a run begins in either.
    fn begin(&self, mut run: usize) -> [usize; 2] {
        let mut begin = [0, 0];
        for (length, steps) in self.axes.iter().rev() {
            let at = run % length;
            run /= length;
            begin[0] += at * steps[0];
            begin[1] += at * steps[1];
        }
        begin
    }
}

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

impl Lines for Cpu {
    fn copy_lines(&self, from: &View<Self>, to: &View<Self>) -> Result<()> {
        check_pair(from, to)?;
        match (from.dtype(), to.dtype()) {
            (one, other) if one == other => match one.bytes() {
                1 => copy::<u8>(from, to),
                2 => copy::<f16>(from, to),
                4 => copy::<u32>(from, to),
                _ => copy::<u64>(from, to),
            },
            (DType::F32, DType::F16) => round::<f16>(from, to),
            (DType::F32, DType::BF16) => round::<bf16>(from, to),
            _ => Err(wrong_types(from, to, "the same as `from`, or bf16 or f16 from f32")),
        }
    }

    fn add_lines(&self, from: &View<Self>, to: &View<Self>) -> Result<()> {
        check_pair(from, to)?;
        match (from.dtype(), to.dtype()) {
            (DType::F32, DType::F32) => add::<f32>(from, to),
            (DType::F64, DType::F64) => add::<f64>(from, to),
            _ => Err(wrong_types(from, to, "f32 and f32, or f64 and f64")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    fn numbers(shape: &[usize]) -> Tensor<Cpu, f32> {
        let count: usize = shape.iter().product();
        Tensor::from_vec((0..count).map(|i| i as f32).collect(), shape).unwrap()
    }

    #[test]
    fn lines_of_any_strides_are_copied_and_added() {
        let whole = numbers(&[2, 5, 3, 4]);
        for (axis, range) in [(0, 1..2), (1, 1..4), (2, 0..2), (3, 1..2), (1, 2..2)] {
            let part = whole.narrowed(axis, range.clone()).unwrap().transposed(1, 2).unwrap();
            let packed = numbers(part.shape());
            Cpu.copy_lines(&part, &packed).unwrap();
            let expected = part.to_vec().unwrap();
            assert_eq!(packed.to_vec().unwrap(), expected, "axis {axis}, {range:?}");
            let sum = numbers(&[2, 5, 3, 4]);
            let sum_part = sum.narrowed(axis, range).unwrap().transposed(1, 2).unwrap();
            Cpu.add_lines(&packed, &sum_part).unwrap();
            let twice: Vec<f32> = expected.iter().map(|x| 2.0 * x).collect();
            assert_eq!(sum_part.to_vec().unwrap(), twice);
            let total: f32 = sum.to_vec().unwrap().iter().sum();
            assert_eq!(total, 7140.0 + expected.iter().sum::<f32>(), "nothing else is touched");
        }
    }

    #[test]
    fn sums_are_rounded_once() {
        let from = Tensor::from_vec(vec![1.0f32, 1.0 + 2f32.powi(-9), -3.5e-5], &[3]).unwrap();
        let to = Tensor::<Cpu, bf16>::new(&Cpu, &[3]).unwrap();
        Cpu.copy_lines(&from, &to).unwrap();
        let expected = from.to_vec().unwrap().into_iter().map(bf16::from_f32).collect::<Vec<_>>();
        assert_eq!(to.to_vec().unwrap(), expected);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let from = numbers(&[3]);
        let error = |to: &View<Cpu>| Cpu.copy_lines(&from, to).unwrap_err().to_string();
        assert!(error(&numbers(&[4])).contains("expected shape (3), found shape (4)"));
        let whole = Tensor::<Cpu, i32>::new(&Cpu, &[3]).unwrap();
        assert!(error(&whole).contains("found i32 from f32"));
    }
}
