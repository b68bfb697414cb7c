//! A case of attention: sizes and forms, from which its tensors follow.

use crate::Result;
use crate::attention::{Layout, Mask, Options, Positions, Problem, Segment, Sight};
use crate::backend::{Cpu, Named};
use crate::element::{DType, Float};
use crate::tensor::Tensor;
use crate::verify::Random;

/// B, H, Hk, Sq, Sk, D and Dv.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Sizes {
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub queries: usize,
    pub keys: usize,
    pub width: usize,
    pub value_width: usize,
}

impl Sizes {
    /// As many keys as queries and of as many features as values.
    pub fn square([batch, heads, kv_heads, tokens, width]: [usize; 5]) -> Self {
        Self { batch, heads, kv_heads, queries: tokens, keys: tokens, width, value_width: width }
    }
}

/// What is added to scores, and who shares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Bias {
    Nothing,
    /// One for each batch entry and head.
    Full,
    /// One for all heads of a batch entry.
    OfBatch,
    /// One for each head of all batch entries.
    OfHead,
    /// One for all.
    OfAll,
    /// One for all, with -∞ here and there, and for all keys of some queries.
    Masks,
}

/// Which tokens of whole sequences the tensors hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Shard {
    Whole,
    /// Sequences that are packed into one row, some of them empty.
    Packed,
    /// Two pieces, one from each half, of queries and of keys.
    Zigzag,
    /// Every third token.
    Striped,
}

/// What numbers are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Numbers {
    Normal,
    /// Every thousandth is drawn ten times as large, besides.
    Outliers,
    /// Keys that are all alike, so that all scores of a query are.
    Alike,
}

/// One case: sizes and forms. Its tensors follow from the seed.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Case {
    pub sizes: Sizes,
    pub layout: Layout,
    pub mask: Mask,
    pub scale: Option<f32>,
    pub softcap: Option<f32>,
    pub alibi: bool,
    pub bias: Bias,
    pub sink: bool,
    pub shard: Shard,
    /// Parts of the keys that are merged into one another, and whose gradients are added.
    pub parts: usize,
    /// Parts of the keys that a call works on side by side.
    pub splits: Option<usize>,
    /// A gradient of lse is given.
    pub dlse: bool,
    /// What no query sees is NaN, and the rows of queries that see nothing.
    pub poison: bool,
    pub numbers: Numbers,
    /// Bias, sink, slopes and the gradient of lse are given in the activations' type.
    pub narrow: bool,
    /// All tensors lie in one buffer, at odd places, with guards between.
    pub one_buffer: bool,
    pub seed: u64,
}

/// Sequences of a packed case.
const SEQUENCES: usize = 4;

impl Case {
    /// A case of these sizes, dense, with a gradient of `out` alone.
    pub fn new(sizes: Sizes) -> Self {
        Self {
            sizes,
            layout: Layout::Bshd,
            mask: Mask::default(),
            scale: None,
            softcap: None,
            alibi: false,
            bias: Bias::Nothing,
            sink: false,
            shard: Shard::Whole,
            parts: 1,
            splits: None,
            dlse: false,
            poison: false,
            numbers: Numbers::Normal,
            narrow: false,
            one_buffer: false,
            seed: 1,
        }
    }

    /// The same under a causal mask.
    pub fn causal(sizes: Sizes) -> Self {
        Self { mask: Mask::causal(), ..Self::new(sizes) }
    }

    /// A case whose forms are drawn at random, at these sizes.
    pub fn random(sizes: Sizes, random: &mut Random) -> Self {
        let shards = [
            Shard::Whole,
            Shard::Whole,
            Shard::Whole,
            Shard::Packed,
            Shard::Zigzag,
            Shard::Striped,
        ];
        let biases = [Bias::Full, Bias::OfBatch, Bias::OfHead, Bias::OfAll, Bias::Masks];
        let shard = random.pick(&shards);
        let is_packed = shard == Shard::Packed;
        let mut case = Self {
            layout: random.pick(&[Layout::Bshd, Layout::Bhsd]),
            mask: random_mask(sizes.keys, random),
            softcap: random.chance(0.2).then_some(1.5),
            alibi: random.chance(0.2),
            sink: random.chance(0.25),
            shard,
            splits: random.chance(0.25).then(|| 1 + random.below(4)),
            dlse: random.chance(0.3),
            poison: random.chance(0.3),
            numbers: if random.chance(0.1) { Numbers::Outliers } else { Numbers::Normal },
            narrow: random.chance(0.3),
            one_buffer: random.chance(0.3),
            seed: random.below(1 << 30) as u64,
            ..Self::new(sizes)
        };
        if random.chance(0.3) && !is_packed {
            case.bias = random.pick(&biases);
        }
        if random.chance(0.25) && shard == Shard::Whole {
            case.parts = 2 + random.below(2);
        }
        if is_packed {
            case.sizes.batch = case.sizes.batch.min(1);
        }
        case
    }

