//! A case with its tensors and its exact results, run and compared.

use super::case::is_narrow;
use super::{Case, Tolerance, Tolerances};
use crate::Result;
use crate::backend::{Backend, Cpu, Named, on_backend};
use crate::element::{DType, Element, Float};
use crate::rnn::reference::{self, Exact, ExactGradients};
use crate::rnn::{
    Gradients, Inputs, Options, OutputGradients, Outputs, OutputsMut, Problem, Rnn, Saved,
    Sequences, State, backward, backward_into, forward, forward_into, split,
};
use crate::tensor::{Tensor, View};
use crate::verify::Comparison;
use crate::verify::place::{OneBuffer, Output};

/// The names of outputs of every step, of last states and of gradients, with those that
/// comparisons in the norm have.
const SEQUENCES: [[&str; 2]; 4] =
    [["h", "h, norm"], ["c", "c, norm"], ["n", "n, norm"], ["m", "m, norm"]];
const LAST: [[&str; 2]; 4] = [
    ["last_h", "last_h, norm"],
    ["last_c", "last_c, norm"],
    ["last_n", "last_n, norm"],
    ["last_m", "last_m, norm"],
];
const GRADIENTS: [[&str; 2]; 6] = [
    ["dwx", "dwx, norm"],
    ["dR", "dR, norm"],
    ["db", "db, norm"],
    ["dh0", "dh0, norm"],
    ["dc0", "dc0, norm"],
    ["dn0", "dn0, norm"],
];

/// A case with its tensors and its exact results.
pub struct Prepared<T> {
    case: Case,
    inputs: Named<Cpu>,
    given: Named<Cpu>,
    exact: Exact,
    gradients: ExactGradients,
    /// What errors of gradients are relative to, where that is more than the gradient itself.
    least: Least,
    tolerances: Tolerances,
    element: std::marker::PhantomData<T>,
}

/// The least that errors are relative to: a largest value, and a norm.
#[derive(Clone, Copy, Default)]
struct Least {
    largest: f64,
    norm: f64,
}

impl Least {
    /// Of all gradients that are given, what lies behind the ends of rows left out.
    fn of(given: &Named<Cpu>) -> Result<Self> {
        let mut least = Self::default();
        for view in given.values() {
            for value in view.to_f64()?.into_iter().filter(|value| value.is_finite()) {
                least.largest = least.largest.max(value.abs());
                least.norm += value * value;
            }
        }
        Ok(Self { norm: least.norm.sqrt(), ..least })
    }

    /// Of states, which are sums of numbers up to 1. A few of them may all be small beside these, and
    /// in 16 bits the operands of their pre-activations are rounded.
    fn of_states(dtype: DType, count: usize) -> Self {
        match is_narrow(dtype) && count < FEW {
            true => Self { largest: 1.0, norm: (count as f64).sqrt() },
            false => Self::default(),
        }
    }
}

