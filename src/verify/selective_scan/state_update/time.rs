//! The update at the settings of section 13 of its specification.

use super::Case;
use crate::backend::{Device, dispatch, on_backend};
use crate::element::{DType, Float};
use crate::operation::{Settings, Sizes};
use crate::selective_scan::state_update::{
    AXES, Inputs, NAME, Options, OutputsMut, Problem, State, StateUpdate, update, update_into,
};
use crate::verify::time::{Setting, Timing, repeat};
use crate::{Error, Result};

/// The option of a setting that tells the element type of the states; calls have it in a tensor.
const STATE: &str = "state";

/// U1: Mamba's update, and that of Mamba-2 with parameters that a head shares.
pub(super) fn settings() -> Vec<Setting> {
    let setting = |state: &str, sizes| {
        let options = [("dt_softplus", "true"), (STATE, state)];
        let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let options = Settings { options: options.into(), ..Settings::default() };
        Setting::new("U1", "update", Sizes::new(&AXES, sizes), options)
    };
    let mut settings = Vec::new();
    for state in ["f32", "bf16"] {
        for batch in [1, 8, 64, 256] {
            settings.push(setting(state, [batch, 1, 5120, 1, 16, 1]));
            settings.push(setting(state, [batch, 1, 80, 64, 128, 8]));
        }
    }
    for setting in &mut settings {
        let batch = setting.sizes.axes().first().map_or(0, |(_, batch)| *batch);
        setting.large = batch > 64;
    }
    settings
}

/// The case of a setting. Heads wider than one channel share their parameters.
///
/// # Errors
///
/// [`Error::Option`] for sizes or options that make no sense.
pub(super) fn case(setting: &Setting) -> Result<Case> {
    let mut settings = setting.settings.clone();
    let state = match settings.options.remove(STATE) {
        None => DType::F32,
        Some(name) => state_dtype(&name)?,
    };
    let options = Options::from_settings(&settings)?;
    let sizes @ [batch, steps, heads, width, states, groups] = setting.sizes.lengths(NAME)?;
    Problem::new(DType::F32, sizes)?;
    let case = match width {
        1 => Case { groups, ..Case::plain(batch, heads, states) },
        _ => Case::heads(batch, heads, width, states, groups),
    };
    Ok(Case {
        steps: (steps != 1).then_some(steps),
        state,
        softplus: options.dt_softplus,
        clamp: options.dt_clamp,
        ..case
    })
}

fn state_dtype(name: &str) -> Result<DType> {
    let known = [DType::F32, DType::BF16, DType::F16];
    known.into_iter().find(|dtype| dtype.name() == name).ok_or_else(|| Error::Option {
        operation: NAME,
        option: STATE.to_owned(),
        expected: "f32, bf16 or f16".to_owned(),
        found: name.to_owned(),
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
    dispatch!(NAME, device, dtype, |backend, T| time_on::<_, T>(backend, &case, runs))
}

fn time_on<B: StateUpdate<T>, T: Float>(
    backend: &B,
    case: &Case,
    runs: Option<usize>,
) -> Result<Timing> {
    let options = case.options();
    let named = on_backend(backend, &case.tensors::<T>()?)?;
    let mut state = named["state"].clone();
    let inputs = Inputs::<B, T>::from_named(&named)?;
    let problem = Problem::check(&State::from_view(&mut state)?, &inputs, &options)?;
    let variant = backend.plan(&problem, &options)?.variant;
    let mut out = update(State::from_view(&mut state)?, &inputs, &options)?;
    backend.synchronise()?;
    let seconds = repeat(runs, || {
        let mut outputs = OutputsMut { out: &mut out, states: None };
        update_into(State::from_view(&mut state)?, &inputs, &options, &mut outputs)?;
        backend.synchronise()
    })?;
    Ok(Timing { variant, seconds, bytes: problem.least_bytes(case.gate) })
}
