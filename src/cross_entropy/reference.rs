//! The reference: section 8.2 of the specification in f64, without any cleverness.

use super::{Inputs, Logits, Options, Problem, Reduction};
use crate::Result;
use crate::backend::Cpu;
use crate::element::Float;
use crate::parameter::Indices;

/// What a forward call gives, exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct Exact {
    /// (1), or (T) without a reduction.
    pub loss: Vec<f64>,
    /// (T).
    pub lse: Vec<f64>,
    /// As `loss`, of 1 and the magnitudes of what each token's loss is the sum of, in place of it:
    /// what errors are relative to.
    pub terms: Vec<f64>,
}

/// What a backward call gives, exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct ExactGradients {
    /// (T, Vi).
    pub logits: Vec<f64>,
    /// (T, E); empty where the logits are given.
    pub x: Vec<f64>,
    /// (Vi, E); empty where the logits are given.
    pub weight: Vec<f64>,
    /// The Euclidean norms of logits, x and weight, were each gradient of a logit the sum of the
    /// magnitudes that it is the difference of: what errors are relative to.
    pub terms: [f64; 3],
}

/// What some columns tell of a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    /// The largest logit; -∞ of no column.
    pub m: f64,
    /// Σ e^{z - m}.
    pub s: f64,
    /// The target's logit, 0 where it is not among the columns.
    pub target: f64,
    /// Σ z.
    pub sum: f64,
}

/// e^{z - m}, where nothing lies above m: an infinite number is as large as itself.
fn below(z: f64, m: f64) -> f64 {
    if z == m { 1.0 } else { (z - m).exp() }
}

/// Loss and lse of a vocabulary that is whole.
///
/// # Errors
///
/// As [`forward`](super::forward).
pub fn forward<T: Float>(inputs: &Inputs<'_, Cpu, T>, options: &Options) -> Result<Exact> {
    let problem = Problem::check(inputs, options)?;
    let targets = targets(&problem, inputs.target, options)?;
    Ok(loss(&problem, options, &targets, &[statistics(inputs, options)?]))
}

/// What the columns that are here tell of each token.
///
/// # Errors
///
/// As [`forward`].
pub fn statistics<T: Float>(
    inputs: &Inputs<'_, Cpu, T>,
    options: &Options,
) -> Result<Vec<Statistics>> {
    let problem = Problem::check(inputs, options)?;
    let logits = logits(inputs, options)?;
    let of_token = |(token, target): (usize, Option<usize>)| {
        let row = &logits[token * problem.columns..][..problem.columns];
        let m = row.iter().fold(f64::NEG_INFINITY, |m, z| m.max(z.0));
        let target = target.and_then(|target| row.get(target.checked_sub(problem.first)?));
        Statistics {
            m,
            s: row.iter().map(|z| below(z.0, m)).sum(),
            target: target.map_or(0.0, |z| z.0),
            sum: row.iter().map(|z| z.0).sum(),
        }
    };
    Ok(targets(&problem, inputs.target, options)?.into_iter().enumerate().map(of_token).collect())
}

/// Loss and lse of what all ranks tell.
pub fn loss(
    problem: &Problem,
    options: &Options,
    targets: &[Option<usize>],
    ranks: &[Vec<Statistics>],
) -> Exact {
    let (smoothing, z_loss) = (f64::from(options.label_smoothing), f64::from(options.z_loss));
    let mut exact = Exact { loss: Vec::new(), lse: Vec::new(), terms: Vec::new() };
    for (token, target) in targets.iter().enumerate() {
        let of_token: Vec<&Statistics> = ranks.iter().map(|rank| &rank[token]).collect();
        let most = of_token.iter().fold(f64::NEG_INFINITY, |most, one| most.max(one.m));
        let sum: f64 = of_token.iter().map(|one| one.s * below(one.m, most)).sum();
        let lse = most + sum.ln();
        exact.lse.push(lse);
        let at_target: f64 = of_token.iter().map(|one| one.target).sum();
        let mut parts = vec![lse, -(1.0 - smoothing) * at_target];
        if smoothing > 0.0 {
            let all: f64 = of_token.iter().map(|one| one.sum).sum();
            parts.push(-smoothing * all / problem.vocabulary as f64);
        }
        if z_loss > 0.0 {
            parts.push(z_loss * lse * lse);
        }
        if target.is_none() {
            parts.clear();
        }
        exact.loss.push(parts.iter().sum());
        let one = if target.is_some() { 1.0 } else { 0.0 };
        exact.terms.push(parts.iter().fold(one, |sum, part| sum + part.abs()));
    }
    let factor = factor(problem, targets);
    if problem.reduction != Reduction::None {
        exact.loss = vec![factor * exact.loss.iter().sum::<f64>()];
        exact.terms = vec![factor * exact.terms.iter().sum::<f64>()];
    }
    exact
}

