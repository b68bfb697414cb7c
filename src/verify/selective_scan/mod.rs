//! The cases of the selective scan.

mod backward;
mod case;
#[cfg(feature = "interpreter")]
mod count;
pub mod state_update;
mod time;

#[cfg(feature = "interpreter")]
#[cfg_attr(docsrs, doc(cfg(feature = "interpreter")))]
pub use count::{count, count_both};

use backward::PreparedBackward;
pub use case::{Case, Distribution, ResetForm, Sizes};

#[cfg(feature = "interpreter")]
use warpwright_ptx::interpreter::Options as Interpretation;

#[cfg(feature = "interpreter")]
use super::count::Counted;
use super::place::OneBuffer;
use super::runs::Runs;
use super::time::{Setting, Timing};
use super::{Comparison, Random, Report, Size, Suite};
use crate::Result;
use crate::backend::{Cpu, Device, Named, dispatch, on_backend};
use crate::element::{DType, Element, Float};
use crate::operation::{Operation, Sizes as Lengths};
use crate::selective_scan::reference::{self, Exact};
use crate::selective_scan::{
    CHECKPOINT, Inputs, Layout, NAME, Options, Outputs, OutputsMut, Problem, RunTime,
    SelectiveScan, forward, forward_into,
};
use crate::tensor::Tensor;

/// The cases of a size.
pub fn cases(size: Size) -> Vec<Case> {
    let mut cases = edge_cases();
    let mut random = Random::new(0x5e1e_c71e);
    let (lengths, count): (&[usize], usize) = match size {
        Size::Quick => (&[1, 31, 33, 65, 257], 8),
        Size::Default => (&[1, 2, 3, 7, 16, 31, 32, 33, 63, 65, 129, 255, 257, 372, 1025], 40),
        Size::Thorough => (
            &[
                1, 2, 3, 7, 16, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 372, 784,
                1023, 1024, 1025, 1134, 2047, 2048, 2049, 4096, 4099,
            ],
            400,
        ),
    };
    // The reference and the interpreter walk every (b, d, t, n).
    let most = if size < Size::Thorough { 500_000 } else { usize::MAX };
    for _ in 0..count {
        cases.push(Case::random(random_sizes(&mut random, lengths, most), &mut random));
    }
    if size > Size::Quick {
        // A serial kernel walks a long case in one block, which takes the interpreter a minute.
        let thorough = size == Size::Thorough;
        let (batch, steps, long) = if thorough { (2, 197, 65_536) } else { (1, 65, 16_384) };
        let long = Case { distribution: Distribution::NearUnit, ..Case::new(1, 8, long, 4, 1) };
        cases.push(Case { accurate: true, ..long.clone() });
        cases.push(long);
        let wide = Case::new(batch, 768, steps, 16, 4);
        cases.push(Case { layout: Layout::Bld, ..wide.clone() });
        cases.push(wide);
    }
    cases
}

/// Sizes with B D L N of at most `most`.
fn random_sizes(random: &mut Random, lengths: &[usize], most: usize) -> Sizes {
    loop {
        let batch = random.pick(&[1, 2, 3]);
        let channels: usize = random.pick(&[1, 2, 3, 31, 64, 96, 100]);
        let steps = random.pick(lengths);
        let states = random.pick(&[1, 2, 3, 4, 5, 8, 15, 16, 16, 17, 32, 64, 100, 128, 256]);
        let divides = |groups: &usize| channels.is_multiple_of(*groups);
        let groups: Vec<usize> = [1, 2, channels].into_iter().filter(divides).collect();
        let groups = random.pick(&groups);
        if batch * channels * steps * states <= most {
            return Sizes { batch, channels, steps, states, groups };
        }
    }
}

