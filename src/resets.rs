//! How documents that share a row are kept apart.

use std::ops::Range;

use crate::backend::{Backend, Cpu, Named};
use crate::check::Check;
use crate::parameter::Indices;
use crate::tensor::{Tensor, View};
use crate::{DType, Error, Result};

/// How documents that share a row are kept apart. A reset is exact: nothing of the earlier
/// document reaches the later one, not even a NaN.
#[derive(Debug)]
pub enum Resets<'a, B: Backend> {
    /// One document per row.
    None,
    /// (B, L): the state starts from zero where the flag is not 0.
    Flags(&'a Tensor<B, u8>),
    /// (B, L): a reset where the number differs from the nearest earlier non-negative one.
    /// Negative marks padding: out = 0 and the state passes through. The first non-negative
    /// position of a row continues from its initial state.
    SeqIdx(Indices<'a, B>),
    /// (S + 1), non-decreasing from 0 to L, with B = 1: sequence s covers the steps from
    /// `cu_seqlens[s]` to before `cu_seqlens[s + 1]`, with an initial and a last state of its own.
    CuSeqlens(Indices<'a, B>),
}

/// The meaning of a time step for the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The state decays and takes the input in.
    Ordinary,
    /// The state starts from zero.
    Reset,
    /// The state passes through, the output is 0.
    Padding,
}

impl<'a, B: Backend> Resets<'a, B> {
    /// The form among tensors under their names; an operation knows some of the `forms`.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`] where there are two, [`Error::Dtype`] for elements of the wrong type.
    pub(crate) fn from_named(check: Check, named: &'a Named<B>, forms: &[&str]) -> Result<Self> {
        let present: Vec<&str> =
            forms.iter().copied().filter(|name| named.contains_key(*name)).collect();
        let [name] = *present.as_slice() else {
            return match present.as_slice() {
                [] => Ok(Self::None),
                [first, others @ ..] => Err(Error::Tensor {
                    operation: check.operation,
                    tensor: (*first).to_owned(),
                    expected: format!("at most one of {}", forms.join(", ")),
                    found: format!("{} as well", others.join(" and ")),
                }),
            };
        };
        let view = &named[name];
        if name == "reset" {
            check.dtype(name, view, &[DType::U8])?;
            return Ok(Self::Flags(view.as_typed()?));
        }
        check.dtype(name, view, &[DType::I32, DType::I64, DType::U32, DType::U64])?;
        let indices = Indices::from_view(view)?;
        Ok(if name == "seq_idx" { Self::SeqIdx(indices) } else { Self::CuSeqlens(indices) })
    }

    /// The tensor that is present, under its name.
    pub(crate) fn named(&self) -> Option<(&'static str, &View<B>)> {
        match self {
            Self::None => None,
            Self::Flags(flags) => Some(("reset", flags)),
            Self::SeqIdx(seq_idx) => Some(("seq_idx", seq_idx.view())),
            Self::CuSeqlens(cu_seqlens) => Some(("cu_seqlens", cu_seqlens.view())),
        }
    }

    /// The number of sequences S, where rows are packed.
    pub(crate) fn sequences(&self, check: Check) -> Result<Option<usize>> {
        let Self::CuSeqlens(cu_seqlens) = self else { return Ok(None) };
        match **cu_seqlens.shape() {
            [bounds] if bounds > 0 => Ok(Some(bounds - 1)),
            _ => Err(check.wrong_shape("cu_seqlens", cu_seqlens, "shape (S + 1)".to_owned())),
        }
    }

    /// Shapes of the flags or numbers for `batch` rows of `steps`, of which `long` is one tensor.
    pub(crate) fn check_shapes(
        &self,
        check: Check,
        [batch, steps]: [usize; 2],
        (name, long): (&str, &View<B>),
    ) -> Result<()> {
        let positions = |name: &str, view: &View<B>| {
            check.shape(name, view, &[("B", batch), ("L", steps)])?;
            check.contiguous(name, view)
        };
        match self {
            Self::None => Ok(()),
            Self::Flags(flags) => positions("reset", flags),
            Self::SeqIdx(seq_idx) => positions("seq_idx", seq_idx),
            Self::CuSeqlens(cu_seqlens) if batch == 1 => check.contiguous("cu_seqlens", cu_seqlens),
            Self::CuSeqlens(_) => Err(check.wrong_shape(
                name,
                long,
                format!("B = 1 with cu_seqlens, all {steps} steps in one row"),
            )),
        }
    }
}

impl Resets<'_, Cpu> {
    /// What only the host can see: the values of `cu_seqlens`.
    pub(crate) fn check_values(&self, check: Check, steps: usize) -> Result<()> {
        let Self::CuSeqlens(cu_seqlens) = self else { return Ok(()) };
        let bounds = cu_seqlens.to_i64()?;
        let refuse = |found: String| Error::Value {
            operation: check.operation,
            tensor: "cu_seqlens".to_owned(),
            expected: format!("values that rise from 0 to L = {steps}"),
            found,
        };
        match (bounds.first(), bounds.last()) {
            (Some(&first), _) if first != 0 => Err(refuse(format!("{first} first"))),
            (_, Some(&last)) if last != steps as i64 => Err(refuse(format!("{last} last"))),
            _ => match bounds.windows(2).position(|pair| pair[1] < pair[0]) {
                Some(at) => Err(refuse(format!(
                    "{} after {} at position {}",
                    bounds[at + 1],
                    bounds[at],
                    at + 1
                ))),
                None => Ok(()),
            },
        }
    }

    /// The batch entry and the steps of each row.
    pub(crate) fn rows(&self, batch: usize, steps: usize) -> Result<Vec<(usize, Range<usize>)>> {
        Ok(match self {
            Self::CuSeqlens(cu_seqlens) => {
                let bounds = cu_seqlens.to_i64()?;
                bounds.windows(2).map(|pair| (0, pair[0] as usize..pair[1] as usize)).collect()
            }
            _ => (0..batch).map(|batch| (batch, 0..steps)).collect(),
        })
    }

    /// The meaning of every step, (B, L).
    pub(crate) fn meanings(&self, batch: usize, steps: usize) -> Result<Vec<Step>> {
        let reset_if = |reset: bool| if reset { Step::Reset } else { Step::Ordinary };
        Ok(match self {
            Self::None | Self::CuSeqlens(_) => vec![Step::Ordinary; batch * steps],
            Self::Flags(flags) => {
                flags.to_vec()?.into_iter().map(|flag| reset_if(flag != 0)).collect()
            }
            Self::SeqIdx(seq_idx) => {
                let numbers = seq_idx.to_i64()?;
                let mut meanings = Vec::with_capacity(numbers.len());
                for row in numbers.chunks(steps.max(1)) {
                    let mut current = None;
                    meanings.extend(row.iter().map(|&number| {
                        if number < 0 {
                            return Step::Padding;
                        }
                        reset_if(current.replace(number).is_some_and(|before| before != number))
                    }));
                }
                meanings
            }
        })
    }
}
