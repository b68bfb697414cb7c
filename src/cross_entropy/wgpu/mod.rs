//! The WGSL kernels: what a call records into a command encoder. Tensors are bound where they lie; what
//! is computed on the way has buffers of its own.

use super::kernels::{
    CombineWgsl, GradientWgsl, ProductWgsl, ReduceWgsl, ReduceWgslParams, StatisticsWgsl,
    TargetsWgsl, TargetsWgslParams,
};
use super::plan::{self, Chunks, Pass};
use super::{
    CrossEntropy, GradientLines, Inputs, Logits, NAME, Options, OutputsMut, Plan, Problem,
    Reduction, STATISTICS,
};
use crate::Result;
use crate::backend::Backend;
use crate::backend::kernel::{Variant, VariantInfo};
use crate::backend::wgpu::{
    Placed, Recorder, Scratch, Slice, Wgpu, WgpuBuffer, folded, refused, workgroups,
};
use crate::element::{DType, DeviceFloat};
use crate::parameter::{Indices, Parameter};
use crate::tensor::{Tensor, View};

mod linear;
mod rows;

use linear::{Gradients, Linear};
use rows::{Lines, Merge, Rows};

/// The kernels of a pass that read rows.
fn kernels(pass: Pass) -> Vec<&'static VariantInfo> {
    match pass {
        Pass::Forward => StatisticsWgsl::VARIANTS.iter().map(|one| one.info).collect(),
        Pass::Backward => GradientWgsl::VARIANTS.iter().map(|one| one.info).collect(),
    }
}

fn planned(device: &Wgpu, pass: Pass, problem: &Problem, options: &Options) -> Result<Plan> {
    let kernels = kernels(pass);
    plan::gpu(pass, &device.name(), &device.limits(), problem, options, &kernels)
}

