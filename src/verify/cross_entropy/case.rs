//! A case of cross entropy: sizes and forms, from which its tensors follow.

use std::ops::Range;

use crate::Result;
use crate::backend::{Cpu, Named};
use crate::cross_entropy::{Options, Problem, Reduction};
use crate::element::{DType, Element, Float};
use crate::tensor::Tensor;
use crate::verify::Random;

/// T, V and E.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// T.
    pub tokens: usize,
    /// V, of all ranks.
    pub vocabulary: usize,
    /// E; none where the logits are given.
    pub width: Option<usize>,
}

/// What numbers are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Numbers {
    Normal,
    /// Every thousandth logit is drawn ten times as large, besides.
    Outliers,
    /// Logits that are all alike, and far from 0.
    Alike,
}

/// What targets are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Targets {
    /// Columns.
    Columns,
    /// Every third one is ignored, by its value or because it is no column.
    SomeIgnored,
    /// All are ignored.
    AllIgnored,
    /// Numbers that lie outside every vocabulary, the smallest and the largest among them.
    Hostile,
}

/// One case: sizes and forms. Its tensors follow from the seed.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Case {
    pub sizes: Sizes,
    /// Ranks that the vocabulary is cut among.
    pub shards: usize,
    /// The first rank and the last one have no column, unless there is no other.
    pub empty_shards: bool,
    pub label_smoothing: f32,
    pub z_loss: f32,
    pub softcap: Option<f32>,
    pub reduction: Reduction,
    pub numbers: Numbers,
    pub targets: Targets,
    /// The type of targets.
    pub index: DType,
    /// The gradient of the loss is given in the logits' type.
    pub narrow: bool,
    /// All tensors lie in one buffer, at odd places, with guards between.
    pub one_buffer: bool,
    pub seed: u64,
}

/// What the cases ignore.
const IGNORED: i64 = 3;

impl Case {
    /// A case with given logits.
    pub fn given(tokens: usize, vocabulary: usize) -> Self {
        Self::new(Sizes { tokens, vocabulary, width: None })
    }

    /// A case of a linear layer.
    pub fn linear(tokens: usize, vocabulary: usize, width: usize) -> Self {
        Self::new(Sizes { tokens, vocabulary, width: Some(width) })
    }

    /// A case of these sizes.
    pub fn new(sizes: Sizes) -> Self {
        Self {
            sizes,
            shards: 1,
            empty_shards: false,
            label_smoothing: 0.0,
            z_loss: 0.0,
            softcap: None,
            reduction: Reduction::Mean,
            numbers: Numbers::Normal,
            targets: Targets::SomeIgnored,
            index: DType::I64,
            narrow: false,
            one_buffer: false,
            seed: 1,
        }
    }

    /// A case whose forms are drawn at random, at these sizes.
    pub fn random(sizes: Sizes, random: &mut Random) -> Self {
        let shards = random.pick(&[1, 1, 2, 3, 5]);
        Self {
            shards,
            empty_shards: random.chance(0.3),
            label_smoothing: random.pick(&[0.0, 0.1, 1.0]),
            z_loss: random.pick(&[0.0, 1e-4, 0.1]),
            softcap: random.pick(&[None, None, Some(2.0), Some(30.0)]),
            reduction: random.pick(&[Reduction::Mean, Reduction::Sum, Reduction::None]),
            numbers: random.pick(&[Numbers::Normal, Numbers::Normal, Numbers::Outliers]),
            targets: random.pick(&[Targets::Columns, Targets::SomeIgnored]),
            index: random.pick(&[DType::I32, DType::I64, DType::U32, DType::U64]),
            narrow: random.chance(0.3),
            one_buffer: shards == 1 && random.chance(0.3),
            seed: random.below(1 << 30) as u64,
            ..Self::new(sizes)
        }
    }

    /// The options of the call.
    pub fn options(&self) -> Options {
        let mut options = Options::default()
            .with_label_smoothing(self.label_smoothing)
            .with_z_loss(self.z_loss)
            .with_reduction(self.reduction)
            .with_ignore_index(IGNORED);
        options.softcap = self.softcap;
        options
    }

    /// The columns of each rank.
    pub fn bounds(&self) -> Vec<Range<usize>> {
        let (shards, vocabulary) = (self.shards, self.sizes.vocabulary);
        let outer = usize::from(self.empty_shards && shards > 2);
        let inner = shards - 2 * outer;
        let bound = |rank: usize| rank.saturating_sub(outer).min(inner) * vocabulary / inner;
        (0..shards).map(|rank| bound(rank)..bound(rank + 1)).collect()
    }

