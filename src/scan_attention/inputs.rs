//! What goes in.

use super::outputs::State;
use crate::backend::Backend;
use crate::element::Float;
use crate::parameter::Parameter;
use crate::resets::Resets;
use crate::tensor::{Tensor, View};

/// The tensors of a scan; shapes stand in the [module's](super) table.
#[derive(Debug)]
pub struct Inputs<'a, B: Backend, T: Float> {
    /// Scores, or what they are computed from.
    pub scores: Scores<'a, B, T>,
    /// Values, (B, H, L, Dv) or (B, L, H, Dv); of Hk heads with keys.
    pub v: &'a Tensor<B, T>,
    /// The state before the first step; nothing seen yet when absent.
    pub carry: Option<Carry<'a, B>>,
    /// (B, L): the token is passed over where it is 0.
    pub mask: Option<&'a Tensor<B, u8>>,
    /// Where documents begin.
    pub resets: Resets<'a, B>,
}

/// Where the scores come from.
#[derive(Debug)]
pub enum Scores<'a, B: Backend, T: Float> {
    /// s, (B, H, L).
    Given(Parameter<'a, B>),
    /// s_t = scale q · k_t.
    Keys {
        /// (H, Dk).
        q: Parameter<'a, B>,
        /// (B, Hk, L, Dk) or (B, L, Hk, Dk); Hk divides H.
        k: &'a Tensor<B, T>,
    },
}

/// A state (m, u, w) that the scan starts from.
#[derive(Clone, Copy, Debug)]
pub struct Carry<'a, B: Backend> {
    /// The largest score, (B, H); packed (S, H).
    pub m: Parameter<'a, B>,
    /// The sum of weights relative to it, as `m`.
    pub u: Parameter<'a, B>,
    /// The values under these weights, (B, H, Dv); packed (S, H, Dv).
    pub w: Parameter<'a, B>,
}

impl<'a, B: Backend, T: Float> From<&'a State<B, T>> for Carry<'a, B> {
    fn from(state: &'a State<B, T>) -> Self {
        Self { m: (&state.m).into(), u: (&state.u).into(), w: (&state.w).into() }
    }
}

impl<'a, B: Backend, T: Float> Inputs<'a, B, T> {
    /// A scan over given scores; all else is absent.
    pub fn new(s: impl Into<Parameter<'a, B>>, v: &'a Tensor<B, T>) -> Self {
        Self::with_scores(Scores::Given(s.into()), v)
    }

    /// A scan over the keys' products with fixed queries; all else is absent.
    pub fn with_keys(
        q: impl Into<Parameter<'a, B>>,
        k: &'a Tensor<B, T>,
        v: &'a Tensor<B, T>,
    ) -> Self {
        Self::with_scores(Scores::Keys { q: q.into(), k }, v)
    }

    fn with_scores(scores: Scores<'a, B, T>, v: &'a Tensor<B, T>) -> Self {
        Self { scores, v, carry: None, mask: None, resets: Resets::None }
    }

    /// With a state to start from.
    pub fn with_carry(mut self, carry: impl Into<Carry<'a, B>>) -> Self {
        self.carry = Some(carry.into());
        self
    }

    /// With tokens that are passed over.
    pub fn with_mask(mut self, mask: &'a Tensor<B, u8>) -> Self {
        self.mask = Some(mask);
        self
    }

    /// With documents that share rows.
    pub fn with_resets(mut self, resets: Resets<'a, B>) -> Self {
        self.resets = resets;
        self
    }

    /// Every tensor that is present, under its name.
    pub fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = match &self.scores {
            Scores::Given(s) => vec![("s", s.view())],
            Scores::Keys { q, k } => vec![("q", q.view()), ("k", k)],
        };
        named.push(("v", self.v));
        if let Some(Carry { m, u, w }) = &self.carry {
            named.extend([("m0", m.view()), ("u0", u.view()), ("w0", w.view())]);
        }
        named.extend(self.mask.map(|mask| ("mask", &**mask)));
        named.extend(self.resets.named());
        named
    }
}

/// Gradients of the outputs; an absent one counts as zero.
#[derive(Debug)]
pub struct OutputGradients<'a, B: Backend, T: Float> {
    /// Of `o`, in its shape; the last axis has stride 1.
    pub o: Option<&'a Tensor<B, T>>,
    /// Of the carry's `u`.
    pub u: Option<Parameter<'a, B>>,
    /// Of the carry's `w`.
    pub w: Option<Parameter<'a, B>>,
}

impl<'a, B: Backend, T: Float> OutputGradients<'a, B, T> {
    /// The gradient of `o` alone.
    pub fn new(o: &'a Tensor<B, T>) -> Self {
        Self { o: Some(o), u: None, w: None }
    }

    /// Every tensor that is present, under its name.
    pub fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = Vec::new();
        named.extend(self.o.map(|o| ("do", &**o)));
        named.extend(self.u.as_ref().map(|u| ("du", u.view())));
        named.extend(self.w.as_ref().map(|w| ("dw", w.view())));
        named
    }
}
