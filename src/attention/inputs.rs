//! What goes in.

use crate::backend::Backend;
use crate::element::Float;
use crate::parameter::{Indices, Parameter};
use crate::tensor::{Tensor, View};

/// The tensors of attention; shapes stand in the [module's](super) table.
#[derive(Debug)]
pub struct Inputs<'a, B: Backend, T: Float> {
    /// Queries.
    pub q: &'a Tensor<B, T>,
    /// Keys.
    pub k: &'a Tensor<B, T>,
    /// Values.
    pub v: &'a Tensor<B, T>,
    /// What is added to scores, (B or 1, H or 1, Sq, Sk); -∞ is a pair that does not see.
    pub bias: Option<Parameter<'a, B>>,
    /// The score of a key of value 0 that every query sees, (H).
    pub sink: Option<Parameter<'a, B>>,
    /// What a score loses for each token between query and key, (H) or (B, H).
    pub alibi_slopes: Option<Parameter<'a, B>>,
    /// Where sequences that are packed into one row begin.
    pub packed: Option<Packed<'a, B>>,
}

/// Where packed sequences begin: non-decreasing from 0 to all tokens, (S + 1). Sequence s has the
/// tokens from the s-th number to before the next.
#[derive(Debug)]
pub struct Packed<'a, B: Backend> {
    /// Of queries.
    pub queries: Indices<'a, B>,
    /// Of keys.
    pub keys: Indices<'a, B>,
}

impl<'a, B: Backend, T: Float> Inputs<'a, B, T> {
    /// Queries, keys and values; all else is absent.
    pub fn new(q: &'a Tensor<B, T>, k: &'a Tensor<B, T>, v: &'a Tensor<B, T>) -> Self {
        Self { q, k, v, bias: None, sink: None, alibi_slopes: None, packed: None }
    }

    /// With something to be added to scores.
    pub fn with_bias(mut self, bias: impl Into<Parameter<'a, B>>) -> Self {
        self.bias = Some(bias.into());
        self
    }

    /// With a key of value 0 that every query sees. Where keys come in parts, to be merged, it is
    /// given with one of them.
    pub fn with_sink(mut self, sink: impl Into<Parameter<'a, B>>) -> Self {
        self.sink = Some(sink.into());
        self
    }

    /// With scores that fall with the distance.
    pub fn with_alibi_slopes(mut self, slopes: impl Into<Parameter<'a, B>>) -> Self {
        self.alibi_slopes = Some(slopes.into());
        self
    }

    /// With sequences that are packed into one row.
    pub fn with_packed(
        mut self,
        queries: impl Into<Indices<'a, B>>,
        keys: impl Into<Indices<'a, B>>,
    ) -> Self {
        self.packed = Some(Packed { queries: queries.into(), keys: keys.into() });
        self
    }

    /// Every tensor that is present, under its name.
    pub fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> =
            vec![("q", self.q), ("k", self.k), ("v", self.v)];
        let parameters =
            [("bias", self.bias), ("sink", self.sink), ("alibi_slopes", self.alibi_slopes)];
        named.extend(parameters.into_iter().filter_map(|(name, one)| Some((name, one?.view()))));
        if let Some(Packed { queries, keys }) = &self.packed {
            named.extend([("cu_seqlens_q", queries.view()), ("cu_seqlens_k", keys.view())]);
        }
        named
    }
}

/// Gradients of the outputs.
#[derive(Debug)]
pub struct OutputGradients<'a, B: Backend, T: Float> {
    /// Of `out`, in its shape.
    pub out: &'a Tensor<B, T>,
    /// Of `lse`; zeros where absent.
    pub lse: Option<Parameter<'a, B>>,
}

impl<'a, B: Backend, T: Float> OutputGradients<'a, B, T> {
    /// The gradient of `out` alone.
    pub fn new(out: &'a Tensor<B, T>) -> Self {
        Self { out, lse: None }
    }

    /// With the gradient of `lse`.
    pub fn with_lse(mut self, lse: impl Into<Parameter<'a, B>>) -> Self {
        self.lse = Some(lse.into());
        self
    }

    /// Every tensor that is present, under its name.
    pub fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = vec![("dout", self.out)];
        named.extend(self.lse.map(|lse| ("dlse", lse.view())));
        named
    }
}
