//! The cases of the state update.

mod case;
#[cfg(feature = "interpreter")]
mod count;
mod time;

pub use case::{Case, Slots};
#[cfg(feature = "interpreter")]
#[cfg_attr(docsrs, doc(cfg(feature = "interpreter")))]
pub use count::count;

#[cfg(feature = "interpreter")]
use warpwright_ptx::interpreter::Options as Interpretation;

use crate::Result;
use crate::backend::{Backend, Cpu, Device, Named, dispatch, on_backend};
use crate::element::{DType, Float};
use crate::operation::{Operation, Sizes};
use crate::selective_scan::state_update::reference::{self, Exact};
use crate::selective_scan::state_update::{
    Inputs, NAME, OutputsMut, Problem, RunTime, State, StateUpdate, update_into,
};
use crate::tensor::{Tensor, View};
#[cfg(feature = "interpreter")]
use crate::verify::count::Counted;
use crate::verify::place::{OneBuffer, Output};
use crate::verify::runs::Runs;
use crate::verify::time::{Setting, Timing};
use crate::verify::{Comparison, Random, Report, Size, Suite};

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
        setting: &Setting,
        dtype: DType,
        interpretation: Interpretation,
    ) -> Result<Counted> {
        count(&time::case(setting)?, dtype, interpretation)
    }
}

/// Runs one case in one element type, with every variant that fits, and reports.
pub fn check_case(
    device: &Device,
    case: &Case,
    dtype: DType,
    index: usize,
    report: &mut dyn FnMut(Report),
) {
    Runs::of([NAME, "update"], (index, dtype), case.describe(), report, |runs| {
        dispatch!(NAME, device, dtype, |backend, T| {
            let prepared = Prepared::<T>::new(case, case.tolerances(device, dtype))?;
            for variant in prepared.variants(backend)? {
                runs.run("update", variant, || prepared.run(backend, variant));
            }
            Ok(())
        })
    });
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
                let mut states = self.no_states()?.to_backend(backend)?;
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
        let state = &self.named["state"];
        let outputs: [Output; 3] = [
            ("out", T::DTYPE, self.named["x"].shape().to_vec()),
            ("state", state.dtype(), state.shape().to_vec()),
            ("states", state.dtype(), self.problem.states_shape()),
        ];
        // Gaps between entries: those of a plain call, whose channels are the last axis.
        let plain = ["B", "C", "x", "dt", "z", "out"];
        let strided = if self.case.width.is_none() { &plain[..] } else { &plain[..2] };
        let mut tensors = self.named.clone();
        tensors.insert("states".to_owned(), self.no_states()?);
        let placed = OneBuffer::new(backend, &tensors, &outputs, strided)?;
        let mut named = placed.inputs.clone();
        named.insert("state".to_owned(), placed.outputs["state"].clone());
        let mut out = placed.outputs["out"].typed::<T>()?;
        let mut states = placed.outputs["states"].clone();
        self.call(&named, variant, &mut out, &mut states)?;
        let comparisons = self.compare(&named["state"], &out, &states)?;
        placed.check_guards()?;
        Ok(comparisons)
    }

    /// Zeros, as padding leaves them.
    fn no_states(&self) -> Result<View<Cpu>> {
        let (dtype, shape) = (self.named["state"].dtype(), self.problem.states_shape());
        let bytes = shape.iter().product::<usize>() * dtype.bytes();
        View::from_bytes(&Cpu, dtype, &vec![0; bytes], &shape)
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
        let (exact, state) = (&self.exact, state.to_backend(&Cpu)?);
        // What the update leaves alone keeps its bits.
        let before = self.named["state"].to_f64()?;
        let kept = |values: &[f64]| -> Vec<f64> {
            let pairs = values.iter().zip(before.iter().zip(&exact.state));
            pairs.filter(|(_, (before, after))| before == after).map(|(value, _)| *value).collect()
        };
        let (found, expected) = (kept(&state.to_f64()?), kept(&before));
        let found = Tensor::from_vec(found, &[expected.len()])?;
        Ok(vec![
            Comparison::new("out", &out.to_backend(&Cpu)?, &exact.out, loose)?,
            Comparison::new("state", &state, &exact.state, tight)?,
            Comparison::new("state left alone", &found, &expected, 0.0)?,
            Comparison::new("states", &states.to_backend(&Cpu)?, &exact.states, tight)?,
        ])
    }
}
