//! Launches the PTX, all on the stream of the device handle, which all tensors of a call share.

use super::kernels::{CombinePtx, GradientPtx, ProductPtx, ReducePtx, StatisticsPtx, TargetsPtx};
use super::plan::{self, Chunks, Pass};
use super::{
    CrossEntropy, GradientLines, Inputs, Logits, NAME, Options, OutputsMut, Plan, Problem,
    Reduction, STATISTICS,
};
use crate::Result;
use crate::backend::Backend;
use crate::backend::cuda::{
    Address, Cuda, Place, Stream, Workspace, bytes, linear, only, within, word,
};
use crate::backend::kernel::VariantInfo;
use crate::element::{DType, DeviceFloat};
use crate::parameter::{Indices, Parameter};
use crate::tensor::Tensor;

mod linear;
mod rows;

use linear::{Gradients, Linear};
use rows::{Merge, Rows};

/// The kernels of a pass that read rows.
fn kernels(pass: Pass) -> Vec<&'static VariantInfo> {
    match pass {
        Pass::Forward => StatisticsPtx::VARIANTS.iter().map(|one| one.info).collect(),
        Pass::Backward => GradientPtx::VARIANTS.iter().map(|one| one.info).collect(),
    }
}

fn planned(device: &Cuda, pass: Pass, problem: &Problem, options: &Options) -> Result<Plan> {
    let kernels = kernels(pass);
    plan::gpu(pass, &device.name(), &device.limits(), problem, options, &kernels)
}

