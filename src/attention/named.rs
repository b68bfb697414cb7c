//! Attention on tensors whose names and types are known only at run time, as files give them.

use std::time::Instant;

use super::check::CHECK;
use super::{
    AXES, Attention, Gradients, Inputs, NAME, Options, OutputGradients, Problem, backward, forward,
    plan_backward, plan_forward, preload,
};
use crate::Result;
use crate::backend::{Backend, Cpu, Device, Named, dispatch, on_backend};
use crate::element::{DType, Float};
use crate::named::{Reader, downloaded};
use crate::operation::{Axis, Operation, Ran, Settings, Sizes};
use crate::tensor::{Tensor, View};

/// The tensors that attention knows, in the order of messages.
const TENSORS: [&str; 8] =
    ["q", "k", "v", "bias", "sink", "alibi_slopes", "cu_seqlens_q", "cu_seqlens_k"];

/// Gradients of the outputs; one of them asks for the backward pass.
const GRADIENTS: [&str; 2] = ["dout", "dlse"];

/// Attention as an [`Operation`].
pub(crate) struct RunTime;

impl Operation for RunTime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn axes(&self) -> &'static [Axis] {
        &AXES
    }

    fn check(&self, named: &Named<Cpu>, settings: &Settings) -> Result<()> {
        check_named(named, &Options::from_settings(settings)?)
    }

    fn run(&self, device: &Device, named: &Named<Cpu>, settings: &Settings) -> Result<Ran> {
        run_named(device, named, &Options::from_settings(settings)?)
    }

    /// Both passes.
    fn plan(
        &self,
        device: &Device,
        dtype: DType,
        sizes: &Sizes,
        settings: &Settings,
    ) -> Result<String> {
        let options = Options::from_settings(settings)?;
        let problem = Problem::new(dtype, all_sizes(sizes.lengths(NAME)?), &options)?;
        dispatch!(NAME, device, dtype, |backend, T| {
            let forward = Attention::<T>::plan_forward(backend, &problem, &options)?;
            let backward = Attention::<T>::plan_backward(backend, &problem, &options)?;
            Ok(format!("{forward}\n\n{backward}"))
        })
    }
}

/// Sizes of which those that were left out are as others.
pub(crate) fn all_sizes(
    [batch, heads, kv, queries, keys, width, values]: [usize; 7],
) -> [usize; 7] {
    let or = |length: usize, other| if length == 0 { other } else { length };
    [batch, heads, or(kv, heads), queries, or(keys, queries), width, or(values, width)]
}

impl<'a, B: Backend, T: Float> Inputs<'a, B, T> {
    /// The inputs among tensors that carry the names of the [module's](super) table.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`](crate::Error::Tensor) where one is missing or unknown,
    /// [`Error::Dtype`](crate::Error::Dtype) where its elements are of the wrong type.
    pub fn from_named(named: &'a Named<B>) -> Result<Self> {
        let reader = Reader::new(CHECK, named);
        reader.knows(&TENSORS)?;
        let mut inputs = Self::new(reader.typed("q")?, reader.typed("k")?, reader.typed("v")?);
        inputs.bias = reader.optional_parameter::<T>("bias")?;
        inputs.sink = reader.optional_parameter::<T>("sink")?;
        inputs.alibi_slopes = reader.optional_parameter::<T>("alibi_slopes")?;
        let bounds = [reader.indices("cu_seqlens_q")?, reader.indices("cu_seqlens_k")?];
        match bounds {
            [Some(queries), Some(keys)] => Ok(inputs.with_packed(queries, keys)),
            [None, None] => Ok(inputs),
            [queries, _] => {
                let missing = if queries.is_some() { "cu_seqlens_k" } else { "cu_seqlens_q" };
                let expected = "both cu_seqlens_q and cu_seqlens_k, or neither";
                Err(CHECK.wrong_tensor(missing, expected, "none"))
            }
        }
    }
}

