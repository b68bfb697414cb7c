//! What the kernels of a product do, by the interpreter.

use std::time::Instant;

use warpwright_ptx::interpreter::Options as Interpretation;

use super::time::{least_bytes, matrices};
use crate::Result;
use crate::backend::cuda::{Cuda, Interpreter};
use crate::element::DType;
use crate::operation::Settings;
use crate::sparse::Value;
use crate::spgemm::{Options, Spgemm, multiply_with_summary};
use crate::verify::count::Counted;
use crate::verify::time::Setting;

/// Runs the product of a setting on an interpreter of its own and counts; elements are products.
pub(super) fn count(
    setting: &Setting,
    dtype: DType,
    interpretation: Interpretation,
) -> Result<Counted> {
    match dtype {
        DType::F64 => count_as::<f64>(setting, interpretation),
        _ => count_as::<f32>(setting, interpretation),
    }
}

fn count_as<T: Value>(setting: &Setting, interpretation: Interpretation) -> Result<Counted>
where
    Cuda: Spgemm<T>,
{
    let interpreter = Interpreter::new(interpretation);
    let device = Cuda::with_driver(interpreter.clone())?;
    let settings: &Settings = &setting.settings;
    let options = Options::from_settings(settings)?;
    let matrices = matrices::<T>(setting)?.to_backend(&device)?;
    let began = Instant::now();
    let (product, summary) = multiply_with_summary(&matrices.inputs(), &options)?;
    Ok(Counted {
        variant: summary.variant,
        kernels: interpreter.take_counters(),
        least_bytes: least_bytes(&matrices, &product),
        elements: summary.products,
        elapsed: began.elapsed(),
    })
}
