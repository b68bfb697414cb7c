//! What comes out.

use super::{Inputs, Problem, Scores};
use crate::Result;
use crate::backend::Backend;
use crate::element::Float;
use crate::tensor::{Tensor, View};

/// A state (m, u, w): what a scan leaves, and what a step updates.
#[derive(Clone, Debug)]
pub struct State<B: Backend, T: Float> {
    /// The largest score, (B, H); packed (S, H); -∞ where nothing has been seen.
    pub m: Tensor<B, T::State>,
    /// The sum of weights relative to it, as `m`.
    pub u: Tensor<B, T::State>,
    /// The values under these weights, (B, H, Dv); packed (S, H, Dv).
    pub w: Tensor<B, T::State>,
}

impl<B: Backend, T: Float> State<B, T> {
    /// A state that has seen nothing yet, for this many rows.
    ///
    /// # Errors
    ///
    /// The device's refusal to allocate.
    pub fn empty(backend: &B, [rows, heads, width]: [usize; 3]) -> Result<Self> {
        let filled = |value: f64, shape: &[usize]| {
            let values = vec![T::State::from_f64(value); shape.iter().product()];
            Tensor::from_slice(backend, &values, shape)
        };
        Ok(Self {
            m: filled(f64::NEG_INFINITY, &[rows, heads])?,
            u: filled(0.0, &[rows, heads])?,
            w: filled(0.0, &[rows, heads, width])?,
        })
    }

    pub(super) fn new(backend: &B, [rows, heads, width]: [usize; 3]) -> Result<Self> {
        Ok(Self {
            m: Tensor::new(backend, &[rows, heads])?,
            u: Tensor::new(backend, &[rows, heads])?,
            w: Tensor::new(backend, &[rows, heads, width])?,
        })
    }

    /// The tensors under the names of their kind.
    pub(super) fn named<'a>(
        &'a self,
        names: [&'static str; 3],
    ) -> [(&'static str, &'a View<B>); 3] {
        let [m, u, w] = names;
        [(m, &self.m), (u, &self.u), (w, &self.w)]
    }
}

/// What the backward pass needs of the forward pass, without gaps.
#[derive(Clone, Debug)]
pub struct Saved<B: Backend, T: Float> {
    /// The state before every [`TILE`](super::TILE)-th step: m, (B, H, ceil(L / TILE)).
    pub m: Tensor<B, T::State>,
    /// u, as `m`.
    pub u: Tensor<B, T::State>,
    /// w, (B, H, ceil(L / TILE), Dv).
    pub w: Tensor<B, T::State>,
    /// The scores, (B, H, L), where they were computed from keys.
    pub scores: Option<Tensor<B, T::State>>,
}

impl<B: Backend, T: Float> Saved<B, T> {
    fn new(backend: &B, problem: &Problem) -> Result<Self> {
        let [m, w, scores] = problem.saved_shapes();
        Ok(Self {
            m: Tensor::new(backend, &m)?,
            u: Tensor::new(backend, &m)?,
            w: Tensor::new(backend, &w)?,
            scores: match problem.key_width {
                Some(_) => Some(Tensor::new(backend, &scores)?),
                None => None,
            },
        })
    }

    /// Every tensor that is present, under its name.
    pub(crate) fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> =
            vec![("saved m", &self.m), ("saved u", &self.u), ("saved w", &self.w)];
        named.extend(self.scores.as_ref().map(|scores| ("saved scores", &**scores)));
        named
    }
}

/// What a scan gives.
#[derive(Clone, Debug)]
pub struct Outputs<B: Backend, T: Float> {
    /// The attention of every step.
    pub o: Tensor<B, T>,
    /// The logarithm of the sum of weights, (B, H, L).
    pub lse: Tensor<B, T::State>,
    /// The state after the last step.
    pub carry: State<B, T>,
    /// What the backward pass needs, where [`Options::save`](super::Options::save) asked for it.
    pub saved: Option<Saved<B, T>>,
}

