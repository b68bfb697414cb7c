//! What the kernels of a product do, by the interpreter.

use std::time::Instant;

use warpwright_ptx::interpreter::Options as Interpretation;

use super::{Case, time};
use crate::Result;
use crate::backend::cuda::{Cuda, Interpreter};
use crate::element::DType;
use crate::group_sparse::Weights;
use crate::tensor::View;
use crate::verify::Random;
use crate::verify::count::Counted;

/// Runs a product on an interpreter of its own and counts; `variant` is forced where it is given.
///
/// # Errors
///
/// As the call.
pub fn count(
    case: &Case,
    dtype: DType,
    variant: Option<&str>,
    interpretation: Interpretation,
) -> Result<Counted> {
    let interpreter = Interpreter::new(interpretation);
    let device = Cuda::with_driver(interpreter.clone())?;
    let mut random = Random::new(case.seed);
    let weights = Weights::new(&device, &case.matrix(&mut random)?)?;
    let shape = [case.vectors, case.format.columns];
    let x = Case::numbers(dtype, &shape, false, &mut random)?.to_backend(&device)?;
    let y = View::new(&device, dtype, &[case.vectors, case.format.rows])?;
    let mut options = case.options();
    options.variant = variant.map(str::to_owned);
    let mut product = weights.product(case.vectors, &options)?;
    interpreter.take_counters();
    let begun = Instant::now();
    product.run(&x, None, &y)?;
    let elapsed = begun.elapsed();
    let kept = weights.problem().kept();
    Ok(Counted {
        variant: product.plan().variant,
        kernels: interpreter.take_counters(),
        least_bytes: time::least_bytes(case, kept, dtype),
        elements: (kept * case.format.group * case.vectors) as u64,
        elapsed,
    })
}
