//! The checks of a scan, made once for all backends, and the sizes that they establish.

use super::{
    CHECKPOINT, GradientsMut, Inputs, Layout, MAX_STATES, NAME, Options, OutputGradients,
    OutputsMut,
};
use crate::backend::{Backend, Cpu};
use crate::check::Check;
use crate::element::{DType, Element, Float};
use crate::parameter::Parameter;
use crate::tensor::Tensor;
use crate::{Error, Result};

pub(super) const CHECK: Check = Check { operation: NAME };

/// A scan whose tensors fit together, as plans and kernels see it: sizes and forms, no data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// B, batch entries.
    pub batch: usize,
    /// D, channels.
    pub channels: usize,
    /// L, time steps.
    pub steps: usize,
    /// N, states of a channel.
    pub states: usize,
    /// G, groups of channels that share variable `B` and `C`; 1 where both are constant.
    pub groups: usize,
    /// Rows with a state of their own: B, or S sequences where packed.
    pub rows: usize,
    /// The layout of the activations.
    pub layout: Layout,
    /// The element type of the activations.
    pub dtype: DType,
    /// Whether `A` is (D), equal over n.
    pub a_per_channel: bool,
    /// Whether `B` is (D, N), equal over time.
    pub b_constant: bool,
    /// Whether `C` is (D, N), equal over time.
    pub c_constant: bool,
    /// Whether rows are sequences given by `cu_seqlens`.
    pub packed: bool,
    /// Whether states are saved for the backward pass.
    pub save: bool,
}

impl Problem {
    /// Checks that the inputs and options fit together.
    ///
    /// # Errors
    ///
    /// The first thing that does not fit: [`Error::Shape`], [`Error::Dtype`], [`Error::Tensor`],
    /// [`Error::Option`]; [`Error::Unsupported`] for complex `A`.
    pub fn check<B: Backend, T: Float>(
        inputs: &Inputs<'_, B, T>,
        options: &Options,
    ) -> Result<Self> {
        options.check()?;
        if options.complex {
            return Err(Error::Unsupported {
                operation: NAME,
                backend: inputs.u.backend().name(),
                what: "complex A".to_owned(),
                instead: "give real A, B and C".to_owned(),
            });
        }
        let problem = Self::sizes(inputs, options)?;
        problem.check_shapes(inputs)?;
        CHECK.same_device(inputs.u.backend(), inputs.named())?;
        Ok(problem)
    }

