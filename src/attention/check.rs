//! The checks of attention, made once for all backends, and the sizes that they establish.

use std::ops::Range;

use super::{
    GradientsMut, Inputs, Layout, Mask, NAME, Options, OutputGradients, OutputsMut, Packed,
    Positions, Rows, Saved, Sight,
};
use crate::backend::{Backend, Cpu};
use crate::check::Check;
use crate::element::{DType, Element, Float};
use crate::parameter::{Indices, Parameter};
use crate::tensor::View;
use crate::{Error, Result};

pub(super) const CHECK: Check = Check { operation: NAME };

/// The largest D and Dv.
pub const MAX_WIDTH: usize = 512;

/// The most tokens of a whole sequence: kernels count them in 32 bits.
pub const MAX_TOKENS: usize = 1 << 29;

/// Attention whose tensors fit together, as plans and kernels see it: sizes and forms, no data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// B; 1 where sequences are packed.
    pub batch: usize,
    /// Sq; of all packed sequences together.
    pub queries: usize,
    /// Sk; of all packed sequences together.
    pub keys: usize,
    /// H, heads of queries.
    pub heads: usize,
    /// Hk, heads of keys and values.
    pub kv_heads: usize,
    /// D, features of queries and keys.
    pub width: usize,
    /// Dv, features of values.
    pub value_width: usize,
    /// Packed sequences.
    pub sequences: Option<usize>,
    /// The layout of queries, keys, values and outputs.
    pub layout: Layout,
    /// Which keys a query sees.
    pub mask: Mask,
    /// The tokens that the queries of a batch entry are; of packed sequences, all of theirs.
    pub query_positions: Positions,
    /// The tokens that the keys of a batch entry are.
    pub key_positions: Positions,
    /// Whether scores have a bias.
    pub has_bias: bool,
    /// Whether scores fall with the distance, by slopes.
    pub has_slopes: bool,
    /// The element type of queries, keys and values.
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
        CHECK.same_device(inputs.q.backend(), inputs.named())?;
        Ok(problem)
    }

    /// The problem of B batch entries, H heads of queries and Hk of keys, Sq queries, Sk keys, D
    /// and Dv features, whatever their tensors.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] where options make no sense, or do not fit the sizes.
    pub fn new(dtype: DType, sizes: [usize; 7], options: &Options) -> Result<Self> {
        options.check()?;
        let [batch, heads, kv_heads, queries, keys, width, value_width] = sizes;
        let problem = Self {
            batch,
            queries,
            keys,
            heads,
            kv_heads,
            width,
            value_width,
            sequences: None,
            layout: options.layout,
            mask: options.mask,
            query_positions: options.queries.unwrap_or(Positions::whole(queries)),
            key_positions: options.keys.unwrap_or(Positions::whole(keys)),
            has_bias: false,
            has_slopes: false,
            dtype,
        };
        problem.check_sizes()?;
        Ok(problem)
    }

    /// The sizes, which queries, keys and values tell.
    fn sizes<B: Backend, T: Float>(inputs: &Inputs<'_, B, T>, options: &Options) -> Result<Self> {
        let rank = if inputs.packed.is_some() { 3 } else { 4 };
        let lengths = |name, view: &View<B>| {
            if view.shape().len() == rank {
                let view = options.layout.heads_first(view)?;
                return Ok([0, 1, 2, 3].map(|axis| view.shape()[axis]));
            }
            let expected = match (rank, options.layout) {
                (3, Layout::Bshd) => "shape (T, H, D), as sequences are packed",
                (3, Layout::Bhsd) => "shape (H, T, D), as sequences are packed",
                (_, Layout::Bshd) => "shape (B, S, H, D)",
                (_, Layout::Bhsd) => "shape (B, H, S, D)",
            };
            Err(CHECK.wrong_shape(name, view, expected.to_owned()))
        };
        let [batch, heads, queries, width] = lengths("q", inputs.q)?;
        let [_, kv_heads, keys, _] = lengths("k", inputs.k)?;
        let [_, _, _, value_width] = lengths("v", inputs.v)?;
        let sizes = [batch, heads, kv_heads, queries, keys, width, value_width];
        let mut problem = Self::new(T::DTYPE, sizes, options)?;
        problem.has_bias = inputs.bias.is_some();
        problem.has_slopes = inputs.alibi_slopes.is_some();
        if let Some(packed) = &inputs.packed {
            problem.sequences = Some(sequences(packed)?);
            if options.queries.is_some() || options.keys.is_some() {
                let expected = "whole sequences, as they are packed";
                return Err(CHECK.wrong_option("positions", expected, "parts of one"));
            }
        }
        Ok(problem)
    }

    /// Whatever tensors there are, the sizes make sense.
    fn check_sizes(&self) -> Result<()> {
        let &Self { heads, kv_heads, width, value_width, .. } = self;
        let refuse =
            |expected: &str, found: String| Err(CHECK.wrong_option("shape", expected, &found));
        for (name, width) in [("D", width), ("Dv", value_width)] {
            if !(1..=MAX_WIDTH).contains(&width) {
                return refuse(&format!("1 to {MAX_WIDTH} features, {name}"), width.to_string());
            }
        }
        if heads > 0 && (kv_heads == 0 || heads % kv_heads != 0) {
            let expected = "heads of keys, Hk, that divide those of queries, H";
            return refuse(expected, format!("Hk = {kv_heads} and H = {heads}"));
        }
        if heads == 0 && kv_heads > 0 {
            let expected = "no heads of keys, Hk, where queries have none";
            return refuse(expected, format!("Hk = {kv_heads} and H = 0"));
        }
        for (name, positions, held) in [
            ("queries", self.query_positions, self.queries),
            ("keys", self.key_positions, self.keys),
        ] {
            if positions.len() != held {
                let expected = format!("as many positions as {name}, {held}");
                return Err(CHECK.wrong_option(name, &expected, &positions.len().to_string()));
            }
            if positions.total() > MAX_TOKENS {
                let expected = format!("a sequence of at most {MAX_TOKENS} tokens");
                return Err(CHECK.wrong_option(name, &expected, &positions.total().to_string()));
            }
        }
        Ok(())
    }

    /// Every tensor has the shape, the strides and the type that the sizes ask for.
    fn check_shapes<B: Backend, T: Float>(&self, inputs: &Inputs<'_, B, T>) -> Result<()> {
        let (heads, width) = (("Hk", self.kv_heads), ("D", self.width));
        self.activation("q", inputs.q, [("H", self.heads), ("Sq", self.queries), width])?;
        self.activation("k", inputs.k, [heads, ("Sk", self.keys), width])?;
        self.activation("v", inputs.v, [heads, ("Sk", self.keys), ("Dv", self.value_width)])?;
        if let Some(bias) = inputs.bias {
            self.check_bias("bias", &bias)?;
            CHECK.dtype("bias", &bias, &[T::State::DTYPE, T::DTYPE])?;
        }
        if let Some(sink) = inputs.sink {
            self.parameter("sink", sink, &[("H", self.heads)])?;
        }
        if let Some(slopes) = inputs.alibi_slopes {
            let batch = match self.sequences {
                Some(sequences) => ("S", sequences),
                None => ("B", self.batch),
            };
            match slopes.shape().len() {
                1 => self.parameter("alibi_slopes", slopes, &[("H", self.heads)])?,
                _ => self.parameter("alibi_slopes", slopes, &[batch, ("H", self.heads)])?,
            }
        }
        Ok(())
    }

    /// The shape of activations, given by heads, tokens and features.
    fn activation<B: Backend>(
        &self,
        name: &str,
        view: &View<B>,
        [heads, tokens, width]: [(&str, usize); 3],
    ) -> Result<()> {
        let axes = self.layout.axes([("B", self.batch), heads, tokens, width]);
        let axes = if self.sequences.is_some() { &axes[1..] } else { &axes };
        CHECK.shape(name, view, axes)?;
        CHECK.fastest_last(name, view)
    }

    /// Shapes (B or 1, H or 1, Sq, Sk).
    fn check_bias<B: Backend>(&self, name: &str, view: &View<B>) -> Result<()> {
        if self.sequences.is_some() {
            return Err(CHECK.wrong_tensor(name, "no such tensor, as sequences are packed", "one"));
        }
        let (batch, heads) = (view.shape().first().copied(), view.shape().get(1).copied());
        let spread = |found: Option<usize>, all| if found == Some(1) { 1 } else { all };
        CHECK.shape(
            name,
            view,
            &[
                ("B or 1", spread(batch, self.batch)),
                ("H or 1", spread(heads, self.heads)),
                ("Sq", self.queries),
                ("Sk", self.keys),
            ],
        )?;
        CHECK.fastest_last(name, view)
    }

    fn parameter<B: Backend>(
        &self,
        name: &str,
        parameter: Parameter<'_, B>,
        axes: &[(&str, usize)],
    ) -> Result<()> {
        let view: &View<B> = &parameter;
        CHECK.shape(name, view, axes)?;
        CHECK.dtype(name, view, &[self.state_dtype(), self.dtype])?;
        CHECK.contiguous(name, view)
    }

    /// A number for every query of every head.
    fn check_rows<B: Backend>(&self, name: &str, view: &View<B>) -> Result<()> {
        let axes = [("B", self.batch), ("H", self.heads), ("Sq", self.queries)];
        CHECK.shape(name, view, if self.sequences.is_some() { &axes[1..] } else { &axes })?;
        CHECK.contiguous(name, view)
    }

    /// Shaped as the result.
    fn check_out<B: Backend>(&self, name: &str, view: &View<B>) -> Result<()> {
        let width = ("Dv", self.value_width);
        self.activation(name, view, [("H", self.heads), ("Sq", self.queries), width])
    }

    /// The outputs have the shapes that the sizes ask for, and share no memory.
    pub(super) fn check_outputs<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        options: &Options,
        outputs: &OutputsMut<'_, B, T>,
    ) -> Result<()> {
        if let Some(out) = outputs.out.as_deref() {
            self.check_out("out", out)?;
        }
        match outputs.partial.as_deref() {
            Some(partial) => self.check_out("partial", partial)?,
            None if options.accumulate => return Err(nothing_earlier(CHECK)),
            None if outputs.out.is_none() => {
                return Err(CHECK.wrong_tensor("out", "out, or partial, or both", "neither"));
            }
            None => {}
        }
        self.check_rows("lse", &*outputs.lse)?;
        let written = outputs.named();
        CHECK.same_device(inputs.q.backend(), written.iter().copied())?;
        CHECK.disjoint(&written, &inputs.named())
    }

    /// What the backward pass takes fits.
    pub(crate) fn check_backward<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        saved: &Saved<'_, B, T>,
        given: &OutputGradients<'_, B, T>,
    ) -> Result<()> {
        self.check_given(given)?;
        match saved.rows {
            Rows::Out(out) => self.check_out("out", out)?,
            Rows::Delta(delta) => {
                self.check_rows("delta", delta)?;
                if given.lse.is_some() {
                    let expected = "no gradient of lse besides delta, which holds it";
                    return Err(CHECK.wrong_tensor("dlse", expected, "both"));
                }
            }
        }
        self.check_rows("lse", saved.lse)?;
        CHECK.same_device(inputs.q.backend(), saved.named())?;
        CHECK.same_device(inputs.q.backend(), given.named())
    }

    /// The gradients of outputs have the shapes of these.
    pub(super) fn check_given<B: Backend, T: Float>(
        &self,
        given: &OutputGradients<'_, B, T>,
    ) -> Result<()> {
        self.check_out("dout", given.out)?;
        let Some(lse) = given.lse else { return Ok(()) };
        self.check_rows("dlse", &lse)?;
        CHECK.dtype("dlse", &lse, &[T::State::DTYPE, T::DTYPE])
    }

    /// The gradients have the shapes of what they are gradients of, and share no memory.
    pub(super) fn check_gradients<B: Backend, T: Float>(
        &self,
        inputs: &Inputs<'_, B, T>,
        saved: &Saved<'_, B, T>,
        given: &OutputGradients<'_, B, T>,
        gradients: &GradientsMut<'_, B, T>,
    ) -> Result<()> {
        let (heads, width) = (("Hk", self.kv_heads), ("D", self.width));
        let queries = [("H", self.heads), ("Sq", self.queries), width];
        self.activation("dq", gradients.q.view(), queries)?;
        self.activation("dk", gradients.k.view(), [heads, ("Sk", self.keys), width])?;
        let width = ("Dv", self.value_width);
        self.activation("dv", gradients.v.view(), [heads, ("Sk", self.keys), width])?;
        match (gradients.bias.as_deref(), inputs.bias) {
            (Some(gradient), Some(bias)) => {
                let axes = ["B or 1", "H or 1", "Sq", "Sk"].into_iter();
                let axes: Vec<_> = axes.zip(bias.shape().iter().copied()).collect();
                CHECK.shape("dbias", gradient, &axes)?;
                CHECK.contiguous("dbias", gradient)?;
            }
            (None, _) => {}
            (Some(_), None) => return Err(no_input("dbias")),
        }
        match (gradients.sink.as_deref(), inputs.sink) {
            (Some(gradient), Some(_)) => {
                CHECK.shape("dsink", gradient, &[("H", self.heads)])?;
                CHECK.contiguous("dsink", gradient)?;
            }
            (None, _) => {}
            (Some(_), None) => return Err(no_input("dsink")),
        }
        let written = gradients.named();
        CHECK.same_device(inputs.q.backend(), written.iter().copied())?;
        let mut read = inputs.named();
        read.extend(saved.named());
        read.extend(given.named());
        CHECK.disjoint(&written, &read)
    }

    /// What only the host can see: the packed sequences, which cover all tokens.
    pub(super) fn read_sequences<T: Float>(
        &self,
        inputs: &Inputs<'_, Cpu, T>,
    ) -> Result<Vec<Sequence>> {
        let Some(Packed { queries, keys }) = &inputs.packed else {
            let sight = Sight::new(&self.mask, self.query_positions, self.key_positions);
            let one = |batch| Sequence {
                batch,
                number: batch,
                queries: 0..self.queries,
                keys: 0..self.keys,
                sight,
            };
            return Ok((0..self.batch).map(one).collect());
        };
        let queries = bounds("cu_seqlens_q", *queries, self.queries)?;
        let keys = bounds("cu_seqlens_k", *keys, self.keys)?;
        let one = |(number, (queries, keys)): (usize, (&[usize], &[usize]))| {
            let whole = |pair: &[usize]| Positions::whole(pair[1] - pair[0]);
            Sequence {
                batch: 0,
                number,
                queries: queries[0]..queries[1],
                keys: keys[0]..keys[1],
                sight: Sight::new(&self.mask, whole(queries), whole(keys)),
            }
        };
        Ok(queries.windows(2).zip(keys.windows(2)).enumerate().map(one).collect())
    }

    /// What products of queries and keys are multiplied with; kernels round it.
    pub(crate) fn scale(&self, options: &Options) -> f64 {
        options.scale.map_or_else(|| 1.0 / (self.width as f64).sqrt(), f64::from)
    }

    /// The least bytes that a forward call can move: queries, keys and values are read once, results
    /// written.
    pub fn least_bytes_forward(&self) -> u64 {
        let [queries, keys, rows] = self.elements();
        let results = rows * self.value_width;
        ((queries + keys + results) * self.dtype.bytes() + rows * DType::F32.bytes()) as u64
    }

    /// The least bytes that a backward call can move: the same, the results' gradients and row terms
    /// are read once, gradients written.
    pub fn least_bytes_backward(&self) -> u64 {
        let [queries, keys, rows] = self.elements();
        let results = rows * self.value_width;
        let activations = 2 * (queries + keys) + 2 * results;
        (activations * self.dtype.bytes() + 2 * rows * DType::F32.bytes()) as u64
    }

    /// Elements of queries, elements of keys and values, and rows.
    fn elements(&self) -> [usize; 3] {
        let &Self { batch, heads, kv_heads, queries, keys, width, value_width, .. } = self;
        let rows = batch * heads * queries;
        [rows * width, batch * kv_heads * keys * (width + value_width), rows]
    }

    /// Whether more becomes of products than scores at a positive scale.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(super) fn shapes(&self, options: &Options) -> bool {
        let scaled = self.scale(options) > 0.0;
        !scaled || options.softcap.is_some() || self.has_bias || self.has_slopes
    }

    /// Heads of queries that share one of keys.
    pub fn group(&self) -> usize {
        self.heads.checked_div(self.kv_heads).unwrap_or(1)
    }
}

