//! Recurrences at the settings of section 17 of their specification.

use super::{Case, Given};
use crate::Result;
use crate::backend::{Device, dispatch, on_backend};
use crate::element::{DType, Float};
use crate::operation::{Settings, Sizes as Lengths};
use crate::rnn::{
    AXES, Inputs, NAME, Options, OutputGradients, Outputs, OutputsMut, Problem, Rnn, Save,
    backward, backward_into, forward, forward_into, split,
};
use crate::verify::time::{Setting, Timing, repeat};

/// The name, B, T, N, D, and whether it is meant for a GPU.
const SETTINGS: [(&str, [usize; 4], bool); 8] = [
    ("H", [16, 256, 12, 64], false),
    ("H", [16, 256, 1, 768], false),
    ("A", [16, 1024, 48, 16], true),
    ("A", [16, 1024, 24, 32], true),
    ("A", [16, 1024, 12, 64], true),
    ("A", [16, 1024, 6, 128], true),
    ("A", [16, 1024, 3, 256], true),
    ("A", [16, 1024, 1, 768], true),
];

pub(super) fn settings() -> Vec<Setting> {
    let setting = |pass, cell: &str, (name, sizes, large)| {
        let options = [("cell".to_owned(), cell.to_owned())].into();
        let settings = Settings { options, ..Settings::default() };
        Setting { large, ..Setting::new(name, pass, Lengths::new(&AXES, sizes), settings) }
    };
    let calls = ["lstm", "slstm", "gru"]
        .into_iter()
        .flat_map(|cell| ["forward", "backward"].map(|pass| (pass, cell)));
    calls.flat_map(|(pass, cell)| SETTINGS.map(|size| setting(pass, cell, size))).collect()
}

/// The case of a setting, with a bias, from zeros.
///
/// # Errors
///
/// [`Error::Option`](crate::Error::Option) for sizes or options that make no sense.
pub(super) fn case(setting: &Setting) -> Result<Case> {
    let options = Options::from_settings(&setting.settings)?;
    let sizes = setting.sizes.lengths(NAME)?;
    Problem::new(DType::F32, sizes, &options)?;
    Ok(Case {
        direction: options.direction,
        before: super::Before::Nothing,
        given: Given::H,
        wide: options.save == Save::Wide,
        output_clip: options.output_clip,
        grad_clip: options.grad_clip,
        grad_cut: options.grad_cut,
        ..Case::new(options.cell, sizes)
    })
}

/// One call to warm up, then calls into the same outputs, each by the clock from the launch until
/// the device has finished. Forward means without anything kept, unless `saved` asks for it.
pub(super) fn time(
    device: &Device,
    setting: &Setting,
    dtype: DType,
    runs: Option<usize>,
) -> Result<Timing> {
    let case = case(setting)?;
    dispatch!(NAME, device, dtype, |backend, T| match setting.pass {
        "backward" => time_backward::<_, T>(backend, &case, runs),
        _ => time_forward::<_, T>(backend, &case, saved(setting)?, runs),
    })
}

fn saved(setting: &Setting) -> Result<Save> {
    let asked = setting.settings.options.contains_key("saved");
    Ok(if asked { Options::from_settings(&setting.settings)?.save } else { Save::Nothing })
}

fn time_forward<B: Rnn<T>, T: Float>(
    backend: &B,
    case: &Case,
    save: Save,
    runs: Option<usize>,
) -> Result<Timing> {
    let options = case.options().with_save(save).with_states(false);
    let (inputs, _) = split(&case.tensors::<T>()?);
    let inputs = on_backend(backend, &inputs)?;
    let inputs = Inputs::<B, T>::from_named(&inputs)?;
    let problem = Problem::check(&inputs, &options)?;
    let variant = backend.plan_forward(&problem, &options)?.variant;
    let mut outputs = forward(&inputs, &options)?;
    let Outputs { h, last, saved, .. } = &mut outputs;
    let mut outputs = OutputsMut { h, states: None, last: Some(last), saved: saved.as_mut() };
    backend.synchronise()?;
    let seconds = repeat(runs, || {
        forward_into(&inputs, &options, &mut outputs)?;
        backend.synchronise()
    })?;
    Ok(Timing { variant, seconds, bytes: problem.least_bytes_forward() })
}

fn time_backward<B: Rnn<T>, T: Float>(
    backend: &B,
    case: &Case,
    runs: Option<usize>,
) -> Result<Timing> {
    let options = case.options().with_states(false);
    let (inputs, given) = split(&case.tensors::<T>()?);
    let (inputs, given) = (on_backend(backend, &inputs)?, on_backend(backend, &given)?);
    let inputs = Inputs::<B, T>::from_named(&inputs)?;
    let given = OutputGradients::<B, T>::from_named(&given)?;
    let problem = Problem::check(&inputs, &options)?;
    let variant = backend.plan_backward(&problem, &options)?.variant;
    let mut timing = Timing { variant, seconds: Vec::new(), bytes: problem.least_bytes_backward() };
    let Outputs { h, saved, .. } = forward(&inputs, &options)?;
    let Some(saved) = saved else { return Ok(timing) };
    let mut gradients = backward(&inputs, &options, &h, &saved, &given)?;
    backend.synchronise()?;
    timing.seconds = repeat(runs, || {
        backward_into(&inputs, &options, &h, &saved, &given, &mut gradients)?;
        backend.synchronise()
    })?;
    Ok(timing)
}
