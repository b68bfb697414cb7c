//! Squares of the matrices of section 21.1 of the specification, and of drawn ones.

use super::Case;
use super::generate::{KNOWN, Known};
use crate::Result;
use crate::backend::{Backend, Cpu, Device};
use crate::element::DType;
use crate::operation::{Settings, Sizes};
use crate::sparse::{Csr, Value};
use crate::spgemm::{AXES, Matrices, NAME, Options, Problem, Spgemm, multiply};
use crate::verify::time::{Setting, Timing, repeat};

/// Products of a square that takes a CPU less than about a second.
const FEW: u64 = 30_000_000;

pub(super) fn settings() -> Vec<Setting> {
    let setting = |known: &Known| {
        let side = known.family.side();
        let sizes = Sizes::new(&AXES, [side, side, side, known.nnz.div_ceil(side)]);
        let large = known.products > FEW;
        Setting { large, ..Setting::new(known.name, "product", sizes, Settings::default()) }
    };
    KNOWN.iter().map(setting).collect()
}

pub(super) fn time(
    device: &Device,
    setting: &Setting,
    dtype: DType,
    runs: Option<usize>,
) -> Result<Timing> {
    match (device, dtype) {
        (Device::Cpu(cpu), DType::F64) => time_on::<_, f64>(cpu, setting, runs),
        (Device::Cpu(cpu), _) => time_on::<_, f32>(cpu, setting, runs),
        #[cfg(feature = "cuda")]
        (Device::Cuda(cuda), DType::F64) => time_on::<_, f64>(cuda, setting, runs),
        #[cfg(feature = "cuda")]
        (Device::Cuda(cuda), _) => time_on::<_, f32>(cuda, setting, runs),
        #[cfg(feature = "wgpu")]
        (Device::Wgpu(wgpu), DType::F64) => time_on::<_, f64>(wgpu, setting, runs),
        #[cfg(feature = "wgpu")]
        (Device::Wgpu(wgpu), _) => time_on::<_, f32>(wgpu, setting, runs),
    }
}

/// Whole calls, with the allocation of the product.
fn time_on<B: Spgemm<T>, T: Value>(
    backend: &B,
    setting: &Setting,
    runs: Option<usize>,
) -> Result<Timing> {
    let options = Options::from_settings(&setting.settings)?;
    let matrices = matrices::<T>(setting)?.to_backend(backend)?;
    let inputs = matrices.inputs();
    let (product, summary, _) = Problem::check(&inputs, &options)
        .and_then(|problem| backend.product(&problem, &inputs, &options))?;
    backend.synchronise()?;
    let bytes = least_bytes(&matrices, &product);
    drop(product);
    let seconds = repeat(runs, || {
        multiply(&inputs, &options)?;
        backend.synchronise()
    })?;
    Ok(Timing { variant: summary.variant, seconds, bytes })
}

/// Bytes of both factors and the product, each once.
pub(super) fn least_bytes<B: Backend, T: Value>(
    Matrices { a, b, .. }: &Matrices<B, T>,
    product: &Csr<B, T>,
) -> u64 {
    let entry = (size_of::<u32>() + size_of::<T>()) as u64;
    let rows = (a.shape()[0] + b.shape()[0] + product.shape()[0]) * size_of::<u32>();
    (a.nnz() + b.nnz() + product.nnz()) as u64 * entry + rows as u64
}

/// The matrix of the setting's name, twice; drawn ones where it names none.
pub(super) fn matrices<T: Value>(setting: &Setting) -> Result<Matrices<Cpu, T>> {
    if let Some(known) = KNOWN.iter().find(|known| known.name == setting.id) {
        let a = known.family.matrix(1)?;
        return Ok(Matrices { b: a.clone(), a, c0: None, mask: None });
    }
    let [rows, inner, cols, per_row] = setting.sizes.lengths(NAME)?;
    let sizes = [rows, or(inner, rows), or(cols, rows)];
    Case::drawn(sizes, per_row as f64).matrices()
}

/// The length of an axis that is as long as another one where it is not given.
pub(super) fn or(length: usize, other: usize) -> usize {
    if length == 0 { other } else { length }
}
