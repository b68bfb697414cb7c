//! The checks of a scan, made once for all backends, and the sizes that they establish.

use super::{
    Carry, Gradients, Inputs, Layout, NAME, Options, OutputGradients, OutputsMut, Saved,
    ScoreGradients, Scores, TILE,
};
use crate::backend::{Backend, Cpu};
use crate::check::Check;
use crate::element::{DType, Element, Float};
use crate::parameter::Parameter;
use crate::tensor::View;
use crate::{Error, Result};

pub(super) const CHECK: Check = Check { operation: NAME };

/// A scan whose tensors fit together, as plans and kernels see it: sizes and forms, no data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// B, batch entries.
    pub batch: usize,
    /// H, heads, each with a query of its own.
    pub heads: usize,
    /// L, time steps.
    pub steps: usize,
    /// Dv, features of a value.
    pub width: usize,
    /// Heads of the values, and of the keys: H, or Hk with keys.
    pub value_heads: usize,
    /// Dk, features of a key; none where the scores are given.
    pub key_width: Option<usize>,
    /// Rows with a state of their own: B, or S sequences where packed.
    pub rows: usize,
    /// The layout of keys, values and outputs.
    pub layout: Layout,
    /// The element type of the activations.
    pub dtype: DType,
    /// Whether rows are sequences given by `cu_seqlens`.
    pub packed: bool,
    /// Whether the forward pass keeps what the backward pass needs.
    pub save: bool,
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
        CHECK.same_device(inputs.v.backend(), inputs.named())?;
        Ok(problem)
    }

    /// A call of these sizes, B, H, Hk, L, Dk and Dv, without resets, to be planned; Hk = 0 stands
    /// for H, and Dk = 0 for given scores.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] where Hk does not divide H.
    pub fn new(
        dtype: DType,
        [batch, heads, key_heads, steps, key_width, width]: [usize; 6],
        options: &Options,
    ) -> Result<Self> {
        let key_width = (key_width > 0).then_some(key_width);
        let value_heads = if key_width.is_some() && key_heads > 0 { key_heads } else { heads };
        if !divides(value_heads, heads) {
            let expected = format!("a divisor of H = {heads}");
            return Err(CHECK.wrong_option("Hk", &expected, &value_heads.to_string()));
        }
        let (rows, layout, packed, save) = (batch, options.layout, false, options.save);
        Ok(Self {
            batch,
            heads,
            steps,
            width,
            value_heads,
            key_width,
            rows,
            layout,
            dtype,
            packed,
            save,
        })
    }

    /// The sizes, as far as single tensors tell them.
    fn sizes<B: Backend, T: Float>(inputs: &Inputs<'_, B, T>, options: &Options) -> Result<Self> {
        let [batch, second, third, width] = match **inputs.v.shape() {
            [batch, second, third, width] => [batch, second, third, width],
            _ => {
                let axes = match options.layout {
                    Layout::Bhld => "(B, H, L, Dv)",
                    Layout::Blhd => "(B, L, H, Dv)",
                };
                return Err(CHECK.wrong_shape("v", inputs.v, format!("shape {axes}")));
            }
        };
        let (value_heads, steps) = match options.layout {
            Layout::Bhld => (second, third),
            Layout::Blhd => (third, second),
        };
        let (heads, key_width) = match &inputs.scores {
            Scores::Given(_) => (value_heads, None),
            Scores::Keys { q, .. } => match **q.shape() {
                [heads, key_width] => (heads, Some(key_width)),
                _ => return Err(CHECK.wrong_shape("q", q, "shape (H, Dk)".to_owned())),
            },
        };
        let sequences = inputs.resets.sequences(CHECK)?;
        Ok(Self {
            batch,
            heads,
            steps,
            width,
            value_heads,
            key_width,
            rows: sequences.unwrap_or(batch),
            layout: options.layout,
            dtype: T::DTYPE,
            packed: sequences.is_some(),
            save: options.save,
        })
    }

    /// Every tensor has the shape, the strides and the type that the sizes ask for.
    fn check_shapes<B: Backend, T: Float>(&self, inputs: &Inputs<'_, B, T>) -> Result<()> {
        let &Self { batch, heads, steps, width, value_heads, .. } = self;
        if !divides(value_heads, heads) {
            let expected = format!("a number of heads Hk that divides H = {heads}");
            return Err(CHECK.wrong_shape("v", inputs.v, expected));
        }
        let state = if T::DTYPE == DType::F64 { DType::F64 } else { DType::F32 };
        match &inputs.scores {
            Scores::Given(s) => {
                CHECK.shape("s", s, &[("B", batch), ("H", heads), ("L", steps)])?;
                CHECK.dtype("s", s, &[state, T::DTYPE])?;
                CHECK.fastest_last("s", s)?;
            }
            Scores::Keys { q, k } => {
                let key_width = self.key_width.unwrap_or(0);
                CHECK.dtype("q", q, &[state, T::DTYPE])?;
                CHECK.contiguous("q", q)?;
                CHECK.shape("k", k, &self.axes(("Hk", value_heads), ("Dk", key_width)))?;
                CHECK.fastest_last("k", k)?;
            }
        }
        CHECK.fastest_last("v", inputs.v)?;
        if let Some(Carry { m, u, w }) = &inputs.carry {
            let [rows, heads] = self.row_axes();
            self.check_parameter::<B, T>("m0", m, &[rows, heads])?;
            self.check_parameter::<B, T>("u0", u, &[rows, heads])?;
            self.check_parameter::<B, T>("w0", w, &[rows, heads, ("Dv", width)])?;
        }
        if let Some(mask) = inputs.mask {
            CHECK.shape("mask", mask, &[("B", batch), ("L", steps)])?;
            CHECK.contiguous("mask", mask)?;
        }
        inputs.resets.check_shapes(CHECK, [batch, steps], ("v", inputs.v))
    }

    /// A parameter: of the state's type or the activation's, without gaps.
    fn check_parameter<B: Backend, T: Float>(
        &self,
        name: &str,
        parameter: &Parameter<'_, B>,
        axes: &[(&str, usize)],
    ) -> Result<()> {
        CHECK.shape(name, parameter, axes)?;
        CHECK.dtype(name, parameter, &[T::State::DTYPE, T::DTYPE])?;
        CHECK.contiguous(name, parameter)
    }

    /// The caller's outputs have the right shapes and share no memory.
    pub(super) fn check_outputs<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        outputs: &OutputsMut<'_, B, T>,
    ) -> Result<()> {
        let [rows, heads] = self.row_axes();
        CHECK.shape("o", outputs.o, &self.axes(("H", self.heads), ("Dv", self.width)))?;
        CHECK.fastest_last("o", outputs.o)?;
        if let Some(lse) = outputs.lse.as_deref() {
            CHECK.shape("lse", lse, &[("B", self.batch), heads, ("L", self.steps)])?;
            CHECK.contiguous("lse", lse)?;
        }
        if let Some(carry) = outputs.carry.as_deref() {
            for (name, view) in carry.named(["m", "u", "w"]) {
                let axes = [rows, heads, ("Dv", self.width)];
                CHECK.shape(name, view, &axes[..if name == "w" { 3 } else { 2 }])?;
                CHECK.contiguous(name, view)?;
            }
        }
        match (outputs.saved.as_deref(), self.save) {
            (Some(saved), true) => self.check_saved(saved)?,
            (None, false) => {}
            (saved, save) => {
                return Err(Error::Tensor {
                    operation: NAME,
                    tensor: "saved".to_owned(),
                    expected: format!("tensors just where the option save is set, here {save}"),
                    found: if saved.is_some() { "some" } else { "none" }.to_owned(),
                });
            }
        }
        let written = outputs.named();
        CHECK.same_device(inputs.v.backend(), written.iter().copied())?;
        CHECK.disjoint(&written, &inputs.named())
    }

    fn check_saved<B: Backend, T: Float>(&self, saved: &Saved<B, T>) -> Result<()> {
        let (batch, heads) = (("B", self.batch), ("H", self.heads));
        let tiles = ("ceil(L / 32)", self.tiles());
        CHECK.shape("saved m", &saved.m, &[batch, heads, tiles])?;
        CHECK.shape("saved u", &saved.u, &[batch, heads, tiles])?;
        CHECK.shape("saved w", &saved.w, &[batch, heads, tiles, ("Dv", self.width)])?;
        match (&saved.scores, self.key_width) {
            (Some(scores), Some(_)) => {
                CHECK.shape("saved scores", scores, &[batch, heads, ("L", self.steps)])?;
            }
            (None, None) => {}
            (scores, _) => {
                return Err(Error::Tensor {
                    operation: NAME,
                    tensor: "saved scores".to_owned(),
                    expected: "scores just where the call has keys".to_owned(),
                    found: if scores.is_some() { "some" } else { "none" }.to_owned(),
                });
            }
        }
        saved.named().into_iter().try_for_each(|(name, view)| CHECK.contiguous(name, view))
    }

    /// What the backward pass gets besides the inputs.
    pub(super) fn check_backward<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        saved: &Saved<B, T>,
        given: &OutputGradients<'_, B, T>,
    ) -> Result<()> {
        self.check_saved(saved)?;
        self.check_given(given)?;
        let tensors = saved.named().into_iter().chain(given.named());
        CHECK.same_device(inputs.v.backend(), tensors)
    }

    pub(super) fn check_given<B: Backend, T: Float>(
        &self,
        given: &OutputGradients<'_, B, T>,
    ) -> Result<()> {
        let [rows, heads] = self.row_axes();
        if let Some(o) = given.o {
            CHECK.shape("do", o, &self.axes(("H", self.heads), ("Dv", self.width)))?;
            CHECK.fastest_last("do", o)?;
        }
        if let Some(u) = &given.u {
            self.check_parameter::<B, T>("du", u, &[rows, heads])?;
        }
        if let Some(w) = &given.w {
            self.check_parameter::<B, T>("dw", w, &[rows, heads, ("Dv", self.width)])?;
        }
        Ok(())
    }

    /// The caller's gradients have the right forms and share no memory.
    pub(super) fn check_gradients<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        saved: &Saved<B, T>,
        given: &OutputGradients<'_, B, T>,
        gradients: &Gradients<B, T>,
    ) -> Result<()> {
        let like = |name: &str, view: &View<B>, input: &View<B>| {
            let axes: Vec<(&str, usize)> =
                ["0", "1", "2", "3"].into_iter().zip(input.shape().iter().copied()).collect();
            CHECK.shape(name, view, &axes)?;
            CHECK.fastest_last(name, view)
        };
        let wrong = |tensor: &str, expected: &str, found: &str| Error::Tensor {
            operation: NAME,
            tensor: tensor.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        };
        like("dv", &gradients.v, inputs.v)?;
        match (&gradients.scores, &inputs.scores) {
            (ScoreGradients::Given(ds), Scores::Given(s)) => {
                CHECK.dtype("ds", ds, &[s.dtype()])?;
                like("ds", ds, s)?;
            }
            (ScoreGradients::Keys { q: dq, k: dk }, Scores::Keys { q, k }) => {
                like("dq", dq, q)?;
                CHECK.contiguous("dq", dq)?;
                like("dk", dk, k)?;
            }
            _ => return Err(wrong("ds", "gradients of what the scores come from", "the others")),
        }
        match (&gradients.carry, &inputs.carry) {
            (Some(carry), Some(Carry { m, u, w })) => {
                let inputs = [m.view(), u.view(), w.view()];
                for ((name, view), input) in carry.named(["dm0", "du0", "dw0"]).iter().zip(inputs) {
                    like(name, view, input)?;
                    CHECK.contiguous(name, view)?;
                }
            }
            (None, None) => {}
            (_, Some(_)) => return Err(wrong("dm0", "gradients of the carry", "none")),
            (_, None) => return Err(wrong("dm0", "none, as there is no carry", "some")),
        }
        let written = gradients.named();
        CHECK.same_device(inputs.v.backend(), written.iter().copied())?;
        let read: Vec<_> =
            [inputs.named(), saved.named(), given.named()].into_iter().flatten().collect();
        CHECK.disjoint(&written, &read)
    }

    /// What only the host can see: the values of `cu_seqlens`.
    pub(super) fn check_values<T: Float>(&self, inputs: &Inputs<'_, Cpu, T>) -> Result<()> {
        inputs.resets.check_values(CHECK, self.steps)
    }

    /// The least bytes that a forward call can move: keys, values and outputs once, scores once
    /// where they are given, as f32.
    pub fn least_bytes_forward(&self) -> u64 {
        let outputs = self.batch * self.heads * self.steps * self.width;
        let read = self.batch * self.value_heads * self.steps;
        let elements = outputs + read * (self.width + self.key_width.unwrap_or(0));
        (elements * self.dtype.bytes() + self.score_bytes()) as u64
    }

    /// The least bytes that a backward call can move: keys, values and the gradient of the output
    /// are read, gradients of keys and values written, scores read and their gradients written
    /// where they are given, as f32.
    pub fn least_bytes_backward(&self) -> u64 {
        let outputs = self.batch * self.heads * self.steps * self.width;
        let read = self.batch * self.value_heads * self.steps;
        let elements = outputs + 2 * read * (self.width + self.key_width.unwrap_or(0));
        (elements * self.dtype.bytes() + 2 * self.score_bytes()) as u64
    }

    fn score_bytes(&self) -> usize {
        match self.key_width {
            Some(_) => 0,
            None => self.batch * self.heads * self.steps * DType::F32.bytes(),
        }
    }

    /// Heads that share keys and values.
    pub fn group(&self) -> usize {
        self.heads.checked_div(self.value_heads).unwrap_or(0)
    }

    /// States that are saved of a head.
    pub fn tiles(&self) -> usize {
        self.steps.div_ceil(TILE)
    }

    /// The axes of keys, values or outputs.
    fn axes<'n>(&self, heads: (&'n str, usize), width: (&'n str, usize)) -> [(&'n str, usize); 4] {
        let (batch, steps) = (("B", self.batch), ("L", self.steps));
        match self.layout {
            Layout::Bhld => [batch, heads, steps, width],
            Layout::Blhd => [batch, steps, heads, width],
        }
    }

    fn row_axes(&self) -> [(&'static str, usize); 2] {
        [(if self.packed { "S" } else { "B" }, self.rows), ("H", self.heads)]
    }

    /// The shape of `o`.
    pub fn output_shape(&self) -> [usize; 4] {
        self.axes(("H", self.heads), ("Dv", self.width)).map(|(_, length)| length)
    }

    /// The shape of `w0` and `w`; `m0`, `u0`, `m` and `u` lack the last axis.
    pub fn state_shape(&self) -> [usize; 3] {
        [self.rows, self.heads, self.width]
    }

    /// The shapes of the saved m and u, w, and scores.
    pub fn saved_shapes(&self) -> [Vec<usize>; 3] {
        let &Self { batch, heads, steps, width, .. } = self;
        let tiles = self.tiles();
        [vec![batch, heads, tiles], vec![batch, heads, tiles, width], vec![batch, heads, steps]]
    }
}

pub(super) fn divides(value_heads: usize, heads: usize) -> bool {
    match value_heads {
        0 => heads == 0,
        _ => heads.is_multiple_of(value_heads),
    }
}
