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

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use warpwright::causal_conv1d::update::{self, CausalConv1dUpdate};
use warpwright::causal_conv1d::{
    self, Activation, CausalConv1d, Inputs, Layout, Options, OutputGradients,
};
use warpwright::{Float, Result, Tensor, bf16};

use common::{tell, timed};

mod common;

const WIDTH: usize = 4;

/// B, D and L: a small language model, vision, few channels over a long time.
const SIZES: [[usize; 3]; 3] = [[4, 768, 1024], [2, 768, 197], [1, 16, 16_384]];

/// B and D of an update.
const UPDATES: [[usize; 2]; 2] = [[1, 2048], [64, 2048]];

fn all(criterion: &mut Criterion) {
    for_each_device!(criterion, on_backend);
}

fn on_backend<B>(criterion: &mut Criterion, name: &str, backend: &B)
where
    B: CausalConv1d<f32> + CausalConv1d<bf16> + CausalConv1dUpdate<f32> + CausalConv1dUpdate<bf16>,
{
    for layout in [Layout::Bdl, Layout::Bld] {
        for size in SIZES {
            let done = both_passes::<B, f32>(criterion, name, backend, layout, size)
                .and_then(|()| both_passes::<B, bf16>(criterion, name, backend, layout, size));
            tell(done);
        }
    }
    for size in UPDATES {
        let done = one_step::<B, f32>(criterion, name, backend, size)
            .and_then(|()| one_step::<B, bf16>(criterion, name, backend, size));
        tell(done);
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
    group.throughput(Throughput::Bytes(2 * elements as u64));
    timed(&mut group, &format!("forward/{shape}"), || {
        causal_conv1d::forward_into(&inputs, &options, &mut outputs.as_mut())
            .and_then(|()| backend.synchronise())
    })?;
    group.throughput(Throughput::Bytes(3 * elements as u64));
    timed(&mut group, &format!("backward/{shape}"), || {
        causal_conv1d::backward_into(&inputs, &outer, &options, &mut gradients.as_mut())
            .and_then(|()| backend.synchronise())
    })?;
    group.finish();
    Ok(())
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
    timed(&mut group, &format!("B={batch},D={channels}"), || {
        update::update_into(&inputs, (&mut state).into(), &options, &mut out)
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
