//! The update on tensors whose names and types are known only at run time, as files give them.

use std::time::Instant;

use super::check::{CHECK, INDICES};
use super::{AXES, Inputs, NAME, Options, Problem, State, StateUpdate, plan, preload, update};
use crate::backend::{Backend, Cpu, Device, Named, dispatch, on_backend};
use crate::element::{DType, Element, Float};
use crate::operation::{Axis, Operation, Ran, Settings, Sizes};
use crate::parameter::{Indices, Parameter};
use crate::tensor::{Tensor, View};
use crate::{Error, Result};

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
            let mut state = required(named, "state")?.clone();
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
    /// [`Error::Tensor`] where one is missing or unknown, [`Error::Dtype`] where its elements are
    /// of the wrong type.
    pub fn from_named(named: &'a Named<B>) -> Result<Self> {
        let unknown = |name: &&String| !TENSORS.contains(&name.as_str());
        if let Some(name) = named.keys().find(unknown) {
            let expected = format!("one of {}", TENSORS.join(" "));
            return Err(wrong_tensor(name, expected, "an unknown tensor"));
        }
        let activation = |name: &str, view: &'a View<B>| -> Result<&'a Tensor<B, T>> {
            CHECK.dtype(name, view, &[T::DTYPE])?;
            view.as_typed()
        };
        let parameter = |name: &str, view: &'a View<B>| {
            CHECK.dtype(name, view, &[T::State::DTYPE, T::DTYPE])?;
            Parameter::from_view(view)
        };
        let indices = |name: &str| {
            let view = named.get(name)?;
            let checked = CHECK.dtype(name, view, &INDICES);
            Some(checked.and_then(|()| Indices::from_view(view)))
        };
        let optional = |name: &str| named.get(name).map(|view| parameter(name, view)).transpose();
        Ok(Self {
            x: activation("x", required(named, "x")?)?,
            dt: activation("dt", required(named, "dt")?)?,
            a: parameter("A", required(named, "A")?)?,
            b: activation("B", required(named, "B")?)?,
            c: activation("C", required(named, "C")?)?,
            d: optional("D")?,
            z: named.get("z").map(|z| activation("z", z)).transpose()?,
            dt_bias: optional("dt_bias")?,
            state_indices: indices("state_indices").transpose()?,
            out_indices: indices("out_indices").transpose()?,
        })
    }
}

fn required<'a, B: Backend>(named: &'a Named<B>, name: &str) -> Result<&'a View<B>> {
    named.get(name).ok_or_else(|| wrong_tensor(name, "this tensor".to_owned(), "none"))
}

fn wrong_tensor(name: &str, expected: String, found: &str) -> Error {
    Error::Tensor { operation: NAME, tensor: name.to_owned(), expected, found: found.to_owned() }
}

fn run_on<B: StateUpdate<T>, T: Float>(
    backend: &B,
    named: &Named<Cpu>,
    options: &Options,
) -> Result<Ran> {
    let uploaded = on_backend(backend, named)?;
    let mut state = required(&uploaded, "state")?.clone();
    let inputs = Inputs::<B, T>::from_named(&uploaded)?;
    let plan = plan(State::from_view(&mut state)?, &inputs, options)?;
    preload(backend, &plan)?;
    backend.synchronise()?;
    let start = Instant::now();
    let out = update(State::from_view(&mut state)?, &inputs, options)?;
    backend.synchronise()?;
    let elapsed = start.elapsed();
    let outputs = Named::from([
        ("out".to_owned(), out.to_backend(&Cpu)?),
        ("state".to_owned(), state.to_backend(&Cpu)?),
    ]);
    Ok(Ran::new(plan.variant, elapsed, outputs))
}

/// The element type that the update runs in.
fn dtype(named: &Named<Cpu>) -> Result<DType> {
    Ok(required(named, "x")?.dtype())
}
