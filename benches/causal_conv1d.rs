//! Times the causal convolution, forward, backward and update, on every device of this machine.
//!
//! ```text
//! cargo bench -p warpwright --bench causal_conv1d
//! cargo bench -p warpwright --bench causal_conv1d -- cpu/f32
//! ```
//!
//! With bias and SiLU, four taps. A timed run ends when the device is done. Throughput counts the
//! bytes that no kernel can avoid: x and out once each; x, dout and dx; for an update the state's
//! history as well.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use warpwright::causal_conv1d::update::{self, CausalConv1dUpdate};
use warpwright::causal_conv1d::{
    self, Activation, CausalConv1d, Inputs, Layout, Options, OutputGradients,
};
use warpwright::{Cpu, Float, Result, Tensor, bf16};
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use warpwright::{Device, DeviceName};

const WIDTH: usize = 4;

/// B, D and L: a small language model, vision, few channels over a long time.
const SIZES: [[usize; 3]; 3] = [[4, 768, 1024], [2, 768, 197], [1, 16, 16_384]];

/// B and D of an update.
const UPDATES: [[usize; 2]; 2] = [[1, 2048], [64, 2048]];

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
    B: CausalConv1d<f32> + CausalConv1d<bf16> + CausalConv1dUpdate<f32> + CausalConv1dUpdate<bf16>,
{
    for layout in [Layout::Bdl, Layout::Bld] {
        for size in SIZES {
            let done = both_passes::<B, f32>(criterion, name, backend, layout, size)
                .and_then(|()| both_passes::<B, bf16>(criterion, name, backend, layout, size));
            if let Err(error) = done {
                println!("left out: {error}");
            }
        }
    }
    for size in UPDATES {
        let done = one_step::<B, f32>(criterion, name, backend, size)
            .and_then(|()| one_step::<B, bf16>(criterion, name, backend, size));
        if let Err(error) = done {
            println!("left out: {error}");
        }
    }
}

/// A tensor of numbers in [-1, 1).
fn uniform<B: warpwright::backend::Backend, T: Float>(
    backend: &B,
    shape: &[usize],
) -> Result<Tensor<B, T>> {
    let mut random = fastrand::Rng::with_seed(1);
    let number = || T::from_f64(2.0 * random.f64() - 1.0);
    let values: Vec<T> = std::iter::repeat_with(number).take(shape.iter().product()).collect();
    Tensor::from_slice(backend, &values, shape)
}

fn both_passes<B: CausalConv1d<T>, T: Float>(
    criterion: &mut Criterion,
    name: &str,
    backend: &B,
    layout: Layout,
    [batch, channels, steps]: [usize; 3],
) -> Result<()> {
    let shape = match layout {
        Layout::Bdl => [batch, channels, steps],
        Layout::Bld => [batch, steps, channels],
    };
    let x = uniform::<B, T>(backend, &shape)?;
    let dout = uniform::<B, T>(backend, &shape)?;
    let weight = uniform::<B, f32>(backend, &[channels, WIDTH])?;
    let bias = uniform::<B, f32>(backend, &[channels])?;
    let inputs = Inputs::new(&x, &weight).with_bias(&bias);
    let outer = OutputGradients::new(&dout);
    let options = Options::default().with_layout(layout).with_activation(Activation::Silu);
    let mut outputs = causal_conv1d::forward(&inputs, &options)?;
    let mut gradients = causal_conv1d::backward(&inputs, &outer, &options)?;
    backend.synchronise()?;

    let mut group = criterion.benchmark_group(format!("causal-conv1d/{name}/{}", T::DTYPE));
    let elements = batch * channels * steps * T::DTYPE.bytes();
    let shape = format!("{layout},B={batch},D={channels},L={steps}");
    let mut failure = Ok(());
    group.throughput(Throughput::Bytes(2 * elements as u64));
    group.bench_function(format!("forward/{shape}"), |bencher| {
        bencher.iter(|| {
            let done = causal_conv1d::forward_into(&inputs, &options, &mut outputs.as_mut())
                .and_then(|()| backend.synchronise());
            if let Err(error) = black_box(done) {
                failure = Err(error);
            }
        });
    });
    group.throughput(Throughput::Bytes(3 * elements as u64));
    group.bench_function(format!("backward/{shape}"), |bencher| {
        bencher.iter(|| {
            let mut gradients = gradients.as_mut();
            let done = causal_conv1d::backward_into(&inputs, &outer, &options, &mut gradients)
                .and_then(|()| backend.synchronise());
            if let Err(error) = black_box(done) {
                failure = Err(error);
            }
        });
    });
    group.finish();
    failure
}

fn one_step<B: CausalConv1dUpdate<T>, T: Float>(
    criterion: &mut Criterion,
    name: &str,
    backend: &B,
    [batch, channels]: [usize; 2],
) -> Result<()> {
    let x = uniform::<B, T>(backend, &[batch, channels])?;
    let weight = uniform::<B, f32>(backend, &[channels, WIDTH])?;
    let bias = uniform::<B, f32>(backend, &[channels])?;
    let mut state = uniform::<B, T>(backend, &[batch, channels, WIDTH - 1])?;
    let inputs = update::Inputs::new(&x, &weight).with_bias(&bias);
    let options = Options::default().with_activation(Activation::Silu);
    let mut out = update::update(&inputs, (&mut state).into(), &options)?;
    backend.synchronise()?;

    let mut group = criterion.benchmark_group(format!("causal-conv1d-update/{name}/{}", T::DTYPE));
    // x and out, the history, and the new entry.
    let numbers = batch * channels * (2 + WIDTH - 1 + 1);
    group.throughput(Throughput::Bytes((numbers * T::DTYPE.bytes()) as u64));
    let mut failure = Ok(());
    group.bench_function(format!("B={batch},D={channels}"), |bencher| {
        bencher.iter(|| {
            let done = update::update_into(&inputs, (&mut state).into(), &options, &mut out)
                .and_then(|()| backend.synchronise());
            if let Err(error) = black_box(done) {
                failure = Err(error);
            }
        });
    });
    group.finish();
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
