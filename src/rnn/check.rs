//! The checks of a recurrence, made once for all backends, and the sizes that they establish.

use super::{Cell, Direction, Inputs, NAME, Options, OutputGradients};
use crate::backend::{Backend, Cpu};
use crate::check::Check;
use crate::element::{DType, Float};
use crate::parameter::Parameter;
use crate::tensor::View;
use crate::{Error, Result};

pub(super) const CHECK: Check = Check { operation: NAME };

/// A recurrence whose tensors fit together, as plans and kernels see it: sizes and forms, no data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What a step computes.
    pub cell: Cell,
    /// B, rows.
    pub batch: usize,
    /// T, steps.
    pub steps: usize,
    /// N, heads.
    pub heads: usize,
    /// D, units of a head.
    pub width: usize,
    /// The order of the steps.
    pub direction: Direction,
    /// The element type of input projection and outputs.
    pub dtype: DType,
}

impl Problem {
    /// Checks that the inputs and options fit together.
    ///
    /// # Errors
    ///
    /// The first thing that does not fit: [`Error::Shape`], [`Error::Dtype`], [`Error::Tensor`],
    /// [`Error::Option`].
    pub fn check<B: Backend, T: Float>(
        inputs: &Inputs<'_, B, T>,
        options: &Options,
    ) -> Result<Self> {
        options.check()?;
        let problem = Self::sizes(inputs, options)?;
        problem.check_shapes(inputs)?;
        CHECK.same_device(inputs.wx.backend(), inputs.named())?;
        Ok(problem)
    }

    /// The sizes, which the input projection tells.
    fn sizes<B: Backend, T: Float>(inputs: &Inputs<'_, B, T>, options: &Options) -> Result<Self> {
        let &[batch, steps, _, heads, width] = &**inputs.wx.shape() else {
            let expected = "shape (B, T, Gw, N, D)".to_owned();
            return Err(CHECK.wrong_shape("wx", inputs.wx, expected));
        };
        if width == 0 {
            let expected = "heads of at least one unit, D > 0".to_owned();
            return Err(CHECK.wrong_shape("wx", inputs.wx, expected));
        }
        let &Options { cell, direction, .. } = options;
        Ok(Self { cell, batch, steps, heads, width, direction, dtype: T::DTYPE })
    }

    /// Every tensor has the shape, the strides and the type that the sizes ask for.
    fn check_shapes<B: Backend, T: Float>(&self, inputs: &Inputs<'_, B, T>) -> Result<()> {
        let &Self { cell, batch, steps, heads, width, .. } = self;
        let (n, d) = (("N", heads), ("D", width));
        let gates = ("Gw", cell.input_gates().len());
        CHECK.shape("wx", inputs.wx, &[("B", batch), ("T", steps), gates, n, d])?;
        CHECK.fastest_last("wx", inputs.wx)?;
        let gates = ("Gr", cell.recurrent_gates().len());
        self.parameter("R", inputs.r, &[gates, n, d, d])?;
        if let Some(b) = inputs.b {
            self.parameter("b", b, &[("Gb", cell.bias_gates().len()), n, d])?;
        }
        let states = ["h0", "c0", "n0", "m0"].into_iter().zip(inputs.initial.all());
        for (i, (name, state)) in states.enumerate() {
            let Some(state) = state else { continue };
            self.has_state(i, name)?;
            self.parameter(name, state, &self.state_axes())?;
        }
        if let Some(lengths) = inputs.lengths {
            CHECK.shape("lengths", &lengths, &[("B", batch)])?;
        }
        Ok(())
    }

    /// The gradients of outputs have the shapes of these.
    pub(super) fn check_given<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        given: &OutputGradients<'_, B, T>,
    ) -> Result<()> {
        let sequence = self.sequence_axes();
        if let Some(h) = given.h {
            CHECK.shape("dh", h, &sequence)?;
            CHECK.fastest_last("dh", h)?;
        }
        for (i, name, tensor) in [(1, "dc", given.c), (2, "dn", given.n)] {
            let Some(tensor) = tensor else { continue };
            self.has_state(i, name)?;
            self.parameter(name, tensor, &sequence)?;
        }
        let last = [
            (0, "dlast_h", given.last.h),
            (1, "dlast_c", given.last.c),
            (2, "dlast_n", given.last.n),
        ];
        for (i, name, tensor) in last {
            let Some(tensor) = tensor else { continue };
            self.has_state(i, name)?;
            self.parameter(name, tensor, &self.state_axes())?;
        }
        CHECK.same_device(inputs.wx.backend(), given.named())
    }

    /// The cell has so many states that this one is among them.
    fn has_state(&self, state: usize, name: &str) -> Result<()> {
        if state < self.cell.states().len() {
            return Ok(());
        }
        Err(Error::Tensor {
            operation: NAME,
            tensor: name.to_owned(),
            expected: format!(
                "no such tensor: {} has {}",
                self.cell,
                self.cell.states().join(", ")
            ),
            found: "one".to_owned(),
        })
    }

    fn parameter<B: Backend>(
        &self,
        name: &str,
        parameter: Parameter<'_, B>,
        axes: &[(&str, usize)],
    ) -> Result<()> {
        let state = if self.dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let view: &View<B> = &parameter;
        CHECK.shape(name, view, axes)?;
        CHECK.dtype(name, view, &[state, self.dtype])?;
        CHECK.fastest_last(name, view)
    }

    /// What only the host can see: the lengths of rows, all of them within T.
    pub(super) fn read_lengths<T: Float>(&self, inputs: &Inputs<'_, Cpu, T>) -> Result<Vec<usize>> {
        let Some(lengths) = inputs.lengths else { return Ok(vec![self.steps; self.batch]) };
        let within = |length: i64| usize::try_from(length).ok().filter(|&l| l <= self.steps);
        let read = |(row, length)| {
            within(length).ok_or_else(|| Error::Value {
                operation: NAME,
                tensor: "lengths".to_owned(),
                expected: format!("0 to T = {}", self.steps),
                found: format!("{length} in row {row}"),
            })
        };
        lengths.to_i64()?.into_iter().enumerate().map(read).collect()
    }

    fn state_axes(&self) -> [(&'static str, usize); 3] {
        [("B", self.batch), ("N", self.heads), ("D", self.width)]
    }

    fn sequence_axes(&self) -> [(&'static str, usize); 4] {
        [("B", self.batch), ("T", self.steps), ("N", self.heads), ("D", self.width)]
    }
}
