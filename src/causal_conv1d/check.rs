//! The checks of a convolution, made once for all backends, and the sizes that they establish.

use super::{
    GradientsMut, Inputs, Layout, MAX_WIDTH, NAME, Options, OutputGradients, OutputsMut, Pass,
};
use crate::backend::{Backend, Cpu};
use crate::check::Check;
use crate::element::{DType, Element, Float};
use crate::parameter::Parameter;
use crate::resets::Resets;
use crate::tensor::View;
use crate::{Error, Result};

pub(super) const CHECK: Check = Check { operation: NAME };

/// A convolution whose tensors fit together, as plans and kernels see it: sizes and forms, no
/// data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// B, batch entries.
    pub batch: usize,
    /// D, channels.
    pub channels: usize,
    /// L, time steps.
    pub steps: usize,
    /// W, taps of a channel.
    pub width: usize,
    /// Rows with a state of their own: B, or S sequences where packed.
    pub rows: usize,
    /// The layout of the activations.
    pub layout: Layout,
    /// The element type of the activations.
    pub dtype: DType,
    /// Whether rows are sequences given by `cu_seqlens`.
    pub packed: bool,
    /// Whether `seq_idx` numbers the documents of rows.
    pub numbered: bool,
}

impl Problem {
    /// Checks that the inputs fit together.
    ///
    /// # Errors
    ///
    /// The first thing that does not fit: [`Error::Shape`], [`Error::Dtype`], [`Error::Tensor`].
    pub fn check<B: Backend, T: Float>(
        inputs: &Inputs<'_, B, T>,
        options: &Options,
    ) -> Result<Self> {
        let problem = Self::sizes(inputs, options)?;
        problem.check_shapes(inputs)?;
        CHECK.same_device(inputs.x.backend(), inputs.named())?;
        Ok(problem)
    }

    /// A call of these sizes without documents that share rows, to be planned.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] for a width that is not 1 to [`MAX_WIDTH`].
    pub fn new(
        dtype: DType,
        [batch, channels, steps, width]: [usize; 4],
        options: &Options,
    ) -> Result<Self> {
        if !(1..=MAX_WIDTH).contains(&width) {
            let expected = format!("1 to {MAX_WIDTH}");
            return Err(CHECK.wrong_option("W", &expected, &width.to_string()));
        }
        let layout = options.layout;
        let (packed, numbered) = (false, false);
        Ok(Self { batch, channels, steps, width, rows: batch, layout, dtype, packed, numbered })
    }

    /// The sizes, as far as single tensors tell them.
    fn sizes<B: Backend, T: Float>(inputs: &Inputs<'_, B, T>, options: &Options) -> Result<Self> {
        let Some([batch, channels, steps]) = options.layout.lengths(inputs.x.shape()) else {
            let expected = format!("shape {}", options.layout.names());
            return Err(CHECK.wrong_shape("x", inputs.x, expected));
        };
        let width = width(CHECK, &inputs.weight, channels)?;
        let sequences = inputs.resets.sequences(CHECK)?;
        Ok(Self {
            batch,
            channels,
            steps,
            width,
            rows: sequences.unwrap_or(batch),
            layout: options.layout,
            dtype: T::DTYPE,
            packed: sequences.is_some(),
            numbered: matches!(inputs.resets, Resets::SeqIdx(_)),
        })
    }

    /// Every tensor has the shape, the strides and the type that the sizes ask for.
    fn check_shapes<B: Backend, T: Float>(&self, inputs: &Inputs<'_, B, T>) -> Result<()> {
        CHECK.fastest_last("x", inputs.x)?;
        check_taps::<B, T>(CHECK, inputs.weight, inputs.bias, [self.channels, self.width])?;
        self.check_state::<B, T>("s0", inputs.s0)?;
        if let Resets::Flags(_) = inputs.resets {
            return Err(Error::Tensor {
                operation: NAME,
                tensor: "reset".to_owned(),
                expected: "documents told apart by seq_idx or cu_seqlens".to_owned(),
                found: "flags".to_owned(),
            });
        }
        inputs.resets.check_shapes(CHECK, [self.batch, self.steps], ("x", inputs.x))
    }

    /// An initial state, or the gradient of a final one: of f32 or the activations' type.
    fn check_state<B: Backend, T: Float>(
        &self,
        name: &str,
        state: Option<Parameter<'_, B>>,
    ) -> Result<()> {
        state.map_or(Ok(()), |state| parameter::<B, T>(CHECK, name, state, &self.state_axes()))
    }

