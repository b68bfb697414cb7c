//! The WGSL kernels: what a call records into a command encoder.
//!
//! A call is recorded as copies of small tensors into a scratch buffer, one compute pass, and copies
//! of small results out of it; queries, keys, values, results and biases are bound where they lie.

use super::kernels::{MergeWgsl, SinkWgsl, TermsWgsl, WalkWgsl, WalkWgslParams};
use super::plan::{self, Pass, Target};
use super::{
    Attention, GradientsMut, Inputs, Layout, Merge, NAME, Options, OutputGradients, OutputsMut,
    Plan, Problem, Sight,
};
use crate::backend::Backend;
use crate::backend::kernel::{Variant, VariantInfo};
use crate::backend::wgpu::{Codes, Home, Mode, Recorder, Scratch, Slice, Wgpu, folded, refused};
use crate::element::{DType, DeviceFloat};
use crate::parameter::Parameter;
use crate::tensor::{Tensor, View};
use crate::{Error, Result};

mod backward;
mod forward;
mod merge;

/// The device, as plans see it.
fn target(device: &Wgpu) -> Target {
    plan::target(device.name(), &device.limits())
}

impl<T: DeviceFloat> Attention<T> for Wgpu {
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
        check_usages(inputs.named().into_iter().chain(outputs.named()))?;
        recorded(self, plan.variant, |recorder| {
            forward::record(self, recorder, plan, problem, inputs, options, outputs)
        })
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
        check_usages(given.named().into_iter().chain(own))?;
        recorded(self, "attention row terms", |recorder| {
            backward::record_terms(self, recorder, problem, out, lse, given, delta)
        })
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
        check_usages(inputs.named().into_iter().chain(gradients.named()).chain(own))?;
        recorded(self, plan.variant, |recorder| {
            backward::Call { device: self, plan, problem, inputs, options, rows, dout, gradients }
                .record(recorder)
        })
    }

    fn merge_variant(&self) -> Result<&'static str> {
        Ok(find(self, MergeWgsl::VARIANTS, T::DTYPE, |_| true)?.info.name)
    }

    fn launch_merge(&self, merge: &Merge<Self>) -> Result<()> {
        check_usages(merge.named())?;
        recorded(self, "attention merge", |recorder| {
            merge::record::<T>(self, recorder, merge, None)
        })
    }

    fn preload(&self, plan: &Plan) -> Result<()> {
        let limits = self.limits();
        let element = Some(T::DTYPE.name());
        macro_rules! load {
            ($($entry:ident)*) => {
                $(for variant in $entry::VARIANTS {
                    let of = variant.info.parameter("element");
                    let serves = variant.info.name == plan.variant || of.is_none() || of == element;
                    if serves && plan::runs(variant.info, &limits) {
                        Wgpu::preload(self, variant.info)?;
                    }
                })*
            };
        }
        load! { WalkWgsl MergeWgsl TermsWgsl SinkWgsl }
        Ok(())
    }
}

fn check_usages<'a>(named: impl IntoIterator<Item = (&'static str, &'a View<Wgpu>)>) -> Result<()> {
    named.into_iter().try_for_each(|(name, view)| view.buffer().check_usages(NAME, name))
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

/// The flags of kernels/attention/*.wgsl.
mod flag {
    pub const PACKED: u32 = 1;
    pub const BOTTOM_RIGHT: u32 = 2;
    pub const SOFTCAP: u32 = 4;
    pub const SLOPES: u32 = 8;
    pub const BIAS: u32 = 16;
    pub const NARROW_BIAS: u32 = 32;
    pub const RESULT: u32 = 64;
    pub const PARTIAL: u32 = 128;
    pub const WIDE: u32 = 256;
    pub const ADD: u32 = 512;
    pub const ACCUMULATE: u32 = 1024;
    pub const SINK: u32 = 2048;
    pub const NARROW: u32 = 4096;

    /// Those that are set.
    pub fn all(flags: impl IntoIterator<Item = (bool, u32)>) -> u32 {
        flags.into_iter().fold(0, |all, (set, flag)| if set { all | flag } else { all })
    }
}

/// A large tensor as a kernel finds it: the first element's index in its binding, and the strides
/// of batch entries, heads and tokens.
#[derive(Clone, Copy)]
struct Lines<'a> {
    /// `None` where it has no elements.
    slice: Option<Slice<'a>>,
    at: u32,
    batch: u32,
    head: u32,
    token: u32,
}

