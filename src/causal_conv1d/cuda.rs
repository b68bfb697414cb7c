//! Launches the PTX: masks of `seq_idx` into workspace, the pass itself, and what lies at the ends of
//! rows. Backward, the sums over time and batch are two launches: each span's, then all of them.
//!
//! Everything runs on the stream of the device handle, which all tensors of a call share.

use super::kernels::{
    BackwardInitialPtx, BackwardPtx, BackwardSumsPtx, FinalStatePtx, ForwardPtx, MasksPtx,
};
use super::{
    Activation, CausalConv1d, GradientsMut, Inputs, NAME, Options, OutputGradients, OutputsMut,
    Pass, Plan, Problem, Resets, plan,
};
use crate::backend::Backend;
use crate::backend::cuda::{
    Address, Cuda, Grid, Stream, linear, only, sign_at, variant, within, word,
};
use crate::backend::kernel::VariantInfo;
use crate::element::{DType, DeviceFloat};
use crate::layout::ActivationStrides;
use crate::parameter::{Indices, Parameter};
use crate::tensor::View;
use crate::{Error, Result};

/// Bits of the kernels' `flags`.
mod flag {
    pub const SILU: u32 = 1;
    pub const WIDE_WEIGHT: u32 = 2;
    pub const WIDE_BIAS: u32 = 4;
    pub const WIDE_S0: u32 = 8;
    pub const WIDE_DFINAL: u32 = 16;
}

impl<T: DeviceFloat> CausalConv1d<T> for Cuda {
    fn plan(&self, pass: Pass, problem: &Problem, options: &Options) -> Result<Plan> {
        plan::cuda(&self.name(), &self.limits(), pass, problem, options)
    }

    fn variants(
        &self,
        pass: Pass,
        problem: &Problem,
        options: &Options,
    ) -> Result<Vec<&'static str>> {
        plan::cuda_variants(&self.name(), &self.limits(), pass, problem, options)
    }

    fn preload(&self, plan: &Plan) -> Result<()> {
        let stream = self.stream();
        let named = |info: &VariantInfo| info.name == plan.variant;
        stream.preload(only(NAME, MasksPtx::VARIANTS)?.info)?;
        match variant(NAME, ForwardPtx::VARIANTS, named) {
            Ok(forward) => {
                stream.preload(forward.info)?;
                stream.preload(variant(NAME, FinalStatePtx::VARIANTS, of::<T>)?.info)
            }
            Err(_) => {
                stream.preload(variant(NAME, BackwardPtx::VARIANTS, named)?.info)?;
                stream.preload(only(NAME, BackwardSumsPtx::VARIANTS)?.info)?;
                stream.preload(variant(NAME, BackwardInitialPtx::VARIANTS, of::<T>)?.info)
            }
        }
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
        let kernel = variant(NAME, ForwardPtx::VARIANTS, |info| info.name == plan.variant)?;
        let spans = plan::Spans::planned(problem, kernel.info, plan.schedule);
        let (workspace, masks_at, _) = plan::workspace(Pass::Forward, problem, &spans);
        let stream = self.stream();
        // Freed in the order of the stream when it goes out of scope, also where a launch fails.
        let workspace = workspace.allocate(stream)?;
        let call = Call::new(problem, inputs, options, within(workspace.as_ref(), masks_at));
        call.write_masks(stream)?;
        let grid = Grid { blocks: plan.blocks, ..Grid::default() };
        call.forward(&spans, outputs)?.launch(stream, kernel, grid)?;
        match outputs.final_state.as_deref() {
            Some(final_state) => call.launch_final_state(stream, final_state),
            None => Ok(()),
        }
    }

    fn launch_backward(
        &self,
        plan: &Plan,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T>,
        gradients: &OutputGradients<'_, Self, T>,
        options: &Options,
        outputs: &GradientsMut<'_, Self, T>,
    ) -> Result<()> {
        self.check_streams(NAME, inputs.named())?;
        self.check_streams(NAME, gradients.named())?;
        self.check_streams(NAME, outputs.named())?;
        let kernel = variant(NAME, BackwardPtx::VARIANTS, |info| info.name == plan.variant)?;
        let spans = plan::Spans::planned(problem, kernel.info, plan.schedule);
        let (workspace, masks_at, parts_at) = plan::workspace(Pass::Backward, problem, &spans);
        let stream = self.stream();
        let workspace = workspace.allocate(stream)?;
        let workspace = workspace.as_ref();
        let call = Call::new(problem, inputs, options, within(workspace, masks_at));
        call.write_masks(stream)?;
        let summed = outputs.dweight.is_some() || outputs.dbias.is_some();
        let parts = if summed { within(workspace, parts_at) } else { Address::NULL };
        let grid = Grid { blocks: plan.blocks, ..Grid::default() };
        call.backward(&spans, gradients, outputs, parts)?.launch(stream, kernel, grid)?;
        if summed {
            call.launch_sums(stream, &spans, outputs, parts)?;
        }
        match outputs.ds0.as_deref() {
            Some(ds0) => call.launch_initial(stream, gradients, ds0),
            None => Ok(()),
        }
    }
}

