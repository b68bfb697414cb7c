//! What comes out.

use super::{Inputs, Layout, Problem};
use crate::Result;
use crate::backend::Backend;
use crate::element::{DType, Float};
use crate::tensor::{Tensor, View};

/// What attention gives.
#[derive(Clone, Debug)]
pub struct Outputs<B: Backend, T: Float> {
    /// The values under the weights of their keys, shaped as `q` with Dv features.
    pub out: Tensor<B, T>,
    /// The logarithm of the sum of exponentials of scores, (B, H, Sq); packed (H, Tq).
    pub lse: Tensor<B, T::State>,
}

impl<B: Backend, T: Float> Outputs<B, T> {
    pub(crate) fn new(backend: &B, problem: &Problem) -> Result<Self> {
        Ok(Self {
            out: Tensor::new(backend, &problem.output_shape())?,
            lse: Tensor::new(backend, &problem.lse_shape())?,
        })
    }

    /// The same tensors, to be written into.
    pub fn as_mut(&mut self) -> OutputsMut<'_, B, T> {
        OutputsMut { out: Some(&mut self.out), partial: None, lse: &mut self.lse }
    }

    /// What the backward pass needs of them.
    pub fn saved(&self) -> Saved<'_, B, T> {
        Saved::new(&self.out, &self.lse)
    }
}

/// Where attention writes; `out` or `partial`, or both.
#[derive(Debug)]
pub struct OutputsMut<'a, B: Backend, T: Float> {
    /// The result, rounded to T.
    pub out: Option<&'a mut Tensor<B, T>>,
    /// The result in f32, which later parts of the keys are merged into. With
    /// [`Options::accumulate`](super::Options::accumulate) it holds, with `lse`, what earlier parts
    /// gave.
    pub partial: Option<&'a mut Tensor<B, T::State>>,
    /// The logarithm of the sum of exponentials.
    pub lse: &'a mut Tensor<B, T::State>,
}

impl<B: Backend, T: Float> OutputsMut<'_, B, T> {
    /// Every tensor that is present, under its name.
    pub(crate) fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = Vec::new();
        named.extend(self.out.as_deref().map(|out| ("out", &**out)));
        named.extend(self.partial.as_deref().map(|partial| ("partial", &**partial)));
        named.push(("lse", &*self.lse));
        named
    }

    /// The same memory, as backends see it.
    pub(super) fn lines(&self, layout: Layout) -> Result<OutputLines<B>> {
        let partial = self.partial.as_deref().map(|partial| layout.heads_first(partial));
        let lse = self.lse.unsqueezed(self.lse.shape().len())?;
        Ok(OutputLines {
            out: self.out.as_deref().map(|out| layout.heads_first(out)).transpose()?,
            partial: partial.transpose()?,
            lse: Layout::Bhsd.heads_first(&lse)?,
        })
    }
}

/// Where attention writes, as backends see it: whatever the layout, axes are in the order batch,
/// head, token, feature, and stride 1 is the last one's.
#[derive(Clone, Debug)]
pub struct OutputLines<B: Backend> {
    /// (B, H, Sq, Dv), rounded to T.
    pub out: Option<View<B>>,
    /// (B, H, Sq, Dv), in f32.
    pub partial: Option<View<B>>,
    /// (B, H, Sq, 1).
    pub lse: View<B>,
}

impl<B: Backend> OutputLines<B> {
    /// Every tensor that is present, under its name.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, &View<B>)> {
        let results = [("out", &self.out), ("partial", &self.partial)];
        let results = results.into_iter().filter_map(|(name, view)| Some((name, view.as_ref()?)));
        results.chain([("lse", &self.lse)])
    }
}

/// What the backward pass takes of the forward pass.
#[derive(Debug)]
pub struct Saved<'a, B: Backend, T: Float> {
    /// What the row terms are made of, or they themselves.
    pub rows: Rows<'a, B, T>,
    /// The logarithm of the sum of exponentials over all keys, sink and all.
    pub lse: &'a Tensor<B, T::State>,
}

