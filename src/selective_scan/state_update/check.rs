//! The checks of an update, made once for all backends, and the sizes that they establish.

use super::{Inputs, MAX_STATES, MAX_STEPS, NAME, Options, OutputsMut, State};
use crate::backend::{Backend, Cpu};
use crate::check::Check;
use crate::element::{DType, Element, Float};
use crate::parameter::Parameter;
use crate::tensor::View;
use crate::{Error, Result};

/// The element types of slots.
const INDICES: [DType; 4] = [DType::I32, DType::I64, DType::U32, DType::U64];

pub(super) const CHECK: Check = Check { operation: NAME };

/// An update whose tensors fit together, as plans and kernels see it: sizes and forms, no data.
///
/// A plain call is one of D heads of width 1; channel c belongs to head c / P, and to group
/// c / (H P / G).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// B, batch entries.
    pub batch: usize,
    /// M, steps.
    pub steps: usize,
    /// H, heads; D of a plain call.
    pub heads: usize,
    /// P, channels of a head; 1 of a plain call.
    pub width: usize,
    /// N, states of a channel.
    pub states: usize,
    /// G, groups of heads that share `B` and `C`.
    pub groups: usize,
    /// R, slots of `state`.
    pub slots: usize,
    /// The element type of the activations.
    pub dtype: DType,
    /// The element type of the states.
    pub state_dtype: DType,
    /// Whether `x` has heads.
    pub with_heads: bool,
    /// Whether `x` has an axis of steps.
    pub with_steps: bool,
    /// Whether `dt` has one value for a head.
    pub dt_tied: bool,
    /// Whether `A` is equal over n and over the channels of a head.
    pub a_tied: bool,
    /// Whether `D` has one value for a head.
    pub d_tied: bool,
    /// Whether `dt_bias` has one value for a head.
    pub dt_bias_tied: bool,
}

impl Problem {
    /// Checks that the states, inputs and options fit together.
    ///
    /// # Errors
    ///
    /// The first thing that does not fit: [`Error::Shape`], [`Error::Dtype`], [`Error::Tensor`],
    /// [`Error::Option`], [`Error::Aliased`].
    pub fn check<B: Backend, T: Float>(
        state: &State<'_, B>,
        inputs: &Inputs<'_, B, T>,
        options: &Options,
    ) -> Result<Self> {
        options.check()?;
        let problem = Self::sizes(state, inputs)?;
        problem.check_shapes(state, inputs)?;
        let device = inputs.x.backend();
        CHECK.same_device(device, [("state", state.view())])?;
        CHECK.same_device(device, inputs.named())?;
        CHECK.disjoint(&[("state", state.view())], &inputs.named())?;
        Ok(problem)
    }

    /// A call of these sizes (B, M, H, P, N, G), to be planned: heads wider than one channel share
    /// their parameters, as Mamba-2 has it.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] for sizes that are too large, or groups that do not divide the heads.
    pub fn new(
        dtype: DType,
        [batch, steps, heads, width, states, groups]: [usize; 6],
    ) -> Result<Self> {
        let refuse = |option: &str, expected: String, found: usize| {
            CHECK.wrong_option(option, &expected, &found.to_string())
        };
        if states > MAX_STATES {
            return Err(refuse("N", format!("at most {MAX_STATES}"), states));
        }
        if !(1..=MAX_STEPS).contains(&steps) {
            return Err(refuse("M", format!("from 1 to {MAX_STEPS}"), steps));
        }
        if groups == 0 || !heads.is_multiple_of(groups) {
            return Err(refuse("G", format!("a divisor of H = {heads}"), groups));
        }
        Ok(Self {
            batch,
            steps,
            heads,
            width,
            states,
            groups,
            slots: batch,
            dtype,
            state_dtype: DType::F32,
            with_heads: width > 1,
            with_steps: steps > 1,
            dt_tied: width > 1,
            a_tied: width > 1,
            d_tied: width > 1,
            dt_bias_tied: width > 1,
        })
    }