/// Gradients of outputs among named tensors: that of `out`, zeros where it is absent, is kept in
/// `zeros`.
pub(crate) fn given<'a, B: Backend, T: Float>(
    backend: &B,
    problem: &Problem,
    named: &'a Named<B>,
    zeros: &'a mut Option<Tensor<B, T>>,
) -> Result<OutputGradients<'a, B, T>> {
    let reader = Reader::new(CHECK, named);
    let out = match reader.optional_typed("dout")? {
        Some(out) => out,
        None => {
            let shape = problem.output_shape();
            let values = vec![T::from_f32(0.0); shape.iter().product()];
            &*zeros.insert(Tensor::from_slice(backend, &values, &shape)?)
        }
    };
    Ok(OutputGradients { out, lse: reader.optional_parameter::<T>("dlse")? })
}

/// Checks all that can be told without a device: names, shapes, types, values of indices. The
/// element type of `q` is the type that attention runs in.
///
/// # Errors
///
/// What does not fit.
pub fn check_named(named: &Named<Cpu>, options: &Options) -> Result<()> {
    problem(named, options).map(drop)
}

/// The same, and the sizes that it finds.
pub(crate) fn problem(named: &Named<Cpu>, options: &Options) -> Result<Problem> {
    let (inputs, gradients) = split(named);
    dispatch!(NAME, &Device::Cpu(Cpu), dtype(&inputs)?, |_cpu, T| {
        let inputs = Inputs::<Cpu, T>::from_named(&inputs)?;
        let problem = Problem::check(&inputs, options)?;
        problem.read_sequences(&inputs)?;
        problem.check_given(&given::<Cpu, T>(&Cpu, &problem, &gradients, &mut None)?)?;
        Ok(problem)
    })
}

/// Runs attention on a device: uploads, warms up, runs, downloads; with its backward pass where the
/// gradient of an output is present.
///
/// # Errors
///
/// As [`forward`] and [`backward`].
pub fn run_named(device: &Device, named: &Named<Cpu>, options: &Options) -> Result<Ran> {
    let (inputs, gradients) = split(named);
    dispatch!(NAME, device, dtype(&inputs)?, |backend, T| run_on::<_, T>(
        backend, &inputs, &gradients, options
    ))
}

fn run_on<B: Attention<T>, T: Float>(
    backend: &B,
    inputs: &Named<Cpu>,
    gradients: &Named<Cpu>,
    options: &Options,
) -> Result<Ran> {
    let (inputs, gradients) = (on_backend(backend, inputs)?, on_backend(backend, gradients)?);
    let inputs = Inputs::<B, T>::from_named(&inputs)?;
    let problem = Problem::check(&inputs, options)?;
    let mut zeros = None;
    let given = match gradients.is_empty() {
        true => None,
        false => Some(given(backend, &problem, &gradients, &mut zeros)?),
    };
    let plan = plan_forward(&inputs, options)?;
    preload(backend, &plan)?;
    if given.is_some() {
        preload(backend, &plan_backward(&inputs, options)?)?;
    }
    backend.synchronise()?;
    let start = Instant::now();
    let ran = forward(&inputs, options)?;
    let gradients =
        given.map(|given| backward(&inputs, options, &ran.saved(), &given)).transpose()?;
    backend.synchronise()?;
    let elapsed = start.elapsed();
    let mut outputs: Vec<(&'static str, &View<B>)> = vec![("out", &ran.out), ("lse", &ran.lse)];
    outputs.extend(gradients.iter().flat_map(Gradients::named));
    Ok(Ran::new(plan.variant, elapsed, downloaded(outputs)?))
}

/// The inputs, and the gradients of outputs.
pub(crate) fn split<B: Backend>(named: &Named<B>) -> (Named<B>, Named<B>) {
    named.clone().into_iter().partition(|(name, _)| !GRADIENTS.contains(&name.as_str()))
}

/// The element type that attention runs in.
fn dtype(named: &Named<Cpu>) -> Result<DType> {
    Ok(Reader::new(CHECK, named).required("q")?.dtype())
}
