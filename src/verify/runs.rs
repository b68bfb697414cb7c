//! The runs of a case, each of which is a report.

use std::time::{Duration, Instant};

use super::{Comparison, Outcome, Report};
use crate::Result;
use crate::element::DType;

/// The runs of a case in one element type: with one variant after the other, in one pass or several.
pub(super) struct Runs<'a> {
    base: Report,
    report: &'a mut dyn FnMut(Report),
}

impl<'a> Runs<'a> {
    /// Those of an operation; `index` is the case's among all, types counted. What goes wrong beside its
    /// variants is reported for `pass`.
    pub fn of(
        [operation, pass]: [&'static str; 2],
        (index, dtype): (usize, DType),
        case: String,
        report: &'a mut dyn FnMut(Report),
        run: impl FnOnce(&mut Self) -> Result<()>,
    ) {
        let outcome = Outcome::Compared(Vec::new());
        let elapsed = Duration::ZERO;
        let base = Report { operation, pass, variant: "", dtype, index, case, elapsed, outcome };
        let mut runs = Self { base, report };
        if let Err(error) = run(&mut runs) {
            (runs.report)(Report { outcome: Outcome::from(Err(error)), ..runs.base });
        }
    }

    /// Runs a variant, and reports what came of it, and the time.
    pub fn run(
        &mut self,
        pass: &'static str,
        variant: &'static str,
        run: impl FnOnce() -> Result<Vec<Comparison>>,
    ) {
        let begun = Instant::now();
        let outcome = Outcome::from(run());
        self.tell(pass, variant, begun.elapsed(), outcome);
    }

    /// Reports a run.
    pub fn tell(
        &mut self,
        pass: &'static str,
        variant: &'static str,
        elapsed: Duration,
        outcome: Outcome,
    ) {
        (self.report)(Report { pass, variant, elapsed, outcome, ..self.base.clone() });
    }
}