impl<T: DeviceFloat> CrossEntropy<T> for Wgpu {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        planned(self, Pass::Forward, problem, options)
    }

    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        planned(self, Pass::Backward, problem, options)
    }

    fn variants_forward(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        let plan = planned(self, Pass::Forward, problem, options)?;
        Ok(plan::gpu_variants(&plan, problem, &kernels(Pass::Forward)))
    }

    fn variants_backward(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        let plan = planned(self, Pass::Backward, problem, options)?;
        Ok(plan::gpu_variants(&plan, problem, &kernels(Pass::Backward)))
    }

    fn launch_statistics(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        statistics: &Tensor<Self, f32>,
    ) -> Result<()> {
        for (name, view) in inputs.named() {
            view.buffer().check_usages(NAME, name)?;
        }
        if problem.tokens == 0 {
            return Ok(());
        }
        let chunks = Chunks::planned(plan, problem);
        let parts = chunks.count() * plan.parts as usize;
        let columns = numbers(self, &[problem.tokens])?;
        // One part tells all there is to tell.
        let told = match parts {
            1 => None,
            _ => Some(numbers(self, &[parts, problem.tokens, STATISTICS])?),
        };
        let logits = linear::room(self, problem, chunks)?;
        recorded(self, plan.variant, |recorder| {
            record_targets(self, recorder, problem, inputs.target, options, &columns)?;
            let into = Placed::of(self, statistics);
            let told = told.as_ref().map_or(into, whole);
            let rows = Rows { device: self, plan, problem, options, columns: &columns };
            for (i, chunk) in chunks.ranges().enumerate() {
                let lines = match inputs.logits {
                    Logits::Given(logits) => Lines::of(self, logits)?,
                    Logits::Linear { x, weight } => {
                        let linear =
                            Linear { device: self, problem, x, weight, logits: &logits, chunks };
                        linear.record_logits(recorder, chunk.clone())?
                    }
                };
                rows.record_statistics(recorder, chunk, &lines, told, i * plan.parts as usize)?;
            }
            if parts == 1 {
                return Ok(());
            }
            let merge = Merge {
                device: self,
                problem,
                options,
                statistics: told,
                parts,
                columns: &columns,
            };
            merge.record(recorder, into, None)
        })
    }

    fn launch_loss(
        &self,
        problem: &Problem,
        target: Indices<'_, Self>,
        options: &Options,
        statistics: &Tensor<Self, f32>,
        outputs: &OutputsMut<'_, Self, T>,
    ) -> Result<()> {
        for (name, view) in outputs.named() {
            view.buffer().check_usages(NAME, name)?;
        }
        let columns = numbers(self, &[problem.tokens])?;
        let losses = numbers(self, &[problem.tokens])?;
        recorded(self, "cross_entropy_loss", |recorder| {
            record_targets(self, recorder, problem, target, options, &columns)?;
            let loss = Placed::of(self, outputs.loss);
            let (parts, statistics) = (statistics.shape()[0], Placed::of(self, statistics));
            let merge =
                Merge { device: self, problem, options, statistics, parts, columns: &columns };
            let lse = Placed::of(self, outputs.lse);
            if problem.reduction == Reduction::None {
                return merge.record(recorder, lse, Some(loss));
            }
            merge.record(recorder, lse, Some(whole(&losses)))?;
            record_reduce(recorder, problem, &columns, Some(&losses), loss)
        })
    }

    fn launch_backward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        lse: &Tensor<Self, f32>,
        dloss: Parameter<'_, Self>,
        gradients: &GradientLines<'_, Self>,
    ) -> Result<()> {
        let others = [("lse", &**lse), ("dloss", dloss.view())];
        for (name, view) in inputs.named().into_iter().chain(others).chain(gradients.named()) {
            view.buffer().check_usages(NAME, name)?;
        }
        let chunks = Chunks::planned(plan, problem);
        let columns = numbers(self, &[problem.tokens])?;
        let factor = numbers(self, &[1])?;
        let logits = linear::room(self, problem, chunks)?;
        let sums = linear::room_for_sums(self, problem, gradients)?;
        recorded(self, plan.variant, |recorder| {
            let mut scratch = Scratch::new(NAME);
            let source = Slice::new(dloss.buffer(), dloss.byte_range());
            scratch.parameter(self, source, dloss.dtype(), true)?;
            let upstream = scratch.fill(self, recorder)?;
            record_targets(self, recorder, problem, inputs.target, options, &columns)?;
            if problem.reduction == Reduction::Mean {
                record_reduce(recorder, problem, &columns, None, whole(&factor))?;
            }
            let upstream = [Placed::of(self, lse), whole(&upstream), whole(&factor)];
            let rows = Rows { device: self, plan, problem, options, columns: &columns };
            match (&inputs.logits, gradients) {
                (Logits::Given(logits), GradientLines::Given(to)) => {
                    let lines = [Lines::of(self, logits)?, Lines::of(self, to)?];
                    chunks.ranges().try_for_each(|all| {
                        rows.record_gradient(recorder, all, [&lines[0], &lines[1]], upstream)
                    })
                }
                (
                    Logits::Linear { x, weight },
                    GradientLines::Linear { x: dx, weight: dweight },
                ) => {
                    let linear =
                        Linear { device: self, problem, x, weight, logits: &logits, chunks };
                    let to = Gradients { linear: &linear, dx, dweight, sums: sums.as_ref() };
                    for chunk in chunks.ranges() {
                        let lines = linear.record_logits(recorder, chunk.clone())?;
                        rows.record_gradient(recorder, chunk.clone(), [&lines, &lines], upstream)?;
                        to.record(recorder, chunk)?;
                    }
                    to.finish(recorder)
                }
                // The caller makes gradients of what there is.
                _ => Ok(()),
            }
        })
    }

    fn preload(&self, plan: &Plan) -> Result<()> {
        let element = Some(T::DTYPE.name());
        macro_rules! load {
            ($($entry:ident)*) => {
                $(for variant in $entry::VARIANTS {
                    let of = variant.info.parameter("element");
                    let is_row = variant.info.parameter("lanes").is_some();
                    if variant.info.name == plan.variant || !is_row && (of.is_none() || of == element) {
                        Wgpu::preload(self, variant.info)?;
                    }
                })*
            };
        }
        load! { TargetsWgsl StatisticsWgsl CombineWgsl ReduceWgsl GradientWgsl ProductWgsl }
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

/// A buffer of so many numbers of 4 bytes, one at least.
fn numbers(device: &Wgpu, sizes: &[usize]) -> Result<WgpuBuffer> {
    let count = sizes.iter().fold(1u64, |count, &size| count.saturating_mul(size as u64));
    device.allocate(4 * count.max(1))
}

/// A buffer from its first byte on.
fn whole(buffer: &WgpuBuffer) -> Placed<'_> {
    Placed { slice: Slice::whole(buffer), at: 0 }
}

