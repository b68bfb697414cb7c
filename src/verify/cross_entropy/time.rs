//! Cross entropy at the settings of section 15 of its specification.

use super::{Case, Sizes, Targets};
use crate::Result;
use crate::backend::{Device, dispatch, on_backend};
use crate::cross_entropy::{
    AXES, CrossEntropy, Inputs, NAME, Options, Problem, backward, backward_into, forward,
    forward_into, split,
};
use crate::element::{DType, Float};
use crate::operation::{Settings, Sizes as Lengths};
use crate::parameter::Parameter;
use crate::verify::time::{Setting, Timing, repeat};

/// The name, T, V and E, and whether it is meant for a GPU.
const SETTINGS: [(&str, [usize; 3], bool); 6] = [
    ("V", [1024, 32_768, 0], false),
    ("V", [256, 8192, 512], false),
    ("V", [8192, 32_768, 0], true),
    ("V", [8192, 131_072, 0], true),
    ("V", [8192, 32_768, 4096], true),
    ("V", [8192, 131_072, 4096], true),
];

pub(super) fn settings() -> Vec<Setting> {
    let setting = |pass, (name, sizes, large)| {
        let sizes = Lengths::new(&AXES, sizes);
        Setting { large, ..Setting::new(name, pass, sizes, Settings::default()) }
    };
    let passes = ["forward", "backward"].into_iter();
    passes.flat_map(|pass| SETTINGS.map(|size| setting(pass, size))).collect()
}

/// The case of a setting, without an ignored token.
///
/// # Errors
///
/// [`Error::Option`](crate::Error::Option) for sizes or options that make no sense.
pub(super) fn case(setting: &Setting) -> Result<Case> {
    let options = Options::from_settings(&setting.settings)?;
    let [tokens, vocabulary, width] = setting.sizes.lengths(NAME)?;
    let sizes = Sizes { tokens, vocabulary, width: (width > 0).then_some(width) };
    Ok(Case {
        targets: Targets::Columns,
        label_smoothing: options.label_smoothing,
        z_loss: options.z_loss,
        softcap: options.softcap,
        reduction: options.reduction,
        ..Case::new(sizes)
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
    dispatch!(NAME, device, dtype, |backend, T| {
        time_on::<_, T>(backend, &case, setting.pass == "backward", runs)
    })
}

fn time_on<B: CrossEntropy<T>, T: Float>(
    backend: &B,
    case: &Case,
    is_backward: bool,
    runs: Option<usize>,
) -> Result<Timing> {
    let options = case.options();
    let (inputs, dloss) = split(&case.tensors::<T>()?);
    let inputs = on_backend(backend, &inputs)?;
    let inputs = Inputs::<B, T>::from_named(&inputs)?;
    let problem = Problem::check(&inputs, &options)?;
    let mut outputs = forward(&inputs, &options)?;
    backend.synchronise()?;
    let Some(dloss) = dloss.filter(|_| is_backward) else {
        let variant = backend.plan_forward(&problem, &options)?.variant;
        let seconds = repeat(runs, || {
            forward_into(&inputs, &options, &mut outputs.as_mut())?;
            backend.synchronise()
        })?;
        return Ok(Timing { variant, seconds, bytes: problem.least_bytes_forward() });
    };
    let variant = backend.plan_backward(&problem, &options)?.variant;
    let dloss = dloss.to_backend(backend)?;
    let dloss = Parameter::from_view(&dloss)?;
    let mut gradients = backward(&inputs, &options, &outputs.lse, dloss)?;
    backend.synchronise()?;
    let seconds = repeat(runs, || {
        backward_into(&inputs, &options, &outputs.lse, dloss, &mut gradients)?;
        backend.synchronise()
    })?;
    Ok(Timing { variant, seconds, bytes: problem.least_bytes_backward() })
}