    /// The tensors of the call, with elements of type `T`, on the CPU, and the gradient of the loss.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn tensors<T: Float>(&self) -> Result<Named<Cpu>> {
        let mut random = Random::new(self.seed);
        let Sizes { tokens, vocabulary, width } = self.sizes;
        let mut named = Named::new();
        let mut insert = |name: &str, view| drop(named.insert(name.to_owned(), view));
        match width {
            None => {
                let logit = |_| match self.numbers {
                    Numbers::Alike => 50.0,
                    Numbers::Outliers if random.chance(1e-3) => 10.0 * random.normal(),
                    _ => random.normal(),
                };
                insert(
                    "logits",
                    floats::<T>((0..tokens * vocabulary).map(logit), &[tokens, vocabulary])?,
                );
            }
            Some(width) => {
                let scale = 1.0 / (width.max(1) as f64).sqrt();
                let x: Vec<f64> = (0..tokens * width).map(|_| random.normal()).collect();
                insert("x", floats::<T>(x.into_iter(), &[tokens, width])?);
                let weight: Vec<f64> =
                    (0..vocabulary * width).map(|_| scale * random.normal()).collect();
                insert("weight", floats::<T>(weight.into_iter(), &[vocabulary, width])?);
            }
        }
        let targets: Vec<i64> = (0..tokens).map(|token| self.target(token, &mut random)).collect();
        insert("target", self.indices(&targets)?);
        let losses = if self.reduction == Reduction::None { tokens } else { 1 };
        let dloss: Vec<f64> = (0..losses).map(|_| random.normal()).collect();
        insert(
            "dloss",
            match self.narrow {
                true => floats::<T>(dloss.into_iter(), &[losses])?,
                false => floats::<T::State>(dloss.into_iter(), &[losses])?,
            },
        );
        Ok(named)
    }

    fn target(&self, token: usize, random: &mut Random) -> i64 {
        let column = random.below(self.sizes.vocabulary) as i64;
        match self.targets {
            Targets::Columns => column,
            Targets::AllIgnored => IGNORED,
            Targets::SomeIgnored => match token % 6 {
                1 => IGNORED,
                4 => self.sizes.vocabulary as i64,
                _ => column,
            },
            Targets::Hostile => match token % 5 {
                0 => i64::MIN,
                1 => i64::MAX,
                2 => -1,
                // The low half of it is a column.
                3 => 1 << 32,
                _ => column,
            },
        }
    }

    /// Indices in the case's type, whose bits are kept where they do not fit.
    fn indices(&self, values: &[i64]) -> Result<crate::tensor::View<Cpu>> {
        fn tensor<I: Element>(values: Vec<I>) -> Result<crate::tensor::View<Cpu>> {
            let shape = [values.len()];
            Ok(Tensor::from_vec(values, &shape)?.into_view())
        }
        let values = values.iter();
        match self.index {
            DType::I32 => tensor(values.map(|&x| x as i32).collect()),
            DType::U32 => tensor(values.map(|&x| x as u32).collect()),
            DType::U64 => tensor(values.map(|&x| x as u64).collect()),
            _ => tensor(values.copied().collect::<Vec<i64>>()),
        }
    }

    /// The largest errors that the arithmetic allows: section 11.2 of the specification, which with a
    /// softcap allows twice as much.
    pub fn tolerances(&self, dtype: DType) -> Tolerances {
        let factor = if self.softcap.is_some() { 2.0 } else { 1.0 };
        let [lse, gradients] = match dtype {
            DType::BF16 => [2e-5, 6e-3],
            DType::F16 => [2e-5, 8e-4],
            _ => [2e-6, 4e-6],
        };
        Tolerances { lse: factor * lse, gradients: factor * gradients }
    }

    /// The call of a rank that has all columns, as plans see it.
    ///
    /// # Errors
    ///
    /// Sizes that make no sense.
    pub fn problem(&self, dtype: DType) -> Result<Problem> {
        let Sizes { tokens, vocabulary, width } = self.sizes;
        let problem = Problem::new(dtype, [tokens, vocabulary, 0], &self.options())?;
        Ok(Problem { width, ..problem })
    }

    /// The case in a line.
    pub fn describe(&self) -> String {
        let Sizes { tokens, vocabulary, width } = self.sizes;
        let mut words = vec![format!("T={tokens} V={vocabulary}")];
        words.extend(width.map(|width| format!("E={width}")));
        if self.shards > 1 {
            words.push(format!("{} shards", self.shards));
        }
        if self.label_smoothing > 0.0 {
            words.push(format!("smoothing {}", self.label_smoothing));
        }
        if self.z_loss > 0.0 {
            words.push(format!("z-loss {}", self.z_loss));
        }
        words.extend(self.softcap.map(|cap| format!("softcap {cap}")));
        words.push(format!("{} {} {:?}", self.reduction, self.index, self.targets));
        if self.numbers != Numbers::Normal {
            words.push(format!("{:?}", self.numbers));
        }
        let flags = [
            (self.empty_shards && self.shards > 2, "empty"),
            (self.narrow, "narrow"),
            (self.one_buffer, "one buffer"),
        ];
        words.extend(flags.into_iter().filter(|(set, _)| *set).map(|(_, word)| word.to_owned()));
        format!("{} seed {}", words.join(" "), self.seed)
    }
}

/// The largest errors of the tensors of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerances {
    /// Of lse over 1 + |lse|, and half of that of the loss over 1 and the magnitudes of its terms.
    pub lse: f64,
    /// Of gradients, in the norm.
    pub gradients: f64,
}

fn floats<E: Float>(
    values: impl Iterator<Item = f64>,
    shape: &[usize],
) -> Result<crate::tensor::View<Cpu>> {
    Ok(Tensor::from_vec(values.map(E::from_f64).collect(), shape)?.into_view())
}
