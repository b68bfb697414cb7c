//! What comes out.

use super::{Inputs, Problem, Save};
use crate::Result;
use crate::backend::Backend;
use crate::element::{DType, Element, Float};
use crate::parameter::Parameter;
use crate::tensor::{Tensor, View};

/// The states of all rows at one time, (B, N, D) each: what a recurrence leaves, and what a step
/// updates. Which there are, the cell tells.
#[derive(Clone, Debug)]
pub struct State<B: Backend, T: Float> {
    /// Of every cell.
    pub h: Tensor<B, T::State>,
    /// Of LSTM and sLSTM.
    pub c: Option<Tensor<B, T::State>>,
    /// Of sLSTM.
    pub n: Option<Tensor<B, T::State>>,
    /// Of sLSTM.
    pub m: Option<Tensor<B, T::State>>,
}

impl<B: Backend, T: Float> State<B, T> {
    /// Zeros: what rows begin with that have seen nothing.
    ///
    /// # Errors
    ///
    /// The device's refusal to allocate.
    pub fn zeros(backend: &B, problem: &Problem) -> Result<Self> {
        let zeros = vec![T::State::from_f64(0.0); problem.state_shape().iter().product()];
        Self::made(problem, || Tensor::from_slice(backend, &zeros, &problem.state_shape()))
    }

    pub(super) fn new(backend: &B, problem: &Problem) -> Result<Self> {
        Self::made(problem, || Tensor::new(backend, &problem.state_shape()))
    }

    fn made(problem: &Problem, make: impl Fn() -> Result<Tensor<B, T::State>>) -> Result<Self> {
        let states = problem.cell.states().len();
        let optional = |state| (state < states).then(&make).transpose();
        Ok(Self { h: make()?, c: optional(1)?, n: optional(2)?, m: optional(3)? })
    }

    /// The tensors in the order of [`Cell::states`](super::Cell::states).
    pub(super) fn all(&self) -> [Option<&Tensor<B, T::State>>; 4] {
        [Some(&self.h), self.c.as_ref(), self.n.as_ref(), self.m.as_ref()]
    }

    /// Every tensor that is present, under the names of its kind.
    pub(super) fn named<'a>(
        &'a self,
        names: [&'static str; 4],
    ) -> impl Iterator<Item = (&'static str, &'a View<B>)> {
        names.into_iter().zip(self.all()).filter_map(|(name, state)| Some((name, &**state?)))
    }
}

/// The names of states after the last step.
pub(super) const LAST: [&str; 4] = ["last_h", "last_c", "last_n", "last_m"];

/// The states beside h after every step, (B, T, N, D) each, without gaps; 0 where a row has ended.
#[derive(Clone, Debug)]
pub struct Sequences<B: Backend, T: Float> {
    /// Of LSTM and sLSTM.
    pub c: Option<Tensor<B, T::State>>,
    /// Of sLSTM.
    pub n: Option<Tensor<B, T::State>>,
    /// Of sLSTM.
    pub m: Option<Tensor<B, T::State>>,
}

impl<B: Backend, T: Float> Sequences<B, T> {
    fn new(backend: &B, problem: &Problem) -> Result<Self> {
        let made = |state| {
            let is_there = state < problem.cell.states().len();
            is_there.then(|| Tensor::new(backend, &problem.output_shape())).transpose()
        };
        Ok(Self { c: made(1)?, n: made(2)?, m: made(3)? })
    }

    /// The tensors in the order of [`Cell::states`](super::Cell::states), without h.
    pub(super) fn all(&self) -> [Option<&Tensor<B, T::State>>; 3] {
        [self.c.as_ref(), self.n.as_ref(), self.m.as_ref()]
    }

    /// Every tensor that is present, under its name.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&'static str, &View<B>)> {
        ["c", "n", "m"].into_iter().zip(self.all()).filter_map(|(name, one)| Some((name, &**one?)))
    }
}

/// What the backward pass needs of the forward pass besides h, without gaps. In f64 it is empty:
/// there the backward pass makes everything again.
#[derive(Clone, Debug)]
pub struct Saved<B: Backend, T: Float> {
    /// The gates of every step, (B, T, Gs, N, D): of LSTM i, f, z, o; of GRU r, z, q, g; of sLSTM
    /// i, f, σ(-f̄), z, o; of Elman h before it is clipped, where it is.
    pub gates: Option<View<B>>,
    /// c after every step, (B, T, N, D), of LSTM and sLSTM.
    pub c: Option<Tensor<B, T::State>>,
    /// n after every step, of sLSTM.
    pub n: Option<Tensor<B, T::State>>,
}

impl<B: Backend, T: Float> Saved<B, T> {
    fn new(backend: &B, problem: &Problem) -> Result<Self> {
        let shape = problem.saved_shape();
        let made = |state| {
            let is_there = problem.saves_states() && state < problem.cell.states().len();
            is_there.then(|| Tensor::new(backend, &problem.output_shape())).transpose()
        };
        Ok(Self {
            gates: match shape[2] {
                0 => None,
                _ => Some(View::new(backend, problem.saved_dtype(), &shape)?),
            },
            c: made(1)?,
            n: made(2)?,
        })
    }

    /// Every tensor that is present, under its name.
    pub(crate) fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = Vec::new();
        named.extend(self.gates.as_ref().map(|gates| ("saved gates", gates)));
        named.extend(self.c.as_ref().map(|c| ("saved c", &**c)));
        named.extend(self.n.as_ref().map(|n| ("saved n", &**n)));
        named
    }
}