    /// The caller's outputs have the right shapes and share no memory.
    pub(super) fn check_outputs<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        outputs: &OutputsMut<'_, B, T>,
    ) -> Result<()> {
        self.check_activation("out", outputs.out)?;
        if let Some(final_state) = &outputs.final_state {
            CHECK.shape("final_state", final_state, &self.state_axes())?;
            CHECK.contiguous("final_state", final_state)?;
        }
        let written = outputs.named();
        CHECK.same_device(inputs.x.backend(), written.iter().copied())?;
        CHECK.disjoint(&written, &inputs.named())
    }

    /// The gradients of outputs fit the call.
    pub(super) fn check_gradients<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        gradients: &OutputGradients<'_, B, T>,
    ) -> Result<()> {
        if let Some(dout) = gradients.dout {
            self.check_activation("dout", dout)?;
        }
        self.check_state::<B, T>("dfinal_state", gradients.dfinal_state)?;
        CHECK.same_device(inputs.x.backend(), gradients.named())
    }

    /// The caller's gradients of inputs have the right shapes and share no memory.
    pub(super) fn check_input_gradients<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        gradients: &OutputGradients<'_, B, T>,
        outputs: &GradientsMut<'_, B, T>,
    ) -> Result<()> {
        let (d, w) = (("D", self.channels), ("W", self.width));
        if let Some(dx) = &outputs.dx {
            self.check_activation("dx", dx)?;
        }
        if let Some(dweight) = &outputs.dweight {
            CHECK.shape("dweight", dweight, &[d, w])?;
            CHECK.contiguous("dweight", dweight)?;
        }
        if let Some(dbias) = &outputs.dbias {
            CHECK.shape("dbias", dbias, &[d])?;
            CHECK.contiguous("dbias", dbias)?;
        }
        if let Some(ds0) = &outputs.ds0 {
            CHECK.shape("ds0", ds0, &self.state_axes())?;
            CHECK.contiguous("ds0", ds0)?;
        }
        let written = outputs.named();
        let read = [inputs.named(), gradients.named()].concat();
        CHECK.same_device(inputs.x.backend(), written.iter().copied())?;
        CHECK.disjoint(&written, &read)
    }

    fn check_activation<B: Backend>(&self, name: &str, view: &View<B>) -> Result<()> {
        CHECK.shape(name, view, &self.activation_axes())?;
        CHECK.fastest_last(name, view)
    }

    /// What only the host can see: the values of `cu_seqlens`.
    pub(super) fn check_values<T: Float>(&self, inputs: &Inputs<'_, Cpu, T>) -> Result<()> {
        inputs.resets.check_values(CHECK, self.steps)
    }

    /// The least bytes that a pass can move: x and out once each, or x, dout and dx.
    pub fn least_bytes(&self, pass: Pass) -> u64 {
        let activations = match pass {
            Pass::Forward => 2,
            Pass::Backward => 3,
        };
        (activations * self.batch * self.channels * self.steps * self.dtype.bytes()) as u64
    }

    pub(super) fn activation_axes(&self) -> [(&'static str, usize); 3] {
        self.layout.axes([self.batch, self.channels, self.steps])
    }

    pub(super) fn state_axes(&self) -> [(&'static str, usize); 3] {
        let rows = if self.packed { "S" } else { "B" };
        [(rows, self.rows), ("D", self.channels), ("W - 1", self.history())]
    }

    /// W - 1, the steps that the taps reach back.
    pub fn history(&self) -> usize {
        self.width - 1
    }

    /// The shape of `s0` and `final_state`.
    pub fn state_shape(&self) -> [usize; 3] {
        self.state_axes().map(|(_, length)| length)
    }

    /// The shape of `weight`.
    pub fn weight_shape(&self) -> [usize; 2] {
        [self.channels, self.width]
    }
}

/// W, where the weight has a lawful one.
pub(super) fn width<B: Backend>(
    check: Check,
    weight: &Parameter<'_, B>,
    channels: usize,
) -> Result<usize> {
    match **weight.shape() {
        [_, width] if (1..=MAX_WIDTH).contains(&width) => Ok(width),
        _ => {
            let expected = format!("shape (D, W) with D = {channels} and W from 1 to {MAX_WIDTH}");
            Err(check.wrong_shape("weight", weight, expected))
        }
    }
}

/// Weight and bias fit D channels of W taps.
pub(super) fn check_taps<B: Backend, T: Float>(
    check: Check,
    weight: Parameter<'_, B>,
    bias: Option<Parameter<'_, B>>,
    [channels, width]: [usize; 2],
) -> Result<()> {
    parameter::<B, T>(check, "weight", weight, &[("D", channels), ("W", width)])?;
    bias.map_or(Ok(()), |bias| parameter::<B, T>(check, "bias", bias, &[("D", channels)]))
}

/// A parameter: of the state's type or the activations', without gaps.
fn parameter<B: Backend, T: Float>(
    check: Check,
    name: &str,
    parameter: Parameter<'_, B>,
    axes: &[(&str, usize)],
) -> Result<()> {
    check.shape(name, &parameter, axes)?;
    check.dtype(name, &parameter, &[DType::F32, T::State::DTYPE, T::DTYPE])?;
    check.contiguous(name, &parameter)
}
