//! The cases of the state update.

mod case;
mod time;

pub use case::{Case, Slots};

use std::time::{Duration, Instant};

#[cfg(feature = "interpreter")]
use warpwright_ptx::interpreter::Options as Interpretation;

#[cfg(feature = "interpreter")]
use super::count::Counted;
use super::place::{OneBuffer, Output};
use super::time::{Setting, Timing};
use super::{Comparison, Outcome, Random, Report, Size, Suite};
use crate::backend::{Backend, Cpu, Device, Named, dispatch, on_backend};
use crate::element::{DType, Float};
use crate::operation::{Operation, Sizes};
use crate::state_update::reference::{self, Exact};
use crate::state_update::{
    Inputs, NAME, OutputsMut, Problem, RunTime, State, StateUpdate, update_into,
};
use crate::tensor::{Tensor, View};
use crate::{ErrorKind, Result};

/// The element types that each case is run in.
const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

/// The cases of a size.
pub fn cases(size: Size) -> Vec<Case> {
    let mut cases = edge_cases();
    let mut random = Random::new(0x57e9_0001);
    let count = match size {
        Size::Quick => 12,
        Size::Default => 60,
        Size::Thorough => 600,
    };
    cases.extend((0..count).map(|_| Case::random(&mut random)));
    cases
}

/// Section 9 of the specification, as far as one call shows it.
fn edge_cases() -> Vec<Case> {
    let plain = Case::plain(3, 7, 6);
    let heads = Case::heads(3, 4, 5, 16, 2);
    vec![
        plain.clone(),
        Case { one_buffer: true, ..plain.clone() },
        Case { batch: 0, ..plain.clone() },
        Case { heads: 0, ..plain.clone() },
        Case { states: 0, ..plain.clone() },
        Case { states: 256, ..plain.clone() },
        Case { slots: Slots::Chosen, ..plain.clone() },
        Case { slots: Slots::Moved, one_buffer: true, ..plain.clone() },
        Case { steps: Some(16), keep_state: true, ..plain },
        heads.clone(),
        Case { state: DType::BF16, ..heads.clone() },
        Case { state: DType::F16, steps: Some(3), slots: Slots::Chosen, ..heads.clone() },
        Case { a_tied: false, tied: false, one_buffer: true, ..heads },
    ]
}

/// The cases of the update.
pub struct Cases;

impl Suite for Cases {
    fn operation(&self) -> &'static dyn Operation {
        &RunTime
    }

    fn count(&self, size: Size) -> usize {
        cases(size).len() * DTYPES.len()
    }

    fn run(&self, device: &Device, size: Size, report: &mut dyn FnMut(Report)) {
        for (number, case) in cases(size).iter().enumerate() {
            for (i, dtype) in DTYPES.into_iter().enumerate() {
                check_case(device, case, dtype, number * DTYPES.len() + i, report);
            }
        }
    }

    fn settings(&self) -> Vec<Setting> {
        time::settings()
    }

    fn elements(&self, sizes: &Sizes) -> usize {
        let per_group = |(axis, _): &&(&str, usize)| *axis != "G";
        sizes.axes().iter().filter(per_group).map(|(_, length)| length).product()
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
        _setting: &Setting,
        _dtype: DType,
        _interpretation: Interpretation,
    ) -> Result<Counted> {
        Err(crate::Error::Unsupported {
            operation: NAME,
            backend: "ptx".to_owned(),
            what: "this operation: it is not there yet".to_owned(),
            instead: "use the device cpu".to_owned(),
        })
    }
}

fn check_case(
    device: &Device,
    case: &Case,
    dtype: DType,
    index: usize,
    report: &mut dyn FnMut(Report),
) {
    let base = Report {
        operation: NAME,
        pass: "update",
        variant: "",
        dtype,
        index,
        case: case.describe(),
        elapsed: Duration::ZERO,
        outcome: Outcome::Compared(Vec::new()),
    };
    let ran: Result<()> = dispatch!(NAME, device, dtype, |backend, T| {
        Prepared::<T>::new(case, case.tolerances(device, dtype)).and_then(|prepared| {
            for variant in prepared.variants(backend)? {
                let start = Instant::now();
                let outcome = outcome(prepared.run(backend, variant));
                let elapsed = start.elapsed();
                report(Report { variant, elapsed, outcome, ..base.clone() });
            }
            Ok(())
        })
    });
    if let Err(error) = ran {
        report(Report { outcome: outcome(Err(error)), ..base });
    }
}