    /// A call of these sizes with everything variable and no resets, to be planned.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] for a state size above [`MAX_STATES`], or groups that do not divide the
    /// channels.
    pub fn new(
        dtype: DType,
        [batch, channels, steps, states, groups]: [usize; 5],
        options: &Options,
    ) -> Result<Self> {
        let refuse = |option: &str, expected: String, found: usize| {
            CHECK.wrong_option(option, &expected, &found.to_string())
        };
        if states > MAX_STATES {
            return Err(refuse("N", format!("at most {MAX_STATES}"), states));
        }
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(refuse("G", format!("a divisor of D = {channels}"), groups));
        }
        Ok(Self {
            batch,
            channels,
            steps,
            states,
            groups,
            rows: batch,
            layout: options.layout,
            dtype,
            a_per_channel: false,
            b_constant: false,
            c_constant: false,
            packed: false,
            save: options.save,
        })
    }

    /// The sizes, as far as single tensors tell them.
    fn sizes<B: Backend, T: Float>(inputs: &Inputs<'_, B, T>, options: &Options) -> Result<Self> {
        let Some([batch, channels, steps]) = options.layout.lengths(inputs.u.shape()) else {
            let expected = format!("shape {}", options.layout.names());
            return Err(CHECK.wrong_shape("u", inputs.u, expected));
        };
        let (b_constant, c_constant) = (is_constant(&inputs.b), is_constant(&inputs.c));
        let states = match (&**inputs.a.shape(), &inputs.b, &inputs.c) {
            (&[_, states], ..) => states,
            (&[_], b, _) if b_constant => b.shape()[1],
            (&[_], _, c) if c_constant => c.shape()[1],
            (&[_], b, _) => states_and_groups("B", b, options.layout)?.0,
            _ => {
                let expected = format!("shape (D, N) or (D), with D = {channels}");
                return Err(CHECK.wrong_shape("A", &inputs.a, expected));
            }
        };
        let groups = match (b_constant, c_constant) {
            (false, _) => states_and_groups("B", &inputs.b, options.layout)?.1,
            (true, false) => states_and_groups("C", &inputs.c, options.layout)?.1,
            (true, true) => 1,
        };
        let packed_rows = inputs.resets.sequences(CHECK)?;
        Ok(Self {
            batch,
            channels,
            steps,
            states,
            groups,
            rows: packed_rows.unwrap_or(batch),
            layout: options.layout,
            dtype: T::DTYPE,
            a_per_channel: inputs.a.shape().len() == 1,
            b_constant,
            c_constant,
            packed: packed_rows.is_some(),
            save: options.save,
        })
    }

    /// Every tensor has the shape, the strides and the type that the sizes ask for.
    fn check_shapes<B: Backend, T: Float>(&self, inputs: &Inputs<'_, B, T>) -> Result<()> {
        let &Self { batch, channels, steps, states, groups, .. } = self;
        if states > MAX_STATES {
            let expected = format!("a state size N of at most {MAX_STATES}");
            let (tensor, view) = match self.a_per_channel {
                true => ("B", inputs.b.view()),
                false => ("A", inputs.a.view()),
            };
            return Err(CHECK.wrong_shape(tensor, view, expected));
        }
        let activations = [("u", Some(inputs.u)), ("delta", Some(inputs.delta)), ("z", inputs.z)];
        for (name, tensor) in activations {
            if let Some(tensor) = tensor {
                CHECK.shape(name, tensor, &self.activation_axes())?;
                CHECK.fastest_last(name, tensor)?;
            }
        }
        let a_axes = &[("D", channels), ("N", states)][..2 - usize::from(self.a_per_channel)];
        self.check_parameter::<B, T>("A", Some(inputs.a), a_axes)?;
        self.check_map::<B, T>("B", inputs.b, self.b_constant)?;
        self.check_map::<B, T>("C", inputs.c, self.c_constant)?;
        if groups == 0 && channels > 0 || groups > 0 && !channels.is_multiple_of(groups) {
            let (tensor, map) = if self.b_constant { ("C", &inputs.c) } else { ("B", &inputs.b) };
            let expected = format!("a number of groups G that divides D = {channels}");
            return Err(CHECK.wrong_shape(tensor, map, expected));
        }
        self.check_parameter::<B, T>("D", inputs.d, &[("D", channels)])?;
        self.check_parameter::<B, T>("delta_bias", inputs.delta_bias, &[("D", channels)])?;
        self.check_parameter::<B, T>("h0", inputs.h0, &self.state_axes())?;
        inputs.resets.check_shapes(CHECK, [batch, steps], ("u", inputs.u))
    }

    /// A parameter: of the state's type or the activation's, without gaps.
    fn check_parameter<B: Backend, T: Float>(
        &self,
        name: &str,
        parameter: Option<Parameter<'_, B>>,
        axes: &[(&str, usize)],
    ) -> Result<()> {
        let Some(parameter) = parameter else { return Ok(()) };
        CHECK.shape(name, &parameter, axes)?;
        CHECK.dtype(name, &parameter, &[DType::F32, T::State::DTYPE, T::DTYPE])?;
        CHECK.contiguous(name, &parameter)
    }

    /// `B` or `C`: a parameter where constant, else an activation.
    fn check_map<B: Backend, T: Float>(
        &self,
        name: &str,
        map: Parameter<'_, B>,
        constant: bool,
    ) -> Result<()> {
        let &Self { batch, channels, steps, states, groups, .. } = self;
        if constant {
            let axes = [("D", channels), ("N", states)];
            return self.check_parameter::<B, T>(name, Some(map), &axes);
        }
        let (b, g, n, l) = (("B", batch), ("G", groups), ("N", states), ("L", steps));
        match self.layout {
            Layout::Bdl => CHECK.shape(name, &map, &[b, g, n, l])?,
            Layout::Bld => CHECK.shape(name, &map, &[b, l, g, n])?,
        }
        CHECK.dtype(name, &map, &[T::DTYPE])?;
        CHECK.fastest_last(name, &map)
    }

    /// The caller's outputs have the right shapes and share no memory.
    pub(super) fn check_outputs<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        outputs: &OutputsMut<'_, B, T>,
    ) -> Result<()> {
        CHECK.shape("out", outputs.out, &self.activation_axes())?;
        CHECK.fastest_last("out", outputs.out)?;
        if let Some(last_state) = &outputs.last_state {
            CHECK.shape("last_state", last_state, &self.state_axes())?;
            CHECK.contiguous("last_state", last_state)?;
        }
        match (&outputs.saved, self.save) {
            (Some(saved), true) => {
                CHECK.shape("saved", saved, &self.saved_axes())?;
                CHECK.contiguous("saved", saved)?;
            }
            (None, false) => {}
            (saved, save) => {
                return Err(Error::Tensor {
                    operation: NAME,
                    tensor: "saved".to_owned(),
                    expected: format!("a tensor just where the option save is set, here {save}"),
                    found: if saved.is_some() { "one" } else { "none" }.to_owned(),
                });
            }
        }
        let written = outputs.named();
        CHECK.same_device(inputs.u.backend(), written.iter().copied())?;
        CHECK.disjoint(&written, &inputs.named())
    }

    /// The gradients of the outputs fit, and the saved states.
    pub(super) fn check_output_gradients<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        saved: &Tensor<B, T::State>,
        outer: &OutputGradients<'_, B, T>,
    ) -> Result<()> {
        CHECK.shape("saved", saved, &self.saved_axes())?;
        CHECK.contiguous("saved", saved)?;
        CHECK.shape("dout", outer.dout, &self.activation_axes())?;
        CHECK.fastest_last("dout", outer.dout)?;
        self.check_parameter::<B, T>("dlast_state", outer.dlast_state, &self.state_axes())?;
        let device = inputs.u.backend();
        CHECK.same_device(device, [("saved", &**saved)])?;
        CHECK.same_device(device, outer.named())
    }

    /// The caller's gradients have the right shapes, belong to inputs that are there, and share no
    /// memory.
    pub(super) fn check_gradients<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        saved: &Tensor<B, T::State>,
        outer: &OutputGradients<'_, B, T>,
        options: &Options,
        gradients: &GradientsMut<'_, B, T>,
    ) -> Result<()> {
        let read = inputs.named();
        let written = gradients.named();
        let shape_of = |gradient: &str| match gradient {
            "dh0" => Some(self.state_shape().to_vec()),
            gradient => {
                let input = gradient.strip_prefix('d').unwrap_or(gradient);
                let found = read.iter().find(|(name, _)| *name == input);
                found.map(|(_, view)| view.shape().to_vec())
            }
        };
        for (name, view) in &written {
            let Some(shape) = shape_of(name) else {
                return Err(Error::Tensor {
                    operation: NAME,
                    tensor: (*name).to_owned(),
                    expected: "a gradient of an input that is there".to_owned(),
                    found: "one whose input is absent".to_owned(),
                });
            };
            if **view.shape() != *shape {
                return Err(CHECK.wrong_shape(name, view, format!("shape {shape:?}")));
            }
            match *name {
                "du" | "ddelta" | "dz" => CHECK.fastest_last(name, view)?,
                _ => CHECK.contiguous(name, view)?,
            }
        }
        let maps = [("dB", &gradients.db, self.b_constant), ("dC", &gradients.dc, self.c_constant)];
        for (name, view, constant) in maps {
            if let Some(view) = view {
                CHECK.dtype(name, view, &[self.map_gradient_dtype::<T>(constant, options)])?;
            }
        }
        CHECK.same_device(inputs.u.backend(), written.iter().copied())?;
        let mut read = read;
        read.push(("saved", saved));
        read.extend(outer.named());
        CHECK.disjoint(&written, &read)
    }

    /// What only the host can see: the values of `cu_seqlens`.
    pub(super) fn check_values<T: Float>(&self, inputs: &Inputs<'_, Cpu, T>) -> Result<()> {
        inputs.resets.check_values(CHECK, self.steps)
    }

    /// The least bytes that a forward call can move: every activation once, B and C once, states
    /// at both ends.
    pub fn least_bytes(&self, gated: bool) -> u64 {
        let activations = if gated { 4 } else { 3 } * self.batch * self.channels * self.steps;
        let map = |constant: bool| match constant {
            true => 0,
            false => self.batch * self.groups * self.states * self.steps,
        };
        let elements = activations + map(self.b_constant) + map(self.c_constant);
        let states = 2 * self.rows * self.channels * self.states * DType::F32.bytes();
        (elements * self.dtype.bytes() + states) as u64
    }

    /// The least bytes that a backward call can move: every activation and its gradient once, B,
    /// C and theirs once, the checkpoints, and the states at both ends.
    pub fn least_backward_bytes(&self, gated: bool) -> u64 {
        let activations = if gated { 7 } else { 5 } * self.batch * self.channels * self.steps;
        let map = |constant: bool| match constant {
            true => 0,
            false => 2 * self.batch * self.groups * self.states * self.steps,
        };
        let elements = activations + map(self.b_constant) + map(self.c_constant);
        let states = 2 * self.rows * self.channels * self.states
            + self.batch * self.channels * self.checkpoints() * self.states;
        (elements * self.dtype.bytes() + states * DType::F32.bytes()) as u64
    }

    /// Channels of one group.
    pub fn group_channels(&self) -> usize {
        self.channels.checked_div(self.groups).unwrap_or(0)
    }

    /// Saved states of one channel.
    pub fn checkpoints(&self) -> usize {
        self.steps.div_ceil(CHECKPOINT)
    }

    pub(super) fn activation_axes(&self) -> [(&'static str, usize); 3] {
        self.layout.axes([self.batch, self.channels, self.steps])
    }

    pub(super) fn state_axes(&self) -> [(&'static str, usize); 3] {
        let rows = if self.packed { "S" } else { "B" };
        [(rows, self.rows), ("D", self.channels), ("N", self.states)]
    }

    fn saved_axes(&self) -> [(&'static str, usize); 4] {
        let checkpoints = ("ceil(L / 256)", self.checkpoints());
        [("B", self.batch), ("D", self.channels), checkpoints, ("N", self.states)]
    }

    /// The shape of `h0` and `last_state`.
    pub fn state_shape(&self) -> [usize; 3] {
        self.state_axes().map(|(_, length)| length)
    }

    /// The shape of `saved`.
    pub fn saved_shape(&self) -> [usize; 4] {
        self.saved_axes().map(|(_, length)| length)
    }
}

fn is_constant<B: Backend>(map: &Parameter<'_, B>) -> bool {
    map.shape().len() == 2
}

/// N and G of a variable `B` or `C`.
fn states_and_groups<B: Backend>(
    name: &str,
    map: &Parameter<'_, B>,
    layout: Layout,
) -> Result<(usize, usize)> {
    match (&**map.shape(), layout) {
        (&[_, groups, states, _], Layout::Bdl) | (&[_, _, groups, states], Layout::Bld) => {
            Ok((states, groups))
        }
        _ => {
            let expected = match layout {
                Layout::Bdl => "shape (B, G, N, L), or (D, N) where constant",
                Layout::Bld => "shape (B, L, G, N), or (D, N) where constant",
            };
            Err(CHECK.wrong_shape(name, map, expected.to_owned()))
        }
    }
}
