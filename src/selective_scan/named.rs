//! The scan on tensors whose names and types are known only at run time, as files give them.

use std::time::Instant;

use super::check::CHECK;
use super::{
    AXES, Inputs, NAME, Options, OutputGradients, Outputs, Plan, Problem, Resets, SelectiveScan,
    backward, forward, plan_backward, plan_forward, preload, preload_backward,
};
use crate::Result;
use crate::backend::{Backend, Cpu, Device, Named, dispatch, on_backend};
use crate::element::{DType, Element, Float};
use crate::named::{Reader, downloaded};
use crate::operation::{Axis, Operation, Ran, Settings, Sizes};
use crate::tensor::{Tensor, View};

/// The tensors that a scan knows, in the order of messages.
const TENSORS: [&str; 12] =
    ["u", "delta", "A", "B", "C", "D", "z", "delta_bias", "h0", "reset", "seq_idx", "cu_seqlens"];

/// Gradients of the outputs; one of them asks for the backward pass.
const GRADIENTS: [&str; 2] = ["dout", "dlast_state"];

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

    fn plan(
        &self,
        device: &Device,
        dtype: DType,
        sizes: &Sizes,
        settings: &Settings,
    ) -> Result<String> {
        let options = Options::from_settings(settings)?;
        let problem = Problem::new(dtype, sizes.lengths(NAME)?, &options)?;
        plan_problem(device, &problem, &options).map(|plan| plan.to_string())
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
        Ok(Self {
            u: reader.typed("u")?,
            delta: reader.typed("delta")?,
            a: reader.parameter::<T>("A")?,
            b: reader.parameter::<T>("B")?,
            c: reader.parameter::<T>("C")?,
            d: reader.optional_parameter::<T>("D")?,
            z: reader.optional_typed("z")?,
            delta_bias: reader.optional_parameter::<T>("delta_bias")?,
            h0: reader.optional_parameter::<T>("h0")?,
            resets: Resets::from_named(CHECK, named, &["reset", "seq_idx", "cu_seqlens"])?,
        })
    }
}

impl<'a, B: Backend, T: Float> OutputGradients<'a, B, T> {
    /// The gradients of outputs among tensors that carry the names `dout` and `dlast_state`.
    ///
    /// # Errors
    ///
    /// As [`Inputs::from_named`].
    pub fn from_named(named: &'a Named<B>) -> Result<Self> {
        let reader = Reader::new(CHECK, named);
        let dout = reader.typed("dout")?;
        Ok(Self { dout, dlast_state: reader.optional_parameter::<T>("dlast_state")? })
    }
}

/// Checks all that can be told without a device: names, shapes, types, values of indices. The
/// element type of `u` is the type that the scan runs in.
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
        if let Some(dout) = gradients.get("dout") {
            CHECK.shape("dout", dout, &problem.activation_axes())?;
            CHECK.dtype("dout", dout, &[T::DTYPE])?;
        }
        if let Some(dlast_state) = gradients.get("dlast_state") {
            CHECK.shape("dlast_state", dlast_state, &problem.state_axes())?;
            CHECK.dtype("dlast_state", dlast_state, &[<T as Float>::State::DTYPE, T::DTYPE])?;
        }
        Ok(())
    })
}

/// Runs the scan on a device: uploads, warms up, runs, downloads. Where the gradient of an output
/// is present the backward pass runs too.
///
/// # Errors
///
/// As [`forward`] and [`backward`](super::backward).
pub fn run_named(device: &Device, named: &Named<Cpu>, options: &Options) -> Result<Ran> {
    let (inputs, gradients) = split(named);
    dispatch!(NAME, device, dtype(&inputs)?, |backend, T| {
        match gradients.is_empty() {
            true => run_on::<_, T>(backend, &inputs, options),
            false => run_both_on::<_, T>(backend, &inputs, gradients, options),
        }
    })
}

/// The plan for a call of these sizes on a device, without any tensor.
///
/// # Errors
///
/// As [`plan_forward`].
pub fn plan_problem(device: &Device, problem: &Problem, options: &Options) -> Result<Plan> {
    dispatch!(NAME, device, problem.dtype, |backend, T| SelectiveScan::<T>::plan_forward(
        backend, problem, options
    ))
}

fn run_on<B: SelectiveScan<T>, T: Float>(
    backend: &B,
    inputs: &Named<Cpu>,
    options: &Options,
) -> Result<Ran> {
    let uploaded = on_backend(backend, inputs)?;
    let inputs = Inputs::<B, T>::from_named(&uploaded)?;
    let plan = plan_forward(&inputs, options)?;
    preload(backend, &plan)?;
    backend.synchronise()?;
    let start = Instant::now();
    let outputs = forward(&inputs, options)?;
    backend.synchronise()?;
    let elapsed = start.elapsed();
    Ok(Ran::new(plan.variant, elapsed, downloaded(outputs_named(&outputs))?))
}

/// Both passes; the time is that of both, the variant that of the backward pass.
fn run_both_on<B: SelectiveScan<T>, T: Float>(
    backend: &B,
    inputs: &Named<Cpu>,
    mut gradients: Named<Cpu>,
    options: &Options,
) -> Result<Ran> {
    let options = options.clone().with_save(true);
    if !gradients.contains_key("dout") {
        let shape = inputs["u"].shape();
        gradients.insert("dout".to_owned(), Tensor::<Cpu, T>::new(&Cpu, shape)?.into_view());
    }
    let (uploaded, gradients) = (on_backend(backend, inputs)?, on_backend(backend, &gradients)?);
    let inputs = Inputs::<B, T>::from_named(&uploaded)?;
    let outer = OutputGradients::<B, T>::from_named(&gradients)?;
    let (plan, back) = (plan_forward(&inputs, &options)?, plan_backward(&inputs, &options)?);
    preload(backend, &plan)?;
    preload_backward(backend, &back)?;
    backend.synchronise()?;
    let start = Instant::now();
    let outputs = forward(&inputs, &options)?;
    let Some(saved) = &outputs.saved else {
        return Err(CHECK.wrong_tensor("saved", "states for the backward pass", "none"));
    };
    let gradients = backward(&inputs, &options, saved, &outer)?;
    backend.synchronise()?;
    let elapsed = start.elapsed();
    let present = |(name, _): &(&str, &View<B>)| *name != "dh0" || inputs.h0.is_some();
    let gradients = gradients.named().into_iter().filter(present);
    let named = downloaded(outputs_named(&outputs).into_iter().chain(gradients))?;
    Ok(Ran::new(back.variant, elapsed, named))
}

fn outputs_named<B: Backend, T: Float>(outputs: &Outputs<B, T>) -> [(&'static str, &View<B>); 2] {
    [("out", &outputs.out), ("last_state", &outputs.last_state)]
}

/// The inputs, and the gradients of outputs.
fn split(named: &Named<Cpu>) -> (Named<Cpu>, Named<Cpu>) {
    named.clone().into_iter().partition(|(name, _)| !GRADIENTS.contains(&name.as_str()))
}

/// The element type that the scan runs in.
fn dtype(named: &Named<Cpu>) -> Result<DType> {
    Ok(Reader::new(CHECK, named).required("u")?.dtype())
}
