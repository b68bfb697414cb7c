//! The checks of a recurrence, made once for all backends, and the sizes that they establish.

use super::outputs::{INITIAL, LAST};
use super::{
    Cell, Direction, Gradients, Inputs, NAME, Options, OutputGradients, OutputsMut, Save, Saved,
};
use crate::backend::{Backend, Cpu};
use crate::check::Check;
use crate::element::{DType, Float};
use crate::parameter::Parameter;
use crate::tensor::{Tensor, View};
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
    /// What the forward pass keeps for the backward pass.
    pub save: Save,
    /// Whether h is clipped.
    pub clips: bool,
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
        Ok(Self::of(T::DTYPE, [batch, steps, heads, width], options))
    }

    fn of(dtype: DType, [batch, steps, heads, width]: [usize; 4], options: &Options) -> Self {
        let &Options { cell, direction, save, .. } = options;
        let clips = options.output_clip.is_some();
        Self { cell, batch, steps, heads, width, direction, save, clips, dtype }
    }

    /// The problem of B rows, T steps and N heads of D units, whatever their tensors.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] where options make no sense, or heads have no units.
    pub fn new(dtype: DType, sizes: [usize; 4], options: &Options) -> Result<Self> {
        options.check()?;
        match sizes[3] {
            0 => Err(CHECK.wrong_option("shape", "heads of at least one unit, D > 0", "D = 0")),
            _ => Ok(Self::of(dtype, sizes, options)),
        }
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
            CHECK.contiguous("lengths", &lengths)?;
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

    /// The outputs have the shapes that the sizes ask for, and share no memory; but states after
    /// the last step may be those before the first.
    pub(super) fn check_outputs<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        outputs: &OutputsMut<'_, B, T>,
    ) -> Result<()> {
        let sequence = self.sequence_axes();
        CHECK.shape("h", &*outputs.h, &sequence)?;
        CHECK.fastest_last("h", &*outputs.h)?;
        for (name, view) in outputs.states.as_deref().into_iter().flat_map(|one| one.named()) {
            CHECK.shape(name, view, &sequence)?;
            CHECK.contiguous(name, view)?;
        }
        if let Some(states) = outputs.states.as_deref() {
            self.as_many_as_the_cell("states", 1, states.named().count())?;
        }
        if let Some(last) = outputs.last.as_deref() {
            self.as_many_as_the_cell("last", 0, last.named(LAST).count())?;
            for (name, view) in last.named(LAST) {
                CHECK.shape(name, view, &self.state_axes())?;
                CHECK.contiguous(name, view)?;
            }
        }
        match (outputs.saved.as_deref(), self.save) {
            (Some(saved), _) => self.check_saved(saved)?,
            (None, Save::Nothing) => {}
            (None, _) => {
                return Err(CHECK.wrong_tensor("saved", "what the options ask to be kept", "none"));
            }
        }
        let written = outputs.named();
        CHECK.same_device(inputs.wx.backend(), written.iter().copied())?;
        CHECK.disjoint(&outputs.sequences(), &inputs.named())?;
        let states = ["h0", "c0", "n0", "m0"];
        let in_place = |name: &str, view: &View<B>, (other, read): &(&str, &View<B>)| {
            let same = states.iter().position(|state| state == other)
                == LAST.iter().position(|last| *last == name);
            same && view.byte_range() == read.byte_range() && read.is_contiguous()
        };
        for (i, &(name, view)) in written.iter().enumerate() {
            let inputs = inputs.named().into_iter();
            let read = inputs.filter(|input| !in_place(name, view, input));
            let others: Vec<_> = written[i + 1..].iter().copied().chain(read).collect();
            CHECK.disjoint(&[(name, view)], &others)?;
        }
        Ok(())
    }

    /// What is kept has the shape that the sizes ask for.
    pub(super) fn check_saved<B: Backend, T: Float>(&self, saved: &Saved<B, T>) -> Result<()> {
        let [_, _, gates, _, _] = self.saved_shape();
        let [batch, steps, heads, width] = self.sequence_axes();
        match &saved.gates {
            Some(view) => {
                CHECK.shape("saved gates", view, &[batch, steps, ("Gs", gates), heads, width])?;
                CHECK.dtype("saved gates", view, &[self.saved_dtype()])?;
                CHECK.contiguous("saved gates", view)?;
            }
            None if gates == 0 => {}
            None => {
                return Err(CHECK.wrong_tensor("saved gates", "the gates of every step", "none"));
            }
        }
        for (state, name, tensor) in [(1, "saved c", &saved.c), (2, "saved n", &saved.n)] {
            let is_needed = state < self.cell.states().len() && self.dtype != DType::F64;
            match tensor {
                Some(tensor) => {
                    CHECK.shape(name, tensor, &self.sequence_axes())?;
                    CHECK.contiguous(name, tensor)?;
                }
                None if !is_needed => {}
                None => return Err(CHECK.wrong_tensor(name, "the state of every step", "none")),
            }
        }
        Ok(())
    }

    /// What the backward pass takes fits.
    pub(super) fn check_backward<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        h: &Tensor<B, T>,
        saved: &Saved<B, T>,
        given: &OutputGradients<'_, B, T>,
    ) -> Result<()> {
        if self.save == Save::Nothing {
            let expected = "what the forward pass kept: io or f32";
            return Err(CHECK.wrong_option("saved", expected, "none"));
        }
        CHECK.shape("h", h, &self.sequence_axes())?;
        CHECK.fastest_last("h", h)?;
        self.check_saved(saved)?;
        CHECK.same_device(inputs.wx.backend(), [("h", &**h)])?;
        CHECK.same_device(inputs.wx.backend(), saved.named())?;
        self.check_given(inputs, given)
    }

    /// The gradients have the shapes of what they are gradients of, and share no memory; but that
    /// of `wx` may lie where `wx` does.
    pub(super) fn check_gradients<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        h: &Tensor<B, T>,
        saved: &Saved<B, T>,
        given: &OutputGradients<'_, B, T>,
        gradients: &Gradients<B, T>,
    ) -> Result<()> {
        let like = |name: &str, view: &View<B>, input: &View<B>| {
            let axes: Vec<(&str, usize)> =
                ["0", "1", "2", "3", "4"].into_iter().zip(input.shape().iter().copied()).collect();
            CHECK.shape(name, view, &axes)
        };
        like("dwx", &gradients.wx, inputs.wx)?;
        CHECK.fastest_last("dwx", &gradients.wx)?;
        let [h0, c0, n0, _] = inputs.initial.all();
        let [dh0, dc0, dn0] = &gradients.initial;
        let optional = [
            ("dR", Some(&gradients.r), Some(inputs.r)),
            ("db", gradients.b.as_ref(), inputs.b),
            (INITIAL[0], dh0.as_ref(), h0),
            (INITIAL[1], dc0.as_ref(), c0),
            (INITIAL[2], dn0.as_ref(), n0),
        ];
        for (name, gradient, input) in optional {
            match (gradient, input) {
                (Some(gradient), Some(input)) => {
                    like(name, gradient, &input)?;
                    CHECK.contiguous(name, gradient)?;
                }
                (None, _) => {}
                (Some(_), None) => {
                    return Err(CHECK.wrong_tensor(name, "none, as there is no input", "one"));
                }
            }
        }
        let written = gradients.named();
        CHECK.same_device(inputs.wx.backend(), written.iter().copied())?;
        let mut read = inputs.named();
        let in_place = gradients.wx.byte_range() == inputs.wx.byte_range()
            && gradients.wx.strides() == inputs.wx.strides();
        // Whatever of `wx` is read, is read before.
        read.retain(|(name, _)| *name != "wx" || !in_place);
        read.push(("h", h));
        read.extend(saved.named());
        read.extend(given.named());
        CHECK.disjoint(&written, &read)
    }

    /// A group of states has as many as the cell, without the first ones.
    fn as_many_as_the_cell(&self, name: &str, without: usize, found: usize) -> Result<()> {
        let expected = &self.cell.states()[without..];
        if expected.len() == found {
            return Ok(());
        }
        let expected = match expected {
            [] => "none".to_owned(),
            states => states.join(", "),
        };
        Err(CHECK.wrong_tensor(name, expected, &format!("{found} of them")))
    }

    /// The cell has so many states that this one is among them.
    fn has_state(&self, state: usize, name: &str) -> Result<()> {
        if state < self.cell.states().len() {
            return Ok(());
        }
        let states = self.cell.states().join(", ");
        Err(CHECK.wrong_tensor(name, format!("no such tensor: {} has {states}", self.cell), "one"))
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
        CHECK.contiguous(name, view)
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

    /// The least bytes that a forward call can move: the input projection and the matrices are
    /// read once, h and what is kept are written.
    pub fn least_bytes_forward(&self) -> u64 {
        let [outputs, kept, states] = self.kept_elements();
        let element = self.dtype.bytes();
        let inputs = outputs * self.cell.input_gates().len();
        let kept = kept * self.saved_dtype().bytes() + states * DType::F32.bytes();
        ((inputs + outputs + self.matrix_elements()) * element + kept) as u64
    }

    /// The least bytes that a backward call can move: h, its gradient, what was kept and the
    /// matrices are read once, gradients of the input projection and of the matrices written.
    pub fn least_bytes_backward(&self) -> u64 {
        let [outputs, kept, states] = self.kept_elements();
        let element = self.dtype.bytes();
        let inputs = outputs * self.cell.input_gates().len();
        let kept = kept * self.saved_dtype().bytes() + states * DType::F32.bytes();
        let matrices = self.matrix_elements() * (element + DType::F32.bytes());
        ((inputs + 2 * outputs) * element + matrices + kept) as u64
    }

    /// Elements of h, of the gates that are kept, and of the states that are.
    fn kept_elements(&self) -> [usize; 3] {
        let outputs: usize = self.output_shape().iter().product();
        let states = match self.save {
            Save::Nothing => 0,
            _ => self.cell.states().len().min(3) - 1,
        };
        [outputs, outputs * self.saved_gates(), outputs * states]
    }

    fn matrix_elements(&self) -> usize {
        self.cell.recurrent_gates().len() * self.heads * self.width * self.width
    }

    fn state_axes(&self) -> [(&'static str, usize); 3] {
        [("B", self.batch), ("N", self.heads), ("D", self.width)]
    }

    fn sequence_axes(&self) -> [(&'static str, usize); 4] {
        [("B", self.batch), ("T", self.steps), ("N", self.heads), ("D", self.width)]
    }
}
