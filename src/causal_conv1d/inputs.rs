//! What goes in and what comes out.

use crate::backend::Backend;
use crate::element::Float;
use crate::parameter::Parameter;
use crate::resets::Resets;
use crate::tensor::{Tensor, View};

/// The tensors of a convolution; shapes stand in the [module's](super) table.
#[derive(Debug)]
pub struct Inputs<'a, B: Backend, T: Float> {
    /// Input, (B, D, L) or (B, L, D).
    pub x: &'a Tensor<B, T>,
    /// Taps, (D, W): the last one multiplies the present step.
    pub weight: Parameter<'a, B>,
    /// Added to each sum, (D).
    pub bias: Option<Parameter<'a, B>>,
    /// The W - 1 steps before the first, (B, D, W - 1); packed (S, D, W - 1).
    pub s0: Option<Parameter<'a, B>>,
    /// Where documents begin: `SeqIdx` or `CuSeqlens`.
    pub resets: Resets<'a, B>,
}

impl<'a, B: Backend, T: Float> Inputs<'a, B, T> {
    /// The tensors that no convolution can do without; the others are absent.
    pub fn new(x: &'a Tensor<B, T>, weight: impl Into<Parameter<'a, B>>) -> Self {
        Self { x, weight: weight.into(), bias: None, s0: None, resets: Resets::None }
    }

    /// With a bias.
    pub fn with_bias(mut self, bias: impl Into<Parameter<'a, B>>) -> Self {
        self.bias = Some(bias.into());
        self
    }

    /// With an initial state.
    pub fn with_s0(mut self, s0: impl Into<Parameter<'a, B>>) -> Self {
        self.s0 = Some(s0.into());
        self
    }

    /// With documents that share rows.
    pub fn with_resets(mut self, resets: Resets<'a, B>) -> Self {
        self.resets = resets;
        self
    }

    /// Every tensor that is present, under its name.
    pub fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> =
            vec![("x", self.x), ("weight", self.weight.view())];
        named.extend(self.bias.as_ref().map(|bias| ("bias", bias.view())));
        named.extend(self.s0.as_ref().map(|s0| ("s0", s0.view())));
        named.extend(self.resets.named());
        named
    }
}

/// What a convolution gives.
#[derive(Clone, Debug)]
pub struct Outputs<B: Backend, T: Float> {
    /// As `x`.
    pub out: Tensor<B, T>,
    /// The last W - 1 steps of each row, `s0` in front of it: an exact copy, (B, D, W - 1);
    /// packed (S, D, W - 1).
    pub final_state: Tensor<B, T::State>,
}

impl<B: Backend, T: Float> Outputs<B, T> {
    /// Every tensor, under its name.
    pub fn named(&self) -> Vec<(&'static str, &View<B>)> {
        vec![("out", &self.out), ("final_state", &self.final_state)]
    }

    /// The same tensors, to be written into.
    pub fn as_mut(&mut self) -> OutputsMut<'_, B, T> {
        OutputsMut { out: &mut self.out, final_state: Some(&mut self.final_state) }
    }
}

/// Where a convolution writes.
#[derive(Debug)]
pub struct OutputsMut<'a, B: Backend, T: Float> {
    /// As `x`; the last axis has stride 1.
    pub out: &'a mut Tensor<B, T>,
    /// The last W - 1 steps, without gaps.
    pub final_state: Option<&'a mut Tensor<B, T::State>>,
}

impl<B: Backend, T: Float> OutputsMut<'_, B, T> {
    /// Every tensor that is present, under its name.
    pub(crate) fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = vec![("out", &*self.out)];
        named.extend(self.final_state.as_deref().map(|state| ("final_state", &**state)));
        named
    }
}

/// Gradients of the outputs, which the backward pass starts from. One that is absent is zero.
#[derive(Debug)]
pub struct OutputGradients<'a, B: Backend, T: Float> {
    /// Of `out`, and shaped as it.
    pub dout: Option<&'a Tensor<B, T>>,
    /// Of `final_state`, and shaped as it.
    pub dfinal_state: Option<Parameter<'a, B>>,
}

impl<'a, B: Backend, T: Float> OutputGradients<'a, B, T> {
    /// The gradient of `out` alone.
    pub fn new(dout: &'a Tensor<B, T>) -> Self {
        Self { dout: Some(dout), dfinal_state: None }
    }

    /// With the gradient of the final state.
    pub fn with_dfinal_state(mut self, dfinal_state: impl Into<Parameter<'a, B>>) -> Self {
        self.dfinal_state = Some(dfinal_state.into());
        self
    }

    /// Every tensor that is present, under its name.
    pub fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = Vec::new();
        named.extend(self.dout.map(|dout| ("dout", &**dout)));
        named.extend(self.dfinal_state.as_ref().map(|state| ("dfinal_state", state.view())));
        named
    }
}

/// Gradients of the inputs.
#[derive(Clone, Debug)]
pub struct Gradients<B: Backend, T: Float> {
    /// Of `x`, and shaped as it.
    pub dx: Tensor<B, T>,
    /// Of `weight`, and shaped as it.
    pub dweight: Tensor<B, T::State>,
    /// Of `bias`, where there is one.
    pub dbias: Option<Tensor<B, T::State>>,
    /// Of `s0`, where there is one.
    pub ds0: Option<Tensor<B, T::State>>,
}

impl<B: Backend, T: Float> Gradients<B, T> {
    /// Every tensor, under its name.
    pub fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> =
            vec![("dx", &self.dx), ("dweight", &self.dweight)];
        named.extend(self.dbias.as_ref().map(|dbias| ("dbias", &**dbias)));
        named.extend(self.ds0.as_ref().map(|ds0| ("ds0", &**ds0)));
        named
    }

    /// The same tensors, to be written into.
    pub fn as_mut(&mut self) -> GradientsMut<'_, B, T> {
        GradientsMut {
            dx: Some(&mut self.dx),
            dweight: Some(&mut self.dweight),
            dbias: self.dbias.as_mut(),
            ds0: self.ds0.as_mut(),
        }
    }
}

/// Where the backward pass writes; what is absent is not wanted.
#[derive(Debug)]
pub struct GradientsMut<'a, B: Backend, T: Float> {
    /// Of `x`, and shaped as it; the last axis has stride 1.
    pub dx: Option<&'a mut Tensor<B, T>>,
    /// Of `weight`, without gaps.
    pub dweight: Option<&'a mut Tensor<B, T::State>>,
    /// Of `bias`, without gaps; `bias` itself may be absent.
    pub dbias: Option<&'a mut Tensor<B, T::State>>,
    /// Of `s0`, without gaps; `s0` itself may be absent.
    pub ds0: Option<&'a mut Tensor<B, T::State>>,
}

impl<B: Backend, T: Float> GradientsMut<'_, B, T> {
    /// Every tensor that is present, under its name.
    pub(crate) fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = Vec::new();
        named.extend(self.dx.as_deref().map(|dx| ("dx", &**dx)));
        named.extend(self.dweight.as_deref().map(|dweight| ("dweight", &**dweight)));
        named.extend(self.dbias.as_deref().map(|dbias| ("dbias", &**dbias)));
        named.extend(self.ds0.as_deref().map(|ds0| ("ds0", &**ds0)));
        named
    }
}