impl<'a> Lines<'a> {
    const ABSENT: Self = Self { slice: None, at: 0, batch: 0, head: 0, token: 0 };

    /// Queries, keys, values or results.
    fn of(device: &Wgpu, view: &'a View<Wgpu>, layout: Layout) -> Result<Self> {
        Self::with_strides(device, view, &layout.heads_first(view)?)
    }

    /// A bias, (B or 1, H or 1, Sq, Sk).
    fn of_bias(device: &Wgpu, view: &'a View<Wgpu>) -> Result<Self> {
        Self::with_strides(device, view, view)
    }

    fn with_strides(device: &Wgpu, view: &'a View<Wgpu>, ordered: &View<Wgpu>) -> Result<Self> {
        if view.elements() == 0 {
            return Ok(Self::ABSENT);
        }
        let stride = |axis: usize| match ordered.shape()[axis] {
            // The stride of a lone entry is never used, and may be anything.
            1 => Ok(0),
            _ => word(device, "elements of a stride", ordered.strides()[axis]),
        };
        let slice = Slice::new(view.buffer(), view.byte_range());
        Ok(Self {
            slice: Some(slice),
            at: (slice.skipped(device) / view.dtype().bytes() as u64) as u32,
            batch: stride(0)?,
            head: stride(1)?,
            token: stride(2)?,
        })
    }

    /// The binding; what is absent is bound to scratch, which no kernel reads then.
    fn bound(&self, scratch: Slice<'a>) -> Slice<'a> {
        self.slice.unwrap_or(scratch)
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
        Ok(first_word(self.scratch.parameter(self.device, source, view.dtype(), true)?))
    }

    fn optional(&mut self, parameter: Option<Parameter<'a, Wgpu>>) -> Result<u32> {
        parameter.map_or(Ok(0), |parameter| self.parameter(parameter.view()))
    }

    /// Room for results.
    fn room(&mut self, sizes: &[usize]) -> Result<u32> {
        let words = sizes.iter().fold(1u64, |words, &size| words.saturating_mul(size as u64));
        self.scratch.reserve(self.device, words)
    }

    /// Where packed sequences begin.
    fn bounds<T: DeviceFloat>(
        &mut self,
        problem: &Problem,
        inputs: &'a Inputs<'_, Wgpu, T>,
    ) -> Result<[u32; 2]> {
        let (Some(packed), Some(sequences)) = (&inputs.packed, problem.sequences) else {
            return Ok([0; 2]);
        };
        let count = word(self.device, "sequences", sequences + 1)?;
        let mut bounds = |view: &'a View<Wgpu>, tokens: usize| -> Result<u32> {
            let source = Slice::new(view.buffer(), view.byte_range());
            let steps = word(self.device, "tokens", tokens)?;
            let codes = Codes { mode: Mode::Bounds, dtype: view.dtype(), count, steps };
            Ok(first_word(self.scratch.codes(self.device, source, codes)?))
        };
        Ok([
            bounds(packed.queries.view(), problem.queries)?,
            bounds(packed.keys.view(), problem.keys)?,
        ])
    }
}

fn first_word(home: Home<'_>) -> u32 {
    match home {
        Home::Scratch(word) => word,
        Home::Absent | Home::Tensor(_) => 0,
    }
}

/// What all kernels that walk are told alike; the rest is 0.
struct Common<'a> {
    q: Lines<'a>,
    k: Lines<'a>,
    v: Lines<'a>,
    bias: Lines<'a>,
    params: WalkWgslParams,
}

/// The rooms of small tensors that all kernels that walk read.
#[derive(Clone, Copy)]
struct Small {
    slopes_at: u32,
    bounds_at: [u32; 2],
}

