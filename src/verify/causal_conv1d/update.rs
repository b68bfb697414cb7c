//! The cases of the update.

use std::time::{Duration, Instant};

#[cfg(feature = "interpreter")]
use warpwright_ptx::interpreter::Options as Interpretation;

use crate::Result;
#[cfg(feature = "interpreter")]
use crate::backend::cuda::{Cuda, Interpreter};
use crate::backend::{Backend, Cpu, Device, Named, dispatch, on_backend};
use crate::causal_conv1d::update::reference::{self, Exact};
use crate::causal_conv1d::update::{
    AXES, CausalConv1dUpdate, Inputs, NAME, Problem, RunTime, plan, update, update_into,
};
use crate::causal_conv1d::{Activation, Layout, Options};
use crate::element::{DType, Float};
use crate::operation::{Operation, Settings, Sizes};
use crate::tensor::{Tensor, View};
#[cfg(feature = "interpreter")]
use crate::verify::count::Counted;
use crate::verify::place::OneBuffer;
use crate::verify::time::{Setting, Timing, repeat};
use crate::verify::{Comparison, Outcome, Random, Report, Size, Suite};

/// One case: sizes and forms. Its tensors follow from the seed.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct UpdateCase {
    pub batch: usize,
    pub channels: usize,
    /// S; none for an x without an axis of time.
    pub steps: Option<usize>,
    pub width: usize,
    /// K.
    pub entries: usize,
    pub layout: Layout,
    pub activation: Activation,
    pub circular: bool,
    /// Slots out of order, padding among them.
    pub indexed: bool,
    pub bias: bool,
    /// Parameters and states are given in the activations' type.
    pub narrow: bool,
    /// All tensors lie in one buffer, at odd places, with guards between.
    pub one_buffer: bool,
    pub seed: u64,
}

impl UpdateCase {
    /// A case of one step at these sizes.
    pub fn new(batch: usize, channels: usize, width: usize, entries: usize) -> Self {
        Self {
            batch,
            channels,
            steps: None,
            width,
            entries,
            layout: Layout::Bdl,
            activation: Activation::Silu,
            circular: false,
            indexed: false,
            bias: true,
            narrow: true,
            one_buffer: false,
            seed: 1,
        }
    }

    fn random(random: &mut Random) -> Self {
        let width = random.pick(&[1, 2, 3, 4, 4, 5, 6, 7, 8]);
        let batch = random.pick(&[1, 2, 3, 7]);
        let channels = random.pick(&[1, 2, 3, 31, 64, 65, 100]);
        Self {
            steps: random.pick(&[None, Some(1), Some(2), Some(3), Some(5), Some(16)]),
            layout: random.pick(&[Layout::Bdl, Layout::Bld]),
            activation: random.pick(&[Activation::None, Activation::Silu]),
            circular: random.chance(0.5),
            indexed: random.chance(0.5),
            bias: random.chance(0.5),
            narrow: random.chance(0.5),
            one_buffer: random.chance(0.3),
            seed: random.below(1 << 30) as u64,
            ..Self::new(batch, channels, width, width - 1 + random.below(4))
        }
    }

    /// The options of the call.
    pub fn options(&self) -> Options {
        Options::default().with_layout(self.layout).with_activation(self.activation)
    }

    fn x_shape(&self) -> Vec<usize> {
        match (self.steps, self.layout) {
            (None, _) => vec![self.batch, self.channels],
            (Some(steps), Layout::Bdl) => vec![self.batch, self.channels, steps],
            (Some(steps), Layout::Bld) => vec![self.batch, steps, self.channels],
        }
    }

    /// R: one more than there are entries, where slots are given.
    fn slots(&self) -> usize {
        self.batch + usize::from(self.indexed)
    }

