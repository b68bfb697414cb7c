//! The cases of merges of partial results.

use std::time::Instant;

#[cfg(feature = "interpreter")]
use warpwright_ptx::interpreter::Options as Interpretation;

use super::DTYPES;
use crate::Result;
use crate::attention::merge::{AXES, NAME, RunTime};
use crate::attention::{Attention, Layout, Outputs, OutputsMut, Parts, merge, merge_into};
#[cfg(feature = "interpreter")]
use crate::backend::cuda::{Cuda, Interpreter};
use crate::backend::{Backend, Cpu, Device, Named, dispatch, in_f64, on_backend};
use crate::element::{DType, Element, Float};
use crate::operation::{Operation, Settings, Sizes};
use crate::parameter::Parameter;
use crate::tensor::{Tensor, View};
#[cfg(feature = "interpreter")]
use crate::verify::count::Counted;
use crate::verify::place::OneBuffer;
use crate::verify::time::{Setting, Timing, repeat};
use crate::verify::{Comparison, Outcome, Random, Report, Size, Suite};

/// One merge: sizes and forms. Its tensors follow from the seed.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct MergeCase {
    /// B; none where sequences are packed.
    pub batch: Option<usize>,
    pub heads: usize,
    pub queries: usize,
    pub width: usize,
    pub parts: usize,
    pub layout: Layout,
    /// Parts are given in the result's type, not in f32.
    pub narrow: bool,
    /// One part after the other is merged into a running result.
    pub running: bool,
    /// Every third row of a part has seen nothing, and holds what is no number.
    pub blind: bool,
    /// lse are drawn from minus this to this.
    pub spread: f64,
    /// All tensors lie in one buffer, at odd places, with guards between.
    pub one_buffer: bool,
    pub seed: u64,
}

impl MergeCase {
    /// A case of so many parts at these sizes: H, Sq and Dv.
    pub fn new(batch: Option<usize>, [heads, queries, width]: [usize; 3], parts: usize) -> Self {
        Self {
            batch,
            heads,
            queries,
            width,
            parts,
            layout: Layout::Bshd,
            narrow: true,
            running: false,
            blind: false,
            spread: 3.0,
            one_buffer: false,
            seed: 1,
        }
    }

    fn random(random: &mut Random) -> Self {
        let batch = random.pick(&[None, Some(1), Some(2), Some(3)]);
        let widths = [1, 2, 7, 8, 32, 33, 64, 100, 128, 256, 300];
        let sizes =
            [random.pick(&[1, 2, 5]), random.pick(&[1, 2, 7, 64, 65]), random.pick(&widths)];
        Self {
            layout: random.pick(&[Layout::Bshd, Layout::Bhsd]),
            narrow: random.chance(0.5),
            running: random.chance(0.5),
            blind: random.chance(0.5),
            spread: random.pick(&[0.0, 3.0, 3.0, 200.0]),
            one_buffer: random.chance(0.4),
            seed: random.below(1 << 30) as u64,
            ..Self::new(batch, sizes, 1 + random.below(5))
        }
    }

    /// The shapes of a result and of its lse.
    fn shapes(&self) -> [Vec<usize>; 2] {
        let &Self { heads, queries, width, .. } = self;
        let rows = match self.layout {
            Layout::Bshd => [queries, heads, width],
            Layout::Bhsd => [heads, queries, width],
        };
        let with_batch =
            |axes: &[usize]| self.batch.into_iter().chain(axes.iter().copied()).collect();
        [with_batch(&rows), with_batch(&[heads, queries])]
    }

    /// The parts of the merge with results of type `T`, on the CPU, and a running result of nothing.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn tensors<T: Float>(&self) -> Result<Named<Cpu>> {
        let [result, lse] = self.shapes();
        let mut random = Random::new(self.seed);
        let mut named = Named::new();
        let rows = self.parts * lse.iter().product::<usize>();
        let is_blind = |row: usize| self.blind && row.is_multiple_of(3);
        let all_lse = (0..rows).map(|row| match is_blind(row) {
            true => f64::NEG_INFINITY,
            false => random.uniform(-self.spread, self.spread),
        });
        let parts_lse = floats::<T::State>(all_lse.collect(), &[&[self.parts], &*lse].concat())?;
        let numbers = (0..rows * self.width).map(|i| match is_blind(self.row(i / self.width)) {
            true => f64::NAN,
            false => random.normal(),
        });
        let (numbers, shape) = (numbers.collect(), [&[self.parts], &*result].concat());
        let parts = match self.narrow {
            true => floats::<T>(numbers, &shape)?,
            false => floats::<T::State>(numbers, &shape)?,
        };
        let count = |shape: &[usize]| shape.iter().product();
        let partial = floats::<T::State>(vec![f64::NAN; count(&result)], &result)?;
        let running = floats::<T::State>(vec![f64::NEG_INFINITY; count(&lse)], &lse)?;
        for (name, view) in
            [("parts", parts), ("parts_lse", parts_lse), ("partial", partial), ("lse", running)]
        {
            named.insert(name.to_owned(), view);
        }
        Ok(named)
    }

    /// The number among all lse of that of a line of features.
    fn row(&self, line: usize) -> usize {
        let &Self { heads, queries, .. } = self;
        let (entry, of_entry) = (line / (heads * queries), line % (heads * queries));
        match self.layout {
            Layout::Bhsd => line,
            Layout::Bshd => entry * heads * queries + of_entry % heads * queries + of_entry / heads,
        }
    }

    /// The case in a line.
    pub fn describe(&self) -> String {
        let Self { heads, queries, width, parts, layout, spread, .. } = self;
        let batch = self.batch.map_or("packed".to_owned(), |batch| format!("B={batch}"));
        let mut words = vec![format!(
            "{batch} H={heads} Sq={queries} Dv={width} N={parts} {layout} lse {spread}"
        )];
        let flags = [
            (self.narrow, "narrow"),
            (self.running, "running"),
            (self.blind, "blind"),
            (self.one_buffer, "one buffer"),
        ];
        words.extend(flags.into_iter().filter(|(set, _)| *set).map(|(_, word)| word.to_owned()));
        format!("{} seed {}", words.join(" "), self.seed)
    }
}

