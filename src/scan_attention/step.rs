//! One token at a time: states in place, in slots.

use super::check::{CHECK, divides};
use super::{NAME, Options, ScanAttention, Scores, State};
use crate::backend::{Backend, Cpu};
use crate::element::{DType, Element, Float};
use crate::parameter::Indices;
use crate::tensor::{Tensor, View};
use crate::{Error, Result};

/// The tensors of a step: those of a scan without the axis L.
#[derive(Debug)]
pub struct StepInputs<'a, B: Backend, T: Float> {
    /// s (B, H); or q (H, Dk) and k (B, Hk, Dk).
    pub scores: Scores<'a, B, T>,
    /// Values, (B, H, Dv); of Hk heads with keys.
    pub v: &'a Tensor<B, T>,
    /// (B): the slot of the state that entry b reads; b itself when absent. A negative one marks
    /// padding: o is 0 and no state is touched. No two entries may write one slot.
    pub state_indices: Option<Indices<'a, B>>,
    /// (B): the slot that entry b writes; the one that it reads when absent.
    pub out_indices: Option<Indices<'a, B>>,
}

impl<B: Backend, T: Float> StepInputs<'_, B, T> {
    /// Every tensor that is present, under its name.
    pub fn named(&self) -> Vec<(&'static str, &View<B>)> {
        let mut named: Vec<(&'static str, &View<B>)> = match &self.scores {
            Scores::Given(s) => vec![("s", s.view())],
            Scores::Keys { q, k } => vec![("q", q.view()), ("k", k)],
        };
        named.push(("v", self.v));
        named.extend(self.state_indices.as_ref().map(|view| ("state_indices", view.view())));
        named.extend(self.out_indices.as_ref().map(|view| ("out_indices", view.view())));
        named
    }
}

/// A step whose tensors fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepProblem {
    /// B, tokens.
    pub batch: usize,
    /// H, heads.
    pub heads: usize,
    /// Heads of the values, and of the keys.
    pub value_heads: usize,
    /// Dk; none where the scores are given.
    pub key_width: Option<usize>,
    /// Dv.
    pub width: usize,
    /// R, slots of the state.
    pub slots: usize,
    /// The element type of the activations.
    pub dtype: DType,
}