/// Gradients of the columns that are here; `lse` and the gradient of the loss are in f64.
///
/// # Errors
///
/// As [`forward`].
pub fn backward<T: Float>(
    inputs: &Inputs<'_, Cpu, T>,
    options: &Options,
    lse: &[f64],
    dloss: &[f64],
) -> Result<ExactGradients> {
    let problem = Problem::check(inputs, options)?;
    let (smoothing, z_loss) = (f64::from(options.label_smoothing), f64::from(options.z_loss));
    let targets = targets(&problem, inputs.target, options)?;
    let factor = factor(&problem, &targets);
    let (mut dz, mut terms) = (Vec::new(), Vec::new());
    for (i, (z, slope)) in logits(inputs, options)?.into_iter().enumerate() {
        let (token, column) = (i / problem.columns, problem.first + i % problem.columns);
        let Some(target) = targets[token] else {
            dz.push(0.0);
            terms.push(0.0);
            continue;
        };
        let g = factor * dloss[if problem.reduction == Reduction::None { token } else { 0 }];
        let mut inner = (z - lse[token]).exp();
        if z_loss > 0.0 {
            inner *= 1.0 + 2.0 * z_loss * lse[token];
        }
        let mut less = smoothing / problem.vocabulary as f64;
        if column == target {
            less += 1.0 - smoothing;
        }
        dz.push(g * (inner - less) * slope);
        terms.push(g.abs() * (inner.abs() + less) * slope);
    }
    let (x, weight) = products(inputs, &dz)?;
    let (x_terms, weight_terms) = products(inputs, &terms)?;
    let norm = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>().sqrt();
    let terms = [norm(&terms), norm(&x_terms), norm(&weight_terms)];
    Ok(ExactGradients { logits: dz, x, weight, terms })
}

/// dz W and dzᵀ x; nothing where the logits are given.
fn products<T: Float>(inputs: &Inputs<'_, Cpu, T>, dz: &[f64]) -> Result<(Vec<f64>, Vec<f64>)> {
    let Logits::Linear { x, weight } = inputs.logits else { return Ok((Vec::new(), Vec::new())) };
    let ([columns, width], x, weight) =
        ([0, 1].map(|axis| weight.shape()[axis]), x.to_f64()?, weight.to_f64()?);
    let (mut of_x, mut of_weight) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
    for (i, dz) in dz.iter().enumerate() {
        let (token, column) = (i / columns, i % columns);
        for feature in 0..width {
            of_x[token * width + feature] += dz * weight[column * width + feature];
            of_weight[column * width + feature] += dz * x[token * width + feature];
        }
    }
    Ok((of_x, of_weight))
}

/// Every logit that is here, after the softcap, and the softcap's slope there.
fn logits<T: Float>(inputs: &Inputs<'_, Cpu, T>, options: &Options) -> Result<Vec<(f64, f64)>> {
    let raw = match inputs.logits {
        Logits::Given(logits) => logits.to_f64()?,
        Logits::Linear { x, weight } => {
            let width = x.shape()[1];
            let (rows, columns) = (x.to_f64()?, weight.to_f64()?);
            let mut products = Vec::with_capacity(x.shape()[0] * weight.shape()[0]);
            for token in 0..x.shape()[0] {
                let row = &rows[token * width..][..width];
                for column in 0..weight.shape()[0] {
                    let column = &columns[column * width..][..width];
                    products.push(row.iter().zip(column).map(|(x, w)| x * w).sum());
                }
            }
            products
        }
    };
    let Some(cap) = options.softcap.map(f64::from) else {
        return Ok(raw.into_iter().map(|z| (z, 1.0)).collect());
    };
    let capped = |z: f64| {
        let bounded = (z / cap).tanh();
        (cap * bounded, 1.0 - bounded * bounded)
    };
    Ok(raw.into_iter().map(capped).collect())
}

/// The target of each token, none of those that are ignored.
///
/// # Errors
///
/// Where the tensor is being written.
pub fn targets(
    problem: &Problem,
    target: Indices<'_, Cpu>,
    options: &Options,
) -> Result<Vec<Option<usize>>> {
    let columns = |target: i64| {
        let column = usize::try_from(target).ok().filter(|&column| column < problem.vocabulary);
        column.filter(|_| target != options.ignore_index)
    };
    Ok(target.to_i64()?.into_iter().map(columns).collect())
}

/// What each token's loss is multiplied with.
pub(super) fn factor(problem: &Problem, targets: &[Option<usize>]) -> f64 {
    match problem.reduction {
        Reduction::Mean => 1.0 / targets.iter().flatten().count().max(1) as f64,
        Reduction::Sum | Reduction::None => 1.0,
    }
}