fn floats<E: Float>(values: Vec<f64>, shape: &[usize]) -> Result<View<Cpu>> {
    Ok(Tensor::from_vec(values.into_iter().map(E::from_f64).collect(), shape)?.into_view())
}

/// The cases of a size.
pub fn merge_cases(size: Size) -> Vec<MergeCase> {
    let plain = MergeCase::new(Some(2), [3, 5, 24], 3);
    let mut cases = vec![
        plain.clone(),
        MergeCase { blind: true, one_buffer: true, ..plain.clone() },
        MergeCase { running: true, blind: true, one_buffer: true, ..plain.clone() },
        MergeCase { spread: 200.0, ..plain.clone() },
        MergeCase { batch: None, layout: Layout::Bhsd, ..plain.clone() },
        MergeCase { width: 512, narrow: false, ..plain.clone() },
        // Nothing to do, or nothing to merge.
        MergeCase { parts: 0, ..plain.clone() },
        MergeCase { parts: 1, blind: true, ..plain.clone() },
        MergeCase { batch: Some(0), ..plain.clone() },
        MergeCase { heads: 0, running: true, ..plain.clone() },
        MergeCase { queries: 0, ..plain },
    ];
    let mut random = Random::new(0x3e26e);
    let count = match size {
        Size::Quick => 12,
        Size::Default => 60,
        Size::Thorough => 600,
    };
    cases.extend((0..count).map(|_| MergeCase::random(&mut random)));
    cases
}

/// The cases of merges.
pub struct MergeCases;

impl Suite for MergeCases {
    fn operation(&self) -> &'static dyn Operation {
        &RunTime
    }

    fn count(&self, size: Size) -> usize {
        merge_cases(size).len() * DTYPES.len()
    }

    fn run(&self, device: &Device, size: Size, report: &mut dyn FnMut(Report)) {
        for (number, case) in merge_cases(size).iter().enumerate() {
            for (i, dtype) in DTYPES.into_iter().enumerate() {
                let start = Instant::now();
                let ran =
                    dispatch!(NAME, device, dtype, |backend, T| run_on::<_, T>(backend, case));
                let elapsed = start.elapsed();
                let (variant, ran) = match ran {
                    Ok((variant, comparisons)) => (variant, Ok(comparisons)),
                    Err(error) => ("", Err(error)),
                };
                report(Report {
                    operation: NAME,
                    pass: "merge",
                    variant,
                    dtype,
                    index: number * DTYPES.len() + i,
                    case: case.describe(),
                    elapsed,
                    outcome: Outcome::from(ran),
                });
            }
        }
    }

    /// Steps of a ring: a block of all queries into the running result.
    fn settings(&self) -> Vec<Setting> {
        let setting = |queries, large| {
            let sizes = Sizes::new(&AXES, [1, 32, queries, 128, 2]);
            Setting { large, ..Setting::new("R", "merge", sizes, Settings::default()) }
        };
        vec![setting(1024, false), setting(8192, true)]
    }

    fn elements(&self, sizes: &Sizes) -> usize {
        sizes.axes().iter().map(|(_, length)| length).product()
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
            let begun = Instant::now();
            running::<_, T>(&case, &named)?;
            Ok(Counted {
                variant: Attention::<T>::merge_variant(backend)?,
                elapsed: begun.elapsed(),
                kernels: interpreter.take_counters(),
                least_bytes: least_bytes(&named),
                elements: self.elements(&setting.sizes) as u64,
            })
        })
    }
}

/// The case of a setting: all parts but one are merged into a running result, which is the other.
fn case(setting: &Setting) -> Result<MergeCase> {
    let [batch, heads, queries, width, parts] = setting.sizes.lengths(NAME)?;
    let blocks = parts.saturating_sub(1);
    Ok(MergeCase { running: true, ..MergeCase::new(Some(batch), [heads, queries, width], blocks) })
}

