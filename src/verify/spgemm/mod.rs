//! The cases of SpGEMM.

mod case;
#[cfg(feature = "interpreter")]
mod count;
pub mod generate;
mod time;

pub use case::{Case, Places, Values};

use std::time::{Duration, Instant};

#[cfg(feature = "interpreter")]
use warpwright_ptx::interpreter::Options as Interpretation;

#[cfg(feature = "interpreter")]
use super::count::Counted;
use super::time::{Setting, Timing};
use super::{Comparison, Outcome, Random, Report, Size, Suite};
use crate::Result;
use crate::backend::{Cpu, Device};
use crate::element::DType;
use crate::operation::{Operation, Sizes};
use crate::sparse::{Csr, Value};
use crate::spgemm::reference::{self, Exact};
use crate::spgemm::{NAME, Problem, RunTime, Semiring, Spgemm, multiply};

/// The cases of a size.
pub fn cases(size: Size) -> Vec<Case> {
    let mut cases = edge_cases();
    let mut random = Random::new(0x5ba5_4a5b);
    let count = match size {
        Size::Quick => 20,
        Size::Default => 150,
        Size::Thorough => 3000,
    };
    cases.extend((0..count).map(|_| Case::random(&mut random)));
    cases
}

/// Section 20 of the specification, as far as one call shows it.
fn edge_cases() -> Vec<Case> {
    let plain = Case::drawn([40, 50, 60], 5.0);
    let sized = |sizes| Case { sizes, ..plain.clone() };
    let placed = |sizes, a, b| Case { sizes, places: [a, b], ..plain.clone() };
    let (drawn, square) = (Places::Drawn(5.0), [60; 3]);
    let mut cases = vec![
        plain.clone(),
        sized([0, 50, 60]),
        sized([40, 0, 60]),
        sized([40, 50, 0]),
        sized([1, 1, 1]),
        placed(square, Places::Nowhere, drawn),
        placed(square, drawn, Places::Nowhere),
        placed([1, 300, 1], Places::Full, Places::Full),
        placed([300, 1, 200], Places::Full, Places::Full),
        placed(square, Places::Diagonal, drawn),
        placed(square, drawn, Places::Diagonal),
        placed(square, drawn, Places::Permutation),
        placed(square, Places::OneRow, Places::OneColumn),
        placed(square, Places::OneColumn, Places::OneRow),
        placed(square, Places::Arrow, Places::Arrow),
        placed(square, Places::Full, Places::Full),
        // Few rows hold many products; all columns are congruent; columns near the last there is.
        placed([1, 200, 4096], Places::Full, Places::Drawn(200.0)),
        placed([20, 50, 1 << 20], drawn, Places::Strided),
        placed([20, 50, i32::MAX as usize], drawn, drawn),
        Case { alpha: 0.0, values: Values::Hostile, ..plain.clone() },
        Case { beta: Some(0.0), poisoned: true, ..plain.clone() },
        Case { beta: Some(2.0), alpha: 3.0, ..plain.clone() },
        Case { values: Values::Cancelling, ..placed(square, Places::Full, Places::Full) },
        Case { disorder: [true, false], ..plain.clone() },
        Case { disorder: [false, true], ..plain.clone() },
        Case { disorder: [true, true], ..plain.clone() },
    ];
    for semiring in Semiring::ALL {
        for values in [Values::Plain, Values::Hostile, Values::Large] {
            cases.push(Case { semiring, values, ..plain.clone() });
        }
        for mask in [Some(false), Some(true)] {
            cases.push(Case { semiring, mask, ..plain.clone() });
        }
    }
    cases
}

/// The suite of SpGEMM.
pub(super) struct Cases;