    /// The options of the call, for all keys.
    pub fn options(&self) -> Options {
        let mut options = Options::default().with_layout(self.layout).with_mask(self.mask);
        options.scale = self.scale;
        options.softcap = self.softcap;
        options.splits = self.splits;
        let Sizes { queries, keys, .. } = self.sizes;
        if matches!(self.shard, Shard::Zigzag | Shard::Striped) {
            options.queries = Some(self.positions(queries, 0));
            options.keys = Some(self.positions(keys, 1));
        }
        options
    }

    /// Some tokens of a sequence three times as long: those of one of its ranks.
    fn positions(&self, held: usize, rank: usize) -> Positions {
        let total = 3 * held;
        let segments = match self.shard {
            Shard::Striped => vec![Segment { start: rank, stride: 3, length: held }],
            Shard::Zigzag => {
                let early = held / 2;
                let late = total - (1 + rank) * (held - early);
                vec![
                    Segment::contiguous(rank * early..(rank + 1) * early),
                    Segment::contiguous(late..late + held - early),
                ]
            }
            Shard::Whole | Shard::Packed => vec![Segment::contiguous(0..held)],
        };
        Positions::new(total, &segments).unwrap_or(Positions::whole(held))
    }

    /// The call, as plans see it.
    ///
    /// # Errors
    ///
    /// Sizes that make no sense.
    pub fn problem(&self, dtype: DType) -> Result<Problem> {
        let Sizes { batch, heads, kv_heads, queries, keys, width, value_width } = self.sizes;
        let sizes = [batch, heads, kv_heads, queries, keys, width, value_width];
        Problem::new(dtype, sizes, &self.options())
    }

    /// The tensors of the call in activations of type `T`, on the CPU, and the gradients of its
    /// outputs.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn tensors<T: Float>(&self) -> Result<Named<Cpu>> {
        let mut draw = Draw { case: self, random: Random::new(self.seed), named: Named::new() };
        draw.all::<T>()?;
        Ok(draw.named)
    }

    /// The largest errors that the arithmetic allows: section 11.2 of the specification.
    pub fn tolerances(&self, dtype: DType) -> Tolerances {
        let hard = self.softcap.is_some() || self.numbers == Numbers::Outliers;
        let factor = if hard { 2.0 } else { 1.0 };
        let [out, gradients, lse] = match dtype {
            DType::F64 => [1e-13, 1e-12, 1e-12],
            DType::F16 => [6e-4, 8e-4, 2e-5],
            DType::BF16 => [5e-3, 6e-3, 2e-5],
            _ => [2e-6, 4e-6, 2e-6],
        };
        Tolerances { out: factor * out, gradients: factor * gradients, lse: factor * lse }
    }

    /// The case in a line.
    pub fn describe(&self) -> String {
        let Sizes { batch, heads, kv_heads, queries, keys, width, value_width } = self.sizes;
        let mut words = vec![format!(
            "B={batch} H={heads} Hk={kv_heads} Sq={queries} Sk={keys} D={width} Dv={value_width}"
        )];
        if self.mask.causal {
            words.push("causal".to_owned());
        }
        if self.mask.alignment != Default::default() {
            words.push("top left".to_owned());
        }
        let side = |side: Option<usize>| side.map_or("all".to_owned(), |side| side.to_string());
        if let window @ (left, right) = self.mask.window
            && window != (None, None)
        {
            words.push(format!("window {},{}", side(left), side(right)));
        }
        words.extend(self.scale.map(|scale| format!("scale {scale}")));
        words.extend(self.softcap.map(|cap| format!("softcap {cap}")));
        if self.bias != Bias::Nothing {
            words.push(format!("bias {:?}", self.bias).to_lowercase());
        }
        if self.shard != Shard::Whole {
            words.push(format!("{:?}", self.shard).to_lowercase());
        }
        if self.numbers != Numbers::Normal {
            words.push(format!("{:?}", self.numbers).to_lowercase());
        }
        if self.parts > 1 {
            words.push(format!("{} parts", self.parts));
        }
        words.extend(self.splits.map(|splits| format!("{splits} splits")));
        let flags = [
            (self.layout == Layout::Bhsd, "BHSD"),
            (self.alibi, "alibi"),
            (self.sink, "sink"),
            (self.dlse, "dlse"),
            (self.poison, "poison"),
            (self.narrow, "narrow"),
            (self.one_buffer, "one buffer"),
        ];
        words.extend(flags.into_iter().filter(|(set, _)| *set).map(|(_, word)| word.to_owned()));
        format!("{} seed {}", words.join(" "), self.seed)
    }
}