/// A sequence of the call: a batch entry, or one of those that are packed.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    /// The batch entry that it lies in.
    pub batch: usize,
    /// Its number, by which slopes are given.
    pub number: usize,
    /// Its tokens among those of the batch entry.
    pub queries: Range<usize>,
    pub keys: Range<usize>,
    /// Who sees whom, by tokens of the sequence.
    pub sight: Sight,
}

/// How many sequences are packed.
fn sequences<B: Backend>(packed: &Packed<'_, B>) -> Result<usize> {
    let count = |name, bounds: Indices<'_, B>| {
        CHECK.contiguous(name, &bounds)?;
        match **bounds.shape() {
            [count] if count > 0 => Ok(count - 1),
            _ => Err(CHECK.wrong_shape(name, &bounds, "shape (S + 1)".to_owned())),
        }
    };
    let (queries, keys) =
        (count("cu_seqlens_q", packed.queries)?, count("cu_seqlens_k", packed.keys)?);
    if queries != keys {
        let expected = format!("shape (S + 1) = ({}), as cu_seqlens_q has", queries + 1);
        return Err(CHECK.wrong_shape("cu_seqlens_k", &packed.keys, expected));
    }
    Ok(queries)
}

/// Where packed sequences begin and end.
fn bounds(name: &str, bounds: Indices<'_, Cpu>, tokens: usize) -> Result<Vec<usize>> {
    let found = bounds.to_i64()?;
    let rises = found.windows(2).all(|pair| pair[0] <= pair[1]);
    let covers = found.first() == Some(&0) && found.last() == Some(&(tokens as i64));
    if rises && covers {
        return Ok(found.into_iter().map(|bound| bound as usize).collect());
    }
    let wrong = found.windows(2).position(|pair| pair[0] > pair[1]);
    Err(Error::Value {
        operation: NAME,
        tensor: name.to_owned(),
        expected: format!("values that rise from 0 to T = {tokens}"),
        found: match wrong {
            Some(at) => format!("{} after {} at position {}", found[at + 1], found[at], at + 1),
            None => format!("{} first, {} last", found[0], found[found.len() - 1]),
        },
    })
}

/// There is nothing to be merged into.
pub(super) fn nothing_earlier(check: Check) -> Error {
    let expected = "what earlier parts of the keys gave, to be merged into";
    check.wrong_tensor("partial", expected, "none")
}

fn no_input(name: &str) -> Error {
    CHECK.wrong_tensor(name, "none, as there is no input", "one")
}