/// A call, and where the masks of its `seq_idx` lie.
struct Call<'a, T: DeviceFloat> {
    problem: &'a Problem,
    inputs: &'a Inputs<'a, Cuda, T>,
    options: &'a Options,
    seq_idx: Option<Indices<'a, Cuda>>,
    cu_seqlens: Option<Indices<'a, Cuda>>,
    masks: Address,
}

impl<'a, T: DeviceFloat> Call<'a, T> {
    fn new(
        problem: &'a Problem,
        inputs: &'a Inputs<'a, Cuda, T>,
        options: &'a Options,
        masks: Address,
    ) -> Self {
        let (seq_idx, cu_seqlens) = match inputs.resets {
            Resets::SeqIdx(seq_idx) => (Some(seq_idx), None),
            Resets::CuSeqlens(cu_seqlens) => (None, Some(cu_seqlens)),
            Resets::None | Resets::Flags(_) => (None, None),
        };
        let masks = if seq_idx.is_some() { masks } else { Address::NULL };
        Self { problem, inputs, options, seq_idx, cu_seqlens, masks }
    }

    /// Which taps count, where `seq_idx` tells documents apart.
    fn write_masks(&self, stream: &Stream) -> Result<()> {
        let Some(seq_idx) = self.seq_idx else { return Ok(()) };
        let kernel = only(NAME, MasksPtx::VARIANTS)?;
        let &Problem { batch, steps, width, .. } = self.problem;
        let blocks = batch as u64 * (steps as u64).div_ceil(u64::from(kernel.info.block[0]));
        MasksPtx {
            seq_idx: Address::of(&seq_idx),
            masks: self.masks,
            steps: word(steps),
            width: word(width),
            seq_idx_bytes: word(seq_idx.dtype().bytes()),
            sign_at: sign_at(seq_idx.dtype()),
        }
        .launch(stream, kernel, linear(NAME, stream, blocks)?)
    }

    fn forward(
        &self,
        spans: &plan::Spans,
        outputs: &OutputsMut<'_, Cuda, T>,
    ) -> Result<ForwardPtx> {
        let &Self { problem, inputs, .. } = self;
        let [x_batch_stride, x_slow_stride] = strides(inputs.x);
        let [out_batch_stride, out_slow_stride] = strides(outputs.out);
        Ok(ForwardPtx {
            x: Address::of(inputs.x),
            weight: Address::of(&inputs.weight),
            bias: address(inputs.bias),
            s0: address(inputs.s0),
            masks: self.masks,
            cu_seqlens: self.bounds(),
            out: Address::of(outputs.out),
            x_batch_stride,
            x_slow_stride,
            out_batch_stride,
            out_slow_stride,
            rows: word(problem.rows),
            channels: word(problem.channels),
            steps: word(problem.steps),
            width: word(problem.width),
            span: spans.steps,
            spans: spans.of_row,
            slots: slots(spans)?,
            cu_seqlens_bytes: self.bounds_bytes(),
            flags: self.flags(None),
        })
    }

