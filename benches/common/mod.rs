//! What all benches do alike.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use warpwright::Result;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use warpwright::{Device, DeviceName};

/// Calls a function, generic over backends, for each device of this machine.
#[macro_export]
macro_rules! for_each_device {
    ($criterion:expr, $on_backend:path) => {
        $on_backend($criterion, "cpu", &warpwright::Cpu);
        #[cfg(feature = "wgpu")]
        if let Some(warpwright::Device::Wgpu(wgpu)) =
            common::opened(warpwright::DeviceName::Wgpu(None))
        {
            println!("wgpu is {}", warpwright::Device::Wgpu(wgpu.clone()).name());
            $on_backend($criterion, "wgpu", &wgpu);
        }
        #[cfg(feature = "cuda")]
        if let Some(warpwright::Device::Cuda(cuda)) =
            common::opened(warpwright::DeviceName::Cuda(0))
        {
            $on_backend($criterion, "cuda", &cuda);
        }
    };
}

/// The device, or a line that says why it is left out.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub fn opened(name: DeviceName) -> Option<Device> {
    Device::open(name).inspect_err(|error| println!("left out: {error}")).ok()
}

/// Says why a measurement is left out.
pub fn tell(done: Result<()>) {
    if let Err(error) = done {
        println!("left out: {error}");
    }
}

/// Times a call; its first failure ends the measurements.
pub fn timed(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut call: impl FnMut() -> Result<()>,
) -> Result<()> {
    let mut failure = Ok(());
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            if let Err(error) = black_box(call()) {
                failure = Err(error);
            }
        });
    });
    failure
}

/// How long is measured.
pub fn config() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
}
