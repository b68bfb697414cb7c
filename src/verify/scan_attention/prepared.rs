//! A case with its tensors and its exact results, run and compared.

use super::{Case, Tolerances};
use crate::Result;
use crate::backend::{Backend, Cpu, Named, on_backend};
use crate::element::{DType, Element, Float};
use crate::scan_attention::reference::{self, Exact, ExactGradients};
use crate::scan_attention::{
    Gradients, Inputs, Layout, Options, OutputGradients, Outputs, OutputsMut, Problem, Saved,
    ScanAttention, ScoreGradients, Scores, State, backward, backward_into, forward, forward_into,
    split,
};
use crate::tensor::{Tensor, View};
use crate::verify::Comparison;
use crate::verify::place::{OneBuffer, Output};

/// A case with its tensors and its exact results.
pub struct Prepared<T> {
    case: Case,
    inputs: Named<Cpu>,
    given: Named<Cpu>,
    exact: Exact,
    gradients: ExactGradients,
    tolerances: Tolerances,
    element: std::marker::PhantomData<T>,
}

impl<T: Float> Prepared<T> {
    /// Draws the tensors and evaluates the reference.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn new(case: &Case, tolerances: Tolerances) -> Result<Self> {
        let (inputs, given) = split(&case.tensors::<T>()?);
        let typed = Inputs::<Cpu, T>::from_named(&inputs)?;
        let exact = reference::forward(&typed, &case.options())?;
        let gradients = reference::backward(
            &typed,
            &case.options(),
            &OutputGradients::<Cpu, T>::from_named(&given)?,
        )?;
        let element = std::marker::PhantomData;
        Ok(Self { case: case.clone(), inputs, given, exact, gradients, tolerances, element })
    }

    fn problem(&self) -> Result<Problem> {
        Problem::check(&Inputs::<Cpu, T>::from_named(&self.inputs)?, &self.case.options())
    }

    /// The variants of a backend's forward pass that fit the case.
    ///
    /// # Errors
    ///
    /// As [`ScanAttention::variants_forward`].
    pub fn forward_variants<B: ScanAttention<T>>(&self, backend: &B) -> Result<Vec<&'static str>> {
        backend.variants_forward(&self.problem()?, &self.case.options())
    }

    /// The variants of a backend's backward pass that fit the case.
    ///
    /// # Errors
    ///
    /// As [`ScanAttention::variants_backward`].
    pub fn backward_variants<B: ScanAttention<T>>(&self, backend: &B) -> Result<Vec<&'static str>> {
        backend.variants_backward(&self.problem()?, &self.case.options())
    }

    /// Runs the forward pass with a variant, and compares every output with the reference.
    ///
    /// # Errors
    ///
    /// The call's error, or [`Error::Value`](crate::Error::Value) where it wrote what it must not.
    pub fn forward<B: ScanAttention<T>>(
        &self,
        backend: &B,
        variant: &'static str,
    ) -> Result<Vec<Comparison>> {
        let options = self.case.options().with_variant(variant);
        if self.case.one_buffer {
            return self.forward_in_one_buffer(backend, &options);
        }
        let inputs = on_backend(backend, &self.inputs)?;
        let Outputs { o, lse, carry, saved } =
            forward(&Inputs::<B, T>::from_named(&inputs)?, &options)?;
        self.compare(&o, &lse, &carry, saved.as_ref())
    }

    fn forward_in_one_buffer<B: ScanAttention<T>>(
        &self,
        backend: &B,
        options: &Options,
    ) -> Result<Vec<Comparison>> {
        let problem = self.problem()?;
        let state = T::State::DTYPE;
        let [rows, heads, width] = problem.state_shape();
        let [tiles, values, scores] = problem.saved_shapes();
        let mut outputs: Vec<Output> = vec![
            ("o", T::DTYPE, problem.output_shape().to_vec()),
            ("lse", state, scores.clone()),
            ("m", state, vec![rows, heads]),
            ("u", state, vec![rows, heads]),
            ("w", state, vec![rows, heads, width]),
            ("saved m", state, tiles.clone()),
            ("saved u", state, tiles),
            ("saved w", state, values),
        ];
        if problem.key_width.is_some() {
            outputs.push(("saved scores", state, scores));
        }
        let strided = ["s", "k", "v", "o"];
        let placed = OneBuffer::new(backend, &self.inputs, &outputs, &strided)?;
        let numbers = |name: &str| placed.outputs[name].typed::<T::State>();
        let mut o = placed.outputs["o"].typed::<T>()?;
        let mut lse = numbers("lse")?;
        let mut carry = State { m: numbers("m")?, u: numbers("u")?, w: numbers("w")? };
        let mut saved = Saved {
            m: numbers("saved m")?,
            u: numbers("saved u")?,
            w: numbers("saved w")?,
            scores: problem.key_width.map(|_| numbers("saved scores")).transpose()?,
        };
        forward_into(
            &Inputs::<B, T>::from_named(&placed.inputs)?,
            options,
            &mut OutputsMut {
                o: &mut o,
                lse: Some(&mut lse),
                carry: Some(&mut carry),
                saved: Some(&mut saved),
            },
        )?;
        let comparisons = self.compare(&o, &lse, &carry, Some(&saved))?;
        placed.check_guards()?;
        Ok(comparisons)
    }

    fn compare<B: Backend>(
        &self,
        o: &Tensor<B, T>,
        lse: &Tensor<B, T::State>,
        State { m, u, w }: &State<B, T>,
        saved: Option<&Saved<B, T>>,
    ) -> Result<Vec<Comparison>> {
        let Exact { o: exact_o, lse: exact_lse, carry, saved: exact_saved, terms } = &self.exact;
        let tolerances = self.tolerances;
        // The bound of lse is 2e-6 (1 + |lse|).
        let largest = largest(exact_lse);
        let lse_tolerance = tolerances.carry * (1.0 + largest) / largest.max(f64::MIN_POSITIVE);
        let mut all: Vec<(&'static str, &View<B>, &[f64], f64)> =
            vec![("lse", lse, exact_lse, lse_tolerance)];
        for (name, view, exact) in
            [("m", m as &View<B>, &carry[0]), ("u", u, &carry[1]), ("w", w, &carry[2])]
        {
            all.push((name, view, exact, tolerances.carry));
        }
        for (name, view) in saved.into_iter().flat_map(Saved::named) {
            let exact = match name {
                "saved m" => &exact_saved[0],
                "saved u" => &exact_saved[1],
                "saved w" => &exact_saved[2],
                _ => &exact_saved[3],
            };
            all.push((name, view, exact, tolerances.carry));
        }
        let mut comparisons =
            vec![Comparison::new("o", &self.heads_first(o)?, exact_o, tolerances.o)?];
        for (name, view, exact, tolerance) in all {
            // Scores, of which m is the largest, may be the small difference of large terms.
            let is_score = matches!(name, "m" | "saved m" | "saved scores");
            let terms = if is_score { *terms } else { 0.0 };
            let view = view.to_backend(&Cpu)?;
            comparisons.push(Comparison::of_terms(name, &view, exact, tolerance, terms)?);
        }
        Ok(comparisons)
    }

    /// Runs the backward pass with a variant, behind the planned forward pass, and compares every
    /// gradient with the reference.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn backward<B: ScanAttention<T>>(
        &self,
        backend: &B,
        variant: &'static str,
    ) -> Result<Vec<Comparison>> {
        let options = self.case.options().with_variant(variant);
        let inputs = on_backend(backend, &self.inputs)?;
        let inputs = Inputs::<B, T>::from_named(&inputs)?;
        let saved = forward(&inputs, &options)?.saved;
        // The options ask for it.
        let Some(saved) = saved else { return Ok(Vec::new()) };
        if self.case.one_buffer {
            return self.backward_in_one_buffer(backend, &options, &saved);
        }
        let given = on_backend(backend, &self.given)?;
        let given = OutputGradients::<B, T>::from_named(&given)?;
        self.compare_gradients(&backward(&inputs, &options, &saved, &given)?)
    }

    fn backward_in_one_buffer<B: ScanAttention<T>>(
        &self,
        backend: &B,
        options: &Options,
        saved: &Saved<B, T>,
    ) -> Result<Vec<Comparison>> {
        let typed = Inputs::<Cpu, T>::from_named(&self.inputs)?;
        let state = T::State::DTYPE;
        let mut outputs: Vec<Output> = vec![("dv", T::DTYPE, typed.v.shape().to_vec())];
        match &typed.scores {
            Scores::Given(s) => outputs.push(("ds", s.dtype(), s.shape().to_vec())),
            Scores::Keys { q, k } => outputs
                .extend([("dq", state, q.shape().to_vec()), ("dk", T::DTYPE, k.shape().to_vec())]),
        }
        let [rows, heads, width] = self.problem()?.state_shape();
        if self.case.carry {
            outputs.extend([
                ("dm0", state, vec![rows, heads]),
                ("du0", state, vec![rows, heads]),
                ("dw0", state, vec![rows, heads, width]),
            ]);
        }
        let mut all = self.inputs.clone();
        all.extend(self.given.clone());
        let strided = ["s", "k", "v", "do", "ds", "dk", "dv"];
        let placed = OneBuffer::new(backend, &all, &outputs, &strided)?;
        let (inputs, given): (Named<B>, Named<B>) =
            placed.inputs.clone().into_iter().partition(|(name, _)| self.inputs.contains_key(name));
        let numbers = |name: &str| placed.outputs[name].typed::<T::State>();
        let mut gradients = Gradients {
            v: placed.outputs["dv"].typed::<T>()?,
            scores: match placed.outputs.get("ds") {
                Some(ds) => ScoreGradients::Given(ds.clone()),
                None => ScoreGradients::Keys {
                    q: numbers("dq")?,
                    k: placed.outputs["dk"].typed::<T>()?,
                },
            },
            carry: match self.case.carry {
                true => Some(State { m: numbers("dm0")?, u: numbers("du0")?, w: numbers("dw0")? }),
                false => None,
            },
        };
        backward_into(
            &Inputs::<B, T>::from_named(&inputs)?,
            options,
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
        let ExactGradients { dv, ds, dq, dk, carry, terms, .. } = &self.gradients;
        let Tolerances { activations, scores, parameters, .. } = self.tolerances;
        // Where all scores lie far apart, ds is the small difference of large terms: what is
        // bounded is the error of these. So it is with dm0.
        let of_terms = Comparison::of_terms;
        let mut comparisons =
            vec![Comparison::new("dv", &self.heads_first(&gradients.v)?, dv, activations)?];
        match &gradients.scores {
            ScoreGradients::Given(view) => {
                let tolerance = if view.dtype() == DType::F32 { scores } else { activations };
                let view = view.to_backend(&Cpu)?;
                comparisons.push(of_terms("ds", &view, ds, tolerance, terms[0])?);
            }
            ScoreGradients::Keys { q, k } => {
                let (q, k) = (q.to_backend(&Cpu)?, self.heads_first(k)?);
                comparisons.push(Comparison::new("dq", &q, dq, parameters)?);
                comparisons.push(Comparison::new("dk", &k, dk, activations)?);
            }
        }
        if let Some(State { m, u, w }) = &gradients.carry {
            comparisons.extend([
                of_terms("dm0", &m.to_backend(&Cpu)?, &carry[0], parameters, terms[1])?,
                Comparison::new("du0", &u.to_backend(&Cpu)?, &carry[1], parameters)?,
                Comparison::new("dw0", &w.to_backend(&Cpu)?, &carry[2], parameters)?,
            ]);
        }
        Ok(comparisons)
    }

    /// A tensor on the CPU, with heads before steps.
    fn heads_first<B: Backend>(&self, tensor: &Tensor<B, T>) -> Result<View<Cpu>> {
        let view = tensor.to_backend(&Cpu)?;
        match self.case.layout {
            Layout::Bhld => Ok(view),
            Layout::Blhd => view.transposed(1, 2),
        }
    }
}

/// The largest magnitude.
fn largest(values: &[f64]) -> f64 {
    values.iter().filter(|x| x.is_finite()).fold(0.0, |max, x| x.abs().max(max))
}