impl Suite for Cases {
    fn operation(&self) -> &'static dyn Operation {
        &RunTime
    }

    fn count(&self, size: Size) -> usize {
        cases(size).iter().map(|case| case.semiring.values().len()).sum()
    }

    fn run(&self, device: &Device, size: Size, report: &mut dyn FnMut(Report)) {
        let mut index = 0;
        for case in cases(size) {
            for &dtype in case.semiring.values() {
                run_case(device, &case, dtype, index, report);
                index += 1;
            }
        }
    }

    fn settings(&self) -> Vec<Setting> {
        time::settings()
    }

    fn dtypes(&self) -> &'static [DType] {
        &[DType::F32, DType::F64]
    }

    /// m · n: there is no better number that the sizes alone tell.
    fn elements(&self, sizes: &Sizes) -> usize {
        let counted = |(axis, _): &&(&str, usize)| matches!(*axis, "M" | "N");
        sizes.axes().iter().filter(counted).map(|(_, length)| length).product()
    }

    fn time(
        &self,
        device: &Device,
        setting: &Setting,
        dtype: DType,
        runs: Option<usize>,
    ) -> Result<Timing> {
        time::time(device, setting, dtype, runs)
    }

    #[cfg(feature = "interpreter")]
    fn count_kernels(
        &self,
        setting: &Setting,
        dtype: DType,
        interpretation: Interpretation,
    ) -> Result<Counted> {
        count::count(setting, dtype, interpretation)
    }
}

/// Runs one case on a device with values of a type.
pub fn run_case(
    device: &Device,
    case: &Case,
    dtype: DType,
    index: usize,
    report: &mut dyn FnMut(Report),
) {
    let base = Report {
        operation: NAME,
        pass: "product",
        variant: "",
        dtype,
        index,
        case: case.describe(),
        elapsed: Duration::ZERO,
        outcome: Outcome::Compared(Vec::new()),
    };
    let ran = match dtype {
        DType::F32 => run::<f32>(device, case, &base, report),
        DType::F64 => run::<f64>(device, case, &base, report),
        DType::I32 => run::<i32>(device, case, &base, report),
        DType::U32 => run::<u32>(device, case, &base, report),
        _ => run::<u8>(device, case, &base, report),
    };
    if let Err(error) = ran {
        report(Report { outcome: Outcome::from(Err(error)), ..base });
    }
}

fn run<T: Value>(
    device: &Device,
    case: &Case,
    base: &Report,
    report: &mut dyn FnMut(Report),
) -> Result<()> {
    match device {
        Device::Cpu(cpu) => run_on::<_, T>(cpu, case, base, report),
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => run_on::<_, T>(cuda, case, base, report),
        #[cfg(feature = "wgpu")]
        Device::Wgpu(wgpu) => run_on::<_, T>(wgpu, case, base, report),
    }
}

/// Every variant that fits, against the reference.
fn run_on<B: Spgemm<T>, T: Value>(
    backend: &B,
    case: &Case,
    base: &Report,
    report: &mut dyn FnMut(Report),
) -> Result<()> {
    let matrices = case.matrices::<T>()?;
    let options = case.options();
    let on_cpu = matrices.inputs();
    let expected = match on_cpu.b.shape()[1] > WIDE {
        true => reference::mapped(&on_cpu, &options)?,
        false => reference::dense(&on_cpu, &options)?,
    };
    let bits = B::is_ordered(&options) || case.semiring.is_exact(T::DTYPE);
    let exact = (!bits).then(|| reference::exact(&on_cpu, &options)).transpose()?;
    let coarse = backend.name().starts_with("wgpu");
    // WGSL promises nothing of NaN, infinity and subnormal numbers, where they are read.
    let promised =
        !coarse || !T::DTYPE.is_float() || case.values != Values::Hostile || case.alpha == 0.0;
    let there = matrices.to_backend(backend)?;
    let inputs = there.inputs();
    let problem = Problem::check(&inputs, &options)?;
    for variant in backend.variants(&problem, &options)? {
        let options = options.clone().with_variant(variant);
        let began = Instant::now();
        let product = multiply(&inputs, &options);
        backend.synchronise()?;
        let elapsed = began.elapsed();
        let compared = product.and_then(|product| {
            let found = product.to_backend(&Cpu)?;
            let mut compared = vec![places(&found, &expected)?];
            if promised {
                compared.push(values(&found, &expected, exact.as_deref(), coarse)?);
            }
            Ok(compared)
        });
        report(Report { variant, elapsed, outcome: Outcome::from(compared), ..base.clone() });
    }
    Ok(())
}