/// A size as kernels take it.
fn word(device: &Wgpu, what: &str, size: usize) -> Result<u32> {
    u32::try_from(size).map_err(|_| refused(NAME, device, format!("{size} {what}")))
}

/// A number of workgroups, and a grid that holds them.
fn grid(device: &Wgpu, count: usize) -> Result<(u32, [u32; 3])> {
    let refuse = || refused(NAME, device, format!("{count} workgroups"));
    let grid = folded(count as u64, device.limits().grid).ok_or_else(refuse)?;
    Ok((word(device, "workgroups", count)?, grid))
}

/// The variant of a table that is right. There is one, or the plan would have refused.
fn find<E>(
    device: &Wgpu,
    table: &'static [Variant<E>],
    is_right: impl Fn(&VariantInfo) -> bool,
) -> Result<&'static Variant<E>> {
    let found = table.iter().find(|one| is_right(one.info));
    found.ok_or_else(|| {
        refused(NAME, device, "this plan, which was made for another device".to_owned())
    })
}

/// Turns targets into columns.
fn record_targets(
    device: &Wgpu,
    recorder: &mut Recorder<'_>,
    problem: &Problem,
    target: Indices<'_, Wgpu>,
    options: &Options,
    columns: &WgpuBuffer,
) -> Result<()> {
    if problem.tokens == 0 {
        return Ok(());
    }
    let variant = &TargetsWgsl::VARIANTS[0];
    let view: &View<Wgpu> = target.view();
    let slice = Slice::new(view.buffer(), view.byte_range());
    let count = word(device, "tokens", problem.tokens)?;
    let ignored = options.ignore_index as u64;
    let params = TargetsWgslParams {
        count,
        ignored_low: ignored as u32,
        ignored_high: (ignored >> 32) as u32,
        is_wide: (view.dtype().bytes() == 8).into(),
        is_signed: (view.dtype() == DType::I32).into(),
        vocabulary: word(device, "columns", problem.vocabulary)?,
        targets_at: (slice.skipped(device) / 4) as u32,
    };
    let grid = workgroups(NAME, device, count, variant.info.block[0])?;
    TargetsWgsl { params, targets: slice, columns: Slice::whole(columns) }
        .record(recorder, variant, grid)
}

/// Sums losses, or tells what each of them is multiplied with.
fn record_reduce(
    recorder: &mut Recorder<'_>,
    problem: &Problem,
    columns: &WgpuBuffer,
    losses: Option<&WgpuBuffer>,
    loss: Placed<'_>,
) -> Result<()> {
    let params = ReduceWgslParams {
        // The plan has refused more.
        tokens: u32::try_from(problem.tokens).unwrap_or(u32::MAX),
        is_mean: (problem.reduction == Reduction::Mean).into(),
        has_losses: losses.is_some().into(),
        loss_at: loss.at,
    };
    let columns = Slice::whole(columns);
    // Bound in place of what is absent.
    let losses = losses.map_or(columns, Slice::whole);
    ReduceWgsl { params, losses, columns, loss: loss.slice }.record(
        recorder,
        &ReduceWgsl::VARIANTS[0],
        [1, 1, 1],
    )
}
