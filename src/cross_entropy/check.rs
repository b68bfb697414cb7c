//! The checks of a loss, made once for all backends, and the sizes that they establish.

use super::{Gradients, Inputs, Logits, NAME, Options, OutputsMut, Reduction, Shard};
use crate::backend::Backend;
use crate::check::Check;
use crate::element::{DType, Element, Float};
use crate::tensor::{Tensor, View};
use crate::{Error, Result};

pub(super) const CHECK: Check = Check { operation: NAME };

/// A loss whose tensors fit together, as plans and kernels see it: sizes and forms, no data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// T, tokens.
    pub tokens: usize,
    /// Vi, columns of this rank.
    pub columns: usize,
    /// The first of them.
    pub first: usize,
    /// V, columns of all ranks.
    pub vocabulary: usize,
    /// E, features of a token; none where the logits are given.
    pub width: Option<usize>,
    /// The element type of logits, or of what they are computed from.
    pub dtype: DType,
    /// What becomes of the losses of tokens.
    pub reduction: Reduction,
}

impl Problem {
    /// Checks that the inputs and options fit together.
    ///
    /// # Errors
    ///
    /// The first thing that does not fit: [`Error::Shape`], [`Error::Dtype`], [`Error::Tensor`],
    /// [`Error::Option`].
    pub fn check<B: Backend, T: Float>(
        inputs: &Inputs<'_, B, T>,
        options: &Options,
    ) -> Result<Self> {
        let problem = match inputs.logits {
            Logits::Given(logits) => {
                let [tokens, columns] = pair("logits", logits, "(T, V)")?;
                CHECK.fastest_last("logits", logits)?;
                Self::new(T::DTYPE, [tokens, columns, 0], options)?
            }
            Logits::Linear { x, weight } => {
                let [tokens, width] = pair("x", x, "(T, E)")?;
                let [columns, _] = pair("weight", weight, "(V, E)")?;
                CHECK.shape("weight", weight, &[("V", columns), ("E", width)])?;
                CHECK.fastest_last("x", x)?;
                CHECK.fastest_last("weight", weight)?;
                let problem = Self::new(T::DTYPE, [tokens, columns, 0], options)?;
                Self { width: Some(width), ..problem }
            }
        };
        let target = inputs.target.view();
        CHECK.shape("target", target, &[("T", problem.tokens)])?;
        CHECK.contiguous("target", target)?;
        CHECK.dtype("target", target, &[DType::I32, DType::I64, DType::U32, DType::U64])?;
        CHECK.same_device(inputs.backend(), inputs.named())?;
        Ok(problem)
    }

    /// A call of these sizes, T, V and E, to be planned; E = 0 stands for given logits.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] for options that make no sense, or a shard outside its vocabulary.
    pub fn new(
        dtype: DType,
        [tokens, columns, width]: [usize; 3],
        options: &Options,
    ) -> Result<Self> {
        options.check()?;
        let alone = Shard { first: 0, vocabulary: columns };
        let Shard { first, vocabulary } = options.shard.unwrap_or(alone);
        if first.checked_add(columns).is_none_or(|end| end > vocabulary) {
            let found = format!("{columns} from {first} on");
            let expected = format!("columns within a vocabulary of {vocabulary}");
            return Err(CHECK.wrong_option("shard", &expected, &found));
        }
        let width = (width > 0).then_some(width);
        Ok(Self { tokens, columns, first, vocabulary, width, dtype, reduction: options.reduction })
    }

