//! The backward pass of a case.

use std::collections::BTreeMap;

use super::Case;
use crate::Result;
use crate::backend::{Backend, Cpu, Named, on_backend};
use crate::element::{DType, Element, Float};
use crate::selective_scan::reference::{self, ExactGradients};
use crate::selective_scan::{
    GradientsMut, Inputs, Layout, Options, OutputGradients, Outputs, Problem, SelectiveScan,
    backward, backward_into, forward,
};
use crate::tensor::{Tensor, View};
use crate::verify::Comparison;
use crate::verify::place::{OneBuffer, Output};

/// The backward pass of a case with its tensors and its exact results.
pub(super) struct PreparedBackward<T> {
    case: Case,
    inputs: Named<Cpu>,
    outer: Named<Cpu>,
    exact: ExactGradients,
    /// Of activations' gradients, of those of maps, of the others.
    tolerances: [f64; 3],
    element: std::marker::PhantomData<T>,
}

impl<T: Float> PreparedBackward<T> {
    /// Draws the tensors and evaluates the reference.
    pub fn new(case: &Case, tolerances: [f64; 3]) -> Result<Self> {
        let (inputs, outer) = (case.tensors::<T>()?, case.output_gradients::<T>()?);
        let exact = reference::backward(
            &Inputs::<Cpu, T>::from_named(&inputs)?,
            &case.options(),
            &OutputGradients::from_named(&outer)?,
        )?;
        let element = std::marker::PhantomData;
        Ok(Self { case: case.clone(), inputs, outer, exact, tolerances, element })
    }

