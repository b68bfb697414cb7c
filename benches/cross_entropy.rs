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

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use warpwright::cross_entropy::{self, CrossEntropy, Inputs, Options, Problem};
use warpwright::{Float, Parameter, Result, Tensor, bf16};

use common::{tell, timed};

mod common;

/// T, V and E.
const SIZES: [[usize; 3]; 4] = [
    [1024, 32_768, 0],
    // Few tokens.
    [2, 131_072, 0],
    [4096, 1000, 0],
    [256, 8192, 512],
];

fn all(criterion: &mut Criterion) {
    for_each_device!(criterion, on_backend);
}

fn on_backend<B>(criterion: &mut Criterion, name: &str, backend: &B)
where
    B: CrossEntropy<f32> + CrossEntropy<bf16>,
{
    for sizes in SIZES {
        let done = passes::<B, f32>(criterion, name, backend, sizes)
            .and_then(|()| passes::<B, bf16>(criterion, name, backend, sizes));
        tell(done);
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

criterion_group! {
    name = benches;
    config = common::config();
    targets = all
}
criterion_main!(benches);
