//! The scan on tensors whose names and types are known only at run time, as files give them.

use std::time::Instant;

use super::check::CHECK;
use super::{
    AXES, Carry, Gradients, Inputs, NAME, Options, OutputGradients, Outputs, Problem,
    ScanAttention, Scores, backward, forward, plan_backward, plan_forward, preload,
};
use crate::Result;
use crate::backend::{Backend, Cpu, Device, Named, dispatch, on_backend};
use crate::element::{DType, Float};
use crate::named::{Reader, downloaded};
use crate::operation::{Axis, Operation, Ran, Settings, Sizes};
use crate::resets::Resets;
use crate::tensor::View;

/// The tensors that a scan knows, in the order of messages.
const TENSORS: [&str; 10] = ["s", "q", "k", "v", "m0", "u0", "w0", "mask", "seq_idx", "cu_seqlens"];

/// Gradients of the outputs; one of them asks for the backward pass.
const GRADIENTS: [&str; 3] = ["do", "du", "dw"];

/// The scan as an [`Operation`].
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
        let options = Options::from_settings(settings)?.with_save(true);
        let problem = Problem::new(dtype, sizes.lengths(NAME)?, &options)?;
        dispatch!(NAME, device, dtype, |backend, T| {
            let forward = ScanAttention::<T>::plan_forward(backend, &problem, &options)?;
            let backward = ScanAttention::<T>::plan_backward(backend, &problem, &options)?;
            Ok(format!("{forward}\n{backward}"))
        })
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
        let scores = match (named.get("s"), named.get("q").or(named.get("k"))) {
            (Some(_), None) => Scores::Given(reader.parameter::<T>("s")?),
            (None, _) => Scores::Keys { q: reader.parameter::<T>("q")?, k: reader.typed("k")? },
            (Some(_), Some(_)) => {
                return Err(CHECK.wrong_tensor("s", "either s, or q and k", "both"));
            }
        };
        let carries = ["m0", "u0", "w0"].iter().filter(|name| named.contains_key(**name)).count();
        let carry = match carries {
            0 => None,
            _ => Some(Carry {
                m: reader.parameter::<T>("m0")?,
                u: reader.parameter::<T>("u0")?,
                w: reader.parameter::<T>("w0")?,
            }),
        };
        Ok(Self {
            scores,
            v: reader.typed("v")?,
            carry,
            mask: reader.optional_typed("mask")?,
            resets: Resets::from_named(CHECK, named, &["seq_idx", "cu_seqlens"])?,
        })
    }
}

impl<'a, B: Backend, T: Float> OutputGradients<'a, B, T> {
    /// Gradients of outputs among named tensors.
    ///
    /// # Errors
    ///
    /// [`Error::Dtype`](crate::Error::Dtype) where elements are of the wrong type.
    pub fn from_named(named: &'a Named<B>) -> Result<Self> {
        let reader = Reader::new(CHECK, named);
        Ok(Self {
            o: reader.optional_typed("do")?,
            u: reader.optional_parameter::<T>("du")?,
            w: reader.optional_parameter::<T>("dw")?,
        })
    }
}

/// Checks all that can be told without a device: names, shapes, types, values of indices. The
/// element type of `v` is the type that the scan runs in.
///
/// # Errors
///
/// What does not fit.
pub fn check_named(named: &Named<Cpu>, options: &Options) -> Result<()> {
    let (inputs, gradients) = split(named);
    dispatch!(NAME, &Device::Cpu(Cpu), dtype(&inputs)?, |_cpu, T| {
        let inputs = Inputs::<Cpu, T>::from_named(&inputs)?;
        let problem = Problem::check(&inputs, options)?;
        problem.check_values(&inputs)?;
        problem.check_given(&OutputGradients::<Cpu, T>::from_named(&gradients)?)
    })
}

/// Runs the scan on a device: uploads, warms up, runs, downloads; with its backward pass where
/// the gradient of an output is present.
///
/// # Errors
///
/// As [`forward`] and [`backward`].
pub fn run_named(device: &Device, named: &Named<Cpu>, options: &Options) -> Result<Ran> {
    let (inputs, given) = split(named);
    dispatch!(NAME, device, dtype(&inputs)?, |backend, T| run_on::<_, T>(
        backend, &inputs, &given, options
    ))
}

fn run_on<B: ScanAttention<T>, T: Float>(
    backend: &B,
    inputs: &Named<Cpu>,
    given: &Named<Cpu>,
    options: &Options,
) -> Result<Ran> {
    let (inputs, given) = (on_backend(backend, inputs)?, on_backend(backend, given)?);
    let inputs = Inputs::<B, T>::from_named(&inputs)?;
    let options = options.clone().with_save(options.save || !given.is_empty());
    let plan = plan_forward(&inputs, &options)?;
    preload(backend, &plan)?;
    if !given.is_empty() {
        preload(backend, &plan_backward(&inputs, &options)?)?;
    }
    backend.synchronise()?;
    let start = Instant::now();
    let Outputs { o, lse, carry, saved } = forward(&inputs, &options)?;
    let gradients = match &saved {
        Some(saved) if !given.is_empty() => {
            let given = OutputGradients::<B, T>::from_named(&given)?;
            Some(backward(&inputs, &options, saved, &given)?)
        }
        _ => None,
    };
    backend.synchronise()?;
    let elapsed = start.elapsed();
    let mut outputs: Vec<(&'static str, &View<B>)> = vec![("o", &o), ("lse", &lse)];
    outputs.extend(carry.named(["m", "u", "w"]));
    outputs.extend(gradients.iter().flat_map(Gradients::named));
    Ok(Ran::new(plan.variant, elapsed, downloaded(outputs)?))
}

/// The inputs, and the gradients of outputs.
pub(crate) fn split(named: &Named<Cpu>) -> (Named<Cpu>, Named<Cpu>) {
    named.clone().into_iter().partition(|(name, _)| !GRADIENTS.contains(&name.as_str()))
}

/// The element type that the scan runs in.
fn dtype(named: &Named<Cpu>) -> Result<DType> {
    Ok(Reader::new(CHECK, named).required("v")?.dtype())
}
