//! Rings at the settings of section 15 of their specification: ranks that share a device, all of
//! whose time counts.

use super::Case;
use crate::Result;
use crate::attention::{AXES, Attention, all_sizes};
use crate::backend::{Cpu, Device, Named, dispatch};
use crate::collective::Lines;
use crate::element::{DType, Float};
use crate::operation::{Settings, Sizes as Lengths};
use crate::ring::{NAME, Pass, Plan, RANKS, Request, run_threads};
use crate::verify::attention::{Case as Call, Sizes};
use crate::verify::time::{Setting, Timing, repeat_by};

/// Ranks, and whether their 1024 tokens each are many for a CPU.
const SETTINGS: [(usize, bool); 4] = [(1, false), (2, false), (4, true), (16, true)];

pub(super) fn settings() -> Vec<Setting> {
    let setting = |pass, (ranks, large): (usize, bool)| {
        let options = [("causal", "true".to_owned()), ("ranks", ranks.to_string())];
        let options = options.map(|(key, value)| (key.to_owned(), value)).into();
        let tokens = 1024 * ranks;
        let sizes = Lengths::new(&AXES, [1, 8, 4, tokens, tokens, 64, 64]);
        Setting {
            large,
            ..Setting::new("V", pass, sizes, Settings { options, ..Settings::default() })
        }
    };
    let passes = ["forward", "backward"].into_iter();
    passes.flat_map(|pass| SETTINGS.map(|ranks| setting(pass, ranks))).collect()
}

/// The case of a setting.
///
/// # Errors
///
/// [`Error::Option`](crate::Error::Option) for sizes or options that make no sense.
pub(super) fn case(setting: &Setting) -> Result<Case> {
    let request = Request::from_settings(&setting.settings)?;
    let all = all_sizes(setting.sizes.lengths(NAME)?);
    let plan = Plan::new(DType::F32, all, &request, Pass::Forward)?;
    let [batch, heads, kv_heads, queries, keys, width, value_width] = all;
    let sizes = Sizes { batch, heads, kv_heads, queries, keys, width, value_width };
    let options = request.options;
    Ok(Case {
        call: Call {
            layout: options.layout,
            mask: options.mask,
            scale: options.scale,
            softcap: options.softcap,
            splits: options.splits,
            ..Call::new(sizes)
        },
        scheme: plan.ring.keys.scheme(),
        ranks: request.ranks.unwrap_or(RANKS),
        algorithm: request.algorithm,
        direction: None,
    })
}

/// The tensors of a pass: the forward pass is made where no gradient is given.
pub(super) fn tensors<T: Float>(case: &Case, pass: &str) -> Result<Named<Cpu>> {
    let mut tensors = case.call.tensors::<T>()?;
    if pass == "forward" {
        tensors.remove("dout");
    }
    Ok(tensors)
}

/// One call to warm up, then calls, each from when all ranks are there until the slowest has
/// finished.
pub(super) fn time(
    device: &Device,
    setting: &Setting,
    dtype: DType,
    runs: Option<usize>,
) -> Result<Timing> {
    let case = case(setting)?;
    dispatch!(NAME, device, dtype, |backend, T| time_on::<_, T>(backend, &case, setting.pass, runs))
}

fn time_on<B: Attention<T> + Lines, T: Float>(
    backend: &B,
    case: &Case,
    pass: &str,
    runs: Option<usize>,
) -> Result<Timing> {
    let (tensors, ring, options) = (tensors::<T>(case, pass)?, case.ring()?, case.options());
    let problem = case.call.problem(T::DTYPE)?;
    let (pass, bytes) = match pass {
        "backward" => (Pass::Backward, problem.least_bytes_backward()),
        _ => (Pass::Forward, problem.least_bytes_forward()),
    };
    let once = || -> Result<f64> {
        let all = run_threads::<B, T>(backend, &tensors, &ring, &options)?;
        Ok(all.slowest(pass).as_secs_f64())
    };
    once()?;
    let variant = ring.chosen(&case.shards(T::DTYPE)?, pass).name();
    Ok(Timing { variant, seconds: repeat_by(runs, once)?, bytes })
}
