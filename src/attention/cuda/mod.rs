//! Launches the PTX, all on the stream of the device handle, which all tensors of a call share.

use super::kernels::{MergePtx, SinkPtx, TermsPtx, WalkPtx};
use super::plan::{self, Pass, Target};
use super::{
    Alignment, Attention, GradientsMut, Inputs, Layout, Merge, NAME, Options, OutputGradients,
    OutputsMut, Plan, Problem, Sight,
};
use crate::Result;
use crate::backend::Backend;
use crate::backend::cuda::{Address, Cuda, CudaBuffer, Place, Workspace, element, only, word};
use crate::backend::kernel::VariantInfo;
use crate::element::{DType, DeviceFloat};
use crate::tensor::{Tensor, View};

mod backward;
mod forward;
mod merge;

/// Blocks that fill a multiprocessor.
const FULL_PER_UNIT: usize = 8;

/// The device, as plans see it.
fn target(device: &Cuda) -> Target {
    Target {
        name: device.name(),
        kernels: WalkPtx::VARIANTS.iter().map(|one| one.info).collect(),
        full: device.limits().units as usize * FULL_PER_UNIT,
        units: device.limits().units as usize,
        shared: device.limits().shared_bytes,
    }
}

impl<T: DeviceFloat> Attention<T> for Cuda {
    fn plan_forward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::walk(&target(self), Pass::Forward, problem, options)
    }

    fn plan_backward(&self, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::walk(&target(self), Pass::Backward, problem, options)
    }

    fn variants_forward(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        plan::walk_variants(&target(self), Pass::Forward, problem, options)
    }

    fn variants_backward(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        plan::walk_variants(&target(self), Pass::Backward, problem, options)
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
        forward::Call::new(plan, problem, inputs, options, outputs)?.launch(self.stream())
    }

    fn launch_row_terms(
        &self,
        problem: &Problem,
        out: &Tensor<Self, T>,
        lse: &Tensor<Self, f32>,
        given: &OutputGradients<'_, Self, T>,
        delta: &Tensor<Self, f32>,
    ) -> Result<()> {
        let own: [(&'static str, &View<Self>); 3] = [("out", out), ("lse", lse), ("delta", delta)];
        self.check_streams(NAME, own)?;
        self.check_streams(NAME, given.named())?;
        backward::row_terms(self.stream(), problem, out, lse, given, delta)
    }

    fn launch_backward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        options: &Options,
        rows: [&Tensor<Self, f32>; 2],
        dout: &Tensor<Self, T>,
        gradients: &GradientsMut<'_, Self, T>,
    ) -> Result<()> {
        let own: [(&'static str, &View<Self>); 3] =
            [("delta", rows[0]), ("lse", rows[1]), ("dout", dout)];
        self.check_streams(NAME, own)?;
        self.check_streams(NAME, inputs.named())?;
        self.check_streams(NAME, gradients.named())?;
        backward::Call::new(plan, problem, inputs, options, rows, dout, gradients)?
            .launch(self.stream())
    }

    fn merge_variant(&self) -> Result<&'static str> {
        Ok(only(NAME, MergePtx::VARIANTS)?.info.name)
    }

    fn launch_merge(&self, merge: &Merge<Self>) -> Result<()> {
        self.check_streams(NAME, merge.named())?;
        merge::launch(self.stream(), merge, Address::NULL)
    }

    fn preload(&self, plan: &Plan) -> Result<()> {
        let stream = self.stream();
        for variant in WalkPtx::VARIANTS {
            // A backward pass is named after its dq, and needs what gives dk and dv as well.
            let of_other_pass = variant.info.parameter("stage") == Some("out");
            if variant.info.name == plan.variant || !of_other_pass {
                stream.preload(variant.info)?;
            }
        }
        stream.preload(MergePtx::VARIANTS[0].info)?;
        stream.preload(TermsPtx::VARIANTS[0].info)?;
        stream.preload(SinkPtx::VARIANTS[0].info)?;
        crate::backend::cuda::preload(NAME, stream)
    }
}

/// Strides of batch entries, heads and tokens, in elements.
fn strides(view: &View<Cuda>, layout: Layout) -> Result<[u64; 3]> {
    Ok(outer(Some(&layout.heads_first(view)?)))
}

/// Strides of the first axes; 0 of what is absent.
fn outer<const N: usize>(view: Option<&View<Cuda>>) -> [u64; N] {
    std::array::from_fn(|axis| view.map_or(0, |view| view.strides()[axis] as u64))
}

fn address(view: Option<&View<Cuda>>) -> Address {
    view.map_or(Address::NULL, Address::of)
}

/// Features that a kernel moves together where lines allow it.
fn at_once(info: &VariantInfo) -> usize {
    if plan::is_of_tensor_cores(info) { 8 } else { 4 }
}

/// Whether so many features of any token lie at a multiple of their bytes in all of these; of f32
/// where elements are narrower, features of 16 bytes at most.
fn aligned<'a>(views: impl IntoIterator<Item = &'a View<Cuda>>, features: usize) -> bool {
    views.into_iter().all(|view| {
        let outer = view.shape().len() - 1;
        let together = features.min(16 / view.dtype().bytes());
        Address::of(view).is_multiple_of((together * view.dtype().bytes()) as u64)
            && view.shape()[outer].is_multiple_of(features)
            && view.strides()[..outer].iter().all(|stride| stride.is_multiple_of(together))
    })
}

