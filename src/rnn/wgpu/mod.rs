//! The WGSL kernels: what a call records into a command encoder.
//!
//! Parameters, states and gradients of states are laid down without gaps in a scratch buffer, in
//! f32, and the matrices in another with the gates of a pair of units side by side; sequences are
//! bound where they lie. What becomes of the states after the last step is copied out of scratch
//! at the end, so that these may be the very tensors that they were read from.

use super::kernels::{BackwardProductWgsl, BackwardWgsl, ForwardWgsl, GatherWgsl, LengthsWgsl};
use super::plan::{self, ITERATIONS, Pass, padded_gates};
use super::{
    Direction, Gradients, Inputs, NAME, Options, OutputGradients, OutputsMut, Plan, Problem, Rnn,
    Saved,
};
use crate::backend::Backend;
use crate::backend::kernel::common::{SumWgsl, SumWgslParams};
use crate::backend::kernel::{Variant, VariantInfo};
use crate::backend::wgpu::{Placed, Recorder, Slice, Wgpu, folded, refused};
use crate::element::{DType, DeviceFloat};
use crate::tensor::{Tensor, View};
use crate::{Error, Result};

mod backward;
mod forward;
mod rooms;

use rooms::Gathered;

impl<T: DeviceFloat> Rnn<T> for Wgpu {
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
            forward::Call { device: self, plan, problem, inputs, options, outputs }.record(recorder)
        })
    }

    fn launch_backward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        h: &Tensor<Self, T>,
        saved: &Saved<Self, T>,
        given: &OutputGradients<'_, Self, T>,
        gradients: &Gradients<Self, T>,
    ) -> Result<()> {
        h.buffer().check_usages(NAME, "h")?;
        let named = [inputs.named(), saved.named(), given.named(), gradients.named()];
        for (name, view) in named.into_iter().flatten() {
            view.buffer().check_usages(NAME, name)?;
        }
        let device = self;
        recorded(self, plan.variant, |recorder| {
            backward::Call { device, plan, problem, inputs, options, h, saved, given, gradients }
                .record(recorder)
        })
    }

    fn preload(&self, plan: &Plan) -> Result<()> {
        let element = T::DTYPE.name();
        let chosen = |info: &VariantInfo| info.name == plan.variant;
        let helps = |info: &VariantInfo| {
            info.parameter("element").is_none_or(|of| of == element || of == DType::F32.name())
        };
        let passes = (ForwardWgsl::VARIANTS.iter().map(|one| one.info))
            .chain(BackwardWgsl::VARIANTS.iter().map(|one| one.info));
        let helpers = (GatherWgsl::VARIANTS.iter().map(|one| one.info))
            .chain(LengthsWgsl::VARIANTS.iter().map(|one| one.info))
            .chain(BackwardProductWgsl::VARIANTS.iter().map(|one| one.info))
            .chain(SumWgsl::VARIANTS.iter().map(|one| one.info));
        let needed = passes.filter(|&info| chosen(info)).chain(helpers.filter(|&info| helps(info)));
        for info in needed {
            Wgpu::preload(self, info)?;
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

/// The sizes of a problem, as kernels take them.
#[derive(Clone, Copy)]
struct Sizes {
    batch: u32,
    steps: u32,
    heads: u32,
    width: u32,
}

impl Sizes {
    fn of(device: &Wgpu, problem: &Problem) -> Result<Self> {
        Ok(Self {
            batch: word(device, "rows", problem.batch)?,
            steps: word(device, "steps", problem.steps)?,
            heads: word(device, "heads", problem.heads)?,
            width: word(device, "units", problem.width)?,
        })
    }
}

/// The flags that all kernels share.
fn shared_flags<T: DeviceFloat>(inputs: &Inputs<'_, Wgpu, T>, options: &Options) -> u32 {
    /// As kernels/rnn/*.wgsl number them.
    const LENGTHS: u32 = 1;
    const REVERSE: u32 = 2;
    const CLIP: u32 = 4;
    flags_of([
        (inputs.lengths.is_some(), LENGTHS),
        (options.direction == Direction::Reverse, REVERSE),
        (options.output_clip.is_some(), CLIP),
    ])
}

/// All flags that are set.
fn flags_of<const N: usize>(flags: [(bool, u32); N]) -> u32 {
    flags.into_iter().fold(0, |all, (set, flag)| if set { all | flag } else { all })
}

/// A sequence as a kernel finds it: the first element's index in its binding, and the strides of
/// rows, steps, gates and heads.
#[derive(Clone, Copy)]
struct Lines<'a> {
    /// `None` where it has no elements.
    slice: Option<Slice<'a>>,
    at: u32,
    row: u32,
    step: u32,
    /// 0 where it has no gates.
    gate: u32,
    head: u32,
}

impl<'a> Lines<'a> {
    const ABSENT: Self = Self { slice: None, at: 0, row: 0, step: 0, gate: 0, head: 0 };

    /// (B, T, G, N, D) or (B, T, N, D).
    fn of(device: &Wgpu, view: &'a View<Wgpu>) -> Result<Self> {
        if view.elements() == 0 {
            return Ok(Self::ABSENT);
        }
        let Placed { slice, at } = Placed::of(device, view);
        let stride = |axis| stride(device, view, axis);
        let (gate, head) = match view.shape().len() {
            5 => (stride(2)?, stride(3)?),
            _ => (0, stride(2)?),
        };
        Ok(Self { slice: Some(slice), at, row: stride(0)?, step: stride(1)?, gate, head })
    }

    fn optional(device: &Wgpu, view: Option<&'a View<Wgpu>>) -> Result<Self> {
        view.map_or(Ok(Self::ABSENT), |view| Self::of(device, view))
    }

    /// The binding; what is absent is bound to scratch, which no kernel reads then.
    fn bound(&self, scratch: Slice<'a>) -> Slice<'a> {
        self.slice.unwrap_or(scratch)
    }
}

fn stride(device: &Wgpu, view: &View<Wgpu>, axis: usize) -> Result<u32> {
    match view.shape()[axis] {
        // The stride of a lone entry is never used, and may be anything.
        1 => Ok(0),
        _ => word(device, "elements of a stride", view.strides()[axis]),
    }
}

/// A size as kernels take it.
fn word(device: &Wgpu, what: &str, size: usize) -> Result<u32> {
    u32::try_from(size).map_err(|_| refused(NAME, device, format!("{size} {what}")))
}

/// So many workgroups, and the grid that holds them.
fn workgroups(device: &Wgpu, sizes: &[usize]) -> Result<(u32, [u32; 3])> {
    let count = sizes.iter().fold(1u64, |count, &size| count.saturating_mul(size as u64));
    folded(count, device.limits().grid)
        .map(|grid| (count as u32, grid))
        .ok_or_else(|| refused(NAME, device, format!("{count} workgroups")))
}

/// The variant whose parameters are these.
fn variant_of<E>(
    device: &Wgpu,
    table: &'static [Variant<E>],
    parameters: &[(&str, &str)],
) -> Result<&'static Variant<E>> {
    let fits = |one: &&Variant<E>| {
        parameters.iter().all(|&(name, value)| {
            one.info.parameters.iter().any(|&(key, of)| key == name && of == value)
        })
    };
    table.iter().find(fits).ok_or_else(|| Error::Unsupported {
        operation: NAME,
        backend: device.name(),
        what: format!("kernels of {parameters:?}"),
        instead: "use `cpu`".to_owned(),
    })
}

/// The planned variant.
fn planned<E>(
    device: &Wgpu,
    table: &'static [Variant<E>],
    plan: &Plan,
) -> Result<&'static Variant<E>> {
    table.iter().find(|one| one.info.name == plan.variant).ok_or_else(|| Error::Unsupported {
        operation: NAME,
        backend: device.name(),
        what: format!("the plan of another device, {}", plan.variant),
        instead: "plan for this device".to_owned(),
    })
}

