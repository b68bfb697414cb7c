//! The checks of an update, made once for all backends, and the sizes that they establish.

use super::{Inputs, NAME};
use crate::backend::{Backend, Cpu};
use crate::causal_conv1d::check::{check_taps, width};
use crate::causal_conv1d::{Layout, MAX_WIDTH, Options};
use crate::check::Check;
use crate::element::{DType, Element, Float};
use crate::parameter::Indices;
use crate::tensor::View;
use crate::{Error, Result};

pub(super) const CHECK: Check = Check { operation: NAME };

/// An update whose tensors fit together, as plans and kernels see it: sizes and forms, no data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// B, batch entries.
    pub batch: usize,
    /// D, channels.
    pub channels: usize,
    /// S, new steps.
    pub steps: usize,
    /// W, taps of a channel.
    pub width: usize,
    /// R, slots with a state.
    pub slots: usize,
    /// K, entries of a state.
    pub entries: usize,
    /// The element type of the activations.
    pub dtype: DType,
    /// The element type of the states.
    pub state_dtype: DType,
}

impl Problem {
    /// Checks that the tensors fit together.
    ///
    /// # Errors
    ///
    /// The first thing that does not fit.
    pub fn check<B: Backend, T: Float>(
        inputs: &Inputs<'_, B, T>,
        conv_state: &View<B>,
        options: &Options,
    ) -> Result<Self> {
        let [batch, channels, steps] = lengths(inputs.x, options.layout)?;
        let width = width(CHECK, &inputs.weight, channels)?;
        let [slots, entries] = match **conv_state.shape() {
            [slots, of_slot, entries] if of_slot == channels && entries + 1 >= width => {
                [slots, entries]
            }
            _ => {
                let expected =
                    format!("shape (R, D, K) with D = {channels} and K >= W - 1 = {}", width - 1);
                return Err(CHECK.wrong_shape("conv_state", conv_state, expected));
            }
        };
        CHECK.fastest_last("x", inputs.x)?;
        check_taps::<B, T>(CHECK, inputs.weight, inputs.bias, [channels, width])?;
        CHECK.dtype("conv_state", conv_state, &[T::State::DTYPE, T::DTYPE])?;
        let indices =
            [("cache_seqlens", &inputs.cache_seqlens), ("state_indices", &inputs.state_indices)];
        for (name, indices) in indices {
            if let Some(indices) = indices {
                CHECK.shape(name, indices, &[("B", batch)])?;
                CHECK.contiguous(name, indices)?;
            }
        }
        if inputs.state_indices.is_none() && slots < batch {
            let expected = format!("a slot for each of B = {batch} entries, or state_indices");
            return Err(CHECK.wrong_shape("conv_state", conv_state, expected));
        }
        let tensors = inputs.named().into_iter().chain([("conv_state", conv_state)]);
        CHECK.same_device(inputs.x.backend(), tensors)?;
        let (dtype, state_dtype) = (T::DTYPE, conv_state.dtype());
        Ok(Self { batch, channels, steps, width, slots, entries, dtype, state_dtype })
    }

    /// A call of these sizes with a slot for each batch entry, to be planned.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] for a width that is not 1 to [`MAX_WIDTH`], or states that are too short.
    pub fn new(dtype: DType, [batch, channels, steps, width, entries]: [usize; 5]) -> Result<Self> {
        let refuse = |option: &str, expected: String, found: usize| {
            CHECK.wrong_option(option, &expected, &found.to_string())
        };
        if !(1..=MAX_WIDTH).contains(&width) {
            return Err(refuse("W", format!("1 to {MAX_WIDTH}"), width));
        }
        if entries + 1 < width {
            return Err(refuse("K", format!("at least W - 1 = {}", width - 1), entries));
        }
        let (slots, state_dtype) = (batch, dtype);
        Ok(Self { batch, channels, steps, width, slots, entries, dtype, state_dtype })
    }

