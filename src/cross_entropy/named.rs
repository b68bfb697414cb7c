//! The loss of tensors whose names and types are known only at run time, as files give them.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::check::CHECK;
use super::{
    AXES, CrossEntropy, Gradients, Inputs, Logits, NAME, Options, Outputs, Problem, backward,
    backward_among, forward, forward_among, plan_backward, plan_forward, preload,
};
use crate::Result;
use crate::backend::{Backend, Cpu, Device, Named, dispatch, on_backend};
use crate::collective::{Communicator, Lines, Local};
use crate::element::{DType, Float};
use crate::named::{Reader, downloaded};
use crate::operation::{Axis, Operation, Ran, Settings, Sizes};
use crate::parameter::Parameter;
use crate::tensor::View;

/// The tensors that a loss knows, in the order of messages.
const TENSORS: [&str; 4] = ["logits", "x", "weight", "target"];

/// The gradient of the loss, which asks for the backward pass.
const GRADIENT: &str = "dloss";

/// The most ranks of a call, each of which is a thread.
const MOST_SHARDS: usize = 1024;

/// The loss as an [`Operation`].
pub(crate) struct RunTime;

impl Operation for RunTime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn axes(&self) -> &'static [Axis] {
        &AXES
    }

    fn check(&self, named: &Named<Cpu>, settings: &Settings) -> Result<()> {
        shards(settings)?;
        check_named(named, &Options::from_settings(settings)?)
    }

    fn run(&self, device: &Device, named: &Named<Cpu>, settings: &Settings) -> Result<Ran> {
        run_named(device, named, &Options::from_settings(settings)?, shards(settings)?)
    }

    /// Both passes of a rank: the first, which has as many columns as any.
    fn plan(
        &self,
        device: &Device,
        dtype: DType,
        sizes: &Sizes,
        settings: &Settings,
    ) -> Result<String> {
        let options = Options::from_settings(settings)?;
        let [tokens, vocabulary, width] = sizes.lengths(NAME)?;
        let columns = vocabulary.div_ceil(shards(settings)?);
        let options = options.with_shard(0, vocabulary);
        let problem = Problem::new(dtype, [tokens, columns, width], &options)?;
        dispatch!(NAME, device, dtype, |backend, T| {
            let forward = CrossEntropy::<T>::plan_forward(backend, &problem, &options)?;
            let backward = CrossEntropy::<T>::plan_backward(backend, &problem, &options)?;
            Ok(format!("{forward}\n\n{backward}"))
        })
    }
}

/// Ranks that the vocabulary is cut among.
fn shards(settings: &Settings) -> Result<usize> {
    let Some(text) = settings.options.get("shards") else { return Ok(1) };
    match CHECK.number("shards", text)? {
        shards @ 1..=MOST_SHARDS => Ok(shards),
        _ => Err(CHECK.wrong_option("shards", &format!("1 to {MOST_SHARDS}"), text)),
    }
}

impl<'a, B: Backend, T: Float> Inputs<'a, B, T> {
    /// The inputs among tensors that carry the names of the [module's](super) table.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`](crate::Error::Tensor) where one is missing, unknown or one too many,
    /// [`Error::Dtype`](crate::Error::Dtype) where its elements are of the wrong type.
    pub fn from_named(named: &'a Named<B>) -> Result<Self> {
        let reader = Reader::new(CHECK, named);
        reader.knows(&TENSORS)?;
        let logits = match (named.get("logits"), named.get("x").or(named.get("weight"))) {
            (Some(_), None) => Logits::Given(reader.typed("logits")?),
            (None, _) => Logits::Linear { x: reader.typed("x")?, weight: reader.typed("weight")? },
            (Some(_), Some(_)) => {
                let expected = "either logits, or x and weight";
                return Err(CHECK.wrong_tensor("logits", expected, "both"));
            }
        };
        reader.required("target")?;
        let Some(target) = reader.indices("target")? else {
            return Err(CHECK.wrong_tensor("target", "this tensor", "none"));
        };
        Ok(Self { logits, target })
    }
}

/// Checks all that can be told without a device: names, shapes, types. The element type of the logits,
/// or of x, is the type that the loss runs in.
///
/// # Errors
///
/// What does not fit.
pub fn check_named(named: &Named<Cpu>, options: &Options) -> Result<()> {
    let (inputs, given) = split(named);
    dispatch!(NAME, &Device::Cpu(Cpu), dtype(&inputs)?, |_cpu, T| {
        let inputs = Inputs::<Cpu, T>::from_named(&inputs)?;
        let problem = Problem::check(&inputs, options)?;
        match given {
            Some(dloss) => problem.check_dloss::<Cpu, T>(&dloss),
            None => Ok(()),
        }
    })
}

/// Runs the loss on a device: uploads, warms up, runs, downloads; with its backward pass where the
/// gradient of the loss is present. The vocabulary is cut evenly among so many ranks, which are
/// threads.
///
/// # Errors
///
/// As [`forward_among`] and [`backward_among`].
pub fn run_named(
    device: &Device,
    named: &Named<Cpu>,
    options: &Options,
    shards: usize,
) -> Result<Ran> {
    let (inputs, given) = split(named);
    dispatch!(NAME, device, dtype(&inputs)?, |backend, T| run_on::<_, T>(
        backend, &inputs, given, options, shards
    ))
}