/// Blocks are read once; the running result is read and written for each.
fn least_bytes<B: Backend>(named: &Named<B>) -> u64 {
    let bytes = |name: &str| (named[name].elements() * named[name].dtype().bytes()) as u64;
    let blocks = named["parts"].shape()[0] as u64;
    bytes("parts") + bytes("parts_lse") + 2 * blocks * (bytes("partial") + bytes("lse"))
}

fn time_on<B: Attention<T>, T: Float>(
    backend: &B,
    case: &MergeCase,
    runs: Option<usize>,
) -> Result<Timing> {
    let named = on_backend(backend, &case.tensors::<T>()?)?;
    running::<B, T>(case, &named)?;
    backend.synchronise()?;
    let seconds = repeat(runs, || {
        running::<B, T>(case, &named)?;
        backend.synchronise()
    })?;
    Ok(Timing { variant: backend.merge_variant()?, seconds, bytes: least_bytes(&named) })
}

/// Merges all parts into the running result, one after the other.
fn running<B: Attention<T>, T: Float>(case: &MergeCase, named: &Named<B>) -> Result<()> {
    let (mut partial, mut lse) = (named["partial"].typed()?, named["lse"].typed()?);
    for part in 0..case.parts {
        let (out, out_lse) = (one(&named["parts"], part)?, one(&named["parts_lse"], part)?);
        let block = Parts::<B, T> { out: Parameter::from_view(&out)?, lse: out_lse.as_typed()? };
        let partial = Some(&mut partial);
        merge_into(&mut OutputsMut { out: None, partial, lse: &mut lse }, &block, case.layout)?;
    }
    Ok(())
}

/// One part of all.
fn one<B: Backend>(parts: &View<B>, part: usize) -> Result<View<B>> {
    let one = parts.narrowed(0, part..part + 1)?;
    let (shape, strides) = (&one.shape()[1..], &one.strides()[1..]);
    View::from_buffer(
        one.backend(),
        one.buffer().clone(),
        one.dtype(),
        one.offset(),
        shape,
        strides,
    )
}

/// Runs the case, and compares with the reference.
fn run_on<B: Attention<T>, T: Float>(
    backend: &B,
    case: &MergeCase,
) -> Result<(&'static str, Vec<Comparison>)> {
    let tensors = case.tensors::<T>()?;
    let in_place =
        ["partial", "lse"].map(|name| (name, T::State::DTYPE, tensors[name].shape().to_vec()));
    let strided = ["parts", "parts_lse", "partial", "lse"];
    let place = || OneBuffer::new(backend, &tensors, &in_place, &strided);
    let placed = case.one_buffer.then(place).transpose()?;
    let named = match &placed {
        None => on_backend(backend, &tensors)?,
        Some(placed) => placed.inputs.iter().chain(&placed.outputs).map(owned).collect(),
    };
    let exact = exact(case, &tensors)?;
    let comparisons = match case.running {
        true => {
            running::<B, T>(case, &named)?;
            compare(T::State::DTYPE, &named["partial"], &named["lse"], &exact)?
        }
        false => {
            let (out, lse) = (&named["parts"], named["parts_lse"].as_typed()?);
            let parts = Parts::<B, T> { out: Parameter::from_view(out)?, lse };
            let merged = merge(&parts, case.layout)?;
            compare(T::DTYPE, &merged.out, &merged.lse, &exact)?
        }
    };
    placed.map_or(Ok(()), |placed| placed.check_guards())?;
    Ok((backend.merge_variant()?, comparisons))
}

fn owned<B: Backend>((name, view): (&String, &View<B>)) -> (String, View<B>) {
    (name.clone(), view.clone())
}

/// The exact result, of parts as they are.
fn exact(case: &MergeCase, tensors: &Named<Cpu>) -> Result<Outputs<Cpu, f64>> {
    let wide = in_f64(tensors)?;
    let parts =
        Parts::<Cpu, f64>::new(wide["parts"].as_typed::<f64>()?, wide["parts_lse"].as_typed()?);
    merge(&parts, case.layout)
}

/// Section 11.2 of the specification for f32; what is rounded to 16 bits may be off by that.
fn compare<B: Backend>(
    dtype: DType,
    out: &View<B>,
    lse: &View<B>,
    exact: &Outputs<Cpu, f64>,
) -> Result<Vec<Comparison>> {
    const F32: f64 = 2e-6;
    let (out, lse) = (out.to_backend(&Cpu)?, lse.to_backend(&Cpu)?);
    let (exact_out, exact_lse) = (exact.out.to_vec()?, exact.lse.to_vec()?);
    let largest = exact_out.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    let rounding = match dtype {
        DType::BF16 => 2f64.powi(-8),
        DType::F16 => 2f64.powi(-11),
        _ => 0.0,
    };
    let of_out = match rounding {
        0.0 => Comparison::of_norms("out, norm", &out, &exact_out, F32, 0.0)?,
        _ => Comparison::within("out", &out, &exact_out, |i| {
            rounding * exact_out[i].abs() + F32 * largest
        })?,
    };
    let of_lse = Comparison::within("lse", &lse, &exact_lse, |i| F32 * (1.0 + exact_lse[i].abs()))?;
    Ok(vec![of_out, of_lse])
}
