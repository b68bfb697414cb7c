//! A case with its tensors and its exact results, run and compared.

use super::{Case, Tolerances};
use crate::backend::{Cpu, Named, on_backend};
use crate::collective::Lines;
use crate::cross_entropy::reference::{self, Exact, ExactGradients};
use crate::cross_entropy::{
    CrossEntropy, Gradients, Inputs, Logits, NAME, Options, OutputsMut, among_threads, backward,
    backward_into, forward, forward_into, split, whole,
};
use crate::element::{Element, Float};
use crate::named::downloaded;
use crate::parameter::Parameter;
use crate::tensor::View;
use crate::verify::Comparison;
use crate::verify::place::{OneBuffer, Output};
use crate::{Error, Result};

/// A case with its tensors and its exact results.
pub struct Prepared<T> {
    case: Case,
    inputs: Named<Cpu>,
    dloss: View<Cpu>,
    exact: Exact,
    gradients: ExactGradients,
    tolerances: Tolerances,
    element: std::marker::PhantomData<T>,
}

/// The tensors that get gaps between their lines.
const STRIDED: [&str; 6] = ["logits", "x", "weight", "dlogits", "dx", "dweight"];

impl<T: Float> Prepared<T> {
    /// Draws the tensors and evaluates the reference.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub fn new(case: &Case) -> Result<Self> {
        let (inputs, dloss) = split(&case.tensors::<T>()?);
        let Some(dloss) = dloss else { return Err(missing("dloss")) };
        let (typed, options) = (Inputs::<Cpu, T>::from_named(&inputs)?, case.options());
        let exact = reference::forward(&typed, &options)?;
        let gradients = reference::backward(&typed, &options, &exact.lse, &dloss.to_f64()?)?;
        let (case, tolerances) = (case.clone(), case.tolerances(T::DTYPE));
        let element = std::marker::PhantomData;
        Ok(Self { case, inputs, dloss, exact, gradients, tolerances, element })
    }

    /// The variants of a backend's forward pass that fit the case.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::variants_forward`].
    pub fn forward_variants<B: CrossEntropy<T>>(&self, backend: &B) -> Result<Vec<&'static str>> {
        backend.variants_forward(&self.case.problem(T::DTYPE)?, &self.case.options())
    }

    /// The variants of a backend's backward pass that fit the case.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::variants_backward`].
    pub fn backward_variants<B: CrossEntropy<T>>(&self, backend: &B) -> Result<Vec<&'static str>> {
        backend.variants_backward(&self.case.problem(T::DTYPE)?, &self.case.options())
    }

    /// Runs the forward pass with a variant, and compares every output with the reference.
    ///
    /// # Errors
    ///
    /// The call's error, or [`Error::Value`] where it wrote what it must not, or ranks differ.
    pub fn forward<B: CrossEntropy<T> + Lines>(
        &self,
        backend: &B,
        variant: &'static str,
    ) -> Result<Vec<Comparison>> {
        let options = self.case.options().with_variant(variant);
        let found = match (self.case.shards, self.case.one_buffer) {
            (1, false) => {
                let inputs = on_backend(backend, &self.inputs)?;
                let outputs = forward(&Inputs::<B, T>::from_named(&inputs)?, &options)?;
                downloaded([("loss", &*outputs.loss), ("lse", &*outputs.lse)])?
            }
            (1, true) => self.forward_in_one_buffer(backend, &options)?,
            _ => self.among(backend, &options, false)?,
        };
        let Exact { loss, lse, terms } = &self.exact;
        let most = self.tolerances.lse;
        Ok(vec![
            Comparison::within("loss", &found["loss"], loss, |i| 2.0 * most * terms[i])?,
            Comparison::within("lse", &found["lse"], lse, |i| most * (1.0 + lse[i].abs()))?,
        ])
    }

    /// What ranks give together, after a look at whether they give the same.
    fn among<B: CrossEntropy<T> + Lines>(
        &self,
        backend: &B,
        options: &Options,
        backward: bool,
    ) -> Result<Named<Cpu>> {
        let inputs = on_backend(backend, &self.inputs)?;
        let dloss = backward.then(|| self.dloss.to_backend(backend)).transpose()?;
        let ran = among_threads::<B, T>(&inputs, dloss.as_ref(), options, &self.case.bounds())?;
        let ranks: Vec<Named<Cpu>> = ran.into_iter().map(|(_, outputs)| outputs).collect();
        for (rank, outputs) in ranks.iter().enumerate() {
            for name in ["loss", "lse", "dx"].into_iter().filter(|name| outputs.contains_key(*name))
            {
                if outputs[name].to_bytes()? != ranks[0][name].to_bytes()? {
                    return Err(Error::Value {
                        operation: NAME,
                        tensor: name.to_owned(),
                        expected: "equal bits on all ranks".to_owned(),
                        found: format!("others on rank {rank} than on rank 0"),
                    });
                }
            }
        }
        whole(&ranks)
    }

    fn forward_in_one_buffer<B: CrossEntropy<T>>(
        &self,
        backend: &B,
        options: &Options,
    ) -> Result<Named<Cpu>> {
        let problem = self.case.problem(T::DTYPE)?;
        let state = T::State::DTYPE;
        let outputs: Vec<Output> =
            vec![("loss", state, vec![problem.losses()]), ("lse", state, vec![problem.tokens])];
        let placed = OneBuffer::new(backend, &self.inputs, &outputs, &STRIDED)?;
        let mut loss = placed.outputs["loss"].typed()?;
        let mut lse = placed.outputs["lse"].typed()?;
        let mut outputs = OutputsMut { loss: &mut loss, lse: &mut lse };
        forward_into(&Inputs::<B, T>::from_named(&placed.inputs)?, options, &mut outputs)?;
        placed.check_guards()?;
        downloaded([("loss", &*loss), ("lse", &*lse)])
    }

    /// Runs the backward pass with a variant, behind the planned forward pass, and compares every
    /// gradient with the reference.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn backward<B: CrossEntropy<T> + Lines>(
        &self,
        backend: &B,
        variant: &'static str,
    ) -> Result<Vec<Comparison>> {
        let options = self.case.options().with_variant(variant);
        let found = match self.case.shards {
            1 => self.backward_alone(backend, &options)?,
            _ => self.among(backend, &options, true)?,
        };
        let ExactGradients { logits, x, weight, terms } = &self.gradients;
        let most = self.tolerances.gradients;
        let all =
            [("dlogits", logits, terms[0]), ("dx", x, terms[1]), ("dweight", weight, terms[2])];
        let there = all.into_iter().filter(|(name, ..)| found.contains_key(*name));
        let compare = |(name, exact, terms): (&'static str, &Vec<f64>, f64)| {
            Comparison::of_norms(name, &found[name], exact, most, terms)
        };
        there.map(compare).collect()
    }

    fn backward_alone<B: CrossEntropy<T>>(
        &self,
        backend: &B,
        options: &Options,
    ) -> Result<Named<Cpu>> {
        let inputs = on_backend(backend, &self.inputs)?;
        let typed = Inputs::<B, T>::from_named(&inputs)?;
        let lse = forward(&typed, options)?.lse;
        if !self.case.one_buffer {
            let dloss = self.dloss.to_backend(backend)?;
            let dloss = Parameter::from_view(&dloss)?;
            let gradients = backward(&typed, options, &lse, dloss)?;
            return downloaded(gradients.named());
        }
        let outputs: Vec<Output> = match typed.logits {
            Logits::Given(logits) => vec![("dlogits", T::DTYPE, logits.shape().to_vec())],
            Logits::Linear { x, weight } => vec![
                ("dx", T::DTYPE, x.shape().to_vec()),
                ("dweight", T::DTYPE, weight.shape().to_vec()),
            ],
        };
        let mut all = self.inputs.clone();
        all.insert("dloss".to_owned(), self.dloss.clone());
        all.insert("lse".to_owned(), lse.to_backend(&Cpu)?);
        let placed = OneBuffer::new(backend, &all, &outputs, &STRIDED)?;
        let mut inputs = placed.inputs.clone();
        let (Some(dloss), Some(lse)) = (inputs.remove("dloss"), inputs.remove("lse")) else {
            return Err(missing("lse"));
        };
        let mut gradients = match placed.outputs.get("dlogits") {
            Some(logits) => Gradients::Given(logits.typed()?),
            None => Gradients::Linear {
                x: placed.outputs["dx"].typed()?,
                weight: placed.outputs["dweight"].typed()?,
            },
        };
        let typed = Inputs::<B, T>::from_named(&inputs)?;
        let dloss = Parameter::from_view(&dloss)?;
        backward_into(&typed, options, lse.as_typed()?, dloss, &mut gradients)?;
        placed.check_guards()?;
        downloaded(gradients.named())
    }
}

fn missing(tensor: &str) -> Error {
    Error::Tensor {
        operation: NAME,
        tensor: tensor.to_owned(),
        expected: "this tensor".to_owned(),
        found: "none".to_owned(),
    }
}