/// What a recurrence gives.
#[derive(Clone, Debug)]
pub struct Outputs<B: Backend, T: Float> {
    /// h after every step, (B, T, N, D); 0 where a row has ended.
    pub h: Tensor<B, T>,
    /// The other states after every step, where [`Options::states`](super::Options::states) asked
    /// for them.
    pub states: Option<Sequences<B, T>>,
    /// The states after the last step.
    pub last: State<B, T>,
    /// What the backward pass needs, where [`Options::save`](super::Options::save) asked for it.
    pub saved: Option<Saved<B, T>>,
}

impl<B: Backend, T: Float> Outputs<B, T> {
    pub(super) fn new(backend: &B, problem: &Problem, states: bool) -> Result<Self> {
        Ok(Self {
            h: Tensor::new(backend, &problem.output_shape())?,
            states: if states { Some(Sequences::new(backend, problem)?) } else { None },
            last: State::new(backend, problem)?,
            saved: match problem.save {
                Save::Nothing => None,
                _ => Some(Saved::new(backend, problem)?),
            },
        })
    }

    /// The same tensors, to be written into.
    pub fn as_mut(&mut self) -> OutputsMut<'_, B, T> {
        OutputsMut {
            h: &mut self.h,
            states: self.states.as_mut(),
            last: Some(&mut self.last),
            saved: self.saved.as_mut(),
        }
    }
}

/// Where a recurrence writes.
#[derive(Debug)]
pub struct OutputsMut<'a, B: Backend, T: Float> {
    /// h after every step; the last axis has stride 1.
    pub h: &'a mut Tensor<B, T>,
    /// The other states after every step.
    pub states: Option<&'a mut Sequences<B, T>>,
    /// The states after the last step, without gaps. They may be the tensors that the states
    /// before the first step are read from.
    pub last: Option<&'a mut State<B, T>>,
    /// What the backward pass needs; there just where [`Options::save`](super::Options::save) asks
    /// for it.
    pub saved: Option<&'a mut Saved<B, T>>,
}

impl<B: Backend, T: Float> OutputsMut<'_, B, T> {
    /// Every tensor that is present, under its name.
    pub(crate) fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named = self.sequences();
        named.extend(self.last.as_deref().into_iter().flat_map(|last| last.named(LAST)));
        named
    }

    /// The same without the states after the last step.
    pub(super) fn sequences(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = vec![("h", &*self.h)];
        named.extend(self.states.as_deref().into_iter().flat_map(Sequences::named));
        named.extend(self.saved.as_deref().into_iter().flat_map(Saved::named));
        named
    }
}

/// Gradients of the inputs.
#[derive(Clone, Debug)]
pub struct Gradients<B: Backend, T: Float> {
    /// Of `wx`, in its shape; the last axis has stride 1.
    pub wx: Tensor<B, T>,
    /// Of `R`, without gaps.
    pub r: Tensor<B, T::State>,
    /// Of `b`, without gaps, where the call has one.
    pub b: Option<Tensor<B, T::State>>,
    /// Of `h0`, `c0` and `n0`, without gaps, where the call has them. That of `m0` is 0.
    pub initial: [Option<Tensor<B, T::State>>; 3],
}

/// The names of gradients of states before the first step.
pub(super) const INITIAL: [&str; 3] = ["dh0", "dc0", "dn0"];

impl<B: Backend, T: Float> Gradients<B, T> {
    pub(super) fn new(backend: &B, inputs: &Inputs<'_, B, T>) -> Result<Self> {
        let like = |parameter: Option<Parameter<'_, B>>| {
            parameter.map(|parameter| Tensor::new(backend, parameter.shape())).transpose()
        };
        let [h, c, n, _] = inputs.initial.all();
        Ok(Self {
            wx: Tensor::new(backend, inputs.wx.shape())?,
            r: Tensor::new(backend, inputs.r.shape())?,
            b: like(inputs.b)?,
            initial: [like(h)?, like(c)?, like(n)?],
        })
    }

    /// Every tensor that is present, under its name.
    pub(crate) fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = vec![("dwx", &self.wx), ("dR", &self.r)];
        named.extend(self.b.as_ref().map(|b| ("db", &**b)));
        let initial = INITIAL.into_iter().zip(&self.initial);
        named.extend(initial.filter_map(|(name, one)| Some((name, &**one.as_ref()?))));
        named
    }
}

impl Problem {
    /// The shape of `h`.
    pub fn output_shape(&self) -> [usize; 4] {
        [self.batch, self.steps, self.heads, self.width]
    }

    /// The shape of a state.
    pub fn state_shape(&self) -> [usize; 3] {
        [self.batch, self.heads, self.width]
    }

    /// The gates of a step that are kept for the backward pass.
    pub fn saved_gates(&self) -> usize {
        match self.save {
            Save::Nothing => 0,
            _ if self.dtype == DType::F64 => 0,
            _ => self.cell.saved_gates(self.clips).len(),
        }
    }

    /// The shape of what is kept of them.
    pub fn saved_shape(&self) -> [usize; 5] {
        [self.batch, self.steps, self.saved_gates(), self.heads, self.width]
    }

    /// The type of what is kept of them.
    pub fn saved_dtype(&self) -> DType {
        if self.save == Save::Wide { f32::DTYPE } else { self.dtype }
    }

    fn saves_states(&self) -> bool {
        self.save != Save::Nothing && self.dtype != DType::F64
    }
}
