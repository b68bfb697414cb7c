//! f64 calls: the reference, written into their outputs.

use crate::Result;
use crate::attention::reference::{self, Exact, ExactGradients, Rounding};
use crate::attention::{
    GradientMut, GradientsMut, Inputs, Layout, Options, OutputGradients, OutputsMut, Problem,
};
use crate::backend::Cpu;
use crate::tensor::{Tensor, View};

pub(super) fn forward(
    inputs: &Inputs<'_, Cpu, f64>,
    options: &Options,
    outputs: &OutputsMut<'_, Cpu, f64>,
) -> Result<()> {
    let layout = options.layout;
    let before = match outputs.partial.as_deref().filter(|_| options.accumulate) {
        Some(partial) => {
            let out = layout.heads_first(partial)?.to_f64()?;
            Some(Exact { out, lse: outputs.lse.to_f64()? })
        }
        None => None,
    };
    let Exact { out, lse } = reference::forward(inputs, options, before.as_ref(), Rounding::NONE)?;
    for view in [outputs.out.as_deref(), outputs.partial.as_deref()].into_iter().flatten() {
        layout.heads_first(view)?.write_f64(&out)?;
    }
    outputs.lse.write_f64(&lse)
}

pub(super) fn row_terms(
    problem: &Problem,
    out: &Tensor<Cpu, f64>,
    lse: &Tensor<Cpu, f64>,
    given: &OutputGradients<'_, Cpu, f64>,
    delta: &Tensor<Cpu, f64>,
) -> Result<()> {
    let exact = Exact { out: problem.layout.heads_first(out)?.to_f64()?, lse: lse.to_f64()? };
    delta.write_f64(&reference::row_terms(problem, &exact, given, Rounding::NONE)?)
}

pub(super) fn backward(
    inputs: &Inputs<'_, Cpu, f64>,
    options: &Options,
    [delta, lse]: [&Tensor<Cpu, f64>; 2],
    dout: &Tensor<Cpu, f64>,
    gradients: &GradientsMut<'_, Cpu, f64>,
) -> Result<()> {
    let rows = [&*delta.to_f64()?, &*lse.to_f64()?];
    let ExactGradients { q, k, v, bias, sink } =
        reference::backward(inputs, options, rows, dout, Rounding::NONE)?;
    write(&gradients.q, options.layout, q)?;
    write(&gradients.k, options.layout, k)?;
    write(&gradients.v, options.layout, v)?;
    let write =
        |to: Option<&View<Cpu>>, values: &[f64]| to.map_or(Ok(()), |to| to.write_f64(values));
    write(gradients.bias.as_deref().map(|bias| &**bias), &bias)?;
    write(gradients.sink.as_deref().map(|sink| &**sink), &sink)
}

fn write(to: &GradientMut<'_, Cpu, f64>, layout: Layout, mut values: Vec<f64>) -> Result<()> {
    let view = layout.heads_first(to.view())?;
    if to.adds() {
        for (value, before) in values.iter_mut().zip(view.to_f64()?) {
            *value += before;
        }
    }
    view.write_f64(&values)
}
