//! The cases of the causal convolution.

mod case;
#[cfg(feature = "interpreter")]
mod count;
mod time;
mod update;

pub use case::{Case, Distribution, ResetForm, Sizes};
#[cfg(feature = "interpreter")]
#[cfg_attr(docsrs, doc(cfg(feature = "interpreter")))]
pub use count::count;
pub use update::{UpdateCase, UpdateCases, run_update_case, update_cases};

#[cfg(feature = "interpreter")]
use warpwright_ptx::interpreter::Options as Interpretation;

#[cfg(feature = "interpreter")]
use super::count::Counted;
use super::place::OneBuffer;
use super::runs::Runs;
use super::time::{Setting, Timing};
use super::{Comparison, Random, Report, Size, Suite};
use crate::Result;
use crate::backend::{Backend, Cpu, Device, Named, dispatch, on_backend};
use crate::causal_conv1d::reference::{self, Exact, ExactGradients};
use crate::causal_conv1d::{
    Activation, CausalConv1d, Gradients, Inputs, Layout, NAME, OutputGradients, Outputs, Pass,
    Problem, RunTime, backward, backward_into, forward, forward_into,
};
use crate::element::{DType, Element, Float};
use crate::operation::{Operation, Sizes as Lengths};
use crate::tensor::{Tensor, View};

/// The cases of a size.
pub fn cases(size: Size) -> Vec<Case> {
    let mut cases = edge_cases();
    let mut random = Random::new(0xc0_4117);
    let (lengths, count): (&[usize], usize) = match size {
        Size::Quick => (&[1, 31, 33, 65, 257], 10),
        Size::Default => (&[1, 2, 3, 7, 16, 31, 32, 33, 63, 65, 129, 255, 257, 372, 1025], 80),
        Size::Thorough => (
            &[
                1, 2, 3, 7, 16, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 372, 784,
                1023, 1024, 1025, 1134, 2047, 2048, 2049, 4096, 4099,
            ],
            600,
        ),
    };
    for _ in 0..count {
        let steps = random.pick(lengths);
        let channels = random.pick(&[1, 2, 3, 31, 64, 96, 100]);
        let width = random.pick(&[1, 2, 3, 4, 4, 5, 6, 7, 8]);
        let batch = random.pick(&[1, 2, 3]);
        cases.push(Case::random(Sizes { batch, channels, steps, width }, &mut random));
    }
    if size > Size::Quick {
        // Several spans of a row.
        let long = Case::new(1, 3, 20_011, 4);
        cases.push(Case { layout: Layout::Bld, ..long.clone() });
        cases.push(long);
        cases.push(Case::new(2, 768, 197, 4));
        cases.push(Case { layout: Layout::Bld, ..Case::new(2, 768, 197, 4) });
    }
    cases
}

/// Section 9 of the specification, as far as one call shows it.
fn edge_cases() -> Vec<Case> {
    let plain = Case::new(2, 6, 37, 4);
    let sized =
        |steps, width| Case { sizes: Sizes { steps, width, ..plain.sizes }, ..plain.clone() };
    let mut cases = vec![
        plain.clone(),
        Case { activation: Activation::None, ..plain.clone() },
        Case { layout: Layout::Bld, ..plain.clone() },
        Case { one_buffer: true, ..plain.clone() },
        Case { one_buffer: true, layout: Layout::Bld, ..plain.clone() },
        Case { narrow_parameters: true, ..plain.clone() },
        Case { distribution: Distribution::Adversarial, ..plain.clone() },
        Case { sizes: Sizes { batch: 0, ..plain.sizes }, ..plain.clone() },
        Case { sizes: Sizes { channels: 0, ..plain.sizes }, ..plain.clone() },
        // Rows shorter than the taps reach.
        sized(0, 4),
        sized(1, 8),
        Case { layout: Layout::Bld, ..sized(3, 8) },
        Case { s0: false, ..sized(2, 5) },
        sized(37, 1),
    ];
    for resets in [ResetForm::SeqIdx, ResetForm::CuSeqlens] {
        cases.push(Case { resets, ..plain.clone() });
        cases.push(Case { resets, one_buffer: true, layout: Layout::Bld, ..plain.clone() });
        // Documents shorter than the taps reach, empty ones among them.
        let sizes = Sizes { batch: 9, steps: 11, width: 8, ..plain.sizes };
        cases.push(Case { resets, sizes, ..plain.clone() });
        cases.push(Case { resets, sizes, layout: Layout::Bld, ..plain.clone() });
    }
    cases
}

