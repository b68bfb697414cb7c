//! f64 calls: the reference, written into their outputs.

use crate::Result;
use crate::backend::Cpu;
use crate::scan_attention::reference::{self, Exact, ExactGradients};
use crate::scan_attention::{
    Gradients, Inputs, Layout, Options, OutputGradients, OutputsMut, ScoreGradients, State,
    StepInputs, StepProblem,
};
use crate::tensor::{Tensor, View};

pub(super) fn forward(
    inputs: &Inputs<'_, Cpu, f64>,
    options: &Options,
    outputs: &OutputsMut<'_, Cpu, f64>,
) -> Result<()> {
    let Exact { o, lse, carry, saved, .. } = reference::forward(inputs, options)?;
    write(outputs.o, options.layout, &o)?;
    if let Some(tensor) = outputs.lse.as_deref() {
        tensor.write_f64(&lse)?;
    }
    if let Some(state) = outputs.carry.as_deref() {
        write_state(state, &carry)?;
    }
    if let Some(into) = outputs.saved.as_deref() {
        let [m, u, w, scores] = &saved;
        into.m.write_f64(m)?;
        into.u.write_f64(u)?;
        into.w.write_f64(w)?;
        if let Some(into) = &into.scores {
            into.write_f64(scores)?;
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
    let ExactGradients { dv, ds, dq, dk, carry, .. } = reference::backward(inputs, options, given)?;
    write(&gradients.v, options.layout, &dv)?;
    match &gradients.scores {
        ScoreGradients::Given(into) => into.as_typed::<f64>()?.write_f64(&ds)?,
        ScoreGradients::Keys { q, k } => {
            q.write_f64(&dq)?;
            write(k, options.layout, &dk)?;
        }
    }
    match &gradients.carry {
        Some(into) => write_state(into, &carry),
        None => Ok(()),
    }
}

/// A step is a scan over one token from the state in its slot.
pub(super) fn step(
    problem: &StepProblem,
    inputs: &StepInputs<'_, Cpu, f64>,
    options: &Options,
    state: &State<Cpu, f64>,
    o: &Tensor<Cpu, f64>,
) -> Result<()> {
    let slots = problem.slots(inputs)?;
    let token = reference::Token::read(problem, inputs, options)?;
    let [mut m, mut u, mut w] = [state.m.to_vec()?, state.u.to_vec()?, state.w.to_vec()?];
    let (heads, width) = (problem.heads, problem.width);
    // All slots are read before one is written.
    let before = (m.clone(), u.clone(), w.clone());
    let mut out = vec![0.0; problem.batch * heads * width];
    for (b, slots) in slots.into_iter().enumerate() {
        let Some((from, to)) = slots else { continue };
        for head in 0..heads {
            let (from, to) = (from * heads + head, to * heads + head);
            let old = &before.2[from * width..][..width];
            let (new, mean) = token.take([b, head], before.0[from], before.1[from], old);
            (m[to], u[to]) = (new.m, new.u);
            w[to * width..][..width].copy_from_slice(&new.w);
            out[(b * heads + head) * width..][..width].copy_from_slice(&mean);
        }
    }
    write_state(state, &[m, u, w])?;
    o.write_f64(&out)
}

fn write_state(state: &State<Cpu, f64>, [m, u, w]: &[Vec<f64>; 3]) -> Result<()> {
    state.m.write_f64(m)?;
    state.u.write_f64(u)?;
    state.w.write_f64(w)
}

/// Writes values that have heads before steps.
fn write(tensor: &Tensor<Cpu, f64>, layout: Layout, values: &[f64]) -> Result<()> {
    let view: &View<Cpu> = tensor;
    match layout {
        Layout::Bhld => tensor.write_f64(values),
        Layout::Blhd => view.transposed(1, 2)?.as_typed::<f64>()?.write_f64(values),
    }
}
