//! Where the tensors of a part lie, as kernels find them.

use std::ops::Range;

use super::parts::Part;
use super::refused;
use crate::Result;
use crate::backend::Buffer;
use crate::backend::wgpu::{
    Codes, Home, Mode, Recorder, Scratch, Slice, Wgpu, WgpuBuffer, workgroups,
};
use crate::causal_conv1d::kernels::{ForwardWgslParams, MasksWgsl, MasksWgslParams};
use crate::causal_conv1d::{Activation as Act, Inputs, Layout, NAME, Options, Problem};
use crate::element::{DType, DeviceFloat};
use crate::layout::ActivationStrides;
use crate::parameter::Parameter;
use crate::resets::Resets;
use crate::shape::span;
use crate::tensor::View;

/// The flags of kernels/causal_conv1d/rows.wgsl.
pub(super) mod flag {
    pub const SILU: u32 = 1;
    pub const HAS_BIAS: u32 = 2;
    pub const HAS_S0: u32 = 4;
    pub const HAS_DFINAL: u32 = 8;
    pub const HAS_DOUT: u32 = 16;
    pub const HAS_Y: u32 = 32;
    pub const MASKED: u32 = 64;
    pub const PACKED: u32 = 128;
    pub const CHANNEL_LAST: u32 = 256;
    pub const HAS_SUMS: u32 = 512;
}

/// What both passes need of a call.
#[derive(Clone, Copy)]
pub(super) struct Call<'a, T: DeviceFloat> {
    pub device: &'a Wgpu,
    pub problem: &'a Problem,
    pub inputs: &'a Inputs<'a, Wgpu, T>,
    pub options: &'a Options,
    /// The gradient of the final state, backward.
    pub dfinal: Option<Parameter<'a, Wgpu>>,
}

/// A part of a call with its scratch, and the parameters that all its kernels share.
pub(super) struct Prepared {
    scratch: WgpuBuffer,
    pub params: ForwardWgslParams,
}

impl Prepared {
    pub fn scratch(&self) -> Slice<'_> {
        Slice::new(&self.scratch, 0..self.scratch.bytes())
    }
}

/// An activation as the kernel finds it.
#[derive(Clone, Copy)]
pub(super) struct Activation<'a> {
    /// `None` where it has no elements.
    pub slice: Option<Slice<'a>>,
    /// The first element's index in the binding.
    pub at: u32,
    /// Of batch entries, channels and steps.
    pub strides: [u32; 3],
}

impl Activation<'_> {
    pub const ABSENT: Self = Self { slice: None, at: 0, strides: [0; 3] };
}