    fn backward(
        &self,
        spans: &plan::Spans,
        gradients: &OutputGradients<'_, Cuda, T>,
        outputs: &GradientsMut<'_, Cuda, T>,
        parts: Address,
    ) -> Result<BackwardPtx> {
        let &Self { problem, inputs, .. } = self;
        let [x_batch_stride, x_slow_stride] = strides(inputs.x);
        let [dout_batch_stride, dout_slow_stride] =
            gradients.dout.map_or([0; 2], |dout| strides(dout));
        let dx = outputs.dx.as_deref();
        let [dx_batch_stride, dx_slow_stride] = dx.map_or([0; 2], |dx| strides(dx));
        Ok(BackwardPtx {
            x: Address::of(inputs.x),
            weight: Address::of(&inputs.weight),
            bias: address(inputs.bias),
            s0: address(inputs.s0),
            masks: self.masks,
            cu_seqlens: self.bounds(),
            dout: gradients.dout.map_or(Address::NULL, |dout| Address::of(dout)),
            dfinal: address(gradients.dfinal_state),
            dx: dx.map_or(Address::NULL, |dx| Address::of(dx)),
            parts,
            x_batch_stride,
            x_slow_stride,
            dout_batch_stride,
            dout_slow_stride,
            dx_batch_stride,
            dx_slow_stride,
            rows: word(problem.rows),
            channels: word(problem.channels),
            steps: word(problem.steps),
            width: word(problem.width),
            span: spans.steps,
            spans: spans.of_row,
            slots: slots(spans)?,
            cu_seqlens_bytes: self.bounds_bytes(),
            flags: self.flags(gradients.dfinal_state),
        })
    }

    /// The last W - 1 entries of each row.
    fn launch_final_state(&self, stream: &Stream, final_state: &View<Cuda>) -> Result<()> {
        let &Self { problem, inputs, options, .. } = self;
        let kernel = variant(NAME, FinalStatePtx::VARIANTS, of::<T>)?;
        let count = final_state.elements() as u64;
        let grid = linear(NAME, stream, count.div_ceil(u64::from(kernel.info.block[0])))?;
        let x = ActivationStrides::of(inputs.x, options.layout);
        FinalStatePtx {
            x: Address::of(inputs.x),
            s0: address(inputs.s0),
            cu_seqlens: self.bounds(),
            final_state: Address::of(final_state),
            x_batch_stride: x.batch as u64,
            x_channel_stride: x.channel as u64,
            x_time_stride: x.time as u64,
            count,
            channels: word(problem.channels),
            steps: word(problem.steps),
            history: word(problem.history()),
            cu_seqlens_bytes: self.bounds_bytes(),
            wide_s0: is_f32(inputs.s0).into(),
        }
        .launch(stream, kernel, grid)
    }

    /// The second stage of the sums.
    fn launch_sums(
        &self,
        stream: &Stream,
        spans: &plan::Spans,
        outputs: &GradientsMut<'_, Cuda, T>,
        parts: Address,
    ) -> Result<()> {
        let &Problem { channels, width, .. } = self.problem;
        let kernel = only(NAME, BackwardSumsPtx::VARIANTS)?;
        let numbers = (width as u64 + 1) * channels as u64;
        let grid = linear(NAME, stream, numbers.div_ceil(u64::from(kernel.info.block[0])))?;
        let address = |view: Option<&View<Cuda>>| view.map_or(Address::NULL, Address::of);
        BackwardSumsPtx {
            parts,
            dweight: address(outputs.dweight.as_deref().map(|dweight| &**dweight)),
            dbias: address(outputs.dbias.as_deref().map(|dbias| &**dbias)),
            count: u32::try_from(spans.parts()).map_err(|_| too_many(spans))?,
            channels: word(channels),
            width: word(width),
        }
        .launch(stream, kernel, grid)
    }

