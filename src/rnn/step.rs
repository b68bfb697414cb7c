//! One step at a time: states in place.

use super::check::CHECK;
use super::{
    Initial, Inputs, NAME, Options, OutputsMut, Problem, Rnn, Save, State, launch_forward,
};
use crate::backend::Backend;
use crate::element::Float;
use crate::parameter::Parameter;
use crate::tensor::{Tensor, View};
use crate::{Error, Result};

/// The tensors of a step: those of a recurrence without the axis T.
#[derive(Debug)]
pub struct StepInputs<'a, B: Backend, T: Float> {
    /// The input projection, (B, Gw, N, D).
    pub wx: &'a Tensor<B, T>,
    /// The recurrent matrices, (Gr, N, D, D).
    pub r: Parameter<'a, B>,
    /// The bias, (Gb, N, D); zeros where absent.
    pub b: Option<Parameter<'a, B>>,
}

/// Runs one step from the states to the states, which are written in place. h of the step, (B, N, D).
///
/// # Errors
///
/// As [`forward`](super::forward).
pub fn step<B: Rnn<T>, T: Float>(
    inputs: &StepInputs<'_, B, T>,
    options: &Options,
    state: &mut State<B, T>,
) -> Result<Tensor<B, T>> {
    let mut h = Tensor::new(inputs.wx.backend(), state.h.shape())?;
    step_into(inputs, options, state, &mut h)?;
    Ok(h)
}

/// The same into the caller's tensor.
///
/// # Errors
///
/// As [`step`], and [`Error::Aliased`].
pub fn step_into<B: Rnn<T>, T: Float>(
    inputs: &StepInputs<'_, B, T>,
    options: &Options,
    state: &mut State<B, T>,
    h: &mut Tensor<B, T>,
) -> Result<()> {
    if options.save != Save::Nothing || options.states {
        return Err(Error::Option {
            operation: NAME,
            option: "saved".to_owned(),
            expected: "none: a step keeps nothing but its states".to_owned(),
            found: format!("{:?}", options.save).to_lowercase(),
        });
    }
    for (name, view, rank) in [("wx", &**inputs.wx as &View<B>, 4), ("h", h, 3)] {
        if view.shape().len() != rank {
            let expected = format!("a step's {rank} axes, without T");
            return Err(CHECK.wrong_shape(name, view, expected));
        }
    }
    let before = state.clone();
    let [h0, c, n, m] = before.all().map(|state| state.map(Parameter::from));
    let inputs = Inputs {
        wx: &inputs.wx.unsqueezed(1)?,
        r: inputs.r,
        b: inputs.b,
        initial: Initial { h: h0, c, n, m },
        lengths: None,
    };
    let problem = Problem::check(&inputs, options)?;
    let mut h = h.unsqueezed(1)?;
    let outputs = OutputsMut { h: &mut h, states: None, last: Some(state), saved: None };
    problem.check_outputs(&inputs, &outputs)?;
    let plan = inputs.wx.backend().plan_forward(&problem, options)?;
    launch_forward(&plan, &problem, &inputs, options, &outputs)
}
