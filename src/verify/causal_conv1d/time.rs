//! The convolution at the settings of section 13 of its specification.

use super::Case;
use crate::Result;
use crate::backend::{Device, dispatch, on_backend};
use crate::causal_conv1d::{
    AXES, CausalConv1d, Inputs, NAME, Options, OutputGradients, Pass, Problem, backward,
    backward_into, forward, forward_into,
};
use crate::element::{DType, Float};
use crate::operation::{Settings, Sizes};
use crate::verify::time::{Setting, Timing, repeat};

/// C1: both passes in both layouts.
pub(super) fn settings() -> Vec<Setting> {
    let mut settings = Vec::new();
    for layout in ["BDL", "BLD"] {
        for pass in ["forward", "backward"] {
            let options = [("layout", layout), ("activation", "silu")];
            let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
            let options = Settings { options: options.into(), ..Settings::default() };
            let sizes = Sizes::new(&AXES, [8, 2048, 2048, 4]);
            settings.push(Setting::new("C1", pass, sizes, options));
        }
    }
    settings
}

/// The pass that a setting asks for.
pub(super) fn pass(setting: &Setting) -> Pass {
    if setting.pass == "backward" { Pass::Backward } else { Pass::Forward }
}

/// The case of a setting.
///
/// # Errors
///
/// [`Error::Option`](crate::Error::Option) for sizes or options that make no sense.
pub(super) fn case(setting: &Setting) -> Result<Case> {
    let options = Options::from_settings(NAME, &setting.settings)?;
    let sizes @ [batch, channels, steps, width] = setting.sizes.lengths(NAME)?;
    Problem::new(DType::F32, sizes, &options)?;
    Ok(Case {
        layout: options.layout,
        activation: options.activation,
        s0: false,
        dfinal_state: false,
        ..Case::new(batch, channels, steps, width)
    })
}

/// One call to warm up, then calls into the same outputs, each by the clock from the launch until
/// the device has finished.
pub(super) fn time(
    device: &Device,
    setting: &Setting,
    dtype: DType,
    runs: Option<usize>,
) -> Result<Timing> {
    let case = case(setting)?;
    dispatch!(NAME, device, dtype, |backend, T| time_on::<_, T>(
        backend,
        &case,
        pass(setting),
        runs
    ))
}

fn time_on<B: CausalConv1d<T>, T: Float>(
    backend: &B,
    case: &Case,
    pass: Pass,
    runs: Option<usize>,
) -> Result<Timing> {
    let options = case.options();
    let named = on_backend(backend, &case.tensors::<T>()?)?;
    let inputs = Inputs::<B, T>::from_named(&named)?;
    let problem = Problem::check(&inputs, &options)?;
    let variant = backend.plan(pass, &problem, &options)?.variant;
    let seconds = match (pass, OutputGradients::<B, T>::from_named(&named)?) {
        (Pass::Backward, Some(gradients)) => {
            let mut outputs = backward(&inputs, &gradients, &options)?;
            backend.synchronise()?;
            repeat(runs, || {
                backward_into(&inputs, &gradients, &options, &mut outputs.as_mut())?;
                backend.synchronise()
            })?
        }
        _ => {
            let mut outputs = forward(&inputs, &options)?;
            backend.synchronise()?;
            repeat(runs, || {
                forward_into(&inputs, &options, &mut outputs.as_mut())?;
                backend.synchronise()
            })?
        }
    };
    Ok(Timing { variant, seconds, bytes: problem.least_bytes(pass) })
}