impl<B: Backend, T: Float> Outputs<B, T> {
    pub(super) fn new(backend: &B, problem: &Problem) -> Result<Self> {
        Ok(Self {
            o: Tensor::new(backend, &problem.output_shape())?,
            lse: Tensor::new(backend, &[problem.batch, problem.heads, problem.steps])?,
            carry: State::new(backend, [problem.rows, problem.heads, problem.width])?,
            saved: if problem.save { Some(Saved::new(backend, problem)?) } else { None },
        })
    }

    /// The same tensors, to be written into.
    pub fn as_mut(&mut self) -> OutputsMut<'_, B, T> {
        OutputsMut {
            o: &mut self.o,
            lse: Some(&mut self.lse),
            carry: Some(&mut self.carry),
            saved: self.saved.as_mut(),
        }
    }
}

/// Where a scan writes.
#[derive(Debug)]
pub struct OutputsMut<'a, B: Backend, T: Float> {
    /// The attention of every step; the last axis has stride 1.
    pub o: &'a mut Tensor<B, T>,
    /// The logarithm of the sum of weights, without gaps.
    pub lse: Option<&'a mut Tensor<B, T::State>>,
    /// The state after the last step, without gaps.
    pub carry: Option<&'a mut State<B, T>>,
    /// What the backward pass needs; there just where [`Options::save`](super::Options::save) is
    /// set.
    pub saved: Option<&'a mut Saved<B, T>>,
}

impl<B: Backend, T: Float> OutputsMut<'_, B, T> {
    /// Every tensor that is present, under its name.
    pub(crate) fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = vec![("o", &*self.o)];
        named.extend(self.lse.as_deref().map(|lse| ("lse", &**lse)));
        named.extend(
            self.carry.as_deref().into_iter().flat_map(|carry| carry.named(["m", "u", "w"])),
        );
        named.extend(self.saved.as_deref().into_iter().flat_map(Saved::named));
        named
    }
}

/// Gradients of the inputs.
#[derive(Clone, Debug)]
pub struct Gradients<B: Backend, T: Float> {
    /// Of `v`, in its shape; the last axis has stride 1.
    pub v: Tensor<B, T>,
    /// Of the scores, or of what they were computed from.
    pub scores: ScoreGradients<B, T>,
    /// Of `m0`, `u0` and `w0`, without gaps, where the call has them.
    pub carry: Option<State<B, T>>,
}

/// Gradients of the scores, or of what they were computed from.
#[derive(Clone, Debug)]
pub enum ScoreGradients<B: Backend, T: Float> {
    /// Of `s`, in its type and shape; the last axis has stride 1.
    Given(View<B>),
    /// Of keys and queries.
    Keys {
        /// (H, Dk), without gaps.
        q: Tensor<B, T::State>,
        /// In the shape of `k`; the last axis has stride 1.
        k: Tensor<B, T>,
    },
}

impl<B: Backend, T: Float> Gradients<B, T> {
    pub(super) fn new(backend: &B, problem: &Problem, inputs: &Inputs<'_, B, T>) -> Result<Self> {
        Ok(Self {
            v: Tensor::new(backend, inputs.v.shape())?,
            scores: match &inputs.scores {
                Scores::Given(s) => {
                    ScoreGradients::Given(View::new(backend, s.dtype(), s.shape())?)
                }
                Scores::Keys { q, k } => ScoreGradients::Keys {
                    q: Tensor::new(backend, q.shape())?,
                    k: Tensor::new(backend, k.shape())?,
                },
            },
            carry: match &inputs.carry {
                Some(_) => Some(State::new(backend, problem.state_shape())?),
                None => None,
            },
        })
    }

    /// Every tensor that is present, under its name.
    pub(crate) fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = vec![("dv", &self.v)];
        match &self.scores {
            ScoreGradients::Given(s) => named.push(("ds", s)),
            ScoreGradients::Keys { q, k } => named.extend([("dq", &**q), ("dk", &**k)]),
        }
        let carry = self.carry.as_ref().into_iter();
        named.extend(carry.flat_map(|carry| carry.named(["dm0", "du0", "dw0"])));
        named
    }
}
