//! Cases: a matrix drawn at random, and how it is multiplied.

use std::fmt::Write;

use crate::Result;
use crate::backend::Cpu;
use crate::element::DType;
use crate::group_sparse::random::Like;
use crate::group_sparse::{Floats, Format, Matrix, Mode, Options, Pattern, ScaleScope, Scheme};
use crate::tensor::View;
use crate::verify::Random;

/// Which groups rows keep, where that is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Any number of them.
    Any,
    /// None.
    Empty,
    /// The last row has all, the others none.
    Last,
    /// So many of all rows' groups in the whole matrix, in rows at random.
    Kept(usize),
}

/// A matrix and a product with it.
#[derive(Clone, Debug)]
pub struct Case {
    /// The sides, the grouping and the coding.
    pub format: Format,
    /// Which groups rows keep, with the pattern `Free`.
    pub rows: Rows,
    /// The type of scales and offsets.
    pub scales: DType,
    /// The type of outliers, and the share of the elements that are some.
    pub outliers: Option<(DType, f64)>,
    /// Whether columns change places.
    pub permuted: bool,
    /// M.
    pub vectors: usize,
    /// The type of y.
    pub y: DType,
    /// The type of the bias, where there is one.
    pub bias: Option<DType>,
    /// The scheme that is forced.
    pub scheme: Option<Scheme>,
    /// The number of workers that is forced.
    pub workers: Option<usize>,
    /// Whether x, bias and y lie in one buffer, with gaps between their lines.
    pub one_buffer: bool,
    /// The beginning of the random numbers.
    pub seed: u64,
}

/// The types of activations, scales and outliers.
pub(super) const TYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

impl Case {
    /// One vector, with scales and results in f32.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            rows: Rows::Any,
            scales: DType::F32,
            outliers: None,
            permuted: false,
            vectors: 1,
            y: DType::F32,
            bias: None,
            scheme: None,
            workers: None,
            one_buffer: false,
            seed: 1,
        }
    }

    /// One of this grouping and coding, all else at random.
    pub fn random(
        bits: u32,
        group: usize,
        mode: Mode,
        largest: usize,
        random: &mut Random,
    ) -> Self {
        let groups = 1 + random.below(largest / group + 3);
        let columns = match random.below(3) {
            0 => groups * group,
            1 => (groups - 1) * group + 1,
            _ => groups * group - 1,
        };
        let pattern = match random.below(4) {
            0 => Pattern::Dense,
            1 => Pattern::Uniform(1 + random.below(groups)),
            _ => Pattern::Free,
        };
        let scope = random.pick(&[ScaleScope::Group, ScaleScope::Group, ScaleScope::Row]);
        let rows = 1 + random.below(70);
        let format = Format { rows, columns, group, bits, mode, pattern, scope };
        Self {
            rows: random.pick(&[Rows::Any, Rows::Any, Rows::Any, Rows::Last]),
            scales: random.pick(&TYPES),
            outliers: random.chance(0.3).then(|| (random.pick(&TYPES), 0.03)),
            permuted: random.chance(0.2),
            vectors: random.pick(&[1, 1, 1, 2, 3, 4, 7, 16, 17]),
            y: random.pick(&TYPES),
            bias: random.chance(0.5).then(|| random.pick(&TYPES)),
            scheme: random.chance(0.5).then(|| random.pick(&Scheme::ALL)),
            workers: random.chance(0.5).then(|| 1 + random.below(40)),
            one_buffer: random.chance(0.5),
            seed: random.below(1 << 30) as u64,
            ..Self::new(format)
        }
    }

    /// The options of the product.
    pub fn options(&self) -> Options {
        Options { scheme: self.scheme, workers: self.workers, ..Options::default() }
    }

    /// The case in a line.
    pub fn describe(&self) -> String {
        let Format { rows, columns, group, bits, mode, pattern, scope } = self.format;
        let mut line = format!("M={} N={rows} K={columns} G={group} b={bits}", self.vectors);
        let _ = write!(line, " {mode} {pattern} {:?} scales {} by {scope}", self.rows, self.scales);
        let mut say = |what: &str, said: Option<String>| {
            if let Some(said) = said {
                let _ = write!(line, " {what}{said}");
            }
        };
        say("outliers ", self.outliers.map(|(dtype, _)| dtype.to_string()));
        say("bias ", self.bias.map(|dtype| dtype.to_string()));
        say("", self.permuted.then(|| "permuted".to_owned()));
        say("", self.scheme.map(|scheme| scheme.to_string()));
        say("workers ", self.workers.map(|workers| workers.to_string()));
        say("", self.one_buffer.then(|| "one buffer".to_owned()));
        line + &format!(" y {} seed {}", self.y, self.seed)
    }

    /// How many groups each row keeps.
    fn kept(&self, random: &mut Random) -> Vec<usize> {
        let (rows, groups) = (self.format.rows, self.format.column_groups());
        let mut kept = match (self.format.pattern, self.rows) {
            (Pattern::Dense, _) => vec![groups; rows],
            (Pattern::Uniform(count), _) => vec![count; rows],
            (Pattern::Free, Rows::Any) => (0..rows)
                .map(|_| if random.chance(0.2) { 0 } else { random.below(groups + 1) })
                .collect(),
            (Pattern::Free, Rows::Kept(count)) => {
                let even = |row: usize| (row + 1) * count / rows - row * count / rows;
                (0..rows).map(|row| even(row).min(groups)).collect()
            }
            (Pattern::Free, Rows::Empty | Rows::Last) => vec![0; rows],
        };
        if self.format.pattern == Pattern::Free && self.rows == Rows::Last {
            kept[rows - 1] = groups;
        }
        kept
    }

    /// The matrix.
    ///
    /// # Errors
    ///
    /// Where the format makes no sense.
    pub fn matrix(&self, random: &mut Random) -> Result<Matrix> {
        let like = Like {
            format: self.format,
            kept: self.kept(random),
            scales: self.scales,
            outliers: self.outliers,
            is_permuted: self.permuted,
        };
        like.matrix(random.rng())
    }

    /// Normal numbers of a type; of x every hundredth is 100 times as large.
    pub(super) fn numbers(
        dtype: DType,
        shape: &[usize],
        heavy: bool,
        random: &mut Random,
    ) -> Result<View<Cpu>> {
        let count = shape.iter().product::<usize>();
        let number = |i: usize| {
            let size = if heavy && i % 100 == 7 { 100.0 } else { 1.0 };
            (size * random.normal()) as f32
        };
        let numbers: Vec<f32> = (0..count).map(number).collect();
        View::from_bytes(&Cpu, dtype, Floats::rounded(dtype, &numbers).as_bytes(), shape)
    }
}
