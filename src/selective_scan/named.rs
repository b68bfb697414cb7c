//! The scan on tensors whose names and types are known only at run time, as files give them.

use std::time::Instant;

use super::check::CHECK;
use super::{
    AXES, Inputs, NAME, Options, OutputGradients, Outputs, Plan, Problem, Resets, SelectiveScan,
    backward, forward, plan_backward, plan_forward, preload, preload_backward,
};
use crate::backend::{Backend, Cpu, Device, Named, dispatch, on_backend};
use crate::element::{DType, Element, Float};
use crate::operation::{Axis, Operation, Ran, Settings, Sizes};
use crate::parameter::Parameter;
use crate::tensor::{Tensor, View};
use crate::{Error, Result};

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
    /// [`Error::Tensor`] where one is missing, unknown or one too many, [`Error::Dtype`] where
    /// its elements are of the wrong type.
    pub fn from_named(named: &'a Named<B>) -> Result<Self> {
        let known = |name: &&String| !TENSORS.contains(&name.as_str());
        if let Some(name) = named.keys().find(known) {
            return Err(wrong_tensor(
                name,
                format!("one of {}", TENSORS.join(" ")),
                "an unknown tensor",
            ));
        }
        let required = |name: &str| {
            let missing = || wrong_tensor(name, "this tensor".to_owned(), "none");
            named.get(name).ok_or_else(missing)
        };
        let activation = |name: &str, view: &'a View<B>| -> Result<&'a Tensor<B, T>> {
            CHECK.dtype(name, view, &[T::DTYPE])?;
            view.as_typed()
        };
        let parameter = |name: &str, view: &'a View<B>| {
            CHECK.dtype(name, view, &[T::State::DTYPE, T::DTYPE])?;
            Parameter::from_view(view)
        };
        let optional = |name: &str| named.get(name).map(|view| parameter(name, view)).transpose();
        Ok(Self {
            u: activation("u", required("u")?)?,
            delta: activation("delta", required("delta")?)?,
            a: parameter("A", required("A")?)?,
            b: parameter("B", required("B")?)?,
            c: parameter("C", required("C")?)?,
            d: optional("D")?,
            z: named.get("z").map(|z| activation("z", z)).transpose()?,
            delta_bias: optional("delta_bias")?,
            h0: optional("h0")?,
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
        let missing = || wrong_tensor("dout", "this tensor".to_owned(), "none");
        let dout = named.get("dout").ok_or_else(missing)?;
        CHECK.dtype("dout", dout, &[T::DTYPE])?;
        let dlast_state = named.get("dlast_state").map(|state| {
            CHECK.dtype("dlast_state", state, &[T::State::DTYPE, T::DTYPE])?;
            Parameter::from_view(state)
        });
        Ok(Self { dout: dout.as_typed()?, dlast_state: dlast_state.transpose()? })
    }
}

fn wrong_tensor(name: &str, expected: String, found: &str) -> Error {
    Error::Tensor { operation: NAME, tensor: name.to_owned(), expected, found: found.to_owned() }
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
    Ok(Ran::new(plan.variant, elapsed, outputs_named(&outputs)?))
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
        return Err(wrong_tensor("saved", "states for the backward pass".to_owned(), "none"));
    };
    let gradients = backward(&inputs, &options, saved, &outer)?;
    backend.synchronise()?;
    let elapsed = start.elapsed();
    let mut named = outputs_named(&outputs)?;
    let present = |(name, _): &(&str, &View<B>)| *name != "dh0" || inputs.h0.is_some();
    for (name, gradient) in gradients.named().into_iter().filter(present) {
        named.insert(name.to_owned(), gradient.to_backend(&Cpu)?);
    }
    Ok(Ran::new(back.variant, elapsed, named))
}

fn outputs_named<B: Backend, T: Float>(outputs: &Outputs<B, T>) -> Result<Named<Cpu>> {
    Ok(Named::from([
        ("out".to_owned(), outputs.out.to_backend(&Cpu)?),
        ("last_state".to_owned(), outputs.last_state.to_backend(&Cpu)?),
    ]))
}

/// The inputs, and the gradients of outputs.
fn split(named: &Named<Cpu>) -> (Named<Cpu>, Named<Cpu>) {
    named.clone().into_iter().partition(|(name, _)| !GRADIENTS.contains(&name.as_str()))
}

/// The element type that the scan runs in.
fn dtype(named: &Named<Cpu>) -> Result<DType> {
    let u = named.get("u").ok_or_else(|| wrong_tensor("u", "this tensor".to_owned(), "none"))?;
    Ok(u.dtype())
}
