//! What goes in and what comes out.

use crate::Result;
use crate::backend::Backend;
use crate::element::Float;
use crate::parameter::{Indices, Parameter};
use crate::tensor::{Tensor, View};

/// States in slots, (R, D, N) or (R, H, P, N), that a call moves on in place. Made from a `&mut`
/// tensor of f32, bf16 or f16 (f64 for f64 activations).
#[derive(Debug)]
pub struct State<'a, B: Backend>(&'a View<B>);

impl<'a, B: Backend, E: Float> From<&'a mut Tensor<B, E>> for State<'a, B> {
    fn from(tensor: &'a mut Tensor<B, E>) -> Self {
        Self(tensor)
    }
}

impl<'a, B: Backend> State<'a, B> {
    /// Wraps a view whose element type is known only at run time.
    ///
    /// # Errors
    ///
    /// [`Error::Dtype`](crate::Error::Dtype) where the elements are no floats.
    pub fn from_view(view: &'a mut View<B>) -> Result<Self> {
        Parameter::from_view(view).map(|parameter| Self(parameter.view()))
    }

    /// The view.
    pub fn view(&self) -> &View<B> {
        self.0
    }
}

/// The tensors that an update reads; shapes stand in the [module's](super) table.
#[derive(Debug)]
pub struct Inputs<'a, B: Backend, T: Float> {
    /// Input.
    pub x: &'a Tensor<B, T>,
    /// Raw step size, as `x`, or one for a head.
    pub dt: &'a Tensor<B, T>,
    /// Decay.
    pub a: Parameter<'a, B>,
    /// Input map.
    pub b: &'a Tensor<B, T>,
    /// Output map, as `b`.
    pub c: &'a Tensor<B, T>,
    /// Skip.
    pub d: Option<Parameter<'a, B>>,
    /// Gate, as `x`.
    pub z: Option<&'a Tensor<B, T>>,
    /// Added to the raw step size.
    pub dt_bias: Option<Parameter<'a, B>>,
    /// The slot of each batch entry; without it, entry b has slot b.
    pub state_indices: Option<Indices<'a, B>>,
    /// The slot that each batch entry writes, where it is not the one that it reads.
    pub out_indices: Option<Indices<'a, B>>,
}

impl<'a, B: Backend, T: Float> Inputs<'a, B, T> {
    /// The tensors that no update can do without; the others are absent.
    pub fn new(
        x: &'a Tensor<B, T>,
        dt: &'a Tensor<B, T>,
        a: impl Into<Parameter<'a, B>>,
        b: &'a Tensor<B, T>,
        c: &'a Tensor<B, T>,
    ) -> Self {
        Self {
            x,
            dt,
            a: a.into(),
            b,
            c,
            d: None,
            z: None,
            dt_bias: None,
            state_indices: None,
            out_indices: None,
        }
    }

    /// With the skip parameter D.
    pub fn with_d(mut self, d: impl Into<Parameter<'a, B>>) -> Self {
        self.d = Some(d.into());
        self
    }

    /// With the gate z.
    pub fn with_z(mut self, z: &'a Tensor<B, T>) -> Self {
        self.z = Some(z);
        self
    }

    /// With a bias of the step size.
    pub fn with_dt_bias(mut self, dt_bias: impl Into<Parameter<'a, B>>) -> Self {
        self.dt_bias = Some(dt_bias.into());
        self
    }

    /// With slots.
    pub fn with_state_indices(mut self, state_indices: impl Into<Indices<'a, B>>) -> Self {
        self.state_indices = Some(state_indices.into());
        self
    }

    /// With slots to write that differ from those that are read.
    pub fn with_out_indices(mut self, out_indices: impl Into<Indices<'a, B>>) -> Self {
        self.out_indices = Some(out_indices.into());
        self
    }

    /// Every tensor that is present, under its name.
    pub fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = vec![
            ("x", self.x),
            ("dt", self.dt),
            ("A", self.a.view()),
            ("B", self.b),
            ("C", self.c),
        ];
        named.extend(self.d.as_ref().map(|d| ("D", d.view())));
        named.extend(self.z.map(|z| ("z", &**z)));
        named.extend(self.dt_bias.as_ref().map(|bias| ("dt_bias", bias.view())));
        named.extend(self.state_indices.as_ref().map(|slots| ("state_indices", slots.view())));
        named.extend(self.out_indices.as_ref().map(|slots| ("out_indices", slots.view())));
        named
    }
}

/// Where an update writes, besides the states.
#[derive(Debug)]
pub struct OutputsMut<'a, B: Backend, T: Float> {
    /// Gated output, as `x`.
    pub out: &'a mut Tensor<B, T>,
    /// The states after each step, (B, M, D, N) or (B, M, H, P, N), of the states' type, without
    /// gaps; entries that are padding are left alone.
    pub states: Option<&'a mut View<B>>,
}

impl<B: Backend, T: Float> OutputsMut<'_, B, T> {
    /// Every tensor that is present, under its name.
    pub(crate) fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = vec![("out", &*self.out)];
        named.extend(self.states.as_deref().map(|states| ("states", states)));
        named
    }
}