/// Lays down the matrices (Gr, N, out, in) with their gates last, by head and then by the axis
/// that is summed over: the inner one forward, the outer one backward.
fn record_matrices(
    device: &Wgpu,
    recorder: &mut Recorder<'_>,
    problem: &Problem,
    r: &View<Wgpu>,
    pass: Pass,
    target: Slice<'_>,
) -> Result<()> {
    let &Problem { cell, heads, width, .. } = problem;
    let [gate, head, out, inner] = [0, 1, 2, 3].map(|axis| stride(device, r, axis));
    let [gate, head, out, inner] = [gate?, head?, out?, inner?];
    let strides = match pass {
        Pass::Forward => [head, inner, out, gate],
        Pass::Backward => [head, out, inner, gate],
    };
    Gathered {
        source: Some(r),
        sizes: [heads, width, width, padded_gates(cell)],
        strides,
        there: cell.recurrent_gates().len(),
        at: 0,
    }
    .record(device, recorder, target)
}

/// Bytes of the matrices as they are laid down.
fn matrix_bytes(problem: &Problem) -> u64 {
    let &Problem { cell, heads, width, .. } = problem;
    let sizes = [heads, width, width, padded_gates(cell)];
    sizes.iter().fold(4u64, |bytes, &size| bytes.saturating_mul(size as u64))
}

/// Sums parts that lie in f32 words behind each other into a tensor of as many elements as one of
/// them; one part is a copy, none are zeros.
fn record_sum(
    device: &Wgpu,
    recorder: &mut Recorder<'_>,
    parts: Slice<'_>,
    [at, count]: [u32; 2],
    target: &View<Wgpu>,
) -> Result<()> {
    /// Parts of a dispatch.
    const PARTS: u32 = ITERATIONS as u32;
    let elements = target.elements();
    if elements == 0 {
        return Ok(());
    }
    let variant = variant_of(device, SumWgsl::VARIANTS, &[("element", DType::F32.name())])?;
    let (_, grid) = workgroups(device, &[elements.div_ceil(variant.info.block[0] as usize)])?;
    let Placed { slice: out, at: out_at } = Placed::of(device, target);
    let elements = word(device, "elements", elements)?;
    let params = SumWgslParams {
        count: elements,
        heads: 1,
        steps: 1,
        width: elements,
        parts: 0,
        line_stride: 0,
        part_stride: elements,
        parts_at: 0,
        out_at,
        out_batch: 0,
        out_head: 0,
        out_time: 0,
        out_width: 1,
        goes_on: 0,
    };
    for first in (0..count.max(1)).step_by(PARTS as usize) {
        let params = SumWgslParams {
            parts: PARTS.min(count - first),
            // All parts lie in one binding, whose words have numbers.
            parts_at: at + first * elements,
            goes_on: u32::from(first > 0),
            ..params
        };
        SumWgsl { params, scratch: parts, out }.record(recorder, variant, grid)?;
    }
    Ok(())
}

/// Copies words of scratch to their place.
fn copy_out(recorder: &mut Recorder<'_>, scratch: Slice<'_>, at: u32, target: &View<Wgpu>) {
    let target = Slice::new(target.buffer(), target.byte_range());
    recorder.copy(scratch.part(at, target.bytes()), target);
}