    /// The variants of a backend that fit the case.
    pub fn variants<B: SelectiveScan<T>>(&self, backend: &B) -> Result<Vec<&'static str>> {
        let options = self.case.options();
        let problem = Problem::check(&Inputs::<Cpu, T>::from_named(&self.inputs)?, &options)?;
        backend.variants_backward(&problem, &options)
    }

    /// Runs both passes, the backward one with a variant, and compares every gradient with the
    /// reference.
    pub fn run<B: SelectiveScan<T>>(
        &self,
        backend: &B,
        variant: &'static str,
    ) -> Result<Vec<Comparison>> {
        let options = self.case.options().with_variant(variant);
        let named = on_backend(backend, &self.inputs)?;
        let inputs = Inputs::<B, T>::from_named(&named)?;
        let Outputs { saved, .. } = forward(&inputs, &options)?;
        let Some(saved) = saved else { return Ok(Vec::new()) };
        if self.case.one_buffer {
            return self.run_in_one_buffer(backend, &options, &saved);
        }
        let outer = on_backend(backend, &self.outer)?;
        let gradients = backward(&inputs, &options, &saved, &OutputGradients::from_named(&outer)?)?;
        self.compare(gradients.named())
    }

    fn run_in_one_buffer<B: SelectiveScan<T>>(
        &self,
        backend: &B,
        options: &Options,
        saved: &Tensor<B, T::State>,
    ) -> Result<Vec<Comparison>> {
        let mut read = self.inputs.clone();
        read.extend(self.outer.clone());
        read.insert("saved".to_owned(), saved.to_backend(&Cpu)?);
        let placed = OneBuffer::new(backend, &read, &self.outputs(options)?, &STRIDED)?;
        let (outer, inputs): (Named<B>, Named<B>) =
            placed.inputs.clone().into_iter().partition(|(name, _)| OUTER.contains(&name.as_str()));
        let mut written = Written::<B, T>::new(&placed.outputs)?;
        backward_into(
            &Inputs::<B, T>::from_named(&inputs)?,
            options,
            outer["saved"].as_typed()?,
            &OutputGradients::from_named(&outer)?,
            &mut written.as_mut(),
        )?;
        let gradients: Vec<(&'static str, &View<B>)> = self
            .outputs(options)?
            .into_iter()
            .filter_map(|(name, ..)| Some((name, placed.outputs.get(name)?)))
            .collect();
        let comparisons = self.compare(gradients)?;
        placed.check_guards()?;
        Ok(comparisons)
    }

    /// The gradients that a call gives, each with the shape of its input.
    fn outputs(&self, options: &Options) -> Result<Vec<Output>> {
        let inputs = Inputs::<Cpu, T>::from_named(&self.inputs)?;
        let problem = Problem::check(&inputs, options)?;
        let state = T::State::DTYPE;
        let map = |constant: bool| problem.map_gradient_dtype::<T>(constant, options);
        let gradients = [
            ("du", "u", T::DTYPE),
            ("ddelta", "delta", T::DTYPE),
            ("dz", "z", T::DTYPE),
            ("dA", "A", state),
            ("dB", "B", map(problem.b_constant)),
            ("dC", "C", map(problem.c_constant)),
            ("dD", "D", state),
            ("ddelta_bias", "delta_bias", state),
        ];
        let shape = |name: &str| self.inputs.get(name).map(|input| input.shape().to_vec());
        let present = |(gradient, input, dtype): (&'static str, &str, DType)| {
            shape(input).map(|shape| (gradient, dtype, shape))
        };
        let mut outputs: Vec<Output> = gradients.into_iter().filter_map(present).collect();
        outputs.push(("dh0", state, problem.state_shape().to_vec()));
        Ok(outputs)
    }

    fn compare<B: Backend>(&self, found: Vec<(&'static str, &View<B>)>) -> Result<Vec<Comparison>> {
        let [activation, map, parameter] = self.tolerances;
        found
            .into_iter()
            .map(|(name, gradient)| {
                let gradient = gradient.to_backend(&Cpu)?;
                let gradient = match (self.case.layout, gradient.shape().len()) {
                    (Layout::Bld, 3) if name != "dh0" => gradient.transposed(1, 2)?,
                    (Layout::Bld, 4) => gradient.transposed(1, 2)?.transposed(2, 3)?,
                    _ => gradient,
                };
                let exact = &self.exact;
                // Hundreds of terms that cancel in a single channel leave the error of the sum, not
                // of its value, to be judged.
                let terms = match name {
                    "dA" => exact.terms[0],
                    "dD" => exact.terms[1],
                    "ddelta_bias" => exact.terms[2],
                    // A state that is all but forgotten.
                    "dh0" => exact.before_decay * FORGOTTEN,
                    _ => 0.0,
                };
                let (values, tolerance) = match name {
                    "du" => (&exact.du, activation),
                    "ddelta" => (&exact.ddelta, activation),
                    "dz" => (&exact.dz, activation),
                    "dB" if gradient.shape().len() == 4 => (&exact.db, map),
                    "dC" if gradient.shape().len() == 4 => (&exact.dc, map),
                    "dB" => (&exact.db, parameter),
                    "dC" => (&exact.dc, parameter),
                    "dA" => (&exact.da, parameter),
                    "dD" => (&exact.dd, parameter),
                    "ddelta_bias" => (&exact.ddelta_bias, parameter),
                    _ => (&exact.dh0, parameter),
                };
                Comparison::of_terms(name, &gradient, values, tolerance, terms)
            })
            .collect()
    }
}

/// The share of a gradient that counts as nothing, 2^-64: a decay e^-44, of whose exponent the
/// roundings of f32 leave 8e-6.
const FORGOTTEN: f64 = 1.0 / (1u128 << 64) as f64;

/// Tensors whose lines may have gaps.
const STRIDED: [&str; 7] = ["u", "delta", "z", "dout", "du", "ddelta", "dz"];

/// What is read besides the inputs.
const OUTER: [&str; 3] = ["dout", "dlast_state", "saved"];

/// Placed gradients, to be written into.
struct Written<B: Backend, T: Float> {
    activations: BTreeMap<&'static str, Tensor<B, T>>,
    states: BTreeMap<&'static str, Tensor<B, T::State>>,
    maps: BTreeMap<&'static str, View<B>>,
}

impl<B: Backend, T: Float> Written<B, T> {
    fn new(placed: &Named<B>) -> Result<Self> {
        let mut written =
            Self { activations: BTreeMap::new(), states: BTreeMap::new(), maps: BTreeMap::new() };
        let place = |name: &&'static str| placed.get(*name).map(|view| (*name, view));
        for (name, view) in ["du", "ddelta", "dz"].iter().filter_map(place) {
            written.activations.insert(name, view.typed()?);
        }
        for (name, view) in ["dA", "dD", "ddelta_bias", "dh0"].iter().filter_map(place) {
            written.states.insert(name, view.typed()?);
        }
        for (name, view) in ["dB", "dC"].iter().filter_map(place) {
            written.maps.insert(name, view.clone());
        }
        Ok(written)
    }

    fn as_mut(&mut self) -> GradientsMut<'_, B, T> {
        let mut gradients = GradientsMut::default();
        for (name, tensor) in &mut self.activations {
            match *name {
                "du" => gradients.du = Some(tensor),
                "ddelta" => gradients.ddelta = Some(tensor),
                _ => gradients.dz = Some(tensor),
            }
        }
        for (name, tensor) in &mut self.states {
            match *name {
                "dA" => gradients.da = Some(tensor),
                "dD" => gradients.dd = Some(tensor),
                "dh0" => gradients.dh0 = Some(tensor),
                _ => gradients.ddelta_bias = Some(tensor),
            }
        }
        for (name, view) in &mut self.maps {
            match *name {
                "dB" => gradients.db = Some(view),
                _ => gradients.dc = Some(view),
            }
        }
        gradients
    }
}
