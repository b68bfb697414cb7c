//! f64 calls: the reference, written into their outputs.

use crate::Result;
use crate::backend::Cpu;
use crate::cross_entropy::reference::{self, Exact, Statistics};
use crate::cross_entropy::{GradientLines, Inputs, Options, OutputsMut, Problem, STATISTICS};
use crate::parameter::{Indices, Parameter};
use crate::tensor::Tensor;

pub(super) fn statistics(
    inputs: &Inputs<'_, Cpu, f64>,
    options: &Options,
    to: &Tensor<Cpu, f64>,
) -> Result<()> {
    let of_token = |one: Statistics| [one.m, one.s, one.target, one.sum];
    let all: Vec<f64> =
        reference::statistics(inputs, options)?.into_iter().flat_map(of_token).collect();
    to.write_f64(&all)
}

pub(super) fn loss(
    problem: &Problem,
    target: Indices<'_, Cpu>,
    options: &Options,
    statistics: &Tensor<Cpu, f64>,
    outputs: &OutputsMut<'_, Cpu, f64>,
) -> Result<()> {
    let told = statistics.to_f64()?;
    let of_token = |one: &[f64]| Statistics { m: one[0], s: one[1], target: one[2], sum: one[3] };
    let of_rank = |rank: &[f64]| rank.chunks_exact(STATISTICS).map(of_token).collect();
    let ranks: Vec<Vec<Statistics>> =
        told.chunks_exact((problem.tokens * STATISTICS).max(1)).map(of_rank).collect();
    let targets = reference::targets(problem, target, options)?;
    let Exact { loss, lse, .. } = reference::loss(problem, options, &targets, &ranks);
    outputs.loss.write_f64(&loss)?;
    outputs.lse.write_f64(&lse)
}

pub(super) fn backward(
    inputs: &Inputs<'_, Cpu, f64>,
    options: &Options,
    lse: &Tensor<Cpu, f64>,
    dloss: Parameter<'_, Cpu>,
    gradients: &GradientLines<'_, Cpu>,
) -> Result<()> {
    let exact = reference::backward(inputs, options, &lse.to_f64()?, &dloss.to_f64()?)?;
    match gradients {
        GradientLines::Given(logits) => logits.write_f64(&exact.logits),
        GradientLines::Linear { x, weight } => {
            x.write_f64(&exact.x)?;
            weight.write_f64(&exact.weight)
        }
    }
}