/// What stands for a row in the backward pass: its term δ = dout · out - dlse.
#[derive(Debug)]
pub enum Rows<'a, B: Backend, T: Float> {
    /// The result, which δ is made from.
    Out(&'a Tensor<B, T>),
    /// δ, as [`row_terms`](super::row_terms) gives it, (B, H, Sq); packed (H, Tq).
    Delta(&'a Tensor<B, T::State>),
}

impl<'a, B: Backend, T: Float> Saved<'a, B, T> {
    /// The outputs of a forward call.
    pub fn new(out: &'a Tensor<B, T>, lse: &'a Tensor<B, T::State>) -> Self {
        Self { rows: Rows::Out(out), lse }
    }

    /// Row terms that are made once for several parts of the keys.
    pub fn with_delta(delta: &'a Tensor<B, T::State>, lse: &'a Tensor<B, T::State>) -> Self {
        Self { rows: Rows::Delta(delta), lse }
    }

    /// Every tensor, under its name.
    pub(crate) fn named(&self) -> [(&'static str, &View<B>); 2] {
        let rows: (_, &View<B>) = match self.rows {
            Rows::Out(out) => ("out", out),
            Rows::Delta(delta) => ("delta", delta),
        };
        [rows, ("lse", self.lse)]
    }
}

/// Gradients of the inputs.
#[derive(Clone, Debug)]
pub struct Gradients<B: Backend, T: Float> {
    /// Of `q`, in its shape.
    pub q: Tensor<B, T>,
    /// Of `k`, in its shape.
    pub k: Tensor<B, T>,
    /// Of `v`, in its shape.
    pub v: Tensor<B, T>,
    /// Of `bias`, where the call has one.
    pub bias: Option<Tensor<B, T::State>>,
    /// Of `sink`, where the call has one.
    pub sink: Option<Tensor<B, T::State>>,
}

impl<B: Backend, T: Float> Gradients<B, T> {
    pub(crate) fn new(backend: &B, inputs: &Inputs<'_, B, T>) -> Result<Self> {
        let like = |view: &View<B>| Tensor::new(backend, view.shape());
        let wide = |shape: &[usize]| Tensor::new(backend, shape);
        Ok(Self {
            q: like(inputs.q)?,
            k: like(inputs.k)?,
            v: like(inputs.v)?,
            bias: inputs.bias.map(|bias| wide(bias.shape())).transpose()?,
            sink: inputs.sink.map(|sink| wide(sink.shape())).transpose()?,
        })
    }

    /// The same tensors, to be written into.
    pub fn as_mut(&mut self) -> GradientsMut<'_, B, T> {
        GradientsMut {
            q: GradientMut::Rounded(&mut self.q),
            k: GradientMut::Rounded(&mut self.k),
            v: GradientMut::Rounded(&mut self.v),
            bias: self.bias.as_mut(),
            sink: self.sink.as_mut(),
        }
    }

    /// Every tensor that is present, under its name.
    pub(crate) fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> =
            vec![("dq", &self.q), ("dk", &self.k), ("dv", &self.v)];
        named.extend(self.bias.as_ref().map(|bias| ("dbias", &**bias)));
        named.extend(self.sink.as_ref().map(|sink| ("dsink", &**sink)));
        named
    }
}

/// Where the backward pass writes.
#[derive(Debug)]
pub struct GradientsMut<'a, B: Backend, T: Float> {
    /// The gradient of `q`.
    pub q: GradientMut<'a, B, T>,
    /// The gradient of `k`.
    pub k: GradientMut<'a, B, T>,
    /// The gradient of `v`.
    pub v: GradientMut<'a, B, T>,
    /// The gradient of `bias`, which is not written where absent.
    pub bias: Option<&'a mut Tensor<B, T::State>>,
    /// The gradient of `sink`, which is not written where absent.
    pub sink: Option<&'a mut Tensor<B, T::State>>,
}

/// A gradient, to be written: whole sequences want it rounded, their parts as sums in f32.
#[derive(Debug)]
pub enum GradientMut<'a, B: Backend, T: Float> {
    /// Rounded to T.
    Rounded(&'a mut Tensor<B, T>),
    /// In f32.
    Partial(&'a mut Tensor<B, T::State>),
    /// Added, in f32, to what the tensor holds.
    Added(&'a mut Tensor<B, T::State>),
}

impl<B: Backend, T: Float> GradientMut<'_, B, T> {
    /// The tensor.
    pub(super) fn view(&self) -> &View<B> {
        match self {
            Self::Rounded(tensor) => tensor,
            Self::Partial(tensor) | Self::Added(tensor) => tensor,
        }
    }

    /// Whether it is added to.
    pub(super) fn adds(&self) -> bool {
        matches!(self, Self::Added(_))
    }
}

impl<B: Backend, T: Float> GradientsMut<'_, B, T> {
    /// Every tensor that is present, under its name.
    pub(crate) fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> =
            vec![("dq", self.q.view()), ("dk", self.k.view()), ("dv", self.v.view())];
        named.extend(self.bias.as_deref().map(|bias| ("dbias", &**bias)));
        named.extend(self.sink.as_deref().map(|sink| ("dsink", &**sink)));
        named
    }
}

impl Problem {
    /// The shape of `out`.
    pub fn output_shape(&self) -> Vec<usize> {
        let [batch, second, third, features] =
            self.layout.axes([self.batch, self.heads, self.queries, self.value_width]);
        match self.sequences {
            Some(_) => vec![second, third, features],
            None => vec![batch, second, third, features],
        }
    }

    /// The shape of `lse`.
    pub fn lse_shape(&self) -> Vec<usize> {
        match self.sequences {
            Some(_) => vec![self.heads, self.queries],
            None => vec![self.batch, self.heads, self.queries],
        }
    }

    /// The type of `lse` and of partial results.
    pub fn state_dtype(&self) -> DType {
        if self.dtype == DType::F64 { DType::F64 } else { DType::F32 }
    }
}
