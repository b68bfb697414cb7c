//! Times attention blocks, forward and backward, on every device of this machine.
//!
//! ```text
//! cargo bench -p warpwright --bench attention
//! cargo bench -p warpwright --bench attention -- cpu/f32
//! ```
//!
//! Under a causal mask. A timed run ends when the device is done. Throughput counts scores, B · H ·
//! Sq · Sk, whatever the mask.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use warpwright::attention::{
    self, Attention, Gradients, Inputs, Mask, Options, OutputGradients, Outputs,
};
use warpwright::{Float, Result, Tensor, bf16};

use common::{tell, timed};

mod common;

/// B, H, Hk, Sq, Sk and D.
const SIZES: [[usize; 6]; 3] = [
    [1, 8, 8, 1024, 1024, 64],
    // Keys that four heads share.
    [1, 8, 2, 1024, 1024, 128],
    // One token after many.
    [1, 32, 8, 1, 16_384, 128],
];

fn all(criterion: &mut Criterion) {
    for_each_device!(criterion, on_backend);
}

fn on_backend<B>(criterion: &mut Criterion, name: &str, backend: &B)
where
    B: Attention<f32> + Attention<bf16>,
{
    for sizes in SIZES {
        let done = passes::<B, f32>(criterion, name, backend, sizes)
            .and_then(|()| passes::<B, bf16>(criterion, name, backend, sizes));
        tell(done);
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

criterion_group! {
    name = benches;
    config = common::config();
    targets = all
}
criterion_main!(benches);
