//! The loss of a vocabulary that is cut among ranks.

use super::check::check_cut;
use super::{
    CrossEntropy, GradientLines, Gradients, Inputs, NAME, Options, Outputs, Problem, STATISTICS,
    launch_backward, launch_statistics,
};
use crate::Result;
use crate::collective::{Communicator, Descriptor, Lines, all_gather, all_reduce};
use crate::element::{Element, Float};
use crate::parameter::Parameter;
use crate::tensor::{Tensor, View};

/// The loss of a vocabulary of which each rank has some columns, maybe none, as
/// [`Options::shard`] tells. All ranks make the call together, with the same tokens, targets and
/// options; all get the same loss and lse, to the bit. Ranks exchange 16 bytes per token.
///
/// # Errors
///
/// As [`forward`](super::forward); [`Error::Option`](crate::Error::Option) where the ranks' columns
/// are not those of the vocabulary, each once;
/// [`Error::Communication`](crate::Error::Communication) where ranks differ, are late or gone.
pub fn forward_among<B: CrossEntropy<T> + Lines, T: Float, C: Communicator<B>>(
    ranks: &C,
    inputs: &Inputs<'_, B, T>,
    options: &Options,
) -> Result<Outputs<B, T>> {
    or_abort(ranks, || {
        let problem = Problem::check(inputs, options)?;
        agree(ranks, &problem, options, "forward")?;
        let backend = inputs.backend();
        let own = Tensor::new(backend, &[1, problem.tokens, STATISTICS])?;
        launch_statistics(&problem, inputs, options, &own)?;
        let all = match ranks.size() {
            1 => own,
            size => {
                gathered(ranks, &own, Tensor::new(backend, &[size, problem.tokens, STATISTICS])?)?
            }
        };
        let mut outputs = Outputs::new(backend, &problem)?;
        backend.launch_loss(&problem, inputs.target, options, &all, &outputs.as_mut())?;
        Ok(outputs)
    })
}

/// Gradients of this rank's logits; or of x, over the columns of all ranks, and of this rank's rows of
/// the weight. `lse` is that of [`forward_among`]. Ranks exchange the f32 sums of dx.
///
/// # Errors
///
/// As [`forward_among`].
pub fn backward_among<'a, B: CrossEntropy<T> + Lines, T: Float, C: Communicator<B>>(
    ranks: &C,
    inputs: &Inputs<'_, B, T>,
    options: &Options,
    lse: &Tensor<B, T::State>,
    dloss: impl Into<Parameter<'a, B>>,
) -> Result<Gradients<B, T>> {
    let dloss = dloss.into();
    or_abort(ranks, || {
        let problem = Problem::check(inputs, options)?;
        problem.check_backward(inputs, lse, dloss.view())?;
        agree(ranks, &problem, options, "backward")?;
        let gradients = Gradients::new(inputs)?;
        let launch = |lines: &GradientLines<'_, B>| {
            launch_backward(&problem, inputs, options, lse, dloss, lines)
        };
        match &gradients {
            Gradients::Linear { x, weight } if ranks.size() > 1 => {
                // Where T is the type of sums the gradient is its own sum.
                let sum = match T::DTYPE == T::State::DTYPE {
                    true => (**x).clone(),
                    false => View::new(x.backend(), T::State::DTYPE, x.shape())?,
                };
                launch(&GradientLines::Linear { x: &sum, weight })?;
                all_reduce(ranks, &sum)?;
                if T::DTYPE != T::State::DTYPE && sum.elements() > 0 {
                    x.backend().copy_lines(&sum, x)?;
                }
            }
            _ => launch(&gradients.lines())?,
        }
        Ok(gradients)
    })
}

/// Does what others wait for, and tells them where it fails.
fn or_abort<B: Lines, C: Communicator<B>, R>(
    ranks: &C,
    does: impl FnOnce() -> Result<R>,
) -> Result<R> {
    does().inspect_err(|error| ranks.abort(&error.to_string()))
}

/// Every rank's statistics, on every rank.
fn gathered<B: Lines, C: Communicator<B>, S: Element>(
    ranks: &C,
    own: &Tensor<B, S>,
    all: Tensor<B, S>,
) -> Result<Tensor<B, S>> {
    let of_rank = |rank: usize| View::narrowed(&all, 0, rank..rank + 1);
    let views = (0..ranks.size()).map(of_rank).collect::<Result<Vec<_>>>()?;
    // A message without a byte is not sent.
    if own.elements() > 0 {
        all_gather(ranks, own, &views)?;
    }
    Ok(all)
}

/// The ranks are in the same call, and have the columns of the vocabulary.
fn agree<B: Lines, C: Communicator<B>>(
    ranks: &C,
    problem: &Problem,
    options: &Options,
    pass: &str,
) -> Result<()> {
    let softcap = options.softcap.map_or(0, f32::to_bits);
    let width = problem.width.map_or("none".to_owned(), |width| width.to_string());
    Descriptor::new()
        .with("operation", NAME)
        .with("pass", pass)
        .with("ranks", ranks.size())
        .with("T", problem.tokens)
        .with("V", problem.vocabulary)
        .with("E", width)
        .with("type", problem.dtype)
        .with("label_smoothing", options.label_smoothing)
        .with("z_loss", options.z_loss)
        .with("softcap", format!("{softcap:08x}"))
        .with("ignore_index", options.ignore_index)
        .with("reduction", options.reduction)
        .agree(ranks)?;
    let own = [problem.first, problem.first + problem.columns].map(|bound| bound as u64);
    let said = ranks.gather_bytes(bytemuck::cast_slice(&own))?;
    let bound =
        |bytes: &[u8]| bytes.try_into().map_or(usize::MAX, |b| u64::from_ne_bytes(b) as usize);
    let bounds: Vec<[usize; 2]> = said
        .iter()
        .map(|bytes| {
            let (first, end) = bytes.split_at(bytes.len() / 2);
            [bound(first), bound(end)]
        })
        .collect();
    check_cut(&bounds, problem.vocabulary)
}
