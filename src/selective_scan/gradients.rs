//! What goes into the backward pass and what comes out.

use crate::Result;
use crate::backend::Backend;
use crate::element::{DType, Element, Float};
use crate::parameter::Parameter;
use crate::tensor::{Tensor, View};

use super::{Inputs, Options, Problem};

/// The gradients of a scan's outputs.
#[derive(Debug)]
pub struct OutputGradients<'a, B: Backend, T: Float> {
    /// Gradient of `out`, as it.
    pub dout: &'a Tensor<B, T>,
    /// Gradient of `last_state`, as it; zero when absent.
    pub dlast_state: Option<Parameter<'a, B>>,
}

impl<'a, B: Backend, T: Float> OutputGradients<'a, B, T> {
    /// The gradient of `out` alone.
    pub fn new(dout: &'a Tensor<B, T>) -> Self {
        Self { dout, dlast_state: None }
    }

    /// With the gradient of the last state.
    pub fn with_dlast_state(mut self, dlast_state: impl Into<Parameter<'a, B>>) -> Self {
        self.dlast_state = Some(dlast_state.into());
        self
    }

    /// Every tensor that is present, under its name.
    pub(crate) fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = vec![("dout", self.dout)];
        named.extend(self.dlast_state.as_ref().map(|state| ("dlast_state", state.view())));
        named
    }
}

/// The gradients of a scan's inputs, each with the shape of its input.
#[derive(Clone, Debug)]
pub struct Gradients<B: Backend, T: Float> {
    /// Of `u`.
    pub du: Tensor<B, T>,
    /// Of `delta`.
    pub ddelta: Tensor<B, T>,
    /// Of `A`.
    pub da: Tensor<B, T::State>,
    /// Of `B`: of T where it is variable, unless [`Options::wide_maps`](super::Options::wide_maps)
    /// asks for the state's type, in which it is where constant.
    pub db: View<B>,
    /// Of `C`, as of `B`.
    pub dc: View<B>,
    /// Of `D`, where it is present.
    pub dd: Option<Tensor<B, T::State>>,
    /// Of `z`, where it is present.
    pub dz: Option<Tensor<B, T>>,
    /// Of `delta_bias`, where it is present.
    pub ddelta_bias: Option<Tensor<B, T::State>>,
    /// Of the initial state, be it zero or given.
    pub dh0: Tensor<B, T::State>,
}

impl<B: Backend, T: Float> Gradients<B, T> {
    /// New tensors for the gradients of these inputs.
    pub(super) fn new(
        problem: &Problem,
        inputs: &Inputs<'_, B, T>,
        options: &Options,
    ) -> Result<Self> {
        let backend = inputs.u.backend();
        let map = |map: &Parameter<'_, B>, constant: bool| {
            View::new(backend, problem.map_gradient_dtype::<T>(constant, options), map.shape())
        };
        let per_channel = |parameter: &Option<Parameter<'_, B>>| {
            let new = |parameter: &Parameter<'_, B>| Tensor::new(backend, parameter.shape());
            parameter.as_ref().map(new).transpose()
        };
        Ok(Self {
            du: Tensor::new(backend, inputs.u.shape())?,
            ddelta: Tensor::new(backend, inputs.u.shape())?,
            da: Tensor::new(backend, inputs.a.shape())?,
            db: map(&inputs.b, problem.b_constant)?,
            dc: map(&inputs.c, problem.c_constant)?,
            dd: per_channel(&inputs.d)?,
            dz: inputs.z.map(|z| Tensor::new(backend, z.shape())).transpose()?,
            ddelta_bias: per_channel(&inputs.delta_bias)?,
            dh0: Tensor::new(backend, &problem.state_shape())?,
        })
    }

    /// Every tensor, under its name.
    pub fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = vec![
            ("du", &self.du),
            ("ddelta", &self.ddelta),
            ("dA", &self.da),
            ("dB", &self.db),
            ("dC", &self.dc),
            ("dh0", &self.dh0),
        ];
        named.extend(self.dd.as_ref().map(|dd| ("dD", &**dd)));
        named.extend(self.dz.as_ref().map(|dz| ("dz", &**dz)));
        named.extend(self.ddelta_bias.as_ref().map(|bias| ("ddelta_bias", &**bias)));
        named
    }

    /// The same tensors, to be written into.
    pub fn as_mut(&mut self) -> GradientsMut<'_, B, T> {
        GradientsMut {
            du: Some(&mut self.du),
            ddelta: Some(&mut self.ddelta),
            da: Some(&mut self.da),
            db: Some(&mut self.db),
            dc: Some(&mut self.dc),
            dd: self.dd.as_mut(),
            dz: self.dz.as_mut(),
            ddelta_bias: self.ddelta_bias.as_mut(),
            dh0: Some(&mut self.dh0),
        }
    }
}

/// Where the backward pass writes: those gradients that are asked for.
///
/// The last axis of the activations' gradients has stride 1, the others have no gaps.
#[derive(Debug)]
pub struct GradientsMut<'a, B: Backend, T: Float> {
    /// Of `u`.
    pub du: Option<&'a mut Tensor<B, T>>,
    /// Of `delta`.
    pub ddelta: Option<&'a mut Tensor<B, T>>,
    /// Of `A`.
    pub da: Option<&'a mut Tensor<B, T::State>>,
    /// Of `B`; its type as in [`Gradients::db`].
    pub db: Option<&'a mut View<B>>,
    /// Of `C`, as of `B`.
    pub dc: Option<&'a mut View<B>>,
    /// Of `D`.
    pub dd: Option<&'a mut Tensor<B, T::State>>,
    /// Of `z`.
    pub dz: Option<&'a mut Tensor<B, T>>,
    /// Of `delta_bias`.
    pub ddelta_bias: Option<&'a mut Tensor<B, T::State>>,
    /// Of the initial state.
    pub dh0: Option<&'a mut Tensor<B, T::State>>,
}

/// No gradient is asked for.
impl<B: Backend, T: Float> Default for GradientsMut<'_, B, T> {
    fn default() -> Self {
        Self {
            du: None,
            ddelta: None,
            da: None,
            db: None,
            dc: None,
            dd: None,
            dz: None,
            ddelta_bias: None,
            dh0: None,
        }
    }
}

impl<B: Backend, T: Float> GradientsMut<'_, B, T> {
    /// Every tensor that is present, under its name.
    pub(crate) fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let activations = [("du", &self.du), ("ddelta", &self.ddelta), ("dz", &self.dz)];
        let states = [
            ("dA", &self.da),
            ("dD", &self.dd),
            ("ddelta_bias", &self.ddelta_bias),
            ("dh0", &self.dh0),
        ];
        let maps = [("dB", &self.db), ("dC", &self.dc)];
        let mut named: Vec<(&'static str, &View<B>)> = Vec::new();
        named.extend(activations.into_iter().filter_map(|(name, t)| Some((name, &***t.as_ref()?))));
        named.extend(states.into_iter().filter_map(|(name, t)| Some((name, &***t.as_ref()?))));
        named.extend(maps.into_iter().filter_map(|(name, view)| Some((name, &**view.as_ref()?))));
        named
    }
}

impl Problem {
    /// The type of the gradient of `B` or `C`.
    pub(crate) fn map_gradient_dtype<T: Float>(&self, constant: bool, options: &Options) -> DType {
        match constant || options.wide_maps {
            true => T::State::DTYPE,
            false => T::DTYPE,
        }
    }
}