/// The element types that each case is run in.
const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

const PASSES: [Pass; 2] = [Pass::Forward, Pass::Backward];

/// The cases of the convolution.
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
            run_case(device, case, |case| {
                report(Report { index: number * DTYPES.len() + case.index, ..case });
            });
        }
    }

    fn settings(&self) -> Vec<Setting> {
        time::settings()
    }

    fn elements(&self, sizes: &Lengths) -> usize {
        let activation = |(axis, _): &&(&str, usize)| *axis != "W";
        sizes.axes().iter().filter(activation).map(|(_, length)| length).product()
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
        let case = time::case(setting)?;
        count(&case, time::pass(setting), dtype, &case.options(), interpretation)
    }
}

/// Runs one case on a device, forward and backward, in every element type and with every variant
/// that fits.
pub fn run_case(device: &Device, case: &Case, mut report: impl FnMut(Report)) {
    for (index, dtype) in DTYPES.into_iter().enumerate() {
        for pass in PASSES {
            check_case(device, case, pass, dtype, index, &mut report);
        }
    }
}

fn check_case(
    device: &Device,
    case: &Case,
    pass: Pass,
    dtype: DType,
    index: usize,
    report: &mut impl FnMut(Report),
) {
    let name = match pass {
        Pass::Forward => "forward",
        Pass::Backward => "backward",
    };
    Runs::of([NAME, name], (index, dtype), case.describe(), report, |runs| {
        dispatch!(NAME, device, dtype, |backend, T| {
            let prepared = Prepared::<T>::new(device, case, pass)?;
            for variant in prepared.variants(backend)? {
                runs.run(name, variant, || prepared.run(backend, variant));
            }
            Ok(())
        })
    });
}

/// A pass of a case with its tensors and its exact results.
struct Prepared<'a, T> {
    device: &'a Device,
    case: &'a Case,
    pass: Pass,
    inputs: Named<Cpu>,
    exact: Vec<(&'static str, Vec<f64>)>,
    element: std::marker::PhantomData<T>,
}

impl<'a, T: Float> Prepared<'a, T> {
    /// Draws the tensors and evaluates the reference.
    fn new(device: &'a Device, case: &'a Case, pass: Pass) -> Result<Self> {
        let inputs = case.tensors::<T>()?;
        let (call, options) = (Inputs::<Cpu, T>::from_named(&inputs)?, case.options());
        let exact = match (pass, OutputGradients::<Cpu, T>::from_named(&inputs)?) {
            (Pass::Backward, Some(gradients)) => {
                let ExactGradients { dx, dweight, dbias, ds0, .. } =
                    reference::backward(&call, &gradients, &options)?;
                let mut exact = vec![("dx", dx), ("dweight", dweight)];
                exact.extend(case.bias.then_some(("dbias", dbias)));
                exact.extend(case.s0.then_some(("ds0", ds0)));
                exact
            }
            _ => {
                let Exact { out, final_state, .. } = reference::forward(&call, &options)?;
                vec![("out", out), ("final_state", final_state)]
            }
        };
        let element = std::marker::PhantomData;
        Ok(Self { device, case, pass, inputs, exact, element })
    }

    fn problem(&self) -> Result<Problem> {
        Problem::check(&Inputs::<Cpu, T>::from_named(&self.inputs)?, &self.case.options())
    }

