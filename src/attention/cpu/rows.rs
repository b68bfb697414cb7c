//! What the backward pass needs of rows: their terms δ, and the gradient of the sink.

use rayon::prelude::*;

use super::tensors::Source;
use crate::Result;
use crate::attention::check::CHECK;
use crate::attention::{OutputGradients, Problem};
use crate::backend::Cpu;
use crate::backend::cpu::aligned::{elements, elements_mut};
use crate::element::DeviceFloat;
use crate::tensor::Tensor;

/// δ = dout · out - dlse, 0 where nothing was seen.
pub(super) fn terms<T: DeviceFloat>(
    problem: &Problem,
    out: &Tensor<Cpu, T>,
    lse: &Tensor<Cpu, f32>,
    given: &OutputGradients<'_, Cpu, T>,
    delta: &Tensor<Cpu, f32>,
) -> Result<()> {
    let (out_bytes, dout_bytes, lse) = (out.read()?, given.out.read()?, lse.read()?);
    let out = Source::<T>::new("out", &out_bytes, out, problem.layout)?;
    let dout = Source::<T>::new("dout", &dout_bytes, given.out, problem.layout)?;
    let lse: &[f32] = elements(CHECK, "lse", &lse)?;
    let dlse = given.lse.map(|dlse| dlse.to_f32()).transpose()?;
    let mut delta = delta.write()?;
    let delta: &mut [f32] = elements_mut(CHECK, "delta", &mut delta)?;
    let lines = delta.par_chunks_mut(problem.queries.max(1)).enumerate();
    lines.for_each(|(line, terms)| {
        let place = [line / problem.heads, line % problem.heads];
        let mut rows = [vec![0.0; problem.value_width], vec![0.0; problem.value_width]];
        for (token, term) in terms.iter_mut().enumerate() {
            let row = line * problem.queries + token;
            let [out_row, dout_row] = &mut rows;
            out.line(place, token, out_row);
            dout.line(place, token, dout_row);
            *term = match lse[row] {
                f32::NEG_INFINITY => 0.0,
                _ => dot(out_row, dout_row) - dlse.as_ref().map_or(0.0, |dlse| dlse[row]),
            };
        }
    });
    Ok(())
}

/// In eight sums side by side, which become vectors.
fn dot(x: &[f32], y: &[f32]) -> f32 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<8>(), y.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (x, y) in x.iter().zip(y) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    let rest: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

/// dsink = -Σ e^{sink - lse} δ over the rows of a head.
pub(super) fn sink(problem: &Problem, sink: &[f32], lse: &[f32], delta: &[f32], to: &mut [f32]) {
    to.par_iter_mut().enumerate().for_each(|(head, to)| {
        let mut sum = 0.0;
        for batch in 0..problem.batch {
            let first = (batch * problem.heads + head) * problem.queries;
            for row in first..first + problem.queries {
                // A sink of -∞ is none; nor is anything of it in a row that has seen nothing.
                if sink[head] > f32::NEG_INFINITY {
                    sum -= f64::from((sink[head] - lse[row]).exp() * delta[row]);
                }
            }
        }
        *to = sum as f32;
    });
}
