//! f64 calls: the reference, written into their outputs.

use crate::Result;
use crate::backend::Cpu;
use crate::rnn::reference::{self, Exact, ExactGradients};
use crate::rnn::{Gradients, Inputs, Options, OutputGradients, OutputsMut};

pub(super) fn forward(
    inputs: &Inputs<'_, Cpu, f64>,
    options: &Options,
    outputs: &OutputsMut<'_, Cpu, f64>,
) -> Result<()> {
    let Exact { states, last } = reference::forward(inputs, options)?;
    outputs.h.write_f64(&states[0])?;
    if let Some(sequences) = outputs.states.as_deref() {
        for (tensor, state) in sequences.all().into_iter().zip(&states[1..]) {
            tensor.map_or(Ok(()), |tensor| tensor.write_f64(state))?;
        }
    }
    if let Some(into) = outputs.last.as_deref() {
        for (tensor, state) in into.all().into_iter().zip(&last) {
            tensor.map_or(Ok(()), |tensor| tensor.write_f64(state))?;
        }
    }
    Ok(())
}

pub(super) fn backward(
    inputs: &Inputs<'_, Cpu, f64>,
    options: &Options,
    given: &OutputGradients<'_, Cpu, f64>,
    gradients: &Gradients<Cpu, f64>,
) -> Result<()> {
    let ExactGradients { wx, r, b, initial } = reference::backward(inputs, options, given)?;
    gradients.wx.write_f64(&wx)?;
    gradients.r.write_f64(&r)?;
    if let Some(into) = &gradients.b {
        into.write_f64(&b)?;
    }
    for (into, initial) in gradients.initial.iter().zip(&initial) {
        into.as_ref().map_or(Ok(()), |into| into.write_f64(initial))?;
    }
    Ok(())
}
