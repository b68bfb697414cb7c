//! Times scan attention, forward and backward, on every device of this machine.
//!
//! ```text
//! cargo bench -p warpwright --bench scan_attention
//! cargo bench -p warpwright --bench scan_attention -- cpu/f32
//! ```
//!
//! With keys. A timed run ends when the device is done. Throughput counts the bytes that no kernel
//! can avoid: forward k, v and o once each; backward k, v, do, dk and dv.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use warpwright::scan_attention::{
    self, Inputs, Options, OutputGradients, OutputsMut, Problem, ScanAttention,
};
use warpwright::{Cpu, Float, Result, Tensor, bf16};
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use warpwright::{Device, DeviceName};

/// B, H, Hk, L, Dk and Dv.
const SIZES: [[usize; 6]; 3] = [
    [8, 16, 16, 1024, 64, 64],
    // Keys that eight heads share.
    [2, 16, 2, 1024, 64, 64],
    // Few heads, long time.
    [1, 2, 2, 16_384, 64, 64],
];

fn all(criterion: &mut Criterion) {
    on_backend(criterion, "cpu", &Cpu);
    #[cfg(feature = "wgpu")]
    if let Some(Device::Wgpu(wgpu)) = opened(DeviceName::Wgpu(None)) {
        println!("wgpu is {}", Device::Wgpu(wgpu.clone()).name());
        on_backend(criterion, "wgpu", &wgpu);
    }
    #[cfg(feature = "cuda")]
    if let Some(Device::Cuda(cuda)) = opened(DeviceName::Cuda(0)) {
        on_backend(criterion, "cuda", &cuda);
    }
}

/// The device, or a line that says why it is left out.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn opened(name: DeviceName) -> Option<Device> {
    Device::open(name).inspect_err(|error| println!("left out: {error}")).ok()
}

fn on_backend<B>(criterion: &mut Criterion, name: &str, backend: &B)
where
    B: ScanAttention<f32> + ScanAttention<bf16>,
{
    for sizes in SIZES {
        let done = passes::<B, f32>(criterion, name, backend, sizes)
            .and_then(|()| passes::<B, bf16>(criterion, name, backend, sizes));
        if let Err(error) = done {
            println!("left out: {error}");
        }
    }
}

fn passes<B: ScanAttention<T>, T: Float>(
    criterion: &mut Criterion,
    name: &str,
    backend: &B,
    sizes: [usize; 6],
) -> Result<()> {
    let [batch, heads, key_heads, steps, key_width, width] = sizes;
    let mut random = fastrand::Rng::with_seed(1);
    let mut tensor = |shape: &[usize]| {
        let number = || T::from_f64(2.0 * random.f64() - 1.0);
        let values: Vec<T> = std::iter::repeat_with(number).take(shape.iter().product()).collect();
        Tensor::from_slice(backend, &values, shape)
    };
    let q = tensor(&[heads, key_width])?;
    let k = tensor(&[batch, key_heads, steps, key_width])?;
    let v = tensor(&[batch, key_heads, steps, width])?;
    let d_o = tensor(&[batch, heads, steps, width])?;
    let inputs = Inputs::with_keys(&q, &k, &v);
    let (options, saving) = (Options::default(), Options::default().with_save(true));
    let problem = Problem::check(&inputs, &options)?;
    let mut outputs = scan_attention::forward(&inputs, &options)?;
    let Some(saved) = scan_attention::forward(&inputs, &saving)?.saved else { return Ok(()) };
    let given = OutputGradients::new(&d_o);
    let mut gradients = scan_attention::backward(&inputs, &saving, &saved, &given)?;
    backend.synchronise()?;

    let shape = format!("B={batch},H={heads},Hk={key_heads},L={steps},Dk={key_width},Dv={width}");
    let mut group = criterion.benchmark_group(format!("scan-attention/{name}/{}", T::DTYPE));
    group.throughput(Throughput::Bytes(problem.least_bytes_forward()));
    timed(&mut group, &format!("forward/{shape}"), || {
        let (o, carry) = (&mut outputs.o, Some(&mut outputs.carry));
        let mut outputs = OutputsMut { o, lse: None, carry, saved: None };
        scan_attention::forward_into(&inputs, &options, &mut outputs)?;
        backend.synchronise()
    })?;
    group.throughput(Throughput::Bytes(problem.least_bytes_backward()));
    timed(&mut group, &format!("backward/{shape}"), || {
        scan_attention::backward_into(&inputs, &saving, &saved, &given, &mut gradients)?;
        backend.synchronise()
    })?;
    group.finish();
    Ok(())
}

/// Times a call; its first failure ends the measurements.
fn timed(
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

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots();
    targets = all
}
criterion_main!(benches);