impl<T: DeviceFloat> CrossEntropy<T> for Cuda {
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
        self.check_streams(NAME, inputs.named())?;
        let stream = self.stream();
        let mut workspace = Workspace::default();
        let columns = workspace.take(bytes(&[problem.tokens], 4));
        let chunks = Chunks::planned(plan, problem);
        let parts = chunks.count() * plan.parts as usize;
        // One part tells all there is to tell.
        let told = match parts {
            1 => None,
            _ => Some(workspace.take(bytes(&[parts, problem.tokens, STATISTICS], 4))),
        };
        let logits = linear::take_logits(problem, chunks, &mut workspace);
        let workspace = workspace.allocate(stream)?;
        let at = |place: u64| within(workspace.as_ref(), place);
        let columns = at(columns);
        launch_targets(stream, problem, inputs.target, options, columns)?;
        let told = told.map_or_else(|| Address::of(statistics), at);
        let rows = Rows { stream, plan, problem, options, columns };
        match inputs.logits {
            Logits::Given(logits) => {
                for all in chunks.ranges() {
                    rows.statistics(all, logits.into(), told, 0)?;
                }
            }
            Logits::Linear { x, weight } => {
                let linear = Linear { stream, problem, x, weight, logits: at(logits), chunks };
                for (i, chunk) in chunks.ranges().enumerate() {
                    let lines = linear.launch_logits(chunk.clone())?;
                    rows.statistics(chunk, lines, told, i * plan.parts as usize)?;
                }
            }
        }
        if parts == 1 {
            return Ok(());
        }
        let merge = Merge { stream, problem, options, statistics: told, parts, columns };
        merge.launch(Address::of(statistics), Address::NULL, Address::NULL)
    }

    fn launch_loss(
        &self,
        problem: &Problem,
        target: Indices<'_, Self>,
        options: &Options,
        statistics: &Tensor<Self, f32>,
        outputs: &OutputsMut<'_, Self, T>,
    ) -> Result<()> {
        self.check_streams(NAME, outputs.named())?;
        let stream = self.stream();
        let mut workspace = Workspace::default();
        let [columns, losses] = [(); 2].map(|()| workspace.take(bytes(&[problem.tokens], 4)));
        let workspace = workspace.allocate(stream)?;
        let [columns, losses] = [columns, losses].map(|at| within(workspace.as_ref(), at));
        launch_targets(stream, problem, target, options, columns)?;
        let (loss, lse) = (Address::of(outputs.loss), Address::of(outputs.lse));
        let (parts, statistics) = (statistics.shape()[0], Address::of(statistics));
        let merge = Merge { stream, problem, options, statistics, parts, columns };
        match problem.reduction {
            Reduction::None => merge.launch(Address::NULL, lse, loss),
            Reduction::Mean | Reduction::Sum => {
                merge.launch(Address::NULL, lse, losses)?;
                launch_reduce(stream, problem, columns, [losses, loss, Address::NULL])
            }
        }
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
        self.check_streams(NAME, inputs.named())?;
        self.check_streams(NAME, [("lse", &**lse), ("dloss", dloss.view())])?;
        self.check_streams(NAME, gradients.named())?;
        let stream = self.stream();
        let mut workspace = Workspace::default();
        let columns = workspace.take(bytes(&[problem.tokens], 4));
        let factor = workspace.take(4);
        let dloss = Place::of(dloss.view(), &mut workspace);
        let chunks = Chunks::planned(plan, problem);
        let logits = linear::take_logits(problem, chunks, &mut workspace);
        let sums = linear::take_sums(problem, chunks, gradients, &mut workspace);
        let workspace = workspace.allocate(stream)?;
        let at = |place: u64| within(workspace.as_ref(), place);
        let columns = at(columns);
        launch_targets(stream, problem, inputs.target, options, columns)?;
        dloss.widen(NAME, stream, workspace.as_ref())?;
        let factor = match problem.reduction {
            Reduction::Mean => at(factor),
            Reduction::Sum | Reduction::None => Address::NULL,
        };
        if problem.reduction == Reduction::Mean {
            let only_factor = [Address::NULL, Address::NULL, factor];
            launch_reduce(stream, problem, columns, only_factor)?;
        }
        let upstream = [Address::of(lse), dloss.address(workspace.as_ref()), factor];
        let rows = Rows { stream, plan, problem, options, columns };
        match (&inputs.logits, gradients) {
            (Logits::Given(logits), GradientLines::Given(to)) => {
                let lines = [(*logits).into(), (*to).into()];
                chunks.ranges().try_for_each(|all| rows.gradient(all, lines, upstream))
            }
            (Logits::Linear { x, weight }, GradientLines::Linear { x: dx, weight: dweight }) => {
                let linear = Linear { stream, problem, x, weight, logits: at(logits), chunks };
                let to = Gradients { linear: &linear, dx, dweight, sums: sums.map(at) };
                for chunk in chunks.ranges() {
                    let lines = linear.launch_logits(chunk.clone())?;
                    rows.gradient(chunk.clone(), [lines, lines], upstream)?;
                    to.launch(chunk, lines)?;
                }
                to.finish()
            }
            // The caller makes gradients of what there is.
            _ => Ok(()),
        }
    }

    fn preload(&self, plan: &Plan) -> Result<()> {
        let stream = self.stream();
        let element = Some(T::DTYPE.name());
        macro_rules! load {
            ($($entry:ident: $is_right:expr;)*) => {
                $(for variant in $entry::VARIANTS.iter().filter($is_right) {
                    stream.preload(variant.info)?;
                })*
            };
        }
        load! {
            TargetsPtx: |_| true;
            StatisticsPtx: |one| one.info.name == plan.variant;
            GradientPtx: |one| one.info.name == plan.variant;
            CombinePtx: |_| true;
            ReducePtx: |_| true;
            ProductPtx: |one| one.info.parameter("element") == element;
        }
        crate::backend::cuda::preload(NAME, stream)
    }
}

/// Turns targets into columns.
fn launch_targets(
    stream: &Stream,
    problem: &Problem,
    target: Indices<'_, Cuda>,
    options: &Options,
    columns: Address,
) -> Result<()> {
    let kernel = only(NAME, TargetsPtx::VARIANTS)?;
    let count = problem.tokens as u64;
    let grid = linear(NAME, stream, count.div_ceil(u64::from(kernel.info.block[0])))?;
    TargetsPtx {
        targets: Address::of(target.view()),
        columns,
        count,
        ignored: options.ignore_index as u64,
        is_wide: (target.dtype().bytes() == 8).into(),
        is_signed: (target.dtype() == DType::I32).into(),
        vocabulary: word(problem.vocabulary),
    }
    .launch(stream, kernel, grid)
}

/// Sums losses, or tells what each of them is multiplied with.
fn launch_reduce(
    stream: &Stream,
    problem: &Problem,
    columns: Address,
    [losses, loss, factor]: [Address; 3],
) -> Result<()> {
    let kernel = only(NAME, ReducePtx::VARIANTS)?;
    ReducePtx {
        losses,
        columns,
        loss,
        factor,
        rows: word(problem.tokens),
        is_mean: (problem.reduction == Reduction::Mean).into(),
    }
    .launch(stream, kernel, linear(NAME, stream, 1)?)
}