/// What all kernels that walk are told alike.
struct Common<'a> {
    slopes: Place<'a>,
    /// Lines that are read.
    lines: Vec<&'a View<Cuda>>,
    walk: WalkPtx,
}

impl<'a> Common<'a> {
    fn new<T: DeviceFloat>(
        problem: &Problem,
        inputs: &'a Inputs<'_, Cuda, T>,
        options: &Options,
        workspace: &mut Workspace,
    ) -> Result<Self> {
        let slopes = inputs.alibi_slopes;
        let of_sequence = slopes.is_some_and(|slopes| slopes.shape().len() == 2);
        let sight = Sight::new(&problem.mask, problem.query_positions, problem.key_positions);
        let [q_first, q_late] = sight.queries.segments();
        let [k_first, k_late] = sight.keys.segments();
        let layout = options.layout;
        let [q_batch_stride, q_head_stride, q_token_stride] = strides(inputs.q, layout)?;
        let [k_batch_stride, k_head_stride, k_token_stride] = strides(inputs.k, layout)?;
        let [v_batch_stride, v_head_stride, v_token_stride] = strides(inputs.v, layout)?;
        // The stride of a lone entry, which all share.
        let shared = |view: &View<Cuda>, axis: usize| match view.shape()[axis] {
            1 => 0,
            _ => view.strides()[axis] as u64,
        };
        let bias = inputs.bias.map(|bias| bias.view());
        let [bias_batch_stride, bias_head_stride, bias_query_stride] = bias
            .map_or([0; 3], |bias| [shared(bias, 0), shared(bias, 1), bias.strides()[2] as u64]);
        let packed = inputs.packed.as_ref();
        let bounds = packed.map(|packed| [packed.queries.view(), packed.keys.view()]);
        let walk = WalkPtx {
            q: Address::of(inputs.q),
            k: Address::of(inputs.k),
            v: Address::of(inputs.v),
            dout: Address::NULL,
            bias: address(bias),
            result: Address::NULL,
            second: Address::NULL,
            partial: Address::NULL,
            lse: Address::NULL,
            delta: Address::NULL,
            slopes: Address::NULL,
            query_bounds: address(bounds.map(|bounds| bounds[0])),
            key_bounds: address(bounds.map(|bounds| bounds[1])),
            q_batch_stride,
            q_head_stride,
            q_token_stride,
            k_batch_stride,
            k_head_stride,
            k_token_stride,
            v_batch_stride,
            v_head_stride,
            v_token_stride,
            dout_batch_stride: 0,
            dout_head_stride: 0,
            dout_token_stride: 0,
            bias_batch_stride,
            bias_head_stride,
            bias_query_stride,
            result_batch_stride: 0,
            result_head_stride: 0,
            result_token_stride: 0,
            second_batch_stride: 0,
            second_head_stride: 0,
            second_token_stride: 0,
            partial_part_stride: 0,
            partial_batch_stride: 0,
            partial_head_stride: 0,
            partial_token_stride: 0,
            lse_part_stride: 0,
            element: element(T::DTYPE),
            bias_element: element(bias.map_or(DType::F32, |bias| bias.dtype())),
            result_element: element(T::DTYPE),
            second_element: element(T::DTYPE),
            aligned: 0,
            aligned_results: 0,
            adds: 0,
            second_adds: 0,
            bounds_bytes: bounds.map_or(0, |bounds| word(bounds[0].dtype().bytes())),
            bottom_right: (problem.mask.alignment == Alignment::BottomRight).into(),
            sequences: word(problem.sequences.unwrap_or(problem.batch)),
            heads: word(problem.heads),
            group: word(problem.group()),
            queries: word(problem.queries),
            keys: word(problem.keys),
            width: word(problem.width),
            value_width: word(problem.value_width),
            tiles: 0,
            tile_tokens: 0,
            tile_heads: 1,
            head_tiles: 1,
            parts: 1,
            part_tokens: u32::MAX,
            slopes_stride: if of_sequence { word(problem.heads) } else { 0 },
            shared_batches: 1,
            shared_heads: 1,
            offset: sight.offset as u32,
            low: sight.band.0 as u32,
            high: sight.band.1 as u32,
            q_start: word(q_first.start),
            q_stride: word(q_first.stride.max(1)),
            q_length: word(q_first.length),
            q_late_start: word(q_late.start),
            q_late_stride: word(q_late.stride.max(1)),
            q_late_length: word(q_late.length),
            k_start: word(k_first.start),
            k_stride: word(k_first.stride.max(1)),
            k_length: word(k_first.length),
            k_late_start: word(k_late.start),
            k_late_stride: word(k_late.stride.max(1)),
            k_late_length: word(k_late.length),
            scale: problem.scale(options) as f32,
            softcap: options.softcap.unwrap_or(0.0),
        };
        let slopes = slopes.map_or(Place::Absent, |slopes| Place::of(slopes.view(), workspace));
        let lines = vec![&**inputs.q, &**inputs.k, &**inputs.v];
        Ok(Self { slopes, lines, walk })
    }

    /// With the slopes where they are when kernels run, and what a kernel may move together.
    fn told(&self, workspace: Option<&CudaBuffer>, info: &VariantInfo) -> WalkPtx {
        let aligned = aligned(self.lines.iter().copied(), at_once(info)).into();
        WalkPtx { slopes: self.slopes.address(workspace), aligned, ..self.walk }
    }
}