    /// The caller's outputs have the right shapes and share no memory.
    pub(super) fn check_outputs<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        outputs: &OutputsMut<'_, B, T>,
    ) -> Result<()> {
        CHECK.shape("loss", outputs.loss, &[self.loss_axis()])?;
        CHECK.shape("lse", outputs.lse, &[("T", self.tokens)])?;
        let written = outputs.named();
        for (name, view) in written {
            CHECK.contiguous(name, view)?;
        }
        CHECK.same_device(inputs.backend(), written)?;
        CHECK.disjoint(&written, &inputs.named())
    }

    /// What the backward pass gets besides the inputs.
    pub(super) fn check_backward<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        lse: &Tensor<B, T::State>,
        dloss: &View<B>,
    ) -> Result<()> {
        CHECK.shape("lse", lse, &[("T", self.tokens)])?;
        CHECK.contiguous("lse", lse)?;
        self.check_dloss::<B, T>(dloss)?;
        CHECK.same_device(inputs.backend(), [("lse", &**lse), ("dloss", dloss)])
    }

    pub(super) fn check_dloss<B: Backend, T: Float>(&self, dloss: &View<B>) -> Result<()> {
        CHECK.shape("dloss", dloss, &[self.loss_axis()])?;
        CHECK.dtype("dloss", dloss, &[T::State::DTYPE, T::DTYPE])?;
        CHECK.contiguous("dloss", dloss)
    }

    /// The caller's gradients have the right forms and share no memory.
    pub(super) fn check_gradients<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        [lse, dloss]: [&View<B>; 2],
        gradients: &Gradients<B, T>,
    ) -> Result<()> {
        let like = |name: &str, view: &View<B>, input: &View<B>| {
            let axes = [("0", input.shape()[0]), ("1", input.shape()[1])];
            CHECK.shape(name, view, &axes)?;
            CHECK.fastest_last(name, view)
        };
        match (gradients, &inputs.logits) {
            (Gradients::Given(dlogits), Logits::Given(logits)) => {
                like("dlogits", dlogits, logits)?;
            }
            (Gradients::Linear { x: dx, weight: dweight }, Logits::Linear { x, weight }) => {
                like("dx", dx, x)?;
                like("dweight", dweight, weight)?;
            }
            (_, Logits::Given(_)) => {
                let expected = "the gradient of the logits";
                return Err(CHECK.wrong_tensor("dlogits", expected, "those of a linear layer"));
            }
            (_, Logits::Linear { .. }) => {
                let expected = "the gradients of the linear layer";
                return Err(CHECK.wrong_tensor("dx", expected, "that of logits"));
            }
        }
        let written = gradients.named();
        CHECK.same_device(inputs.backend(), written.iter().copied())?;
        let read: Vec<_> =
            inputs.named().into_iter().chain([("lse", lse), ("dloss", dloss)]).collect();
        CHECK.disjoint(&written, &read)
    }

    fn loss_axis(&self) -> (&'static str, usize) {
        (if self.reduction == Reduction::None { "T" } else { "1" }, self.losses())
    }

    /// Elements of the loss.
    pub fn losses(&self) -> usize {
        match self.reduction {
            Reduction::None => self.tokens,
            Reduction::Mean | Reduction::Sum => 1,
        }
    }

    /// The least bytes that a forward call can move: given logits once, or x and the weight;
    /// targets as i64, and lse.
    pub fn least_bytes_forward(&self) -> u64 {
        let read = match self.width {
            None => self.tokens * self.columns,
            Some(width) => (self.tokens + self.columns) * width,
        };
        (read * self.dtype.bytes() + self.tokens * (8 + 4)) as u64
    }

    /// The least bytes that a backward call can move: those of the forward call, and what has been
    /// read of logits, x and weight written once.
    pub fn least_bytes_backward(&self) -> u64 {
        let targets = self.tokens * (8 + 4);
        2 * self.least_bytes_forward() - targets as u64
    }
}

/// The lengths of a tensor's two axes.
fn pair<B: Backend>(name: &str, view: &View<B>, axes: &str) -> Result<[usize; 2]> {
    match **view.shape() {
        [rows, columns] => Ok([rows, columns]),
        _ => Err(CHECK.wrong_shape(name, view, format!("shape {axes}"))),
    }
}

/// The columns of all ranks are those of the vocabulary, each once.
pub(super) fn check_cut(bounds: &[[usize; 2]], vocabulary: usize) -> Result<()> {
    let mut sorted: Vec<_> = bounds.iter().filter(|[first, end]| first < end).collect();
    sorted.sort_unstable();
    let mut next = 0;
    let fits = |next: &mut usize, &&[first, end]: &&[usize; 2]| {
        let fits = first == *next;
        *next = end;
        fits
    };
    if sorted.iter().all(|bounds| fits(&mut next, bounds)) && next == vocabulary {
        return Ok(());
    }
    let found: Vec<String> = bounds.iter().map(|[first, end]| format!("{first}..{end}")).collect();
    Err(Error::Option {
        operation: NAME,
        option: "shard".to_owned(),
        expected: format!("columns 0 to {vocabulary}, each on one rank"),
        found: found.join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_on_one_rank() {
        assert!(check_cut(&[[0, 3], [3, 3], [3, 8]], 8).is_ok());
        assert!(check_cut(&[[3, 8], [0, 3]], 8).is_ok(), "in any order");
        assert!(check_cut(&[[0, 0]], 0).is_ok());
        assert!(check_cut(&[[5, 5], [0, 8]], 8).is_ok(), "nothing lies anywhere");
        for bounds in [&[[0, 4], [3, 8]][..], &[[0, 3], [4, 8]], &[[0, 3], [3, 7]], &[]] {
            let error = check_cut(bounds, 8).unwrap_err().to_string();
            assert!(error.contains("expected columns 0 to 8, each on one rank"), "{error}");
        }
    }
}
