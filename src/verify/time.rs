//! Timing: the settings of the specifications, and the device's copy bandwidth to compare with.

use std::time::{Duration, Instant};

use crate::Result;
use crate::backend::{Backend, Device};
use crate::operation::{Settings, Sizes};

/// How long the runs of a timing take together where their number is not given.
const ENOUGH: Duration = Duration::from_secs(3);

/// A call that a specification asks to be timed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Setting {
    /// Its name in the specification.
    pub id: &'static str,
    /// The pass, as [`Report::pass`](super::Report::pass) names it.
    pub pass: &'static str,
    /// How large the call is.
    pub sizes: Sizes,
    /// The options of the call.
    pub settings: Settings,
    /// Whether it is meant for a GPU, and takes seconds on a CPU.
    pub large: bool,
}

impl Setting {
    /// A call of this size that fits every device.
    pub fn new(id: &'static str, pass: &'static str, sizes: Sizes, settings: Settings) -> Self {
        Self { id, pass, sizes, settings, large: false }
    }

    /// The sizes and options in a line.
    pub fn describe(&self) -> String {
        let options = self.settings.options.iter().map(|(key, value)| format!(" {key}={value}"));
        options.fold(self.sizes.to_string(), |line, option| line + &option)
    }
}

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

/// Seconds of each of `runs` runs; without their number it goes on for three seconds, for 7 runs
/// at least and 50 at most.
pub(super) fn repeat(runs: Option<usize>, mut run: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    repeat_by(runs, || {
        let start = Instant::now();
        run()?;
        Ok(start.elapsed().as_secs_f64())
    })
}

/// The same of runs that tell their seconds themselves.
pub(super) fn repeat_by(
    runs: Option<usize>,
    mut run: impl FnMut() -> Result<f64>,
) -> Result<Vec<f64>> {
    let begin = Instant::now();
    let mut seconds = Vec::new();
    let go_on = |done: usize| match runs {
        Some(runs) => done < runs,
        None => done < 7 || done < 50 && begin.elapsed() < ENOUGH,
    };
    while go_on(seconds.len()) {
        seconds.push(run()?);
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