/// Section 9 of the specification, as far as one call shows it.
fn edge_cases() -> Vec<Case> {
    let plain = Case::new(2, 6, 37, 5, 2);
    let mut cases = vec![
        plain.clone(),
        Case { layout: Layout::Bld, ..plain.clone() },
        Case { one_buffer: true, ..plain.clone() },
        Case { one_buffer: true, layout: Layout::Bld, ..plain.clone() },
        Case { sizes: Sizes { steps: 0, ..plain.sizes }, ..plain.clone() },
        Case { sizes: Sizes { batch: 0, ..plain.sizes }, ..plain.clone() },
        Case { sizes: Sizes { channels: 0, groups: 1, ..plain.sizes }, ..plain.clone() },
        Case { sizes: Sizes { states: 0, ..plain.sizes }, ..plain.clone() },
        Case { sizes: Sizes { states: 256, ..plain.sizes }, ..plain.clone() },
        Case { sizes: Sizes { groups: 6, ..plain.sizes }, ..plain.clone() },
        Case { sizes: Sizes { steps: CHECKPOINT + 1, ..plain.sizes }, ..plain.clone() },
        Case { distribution: Distribution::Strong, ..plain.clone() },
        Case { narrow_parameters: true, b_constant: true, ..plain.clone() },
        Case { a_per_channel: true, ..plain.clone() },
        cancelling(),
    ];
    for resets in [ResetForm::Flags, ResetForm::SeqIdx, ResetForm::CuSeqlens] {
        cases.push(Case { resets, ..plain.clone() });
        cases.push(Case { resets, one_buffer: true, layout: Layout::Bld, ..plain.clone() });
    }
    cases
}

/// A wide state whose sum over n cancels to a tenth of its parts at the largest output: the order
/// of the sum shows.
fn cancelling() -> Case {
    Case {
        layout: Layout::Bld,
        distribution: Distribution::Adversarial,
        resets: ResetForm::CuSeqlens,
        gate: false,
        bias: false,
        narrow_parameters: true,
        seed: 63_653_628,
        ..Case::new(1, 1, 256, 128, 1)
    }
}

/// The element types that each case is run in.
const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

/// The cases of the scan.
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
        let case = time::case(setting)?;
        match setting.pass {
            time::BOTH => count_both(&case, dtype, &case.options(), interpretation),
            _ => count(&case, dtype, &case.options().with_save(false), interpretation),
        }
    }
}

/// Runs one case on a device, in every element type and with every variant that fits.
pub fn run_case(device: &Device, case: &Case, mut report: impl FnMut(Report)) {
    for (index, dtype) in DTYPES.into_iter().enumerate() {
        check_case(device, case, dtype, index, &mut report);
    }
}

fn check_case(
    device: &Device,
    case: &Case,
    dtype: DType,
    index: usize,
    report: &mut impl FnMut(Report),
) {
    Runs::of([NAME, "forward"], (index, dtype), case.describe(), report, |runs| {
        dispatch!(NAME, device, dtype, |backend, T| {
            let prepared = Prepared::<T>::new(case, case.tolerances(device, dtype))?;
            for variant in prepared.variants(backend)? {
                runs.run("forward", variant, || prepared.run(backend, variant));
            }
            Ok(())
        })
    });
    Runs::of([NAME, "backward"], (index, dtype), case.describe(), report, |runs| {
        dispatch!(NAME, device, dtype, |backend, T| {
            let tolerances = case.gradient_tolerances(device, dtype);
            let prepared = PreparedBackward::<T>::new(case, tolerances)?;
            for variant in prepared.variants(backend)? {
                runs.run("backward", variant, || prepared.run(backend, variant));
            }
            Ok(())
        })
    });
}

/// A case with its tensors and its exact results.
pub struct Prepared<T> {
    case: Case,
    inputs: Named<Cpu>,
    exact: Exact,
    tolerances: (f64, f64),
    element: std::marker::PhantomData<T>,
}

