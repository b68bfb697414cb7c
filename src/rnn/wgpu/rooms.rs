//! Scratch: parameters, states and lengths on their way to the kernels.

use super::{stride, variant_of, word, workgroups};
use crate::Result;
use crate::backend::wgpu::{Placed, Recorder, Scratch, Slice, Wgpu, WgpuBuffer};
use crate::element::DType;
use crate::parameter::{Indices, Parameter};
use crate::rnn::kernels::{GatherWgsl, GatherWgslParams, LengthsWgsl, LengthsWgslParams};
use crate::rnn::{NAME, Problem};
use crate::tensor::View;

/// Scratch while it is laid out: how long it gets, and what goes into it before the steps begin.
pub(super) struct Rooms<'a> {
    device: &'a Wgpu,
    scratch: Scratch<'a>,
    jobs: Vec<Job<'a>>,
}

/// How a piece of scratch is filled.
enum Job<'a> {
    Gather(Gathered<'a>),
    Lengths { source: Indices<'a, Wgpu>, steps: u32, at: u32 },
}

/// A strided tensor that is laid down without gaps in f32.
pub(super) struct Gathered<'a> {
    /// `None` for zeros.
    pub source: Option<&'a View<Wgpu>>,
    /// Of the target, as its axes lie.
    pub sizes: [usize; 4],
    /// Of the source, in the same order.
    pub strides: [u32; 4],
    /// Indices of the last axis that the source has.
    pub there: usize,
    /// The first word.
    pub at: u32,
}

impl<'a> Rooms<'a> {
    pub fn new(device: &'a Wgpu) -> Self {
        Self { device, scratch: Scratch::new(NAME), jobs: Vec::new() }
    }

    /// Room for results.
    pub fn room(&mut self, sizes: &[usize]) -> Result<u32> {
        let words = sizes.iter().fold(1u64, |words, &size| words.saturating_mul(size as u64));
        self.scratch.reserve(self.device, words)
    }

    /// Room for a state (B, N, D), or for another tensor of three or four axes, filled with
    /// `source`, or with zeros.
    pub fn filled(&mut self, source: Option<&'a View<Wgpu>>, sizes: &[usize]) -> Result<u32> {
        let at = self.room(sizes)?;
        self.fill_at(source, sizes, at)?;
        Ok(at)
    }

    /// Fills room that is there.
    fn fill_at(&mut self, source: Option<&'a View<Wgpu>>, sizes: &[usize], at: u32) -> Result<()> {
        let lone = 4 - sizes.len();
        let (mut all, mut strides) = ([1; 4], [0; 4]);
        all[lone..].copy_from_slice(sizes);
        if let Some(view) = source {
            for axis in 0..sizes.len() {
                strides[lone + axis] = stride(self.device, view, axis)?;
            }
        }
        let there = if source.is_some() { all[3] } else { 0 };
        self.jobs.push(Job::Gather(Gathered { source, sizes: all, strides, there, at }));
        Ok(())
    }

    /// A parameter that may be absent, and is not read then.
    pub fn optional(
        &mut self,
        parameter: Option<Parameter<'a, Wgpu>>,
        sizes: &[usize],
    ) -> Result<u32> {
        parameter.map_or(Ok(0), |parameter| self.filled(Some(parameter.view()), sizes))
    }

    /// The steps of each row.
    pub fn lengths(
        &mut self,
        lengths: Option<Indices<'a, Wgpu>>,
        problem: &Problem,
    ) -> Result<u32> {
        let Some(source) = lengths else { return Ok(0) };
        let at = self.room(&[problem.batch])?;
        let steps = word(self.device, "steps", problem.steps)?;
        self.jobs.push(Job::Lengths { source, steps, at });
        Ok(at)
    }

    /// Allocates scratch and records what goes into it.
    pub fn fill(self, recorder: &mut Recorder<'_>) -> Result<WgpuBuffer> {
        let Self { device, scratch, jobs } = self;
        let buffer = scratch.fill(device, recorder)?;
        let target = Slice::whole(&buffer);
        for job in &jobs {
            match job {
                Job::Gather(gathered) => gathered.record(device, recorder, target)?,
                Job::Lengths { source, steps, at } => {
                    record_lengths(device, recorder, source.view(), [*steps, *at], target)?;
                }
            }
        }
        Ok(buffer)
    }
}

impl Gathered<'_> {
    /// Records the copy into a buffer of words.
    pub fn record(
        &self,
        device: &Wgpu,
        recorder: &mut Recorder<'_>,
        target: Slice<'_>,
    ) -> Result<()> {
        let &Self { source, sizes, strides, there, at } = self;
        let count = sizes.iter().fold(1usize, |count, &size| count.saturating_mul(size));
        if count == 0 {
            return Ok(());
        }
        let dtype = source.map_or(DType::F32, View::dtype);
        let variant = variant_of(device, GatherWgsl::VARIANTS, &[("element", dtype.name())])?;
        let (_, grid) = workgroups(device, &[count.div_ceil(variant.info.block[0] as usize)])?;
        let placed = source.map(|view| Placed::of(device, view));
        let [_, size_1, size_2, size_3] = sizes;
        let [stride_0, stride_1, stride_2, stride_3] = strides;
        let params = GatherWgslParams {
            count: word(device, "elements", count)?,
            size_1: word(device, "heads", size_1)?,
            size_2: word(device, "units", size_2)?,
            size_3: word(device, "units", size_3)?,
            there: word(device, "units", there)?,
            source_at: placed.map_or(0, |placed| placed.at),
            stride_0,
            stride_1,
            stride_2,
            stride_3,
            target_at: at,
        };
        let source = placed.map_or(target, |placed| placed.slice);
        GatherWgsl { params, source, target_words: target }.record(recorder, variant, grid)
    }
}

/// Records the lengths of rows, brought within 0 and T, to a word of scratch.
fn record_lengths(
    device: &Wgpu,
    recorder: &mut Recorder<'_>,
    view: &View<Wgpu>,
    [steps, target_at]: [u32; 2],
    target: Slice<'_>,
) -> Result<()> {
    let count = view.elements();
    if count == 0 {
        return Ok(());
    }
    let variant = &LengthsWgsl::VARIANTS[0];
    let (_, grid) = workgroups(device, &[count.div_ceil(variant.info.block[0] as usize)])?;
    let source = Slice::new(view.buffer(), view.byte_range());
    let bytes = view.dtype().bytes() as u32;
    let params = LengthsWgslParams {
        count: word(device, "rows", count)?,
        steps,
        bytes,
        is_signed: u32::from(matches!(view.dtype(), DType::I32 | DType::I64)),
        source_at: source.skipped(device) as u32,
        stride: stride(device, view, 0)?.saturating_mul(bytes),
        target_at,
    };
    LengthsWgsl { params, source, target_words: target }.record(recorder, variant, grid)
}