    /// The gradient of the initial state.
    fn launch_initial(
        &self,
        stream: &Stream,
        gradients: &OutputGradients<'_, Cuda, T>,
        ds0: &View<Cuda>,
    ) -> Result<()> {
        let &Self { problem, inputs, options, .. } = self;
        if problem.history() == 0 {
            return Ok(());
        }
        let kernel = variant(NAME, BackwardInitialPtx::VARIANTS, of::<T>)?;
        let lines = problem.rows as u64 * problem.channels as u64;
        let grid = linear(NAME, stream, lines.div_ceil(u64::from(kernel.info.block[0])))?;
        let x = ActivationStrides::of(inputs.x, options.layout);
        let dout = gradients.dout.map(|dout| ActivationStrides::of(dout, options.layout));
        let stride = |of: fn(ActivationStrides) -> usize| dout.map_or(0, of) as u64;
        BackwardInitialPtx {
            x: Address::of(inputs.x),
            weight: Address::of(&inputs.weight),
            bias: address(inputs.bias),
            s0: address(inputs.s0),
            masks: self.masks,
            cu_seqlens: self.bounds(),
            dout: gradients.dout.map_or(Address::NULL, |dout| Address::of(dout)),
            dfinal: address(gradients.dfinal_state),
            ds0: Address::of(ds0),
            x_batch_stride: x.batch as u64,
            x_channel_stride: x.channel as u64,
            x_time_stride: x.time as u64,
            dout_batch_stride: stride(|dout| dout.batch),
            dout_channel_stride: stride(|dout| dout.channel),
            dout_time_stride: stride(|dout| dout.time),
            lines,
            channels: word(problem.channels),
            steps: word(problem.steps),
            width: word(problem.width),
            cu_seqlens_bytes: self.bounds_bytes(),
            flags: self.flags(gradients.dfinal_state),
        }
        .launch(stream, kernel, grid)
    }

    fn bounds(&self) -> Address {
        self.cu_seqlens.map_or(Address::NULL, |bounds| Address::of(&bounds))
    }

    fn bounds_bytes(&self) -> u32 {
        self.cu_seqlens.map_or(0, |bounds| word(bounds.dtype().bytes()))
    }

    fn flags(&self, dfinal: Option<Parameter<'_, Cuda>>) -> u32 {
        let &Self { inputs, options, .. } = self;
        [
            (options.activation == Activation::Silu, flag::SILU),
            (is_f32(Some(inputs.weight)), flag::WIDE_WEIGHT),
            (is_f32(inputs.bias), flag::WIDE_BIAS),
            (is_f32(inputs.s0), flag::WIDE_S0),
            (is_f32(dfinal), flag::WIDE_DFINAL),
        ]
        .into_iter()
        .fold(0, |flags, (set, bit)| if set { flags | bit } else { flags })
    }
}

/// Whether a variant is for these activations.
fn of<T: DeviceFloat>(info: &VariantInfo) -> bool {
    info.parameter("element") == Some(T::DTYPE.name())
}

fn is_f32(parameter: Option<Parameter<'_, Cuda>>) -> bool {
    parameter.is_some_and(|parameter| parameter.dtype() == DType::F32)
}

fn address(parameter: Option<Parameter<'_, Cuda>>) -> Address {
    parameter.map_or(Address::NULL, |parameter| Address::of(&parameter))
}

/// The strides of an activation: of batch entries, and of the slower of channel and time.
fn strides(view: &View<Cuda>) -> [u64; 2] {
    [view.strides()[0] as u64, view.strides()[1] as u64]
}

fn slots(spans: &plan::Spans) -> Result<u32> {
    u32::try_from(spans.all).map_err(|_| too_many(spans))
}

fn too_many(spans: &plan::Spans) -> Error {
    Error::Unsupported {
        operation: NAME,
        backend: "cuda".to_owned(),
        what: format!("{} spans of time", spans.all),
        instead: "split the batch".to_owned(),
    }
}
