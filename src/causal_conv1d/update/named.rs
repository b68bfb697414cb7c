//! The update on tensors whose names and types are known only at run time, as files give them.

use std::time::Instant;

use super::check::{CHECK, Places};
use super::{AXES, CausalConv1dUpdate, Inputs, NAME, Problem, plan, preload, update};
use crate::backend::{Backend, Cpu, Device, Named, dispatch, on_backend};
use crate::causal_conv1d::{Options, Plan};
use crate::element::{DType, Element, Float};
use crate::operation::{Axis, Operation, Ran, Settings, Sizes};
use crate::parameter::{Indices, Parameter};
use crate::tensor::View;
use crate::{Error, Result};

/// The tensors that an update knows, in the order of messages.
const TENSORS: [&str; 6] = ["x", "weight", "bias", "conv_state", "cache_seqlens", "state_indices"];

/// The update as an [`Operation`].
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
        let problem = Problem::new(dtype, sizes.lengths(NAME)?)?;
        plan_problem(device, &problem, &options).map(|plan| plan.to_string())
    }
}

impl<'a, B: Backend, T: Float> Inputs<'a, B, T> {
    /// The inputs among tensors that carry the names of the [module's](super) table. The state
    /// is passed over.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`] where one is missing or unknown, [`Error::Dtype`] where its elements are
    /// of the wrong type.
    pub fn from_named(named: &'a Named<B>) -> Result<Self> {
        use DType::{I32, I64, U32, U64};
        if let Some(name) = named.keys().find(|name| !TENSORS.contains(&name.as_str())) {
            let expected = format!("one of {}", TENSORS.join(" "));
            return Err(wrong_tensor(name, expected, "an unknown tensor"));
        }
        let x = required(named, "x")?;
        CHECK.dtype("x", x, &[T::DTYPE])?;
        let parameter = |name: &str, view: &'a View<B>| {
            CHECK.dtype(name, view, &[T::State::DTYPE, T::DTYPE])?;
            Parameter::from_view(view)
        };
        let indices = |name: &str| {
            let read = |view: &'a View<B>| {
                CHECK.dtype(name, view, &[I32, I64, U32, U64])?;
                Indices::from_view(view)
            };
            named.get(name).map(read).transpose()
        };
        Ok(Self {
            x: x.as_typed()?,
            weight: parameter("weight", required(named, "weight")?)?,
            bias: named.get("bias").map(|bias| parameter("bias", bias)).transpose()?,
            cache_seqlens: indices("cache_seqlens")?,
            state_indices: indices("state_indices")?,
        })
    }
}

fn required<'a, B: Backend>(named: &'a Named<B>, name: &str) -> Result<&'a View<B>> {
    named.get(name).ok_or_else(|| wrong_tensor(name, "this tensor".to_owned(), "none"))
}

fn wrong_tensor(name: &str, expected: String, found: &str) -> Error {
    Error::Tensor { operation: NAME, tensor: name.to_owned(), expected, found: found.to_owned() }
}

/// Checks all that can be told without a device: names, shapes, types, values of indices. The
/// element type of `x` is the type that the update runs in.
///
/// # Errors
///
/// What does not fit.
pub fn check_named(named: &Named<Cpu>, options: &Options) -> Result<()> {
    dispatch!(NAME, &Device::Cpu(Cpu), required(named, "x")?.dtype(), |_cpu, T| {
        let inputs = Inputs::<Cpu, T>::from_named(named)?;
        let problem = Problem::check(&inputs, required(named, "conv_state")?, options)?;
        Places::read(&problem, &inputs).map(drop)
    })
}

/// Runs the update on a device: uploads, warms up, runs, downloads. The state that comes out is a
/// copy.
///
/// # Errors
///
/// As [`update`].
pub fn run_named(device: &Device, named: &Named<Cpu>, options: &Options) -> Result<Ran> {
    dispatch!(NAME, device, required(named, "x")?.dtype(), |backend, T| run_on::<_, T>(
        backend, named, options
    ))
}

/// The plan for a call of these sizes on a device, without any tensor.
///
/// # Errors
///
/// As [`plan`].
pub fn plan_problem(device: &Device, problem: &Problem, options: &Options) -> Result<Plan> {
    dispatch!(NAME, device, problem.dtype, |backend, T| CausalConv1dUpdate::<T>::plan_update(
        backend, problem, options
    ))
}

fn run_on<B: CausalConv1dUpdate<T>, T: Float>(
    backend: &B,
    named: &Named<Cpu>,
    options: &Options,
) -> Result<Ran> {
    let uploaded = on_backend(backend, named)?;
    let inputs = Inputs::<B, T>::from_named(&uploaded)?;
    let mut conv_state = required(&uploaded, "conv_state")?.clone();
    let plan = plan(&inputs, &conv_state, options)?;
    preload(backend, &plan)?;
    backend.synchronise()?;
    let start = Instant::now();
    let out = update(&inputs, (&mut conv_state).into(), options)?;
    backend.synchronise()?;
    let elapsed = start.elapsed();
    let outputs = Named::from([
        ("out".to_owned(), out.to_backend(&Cpu)?),
        ("conv_state".to_owned(), conv_state.to_backend(&Cpu)?),
    ]);
    Ok(Ran::new(plan.variant, elapsed, outputs))
}
