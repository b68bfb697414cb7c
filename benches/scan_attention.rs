//! Times scan attention, forward and backward, on every device of this machine.
//!
//! ```text
//! cargo bench -p warpwright --bench scan_attention
//! cargo bench -p warpwright --bench scan_attention -- cpu/f32
//! ```
//!
//! With keys. A timed run ends when the device is done. Throughput counts the bytes that no kernel
//! can avoid: forward k, v and o once each; backward k, v, do, dk and dv.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use warpwright::scan_attention::{
    self, Inputs, Options, OutputGradients, OutputsMut, Problem, ScanAttention,
};
use warpwright::{Float, Result, Tensor, bf16};

use common::{tell, timed};

mod common;

/// B, H, Hk, L, Dk and Dv.
const SIZES: [[usize; 6]; 3] = [
    [8, 16, 16, 1024, 64, 64],
    // Keys that eight heads share.
    [2, 16, 2, 1024, 64, 64],
    // Few heads, long time.
    [1, 2, 2, 16_384, 64, 64],
];

fn all(criterion: &mut Criterion) {
    for_each_device!(criterion, on_backend);
}

fn on_backend<B>(criterion: &mut Criterion, name: &str, backend: &B)
where
    B: ScanAttention<f32> + ScanAttention<bf16>,
{
    for sizes in SIZES {
        let done = passes::<B, f32>(criterion, name, backend, sizes)
            .and_then(|()| passes::<B, bf16>(criterion, name, backend, sizes));
        tell(done);
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

criterion_group! {
    name = benches;
    config = common::config();
    targets = all
}
criterion_main!(benches);
