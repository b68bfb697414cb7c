//! The WGSL kernels: what a call records into a command encoder.
//!
//! A call is recorded as copies of small tensors into a scratch buffer, one compute pass, and copies
//! of small results out of it; keys, values, outputs and given scores are bound where they lie.

use super::plan::{self, Pass};
use super::{
    Gradients, Inputs, Layout, NAME, Options, OutputGradients, OutputsMut, Problem, Resets, Saved,
    ScanAttention, State, StepInputs, StepProblem,
};
use crate::backend::kernel::Variant;
use crate::backend::kernel::common::SumWgsl;
use crate::backend::wgpu::{Codes, Home, Mode, Recorder, Scratch, Slice, Wgpu, refused};
use crate::backend::{Backend, Buffer};
use crate::element::{DType, DeviceFloat};
use crate::parameter::Parameter;
use crate::plan::{Plan, Schedule};
use crate::scan_attention::kernels::{
    BackwardCarryWgsl, BackwardChunkedWgsl, BackwardKeysWgsl, BackwardStatesWgsl, BackwardWgsl,
    ForwardCarryWgsl, ForwardChunkedWgsl, ForwardWgsl, ScoresWgsl,
};
use crate::tensor::{Tensor, View};
use crate::{Error, Result};

mod backward;
mod forward;
mod step;

impl<T: DeviceFloat> ScanAttention<T> for Wgpu {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::wgpu(Pass::Forward, &self.name(), &self.limits(), problem, options)
    }

    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::wgpu(Pass::Backward, &self.name(), &self.limits(), problem, options)
    }

    fn variants_forward(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        plan::wgpu_variants(Pass::Forward, &self.name(), &self.limits(), problem, options)
    }

    fn variants_backward(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        plan::wgpu_variants(Pass::Backward, &self.name(), &self.limits(), problem, options)
    }

    fn launch_forward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        outputs: &OutputsMut<'_, Self, T>,
    ) -> Result<()> {
        for (name, view) in inputs.named().into_iter().chain(outputs.named()) {
            view.buffer().check_usages(NAME, name)?;
        }
        recorded(self, plan.variant, |recorder| {
            forward::record(self, recorder, plan, problem, inputs, options, outputs)
        })
    }

    fn launch_backward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        saved: &Saved<Self, T>,
        given: &OutputGradients<'_, Self, T>,
        gradients: &Gradients<Self, T>,
    ) -> Result<()> {
        let named = [inputs.named(), saved.named(), given.named(), gradients.named()];
        for (name, view) in named.into_iter().flatten() {
            view.buffer().check_usages(NAME, name)?;
        }
        recorded(self, plan.variant, |recorder| {
            backward::Call { device: self, plan, problem, inputs, options, saved, given, gradients }
                .record(recorder)
        })
    }

    fn launch_step(
        &self,
        problem: &StepProblem,
        inputs: &StepInputs<'_, Self, T>,
        options: &Options,
        state: &State<Self, T>,
        o: &Tensor<Self, T>,
    ) -> Result<()> {
        recorded(self, "scan_attention_step", |recorder| {
            step::record(self, recorder, problem, inputs, options, state, o)
        })
    }

    fn preload(&self, plan: &Plan) -> Result<()> {
        let element = Some(T::DTYPE.name());
        macro_rules! load {
            ($($entry:ident)*) => {
                $(for variant in $entry::VARIANTS {
                    let of = variant.info.parameter("element");
                    if variant.info.name == plan.variant || of.is_none() || of == element {
                        Wgpu::preload(self, variant.info)?;
                    }
                })*
            };
        }
        load! {
            ForwardWgsl ForwardChunkedWgsl ForwardCarryWgsl ScoresWgsl
            BackwardWgsl BackwardChunkedWgsl BackwardCarryWgsl BackwardStatesWgsl BackwardKeysWgsl
            SumWgsl
        }
        Ok(())
    }
}

