//! Times cross entropy, forward and backward, on every device of this machine.
//!
//! ```text
//! cargo bench -p warpwright --bench cross_entropy
//! cargo bench -p warpwright --bench cross_entropy -- cpu/f32
//! ```
//!
//! Of given logits, and of a linear layer (E > 0). A timed run ends when the device is done. Throughput
//! counts the bytes that no kernel can avoid: given logits once, and backward their gradients; of a
//! linear layer x and the weight.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use warpwright::cross_entropy::{self, CrossEntropy, Inputs, Options, Problem};
use warpwright::{Cpu, Float, Parameter, Result, Tensor, bf16};
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use warpwright::{Device, DeviceName};

/// T, V and E.
const SIZES: [[usize; 3]; 4] = [
    [1024, 32_768, 0],
    // Few tokens.
    [2, 131_072, 0],
    [4096, 1000, 0],
    [256, 8192, 512],
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
    B: CrossEntropy<f32> + CrossEntropy<bf16>,
{
    for sizes in SIZES {
        let done = passes::<B, f32>(criterion, name, backend, sizes)
            .and_then(|()| passes::<B, bf16>(criterion, name, backend, sizes));
        if let Err(error) = done {
            println!("left out: {error}");
        }
    }
}

fn passes<B: CrossEntropy<T>, T: Float>(
    criterion: &mut Criterion,
    name: &str,
    backend: &B,
    [tokens, vocabulary, width]: [usize; 3],
) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut tensor = |shape: &[usize]| {
        let number = || T::from_f64(2.0 * random.f64() - 1.0);
        let values: Vec<T> = std::iter::repeat_with(number).take(shape.iter().product()).collect();
        Tensor::from_slice(backend, &values, shape)
    };
    let logits = tensor(&[if width == 0 { tokens } else { 0 }, vocabulary])?;
    let (x, weight) = (tensor(&[tokens, width])?, tensor(&[vocabulary, width])?);
    let targets: Vec<i64> = (0..tokens).map(|token| (token * 7919 % vocabulary) as i64).collect();
    let target = Tensor::from_slice(backend, &targets, &[tokens])?;
    let inputs = match width {
        0 => Inputs::new(&logits, &target),
        _ => Inputs::linear(&x, &weight, &target),
    };
    let options = Options::default();
    let problem = Problem::check(&inputs, &options)?;
    let mut outputs = cross_entropy::forward(&inputs, &options)?;
    let dloss = Tensor::from_slice(backend, &[1.0f32], &[1])?;
    let dloss = Parameter::from_view(&dloss)?;
    let mut gradients = cross_entropy::backward(&inputs, &options, &outputs.lse, dloss)?;
    backend.synchronise()?;

    let shape = format!("T={tokens},V={vocabulary},E={width}");
    let mut group = criterion.benchmark_group(format!("cross-entropy/{name}/{}", T::DTYPE));
    group.throughput(Throughput::Bytes(problem.least_bytes_forward()));
    timed(&mut group, &format!("forward/{shape}"), || {
        cross_entropy::forward_into(&inputs, &options, &mut outputs.as_mut())?;
        backend.synchronise()
    })?;
    group.throughput(Throughput::Bytes(problem.least_bytes_backward()));
    timed(&mut group, &format!("backward/{shape}"), || {
        cross_entropy::backward_into(&inputs, &options, &outputs.lse, dloss, &mut gradients)?;
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