    /// The sizes, as far as single tensors tell them.
    fn sizes<B: Backend, T: Float>(
        state: &State<'_, B>,
        inputs: &Inputs<'_, B, T>,
    ) -> Result<Self> {
        let state = state.view();
        let (slots, heads, width, states) = match **state.shape() {
            [slots, channels, states] => (slots, channels, 1, states),
            [slots, heads, width, states] => (slots, heads, width, states),
            _ => {
                let expected = "shape (R, D, N) or (R, H, P, N)".to_owned();
                return Err(CHECK.wrong_shape("state", state, expected));
            }
        };
        let with_heads = state.shape().len() == 4;
        let plain_axes = 2 + usize::from(with_heads);
        let with_steps = inputs.x.shape().len() == plain_axes + 1;
        let map_axes = inputs.b.shape().len() - usize::from(with_steps).min(inputs.b.shape().len());
        let groups = match map_axes {
            2 if !with_heads => 1,
            3 => inputs.b.shape()[1 + usize::from(with_steps)],
            _ => {
                let step = if with_steps { "M, " } else { "" };
                let plain = if with_heads { "" } else { " or (B, N), with M where x has it" };
                let expected = format!("shape (B, {step}G, N){plain}");
                return Err(CHECK.wrong_shape("B", inputs.b, expected));
            }
        };
        let tied = |parameter: &Option<Parameter<'_, B>>| {
            parameter.as_ref().is_some_and(|parameter| parameter.shape().len() == 1)
        };
        Ok(Self {
            batch: inputs.x.shape().first().copied().unwrap_or(0),
            steps: if with_steps { inputs.x.shape()[1] } else { 1 },
            heads,
            width,
            states,
            groups,
            slots,
            dtype: T::DTYPE,
            state_dtype: state.dtype(),
            with_heads,
            with_steps,
            dt_tied: with_heads && inputs.dt.shape().len() < inputs.x.shape().len(),
            a_tied: inputs.a.shape().len() == 1,
            d_tied: tied(&inputs.d),
            dt_bias_tied: tied(&inputs.dt_bias),
        })
    }

    /// Every tensor has the shape, the strides and the type that the sizes ask for.
    fn check_shapes<B: Backend, T: Float>(
        &self,
        state: &State<'_, B>,
        inputs: &Inputs<'_, B, T>,
    ) -> Result<()> {
        let state = state.view();
        let states = match T::DTYPE {
            DType::F64 => &[DType::F64][..],
            _ => &[DType::F32, DType::BF16, DType::F16],
        };
        CHECK.dtype("state", state, states)?;
        self.check_lines("state", state, 1)?;
        if self.states > MAX_STATES {
            let expected = format!("a state size N of at most {MAX_STATES}");
            return Err(CHECK.wrong_shape("state", state, expected));
        }
        if !(1..=MAX_STEPS).contains(&self.steps) {
            let expected = format!("from 1 to {MAX_STEPS} steps M");
            return Err(CHECK.wrong_shape("x", inputs.x, expected));
        }
        if self.groups == 0 && self.heads > 0
            || self.groups > 0 && !self.heads.is_multiple_of(self.groups)
        {
            let heads = if self.with_heads { "H" } else { "D" };
            let expected = format!("a number of groups G that divides {heads} = {}", self.heads);
            return Err(CHECK.wrong_shape("B", inputs.b, expected));
        }
        if inputs.state_indices.is_none() && self.slots < self.batch {
            let expected = format!("at least B = {} slots without state_indices", self.batch);
            return Err(CHECK.wrong_shape("state", state, expected));
        }
        self.check_activation("x", inputs.x, false)?;
        self.check_activation("dt", inputs.dt, self.dt_tied)?;
        if let Some(z) = inputs.z {
            self.check_activation("z", z, false)?;
        }
        for (name, map) in [("B", inputs.b), ("C", inputs.c)] {
            CHECK.shape(name, map, &self.map_axes(inputs.b.shape().len()))?;
            CHECK.fastest_last(name, map)?;
        }
        self.check_parameter::<B, T>("A", Some(inputs.a), self.a_tied, true)?;
        self.check_parameter::<B, T>("D", inputs.d, self.d_tied, false)?;
        self.check_parameter::<B, T>("dt_bias", inputs.dt_bias, self.dt_bias_tied, false)?;
        for (name, indices) in
            [("state_indices", &inputs.state_indices), ("out_indices", &inputs.out_indices)]
        {
            if let Some(indices) = indices {
                CHECK.shape(name, indices, &[("B", self.batch)])?;
                CHECK.contiguous(name, indices)?;
                CHECK.dtype(name, indices, &INDICES)?;
            }
        }
        Ok(())
    }

    fn check_activation<B: Backend>(&self, name: &str, view: &View<B>, tied: bool) -> Result<()> {
        let mut axes = self.leading_axes();
        axes.extend(self.channel_axes(tied));
        CHECK.shape(name, view, &axes)?;
        self.check_lines(name, view, self.leading_axes().len())
    }

    /// The axes behind the first few lie without gaps.
    fn check_lines<B: Backend>(&self, name: &str, view: &View<B>, leading: usize) -> Result<()> {
        if view.elements() == 0 {
            return Ok(());
        }
        let wanted = view.shape().contiguous_strides();
        let gapless = (leading..view.shape().len())
            .all(|axis| view.shape()[axis] == 1 || view.strides()[axis] == wanted[axis]);
        match gapless {
            true => Ok(()),
            false => Err(Error::Shape {
                operation: NAME,
                tensor: name.to_owned(),
                expected: format!("no gaps behind the first {leading} axes"),
                found: format!("strides {:?} for shape {}", view.strides(), view.shape()),
            }),
        }
    }

    /// A parameter: of the state's type or the activation's, without gaps.
    fn check_parameter<B: Backend, T: Float>(
        &self,
        name: &str,
        parameter: Option<Parameter<'_, B>>,
        tied: bool,
        with_states: bool,
    ) -> Result<()> {
        let Some(parameter) = parameter else { return Ok(()) };
        let mut axes = self.channel_axes(tied);
        if with_states && !tied {
            axes.push(("N", self.states));
        }
        CHECK.shape(name, &parameter, &axes)?;
        CHECK.dtype(name, &parameter, &[DType::F32, T::State::DTYPE, T::DTYPE])?;
        CHECK.contiguous(name, &parameter)
    }

    /// The caller's outputs have the right shapes and share no memory.
    pub(super) fn check_outputs<B: Backend, T: Float>(
        &self,
        state: &State<'_, B>,
        inputs: &Inputs<'_, B, T>,
        outputs: &OutputsMut<'_, B, T>,
    ) -> Result<()> {
        self.check_activation("out", outputs.out, false)?;
        if let Some(states) = &outputs.states {
            CHECK.shape("states", states, &self.states_axes())?;
            CHECK.dtype("states", states, &[self.state_dtype])?;
            CHECK.contiguous("states", states)?;
        }
        CHECK.same_device(inputs.x.backend(), outputs.named())?;
        let mut read = inputs.named();
        read.push(("state", state.view()));
        CHECK.disjoint(&outputs.named(), &read)
    }

    /// What only the host can see: slots that are not there, that two entries write, or that one
    /// writes and another reads.
    pub(super) fn check_values<T: Float>(
        &self,
        inputs: &Inputs<'_, Cpu, T>,
        options: &Options,
    ) -> Result<()> {
        let refuse = |tensor: &str, expected: String, found: String| Error::Value {
            operation: NAME,
            tensor: tensor.to_owned(),
            expected,
            found,
        };
        let (read, written) = self.slots_of(inputs)?;
        for (name, slots) in [("state_indices", &read), ("out_indices", &written)] {
            let absent = slots.iter().position(|&slot| slot >= self.slots as i64);
            if let Some(b) = absent {
                let expected = format!("slots below R = {}", self.slots);
                return Err(refuse(name, expected, format!("{} at position {b}", slots[b])));
            }
        }
        if options.keep_state {
            return Ok(());
        }
        let mut writers = vec![None; self.slots];
        let acts = |b: &usize| read[*b] >= 0 && written[*b] >= 0;
        for b in (0..self.batch).filter(acts) {
            if let Some(earlier) = writers[written[b] as usize].replace(b) {
                let found = format!("slot {} at positions {earlier} and {b}", written[b]);
                let name =
                    if inputs.out_indices.is_some() { "out_indices" } else { "state_indices" };
                return Err(refuse(name, "each slot written once".to_owned(), found));
            }
        }
        for b in (0..self.batch).filter(|&b| read[b] >= 0) {
            if let Some(writer) = writers[read[b] as usize].filter(|&writer| writer != b) {
                return Err(refuse(
                    "out_indices",
                    "slots that no other entry reads".to_owned(),
                    format!("slot {} at position {writer}, read at position {b}", read[b]),
                ));
            }
        }
        Ok(())
    }

    /// The slots that each entry reads and writes.
    pub(super) fn slots_of<T: Float>(
        &self,
        inputs: &Inputs<'_, Cpu, T>,
    ) -> Result<(Vec<i64>, Vec<i64>)> {
        let read = match &inputs.state_indices {
            Some(slots) => slots.to_i64()?,
            None => (0..self.batch as i64).collect(),
        };
        let written = inputs.out_indices.as_ref().map(|slots| slots.to_i64()).transpose()?;
        Ok((read.clone(), written.unwrap_or(read)))
    }

    /// H P, channels.
    pub fn channels(&self) -> usize {
        self.heads * self.width
    }

    /// Distances in elements between entries and between steps of an activation; 0 for steps where
    /// there is no axis of them.
    pub(super) fn line_strides<B: Backend>(&self, view: &View<B>) -> [u64; 2] {
        let strides = view.strides();
        [strides[0] as u64, if self.with_steps { strides[1] as u64 } else { 0 }]
    }

    /// The same of B or C, and between groups; 0 for groups where there is no axis of them.
    pub(super) fn map_strides<B: Backend>(&self, view: &View<B>) -> [u64; 3] {
        let [entry, step] = self.line_strides(view);
        let leading = self.leading_axes().len();
        let grouped = view.shape().len() > leading + 1;
        [entry, step, if grouped { view.strides()[leading] as u64 } else { 0 }]
    }

    /// The least bytes that a call can move: every state read and written once, every activation
    /// once, B and C once.
    pub fn least_bytes(&self, gated: bool) -> u64 {
        let channels = self.batch * self.channels();
        let per_step =
            (if gated { 4 } else { 3 }) * channels + 2 * self.batch * self.groups * self.states;
        let states = 2 * channels * self.states * self.state_dtype.bytes();
        (self.steps * per_step * self.dtype.bytes() + states) as u64
    }

    /// The shape of [`OutputsMut::states`].
    pub fn states_shape(&self) -> Vec<usize> {
        self.states_axes().into_iter().map(|(_, length)| length).collect()
    }

    fn states_axes(&self) -> Vec<(&'static str, usize)> {
        let mut axes = vec![("B", self.batch), ("M", self.steps)];
        axes.extend(self.channel_axes(false));
        axes.push(("N", self.states));
        axes
    }

    fn leading_axes(&self) -> Vec<(&'static str, usize)> {
        let mut axes = vec![("B", self.batch)];
        axes.extend(self.with_steps.then_some(("M", self.steps)));
        axes
    }

    fn channel_axes(&self, tied: bool) -> Vec<(&'static str, usize)> {
        match (self.with_heads, tied) {
            (false, _) => vec![("D", self.heads)],
            (true, true) => vec![("H", self.heads)],
            (true, false) => vec![("H", self.heads), ("P", self.width)],
        }
    }

    fn map_axes(&self, rank: usize) -> Vec<(&'static str, usize)> {
        let mut axes = self.leading_axes();
        axes.extend((rank > axes.len() + 1).then_some(("G", self.groups)));
        axes.push(("N", self.states));
        axes
    }
}
