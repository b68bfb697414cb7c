//! The update on tensors whose names and types are known only at run time, as files give them.

use std::time::Instant;

use super::check::CHECK;
use super::{AXES, Inputs, NAME, Options, Problem, State, StateUpdate, plan, preload, update};
use crate::Result;
use crate::backend::{Backend, Cpu, Device, Named, dispatch, on_backend};
use crate::element::{DType, Float};
use crate::named::{Reader, downloaded};
use crate::operation::{Axis, Operation, Ran, Settings, Sizes};

/// The tensors that an update knows, in the order of messages.
const TENSORS: [&str; 11] =
    ["state", "x", "dt", "A", "B", "C", "D", "z", "dt_bias", "state_indices", "out_indices"];

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
        let options = Options::from_settings(settings)?;
        dispatch!(NAME, &Device::Cpu(Cpu), dtype(named)?, |_cpu, T| {
            let mut state = Reader::new(CHECK, named).required("state")?.clone();
            let inputs = Inputs::<Cpu, T>::from_named(named)?;
            let problem = Problem::check(&State::from_view(&mut state)?, &inputs, &options)?;
            problem.check_values(&inputs, &options)
        })
    }

    fn run(&self, device: &Device, named: &Named<Cpu>, settings: &Settings) -> Result<Ran> {
        let options = Options::from_settings(settings)?;
        dispatch!(NAME, device, dtype(named)?, |backend, T| run_on::<_, T>(
            backend, named, &options
        ))
    }

    fn plan(
        &self,
        device: &Device,
        dtype: DType,
        sizes: &Sizes,
        settings: &Settings,
    ) -> Result<String> {
        let options = Options::from_settings(settings)?;
        let problem = Problem::new(dtype, sizes.lengths(NAME)?)?;
        dispatch!(NAME, device, dtype, |backend, T| {
            StateUpdate::<T>::plan(backend, &problem, &options).map(|plan| plan.to_string())
        })
    }
}

impl<'a, B: Backend, T: Float> Inputs<'a, B, T> {
    /// The inputs among tensors that carry the names of the [module's](super) table; `state` is
    /// passed by.
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
            dt: reader.typed("dt")?,
            a: reader.parameter::<T>("A")?,
            b: reader.typed("B")?,
            c: reader.typed("C")?,
            d: reader.optional_parameter::<T>("D")?,
            z: reader.optional_typed("z")?,
            dt_bias: reader.optional_parameter::<T>("dt_bias")?,
            state_indices: reader.indices("state_indices")?,
            out_indices: reader.indices("out_indices")?,
        })
    }
}

fn run_on<B: StateUpdate<T>, T: Float>(
    backend: &B,
    named: &Named<Cpu>,
    options: &Options,
) -> Result<Ran> {
    let uploaded = on_backend(backend, named)?;
    let mut state = Reader::new(CHECK, &uploaded).required("state")?.clone();
    let inputs = Inputs::<B, T>::from_named(&uploaded)?;
    let plan = plan(State::from_view(&mut state)?, &inputs, options)?;
    preload(backend, &plan)?;
    backend.synchronise()?;
    let start = Instant::now();
    let out = update(State::from_view(&mut state)?, &inputs, options)?;
    backend.synchronise()?;
    let elapsed = start.elapsed();
    Ok(Ran::new(plan.variant, elapsed, downloaded([("out", &*out), ("state", &state)])?))
}

/// The element type that the update runs in.
fn dtype(named: &Named<Cpu>) -> Result<DType> {
    Ok(Reader::new(CHECK, named).required("x")?.dtype())
}
