//! f64 calls: the reference, written into their outputs.

use crate::Result;
use crate::attention::reference::{self, Exact, ExactGradients, Rounding};
use crate::attention::{
    GradientMut, GradientsMut, Inputs, Layout, Merge, Options, OutputGradients, OutputLines,
    OutputsMut, Problem,
};
use crate::backend::Cpu;
use crate::tensor::{Tensor, View};

pub(super) fn forward(
    inputs: &Inputs<'_, Cpu, f64>,
    options: &Options,
    outputs: &OutputsMut<'_, Cpu, f64>,
) -> Result<()> {
    let lines = outputs.lines(options.layout)?;
    let before = earlier(&lines, options.accumulate)?;
    let exact = reference::forward(inputs, options, before.as_ref(), Rounding::NONE)?;
    finish(&lines, &exact)
}

pub(super) fn merge(merge: &Merge<Cpu>) -> Result<()> {
    let [batch, heads, queries, parts, width] = merge.sizes();
    let rows = batch * heads * queries;
    let (out, lse) = (merge.parts.to_f64()?, merge.parts_lse.to_f64()?);
    let mut exact = earlier(&merge.outputs, merge.accumulate)?.unwrap_or_else(|| Exact {
        out: vec![0.0; rows * width],
        lse: vec![f64::NEG_INFINITY; rows],
    });
    for row in 0..rows {
        let place = row * width..(row + 1) * width;
        let mut merged = (exact.out[place.clone()].to_vec(), exact.lse[row]);
        for part in row * parts..(row + 1) * parts {
            let part = (&out[part * width..][..width], lse[part]);
            merged = reference::merge((&merged.0, merged.1), part);
        }
        exact.out[place].copy_from_slice(&merged.0);
        exact.lse[row] = merged.1;
    }
    finish(&merge.outputs, &exact)
}

/// What came before, if it is to be merged into.
fn earlier(lines: &OutputLines<Cpu>, accumulate: bool) -> Result<Option<Exact>> {
    let Some(partial) = lines.partial.as_ref().filter(|_| accumulate) else { return Ok(None) };
    Ok(Some(Exact { out: partial.to_f64()?, lse: lines.lse.to_f64()? }))
}

fn finish(lines: &OutputLines<Cpu>, exact: &Exact) -> Result<()> {
    for view in [&lines.out, &lines.partial].into_iter().flatten() {
        view.write_f64(&exact.out)?;
    }
    lines.lse.write_f64(&exact.lse)
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
