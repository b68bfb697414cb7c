//! The cases of recurrent cells.

mod case;
#[cfg(feature = "interpreter")]
mod count;
mod prepared;
mod time;

#[cfg(feature = "interpreter")]
#[cfg_attr(docsrs, doc(cfg(feature = "interpreter")))]
pub use count::{Pass, count};

pub use case::{Before, Case, Given, Lengths, Sizes, Tolerance, Tolerances};
pub use prepared::Prepared;

use std::time::Duration;

#[cfg(feature = "interpreter")]
use warpwright_ptx::interpreter::Options as Interpretation;

#[cfg(feature = "interpreter")]
use super::count::Counted;
use super::runs::Runs;
use super::time::{Setting, Timing};
use super::{Outcome, Random, Report, Size, Suite};
use crate::Result;
use crate::backend::{Device, dispatch};
use crate::element::{DType, Float};
use crate::operation::{Operation, Sizes as AxisLengths};
use crate::rnn::{Cell, Direction, NAME, Rnn, RunTime};

/// The cases of a size: edges, then sizes of section 14 of the specification in forms drawn at
/// random.
pub fn cases(size: Size) -> Vec<Case> {
    let mut cases = edge_cases();
    let mut random = Random::new(0xf1a5_4411);
    let (widths, steps, count): (&[usize], &[usize], usize) = match size {
        Size::Quick => (&[1, 3, 16, 31, 64], &[1, 2, 9], 12),
        Size::Default => (&[1, 3, 16, 31, 32, 64, 96, 100, 128], &[1, 2, 3, 17, 40], 60),
        Size::Thorough => (
            &[1, 3, 16, 17, 31, 32, 63, 64, 96, 100, 128, 129, 256, 257, 512, 768],
            &[1, 2, 3, 17, 129],
            300,
        ),
    };
    for _ in 0..count {
        let width = random.pick(widths);
        let heads = if width > 100 { random.pick(&[1, 2]) } else { random.pick(&[1, 2, 5, 12]) };
        let batch = random.pick(&[1, 2, 7, 8, 16, 33]);
        let sizes = [batch, random.pick(steps), heads, width];
        cases.push(Case::random(sizes, &mut random));
    }
    if size == Size::Thorough {
        for cell in Cell::ALL {
            cases.push(Case::new(cell, [16, 1024, 12, 64]));
            cases.push(Case::new(cell, [2, 16_384, 1, 32]));
        }
        cases.push(Case::new(Cell::Lstm, [16, 1024, 1, 768]));
        cases.push(Case::new(Cell::Slstm, [16, 1024, 1, 768]));
    }
    cases
}

/// Section 10 of the specification, as far as one call shows it.
fn edge_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for cell in Cell::ALL {
        let case = Case::new(cell, [3, 7, 2, 5]);
        let sized = |[batch, steps, heads, width]: [usize; 4]| Case {
            sizes: Sizes { batch, steps, heads, width },
            ..case.clone()
        };
        cases.extend([
            case.clone(),
            sized([2, 0, 2, 4]),
            sized([0, 3, 2, 4]),
            sized([2, 3, 0, 4]),
            sized([1, 1, 1, 1]),
            Case { given: Given::Last, bias: false, before: Before::Nothing, ..case.clone() },
            Case { lengths: Lengths::Drawn, given: Given::Everything, ..case.clone() },
            Case {
                lengths: Lengths::OneLong,
                direction: Direction::Reverse,
                given: Given::Everything,
                ..case.clone()
            },
            Case { lengths: Lengths::Zero, given: Given::Everything, ..case.clone() },
            Case { before: Before::Empty, output_clip: Some(0.375), wide: true, ..case.clone() },
            Case { grad_clip: Some(0.25), given: Given::Everything, ..case.clone() },
            Case { grad_cut: true, one_buffer: true, narrow: true, ..case.clone() },
        ]);
    }
    cases
}

/// The element types that each case is run in.
const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

/// The suite of recurrent cells.
pub(super) struct Cases;

impl Suite for Cases {
    fn operation(&self) -> &'static dyn Operation {
        &RunTime
    }

    fn count(&self, size: Size) -> usize {
        cases(size).len() * DTYPES.len()
    }

    fn run(&self, device: &Device, size: Size, report: &mut dyn FnMut(Report)) {
        for (number, case) in cases(size).iter().enumerate() {
            let index = number * DTYPES.len();
            if device.name() == "ptx" && case.products() > INTERPRETED {
                report(beyond_the_interpreter(case, index));
                continue;
            }
            run_case(device, case, |case| report(Report { index: index + case.index, ..case }));
        }
    }

    fn settings(&self) -> Vec<Setting> {
        time::settings()
    }

    /// B · T · N · D.
    fn elements(&self, sizes: &AxisLengths) -> usize {
        sizes.axes().iter().map(|(_, length)| length).product()
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
        let pass = if setting.pass == "backward" { Pass::Backward } else { Pass::Forward };
        count(&time::case(setting)?, pass, dtype, None, interpretation)
    }
}

/// Products of states and matrices, of one gate, that the interpreter gets through in seconds.
const INTERPRETED: usize = 1 << 22;

fn beyond_the_interpreter(case: &Case, index: usize) -> Report {
    Report {
        operation: NAME,
        pass: "forward",
        variant: "",
        dtype: DType::F32,
        index,
        case: case.describe(),
        elapsed: Duration::ZERO,
        outcome: Outcome::Unsupported(format!(
            "more than {INTERPRETED} products of a gate would keep the interpreter for minutes each"
        )),
    }
}

/// Runs one case on a device, in every element type and with every variant that fits.
pub fn run_case(device: &Device, case: &Case, mut report: impl FnMut(Report)) {
    for (index, dtype) in DTYPES.into_iter().enumerate() {
        let case = &case.in_dtype(dtype);
        Runs::of([NAME, "forward"], (index, dtype), case.describe(), &mut report, |runs| {
            dispatch!(NAME, device, dtype, |backend, T| {
                run_variants(backend, &Prepared::<T>::new(case)?, runs)
            })
        });
    }
}

/// Every variant of both passes.
fn run_variants<B: Rnn<T>, T: Float>(
    backend: &B,
    prepared: &Prepared<T>,
    runs: &mut Runs<'_>,
) -> Result<()> {
    for variant in prepared.forward_variants(backend)? {
        runs.run("forward", variant, || prepared.forward(backend, variant));
    }
    for variant in prepared.backward_variants(backend)? {
        runs.run("backward", variant, || prepared.backward(backend, variant));
    }
    Ok(())
}
