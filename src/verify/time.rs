//! Timing: the settings of the specifications, and the device's copy bandwidth to compare with.

use std::time::{Duration, Instant};

use super::selective_scan::Case;
use crate::Result;
use crate::backend::{Backend, Device, dispatch, on_backend};
use crate::element::{DType, Float};
use crate::selective_scan::{
    Inputs, NAME, Outputs, OutputsMut, Problem, SelectiveScan, forward, forward_into,
};

/// How long the runs of a timing take together where their number is not given.
const ENOUGH: Duration = Duration::from_secs(3);

/// A shape that a specification asks to be timed.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Setting {
    /// Its name in the specification.
    pub id: &'static str,
    /// B, D, L, N, G.
    sizes: [usize; 5],
    /// Whether it is meant for a GPU, and takes seconds on a CPU.
    pub large: bool,
}

impl Setting {
    /// The case to time.
    pub fn case(&self) -> Case {
        let [batch, channels, steps, states, groups] = self.sizes;
        // S3 is the setting of the paper, which has no gate.
        Case { gate: self.id != "S3", ..Case::new(batch, channels, steps, states, groups) }
    }
}

const fn setting(id: &'static str, sizes: [usize; 5], large: bool) -> Setting {
    Setting { id, sizes, large }
}

/// The settings of the selective scan, section 13 of its specification.
pub const SETTINGS: [Setting; 17] = [
    setting("S1", [8, 2048, 512, 16, 1], false),
    setting("S1", [8, 2048, 1024, 16, 1], true),
    setting("S1", [8, 2048, 2048, 16, 1], true),
    setting("S1", [8, 2048, 4096, 16, 1], true),
    setting("S1", [8, 2048, 8192, 16, 1], true),
    setting("S2", [1, 1536, 16_384, 16, 1], true),
    setting("S2", [1, 5120, 16_384, 16, 1], true),
    setting("S2", [1, 1536, 65_536, 16, 1], true),
    setting("S3", [1, 1024, 512, 16, 1], false),
    setting("S3", [1, 1024, 8192, 16, 1], false),
    setting("S3", [8, 1024, 8192, 16, 1], true),
    setting("S4", [8, 2048, 2048, 1, 1], true),
    setting("S4", [8, 2048, 2048, 4, 1], true),
    setting("S4", [8, 2048, 2048, 64, 1], true),
    setting("S4", [8, 2048, 2048, 256, 1], true),
    setting("S6", [2, 768, 197, 16, 4], false),
    setting("peers", [4, 768, 1024, 16, 1], false),
];

/// What a timing found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Timing {
    /// The variant that ran.
    pub variant: &'static str,
    /// Seconds of each run, launch to end, in the order of the runs.
    pub seconds: Vec<f64>,
    /// The least bytes that the call can move.
    pub bytes: u64,
}

/// Times a scan on a device: one call to warm up, then `runs` calls into the same outputs, each
/// by the clock from the launch until the device has finished. Without a number of runs it goes
/// on for three seconds, for 7 runs at least and 50 at most.
///
/// # Errors
///
/// As [`forward_into`].
pub fn selective_scan(
    device: &Device,
    case: &Case,
    dtype: DType,
    runs: Option<usize>,
) -> Result<Timing> {
    dispatch!(NAME, device, dtype, |backend, T| scan_on::<_, T>(backend, case, runs))
}

fn scan_on<B: SelectiveScan<T>, T: Float>(
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

/// Seconds of each run.
fn repeat(runs: Option<usize>, mut run: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    let begin = Instant::now();
    let mut seconds = Vec::new();
    let go_on = |done: usize| match runs {
        Some(runs) => done < runs,
        None => done < 7 || done < 50 && begin.elapsed() < ENOUGH,
    };
    while go_on(seconds.len()) {
        let start = Instant::now();
        run()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(seconds)
}

/// Bytes per second, read and written, of a copy on a device: the best of a few.
///
/// # Errors
///
/// The device's refusal.
pub fn copy_bandwidth(device: &Device) -> Result<f64> {
    match device {
        Device::Cpu(backend) => copy_on(backend),
        #[cfg(feature = "wgpu")]
        Device::Wgpu(backend) => copy_on(backend),
        #[cfg(feature = "cuda")]
        Device::Cuda(backend) => copy_on(backend),
    }
}

fn copy_on<B: Backend>(backend: &B) -> Result<f64> {
    // Beyond every cache, within every limit of a buffer.
    const BYTES: u64 = 128 << 20;
    let (from, to) = (backend.allocate(BYTES)?, backend.allocate(BYTES)?);
    let copy = || {
        backend.copy(&from, &to)?;
        backend.synchronise()
    };
    copy()?;
    let seconds = repeat(Some(7), copy)?;
    let fastest = seconds.into_iter().fold(f64::INFINITY, f64::min);
    Ok(2.0 * BYTES as f64 / fastest)
}
