//! Copies and sums of tensors of any strides, which messages are packed and put together with.

use crate::backend::Backend;
use crate::check::Check;
use crate::element::DType;
use crate::tensor::View;
use crate::{Error, Result};

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod kernels;
#[cfg(feature = "wgpu")]
mod wgpu;

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

    /// `to` += `from`, of the same shape, both in f32, or on [`Cpu`](crate::Cpu) both in f64.
    ///
    /// # Errors
    ///
    /// As [`copy_lines`](Self::copy_lines).
    fn add_lines(&self, from: &View<Self>, to: &View<Self>) -> Result<()>;

    /// `to` = max(`to`, `from`), of shapes and types as [`add_lines`](Self::add_lines) takes them.
    /// NaN is greater than any number, but on devices that assume that there is none.
    ///
    /// # Errors
    ///
    /// As [`copy_lines`](Self::copy_lines).
    fn max_lines(&self, from: &View<Self>, to: &View<Self>) -> Result<()>;
}

/// A tensor without gaps: this one, or a copy.
pub(crate) fn without_gaps<B: Lines>(view: &View<B>) -> Result<View<B>> {
    if view.is_contiguous() {
        return Ok(view.clone());
    }
    let packed = View::new(view.backend(), view.dtype(), view.shape())?;
    view.backend().copy_lines(view, &packed)?;
    Ok(packed)
}

/// The two have one shape, and what is written is written once and read nowhere.
fn check_pair<B: Backend>(from: &View<B>, to: &View<B>) -> Result<()> {
    match from.shape() == to.shape() {
        true => CHECK.disjoint(&[("to", to)], &[("from", from)]),
        false => Err(CHECK.wrong_shape("to", to, format!("shape {}", from.shape()))),
    }
}

/// What is done to each element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Copy,
    /// f32 to 16 bits.
    Round,
    Add,
    Max,
}

impl Work {
    /// What copies `from` to `to`.
    fn of_copy<B: Backend>(from: &View<B>, to: &View<B>) -> Result<Self> {
        check_pair(from, to)?;
        match (from.dtype(), to.dtype()) {
            (one, other) if one == other => Ok(Self::Copy),
            (DType::F32, DType::F16 | DType::BF16) => Ok(Self::Round),
            _ => Err(wrong_types(from, to, "the same as `from`, or bf16 or f16 from f32")),
        }
    }

    /// This work, a sum or a maximum, where `from` and `to` are in one of these types.
    fn check<B: Backend>(self, from: &View<B>, to: &View<B>, types: &[DType]) -> Result<Self> {
        check_pair(from, to)?;
        if from.dtype() == to.dtype() && types.contains(&to.dtype()) {
            return Ok(self);
        }
        let types: Vec<String> = types.iter().map(|dtype| format!("{dtype} and {dtype}")).collect();
        Err(wrong_types(from, to, &types.join(", or ")))
    }
}

/// What is beyond the kernels.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn refused<B: Backend>(to: &View<B>) -> Error {
    Error::Unsupported {
        operation: CHECK.operation,
        backend: to.backend().name(),
        what: format!("lines of shape {} with strides {:?}", to.shape(), &to.strides()[..]),
        instead: "cut it, or take its axes in the order in which they lie".to_owned(),
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
#[derive(Debug)]
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

    /// How many there are.
    fn count(&self) -> usize {
        self.axes.iter().map(|(length, _)| length).product()
    }

    /// The outer axes as three, as kernels take them; `None` where there are more.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    fn three_axes(&self) -> Option<[(usize, [usize; 2]); 3]> {
        let missing = 3usize.checked_sub(self.axes.len())?;
        Some(std::array::from_fn(|axis| match axis.checked_sub(missing) {
            Some(axis) => self.axes[axis],
            None => (1, [0, 0]),
        }))
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