    /// The tensors of the call in activations of type `T`, on the CPU.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn tensors<T: Float>(&self) -> Result<Named<Cpu>> {
        let mut random = Random::new(self.seed);
        let mut named = Named::new();
        let mut draw = |name: &str, shape: &[usize], narrow: bool| -> Result<()> {
            let values = (0..shape.iter().product()).map(|_| random.normal());
            let tensor = match narrow {
                true => Tensor::from_vec(values.map(T::from_f64).collect(), shape)?.into_view(),
                false => {
                    Tensor::from_vec(values.map(T::State::from_f64).collect(), shape)?.into_view()
                }
            };
            named.insert(name.to_owned(), tensor);
            Ok(())
        };
        draw("x", &self.x_shape(), true)?;
        draw("weight", &[self.channels, self.width], self.narrow)?;
        if self.bias {
            draw("bias", &[self.channels], self.narrow)?;
        }
        draw("conv_state", &[self.slots(), self.channels, self.entries], self.narrow)?;
        let mut indices = |name: &str, values: Vec<i32>| -> Result<()> {
            let shape = [values.len()];
            named.insert(name.to_owned(), Tensor::from_vec(values, &shape)?.into_view());
            Ok(())
        };
        if self.circular {
            indices("cache_seqlens", (0..self.batch).map(|b| (7 * b + 2) as i32).collect())?;
        }
        if self.indexed {
            // From the last slot down; every third entry is padding.
            let slot = |b: usize| if b % 3 == 1 { -1 } else { (self.batch - b) as i32 };
            indices("state_indices", (0..self.batch).map(slot).collect())?;
        }
        Ok(named)
    }

    /// The largest scaled error that the arithmetic allows: section 11 of the specification. The
    /// state is a copy.
    fn tolerance(&self, device: &Device, dtype: DType) -> f64 {
        let coarse = !matches!(device.name().split(':').next(), Some("cpu" | "cuda" | "ptx"));
        match (dtype, coarse) {
            (DType::BF16, _) => 6e-3,
            (DType::F16, _) => 8e-4,
            (_, true) => 1e-5,
            (_, false) => 2e-6,
        }
    }

    /// The case in a line.
    pub fn describe(&self) -> String {
        let Self { batch, channels, width, entries, .. } = self;
        let steps = self.steps.map_or_else(String::new, |steps| format!(" S={steps}"));
        let mut words = vec![format!(
            "B={batch} D={channels}{steps} W={width} K={entries} {} {}",
            self.layout, self.activation
        )];
        let flags = [
            (self.circular, "circular"),
            (self.indexed, "indexed"),
            (self.bias, "bias"),
            (self.narrow, "narrow"),
            (self.one_buffer, "one buffer"),
        ];
        words.extend(flags.into_iter().filter(|(set, _)| *set).map(|(_, word)| word.to_owned()));
        format!("{} seed {}", words.join(" "), self.seed)
    }
}

/// The cases of a size.
pub fn update_cases(size: Size) -> Vec<UpdateCase> {
    let plain = UpdateCase::new(3, 5, 4, 3);
    let mut cases = vec![
        plain.clone(),
        UpdateCase { indexed: true, ..plain.clone() },
        UpdateCase { circular: true, entries: 6, steps: Some(2), ..plain.clone() },
        UpdateCase { circular: true, indexed: true, one_buffer: true, ..plain.clone() },
        UpdateCase { narrow: false, entries: 5, one_buffer: true, ..plain.clone() },
        // More steps than the state has entries.
        UpdateCase { steps: Some(9), ..plain.clone() },
        UpdateCase { steps: Some(9), circular: true, layout: Layout::Bld, ..plain.clone() },
        // Nothing to do.
        UpdateCase { steps: Some(0), entries: 5, ..plain.clone() },
        UpdateCase { batch: 0, ..plain.clone() },
        UpdateCase { channels: 0, ..plain.clone() },
        UpdateCase { width: 1, entries: 0, ..plain.clone() },
        UpdateCase { width: 1, entries: 0, circular: true, ..plain.clone() },
    ];
    let mut random = Random::new(0x0b_da7e);
    let count = match size {
        Size::Quick => 12,
        Size::Default => 100,
        Size::Thorough => 1000,
    };
    cases.extend((0..count).map(|_| UpdateCase::random(&mut random)));
    cases
}

/// The element types that each case is run in.
const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

/// The cases of the update.
pub struct UpdateCases;

impl Suite for UpdateCases {
    fn operation(&self) -> &'static dyn Operation {
        &RunTime
    }

    fn count(&self, size: Size) -> usize {
        update_cases(size).len() * DTYPES.len()
    }

    fn run(&self, device: &Device, size: Size, report: &mut dyn FnMut(Report)) {
        for (number, case) in update_cases(size).iter().enumerate() {
            run_update_case(device, case, |case| {
                report(Report { index: number * DTYPES.len() + case.index, ..case });
            });
        }
    }

    /// C1: batches from one entry to many.
    fn settings(&self) -> Vec<Setting> {
        let setting = |batch| {
            let options = [("activation".to_owned(), "silu".to_owned())];
            let options = Settings { options: options.into(), ..Settings::default() };
            let sizes = Sizes::new(&AXES, [batch, 2048, 1, 4, 3]);
            Setting::new("C1", "update", sizes, options)
        };
        [1, 8, 64, 256].map(setting).into()
    }

    fn elements(&self, sizes: &Sizes) -> usize {
        let activation = |(axis, _): &&(&str, usize)| !matches!(*axis, "W" | "K");
        sizes.axes().iter().filter(activation).map(|(_, length)| length).product()
    }

    fn time(
        &self,
        device: &Device,
        setting: &Setting,
        dtype: DType,
        runs: Option<usize>,
    ) -> Result<Timing> {
        let case = case(setting)?;
        dispatch!(NAME, device, dtype, |backend, T| time_on::<_, T>(backend, &case, runs))
    }

    #[cfg(feature = "interpreter")]
    fn count_kernels(
        &self,
        setting: &Setting,
        dtype: DType,
        interpretation: Interpretation,
    ) -> Result<Counted> {
        let case = case(setting)?;
        let interpreter = Interpreter::new(interpretation);
        let device = Device::Cuda(Cuda::with_driver(interpreter.clone())?);
        dispatch!(NAME, &device, dtype, |backend, T| {
            let named = on_backend(backend, &case.tensors::<T>()?)?;
            let inputs = Inputs::<_, T>::from_named(&named)?;
            let mut state = named["conv_state"].clone();
            let problem = Problem::check(&inputs, &state, &case.options())?;
            let variant = plan(&inputs, &state, &case.options())?.variant;
            let begun = Instant::now();
            update(&inputs, (&mut state).into(), &case.options())?;
            let elapsed = begun.elapsed();
            let elements = problem.batch * problem.channels * problem.steps;
            Ok(Counted {
                variant,
                kernels: interpreter.take_counters(),
                least_bytes: problem.least_bytes(),
                elements: elements as u64,
                elapsed,
            })
        })
    }
}

