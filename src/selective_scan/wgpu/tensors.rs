//! Where the tensors of a part lie, as kernels find them.

use std::ops::Range;

use super::super::{Layout as Axes, NAME, Problem, Resets};
use super::forward::Call;
use super::parts::Part;
use crate::Result;
use crate::backend::wgpu::{Codes, Home, Mode, Scratch, Slice, Wgpu, refused};
use crate::element::DeviceFloat;
use crate::parameter::Parameter;
use crate::shape::span;
use crate::tensor::View;

/// An activation, or a variable map, as the kernel finds it.
#[derive(Clone, Copy)]
pub(super) struct Activation<'a> {
    /// `None` where it has no elements.
    pub slice: Option<Slice<'a>>,
    /// The first element's index in the binding.
    pub at: u32,
    /// Strides, in elements.
    pub strides: [u32; 4],
}

impl<'a> Activation<'a> {
    pub(super) const ABSENT: Self = Self { slice: None, at: 0, strides: [0; 4] };

    /// The batch entries of a tensor.
    pub(super) fn of(device: &Wgpu, view: &'a View<Wgpu>, batch: &Range<usize>) -> Result<Self> {
        let size = view.dtype().bytes() as u64;
        let mut shape = view.shape().to_vec();
        shape[0] = batch.len();
        let (elements, first) = match span(&shape, view.strides()) {
            Some(elements) if elements > 0 => (elements as u64, batch.start * view.strides()[0]),
            _ => return Ok(Self::ABSENT),
        };
        let start = view.byte_range().start + first as u64 * size;
        let slice = Slice::new(view.buffer(), start..start + elements * size);
        let mut strides = [0; 4];
        for ((into, &stride), &length) in strides.iter_mut().zip(&**view.strides()).zip(&shape) {
            // The stride of a lone entry is never used, and may be anything.
            if length > 1 {
                *into = u32::try_from(stride)
                    .map_err(|_| refused(NAME, device, format!("a stride of {stride} elements")))?;
            }
        }
        Ok(Self { slice: Some(slice), at: (slice.skipped(device) / size) as u32, strides })
    }
}

/// The tensors of a part, before scratch exists.
pub(super) struct Tensors<'a> {
    pub u: Activation<'a>,
    pub delta: Activation<'a>,
    pub z: Activation<'a>,
    pub out: Activation<'a>,
    /// Variable maps; absent where they are constant.
    pub b: Activation<'a>,
    pub c: Activation<'a>,
    pub constant_b: Home<'a>,
    pub constant_c: Home<'a>,
    pub a: Home<'a>,
    pub d: Home<'a>,
    pub delta_bias: Home<'a>,
    pub h0: Home<'a>,
    pub positions: Home<'a>,
    pub last_state: Option<Slice<'a>>,
    pub saved: Option<Slice<'a>>,
    /// Words of scratch where the state lies between dispatches, if there are several and
    /// `last_state` is not asked for.
    pub between: Option<u32>,
    /// Words of scratch where chunks leave their states and their sums of Δ.
    pub carries: Option<(u32, u32)>,
}

impl<'a, T: DeviceFloat> Call<'a, T> {
    /// Where every tensor of the part lies, and what goes into scratch.
    pub(super) fn tensors(&self, part: &Part, scratch: &mut Scratch<'a>) -> Result<Tensors<'a>> {
        let (device, inputs, problem) = (self.device, self.inputs, self.problem);
        let batch = &part.batch;
        let activation = |view: &'a View<Wgpu>| Activation::of(device, view, batch);
        // Without bindings of their own, the scan sees small tensors in scratch only.
        let moved = !self.kernels.is_direct();
        let whole = |view: &'a View<Wgpu>| Slice::new(view.buffer(), view.byte_range());
        let mut parameter = |parameter: Parameter<'a, Wgpu>, moved: bool| {
            let view = parameter.view();
            scratch.parameter(device, whole(view), view.dtype(), moved)
        };
        let a = parameter(inputs.a, moved)?;
        let d = inputs.d.map_or(Ok(Home::Absent), |d| parameter(d, moved))?;
        let delta_bias =
            inputs.delta_bias.map_or(Ok(Home::Absent), |bias| parameter(bias, moved))?;
        let (b, constant_b) = match problem.b_constant {
            true => (Activation::ABSENT, parameter(inputs.b, false)?),
            false => (activation(inputs.b.view())?, Home::Absent),
        };
        let (c, constant_c) = match problem.c_constant {
            true => (Activation::ABSENT, parameter(inputs.c, false)?),
            false => (activation(inputs.c.view())?, Home::Absent),
        };
        let state = problem.channels * problem.states;
        let chunked = self.kernels.ends.is_some();
        let h0 = match inputs.h0 {
            Some(h0) => {
                let view = h0.view();
                let source = rows(view, &part.rows, state);
                // The carries read it where it is; the scan then starts from them.
                scratch.parameter(device, source, view.dtype(), moved && !chunked)?
            }
            None => Home::Absent,
        };
        let positions = positions(device, problem, &inputs.resets, part, scratch)?;
        let last_state =
            self.outputs.last_state.as_deref().map(|last| rows(last, &part.rows, state));
        let saved = self.outputs.saved.as_deref();
        let saved = saved.map(|saved| rows(saved, batch, state * problem.checkpoints()));
        let carries = match chunked {
            true => {
                let lines = (part.rows.len() * problem.channels) as u64 * self.chunks();
                let carry_at = scratch.reserve(device, lines * problem.states as u64)?;
                Some((carry_at, scratch.reserve(device, lines)?))
            }
            false => None,
        };
        let several = self.starts().len() > 1 && last_state.is_none();
        let between = match several {
            true => Some(scratch.reserve(device, (part.rows.len() * state) as u64)?),
            false => None,
        };
        Ok(Tensors {
            u: activation(inputs.u)?,
            delta: activation(inputs.delta)?,
            z: inputs.z.map_or(Ok(Activation::ABSENT), |z| activation(z))?,
            out: activation(self.outputs.out)?,
            b,
            c,
            constant_b,
            constant_c,
            a,
            d,
            delta_bias,
            h0,
            positions,
            last_state,
            saved,
            between,
            carries,
        })
    }
}

