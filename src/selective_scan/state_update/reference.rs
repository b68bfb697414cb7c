//! The reference: the loops of the paper in f64.

use super::{Inputs, Options, OutputsMut, Problem, State};
use crate::Result;
use crate::backend::Cpu;
use crate::element::{DType, Float};
use crate::{bf16, f16};

/// What an update gives, exact up to f64 rounding. A step goes on from states that are rounded to
/// their type, as one that reads them from a slot; what stands here is not rounded.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Exact {
    /// As `x`.
    pub out: Vec<f64>,
    /// As `state`, after the call.
    pub state: Vec<f64>,
    /// (B, M, H, P, N); 0 at padding.
    pub states: Vec<f64>,
}

/// Evaluates an update in f64; `state` is read, not written.
///
/// # Errors
///
/// As [`update`](super::update), for inputs on the CPU.
pub fn update<T: Float>(
    state: &State<'_, Cpu>,
    inputs: &Inputs<'_, Cpu, T>,
    options: &Options,
) -> Result<Exact> {
    let problem = Problem::check(state, inputs, options)?;
    problem.check_values(inputs, options)?;
    let arrays = Arrays::read(inputs)?;
    let (read, written) = problem.slots_of(inputs)?;
    let Problem { batch, steps, states, .. } = problem;
    let channels = problem.channels();
    let before = state.view().to_f64()?;
    let mut exact = Exact {
        out: vec![0.0; batch * steps * channels],
        state: before.clone(),
        states: vec![0.0; batch * steps * channels * states],
    };
    for b in (0..batch).filter(|&b| read[b] >= 0) {
        for channel in 0..channels {
            let line = |slot: i64| (slot as usize * channels + channel) * states;
            let mut h = before[line(read[b])..][..states].to_vec();
            for step in 0..steps {
                if step > 0 {
                    h.iter_mut().for_each(|h| *h = rounded(problem.state_dtype, *h));
                }
                let i = (b * steps + step) * channels + channel;
                exact.out[i] = arrays.step(&problem, options, [b, step, channel], &mut h);
                exact.states[i * states..][..states].copy_from_slice(&h);
            }
            if !options.keep_state && written[b] >= 0 {
                exact.state[line(written[b])..][..states].copy_from_slice(&h);
            }
        }
    }
    Ok(exact)
}

/// The inputs as f64.
struct Arrays {
    x: Vec<f64>,
    dt: Vec<f64>,
    a: Vec<f64>,
    b: Vec<f64>,
    c: Vec<f64>,
    d: Option<Vec<f64>>,
    z: Option<Vec<f64>>,
    dt_bias: Option<Vec<f64>>,
}

impl Arrays {
    fn read<T: Float>(inputs: &Inputs<'_, Cpu, T>) -> Result<Self> {
        Ok(Self {
            x: inputs.x.to_f64()?,
            dt: inputs.dt.to_f64()?,
            a: inputs.a.to_f64()?,
            b: inputs.b.to_f64()?,
            c: inputs.c.to_f64()?,
            d: inputs.d.map(|d| d.to_f64()).transpose()?,
            z: inputs.z.map(|z| z.to_f64()).transpose()?,
            dt_bias: inputs.dt_bias.map(|bias| bias.to_f64()).transpose()?,
        })
    }

    /// Moves the state of one channel on by one step, and gives its output.
    fn step(
        &self,
        problem: &Problem,
        options: &Options,
        [b, step, channel]: [usize; 3],
        h: &mut [f64],
    ) -> f64 {
        let &Problem { heads, width, states, groups, .. } = problem;
        let (head, entry) = (channel / width, b * problem.steps + step);
        let of = |tied: bool| if tied { head } else { channel };
        let i = entry * problem.channels() + channel;
        let dt = match problem.dt_tied {
            true => self.dt[entry * heads + head],
            false => self.dt[i],
        };
        let bias = self.dt_bias.as_ref().map_or(0.0, |bias| bias[of(problem.dt_bias_tied)]);
        let size = step_size(options, dt + bias);
        let map = (entry * groups + head / (heads / groups)) * states;
        let mut y = self.d.as_ref().map_or(0.0, |d| d[of(problem.d_tied)]) * self.x[i];
        for (n, h) in h.iter_mut().enumerate() {
            let a = match problem.a_tied {
                true => self.a[head],
                false => self.a[channel * states + n],
            };
            *h = (size * a).exp() * *h + size * self.b[map + n] * self.x[i];
            y += self.c[map + n] * *h;
        }
        self.z.as_ref().map_or(y, |z| y * z[i] / (1.0 + (-z[i]).exp()))
    }
}

/// A state as it is stored.
fn rounded(dtype: DType, h: f64) -> f64 {
    match dtype {
        DType::BF16 => bf16::from_f32(h as f32).to_f64(),
        DType::F16 => f16::from_f32(h as f32).to_f64(),
        DType::F32 => f64::from(h as f32),
        _ => h,
    }
}

/// Δ from dt with its bias.
fn step_size(options: &Options, p: f64) -> f64 {
    let s = match options.dt_softplus {
        true if p <= 20.0 => p.exp().ln_1p(),
        _ => p,
    };
    match options.dt_clamp {
        // Comparisons, so that a NaN stays a NaN.
        Some((min, _)) if s < f64::from(min) => f64::from(min),
        Some((_, max)) if s > f64::from(max) => f64::from(max),
        _ => s,
    }
}

impl Exact {
    /// Rounds the results into a call's states and outputs.
    pub(super) fn write<T: Float>(
        &self,
        state: &State<'_, Cpu>,
        outputs: &OutputsMut<'_, Cpu, T>,
    ) -> Result<()> {
        outputs.out.write_f64(&self.out)?;
        state.view().write_f64(&self.state)?;
        outputs.states.as_deref().map_or(Ok(()), |states| states.write_f64(&self.states))
    }
}