/// Records into an encoder of our own and submits it.
fn recorded(
    device: &Wgpu,
    label: &str,
    record: impl FnOnce(&mut Recorder<'_>) -> Result<()>,
) -> Result<()> {
    let descriptor = ::wgpu::CommandEncoderDescriptor { label: Some(label) };
    let mut encoder = device.device().create_command_encoder(&descriptor);
    record(&mut Recorder::new(device, &mut encoder))?;
    device.submit(encoder)
}

/// A large tensor as a kernel finds it: the first element's index in its binding, and the strides
/// of batch entries, heads and steps.
#[derive(Clone, Copy)]
struct Lines<'a> {
    /// `None` where it has no elements.
    slice: Option<Slice<'a>>,
    at: u32,
    batch: u32,
    head: u32,
    time: u32,
}

impl<'a> Lines<'a> {
    const ABSENT: Self = Self { slice: None, at: 0, batch: 0, head: 0, time: 0 };

    /// Keys, values or outputs.
    fn of(device: &Wgpu, view: &'a View<Wgpu>, layout: Layout) -> Result<Self> {
        let (head, time) = match layout {
            Layout::Bhld => (1, 2),
            Layout::Blhd => (2, 1),
        };
        Self::with_axes(device, view, [0, head, time])
    }

    /// Scores, (B, H, L) in every layout.
    fn of_scores(device: &Wgpu, view: &'a View<Wgpu>) -> Result<Self> {
        Self::with_axes(device, view, [0, 1, 2])
    }

    fn with_axes(device: &Wgpu, view: &'a View<Wgpu>, axes: [usize; 3]) -> Result<Self> {
        if view.elements() == 0 {
            return Ok(Self::ABSENT);
        }
        let stride = |axis: usize| match view.shape()[axis] {
            // The stride of a lone entry is never used, and may be anything.
            1 => Ok(0),
            _ => word(device, "elements of a stride", view.strides()[axis]),
        };
        let slice = Slice::new(view.buffer(), view.byte_range());
        let [batch, head, time] = axes;
        Ok(Self {
            slice: Some(slice),
            at: (slice.skipped(device) / view.dtype().bytes() as u64) as u32,
            batch: stride(batch)?,
            head: stride(head)?,
            time: stride(time)?,
        })
    }

    /// Queries, (H, Dk) without gaps.
    fn of_queries(device: &Wgpu, view: &'a View<Wgpu>) -> Self {
        if view.elements() == 0 {
            return Self::ABSENT;
        }
        let slice = Slice::new(view.buffer(), view.byte_range());
        let at = (slice.skipped(device) / view.dtype().bytes() as u64) as u32;
        Self { slice: Some(slice), at, ..Self::ABSENT }
    }

    /// The binding; what is absent is bound to scratch, which no kernel reads then.
    fn bound(&self, scratch: Slice<'a>) -> Slice<'a> {
        self.slice.unwrap_or(scratch)
    }
}

/// The spans of time that a plan walks side by side: their number, and the steps of each.
fn spans(device: &Wgpu, plan: &Plan, problem: &Problem) -> Result<(u32, u32)> {
    let steps = word(device, "steps", problem.steps)?;
    Ok(match plan.schedule {
        Schedule::Serial => (1, steps),
        Schedule::Chunked { chunk } => (steps.div_ceil(chunk.max(1)).max(1), chunk),
    })
}

/// A size as kernels take it.
fn word(device: &Wgpu, what: &str, size: usize) -> Result<u32> {
    u32::try_from(size).map_err(|_| refused(NAME, device, format!("{size} {what}")))
}

/// Rooms of the scratch buffer.
struct Rooms<'a> {
    device: &'a Wgpu,
    scratch: Scratch<'a>,
}

impl<'a> Rooms<'a> {
    fn new(device: &'a Wgpu) -> Self {
        Self { device, scratch: Scratch::new(NAME) }
    }

    /// A parameter in f32; its first word.
    fn parameter(&mut self, view: &'a View<Wgpu>) -> Result<u32> {
        let source = Slice::new(view.buffer(), view.byte_range());
        let home = self.scratch.parameter(self.device, source, view.dtype(), true)?;
        Ok(first_word(home))
    }

    /// Slots, as they are; the first word.
    fn indices(&mut self, view: &'a View<Wgpu>) -> Result<u32> {
        self.scratch.words(self.device, Slice::new(view.buffer(), view.byte_range()))
    }

    fn optional(&mut self, parameter: Option<Parameter<'a, Wgpu>>) -> Result<u32> {
        parameter.map_or(Ok(0), |parameter| self.parameter(parameter.view()))
    }