    /// The caller's output is shaped as x.
    pub(super) fn check_out<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        out: &View<B>,
    ) -> Result<()> {
        if out.shape() != inputs.x.shape() {
            let expected = format!("shape {}, as x", inputs.x.shape());
            return Err(CHECK.wrong_shape("out", out, expected));
        }
        CHECK.fastest_last("out", out)?;
        CHECK.same_device(inputs.x.backend(), [("out", out)])
    }

    /// W - 1, the steps that the taps reach back.
    pub fn history(&self) -> usize {
        self.width - 1
    }

    /// The least bytes that a call can move: x and out once each, the history in and the new
    /// entries out.
    pub fn least_bytes(&self) -> u64 {
        let lines = self.batch * self.channels;
        let activations = 2 * lines * self.steps * self.dtype.bytes();
        let entries = self.history() + self.steps.min(self.entries);
        (activations + lines * entries * self.state_dtype.bytes()) as u64
    }
}

/// B, D and S of x or out.
fn lengths<B: Backend>(x: &View<B>, layout: Layout) -> Result<[usize; 3]> {
    match (&**x.shape(), layout) {
        (&[batch, channels], _) => Ok([batch, channels, 1]),
        (shape, _) => layout.lengths(shape).ok_or_else(|| {
            let axes = match layout {
                Layout::Bdl => "(B, D) or (B, D, S)",
                Layout::Bld => "(B, D) or (B, S, D)",
            };
            CHECK.wrong_shape("x", x, format!("shape {axes}"))
        }),
    }
}

/// Distances in elements between neighbours in x or out: of batch entries, channels and steps.
pub(super) fn strides<B: Backend>(view: &View<B>, layout: Layout) -> [usize; 3] {
    match (&**view.strides(), layout) {
        (&[batch, channel], _) => [batch, channel, 0],
        (&[batch, channel, step], Layout::Bdl) | (&[batch, step, channel], Layout::Bld) => {
            [batch, channel, step]
        }
        // A checked tensor has two axes or three.
        _ => [0; 3],
    }
}

/// The slot and the position of each batch entry; no slot for padding.
pub(super) struct Places {
    pub slots: Vec<Option<usize>>,
    /// Where circular states stand.
    pub positions: Option<Vec<usize>>,
}

impl Places {
    /// Reads and checks what only the host can see.
    pub fn read<T: Float>(problem: &Problem, inputs: &Inputs<'_, Cpu, T>) -> Result<Self> {
        let refuse = |tensor: &str, expected: String, found: String| Error::Value {
            operation: NAME,
            tensor: tensor.to_owned(),
            expected,
            found,
        };
        let read = |indices: &Indices<'_, Cpu>| indices.to_i64();
        let slots: Vec<Option<usize>> = match &inputs.state_indices {
            None => (0..problem.batch).map(Some).collect(),
            Some(indices) => {
                read(indices)?.into_iter().map(|slot| usize::try_from(slot).ok()).collect()
            }
        };
        let mut used = vec![false; problem.slots];
        for (b, slot) in slots.iter().enumerate().filter_map(|(b, slot)| Some((b, (*slot)?))) {
            let expected = || format!("slots below R = {}, each once, or negative", problem.slots);
            let found = || format!("{slot} at position {b}");
            match used.get_mut(slot) {
                Some(used) if !*used => *used = true,
                _ => return Err(refuse("state_indices", expected(), found())),
            }
        }
        let positions = inputs.cache_seqlens.as_ref().map(|positions| {
            let position = |(b, c): (usize, i64)| {
                usize::try_from(c).map_err(|_| {
                    let found = format!("{c} at position {b}");
                    refuse("cache_seqlens", "positions that are not negative".to_owned(), found)
                })
            };
            read(positions)?.into_iter().enumerate().map(position).collect()
        });
        Ok(Self { slots, positions: positions.transpose()? })
    }

    /// The entry of a state of K that holds the input `back` steps before step 0 of batch entry b.
    pub fn entry(&self, b: usize, back: usize, entries: usize) -> usize {
        match &self.positions {
            None => entries - back,
            Some(positions) => (positions[b] % entries + entries - back) % entries,
        }
    }
}
