//! The recurrence on tensors whose names and types are known only at run time, as files give them.

use std::time::Instant;

use super::check::CHECK;
use super::{
    AXES, Gradients, Initial, Inputs, LastGradients, NAME, Options, OutputGradients, Problem, Rnn,
    Save, backward, forward, outputs, plan_backward, plan_forward, preload,
};
use crate::backend::{Backend, Cpu, Device, Named, dispatch, on_backend};
use crate::element::{DType, Float};
use crate::named::{Reader, downloaded};
use crate::operation::{Axis, Operation, Ran, Settings, Sizes};
use crate::parameter::Indices;
use crate::tensor::View;
use crate::{Error, Result};

/// The tensors that a recurrence knows, in the order of messages.
const TENSORS: [&str; 8] = ["wx", "R", "b", "h0", "c0", "n0", "m0", "lengths"];

/// Gradients of the outputs; one of them asks for the backward pass.
const GRADIENTS: [&str; 6] = ["dh", "dc", "dn", "dlast_h", "dlast_c", "dlast_n"];

/// The recurrence as an [`Operation`].
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
        let options = saving(&Options::from_settings(settings)?);
        let problem = Problem::new(dtype, sizes.lengths(NAME)?, &options)?;
        dispatch!(NAME, device, dtype, |backend, T| {
            let forward = Rnn::<T>::plan_forward(backend, &problem, &options)?;
            let backward = Rnn::<T>::plan_backward(backend, &problem, &options)?;
            Ok(format!("{forward}\n\n{backward}"))
        })
    }
}

/// The options of a forward pass that a backward pass follows.
fn saving(options: &Options) -> Options {
    let save = if options.save == Save::Nothing { Save::Narrow } else { options.save };
    options.clone().with_save(save)
}

impl<'a, B: Backend, T: Float> Inputs<'a, B, T> {
    /// The inputs among tensors that carry the names of the [module's](super) table.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`] where one is missing or unknown, [`Error::Dtype`] where its elements are
    /// of the wrong type.
    pub fn from_named(named: &'a Named<B>) -> Result<Self> {
        let reader = Reader::new(CHECK, named);
        reader.knows(&TENSORS)?;
        // Integers of any type will do here, U8 too.
        let lengths = |view| {
            Indices::from_view(view).map_err(|_| Error::Dtype {
                operation: NAME,
                tensor: "lengths".to_owned(),
                expected: "of an integer type".to_owned(),
                found: view.dtype().to_string(),
            })
        };
        Ok(Self {
            wx: reader.typed("wx")?,
            r: reader.parameter::<T>("R")?,
            b: reader.optional_parameter::<T>("b")?,
            initial: Initial {
                h: reader.optional_parameter::<T>("h0")?,
                c: reader.optional_parameter::<T>("c0")?,
                n: reader.optional_parameter::<T>("n0")?,
                m: reader.optional_parameter::<T>("m0")?,
            },
            lengths: named.get("lengths").map(lengths).transpose()?,
        })
    }
}

impl<'a, B: Backend, T: Float> OutputGradients<'a, B, T> {
    /// Gradients of outputs among named tensors.
    ///
    /// # Errors
    ///
    /// [`Error::Dtype`] where elements are of the wrong type.
    pub fn from_named(named: &'a Named<B>) -> Result<Self> {
        let reader = Reader::new(CHECK, named);
        Ok(Self {
            h: reader.optional_typed("dh")?,
            c: reader.optional_parameter::<T>("dc")?,
            n: reader.optional_parameter::<T>("dn")?,
            last: LastGradients {
                h: reader.optional_parameter::<T>("dlast_h")?,
                c: reader.optional_parameter::<T>("dlast_c")?,
                n: reader.optional_parameter::<T>("dlast_n")?,
            },
        })
    }
}

/// Checks all that can be told without a device: names, shapes, types, lengths. The element type
/// of `wx` is the type that the recurrence runs in.
///
/// # Errors
///
/// What does not fit.
pub fn check_named(named: &Named<Cpu>, options: &Options) -> Result<()> {
    let (inputs, given) = split(named);
    dispatch!(NAME, &Device::Cpu(Cpu), dtype(&inputs)?, |_cpu, T| {
        let inputs = Inputs::<Cpu, T>::from_named(&inputs)?;
        let problem = Problem::check(&inputs, options)?;
        problem.read_lengths(&inputs)?;
        problem.check_given(&inputs, &OutputGradients::<Cpu, T>::from_named(&given)?)
    })
}

/// Runs the recurrence on a device: uploads, warms up, runs, downloads; with its backward pass
/// where the gradient of an output is present.
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

fn run_on<B: Rnn<T>, T: Float>(
    backend: &B,
    inputs: &Named<Cpu>,
    given: &Named<Cpu>,
    options: &Options,
) -> Result<Ran> {
    let (inputs, given) = (on_backend(backend, inputs)?, on_backend(backend, given)?);
    let inputs = Inputs::<B, T>::from_named(&inputs)?;
    let options = if given.is_empty() { options.clone() } else { saving(options) };
    let options = options.with_states(true);
    let plan = plan_forward(&inputs, &options)?;
    preload(backend, &plan)?;
    if !given.is_empty() {
        preload(backend, &plan_backward(&inputs, &options)?)?;
    }
    backend.synchronise()?;
    let start = Instant::now();
    let ran = forward(&inputs, &options)?;
    let gradients = match &ran.saved {
        Some(saved) if !given.is_empty() => {
            let given = OutputGradients::<B, T>::from_named(&given)?;
            Some(backward(&inputs, &options, &ran.h, saved, &given)?)
        }
        _ => None,
    };
    backend.synchronise()?;
    let elapsed = start.elapsed();
    let mut named: Vec<(&'static str, &View<B>)> = vec![("h", &ran.h)];
    named.extend(ran.states.iter().flat_map(|states| states.named()));
    named.extend(ran.last.named(outputs::LAST));
    named.extend(gradients.iter().flat_map(Gradients::named));
    Ok(Ran::new(plan.variant, elapsed, downloaded(named)?))
}

/// The inputs, and the gradients of outputs.
pub(crate) fn split(named: &Named<Cpu>) -> (Named<Cpu>, Named<Cpu>) {
    named.clone().into_iter().partition(|(name, _)| !GRADIENTS.contains(&name.as_str()))
}

/// The element type that the recurrence runs in.
fn dtype(named: &Named<Cpu>) -> Result<DType> {
    Ok(Reader::new(CHECK, named).required("wx")?.dtype())
}
