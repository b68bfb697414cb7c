//! Times the selective scan, forward, on every device of this machine.
//!
//! ```text
//! cargo bench -p warpwright --bench selective_scan
//! cargo bench -p warpwright --bench selective_scan -- cpu/f32
//! ```
//!
//! With z, D, bias and softplus. A timed run ends when the device is done. Throughput counts the
//! bytes that no kernel can avoid: u, delta, z and out once each.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use warpwright::selective_scan::{self, Inputs, Options, SelectiveScan};
use warpwright::{Float, Result, Tensor, bf16};

use common::{tell, timed};

mod common;

/// Sizes of a scan.
struct Size {
    batch: usize,
    channels: usize,
    steps: usize,
    states: usize,
    groups: usize,
}

const SIZES: [Size; 3] = [
    // A small language model.
    Size { batch: 4, channels: 768, steps: 1024, states: 16, groups: 1 },
    // Vision.
    Size { batch: 2, channels: 768, steps: 197, states: 16, groups: 4 },
    // Few channels, long time.
    Size { batch: 1, channels: 16, steps: 16_384, states: 16, groups: 1 },
];

fn all(criterion: &mut Criterion) {
    for_each_device!(criterion, on_backend);
}

fn on_backend<B>(criterion: &mut Criterion, name: &str, backend: &B)
where
    B: SelectiveScan<f32> + SelectiveScan<bf16>,
{
    for size in &SIZES {
        let done = forward::<B, f32>(criterion, name, backend, size)
            .and_then(|()| forward::<B, bf16>(criterion, name, backend, size));
        tell(done);
    }
}

fn forward<B: SelectiveScan<T>, T: Float>(
    criterion: &mut Criterion,
    name: &str,
    backend: &B,
    size: &Size,
) -> Result<()> {
    let &Size { batch, channels, steps, states, groups } = size;
    let mut random = fastrand::Rng::with_seed(1);
    let mut tensor = |shape: &[usize], low: f64, high: f64| {
        let number = || T::from_f64(low + (high - low) * random.f64());
        let values: Vec<T> = std::iter::repeat_with(number).take(shape.iter().product()).collect();
        Tensor::from_slice(backend, &values, shape)
    };
    let activations = [batch, channels, steps];
    let maps = [batch, groups, states, steps];
    let u = tensor(&activations, -1.0, 1.0)?;
    let z = tensor(&activations, -1.0, 1.0)?;
    // With the bias, softplus gives step sizes between 0.001 and 0.1.
    let delta = tensor(&activations, -2.3, 2.3)?;
    let delta_bias = tensor(&[channels], -4.6, -4.6)?;
    let b = tensor(&maps, -1.0, 1.0)?;
    let c = tensor(&maps, -1.0, 1.0)?;
    let d = tensor(&[channels], -1.0, 1.0)?;
    let a: Vec<f32> = (1..=states).map(|n| -(n as f32)).collect();
    let a = Tensor::from_slice(backend, &a.repeat(channels), &[channels, states])?;

    let inputs =
        Inputs::new(&u, &delta, &a, &b, &c).with_d(&d).with_z(&z).with_delta_bias(&delta_bias);
    let options = Options::default().with_delta_softplus(true);
    let plan = selective_scan::plan_forward(&inputs, &options)?;
    selective_scan::preload(backend, &plan)?;
    let mut outputs = selective_scan::forward(&inputs, &options)?;
    backend.synchronise()?;

    let mut group = criterion.benchmark_group(format!("selective-scan/{name}/{}", T::DTYPE));
    let elements = batch * channels * steps;
    group.throughput(Throughput::Bytes((4 * elements * T::DTYPE.bytes()) as u64));
    let shape = format!("B={batch},D={channels},L={steps},N={states},G={groups}");
    timed(&mut group, &shape, || {
        selective_scan::forward_into(&inputs, &options, &mut outputs.as_mut())
            .and_then(|()| backend.synchronise())
    })?;
    group.finish();
    Ok(())
}

criterion_group! {
    name = benches;
    config = common::config();
    targets = all
}
criterion_main!(benches);