fn run_on<B: CrossEntropy<T> + Lines, T: Float>(
    backend: &B,
    inputs: &Named<Cpu>,
    given: Option<View<Cpu>>,
    options: &Options,
    shards: usize,
) -> Result<Ran> {
    let inputs = on_backend(backend, inputs)?;
    let given = given.map(|dloss| dloss.to_backend(backend)).transpose()?;
    let typed = Inputs::<B, T>::from_named(&inputs)?;
    let plan = plan_forward(&typed, options)?;
    preload(backend, &plan)?;
    if given.is_some() {
        preload(backend, &plan_backward(&typed, options)?)?;
    }
    backend.synchronise()?;
    if shards == 1 {
        let ran = Call { inputs: &typed, options, dloss: given.as_ref() }.alone()?;
        return Ok(Ran::new(plan.variant, ran.0, ran.1));
    }
    let vocabulary = Problem::check(&typed, options)?.columns;
    let bound = |rank: usize| rank * vocabulary / shards;
    let bounds: Vec<_> = (0..shards).map(|rank| bound(rank)..bound(rank + 1)).collect();
    let ran = among::<B, T>(&inputs, given.as_ref(), options, &bounds)?;
    let elapsed = ran.iter().map(|(elapsed, _)| *elapsed).max().unwrap_or_default();
    let outputs: Vec<Named<Cpu>> = ran.into_iter().map(|(_, outputs)| outputs).collect();
    Ok(Ran::new(plan.variant, elapsed, whole(&outputs)?))
}

/// What each rank gives that has these columns of the whole tensors, and how long it took; ranks are
/// threads.
pub(crate) fn among<B: CrossEntropy<T> + Lines, T: Float>(
    inputs: &Named<B>,
    dloss: Option<&View<B>>,
    options: &Options,
    bounds: &[Range<usize>],
) -> Result<Vec<(Duration, Named<Cpu>)>> {
    let vocabulary = bounds.iter().map(|columns| columns.end).max().unwrap_or(0);
    let of_rank = |ranks: Local<B>| {
        let columns = bounds[ranks.rank()].clone();
        let options = options.clone().with_shard(columns.start, vocabulary);
        let mut own = inputs.clone();
        for (name, axis) in [("logits", 1), ("weight", 0)] {
            if let Some(whole) = inputs.get(name) {
                own.insert(name.to_owned(), whole.narrowed(axis, columns.clone())?);
            }
        }
        let inputs = Inputs::<B, T>::from_named(&own)?;
        Call { inputs: &inputs, options: &options, dloss }.among(&ranks)
    };
    Local::<B>::run(bounds.len(), of_rank).into_iter().collect()
}

/// A call of one rank, with its backward pass where the gradient of the loss is there.
struct Call<'a, B: Backend, T: Float> {
    inputs: &'a Inputs<'a, B, T>,
    options: &'a Options,
    dloss: Option<&'a View<B>>,
}

impl<B: CrossEntropy<T>, T: Float> Call<'_, B, T> {
    fn alone(&self) -> Result<(Duration, Named<Cpu>)> {
        let Self { inputs, options, dloss } = *self;
        let start = Instant::now();
        let outputs = forward(inputs, options)?;
        let gradients = dloss
            .map(|dloss| backward(inputs, options, &outputs.lse, Parameter::from_view(dloss)?));
        self.end(start, &outputs, gradients.transpose()?.as_ref())
    }

    fn among<C: Communicator<B>>(&self, ranks: &C) -> Result<(Duration, Named<Cpu>)>
    where
        B: Lines,
    {
        let Self { inputs, options, dloss } = *self;
        let start = Instant::now();
        let outputs = forward_among(ranks, inputs, options)?;
        let gradients = dloss.map(|dloss| {
            let dloss = Parameter::from_view(dloss)?;
            backward_among(ranks, inputs, options, &outputs.lse, dloss)
        });
        self.end(start, &outputs, gradients.transpose()?.as_ref())
    }

    fn end(
        &self,
        start: Instant,
        outputs: &Outputs<B, T>,
        gradients: Option<&Gradients<B, T>>,
    ) -> Result<(Duration, Named<Cpu>)> {
        self.inputs.backend().synchronise()?;
        let elapsed = start.elapsed();
        let mut named: Vec<(&'static str, &View<B>)> =
            vec![("loss", &outputs.loss), ("lse", &outputs.lse)];
        named.extend(gradients.into_iter().flat_map(Gradients::named));
        Ok((elapsed, downloaded(named)?))
    }
}

/// What ranks gave, as one: gradients of their columns beside each other, all else as the first has
/// it.
pub(crate) fn whole(ranks: &[Named<Cpu>]) -> Result<Named<Cpu>> {
    let mut whole = ranks[0].clone();
    for (name, axis) in [("dlogits", 1), ("dweight", 0)] {
        let parts: Vec<&View<Cpu>> = ranks.iter().filter_map(|rank| rank.get(name)).collect();
        let Some(first) = parts.first() else { continue };
        let mut shape = first.shape().to_vec();
        shape[axis] = parts.iter().map(|part| part.shape()[axis]).sum();
        let joined = View::new(&Cpu, first.dtype(), &shape)?;
        let mut begin = 0;
        for part in parts {
            let end = begin + part.shape()[axis];
            Cpu.copy_lines(part, &joined.narrowed(axis, begin..end)?)?;
            begin = end;
        }
        whole.insert(name.to_owned(), joined);
    }
    Ok(whole)
}

/// The inputs, and the gradient of the loss.
pub(crate) fn split(named: &Named<Cpu>) -> (Named<Cpu>, Option<View<Cpu>>) {
    let mut inputs = named.clone();
    let given = inputs.remove(GRADIENT);
    (inputs, given)
}

/// The element type that the loss runs in.
fn dtype(named: &Named<Cpu>) -> Result<DType> {
    let name = if named.contains_key("logits") { "logits" } else { "x" };
    Ok(Reader::new(CHECK, named).required(name)?.dtype())
}
