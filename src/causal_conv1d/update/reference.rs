//! The reference: the loops of the definition in f64.

use super::check::Places;
use super::{Inputs, Problem};
use crate::Result;
use crate::backend::Cpu;
use crate::causal_conv1d::{Layout, Options, reference};
use crate::element::Float;
use crate::tensor::View;

/// What an update gives, exact up to f64 rounding.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Exact {
    /// In the order of `x`.
    pub out: Vec<f64>,
    /// (R, D, K), moved on.
    pub conv_state: Vec<f64>,
}

/// Evaluates the update in f64.
///
/// # Errors
///
/// As [`update`](super::update), for tensors on the CPU.
pub fn update<T: Float>(
    inputs: &Inputs<'_, Cpu, T>,
    conv_state: &View<Cpu>,
    options: &Options,
) -> Result<Exact> {
    let problem = Problem::check(inputs, conv_state, options)?;
    let places = Places::read(&problem, inputs)?;
    let Problem { batch, channels, steps, width, entries, .. } = problem;
    let (x, weight) = (inputs.x.to_f64()?, inputs.weight.to_f64()?);
    let bias = inputs.bias.map(|bias| bias.to_f64()).transpose()?;
    let mut exact = Exact { out: vec![0.0; x.len()], conv_state: conv_state.to_f64()? };
    // In order, x has no gaps.
    let at = |b: usize, d: usize, i: usize| match options.layout {
        Layout::Bdl => (b * channels + d) * steps + i,
        Layout::Bld => (b * steps + i) * channels + d,
    };
    for b in 0..batch {
        let Some(slot) = places.slots[b] else { continue };
        for d in 0..channels {
            let state = &mut exact.conv_state[(slot * channels + d) * entries..][..entries];
            let history = (1..width).rev().map(|back| state[places.entry(b, back, entries)]);
            let new = (0..steps).map(|i| x[at(b, d, i)]);
            let xs: Vec<f64> = history.chain(new.clone()).collect();
            for i in 0..steps {
                let bias = bias.as_ref().map_or(0.0, |bias| bias[d]);
                let taps = weight[d * width..][..width].iter().zip(&xs[i..]);
                let pre = taps.fold(bias, |sum, (w, x)| sum + w * x);
                exact.out[at(b, d, i)] = reference::activate(options.activation, pre);
            }
            match &places.positions {
                None => {
                    let all: Vec<f64> = state.iter().copied().chain(new).collect();
                    state.copy_from_slice(&all[steps..]);
                }
                Some(_) if entries == 0 => {}
                Some(positions) => {
                    for (i, x) in new.enumerate() {
                        state[(positions[b] % entries + i) % entries] = x;
                    }
                }
            }
        }
    }
    Ok(exact)
}