fn outcome(ran: Result<Vec<Comparison>>) -> Outcome {
    match ran {
        Ok(outputs) => Outcome::Compared(outputs),
        Err(error) if error.kind() == ErrorKind::Ability => Outcome::Unsupported(error.to_string()),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// A case with its tensors and its exact results.
struct Prepared<T> {
    case: Case,
    named: Named<Cpu>,
    problem: Problem,
    exact: Exact,
    tolerances: (f64, f64),
    element: std::marker::PhantomData<T>,
}

impl<T: Float> Prepared<T> {
    /// Draws the tensors and evaluates the reference.
    fn new(case: &Case, tolerances: (f64, f64)) -> Result<Self> {
        let named = case.tensors::<T>()?;
        let mut state = named["state"].clone();
        let state = State::from_view(&mut state)?;
        let inputs = Inputs::<Cpu, T>::from_named(&named)?;
        let problem = Problem::check(&state, &inputs, &case.options())?;
        let exact = reference::update(&state, &inputs, &case.options())?;
        let element = std::marker::PhantomData;
        Ok(Self { case: case.clone(), named, problem, exact, tolerances, element })
    }

    fn variants<B: StateUpdate<T>>(&self, backend: &B) -> Result<Vec<&'static str>> {
        backend.variants(&self.problem, &self.case.options())
    }

    /// Runs the case with a variant, and compares everything that is written with the reference.
    fn run<B: StateUpdate<T>>(
        &self,
        backend: &B,
        variant: &'static str,
    ) -> Result<Vec<Comparison>> {
        match self.case.one_buffer {
            true => self.run_in_one_buffer(backend, variant),
            false => {
                let named = on_backend(backend, &self.named)?;
                let shape = named["x"].shape().to_vec();
                let mut out = Tensor::new(backend, &shape)?;
                let dtype = named["state"].dtype();
                let mut states = View::new(backend, dtype, &self.problem.states_shape())?;
                self.call(&named, variant, &mut out, &mut states)?;
                self.compare(&named["state"], &out, &states)
            }
        }
    }

    fn run_in_one_buffer<B: StateUpdate<T>>(
        &self,
        backend: &B,
        variant: &'static str,
    ) -> Result<Vec<Comparison>> {
        let mut read = self.named.clone();
        read.remove("state");
        let state = &self.named["state"];
        let outputs: [Output; 3] = [
            ("out", T::DTYPE, self.named["x"].shape().to_vec()),
            ("state", state.dtype(), state.shape().to_vec()),
            ("states", state.dtype(), self.problem.states_shape()),
        ];
        let placed = OneBuffer::new(backend, &read, &outputs, &["B", "C"])?;
        let mut named = placed.inputs.clone();
        let placed_state = placed.outputs["state"].clone();
        placed_state.copy_from(&state.to_backend(backend)?)?;
        named.insert("state".to_owned(), placed_state);
        let mut out = placed.outputs["out"].typed::<T>()?;
        let mut states = placed.outputs["states"].clone();
        self.call(&named, variant, &mut out, &mut states)?;
        let comparisons = self.compare(&named["state"], &out, &states)?;
        placed.check_guards()?;
        Ok(comparisons)
    }

    fn call<B: StateUpdate<T>>(
        &self,
        named: &Named<B>,
        variant: &'static str,
        out: &mut Tensor<B, T>,
        states: &mut View<B>,
    ) -> Result<()> {
        let mut state = named["state"].clone();
        update_into(
            State::from_view(&mut state)?,
            &Inputs::<B, T>::from_named(named)?,
            &self.case.options().with_variant(variant),
            &mut OutputsMut { out, states: Some(states) },
        )
    }

    fn compare<B: Backend>(
        &self,
        state: &View<B>,
        out: &View<B>,
        states: &View<B>,
    ) -> Result<Vec<Comparison>> {
        let (loose, tight) = self.tolerances;
        let exact = &self.exact;
        Ok(vec![
            Comparison::new("out", &out.to_backend(&Cpu)?, &exact.out, loose)?,
            Comparison::new("state", &state.to_backend(&Cpu)?, &exact.state, tight)?,
            Comparison::new("states", &states.to_backend(&Cpu)?, &exact.states, tight)?,
        ])
    }
}
