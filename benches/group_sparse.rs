//! Times products with compressed weights on every device of this machine.
//!
//! ```text
//! cargo bench -p warpwright --bench group_sparse
//! cargo bench -p warpwright --bench group_sparse -- cpu/f32
//! ```
//!
//! Random weights of 4096 x 4096, compressed by round to nearest. A timed run ends when the device is
//! done. Throughput counts the bytes of the matrix as files hold it.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use warpwright::group_sparse::compress::{self, Calibration, Range, compress};
use warpwright::group_sparse::{GroupSparse, Matrix, Options, Weights};
use warpwright::{Float, Result, Tensor, bf16, f16};

use common::{tell, timed};

mod common;

/// Sides of the matrix.
const SIDE: usize = 4096;

/// b, G, the sparsity, and M.
const SETTINGS: [(u32, usize, f64, usize); 6] = [
    (4, 128, 0.0, 1),
    (4, 16, 0.0, 1),
    (4, 16, 0.5, 1),
    (4, 32, 0.5, 1),
    (2, 32, 0.5, 1),
    (4, 16, 0.5, 8),
];

fn all(criterion: &mut Criterion) {
    for_each_device!(criterion, on_backend);
}

fn on_backend<B: GroupSparse>(criterion: &mut Criterion, name: &str, backend: &B) {
    for setting in SETTINGS {
        let done = matrix(setting).and_then(|matrix| {
            let vectors = setting.3;
            product::<B, f32>(criterion, name, backend, &matrix, vectors)?;
            product::<B, bf16>(criterion, name, backend, &matrix, vectors)
        });
        tell(done);
    }
}

/// Numbers about 0, as many as the sides say.
fn numbers<T: Float>(rows: usize) -> Vec<T> {
    let mut random = fastrand::Rng::with_seed(1);
    let number = || T::from_f64((0..4).map(|_| random.f64()).sum::<f64>() - 2.0);
    std::iter::repeat_with(number).take(rows * SIDE).collect()
}

fn matrix((bits, group, sparsity, _): (u32, usize, f64, usize)) -> Result<Matrix> {
    let weight = Tensor::from_vec(numbers::<f16>(SIDE), &[SIDE, SIDE])?;
    let options = compress::Options::default()
        .with_bits(bits)
        .with_group(group)
        .with_sparsity(sparsity)
        .with_range(Range::Rtn);
    Ok(compress("weight", &weight, &Calibration::none(), &options)?.matrix)
}

fn product<B: GroupSparse, T: Float>(
    criterion: &mut Criterion,
    name: &str,
    backend: &B,
    matrix: &Matrix,
    vectors: usize,
) -> Result<()> {
    let weights = Weights::new(backend, matrix)?;
    let mut product = weights.product(vectors, &Options::default())?;
    let x = Tensor::from_slice(backend, &numbers::<T>(vectors), &[vectors, SIDE])?;
    let mut y = Tensor::<B, T>::new(backend, &[vectors, SIDE])?;
    product.forward_into(&x, None, &mut y)?;
    backend.synchronise()?;
    let format = matrix.format();
    let shape = format!(
        "b={},G={},S={:.0}%,M={vectors}",
        format.bits,
        format.group,
        100.0 * matrix.sparsity()
    );
    let mut group = criterion.benchmark_group(format!("group-sparse/{name}/{}", T::DTYPE));
    group.throughput(Throughput::Bytes(matrix.bytes() as u64));
    timed(&mut group, &shape, || {
        product.forward_into(&x, None, &mut y).and_then(|()| backend.synchronise())
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
