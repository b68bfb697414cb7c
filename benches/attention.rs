//! Times attention blocks, forward and backward, on every device of this machine.
//!
//! ```text
//! cargo bench -p warpwright --bench attention
//! cargo bench -p warpwright --bench attention -- cpu/f32
//! ```
//!
//! Under a causal mask. A timed run ends when the device is done. Throughput counts scores, B · H ·
//! Sq · Sk, whatever the mask.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use warpwright::attention::{
    self, Attention, Gradients, Inputs, Mask, Options, OutputGradients, Outputs,
};
use warpwright::{Cpu, Float, Result, Tensor, bf16};
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use warpwright::{Device, DeviceName};

/// B, H, Hk, Sq, Sk and D.
const SIZES: [[usize; 6]; 3] = [
    [1, 8, 8, 1024, 1024, 64],
    // Keys that four heads share.
    [1, 8, 2, 1024, 1024, 128],
    // One token after many.
    [1, 32, 8, 1, 16_384, 128],
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
    B: Attention<f32> + Attention<bf16>,
{
    for sizes in SIZES {
        let done = passes::<B, f32>(criterion, name, backend, sizes)
            .and_then(|()| passes::<B, bf16>(criterion, name, backend, sizes));
        if let Err(error) = done {
            println!("left out: {error}");
        }
    }
}

fn passes<B: Attention<T>, T: Float>(
    criterion: &mut Criterion,
    name: &str,
    backend: &B,
    sizes: [usize; 6],
) -> Result<()> {
    let [batch, heads, kv_heads, queries, keys, width] = sizes;
    let mut random = fastrand::Rng::with_seed(1);
    let mut tensor = |shape: &[usize]| {
        let number = || T::from_f64(2.0 * random.f64() - 1.0);
        let values: Vec<T> = std::iter::repeat_with(number).take(shape.iter().product()).collect();
        Tensor::from_slice(backend, &values, shape)
    };
    let q = tensor(&[batch, queries, heads, width])?;
    let k = tensor(&[batch, keys, kv_heads, width])?;
    let v = tensor(&[batch, keys, kv_heads, width])?;
    let dout = tensor(&[batch, queries, heads, width])?;
    let (inputs, given) = (Inputs::new(&q, &k, &v), OutputGradients::new(&dout));
    let options = Options::default().with_mask(Mask::causal());
    let mut outputs: Outputs<B, T> = attention::forward(&inputs, &options)?;
    let saved = outputs.clone();
    let mut gradients: Gradients<B, T> =
        attention::backward(&inputs, &options, &saved.saved(), &given)?;
    backend.synchronise()?;

    let shape = format!("B={batch},H={heads},Hk={kv_heads},Sq={queries},Sk={keys},D={width}");
    let mut group = criterion.benchmark_group(format!("attention/{name}/{}", T::DTYPE));
    group.throughput(Throughput::Elements((batch * heads * queries * keys) as u64));
    timed(&mut group, &format!("forward/{shape}"), || {
        attention::forward_into(&inputs, &options, &mut outputs.as_mut())?;
        backend.synchronise()
    })?;
    timed(&mut group, &format!("backward/{shape}"), || {
        let gradients = &mut gradients.as_mut();
        attention::backward_into(&inputs, &options, &saved.saved(), &given, gradients)?;
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
