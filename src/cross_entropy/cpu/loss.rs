//! From what ranks tell of tokens to lse and loss.

use rayon::prelude::*;

use super::rows::Running;
use crate::Result;
use crate::backend::Cpu;
use crate::backend::cpu::aligned::{elements, elements_mut};
use crate::cross_entropy::check::CHECK;
use crate::cross_entropy::reference::{factor, targets};
use crate::cross_entropy::{Options, OutputsMut, Problem, Reduction, STATISTICS};
use crate::element::DeviceFloat;
use crate::parameter::Indices;
use crate::tensor::Tensor;

/// Writes what is told of each token.
pub(super) fn write_statistics(
    to: &Tensor<Cpu, f32>,
    of_token: impl Fn(usize) -> Running + Sync,
) -> Result<()> {
    let mut bytes = to.write()?;
    let numbers: &mut [f32] = elements_mut(CHECK, "statistics", &mut bytes)?;
    let tokens = numbers.par_chunks_exact_mut(STATISTICS).enumerate();
    tokens.for_each(|(token, to)| to.copy_from_slice(&of_token(token).numbers()));
    Ok(())
}

/// Combines ranks in their order; sums over tokens are f64.
pub(super) fn run<T: DeviceFloat>(
    problem: &Problem,
    target: Indices<'_, Cpu>,
    options: &Options,
    statistics: &Tensor<Cpu, f32>,
    outputs: &OutputsMut<'_, Cpu, T>,
) -> Result<()> {
    let targets = targets(problem, target, options)?;
    let bytes = statistics.read()?;
    let numbers: &[f32] = elements(CHECK, "statistics", &bytes)?;
    let ranks = statistics.shape()[0];
    let one = |token: usize| {
        let told = (0..ranks).map(|rank| (rank * problem.tokens + token) * STATISTICS);
        combined(problem, options, targets[token], told.map(|at| &numbers[at..at + STATISTICS]))
    };
    let (lse, losses): (Vec<f64>, Vec<f64>) = (0..problem.tokens).into_par_iter().map(one).unzip();
    outputs.lse.write_f64(&lse)?;
    match problem.reduction {
        Reduction::None => outputs.loss.write_f64(&losses),
        Reduction::Mean | Reduction::Sum => {
            let sum: f64 = losses.iter().sum();
            outputs.loss.write_f64(&[sum * factor(problem, &targets)])
        }
    }
}

/// lse and loss of a token.
fn combined<'a>(
    problem: &Problem,
    options: &Options,
    target: Option<usize>,
    ranks: impl Iterator<Item = &'a [f32]> + Clone,
) -> (f64, f64) {
    let most = ranks.clone().fold(f32::MIN, |most, rank| most.max(rank[0]));
    let [mut s, mut at_target, mut all] = [0.0f64; 3];
    for rank in ranks {
        s += f64::from(rank[1]) * f64::from(rank[0] - most).exp();
        at_target += f64::from(rank[2]);
        all += f64::from(rank[3]);
    }
    let lse = f64::from(most) + s.ln();
    if target.is_none() {
        return (lse, 0.0);
    }
    let (smoothing, z_loss) = (f64::from(options.label_smoothing), f64::from(options.z_loss));
    let mut loss = lse - (1.0 - smoothing) * at_target;
    // A logit of -∞ makes their sum infinite: it counts only where it is asked for.
    if smoothing > 0.0 {
        loss -= smoothing * all / problem.vocabulary as f64;
    }
    if z_loss > 0.0 {
        loss += z_loss * lse * lse;
    }
    (lse, loss)
}