    /// The variants of a backend that fit the case.
    fn variants<B: CausalConv1d<T>>(&self, backend: &B) -> Result<Vec<&'static str>> {
        backend.variants(self.pass, &self.problem()?, &self.case.options())
    }

    /// Runs the case with a variant, and compares every output with the reference.
    fn run<B: CausalConv1d<T>>(
        &self,
        backend: &B,
        variant: &'static str,
    ) -> Result<Vec<Comparison>> {
        let options = self.case.options().with_variant(variant);
        if self.case.one_buffer {
            return self.run_in_one_buffer(backend, variant);
        }
        let named = on_backend(backend, &self.inputs)?;
        let inputs = Inputs::<B, T>::from_named(&named)?;
        match (self.pass, OutputGradients::<B, T>::from_named(&named)?) {
            (Pass::Backward, Some(gradients)) => {
                let Gradients { dx, dweight, dbias, ds0 } =
                    backward(&inputs, &gradients, &options)?;
                let mut found: Vec<&View<B>> = vec![&dx, &dweight];
                found.extend(dbias.as_deref());
                found.extend(ds0.as_deref());
                self.compare(&found)
            }
            _ => {
                let Outputs { out, final_state } = forward(&inputs, &options)?;
                self.compare(&[&out, &final_state])
            }
        }
    }

    fn run_in_one_buffer<B: CausalConv1d<T>>(
        &self,
        backend: &B,
        variant: &'static str,
    ) -> Result<Vec<Comparison>> {
        let options = self.case.options().with_variant(variant);
        let problem = self.problem()?;
        let activation = self.inputs["x"].shape().to_vec();
        let outputs = self.exact.iter().map(|(name, _)| match *name {
            "out" | "dx" => (*name, T::DTYPE, activation.clone()),
            "dweight" => (*name, T::State::DTYPE, problem.weight_shape().to_vec()),
            "dbias" => (*name, T::State::DTYPE, vec![problem.channels]),
            _ => (*name, T::State::DTYPE, problem.state_shape().to_vec()),
        });
        let outputs: Vec<_> = outputs.collect();
        let strided = ["x", "out", "dout", "dx"];
        let placed = OneBuffer::new(backend, &self.inputs, &outputs, &strided)?;
        let inputs = Inputs::<B, T>::from_named(&placed.inputs)?;
        let state = |name: &str| -> Result<Option<Tensor<B, T::State>>> {
            placed.outputs.get(name).map(|view| view.typed()).transpose()
        };
        match (self.pass, OutputGradients::<B, T>::from_named(&placed.inputs)?) {
            (Pass::Backward, Some(gradients)) => {
                let mut dx = placed.outputs["dx"].typed()?;
                let (mut dweight, mut dbias) = (state("dweight")?, state("dbias")?);
                let mut ds0 = state("ds0")?;
                let mut outputs = crate::causal_conv1d::GradientsMut {
                    dx: Some(&mut dx),
                    dweight: dweight.as_mut(),
                    dbias: dbias.as_mut(),
                    ds0: ds0.as_mut(),
                };
                backward_into(&inputs, &gradients, &options, &mut outputs)?;
            }
            _ => {
                let mut out = placed.outputs["out"].typed()?;
                let mut final_state = state("final_state")?;
                let mut outputs = crate::causal_conv1d::OutputsMut {
                    out: &mut out,
                    final_state: final_state.as_mut(),
                };
                forward_into(&inputs, &options, &mut outputs)?;
            }
        }
        let found: Vec<&View<B>> =
            self.exact.iter().map(|(name, _)| &placed.outputs[*name]).collect();
        let comparisons = self.compare(&found)?;
        placed.check_guards()?;
        Ok(comparisons)
    }

    /// Compares what was found, in the order of the exact results.
    fn compare<B: Backend>(&self, found: &[&View<B>]) -> Result<Vec<Comparison>> {
        let compare = |(found, (name, exact)): (&&View<B>, &(&'static str, Vec<f64>))| {
            let found = found.to_backend(&Cpu)?;
            let time_last = match (*name, self.case.layout) {
                ("out" | "dx", Layout::Bld) => found.transposed(1, 2)?,
                _ => found,
            };
            let tolerance = self.case.tolerance(self.device, T::DTYPE, name);
            Comparison::new(name, &time_last, exact, tolerance)
        };
        found.iter().zip(&self.exact).map(compare).collect()
    }
}