impl<'a> Common<'a> {
    fn new<T: DeviceFloat>(
        device: &Wgpu,
        problem: &Problem,
        inputs: &'a Inputs<'_, Wgpu, T>,
        options: &Options,
        small: Small,
    ) -> Result<Self> {
        let layout = options.layout;
        let q = Lines::of(device, inputs.q, layout)?;
        let k = Lines::of(device, inputs.k, layout)?;
        let v = Lines::of(device, inputs.v, layout)?;
        let bias = inputs.bias.map(|bias| Lines::of_bias(device, bias.view()));
        let bias = bias.transpose()?.unwrap_or(Lines::ABSENT);
        let word = |what, size| word(device, what, size);
        let sight = Sight::new(&problem.mask, problem.query_positions, problem.key_positions);
        let token = |position: usize| word("tokens", position);
        let [q_first, q_late] = sight.queries.segments();
        let [k_first, k_late] = sight.keys.segments();
        let slopes = inputs.alibi_slopes;
        let of_sequence = slopes.is_some_and(|slopes| slopes.shape().len() == 2);
        let params = WalkWgslParams {
            flags: flags(problem, inputs, options),
            sequences: word("sequences", problem.sequences.unwrap_or(problem.batch))?,
            heads: word("heads", problem.heads)?,
            group: word("heads", problem.group())?,
            queries: word("queries", problem.queries)?,
            keys: word("keys", problem.keys)?,
            width: word("features", problem.width)?,
            value_width: word("features", problem.value_width)?,
            tile_heads: 1,
            head_tiles: 1,
            parts: 1,
            part_tokens: u32::MAX,
            scale: problem.scale(options) as f32,
            softcap: options.softcap.unwrap_or(1.0),
            offset: sight.offset as i32,
            low: sight.band.0 as i32,
            high: sight.band.1 as i32,
            q_start: token(q_first.start)?,
            q_stride: token(q_first.stride.max(1))?,
            q_length: token(q_first.length)?,
            q_late_start: token(q_late.start)?,
            q_late_stride: token(q_late.stride.max(1))?,
            q_late_length: token(q_late.length)?,
            k_start: token(k_first.start)?,
            k_stride: token(k_first.stride.max(1))?,
            k_length: token(k_first.length)?,
            k_late_start: token(k_late.start)?,
            k_late_stride: token(k_late.stride.max(1))?,
            k_late_length: token(k_late.length)?,
            q_at: q.at,
            q_batch: q.batch,
            q_head: q.head,
            q_token: q.token,
            k_at: k.at,
            k_batch: k.batch,
            k_head: k.head,
            k_token: k.token,
            v_at: v.at,
            v_batch: v.batch,
            v_head: v.head,
            v_token: v.token,
            bias_at: bias.at,
            bias_batch: bias.batch,
            bias_head: bias.head,
            bias_token: bias.token,
            slopes_at: small.slopes_at,
            slopes_sequence: if of_sequence { word("heads", problem.heads)? } else { 0 },
            query_bounds_at: small.bounds_at[0],
            key_bounds_at: small.bounds_at[1],
            ..bytemuck::Zeroable::zeroed()
        };
        Ok(Self { q, k, v, bias, params })
    }
}

fn flags<T: DeviceFloat>(
    problem: &Problem,
    inputs: &Inputs<'_, Wgpu, T>,
    options: &Options,
) -> u32 {
    let narrow = inputs.bias.is_some_and(|bias| bias.dtype() != DType::F32);
    let bottom_right = problem.mask.alignment == super::Alignment::BottomRight;
    flag::all([
        (problem.sequences.is_some(), flag::PACKED),
        (bottom_right, flag::BOTTOM_RIGHT),
        (options.softcap.is_some(), flag::SOFTCAP),
        (inputs.alibi_slopes.is_some(), flag::SLOPES),
        (inputs.bias.is_some(), flag::BIAS),
        (narrow, flag::NARROW_BIAS),
    ])
}

/// The variant that fits an element type and something else.
fn find<E>(
    device: &Wgpu,
    table: &'static [Variant<E>],
    dtype: DType,
    fits: impl Fn(&VariantInfo) -> bool,
) -> Result<&'static Variant<E>> {
    let of_element = |info: &VariantInfo| info.parameter("element") == Some(dtype.name());
    let found = table.iter().find(|one| of_element(one.info) && fits(one.info));
    found.ok_or_else(|| Error::Unsupported {
        operation: NAME,
        backend: device.name(),
        what: format!("elements {dtype}"),
        instead: "use `cpu`".to_owned(),
    })
}

/// Copies words of scratch to their place.
fn copy_out(recorder: &mut Recorder<'_>, scratch: Slice<'_>, at: u32, target: &View<Wgpu>) {
    let target = Slice::new(target.buffer(), target.byte_range());
    recorder.copy(scratch.part(at, target.bytes()), target);
}