fn random_mask(keys: usize, random: &mut Random) -> Mask {
    use crate::attention::Alignment::{BottomRight, TopLeft};
    let mask = match random.chance(0.5) {
        true => Mask::causal(),
        false => Mask::default(),
    };
    let mut side = || random.chance(0.6).then(|| random.below(keys.max(2)));
    let sides = (side(), side());
    let mask = mask.with_alignment(random.pick(&[BottomRight, BottomRight, TopLeft]));
    if random.chance(0.35) { mask.with_window(sides.0, sides.1) } else { mask }
}

/// The largest errors of the tensors of a call, in the Euclidean norm; of lse, of each number.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Tolerances {
    pub out: f64,
    pub gradients: f64,
    /// Times 1 + |lse|.
    pub lse: f64,
}

/// Draws the tensors of a case.
struct Draw<'a> {
    case: &'a Case,
    random: Random,
    named: Named<Cpu>,
}

impl Draw<'_> {
    fn all<T: Float>(&mut self) -> Result<()> {
        let Sizes { batch, heads, kv_heads, queries, keys, width, value_width } = self.case.sizes;
        self.bounds()?;
        let seen = self.seen()?;
        let (all_queries, all_keys) = (|i: usize| seen.queries[i], |j: usize| seen.keys[j]);
        self.activation::<T>("q", [batch, heads, queries, width], all_queries)?;
        self.activation::<T>("k", [batch, kv_heads, keys, width], all_keys)?;
        self.activation::<T>("v", [batch, kv_heads, keys, value_width], all_keys)?;
        self.activation::<T>("dout", [batch, heads, queries, value_width], all_queries)?;
        self.bias::<T>()?;
        if self.case.sink {
            self.parameter::<T>("sink", &[heads], |random, _| random.normal())?;
        }
        if self.case.alibi {
            let slope = |_: &mut Random, i| (-8.0 * (i % heads + 1) as f64 / heads as f64).exp2();
            match self.case.shard {
                Shard::Packed => self.parameter::<T>("alibi_slopes", &[SEQUENCES, heads], slope)?,
                _ => self.parameter::<T>("alibi_slopes", &[heads], slope)?,
            }
        }
        if self.case.dlse {
            let shape = [batch, heads, queries];
            let shape = if self.case.shard == Shard::Packed { &shape[1..] } else { &shape };
            self.parameter::<T>("dlse", shape, |random, _| random.normal())?;
        }
        Ok(())
    }

    /// Where packed sequences begin.
    fn bounds(&mut self) -> Result<()> {
        if self.case.shard != Shard::Packed {
            return Ok(());
        }
        let Sizes { queries, keys, .. } = self.case.sizes;
        for (name, tokens) in [("cu_seqlens_q", queries), ("cu_seqlens_k", keys)] {
            let bounds: Vec<i32> = self
                .random
                .cu_seqlens(SEQUENCES, tokens)
                .into_iter()
                .map(|bound| bound as i32)
                .collect();
            self.named
                .insert(name.to_owned(), Tensor::from_vec(bounds, &[SEQUENCES + 1])?.into_view());
        }
        Ok(())
    }

    /// Which queries see a key, and which keys are seen by a query, or lie between such.
    fn seen(&self) -> Result<Seen> {
        let Sizes { queries, keys, .. } = self.case.sizes;
        let mut seen = Seen { queries: vec![false; queries], keys: vec![false; keys] };
        let mut mark = |sight: Sight, [first_query, first_key]: [usize; 2]| {
            for i in 0..sight.queries.len() {
                let of_query = sight.keys_of(i);
                seen.queries[first_query + i] = !of_query.is_empty();
            }
            let of_any = sight.keys_of_any(0..sight.queries.len());
            seen.keys[first_key + of_any.start..first_key + of_any.end].fill(true);
        };
        let mask = &self.case.mask;
        match (self.named.get("cu_seqlens_q"), self.named.get("cu_seqlens_k")) {
            (Some(of_queries), Some(of_keys)) => {
                let (of_queries, of_keys) = (of_queries.to_i64()?, of_keys.to_i64()?);
                for (queries, keys) in of_queries.windows(2).zip(of_keys.windows(2)) {
                    let whole = |pair: &[i64]| Positions::whole((pair[1] - pair[0]) as usize);
                    let sight = Sight::new(mask, whole(queries), whole(keys));
                    mark(sight, [queries[0] as usize, keys[0] as usize]);
                }
            }
            _ => {
                let problem = self.case.problem(DType::F32)?;
                let sight = Sight::new(mask, problem.query_positions, problem.key_positions);
                mark(sight, [0, 0]);
            }
        }
        Ok(seen)
    }

    /// Normal numbers, and NaN in tokens that have nothing to do with others.
    fn activation<T: Float>(
        &mut self,
        name: &str,
        [batch, heads, tokens, width]: [usize; 4],
        is_seen: impl Fn(usize) -> bool,
    ) -> Result<()> {
        let case = self.case;
        let alike = name == "k" && case.numbers == Numbers::Alike;
        let line: Vec<f64> = (0..width).map(|_| self.random.normal()).collect();
        let mut values = Vec::with_capacity(batch * heads * tokens * width);
        for i in 0..batch * heads * tokens {
            let poisoned = case.poison && !is_seen(i % tokens.max(1));
            for drawn in &line {
                let mut value = if alike { *drawn } else { self.random.normal() };
                if case.numbers == Numbers::Outliers && self.random.chance(0.001) {
                    value += 10.0 * self.random.normal();
                }
                values.push(T::from_f64(if poisoned { f64::NAN } else { value }));
            }
        }
        let tensor = Tensor::from_vec(values, &[batch, heads, tokens, width])?;
        let tensor = match case.layout {
            Layout::Bhsd => tensor,
            Layout::Bshd => {
                let turned = tensor.transposed(1, 2)?;
                Tensor::from_vec(turned.to_vec()?, turned.shape())?
            }
        };
        let tensor = match case.shard {
            Shard::Packed => Tensor::from_vec(tensor.to_vec()?, &tensor.shape()[1..])?,
            _ => tensor,
        };
        self.named.insert(name.to_owned(), tensor.into_view());
        Ok(())
    }

    fn bias<T: Float>(&mut self) -> Result<()> {
        let Sizes { batch, heads, queries, keys, .. } = self.case.sizes;
        let [batch, heads] = match self.case.bias {
            Bias::Nothing => return Ok(()),
            Bias::Full => [batch, heads],
            Bias::OfBatch => [batch, 1],
            Bias::OfHead => [1, heads],
            Bias::OfAll | Bias::Masks => [1, 1],
        };
        let masks = self.case.bias == Bias::Masks;
        let row = 5 * keys.max(1);
        self.parameter::<T>("bias", &[batch, heads, queries, keys], |random, i| {
            // Every fifth query sees nothing.
            let masked = masks && (random.chance(0.2) || i % row < keys);
            if masked { f64::NEG_INFINITY } else { random.normal() }
        })
    }

    fn parameter<T: Float>(
        &mut self,
        name: &str,
        shape: &[usize],
        value: impl Fn(&mut Random, usize) -> f64,
    ) -> Result<()> {
        match self.case.narrow {
            true => self.values::<T>(name, shape, value),
            false => self.values::<T::State>(name, shape, value),
        }
    }

    fn values<E: Float>(
        &mut self,
        name: &str,
        shape: &[usize],
        value: impl Fn(&mut Random, usize) -> f64,
    ) -> Result<()> {
        let count: usize = shape.iter().product();
        let values: Vec<E> = (0..count).map(|i| E::from_f64(value(&mut self.random, i))).collect();
        self.named.insert(name.to_owned(), Tensor::from_vec(values, shape)?.into_view());
        Ok(())
    }
}

/// Which tokens have to do with others.
struct Seen {
    queries: Vec<bool>,
    keys: Vec<bool>,
}
