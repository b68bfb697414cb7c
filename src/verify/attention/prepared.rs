//! A case with its tensors and its exact results, run and compared.

use std::ops::Range;

use super::{Case, Tolerances};
use crate::Result;
use crate::attention::reference::{self, Exact, ExactGradients, Rounding};
use crate::attention::{
    Attention, GradientMut, Gradients, GradientsMut, Inputs, Options, OutputGradients, Outputs,
    OutputsMut, Positions, Saved, Segment, backward, backward_into, forward, forward_into,
    row_terms, split,
};
use crate::backend::{Backend, Cpu, Named, on_backend};
use crate::element::{DType, Element, Float};
use crate::parameter::Parameter;
use crate::tensor::{Tensor, View};
use crate::verify::Comparison;
use crate::verify::place::{OneBuffer, Output};

/// Fewer numbers than this are few.
const FEW: usize = 64;

/// A case with its tensors and its exact results.
pub struct Prepared<T> {
    case: Case,
    inputs: Named<Cpu>,
    given: Named<Cpu>,
    exact: Exact,
    gradients: ExactGradients,
    /// The largest errors of results that are rounded to T after every product.
    rounded: Errors,
    /// Gradients without row terms: the larger of the two parts that they are the difference of.
    /// Errors in the norm are relative to these where they are larger; what is 0 in them has
    /// nothing to do with any pair, and is 0 to the bit.
    terms: ExactGradients,
    /// The same for the gradient of the sink.
    sink_terms: f64,
    /// The same for dv where it has few numbers, which may all be small beside the dout of which they
    /// are sums; rounding errors of many are small beside these themselves.
    v_terms: f64,
    tolerances: Tolerances,
    element: std::marker::PhantomData<T>,
}

/// The largest errors of single numbers.
struct Errors {
    out: f64,
    gradients: [f64; 3],
}

