//! What goes in and what comes out.

use crate::backend::Backend;
use crate::element::Float;
use crate::parameter::Parameter;
use crate::resets::Resets;
use crate::tensor::{Tensor, View};

/// The tensors of a scan; shapes stand in the [module's](super) table.
#[derive(Debug)]
pub struct Inputs<'a, B: Backend, T: Float> {
    /// Input, (B, D, L) or (B, L, D).
    pub u: &'a Tensor<B, T>,
    /// Raw step size, as `u`.
    pub delta: &'a Tensor<B, T>,
    /// Decay, (D, N) or (D).
    pub a: Parameter<'a, B>,
    /// Input map: (B, G, N, L) or (B, L, G, N) of T, or constant (D, N).
    pub b: Parameter<'a, B>,
    /// Output map, as `b`; each may be constant by itself.
    pub c: Parameter<'a, B>,
    /// Skip, (D).
    pub d: Option<Parameter<'a, B>>,
    /// Gate, as `u`.
    pub z: Option<&'a Tensor<B, T>>,
    /// Added to the raw step size, (D).
    pub delta_bias: Option<Parameter<'a, B>>,
    /// Initial state, (B, D, N); packed (S, D, N).
    pub h0: Option<Parameter<'a, B>>,
    /// Where documents begin.
    pub resets: Resets<'a, B>,
}

impl<'a, B: Backend, T: Float> Inputs<'a, B, T> {
    /// The tensors that no scan can do without; the others are absent.
    pub fn new(
        u: &'a Tensor<B, T>,
        delta: &'a Tensor<B, T>,
        a: impl Into<Parameter<'a, B>>,
        b: impl Into<Parameter<'a, B>>,
        c: impl Into<Parameter<'a, B>>,
    ) -> Self {
        Self {
            u,
            delta,
            a: a.into(),
            b: b.into(),
            c: c.into(),
            d: None,
            z: None,
            delta_bias: None,
            h0: None,
            resets: Resets::None,
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
    pub fn with_delta_bias(mut self, delta_bias: impl Into<Parameter<'a, B>>) -> Self {
        self.delta_bias = Some(delta_bias.into());
        self
    }

    /// With an initial state.
    pub fn with_h0(mut self, h0: impl Into<Parameter<'a, B>>) -> Self {
        self.h0 = Some(h0.into());
        self
    }

    /// With documents that share rows.
    pub fn with_resets(mut self, resets: Resets<'a, B>) -> Self {
        self.resets = resets;
        self
    }

    /// Every tensor that is present, under its name.
    pub fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = vec![
            ("u", self.u),
            ("delta", self.delta),
            ("A", self.a.view()),
            ("B", self.b.view()),
            ("C", self.c.view()),
        ];
        named.extend(self.d.as_ref().map(|d| ("D", d.view())));
        named.extend(self.z.map(|z| ("z", &**z)));
        named.extend(self.delta_bias.as_ref().map(|bias| ("delta_bias", bias.view())));
        named.extend(self.h0.as_ref().map(|h0| ("h0", h0.view())));
        named.extend(self.resets.named());
        named
    }
}

/// What a scan gives.
#[derive(Clone, Debug)]
pub struct Outputs<B: Backend, T: Float> {
    /// Gated output, as `u`.
    pub out: Tensor<B, T>,
    /// The state after the last step, (B, D, N); packed (S, D, N).
    pub last_state: Tensor<B, T::State>,
    /// The states after every [`CHECKPOINT`](super::CHECKPOINT)-th step and after the last one,
    /// (B, D, ceil(L / CHECKPOINT), N), where [`Options::save`](super::Options::save) asked for
    /// them.
    pub saved: Option<Tensor<B, T::State>>,
}

impl<B: Backend, T: Float> Outputs<B, T> {
    /// The same tensors, to be written into.
    pub fn as_mut(&mut self) -> OutputsMut<'_, B, T> {
        OutputsMut {
            out: &mut self.out,
            last_state: Some(&mut self.last_state),
            saved: self.saved.as_mut(),
        }
    }
}

/// Where a scan writes.
#[derive(Debug)]
pub struct OutputsMut<'a, B: Backend, T: Float> {
    /// Gated output, as `u`; the last axis has stride 1.
    pub out: &'a mut Tensor<B, T>,
    /// The state after the last step, without gaps.
    pub last_state: Option<&'a mut Tensor<B, T::State>>,
    /// The states for the backward pass, without gaps; needed just where
    /// [`Options::save`](super::Options::save) asks for them.
    pub saved: Option<&'a mut Tensor<B, T::State>>,
}

impl<B: Backend, T: Float> OutputsMut<'_, B, T> {
    /// Every tensor that is present, under its name.
    pub(crate) fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = vec![("out", &*self.out)];
        named.extend(self.last_state.as_deref().map(|state| ("last_state", &**state)));
        named.extend(self.saved.as_deref().map(|saved| ("saved", &**saved)));
        named
    }
}
