//! The scan at the settings of section 13 of its specification.

use super::Case;
use crate::Result;
use crate::backend::{Device, dispatch, on_backend};
use crate::element::{DType, Float};
use crate::operation::{Settings, Sizes};
use crate::selective_scan::{
    AXES, Inputs, NAME, OutputGradients, Outputs, OutputsMut, Problem, SelectiveScan, backward,
    backward_into, forward, forward_into,
};
use crate::verify::time::{Setting, Timing, repeat};

/// B, D, L, N, G, and whether it is meant for a GPU.
const SETTINGS: [(&str, [usize; 5], bool); 17] = [
    ("S1", [8, 2048, 512, 16, 1], false),
    ("S1", [8, 2048, 1024, 16, 1], true),
    ("S1", [8, 2048, 2048, 16, 1], true),
    ("S1", [8, 2048, 4096, 16, 1], true),
    ("S1", [8, 2048, 8192, 16, 1], true),
    ("S2", [1, 1536, 16_384, 16, 1], true),
    ("S2", [1, 5120, 16_384, 16, 1], true),
    ("S2", [1, 1536, 65_536, 16, 1], true),
    ("S3", [1, 1024, 512, 16, 1], false),
    ("S3", [1, 1024, 8192, 16, 1], false),
    ("S3", [8, 1024, 8192, 16, 1], true),
    ("S4", [8, 2048, 2048, 1, 1], true),
    ("S4", [8, 2048, 2048, 4, 1], true),
    ("S4", [8, 2048, 2048, 64, 1], true),
    ("S4", [8, 2048, 2048, 256, 1], true),
    ("S6", [2, 768, 197, 16, 4], false),
    ("peers", [4, 768, 1024, 16, 1], false),
];

/// The passes that are timed; the backward pass with the forward pass that saves its states.
const FORWARD: &str = "forward";
pub(super) const BOTH: &str = "forward+backward";

pub(super) fn settings() -> Vec<Setting> {
    let setting = |pass: &'static str, (id, sizes, large)| {
        let sizes = Sizes::new(&AXES, sizes);
        Setting { large, ..Setting::new(id, pass, sizes, Settings::default()) }
    };
    let forward = SETTINGS.map(|chosen| setting(FORWARD, chosen));
    let trained = SETTINGS.into_iter().filter(|(id, ..)| matches!(*id, "S1" | "peers"));
    forward.into_iter().chain(trained.map(|chosen| setting(BOTH, chosen))).collect()
}

/// The case of a setting.
///
/// # Errors
///
/// [`Error::Option`](crate::Error::Option) for sizes or options that make no sense.
pub(super) fn case(setting: &Setting) -> Result<Case> {
    let options = crate::selective_scan::Options::from_settings(&setting.settings)?;
    let sizes @ [batch, channels, steps, states, groups] = setting.sizes.lengths(NAME)?;
    Problem::new(DType::F32, sizes, &options)?;
    let case = Case::new(batch, channels, steps, states, groups);
    // S3 is the setting of the paper, which has no gate.
    Ok(Case { gate: setting.id != "S3", layout: options.layout, ..case })
}

/// One call to warm up, then calls into the same outputs, each by the clock from the launch until
/// the device has finished.
pub(super) fn time(
    device: &Device,
    setting: &Setting,
    dtype: DType,
    runs: Option<usize>,
) -> Result<Timing> {
    let case = &case(setting)?;
    dispatch!(NAME, device, dtype, |backend, T| match setting.pass {
        BOTH => time_both_on::<_, T>(backend, case, runs),
        _ => time_on::<_, T>(backend, case, runs),
    })
}

fn time_on<B: SelectiveScan<T>, T: Float>(
    backend: &B,
    case: &Case,
    runs: Option<usize>,
) -> Result<Timing> {
    let options = case.options().with_save(false);
    let named = on_backend(backend, &case.tensors::<T>()?)?;
    let inputs = Inputs::<B, T>::from_named(&named)?;
    let problem = Problem::check(&inputs, &options)?;
    let variant = backend.plan_forward(&problem, &options)?.variant;
    let Outputs { mut out, mut last_state, .. } = forward(&inputs, &options)?;
    let mut outputs = OutputsMut { out: &mut out, last_state: Some(&mut last_state), saved: None };
    backend.synchronise()?;
    let seconds = repeat(runs, || {
        forward_into(&inputs, &options, &mut outputs)?;
        backend.synchronise()
    })?;
    Ok(Timing { variant, seconds, bytes: problem.least_bytes(case.gate) })
}

fn time_both_on<B: SelectiveScan<T>, T: Float>(
    backend: &B,
    case: &Case,
    runs: Option<usize>,
) -> Result<Timing> {
    let options = case.options();
    let named = on_backend(backend, &case.tensors::<T>()?)?;
    let gradients = on_backend(backend, &case.output_gradients::<T>()?)?;
    let inputs = Inputs::<B, T>::from_named(&named)?;
    let outer = OutputGradients::<B, T>::from_named(&gradients)?;
    let problem = Problem::check(&inputs, &options)?;
    let variant = backend.plan_backward(&problem, &options)?.variant;
    let Outputs { mut out, mut last_state, saved } = forward(&inputs, &options)?;
    let Some(mut saved) = saved else {
        return Ok(Timing { variant, seconds: Vec::new(), bytes: 0 });
    };
    let mut gradients = backward(&inputs, &options, &saved, &outer)?;
    backend.synchronise()?;
    let seconds = repeat(runs, || {
        let mut outputs = OutputsMut {
            out: &mut out,
            last_state: Some(&mut last_state),
            saved: Some(&mut saved),
        };
        forward_into(&inputs, &options, &mut outputs)?;
        backward_into(&inputs, &options, &saved, &outer, &mut gradients.as_mut())?;
        backend.synchronise()
    })?;
    let bytes = problem.least_bytes(case.gate) + problem.least_backward_bytes(case.gate);
    Ok(Timing { variant, seconds, bytes })
}