impl<T: Float> Prepared<T> {
    /// Draws the tensors and evaluates the reference.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn new(case: &Case) -> Result<Self> {
        let (inputs, given) = split(&case.tensors::<T>()?);
        let typed = Inputs::<Cpu, T>::from_named(&inputs)?;
        let exact = reference::forward(&typed, &case.options())?;
        let of_outputs = OutputGradients::<Cpu, T>::from_named(&given)?;
        let gradients = reference::backward(&typed, &case.options(), &of_outputs)?;
        // Of few elements the tolerances, which hold for many together, say little; and what
        // comes from the last states alone may be the small rest of a large gradient.
        let few = exact.states[0].len() < 512 || !given.contains_key("dh");
        let least = if few { Least::of(&given)? } else { Least::default() };
        let (case, tolerances) = (case.clone(), case.tolerances(T::DTYPE));
        let element = std::marker::PhantomData;
        Ok(Self { case, inputs, given, exact, gradients, least, tolerances, element })
    }

    fn problem(&self) -> Result<Problem> {
        self.case.problem(T::DTYPE)
    }

    /// The variants of a backend's forward pass that fit the case.
    ///
    /// # Errors
    ///
    /// As [`Rnn::variants_forward`].
    pub fn forward_variants<B: Rnn<T>>(&self, backend: &B) -> Result<Vec<&'static str>> {
        backend.variants_forward(&self.problem()?, &self.case.options())
    }

    /// The variants of a backend's backward pass that fit the case.
    ///
    /// # Errors
    ///
    /// As [`Rnn::variants_backward`].
    pub fn backward_variants<B: Rnn<T>>(&self, backend: &B) -> Result<Vec<&'static str>> {
        backend.variants_backward(&self.problem()?, &self.case.options())
    }

    /// Runs the forward pass with a variant, and compares every output with the reference.
    ///
    /// # Errors
    ///
    /// The call's error, or [`Error::Value`](crate::Error::Value) where it wrote what it must not.
    pub fn forward<B: Rnn<T>>(
        &self,
        backend: &B,
        variant: &'static str,
    ) -> Result<Vec<Comparison>> {
        let options = self.case.options().with_variant(variant);
        if self.case.one_buffer {
            return self.forward_in_one_buffer(backend, &options);
        }
        let inputs = on_backend(backend, &self.inputs)?;
        let Outputs { h, states, last, .. } =
            forward(&Inputs::<B, T>::from_named(&inputs)?, &options)?;
        self.compare(&h, states.as_ref(), &last)
    }

    fn forward_in_one_buffer<B: Rnn<T>>(
        &self,
        backend: &B,
        options: &Options,
    ) -> Result<Vec<Comparison>> {
        let problem = self.problem()?;
        let (state, states) = (T::State::DTYPE, self.case.cell.states().len());
        let sequence = problem.output_shape().to_vec();
        let mut outputs: Vec<Output> = vec![("h", T::DTYPE, sequence.clone())];
        for [name, _] in &LAST[..states] {
            outputs.push((name, state, problem.state_shape().to_vec()));
        }
        for [name, _] in &SEQUENCES[1..states] {
            outputs.push((name, state, sequence.clone()));
        }
        if problem.saved_gates() > 0 {
            outputs.push(("gates", problem.saved_dtype(), problem.saved_shape().to_vec()));
        }
        let saves = T::DTYPE != DType::F64;
        for name in ["kept c", "kept n"].into_iter().take(if saves { states.min(3) - 1 } else { 0 })
        {
            outputs.push((name, state, sequence.clone()));
        }
        let placed = OneBuffer::new(backend, &self.inputs, &outputs, &["wx", "h"])?;
        let numbers =
            |name: &str| placed.outputs.get(name).map(|view| view.typed::<T::State>()).transpose();
        let mut h = placed.outputs["h"].typed::<T>()?;
        let mut states = Sequences { c: numbers("c")?, n: numbers("n")?, m: numbers("m")? };
        let mut last = State {
            h: placed.outputs["last_h"].typed::<T::State>()?,
            c: numbers("last_c")?,
            n: numbers("last_n")?,
            m: numbers("last_m")?,
        };
        let mut saved = Saved {
            gates: placed.outputs.get("gates").cloned(),
            c: numbers("kept c")?,
            n: numbers("kept n")?,
        };
        forward_into(
            &Inputs::<B, T>::from_named(&placed.inputs)?,
            options,
            &mut OutputsMut {
                h: &mut h,
                states: Some(&mut states),
                last: Some(&mut last),
                saved: Some(&mut saved),
            },
        )?;
        let comparisons = self.compare(&h, Some(&states), &last)?;
        placed.check_guards()?;
        Ok(comparisons)
    }

    fn compare<B: Backend>(
        &self,
        h: &Tensor<B, T>,
        states: Option<&Sequences<B, T>>,
        last: &State<B, T>,
    ) -> Result<Vec<Comparison>> {
        let (exact, tolerances) = (&self.exact, self.tolerances);
        let mut all = Vec::new();
        let of_states = |all: &mut Vec<_>, names, view: &View<B>, exact: &[f64], tolerance| {
            compare(all, names, view, exact, tolerance, Least::of_states(T::DTYPE, exact.len()))
        };
        of_states(&mut all, SEQUENCES[0], h, &exact.states[0], tolerances.states)?;
        let sequences = states.into_iter().flat_map(|states| states.named());
        for (i, (_, view)) in sequences.enumerate() {
            of_states(&mut all, SEQUENCES[i + 1], view, &exact.states[i + 1], tolerances.states)?;
        }
        let last = [Some(&last.h), last.c.as_ref(), last.n.as_ref(), last.m.as_ref()];
        for (i, view) in last.into_iter().flatten().enumerate() {
            of_states(&mut all, LAST[i], view, &exact.last[i], tolerances.last)?;
        }
        Ok(all)
    }

    /// Runs the backward pass with a variant, behind the planned forward pass, and compares every
    /// gradient with the reference.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn backward<B: Rnn<T>>(
        &self,
        backend: &B,
        variant: &'static str,
    ) -> Result<Vec<Comparison>> {
        let options = self.case.options().with_variant(variant);
        let inputs = on_backend(backend, &self.inputs)?;
        let inputs = Inputs::<B, T>::from_named(&inputs)?;
        let Outputs { h, saved, .. } = forward(&inputs, &options)?;
        // The options ask for it.
        let Some(saved) = saved else { return Ok(Vec::new()) };
        if self.case.one_buffer {
            return self.backward_in_one_buffer(backend, &options, &h, &saved);
        }
        let given = on_backend(backend, &self.given)?;
        let given = OutputGradients::<B, T>::from_named(&given)?;
        self.compare_gradients(&backward(&inputs, &options, &h, &saved, &given)?)
    }

    fn backward_in_one_buffer<B: Rnn<T>>(
        &self,
        backend: &B,
        options: &Options,
        h: &Tensor<B, T>,
        saved: &Saved<B, T>,
    ) -> Result<Vec<Comparison>> {
        let state = T::State::DTYPE;
        let mut outputs: Vec<Output> = vec![("dwx", T::DTYPE, self.inputs["wx"].shape().to_vec())];
        let others = [("R", "dR"), ("b", "db"), ("h0", "dh0"), ("c0", "dc0"), ("n0", "dn0")];
        for (input, output) in others {
            if let Some(input) = self.inputs.get(input) {
                outputs.push((output, state, input.shape().to_vec()));
            }
        }
        let mut all = self.inputs.clone();
        all.extend(self.given.clone());
        let placed = OneBuffer::new(backend, &all, &outputs, &["wx", "dh", "dwx"])?;
        let (inputs, given): (Named<B>, Named<B>) =
            placed.inputs.clone().into_iter().partition(|(name, _)| self.inputs.contains_key(name));
        let numbers =
            |name: &str| placed.outputs.get(name).map(|view| view.typed::<T::State>()).transpose();
        let mut gradients = Gradients {
            wx: placed.outputs["dwx"].typed::<T>()?,
            r: placed.outputs["dR"].typed::<T::State>()?,
            b: numbers("db")?,
            initial: [numbers("dh0")?, numbers("dc0")?, numbers("dn0")?],
        };
        backward_into(
            &Inputs::<B, T>::from_named(&inputs)?,
            options,
            h,
            saved,
            &OutputGradients::<B, T>::from_named(&given)?,
            &mut gradients,
        )?;
        let comparisons = self.compare_gradients(&gradients)?;
        placed.check_guards()?;
        Ok(comparisons)
    }

    fn compare_gradients<B: Backend>(
        &self,
        gradients: &Gradients<B, T>,
    ) -> Result<Vec<Comparison>> {
        let ExactGradients { wx, r, b, initial, .. } = &self.gradients;
        let mut all = Vec::new();
        let mut compare = |i: usize, view: &View<B>, exact: &[f64]| {
            compare(&mut all, GRADIENTS[i], view, exact, self.tolerances.gradients, self.least)
        };
        compare(0, &gradients.wx, wx)?;
        compare(1, &gradients.r, r)?;
        if let Some(view) = &gradients.b {
            compare(2, view, b)?;
        }
        for (i, (view, exact)) in gradients.initial.iter().zip(initial).enumerate() {
            if let Some(view) = view {
                compare(3 + i, view, exact)?;
            }
        }
        Ok(all)
    }
}

/// Fewer numbers than this may all be rounded by nearly half an ulp to the same side: the tolerance
/// in the norm is for many.
const FEW: usize = 64;

/// Compares by the largest value and by the norm.
fn compare<B: Backend>(
    all: &mut Vec<Comparison>,
    [name, in_norm]: [&'static str; 2],
    view: &View<B>,
    exact: &[f64],
    tolerance: Tolerance,
    least: Least,
) -> Result<()> {
    let view = view.to_backend(&Cpu)?;
    all.push(Comparison::of_terms(name, &view, exact, tolerance.largest, least.largest)?);
    let norm = if exact.len() < FEW { tolerance.largest } else { tolerance.norm };
    all.push(Comparison::of_norms(in_norm, &view, exact, norm, least.norm)?);
    Ok(())
}