/// What separates documents, in scratch.
pub(super) fn positions<'a>(
    device: &Wgpu,
    problem: &Problem,
    resets: &Resets<'a, Wgpu>,
    part: &Part,
    scratch: &mut Scratch<'a>,
) -> Result<Home<'a>> {
    let (view, mode, range, columns) = match resets {
        Resets::None => return Ok(Home::Absent),
        Resets::Flags(flags) => {
            let view: &'a View<Wgpu> = flags;
            (view, Mode::Flags, part.batch.clone(), problem.steps)
        }
        Resets::SeqIdx(seq_idx) => {
            (seq_idx.view(), Mode::SeqIdx, part.batch.clone(), problem.steps)
        }
        Resets::CuSeqlens(bounds) => (bounds.view(), Mode::Bounds, 0..problem.rows + 1, 1),
    };
    let count = u32::try_from(range.len() * columns)
        .map_err(|_| refused(NAME, device, format!("{} positions", range.len() * columns)))?;
    let codes = Codes { mode, dtype: view.dtype(), count, steps: steps(device, problem)? };
    scratch.codes(device, rows(view, &range, columns), codes)
}

/// Steps of the call. Leaves room for a last tile and chunk that reach beyond the end.
pub(super) fn steps(device: &Wgpu, problem: &Problem) -> Result<u32> {
    u32::try_from(problem.steps)
        .ok()
        .filter(|&steps| steps < 1 << 31)
        .ok_or_else(|| refused(NAME, device, format!("{} steps", problem.steps)))
}

/// Rows of a tensor without gaps.
pub(super) fn rows<'a>(view: &'a View<Wgpu>, rows: &Range<usize>, elements: usize) -> Slice<'a> {
    let size = view.dtype().bytes();
    let at = |row: usize| view.byte_range().start + (row * elements * size) as u64;
    Slice::new(view.buffer(), at(rows.start)..at(rows.end))
}

/// Index and strides of a map.
#[derive(Clone, Copy)]
pub(super) struct Map {
    pub at: u32,
    pub batch: u32,
    pub group: u32,
    pub slow: u32,
}

/// Turns places into bindings. What is absent is bound to scratch, which no kernel reads then.
pub(super) struct Bound<'a> {
    pub device: &'a Wgpu,
    pub scratch: Slice<'a>,
}

impl<'a> Bound<'a> {
    pub(super) fn slice(&self, activation: &Activation<'a>) -> Slice<'a> {
        activation.slice.unwrap_or(self.scratch)
    }

    /// A small tensor, and its first word.
    pub(super) fn small(&self, home: Home<'a>) -> (Slice<'a>, u32) {
        match home {
            Home::Absent => (self.scratch, 0),
            Home::Tensor(slice) => (slice, (slice.skipped(self.device) / 4) as u32),
            Home::Scratch(word) => (self.scratch, word),
        }
    }

    pub(super) fn output(&self, target: Option<Slice<'a>>) -> (Slice<'a>, u32) {
        self.small(target.filter(|slice| slice.bytes() > 0).map_or(Home::Absent, Home::Tensor))
    }

    /// A map, which is either variable or constant.
    pub(super) fn map(
        &self,
        variable: &Activation<'a>,
        constant: Home<'a>,
        layout: Axes,
    ) -> (Slice<'a>, Map) {
        match variable.slice {
            Some(slice) => {
                let [batch, second, third, _] = variable.strides;
                let (group, slow) = match layout {
                    Axes::Bdl => (second, third),
                    Axes::Bld => (third, second),
                };
                (slice, Map { at: variable.at, batch, group, slow })
            }
            None => {
                let (slice, at) = self.small(constant);
                (slice, Map { at, batch: 0, group: 0, slow: 0 })
            }
        }
    }
}