impl<T: Float> Prepared<T> {
    /// Draws the tensors and evaluates the reference.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn new(case: &Case) -> Result<Self> {
        let (inputs, given) = split(&case.tensors::<T>()?);
        let (typed, options) = (Inputs::<Cpu, T>::from_named(&inputs)?, case.options());
        let of_outputs = gradients_of_outputs::<Cpu, T>(&given)?;
        let problem = crate::attention::Problem::check(&typed, &options)?;
        let evaluate = |rounding| -> Result<(Exact, Vec<f64>, ExactGradients)> {
            let exact = reference::forward(&typed, &options, None, rounding)?;
            let delta = reference::row_terms(&problem, &exact, &of_outputs, rounding)?;
            let rows = [&*delta, &*exact.lse];
            let gradients = reference::backward(&typed, &options, rows, of_outputs.out, rounding)?;
            Ok((exact, delta, gradients))
        };
        let (exact, delta, gradients) = evaluate(Rounding::NONE)?;
        let (low, _, low_gradients) = evaluate(Rounding::to::<T>())?;
        let zeros = vec![0.0; delta.len()];
        let rows = [&*zeros, &*exact.lse];
        let dout = of_outputs.out.to_f64()?;
        let dlse = of_outputs.lse.map(|lse| lse.to_f64()).transpose()?.unwrap_or_default();
        let terms = reference::backward(&typed, &options, rows, of_outputs.out, Rounding::NONE)?;
        Ok(Self {
            case: case.clone(),
            rounded: Errors {
                out: largest_error(&low.out, &exact.out),
                gradients: [
                    largest_error(&low_gradients.q, &gradients.q),
                    largest_error(&low_gradients.k, &gradients.k),
                    largest_error(&low_gradients.v, &gradients.v),
                ],
            },
            v_terms: if gradients.v.len() < FEW { norm_of_finite(&dout) } else { 0.0 },
            sink_terms: norm_of_finite(&[dout, dlse].concat()),
            terms,
            inputs,
            given,
            exact,
            gradients,
            tolerances: case.tolerances(T::DTYPE),
            element: std::marker::PhantomData,
        })
    }

    /// The variants of a backend's forward pass that fit the case.
    ///
    /// # Errors
    ///
    /// As [`Attention::variants_forward`].
    pub fn forward_variants<B: Attention<T>>(&self, backend: &B) -> Result<Vec<&'static str>> {
        backend.variants_forward(&self.case.problem(T::DTYPE)?, &self.case.options())
    }

    /// The variants of a backend's backward pass that fit the case.
    ///
    /// # Errors
    ///
    /// As [`Attention::variants_backward`].
    pub fn backward_variants<B: Attention<T>>(&self, backend: &B) -> Result<Vec<&'static str>> {
        backend.variants_backward(&self.case.problem(T::DTYPE)?, &self.case.options())
    }

    /// Runs the forward pass with a variant, and compares every output with the reference.
    ///
    /// # Errors
    ///
    /// The call's error, or [`Error::Value`](crate::Error::Value) where it wrote what it must not.
    pub fn forward<B: Attention<T>>(
        &self,
        backend: &B,
        variant: &'static str,
    ) -> Result<Vec<Comparison>> {
        let options = self.case.options().with_variant(variant);
        let inputs = on_backend(backend, &self.inputs)?;
        let typed = Inputs::<B, T>::from_named(&inputs)?;
        if self.case.parts > 1 {
            let outputs = self.merged(&typed, &options)?;
            return self.compare(&outputs.out, &outputs.lse, 1.0);
        }
        if !self.case.one_buffer {
            let Outputs { out, lse } = forward(&typed, &options)?;
            return self.compare(&out, &lse, 1.0);
        }
        let problem = crate::attention::Problem::check(&typed, &options)?;
        let outputs: Vec<Output> = vec![
            ("out", T::DTYPE, problem.output_shape()),
            ("partial", T::State::DTYPE, problem.output_shape()),
            ("lse", T::State::DTYPE, problem.lse_shape()),
        ];
        let strided = ["q", "k", "v", "bias", "out", "partial"];
        let placed = OneBuffer::new(backend, &self.inputs, &outputs, &strided)?;
        let mut out = placed.outputs["out"].typed::<T>()?;
        let mut partial = placed.outputs["partial"].typed::<T::State>()?;
        let mut lse = placed.outputs["lse"].typed::<T::State>()?;
        let typed = Inputs::<B, T>::from_named(&placed.inputs)?;
        let mut outputs =
            OutputsMut { out: Some(&mut out), partial: Some(&mut partial), lse: &mut lse };
        forward_into(&typed, &options, &mut outputs)?;
        let mut all = self.compare(&out, &lse, 1.0)?;
        all.push(self.in_norm("partial, norm", &partial, &self.exact.out, 0.0)?);
        placed.check_guards()?;
        Ok(all)
    }

    /// The keys of a part of the case.
    fn part(&self, part: usize) -> Range<usize> {
        let cut = |part| self.case.sizes.keys * part / self.case.parts;
        cut(part)..cut(part + 1)
    }

    /// The inputs and options of a part of the keys; the sink belongs to the last one.
    fn with_part<B: Attention<T>, R>(
        &self,
        inputs: &Inputs<'_, B, T>,
        options: &Options,
        part: usize,
        run: impl FnOnce(&Inputs<'_, B, T>, &Options) -> Result<R>,
    ) -> Result<R> {
        let keys = self.part(part);
        let axis = if self.case.layout == crate::attention::Layout::Bshd { 1 } else { 2 };
        let (k, v) =
            (inputs.k.narrowed(axis, keys.clone())?, inputs.v.narrowed(axis, keys.clone())?);
        let bias = inputs.bias.map(|bias| bias.narrowed(3, keys.clone())).transpose()?;
        let mut of_part = Inputs::new(inputs.q, &k, &v);
        of_part.bias = bias.as_ref().map(Parameter::from_view).transpose()?;
        of_part.alibi_slopes = inputs.alibi_slopes;
        if part + 1 == self.case.parts {
            of_part.sink = inputs.sink;
        }
        let segments = [Segment::contiguous(keys)];
        let positions = Positions::new(self.case.sizes.keys, &segments)?;
        run(&of_part, &options.clone().with_keys(positions).with_accumulate(part > 0))
    }

    /// The forward pass part by part, each merged into those before.
    fn merged<B: Attention<T>>(
        &self,
        inputs: &Inputs<'_, B, T>,
        options: &Options,
    ) -> Result<Outputs<B, T>> {
        let backend = inputs.q.backend();
        let problem = crate::attention::Problem::check(inputs, options)?;
        let mut out = Tensor::new(backend, &problem.output_shape())?;
        let mut partial = Tensor::new(backend, &problem.output_shape())?;
        let mut lse = Tensor::new(backend, &problem.lse_shape())?;
        for part in 0..self.case.parts {
            let is_last = part + 1 == self.case.parts;
            self.with_part(inputs, options, part, |inputs, options| {
                let out = if is_last { Some(&mut out) } else { None };
                let partial = Some(&mut partial);
                forward_into(inputs, options, &mut OutputsMut { out, partial, lse: &mut lse })
            })?;
        }
        Ok(Outputs { out, lse })
    }

    /// Compares results; those of `lse` may be `times` as far off as those of one call.
    pub(in crate::verify) fn compare<B: Backend>(
        &self,
        out: &View<B>,
        lse: &View<B>,
        times: f64,
    ) -> Result<Vec<Comparison>> {
        let exact = &self.exact;
        let view = lse.to_backend(&Cpu)?;
        let tolerance = times * self.tolerances.lse;
        let of_lse = Comparison::within("lse", &view, &exact.lse, |i| {
            tolerance * (1.0 + exact.lse[i].abs())
        })?;
        Ok(vec![
            self.single("out", out, [&exact.out; 2], self.rounded.out, 1.0)?,
            self.in_norm("out, norm", out, &exact.out, 0.0)?,
            of_lse,
        ])
    }

    /// Compares number by number with what rounding after every product costs. Lines whose `terms` are
    /// all 0 are sums of nothing, and there is nothing to be rounded.
    fn single<B: Backend>(
        &self,
        name: &'static str,
        view: &View<B>,
        [exact, terms]: [&[f64]; 2],
        rounded: f64,
        factor: f64,
    ) -> Result<Comparison> {
        let largest = exact.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
        let ulps = 2.0 * largest.log2().floor().exp2();
        let allowed = match T::DTYPE {
            DType::F16 => factor * rounded + ulps * 2f64.powi(-10),
            DType::BF16 => factor * rounded + ulps * 2f64.powi(-7),
            DType::F64 => f64::INFINITY,
            _ => 2.0 * rounded + 1e-5,
        };
        let view = self.heads_first(view)?;
        let width = view.shape()[view.shape().len() - 1];
        let is_of_nothing: Vec<bool> =
            terms.chunks(width).map(|line| line.iter().all(|&term| term == 0.0)).collect();
        Comparison::within(name, &view, exact, |i| match is_of_nothing[i / width] {
            true => 0.0,
            false => allowed,
        })
    }

    /// Compares in the norm.
    fn in_norm<B: Backend>(
        &self,
        name: &'static str,
        view: &View<B>,
        exact: &[f64],
        terms: f64,
    ) -> Result<Comparison> {
        let view = self.heads_first(view)?;
        let tolerance = match name {
            "out, norm" | "partial, norm" => self.tolerances.out,
            _ => self.tolerances.gradients,
        };
        Comparison::of_norms(name, &view, exact, tolerance, terms)
    }

    /// Activations with heads before tokens, as the reference has them; others as they are.
    fn heads_first<B: Backend>(&self, view: &View<B>) -> Result<View<Cpu>> {
        let view = view.to_backend(&Cpu)?;
        let is_packed = self.case.shard == super::Shard::Packed;
        match (self.case.layout, is_packed, view.shape().len()) {
            (crate::attention::Layout::Bshd, true, 3) => view.transposed(0, 1),
            (crate::attention::Layout::Bshd, false, 4) => view.transposed(1, 2),
            _ => Ok(view),
        }
    }

    /// Runs the backward pass with a variant, behind the planned forward pass, and compares every
    /// gradient with the reference.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn backward<B: Attention<T>>(
        &self,
        backend: &B,
        variant: &'static str,
    ) -> Result<Vec<Comparison>> {
        let options = self.case.options().with_variant(variant);
        let (inputs, given) =
            (on_backend(backend, &self.inputs)?, on_backend(backend, &self.given)?);
        let typed = Inputs::<B, T>::from_named(&inputs)?;
        let given = gradients_of_outputs::<B, T>(&given)?;
        if self.case.parts > 1 {
            return self.backward_in_parts(&typed, &options, &given);
        }
        let outputs = forward(&typed, &options)?;
        if !self.case.one_buffer {
            let gradients = backward(&typed, &options, &outputs.saved(), &given)?;
            return self.compare_gradients(gradients.named());
        }
        self.backward_in_one_buffer(backend, &options, &outputs)
    }

    fn backward_in_one_buffer<B: Attention<T>>(
        &self,
        backend: &B,
        options: &Options,
        outputs: &Outputs<B, T>,
    ) -> Result<Vec<Comparison>> {
        let mut all = self.inputs.clone();
        all.extend(self.given.clone());
        let shape = |name: &str| self.inputs[name].shape().to_vec();
        let mut written: Vec<Output> = vec![
            ("dq", T::DTYPE, shape("q")),
            ("dk", T::DTYPE, shape("k")),
            ("dv", T::DTYPE, shape("v")),
        ];
        for (name, input) in [("dbias", "bias"), ("dsink", "sink")] {
            if self.inputs.contains_key(input) {
                written.push((name, T::State::DTYPE, shape(input)));
            }
        }
        let strided = ["q", "k", "v", "bias", "dout", "dq", "dk", "dv"];
        let placed = OneBuffer::new(backend, &all, &written, &strided)?;
        let (inputs, given): (Named<B>, Named<B>) =
            placed.inputs.clone().into_iter().partition(|(name, _)| self.inputs.contains_key(name));
        let numbers =
            |name: &str| placed.outputs.get(name).map(|view| view.typed::<T::State>()).transpose();
        let mut gradients = Gradients {
            q: placed.outputs["dq"].typed::<T>()?,
            k: placed.outputs["dk"].typed::<T>()?,
            v: placed.outputs["dv"].typed::<T>()?,
            bias: numbers("dbias")?,
            sink: numbers("dsink")?,
        };
        let typed = Inputs::<B, T>::from_named(&inputs)?;
        let given = gradients_of_outputs::<B, T>(&given)?;
        let saved = outputs.saved();
        backward_into(&typed, options, &saved, &given, &mut gradients.as_mut())?;
        let all = self.compare_gradients(gradients.named())?;
        placed.check_guards()?;
        Ok(all)
    }

    /// The backward pass part by part: dq is added up, dk and dv are those of the parts.
    fn backward_in_parts<B: Attention<T>>(
        &self,
        inputs: &Inputs<'_, B, T>,
        options: &Options,
        given: &OutputGradients<'_, B, T>,
    ) -> Result<Vec<Comparison>> {
        let backend = inputs.q.backend();
        let outputs = self.merged(inputs, options)?;
        let delta = row_terms(inputs, options, &outputs, given)?;
        let saved = Saved::with_delta(&delta, &outputs.lse);
        let given = OutputGradients::new(given.out);
        let wide = |view: &View<B>| Tensor::<B, T::State>::new(backend, view.shape());
        let mut q = wide(inputs.q)?;
        let (k, v) = (wide(inputs.k)?, wide(inputs.v)?);
        let mut sink = inputs.sink.map(|sink| wide(sink.view())).transpose()?;
        let axis = if self.case.layout == crate::attention::Layout::Bshd { 1 } else { 2 };
        for part in 0..self.case.parts {
            self.with_part(inputs, options, part, |inputs, options| {
                let keys = self.part(part);
                let mut k = k.narrowed(axis, keys.clone())?;
                let mut v = v.narrowed(axis, keys)?;
                let mut gradients = GradientsMut {
                    q: match part {
                        0 => GradientMut::Partial(&mut q),
                        _ => GradientMut::Added(&mut q),
                    },
                    k: GradientMut::Partial(&mut k),
                    v: GradientMut::Partial(&mut v),
                    bias: None,
                    sink: if inputs.sink.is_some() { sink.as_mut() } else { None },
                };
                backward_into(inputs, options, &saved, &given, &mut gradients)
            })?;
        }
        let mut named: Vec<(&'static str, &View<B>)> = vec![("dq", &q), ("dk", &k), ("dv", &v)];
        named.extend(sink.as_ref().map(|sink| ("dsink", &**sink)));
        self.compare_gradients(named)
    }

    /// Compares gradients under their names.
    pub(in crate::verify) fn compare_gradients<'a, B: Backend>(
        &self,
        gradients: impl IntoIterator<Item = (&'static str, &'a View<B>)>,
    ) -> Result<Vec<Comparison>> {
        let ExactGradients { q, k, v, bias, sink, .. } = &self.gradients;
        let (terms, [dq, dk, dv]) = (&self.terms, self.rounded.gradients);
        let mut all = Vec::new();
        for (name, view) in gradients {
            match name {
                "dq" => {
                    all.push(self.single(name, view, [q, &terms.q], dq, 1.5)?);
                    all.push(self.in_norm("dq, norm", view, q, norm(&terms.q))?);
                }
                "dk" => {
                    all.push(self.single(name, view, [k, &terms.k], dk, 1.5)?);
                    all.push(self.in_norm("dk, norm", view, k, norm(&terms.k))?);
                }
                "dv" => {
                    all.push(self.single(name, view, [v, v], dv, 1.5)?);
                    all.push(self.in_norm("dv, norm", view, v, self.v_terms)?);
                }
                "dbias" => {
                    let (view, terms) = (view.to_backend(&Cpu)?, norm(&terms.bias));
                    let tolerance = self.tolerances.gradients;
                    all.push(Comparison::of_norms("dbias, norm", &view, bias, tolerance, terms)?);
                }
                _ => {
                    let (view, terms) = (view.to_backend(&Cpu)?, self.sink_terms);
                    let tolerance = self.tolerances.gradients;
                    all.push(Comparison::of_norms("dsink, norm", &view, sink, tolerance, terms)?);
                }
            }
        }
        Ok(all)
    }
}

/// The gradients of outputs among named tensors; cases always have that of `out`.
fn gradients_of_outputs<B: Backend, T: Float>(
    given: &Named<B>,
) -> Result<OutputGradients<'_, B, T>> {
    let out = given["dout"].as_typed()?;
    let lse = given.get("dlse").map(Parameter::from_view).transpose()?;
    Ok(OutputGradients { out, lse })
}

/// The norm of what gradients are sums of, under shares of at most 1.
fn norm_of_finite(values: &[f64]) -> f64 {
    let finite = values.iter().filter(|x| x.is_finite());
    finite.map(|x| x * x).sum::<f64>().sqrt()
}

fn largest_error(found: &[f64], exact: &[f64]) -> f64 {
    let errors = found.iter().zip(exact).map(|(x, y)| (x - y).abs());
    errors.fold(0.0, f64::max)
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}