impl StepProblem {
    fn check<B: Backend, T: Float>(
        inputs: &StepInputs<'_, B, T>,
        options: &Options,
        state: &State<B, T>,
        o: &Tensor<B, T>,
    ) -> Result<Self> {
        options.check()?;
        let [batch, value_heads, width] = match **inputs.v.shape() {
            [batch, heads, width] => [batch, heads, width],
            _ => return Err(CHECK.wrong_shape("v", inputs.v, "shape (B, H, Dv)".to_owned())),
        };
        let (heads, key_width) = match &inputs.scores {
            Scores::Given(_) => (value_heads, None),
            Scores::Keys { q, .. } => match **q.shape() {
                [heads, key_width] => (heads, Some(key_width)),
                _ => return Err(CHECK.wrong_shape("q", q, "shape (H, Dk)".to_owned())),
            },
        };
        let slots = match **state.m.shape() {
            [slots, _] => slots,
            _ => return Err(CHECK.wrong_shape("m", &state.m, "shape (R, H)".to_owned())),
        };
        let dtype = T::DTYPE;
        let problem = Self { batch, heads, value_heads, key_width, width, slots, dtype };
        problem.check_shapes(inputs, state, o)?;
        let read = inputs.named();
        let mut written: Vec<(&'static str, &View<B>)> = vec![("o", o)];
        written.extend(state.named(["m", "u", "w"]));
        CHECK.same_device(inputs.v.backend(), read.iter().chain(&written).copied())?;
        CHECK.disjoint(&written, &read)?;
        Ok(problem)
    }

    fn check_shapes<B: Backend, T: Float>(
        &self,
        inputs: &StepInputs<'_, B, T>,
        state: &State<B, T>,
        o: &Tensor<B, T>,
    ) -> Result<()> {
        let (batch, heads, width) = (("B", self.batch), ("H", self.heads), ("Dv", self.width));
        let shared = ("Hk", self.value_heads);
        if !divides(self.value_heads, self.heads) {
            let expected = format!("a number of heads Hk that divides H = {}", self.heads);
            return Err(CHECK.wrong_shape("v", inputs.v, expected));
        }
        let floats = [T::State::DTYPE, T::DTYPE];
        match &inputs.scores {
            Scores::Given(s) => {
                CHECK.shape("s", s, &[batch, heads])?;
                CHECK.dtype("s", s, &floats)?;
                CHECK.contiguous("s", s)?;
            }
            Scores::Keys { q, k } => {
                CHECK.dtype("q", q, &floats)?;
                CHECK.contiguous("q", q)?;
                CHECK.shape("k", k, &[batch, shared, ("Dk", self.key_width.unwrap_or(0))])?;
                CHECK.contiguous("k", k)?;
            }
        }
        CHECK.contiguous("v", inputs.v)?;
        CHECK.shape("o", o, &[batch, heads, width])?;
        CHECK.contiguous("o", o)?;
        let slots = ("R", self.slots);
        CHECK.shape("m", &state.m, &[slots, heads])?;
        CHECK.shape("u", &state.u, &[slots, heads])?;
        CHECK.shape("w", &state.w, &[slots, heads, width])?;
        for (name, view) in state.named(["m", "u", "w"]) {
            CHECK.contiguous(name, view)?;
        }
        let indices =
            [("state_indices", &inputs.state_indices), ("out_indices", &inputs.out_indices)];
        for (name, indices) in indices {
            if let Some(indices) = indices {
                CHECK.shape(name, indices, &[batch])?;
                CHECK.dtype(name, indices, &[DType::I32])?;
                CHECK.contiguous(name, indices)?;
            }
        }
        match inputs.state_indices {
            None if self.slots < self.batch => {
                let expected = format!("slots for B = {} tokens", self.batch);
                Err(CHECK.wrong_shape("m", &state.m, expected))
            }
            _ => Ok(()),
        }
    }

    /// The slots that each token reads and writes, on the host; none for padding.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] for a slot that is not there, or one that two tokens write.
    pub(super) fn slots<T: Float>(
        &self,
        inputs: &StepInputs<'_, Cpu, T>,
    ) -> Result<Vec<Option<(usize, usize)>>> {
        let own = || (0..self.batch as i64).collect::<Vec<_>>();
        let read = inputs.state_indices.map_or_else(|| Ok(own()), |view| view.to_i64())?;
        let write = inputs.out_indices.map_or_else(|| Ok(read.clone()), |view| view.to_i64())?;
        let mut writer = vec![None; self.slots];
        let mut slots = Vec::with_capacity(self.batch);
        for (b, (&read, &write)) in read.iter().zip(&write).enumerate() {
            if read < 0 {
                slots.push(None);
                continue;
            }
            let known = |tensor: &str, slot: i64| {
                let known = usize::try_from(slot).ok().filter(|&slot| slot < self.slots);
                known.ok_or_else(|| wrong_slot(tensor, format!("slots below {}", self.slots), slot))
            };
            let from = known("state_indices", read)?;
            let tensor = if inputs.out_indices.is_some() { "out_indices" } else { "state_indices" };
            let to = known(tensor, write)?;
            if writer[to].replace(b).is_some() {
                return Err(wrong_slot(tensor, "each slot once".to_owned(), write));
            }
            slots.push(Some((from, to)));
        }
        Ok(slots)
    }

    /// Heads that share keys and values.
    pub fn group(&self) -> usize {
        self.heads.checked_div(self.value_heads).unwrap_or(0)
    }
}

fn wrong_slot(tensor: &str, expected: String, found: i64) -> Error {
    Error::Value { operation: NAME, tensor: tensor.to_owned(), expected, found: found.to_string() }
}

/// Takes one token per batch entry into the states, and gives the attention so far, (B, H, Dv).
/// The layout of the options does not matter here.
///
/// # Errors
///
/// As [`forward`](super::forward), and [`Error::Aliased`]; on the CPU [`Error::Value`] for slots
/// that are not there or are written twice, which other devices confine or leave to chance.
pub fn step<B: ScanAttention<T>, T: Float>(
    inputs: &StepInputs<'_, B, T>,
    options: &Options,
    state: &mut State<B, T>,
) -> Result<Tensor<B, T>> {
    let heads = match &inputs.scores {
        Scores::Given(s) => s.shape().get(1),
        Scores::Keys { q, .. } => q.shape().first(),
    };
    let shape = match (&**inputs.v.shape(), heads) {
        (&[batch, _, width], Some(&heads)) => [batch, heads, width],
        _ => return Err(CHECK.wrong_shape("v", inputs.v, "shape (B, H, Dv)".to_owned())),
    };
    let mut o = Tensor::new(inputs.v.backend(), &shape)?;
    step_into(inputs, options, state, &mut o)?;
    Ok(o)
}

/// The same into the caller's tensor, which must not share memory with any other.
///
/// # Errors
///
/// As [`step`].
pub fn step_into<B: ScanAttention<T>, T: Float>(
    inputs: &StepInputs<'_, B, T>,
    options: &Options,
    state: &mut State<B, T>,
    o: &mut Tensor<B, T>,
) -> Result<()> {
    let problem = StepProblem::check(inputs, options, state, o)?;
    inputs.v.backend().launch_step(&problem, inputs, options, state, o)
}