    /// Room for results.
    fn room(&mut self, sizes: &[usize]) -> Result<u32> {
        let words = sizes.iter().fold(1u64, |words, &size| words.saturating_mul(size as u64));
        self.scratch.reserve(self.device, words)
    }

    /// What steps mean: words of codes, mask and bounds, and the flags that tell which are there.
    fn tokens<T: DeviceFloat>(
        &mut self,
        problem: &Problem,
        inputs: &'a Inputs<'_, Wgpu, T>,
    ) -> Result<Tokens> {
        let device = self.device;
        let steps = word(device, "steps", problem.steps)?;
        let positions = word(device, "positions", problem.batch * problem.steps)?;
        let mut codes = |view: &'a View<Wgpu>, mode: Mode, count: u32| -> Result<u32> {
            let source = Slice::new(view.buffer(), view.byte_range());
            let codes = Codes { mode, dtype: view.dtype(), count, steps };
            Ok(first_word(self.scratch.codes(device, source, codes)?))
        };
        let mut tokens = Tokens { codes_at: 0, mask_at: 0, bounds_at: 0, flags: 0 };
        match &inputs.resets {
            Resets::None => {}
            Resets::Flags(flags) => {
                (tokens.codes_at, tokens.flags) =
                    (codes(flags, Mode::Flags, positions)?, flag::CODES);
            }
            Resets::SeqIdx(seq_idx) => {
                (tokens.codes_at, tokens.flags) =
                    (codes(seq_idx.view(), Mode::SeqIdx, positions)?, flag::CODES);
            }
            Resets::CuSeqlens(bounds) => {
                let count = word(device, "sequences", problem.rows + 1)?;
                (tokens.bounds_at, tokens.flags) =
                    (codes(bounds.view(), Mode::Bounds, count)?, flag::PACKED);
            }
        }
        if let Some(mask) = inputs.mask {
            tokens.mask_at = codes(mask, Mode::Flags, positions)?;
            tokens.flags |= flag::MASKED;
        }
        Ok(tokens)
    }
}

/// Words of scratch that tell what steps mean.
#[derive(Clone, Copy)]
struct Tokens {
    codes_at: u32,
    mask_at: u32,
    bounds_at: u32,
    flags: u32,
}

/// The flags of kernels/scan_attention/*.wgsl.
mod flag {
    pub const HAS_CARRY: u32 = 1;
    pub const CODES: u32 = 2;
    pub const MASKED: u32 = 4;
    pub const PACKED: u32 = 8;
    pub const NARROW_SCORES: u32 = 16;
    pub const SAVE: u32 = 32;
    pub const ENDS: u32 = 64;
    pub const HAS_DO: u32 = 32;
    pub const HAS_DU: u32 = 64;
    pub const HAS_DW: u32 = 128;
    pub const PARTS: u32 = 256;
}

fn first_word(home: Home<'_>) -> u32 {
    match home {
        Home::Scratch(word) => word,
        Home::Absent | Home::Tensor(_) => 0,
    }
}

/// Copies words of scratch to their place.
fn copy_out(recorder: &mut Recorder<'_>, scratch: &Slices<'_>, at: u32, target: &View<Wgpu>) {
    let target = Slice::new(target.buffer(), target.byte_range());
    recorder.copy(scratch.part(at, target.bytes()), target);
}

/// A buffer of f32 words.
struct Slices<'a>(&'a crate::backend::wgpu::WgpuBuffer);

impl<'a> Slices<'a> {
    fn whole(&self) -> Slice<'a> {
        Slice::new(self.0, 0..self.0.bytes())
    }

    fn part(&self, word: u32, bytes: u64) -> Slice<'a> {
        let first = 4 * u64::from(word);
        Slice::new(self.0, first..first + bytes)
    }
}

/// The variant for an element type.
fn for_element<E>(
    device: &Wgpu,
    table: &'static [Variant<E>],
    dtype: DType,
) -> Result<&'static Variant<E>> {
    let found = table.iter().find(|one| one.info.parameter("element") == Some(dtype.name()));
    found.ok_or_else(|| Error::Unsupported {
        operation: NAME,
        backend: device.name(),
        what: format!("elements {dtype}"),
        instead: "use `cpu`".to_owned(),
    })
}