/// The case of a setting.
fn case(setting: &Setting) -> Result<UpdateCase> {
    let options = Options::from_settings(NAME, &setting.settings)?;
    let sizes @ [batch, channels, steps, width, entries] = setting.sizes.lengths(NAME)?;
    Problem::new(DType::F32, sizes)?;
    Ok(UpdateCase {
        steps: Some(steps),
        layout: options.layout,
        activation: options.activation,
        ..UpdateCase::new(batch, channels, width, entries)
    })
}

fn time_on<B: CausalConv1dUpdate<T>, T: Float>(
    backend: &B,
    case: &UpdateCase,
    runs: Option<usize>,
) -> Result<Timing> {
    let options = case.options();
    let named = on_backend(backend, &case.tensors::<T>()?)?;
    let inputs = Inputs::<B, T>::from_named(&named)?;
    let mut state = named["conv_state"].clone();
    let problem = Problem::check(&inputs, &state, &options)?;
    let variant = plan(&inputs, &state, &options)?.variant;
    let mut out = update(&inputs, (&mut state).into(), &options)?;
    backend.synchronise()?;
    let seconds = repeat(runs, || {
        update_into(&inputs, (&mut state).into(), &options, &mut out)?;
        backend.synchronise()
    })?;
    Ok(Timing { variant, seconds, bytes: problem.least_bytes() })
}

/// Runs one case on a device, in every element type.
pub fn run_update_case(device: &Device, case: &UpdateCase, mut report: impl FnMut(Report)) {
    for (index, dtype) in DTYPES.into_iter().enumerate() {
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
        let tolerance = case.tolerance(device, dtype);
        let start = Instant::now();
        let ran =
            dispatch!(NAME, device, dtype, |backend, T| run_on::<_, T>(backend, case, tolerance));
        let elapsed = start.elapsed();
        let (variant, ran) = match ran {
            Ok((variant, comparisons)) => (variant, Ok(comparisons)),
            Err(error) => ("", Err(error)),
        };
        report(Report { variant, elapsed, outcome: Outcome::from(ran), ..base });
    }
}

/// Runs the case, and compares output and state with the reference.
fn run_on<B: CausalConv1dUpdate<T>, T: Float>(
    backend: &B,
    case: &UpdateCase,
    tolerance: f64,
) -> Result<(&'static str, Vec<Comparison>)> {
    let (options, tensors) = (case.options(), case.tensors::<T>()?);
    let inputs = Inputs::<Cpu, T>::from_named(&tensors)?;
    let exact = reference::update(&inputs, &tensors["conv_state"], &options)?;
    if case.one_buffer {
        return run_in_one_buffer::<B, T>(backend, case, &tensors, &exact, tolerance);
    }
    let named = on_backend(backend, &tensors)?;
    let inputs = Inputs::<B, T>::from_named(&named)?;
    let mut state = named["conv_state"].clone();
    let variant = plan(&inputs, &state, &options)?.variant;
    let out = update(&inputs, (&mut state).into(), &options)?;
    Ok((variant, compare(&out, &state, &exact, tolerance)?))
}

fn run_in_one_buffer<B: CausalConv1dUpdate<T>, T: Float>(
    backend: &B,
    case: &UpdateCase,
    tensors: &Named<Cpu>,
    exact: &Exact,
    tolerance: f64,
) -> Result<(&'static str, Vec<Comparison>)> {
    let options = case.options();
    let state = &tensors["conv_state"];
    let outputs =
        [("out", T::DTYPE, case.x_shape()), ("conv_state", state.dtype(), state.shape().to_vec())];
    let placed = OneBuffer::new(backend, tensors, &outputs, &["x", "out", "conv_state"])?;
    let mut moved = placed.outputs["conv_state"].clone();
    let inputs = Inputs::<B, T>::from_named(&placed.inputs)?;
    let variant = plan(&inputs, &moved, &options)?.variant;
    let mut out = placed.outputs["out"].typed()?;
    update_into(&inputs, (&mut moved).into(), &options, &mut out)?;
    let comparisons = compare(&out, &moved, exact, tolerance)?;
    placed.check_guards()?;
    Ok((variant, comparisons))
}

fn compare<B: Backend>(
    out: &View<B>,
    state: &View<B>,
    exact: &Exact,
    tolerance: f64,
) -> Result<Vec<Comparison>> {
    Ok(vec![
        Comparison::new("out", &out.to_backend(&Cpu)?, &exact.out, tolerance)?,
        Comparison::new("conv_state", &state.to_backend(&Cpu)?, &exact.conv_state, 0.0)?,
    ])
}
