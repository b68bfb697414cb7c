//! The update on tensors whose names and types are known only at run time, as files give them.

use std::time::Instant;

use super::check::{CHECK, Places};
use super::{AXES, CausalConv1dUpdate, Inputs, NAME, Problem, plan, preload, update};
use crate::Result;
use crate::backend::{Backend, Cpu, Device, Named, dispatch, on_backend};
use crate::causal_conv1d::{Options, Plan};
use crate::element::{DType, Float};
use crate::named::{Reader, downloaded};
use crate::operation::{Axis, Operation, Ran, Settings, Sizes};

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
    /// [`Error::Tensor`](crate::Error::Tensor) where one is missing or unknown,
    /// [`Error::Dtype`](crate::Error::Dtype) where its elements are of the wrong type.
    pub fn from_named(named: &'a Named<B>) -> Result<Self> {
        let reader = Reader::new(CHECK, named);
        reader.knows(&TENSORS)?;
        Ok(Self {
            x: reader.typed("x")?,
            weight: reader.parameter::<T>("weight")?,
            bias: reader.optional_parameter::<T>("bias")?,
            cache_seqlens: reader.indices("cache_seqlens")?,
            state_indices: reader.indices("state_indices")?,
        })
    }
}

/// Checks all that can be told without a device: names, shapes, types, values of indices. The
/// element type of `x` is the type that the update runs in.
///
/// # Errors
///
/// What does not fit.
pub fn check_named(named: &Named<Cpu>, options: &Options) -> Result<()> {
    dispatch!(NAME, &Device::Cpu(Cpu), dtype(named)?, |_cpu, T| {
        let inputs = Inputs::<Cpu, T>::from_named(named)?;
        let conv_state = Reader::new(CHECK, named).required("conv_state")?;
        let problem = Problem::check(&inputs, conv_state, options)?;
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
    dispatch!(NAME, device, dtype(named)?, |backend, T| run_on::<_, T>(backend, named, options))
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
    let mut conv_state = Reader::new(CHECK, &uploaded).required("conv_state")?.clone();
    let plan = plan(&inputs, &conv_state, options)?;
    preload(backend, &plan)?;
    backend.synchronise()?;
    let start = Instant::now();
    let out = update(&inputs, (&mut conv_state).into(), options)?;
    backend.synchronise()?;
    let elapsed = start.elapsed();
    let outputs = downloaded([("out", &*out), ("conv_state", &conv_state)])?;
    Ok(Ran::new(plan.variant, elapsed, outputs))
}

/// The element type that the update runs in.
fn dtype(named: &Named<Cpu>) -> Result<DType> {
    Ok(Reader::new(CHECK, named).required("x")?.dtype())
}