impl<'a, T: DeviceFloat> Call<'a, T> {
    /// Fills the scratch of a part.
    pub fn prepare(&self, recorder: &mut Recorder<'_>, part: &Part) -> Result<Prepared> {
        let &Self { device, problem, inputs, .. } = self;
        let mut scratch = Scratch::new(NAME);
        let mut parameter = |parameter: Option<Parameter<'a, Wgpu>>, rows: Option<usize>| {
            let Some(view) = parameter.map(|parameter| parameter.view()) else { return Ok(0) };
            let source = match rows {
                Some(elements) => slice_of_rows(view, &part.rows, elements),
                None => Slice::new(view.buffer(), view.byte_range()),
            };
            Ok(match scratch.parameter(device, source, view.dtype(), true)? {
                Home::Scratch(word) => word,
                Home::Absent | Home::Tensor(_) => 0,
            })
        };
        let state = problem.channels * problem.history();
        let weight_at = parameter(Some(inputs.weight), None)?;
        let bias_at = parameter(inputs.bias, None)?;
        let s0_at = parameter(inputs.s0, Some(state))?;
        let dfinal_at = parameter(self.dfinal, Some(state))?;
        let (positions_at, numbers) = self.reserve_positions(&mut scratch, part)?;
        let scratch = scratch.fill(device, recorder)?;
        if let Some(numbers) = numbers {
            let target = Slice::new(&scratch, 0..scratch.bytes());
            self.record_masks(recorder, numbers, part, target, positions_at)?;
        }
        let x = self.activation(inputs.x, part)?;
        let params = ForwardWgslParams {
            entries: self.small("batch entries", part.entries.len())?,
            channels: self.small("channels", problem.channels)?,
            steps: self.steps()?,
            width: problem.width as u32,
            sequences: self.small("sequences", part.rows.len())?,
            flags: self.flags(),
            x_at: x.at,
            x_batch: x.strides[0],
            x_channel: x.strides[1],
            x_time: x.strides[2],
            weight_at,
            bias_at,
            s0_at,
            dfinal_at,
            positions_at,
            ..bytemuck::Zeroable::zeroed()
        };
        Ok(Prepared { scratch, params })
    }

    /// The first word of the masks or bounds, and the numbers that masks are made of.
    fn reserve_positions(
        &self,
        scratch: &mut Scratch<'a>,
        part: &Part,
    ) -> Result<(u32, Option<&'a View<Wgpu>>)> {
        let &Self { device, problem, inputs, .. } = self;
        match &inputs.resets {
            Resets::SeqIdx(seq_idx) => {
                let count = part.entries.len() as u64 * problem.steps as u64;
                Ok((scratch.reserve(device, count)?, Some(seq_idx.view()).filter(|_| count > 0)))
            }
            Resets::CuSeqlens(bounds) => {
                let view = bounds.view();
                let codes = Codes {
                    mode: Mode::Bounds,
                    dtype: view.dtype(),
                    count: self.small("bounds", view.elements())?,
                    steps: self.steps()?,
                };
                let source = Slice::new(view.buffer(), view.byte_range());
                match scratch.codes(device, source, codes)? {
                    Home::Scratch(word) => Ok((word, None)),
                    Home::Absent | Home::Tensor(_) => Ok((0, None)),
                }
            }
            Resets::None | Resets::Flags(_) => Ok((0, None)),
        }
    }

    fn record_masks(
        &self,
        recorder: &mut Recorder<'_>,
        numbers: &View<Wgpu>,
        part: &Part,
        target_words: Slice<'_>,
        target_at: u32,
    ) -> Result<()> {
        let &Self { device, problem, .. } = self;
        let source = slice_of_rows(numbers, &part.entries, problem.steps);
        let kernel = &MasksWgsl::VARIANTS[0];
        let count = self.small("positions", part.entries.len() * problem.steps)?;
        let params = MasksWgslParams {
            count,
            steps: self.steps()?,
            width: problem.width as u32,
            bytes: numbers.dtype().bytes() as u32,
            sign_at: sign_at(numbers.dtype()),
            source_at: source.skipped(device) as u32,
            target_at,
        };
        let grid = workgroups(NAME, device, count, kernel.info.block[0])?;
        MasksWgsl { params, source, target_words }.record(recorder, kernel, grid)
    }

    fn flags(&self) -> u32 {
        let &Self { problem, inputs, options, .. } = self;
        [
            (options.activation == Act::Silu, flag::SILU),
            (inputs.bias.is_some(), flag::HAS_BIAS),
            (inputs.s0.is_some(), flag::HAS_S0),
            (self.dfinal.is_some(), flag::HAS_DFINAL),
            (problem.numbered, flag::MASKED),
            (problem.packed, flag::PACKED),
            (problem.layout == Layout::Bld, flag::CHANNEL_LAST),
        ]
        .into_iter()
        .filter(|(set, _)| *set)
        .fold(0, |flags, (_, flag)| flags | flag)
    }

    /// The batch entries of an activation.
    pub fn activation<'v>(&self, view: &'v View<Wgpu>, part: &Part) -> Result<Activation<'v>> {
        let (device, size) = (self.device, view.dtype().bytes() as u64);
        let mut shape = view.shape().to_vec();
        shape[0] = part.entries.len();
        let elements = match span(&shape, view.strides()) {
            Some(elements) if elements > 0 => elements as u64,
            _ => return Ok(Activation::ABSENT),
        };
        let first = part.entries.start * view.strides()[0];
        let start = view.byte_range().start + first as u64 * size;
        let slice = Slice::new(view.buffer(), start..start + elements * size);
        let of = ActivationStrides::of(view, self.options.layout);
        // The stride of a lone entry is never used, and may be anything.
        let used = |length: usize, stride: usize| if length > 1 { stride } else { 0 };
        let Problem { channels, steps, .. } = *self.problem;
        let strides =
            [used(part.entries.len(), of.batch), used(channels, of.channel), used(steps, of.time)];
        let mut words = [0; 3];
        for (word, stride) in words.iter_mut().zip(strides) {
            *word = self.small("elements of a stride", stride)?;
        }
        let at = (slice.skipped(device) / size) as u32;
        Ok(Activation { slice: Some(slice), at, strides: words })
    }

    /// A grid of one invocation for each of `count`, whose number the kernel holds in a word.
    pub fn grid(&self, count: u64, block: u32) -> Result<[u32; 3]> {
        let count = u32::try_from(count).ok().filter(|&count| count < 1 << 31);
        let count = count.ok_or_else(|| refused(self.device, "so many elements".to_owned()))?;
        workgroups(NAME, self.device, count, block)
    }

    fn steps(&self) -> Result<u32> {
        // Leaves room for a last tile that reaches beyond the end.
        let steps = self.small("steps", self.problem.steps)?;
        Some(steps)
            .filter(|&steps| steps < 1 << 31)
            .ok_or_else(|| refused(self.device, format!("{steps} steps")))
    }

    pub fn small(&self, what: &str, size: usize) -> Result<u32> {
        u32::try_from(size).map_err(|_| refused(self.device, format!("{size} {what}")))
    }
}

/// Rows of a tensor without gaps.
pub(super) fn slice_of_rows<'a>(
    view: &'a View<Wgpu>,
    rows: &Range<usize>,
    elements: usize,
) -> Slice<'a> {
    let size = view.dtype().bytes();
    let at = |row: usize| view.byte_range().start + (row * elements * size) as u64;
    Slice::new(view.buffer(), at(rows.start)..at(rows.end))
}

/// The byte of an index where the word with its sign begins; all ones where it has none.
pub(in crate::causal_conv1d) fn sign_at(index: DType) -> u32 {
    match index {
        DType::I32 => 0,
        DType::I64 => 4,
        _ => u32::MAX,
    }
}