impl<T: Float> Prepared<T> {
    /// Draws the tensors and evaluates the reference; `tolerances` are those of `out` and of the
    /// states.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn new(case: &Case, tolerances: (f64, f64)) -> Result<Self> {
        let inputs = case.tensors::<T>()?;
        let exact = reference::forward(&Inputs::<Cpu, T>::from_named(&inputs)?, &case.options())?;
        let element = std::marker::PhantomData;
        Ok(Self { case: case.clone(), inputs, exact, tolerances, element })
    }

    /// The variants of a backend that fit the case.
    ///
    /// # Errors
    ///
    /// As [`SelectiveScan::variants_forward`].
    pub fn variants<B: SelectiveScan<T>>(&self, backend: &B) -> Result<Vec<&'static str>> {
        let options = self.case.options();
        let problem = Problem::check(&Inputs::<Cpu, T>::from_named(&self.inputs)?, &options)?;
        backend.variants_forward(&problem, &options)
    }

    /// Runs the case with a variant, and compares every output with the reference.
    ///
    /// # Errors
    ///
    /// The call's error, or [`Error::Value`](crate::Error::Value) where it wrote what it must not.
    pub fn run<B: SelectiveScan<T>>(
        &self,
        backend: &B,
        variant: &'static str,
    ) -> Result<Vec<Comparison>> {
        let options = self.case.options().with_variant(variant);
        match self.case.one_buffer {
            true => self.run_in_one_buffer(backend, &options),
            false => {
                let inputs = on_backend(backend, &self.inputs)?;
                let Outputs { out, last_state, saved } =
                    forward(&Inputs::<B, T>::from_named(&inputs)?, &options)?;
                self.compare(&out, &last_state, saved.as_ref())
            }
        }
    }

    fn run_in_one_buffer<B: SelectiveScan<T>>(
        &self,
        backend: &B,
        options: &Options,
    ) -> Result<Vec<Comparison>> {
        let inputs = Inputs::<Cpu, T>::from_named(&self.inputs)?;
        let problem = Problem::check(&inputs, options)?;
        let state = T::State::DTYPE;
        let outputs = [
            ("out", T::DTYPE, inputs.u.shape().to_vec()),
            ("last_state", state, problem.state_shape().to_vec()),
            ("saved", state, problem.saved_shape().to_vec()),
        ];
        let mut strided = vec!["u", "delta", "z", "out"];
        strided.extend((!self.case.b_constant).then_some("B"));
        strided.extend((!self.case.c_constant).then_some("C"));
        let placed = OneBuffer::new(backend, &self.inputs, &outputs, &strided)?;
        let mut out = placed.outputs["out"].typed::<T>()?;
        let mut last_state = placed.outputs["last_state"].typed::<T::State>()?;
        let mut saved = placed.outputs["saved"].typed::<T::State>()?;
        forward_into(
            &Inputs::<B, T>::from_named(&placed.inputs)?,
            options,
            &mut OutputsMut {
                out: &mut out,
                last_state: Some(&mut last_state),
                saved: Some(&mut saved),
            },
        )?;
        let comparisons = self.compare(&out, &last_state, Some(&saved))?;
        placed.check_guards()?;
        Ok(comparisons)
    }

    fn compare<B: SelectiveScan<T>>(
        &self,
        out: &Tensor<B, T>,
        last_state: &Tensor<B, T::State>,
        saved: Option<&Tensor<B, T::State>>,
    ) -> Result<Vec<Comparison>> {
        let (loose, tight) = self.tolerances;
        let out = out.to_backend(&Cpu)?;
        let out = match self.case.layout {
            Layout::Bdl => out,
            Layout::Bld => out.transposed(1, 2)?,
        };
        let Exact { out: exact_out, last_state: exact_state, saved: exact_saved, .. } = &self.exact;
        let mut comparisons = vec![
            Comparison::new("out", &out, exact_out, loose)?,
            Comparison::new("last_state", &last_state.to_backend(&Cpu)?, exact_state, tight)?,
        ];
        if let Some(saved) = saved {
            comparisons.push(Comparison::new(
                "saved",
                &saved.to_backend(&Cpu)?,
                exact_saved,
                tight,
            )?);
        }
        Ok(comparisons)
    }
}
