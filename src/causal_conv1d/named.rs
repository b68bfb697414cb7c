//! The convolution on tensors whose names and types are known only at run time, as files give
//! them.

use std::time::Instant;

use super::check::CHECK;
use super::{
    AXES, CausalConv1d, Gradients, Inputs, NAME, Options, OutputGradients, Pass, Plan, Problem,
    Resets, backward, forward, plan, preload,
};
use crate::Result;
use crate::backend::{Backend, Cpu, Device, Named, dispatch, on_backend};
use crate::element::{DType, Float};
use crate::named::{Reader, downloaded};
use crate::operation::{Axis, Operation, Ran, Settings, Sizes};

/// The tensors that a convolution knows, in the order of messages.
const TENSORS: [&str; 6] = ["x", "weight", "bias", "s0", "seq_idx", "cu_seqlens"];

/// Gradients of the outputs; one of them asks for the backward pass.
const GRADIENTS: [&str; 2] = ["dout", "dfinal_state"];

/// The convolution as an [`Operation`].
pub(crate) struct RunTime;

impl Operation for RunTime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn axes(&self) -> &'static [Axis] {
        &AXES
    }

    fn check(&self, named: &Named<Cpu>, settings: &Settings) -> Result<()> {
        check_named(named, &Options::from_settings(NAME, settings)?)
    }

    fn run(&self, device: &Device, named: &Named<Cpu>, settings: &Settings) -> Result<Ran> {
        run_named(device, named, &Options::from_settings(NAME, settings)?)
    }

    fn plan(
        &self,
        device: &Device,
        dtype: DType,
        sizes: &Sizes,
        settings: &Settings,
    ) -> Result<String> {
        let options = Options::from_settings(NAME, settings)?;
        let problem = Problem::new(dtype, sizes.lengths(NAME)?, &options)?;
        let plan = |pass| plan_problem(device, pass, &problem, &options);
        Ok(format!("forward\n{}\n\nbackward\n{}", plan(Pass::Forward)?, plan(Pass::Backward)?))
    }
}

impl<'a, B: Backend, T: Float> Inputs<'a, B, T> {
    /// The inputs among tensors that carry the names of the [module's](super) table. Gradients
    /// of outputs are passed over.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`](crate::Error::Tensor) where one is missing, unknown or one too many,
    /// [`Error::Dtype`](crate::Error::Dtype) where its elements are of the wrong type.
    pub fn from_named(named: &'a Named<B>) -> Result<Self> {
        let reader = Reader::new(CHECK, named);
        reader.knows(&[&TENSORS[..], &GRADIENTS].concat())?;
        Ok(Self {
            x: reader.typed("x")?,
            weight: reader.parameter::<T>("weight")?,
            bias: reader.optional_parameter::<T>("bias")?,
            s0: reader.optional_parameter::<T>("s0")?,
            resets: Resets::from_named(CHECK, named, &["seq_idx", "cu_seqlens"])?,
        })
    }
}

impl<'a, B: Backend, T: Float> OutputGradients<'a, B, T> {
    /// The gradients of outputs among named tensors; `None` where there are none.
    ///
    /// # Errors
    ///
    /// [`Error::Dtype`](crate::Error::Dtype) where elements are of the wrong type.
    pub fn from_named(named: &'a Named<B>) -> Result<Option<Self>> {
        if !GRADIENTS.iter().any(|name| named.contains_key(*name)) {
            return Ok(None);
        }
        let reader = Reader::new(CHECK, named);
        let dfinal_state = reader.optional_parameter::<T>("dfinal_state")?;
        Ok(Some(Self { dout: reader.optional_typed("dout")?, dfinal_state }))
    }
}

/// Checks all that can be told without a device: names, shapes, types, values of indices. The
/// element type of `x` is the type that the convolution runs in.
///
/// # Errors
///
/// What does not fit.
pub fn check_named(named: &Named<Cpu>, options: &Options) -> Result<()> {
    dispatch!(NAME, &Device::Cpu(Cpu), dtype(named)?, |_cpu, T| {
        let inputs = Inputs::<Cpu, T>::from_named(named)?;
        let problem = Problem::check(&inputs, options)?;
        problem.check_values(&inputs)?;
        match OutputGradients::<Cpu, T>::from_named(named)? {
            Some(gradients) => problem.check_gradients(&inputs, &gradients),
            None => Ok(()),
        }
    })
}

/// Runs the convolution on a device: uploads, warms up, runs, downloads; the backward too where
/// gradients of outputs are present.
///
/// # Errors
///
/// As [`forward`].
pub fn run_named(device: &Device, named: &Named<Cpu>, options: &Options) -> Result<Ran> {
    dispatch!(NAME, device, dtype(named)?, |backend, T| run_on::<_, T>(backend, named, options))
}

/// The plan of a pass for a call of these sizes on a device, without any tensor.
///
/// # Errors
///
/// As [`plan`].
pub fn plan_problem(
    device: &Device,
    pass: Pass,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    dispatch!(NAME, device, problem.dtype, |backend, T| CausalConv1d::<T>::plan(
        backend, pass, problem, options
    ))
}

/// Both passes where gradients of outputs are present: then the time is that of both, the variant
/// that of the backward pass.
fn run_on<B: CausalConv1d<T>, T: Float>(
    backend: &B,
    named: &Named<Cpu>,
    options: &Options,
) -> Result<Ran> {
    let uploaded = on_backend(backend, named)?;
    let inputs = Inputs::<B, T>::from_named(&uploaded)?;
    let outer = OutputGradients::<B, T>::from_named(&uploaded)?;
    let mut variant = "";
    let passes = [Some(Pass::Forward), outer.as_ref().map(|_| Pass::Backward)];
    for pass in passes.into_iter().flatten() {
        let plan = plan(pass, &inputs, options)?;
        preload(backend, &plan)?;
        variant = plan.variant;
    }
    backend.synchronise()?;
    let start = Instant::now();
    let outputs = forward(&inputs, options)?;
    let gradients = outer.map(|outer| backward(&inputs, &outer, options)).transpose()?;
    backend.synchronise()?;
    let elapsed = start.elapsed();
    let named = outputs.named().into_iter().chain(gradients.iter().flat_map(Gradients::named));
    Ok(Ran::new(variant, elapsed, downloaded(named)?))
}

/// The element type that the convolution runs in.
fn dtype(named: &Named<Cpu>) -> Result<DType> {
    Ok(Reader::new(CHECK, named).required("x")?.dtype())
}
