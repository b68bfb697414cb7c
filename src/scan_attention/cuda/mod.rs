//! Launches the PTX, all on the stream of the device handle, which all tensors of a call share.

use super::plan::{self, Pass};
use super::{
    Gradients, Inputs, Layout, NAME, Options, OutputGradients, OutputsMut, Problem, Saved,
    ScanAttention, State, StepInputs, StepProblem,
};
use crate::Result;
use crate::backend::Backend;
use crate::backend::cuda::{Address, Cuda, CudaBuffer, Grid, Stream, variant};
use crate::backend::kernel::Variant;
use crate::element::{DType, DeviceFloat};
use crate::plan::{Plan, Schedule};
use crate::scan_attention::kernels::{
    BackwardCarryPtx, BackwardChunkedPtx, BackwardKeysPtx, BackwardPtx, BackwardStatesPtx,
    ForwardCarryPtx, ForwardChunkedPtx, ForwardPtx, ScoresPtx, SumPtx,
};
use crate::tensor::{Tensor, View};

mod backward;
mod forward;
mod step;

impl<T: DeviceFloat> ScanAttention<T> for Cuda {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cuda(Pass::Forward, &self.name(), &self.limits(), problem, options)
    }

    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cuda(Pass::Backward, &self.name(), &self.limits(), problem, options)
    }

    fn variants_forward(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        plan::cuda_variants(Pass::Forward, &self.name(), &self.limits(), problem, options)
    }

    fn variants_backward(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        plan::cuda_variants(Pass::Backward, &self.name(), &self.limits(), problem, options)
    }

    fn launch_forward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        outputs: &OutputsMut<'_, Self, T>,
    ) -> Result<()> {
        self.check_streams(NAME, inputs.named())?;
        self.check_streams(NAME, outputs.named())?;
        match plan.blocks.contains(&0) {
            true => Ok(()),
            false => forward::Call::new(plan, problem, inputs, options, outputs)
                .launch(plan, self.stream()),
        }
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
        self.check_streams(NAME, inputs.named())?;
        self.check_streams(NAME, saved.named())?;
        self.check_streams(NAME, given.named())?;
        self.check_streams(NAME, gradients.named())?;
        backward::Call::new(plan, problem, inputs, options, saved, given, gradients)
            .launch(plan, self.stream())
    }

    fn launch_step(
        &self,
        problem: &StepProblem,
        inputs: &StepInputs<'_, Self, T>,
        options: &Options,
        state: &State<Self, T>,
        o: &Tensor<Self, T>,
    ) -> Result<()> {
        step::launch(self.stream(), problem, inputs, options, state, o)
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
        let chunked = plan.schedule != Schedule::Serial;
        load! {
            ForwardPtx: |one| one.info.name == plan.variant
                || chunked && one.info.parameter("element") == element;
            ForwardChunkedPtx: |one| one.info.name == plan.variant;
            BackwardPtx: |one| one.info.parameter("element") == element;
            BackwardChunkedPtx: |one| one.info.name == plan.variant;
            ForwardCarryPtx: |_| chunked;
            BackwardCarryPtx: |_| chunked;
            BackwardStatesPtx: |_| true;
            ScoresPtx: |one| one.info.parameter("element") == element;
            BackwardKeysPtx: |one| one.info.parameter("element") == element;
            SumPtx: |_| true;
        }
        crate::backend::cuda::preload(NAME, stream)
    }
}

/// Strides of batch entries, heads and steps, in elements.
fn strides(view: &View<Cuda>, layout: Layout) -> [u64; 3] {
    let [batch, second, third] = [0, 1, 2].map(|axis| view.strides()[axis] as u64);
    match layout {
        Layout::Bhld => [batch, second, third],
        Layout::Blhd => [batch, third, second],
    }
}

fn address(view: Option<&View<Cuda>>) -> Address {
    view.map_or(Address::NULL, Address::of)
}

/// The variant for an element type.
fn for_element<E>(table: &'static [Variant<E>], dtype: DType) -> Result<&'static Variant<E>> {
    variant(NAME, table, |info| info.parameter("element") == Some(dtype.name()))
}

/// The variant of this name.
fn named<E>(table: &'static [Variant<E>], name: &str) -> Result<&'static Variant<E>> {
    variant(NAME, table, |info| info.name == name)
}

/// Sums parts in workspace into a tensor.
struct Sum<'a> {
    parts: Address,
    count: usize,
    /// Elements from the parts of a head to those of the next, and from part to part.
    line_stride: usize,
    part_stride: usize,
    target: &'a View<Cuda>,
    /// Of batch entries, heads and steps of the target.
    strides: [u64; 3],
    /// B, H, L and D of the target.
    sizes: [usize; 4],
}

impl Sum<'_> {
    fn launch(&self, stream: &Stream) -> Result<()> {
        use crate::backend::cuda::{linear, word};
        let variant = for_element(SumPtx::VARIANTS, self.target.dtype())?;
        let count = self.sizes.iter().fold(1u64, |count, &size| count.saturating_mul(size as u64));
        if count == 0 {
            return Ok(());
        }
        let grid = linear(NAME, stream, count.div_ceil(u64::from(variant.info.block[0])))?;
        let [target_batch_stride, target_head_stride, target_time_stride] = self.strides;
        let [_, heads, steps, width] = self.sizes;
        SumPtx {
            parts: self.parts,
            target: Address::of(self.target),
            count,
            line_stride: self.line_stride as u64,
            part_stride: self.part_stride as u64,
            target_batch_stride,
            target_head_stride,
            target_time_stride,
            heads: word(heads),
            steps: word(steps),
            width: word(width),
            parts_count: word(self.count),
        }
        .launch(stream, variant, grid)
    }
}

/// A grid of the plan's blocks.
fn grid(plan: &Plan) -> Grid {
    Grid { blocks: plan.blocks, ..Grid::default() }
}

/// What lies at a byte of the workspace, or in a tensor.
fn at(workspace: Option<&CudaBuffer>, place: Option<u64>) -> Address {
    place.map_or(Address::NULL, |at| crate::backend::cuda::within(workspace, at))
}
