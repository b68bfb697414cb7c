//! One token on the CPU: a task for each batch entry.

use super::super::check::CHECK;
use super::heads::StateBytes;
use crate::Result;
use crate::backend::Cpu;
use crate::backend::cpu::aligned::{elements, elements_mut};
use crate::element::DeviceFloat;
use crate::scan_attention::{Options, Scores, State, StepInputs, StepProblem};
use crate::tensor::Tensor;

/// Takes a token into each state. The shapes have been checked.
pub(super) fn run<T: DeviceFloat>(
    problem: &StepProblem,
    inputs: &StepInputs<'_, Cpu, T>,
    options: &Options,
    state: &State<Cpu, T>,
    o: &Tensor<Cpu, T>,
) -> Result<()> {
    let slots = problem.slots(inputs)?;
    let scores = scores(problem, inputs, options)?;
    let v = inputs.v.read()?;
    let v: &[T] = elements(CHECK, "v", &v)?;
    let (heads, width) = (problem.heads, problem.width);
    // All slots are read before one is written.
    let (m, u, w) = (state.m.to_vec()?, state.u.to_vec()?, state.w.to_vec()?);
    let mut bytes = StateBytes::claim(state)?;
    let target = bytes.target()?;
    let mut out = o.write()?;
    let out: &mut [T] = elements_mut(CHECK, "o", &mut out)?;
    out.fill(T::from_f32(0.0));
    for (b, slots) in slots.into_iter().enumerate() {
        let Some((from, to)) = slots else { continue };
        for head in 0..heads {
            let (from, line) = (from * heads + head, b * heads + head);
            let value = (b * problem.value_heads + head / problem.group()) * width;
            let score = scores[line];
            let m1 = if score.is_nan() || score > m[from] { score } else { m[from] };
            let least = if m1 == f32::NEG_INFINITY { f32::MIN } else { m1 };
            let (keep, weight) = ((m[from] - least).exp(), (score - least).exp());
            let u1 = u[from] * keep + weight;
            let inverse = if u1 == 0.0 { 0.0 } else { 1.0 / u1 };
            let mut new = w[from * width..][..width].to_vec();
            for ((w, v), o) in
                new.iter_mut().zip(&v[value..][..width]).zip(&mut out[line * width..][..width])
            {
                *w = w.mul_add(keep, weight * v.to_f32());
                *o = T::from_f32(*w * inverse);
            }
            // SAFETY: this is the only task.
            unsafe { target.write(to * heads + head, m1, u1, &new) };
        }
    }
    Ok(())
}

/// (B, H).
fn scores<T: DeviceFloat>(
    problem: &StepProblem,
    inputs: &StepInputs<'_, Cpu, T>,
    options: &Options,
) -> Result<Vec<f32>> {
    let (q, k) = match &inputs.scores {
        Scores::Given(s) => return s.to_f32(),
        Scores::Keys { q, k } => (q.to_f32()?, k.to_vec()?),
    };
    let width = problem.key_width.unwrap_or(0);
    let scale = options.scale(width) as f32;
    let score = |i: usize| {
        let (b, head) = (i / problem.heads, i % problem.heads);
        let key = (b * problem.value_heads + head / problem.group()) * width;
        let pairs = q[head * width..][..width].iter().zip(&k[key..][..width]);
        scale * pairs.map(|(q, k)| q * k.to_f32()).sum::<f32>()
    };
    Ok((0..problem.batch * problem.heads).map(score).collect())
}
