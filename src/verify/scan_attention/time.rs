//! Scan attention at the settings of section 13 of its specification.

use super::{Case, Sizes};
use crate::Result;
use crate::backend::{Device, dispatch, on_backend};
use crate::element::{DType, Float};
use crate::operation::{Settings, Sizes as Lengths};
use crate::scan_attention::{
    AXES, Inputs, NAME, Options, OutputGradients, OutputsMut, Problem, ScanAttention, backward,
    backward_into, forward, forward_into, split,
};
use crate::verify::time::{Setting, Timing, repeat};

/// B, H, Hk, L, Dk, Dv, and whether it is meant for a GPU.
const SETTINGS: [([usize; 6], bool); 5] = [
    ([8, 16, 0, 1024, 64, 64], false),
    ([8, 16, 0, 4096, 64, 64], true),
    ([8, 16, 0, 16_384, 64, 64], true),
    ([8, 16, 0, 65_536, 64, 64], true),
    ([1, 4, 0, 65_536, 64, 64], true),
];

pub(super) fn settings() -> Vec<Setting> {
    let setting = |pass, (sizes, large)| {
        let sizes = Lengths::new(&AXES, sizes);
        Setting { large, ..Setting::new("A1", pass, sizes, Settings::default()) }
    };
    let passes = ["forward", "backward"].into_iter();
    passes.flat_map(|pass| SETTINGS.map(|size| setting(pass, size))).collect()
}

/// The case of a setting, without a carry.
///
/// # Errors
///
/// [`Error::Option`](crate::Error::Option) for sizes or options that make no sense.
pub(super) fn case(setting: &Setting) -> Result<Case> {
    let options = Options::from_settings(&setting.settings)?;
    let lengths @ [batch, heads, _, steps, key_width, width] = setting.sizes.lengths(NAME)?;
    let key_heads = Problem::new(DType::F32, lengths, &options)?.value_heads;
    let key_width = (key_width > 0).then_some(key_width);
    let sizes = Sizes { batch, heads, key_heads, steps, key_width, width };
    let layout = options.layout;
    Ok(Case { layout, carry: false, carry_gradients: false, ..Case::new(sizes) })
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

fn time_forward<B: ScanAttention<T>, T: Float>(
    backend: &B,
    case: &Case,
    runs: Option<usize>,
) -> Result<Timing> {
    let options = case.options().with_save(false);
    let (inputs, _) = split(&case.tensors::<T>()?);
    let inputs = on_backend(backend, &inputs)?;
    let inputs = Inputs::<B, T>::from_named(&inputs)?;
    let problem = Problem::check(&inputs, &options)?;
    let variant = backend.plan_forward(&problem, &options)?.variant;
    let mut outputs = forward(&inputs, &options)?;
    let (o, carry) = (&mut outputs.o, Some(&mut outputs.carry));
    let mut outputs = OutputsMut { o, lse: None, carry, saved: None };
    backend.synchronise()?;
    let seconds = repeat(runs, || {
        forward_into(&inputs, &options, &mut outputs)?;
        backend.synchronise()
    })?;
    Ok(Timing { variant, seconds, bytes: problem.least_bytes_forward() })
}

fn time_backward<B: ScanAttention<T>, T: Float>(
    backend: &B,
    case: &Case,
    runs: Option<usize>,
) -> Result<Timing> {
    let options = case.options();
    let (inputs, given) = split(&case.tensors::<T>()?);
    let (inputs, given) = (on_backend(backend, &inputs)?, on_backend(backend, &given)?);
    let inputs = Inputs::<B, T>::from_named(&inputs)?;
    let given = OutputGradients::<B, T>::from_named(&given)?;
    let problem = Problem::check(&inputs, &options)?;
    let variant = backend.plan_backward(&problem, &options)?.variant;
    let mut timing = Timing { variant, seconds: Vec::new(), bytes: problem.least_bytes_backward() };
    let Some(saved) = forward(&inputs, &options)?.saved else { return Ok(timing) };
    let mut gradients = backward(&inputs, &options, &saved, &given)?;
    backend.synchronise()?;
    timing.seconds = repeat(runs, || {
        backward_into(&inputs, &options, &saved, &given, &mut gradients)?;
        backend.synchronise()
    })?;
    Ok(timing)
}