/// Columns beyond which a row at full width takes the reference too much memory.
const WIDE: usize = 1 << 24;

/// Places must be equal; values too where no exact ones are given.
///
/// # Errors
///
/// [`Error::InUse`](crate::Error::InUse) while another call writes the arrays.
pub fn compare<T: Value>(
    found: &Csr<Cpu, T>,
    expected: &Csr<Cpu, T>,
    exact: Option<&[Exact]>,
) -> Result<Vec<Comparison>> {
    Ok(vec![places(found, expected)?, values(found, expected, exact, false)?])
}

fn places<T: Value>(found: &Csr<Cpu, T>, expected: &Csr<Cpu, T>) -> Result<Comparison> {
    let numbers = |matrix: &Csr<Cpu, T>| -> Result<Vec<u32>> {
        Ok([matrix.row_ptr().to_vec()?, matrix.col().to_vec()?].concat())
    };
    let (found, expected) = (numbers(found)?, numbers(expected)?);
    let [found, expected] = [found, expected].map(|places| places.into_iter().map(f64::from));
    Ok(equal("c_row_ptr, c_col", found, expected))
}

/// Values, on a device that may flush subnormal numbers.
fn values<T: Value>(
    found: &Csr<Cpu, T>,
    expected: &Csr<Cpu, T>,
    exact: Option<&[Exact]>,
    flushes: bool,
) -> Result<Comparison> {
    let values = |matrix: &Csr<Cpu, T>| {
        matrix.val().map(|val| val.to_vec()).transpose().map(Option::unwrap_or_default)
    };
    let (found, expected) = (values(found)?, values(expected)?);
    let numbers = |values: Vec<T>| values.into_iter().map(Value::to_f64);
    Ok(match exact {
        None => equal("c_val", numbers(found), numbers(expected)),
        Some(exact) => within_rounding(&found, exact, flushes),
    })
}

fn equal(
    tensor: &'static str,
    found: impl Iterator<Item = f64>,
    expected: impl Iterator<Item = f64>,
) -> Comparison {
    let (found, expected): (Vec<f64>, Vec<f64>) = (found.collect(), expected.collect());
    let same = |x: f64, y: f64| x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan();
    let wrong = (0..found.len().min(expected.len())).find(|&i| !same(found[i], expected[i]));
    let error = match wrong {
        None if found.len() == expected.len() => 0.0,
        _ => f64::INFINITY,
    };
    let worst = wrong.map(|i| (i, found[i], expected[i]));
    Comparison { tensor, error, tolerance: 0.5, worst }
}

/// Each value is within (t + 2) roundings of its t terms' magnitudes; the error is in such bounds.
/// Where the magnitudes together leave the type, a sum may do so on its way, in an order of its own.
fn within_rounding<T: Value>(found: &[T], exact: &[Exact], flushes: bool) -> Comparison {
    let (unit, tiny, largest) = match T::DTYPE {
        DType::F32 if flushes => (2f64.powi(-24), 2f64.powi(-126), f64::from(f32::MAX)),
        DType::F32 => (2f64.powi(-24), 2f64.powi(-149), f64::from(f32::MAX)),
        _ => (2f64.powi(-53), f64::from_bits(1), f64::MAX),
    };
    let mut comparison = Comparison { tensor: "c_val", error: 0.0, tolerance: 1.0, worst: None };
    if found.len() != exact.len() {
        comparison.error = f64::INFINITY;
        return comparison;
    }
    for (i, (found, exact)) in found.iter().zip(exact).enumerate() {
        let (found, value) = (found.to_f64(), exact.value());
        let terms = exact.terms as f64;
        let bound = (terms + 2.0) * unit * exact.magnitude + terms * tiny;
        let overflows = exact.magnitude > largest;
        let error = match (found - value).abs() / bound {
            _ if found == value || found.is_nan() && value.is_nan() => 0.0,
            _ if overflows && !found.is_finite() => 0.0,
            error if error.is_nan() => f64::INFINITY,
            error => error,
        };
        if error > comparison.error {
            comparison.error = error;
            comparison.worst = Some((i, found, value));
        }
    }
    comparison
}
