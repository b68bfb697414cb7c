//! Attention at the settings of section 15 of its specification.

use super::{Case, Sizes};
use crate::Result;
use crate::attention::{
    AXES, Attention, Inputs, NAME, Options, OutputGradients, Problem, all_sizes, backward,
    backward_into, forward, forward_into, split,
};
use crate::backend::{Device, dispatch, on_backend};
use crate::element::{DType, Float};
use crate::operation::{Settings, Sizes as Lengths};
use crate::verify::time::{Setting, Timing, repeat};

/// The name, B, H, Hk, Sq, Sk, D and Dv, and whether it is meant for a GPU.
const SETTINGS: [(&str, [usize; 7], bool); 8] = [
    ("S", [1, 8, 8, 2048, 2048, 64, 64], false),
    ("S", [1, 8, 8, 2048, 2048, 128, 128], false),
    ("D", [1, 32, 8, 1, 16_384, 128, 128], false),
    ("F", [4, 32, 32, 4096, 4096, 64, 64], true),
    ("F", [4, 16, 16, 4096, 4096, 128, 128], true),
    ("F", [1, 16, 16, 16_384, 16_384, 128, 128], true),
    ("F", [4, 8, 8, 4096, 4096, 256, 256], true),
    ("G", [1, 32, 8, 8192, 8192, 128, 128], true),
];

pub(super) fn settings() -> Vec<Setting> {
    let setting = |pass, causal: bool, (name, sizes, large)| {
        let options = [("causal".to_owned(), causal.to_string())].into();
        let settings = Settings { options, ..Settings::default() };
        Setting { large, ..Setting::new(name, pass, Lengths::new(&AXES, sizes), settings) }
    };
    let calls = ["forward", "backward"].into_iter().flat_map(|pass| [(pass, false), (pass, true)]);
    calls.flat_map(|(pass, causal)| SETTINGS.map(|size| setting(pass, causal, size))).collect()
}

/// B · H · Sq · Sk.
pub(super) fn scores(sizes: &Lengths) -> usize {
    let [batch, heads, _, queries, keys, ..] = all_sizes(sizes.lengths(NAME).unwrap_or_default());
    batch * heads * queries * keys
}

/// The case of a setting.
///
/// # Errors
///
/// [`Error::Option`](crate::Error::Option) for sizes or options that make no sense.
pub(super) fn case(setting: &Setting) -> Result<Case> {
    let options = Options::from_settings(&setting.settings)?;
    let all = all_sizes(setting.sizes.lengths(NAME)?);
    Problem::new(DType::F32, all, &options)?;
    let [batch, heads, kv_heads, queries, keys, width, value_width] = all;
    let sizes = Sizes { batch, heads, kv_heads, queries, keys, width, value_width };
    Ok(Case {
        layout: options.layout,
        mask: options.mask,
        scale: options.scale,
        softcap: options.softcap,
        splits: options.splits,
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
    dispatch!(NAME, device, dtype, |backend, T| match setting.pass {
        "backward" => time_backward::<_, T>(backend, &case, runs),
        _ => time_forward::<_, T>(backend, &case, runs),
    })
}

fn time_forward<B: Attention<T>, T: Float>(
    backend: &B,
    case: &Case,
    runs: Option<usize>,
) -> Result<Timing> {
    let options = case.options();
    let (inputs, _) = split(&case.tensors::<T>()?);
    let inputs = on_backend(backend, &inputs)?;
    let inputs = Inputs::<B, T>::from_named(&inputs)?;
    let problem = Problem::check(&inputs, &options)?;
    let variant = backend.plan_forward(&problem, &options)?.variant;
    let mut outputs = forward(&inputs, &options)?;
    backend.synchronise()?;
    let seconds = repeat(runs, || {
        forward_into(&inputs, &options, &mut outputs.as_mut())?;
        backend.synchronise()
    })?;
    Ok(Timing { variant, seconds, bytes: problem.least_bytes_forward() })
}

fn time_backward<B: Attention<T>, T: Float>(
    backend: &B,
    case: &Case,
    runs: Option<usize>,
) -> Result<Timing> {
    let options = case.options();
    let (inputs, given) = split(&case.tensors::<T>()?);
    let (inputs, given) = (on_backend(backend, &inputs)?, on_backend(backend, &given)?);
    let inputs = Inputs::<B, T>::from_named(&inputs)?;
    let given = OutputGradients::<B, T>::new(given["dout"].as_typed()?);
    let problem = Problem::check(&inputs, &options)?;
    let variant = backend.plan_backward(&problem, &options)?.variant;
    let outputs = forward(&inputs, &options)?;
    let mut gradients = backward(&inputs, &options, &outputs.saved(), &given)?;
    backend.synchronise()?;
    let seconds = repeat(runs, || {
        backward_into(&inputs, &options, &outputs.saved(), &given, &mut gradients.as_mut())?;
        backend.synchronise()
    })?;
    Ok(Timing { variant, seconds, bytes: problem.least_bytes_backward() })
}
