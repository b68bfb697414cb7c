//! A product to be checked, and its matrices.

use super::generate::{Family, with_values};
use crate::Result;
use crate::backend::Cpu;
use crate::sparse::{Csr, Value};
use crate::spgemm::{Matrices, Options, Semiring};
use crate::verify::Random;

/// What the values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Values {
    /// Normal; integers up to 100 in magnitude; an eighth zeros.
    Plain,
    /// None: patterns.
    Pattern,
    /// Small whole numbers of both signs, so that sums cancel to zero.
    Cancelling,
    /// NaN, both infinities, both zeros, the smallest and largest numbers.
    Hostile,
    /// The largest numbers, so that integers wrap or saturate.
    Large,
}

/// Where entries lie.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Places {
    /// Drawn, with about so many in a row.
    Drawn(f64),
    /// Everywhere.
    Full,
    /// On the diagonal.
    Diagonal,
    /// On the diagonal and right of it.
    Upper,
    /// In the first row, the first column and the diagonal.
    Arrow,
    /// In one row.
    OneRow,
    /// In one column.
    OneColumn,
    /// One in each row, each in another column.
    Permutation,
    /// Nowhere.
    Nowhere,
    /// In columns that are multiples of a large power of two.
    Strided,
}

/// A product to be checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// m, k, n.
    pub sizes: [usize; 3],
    /// Where entries of A and of B lie.
    pub places: [Places; 2],
    /// What values are.
    pub values: Values,
    /// Whether A's and B's rows are in disorder, with columns that repeat.
    pub disorder: [bool; 2],
    /// What sum and product mean.
    pub semiring: Semiring,
    /// α.
    pub alpha: f64,
    /// β, with a C0.
    pub beta: Option<f64>,
    /// Whether C0 holds NaNs.
    pub poisoned: bool,
    /// Whether there is a mask, and whether it is complemented.
    pub mask: Option<bool>,
    /// Whether C0 is subject to the mask.
    pub replace: bool,
    /// Whether bits are asked for.
    pub deterministic: bool,
    /// The seed of places and values.
    pub seed: u64,
}

impl Case {
    /// A plain product of drawn matrices.
    pub fn drawn(sizes: [usize; 3], per_row: f64) -> Self {
        Self {
            sizes,
            places: [Places::Drawn(per_row); 2],
            values: Values::Plain,
            disorder: [false; 2],
            semiring: Semiring::PlusTimes,
            alpha: 1.0,
            beta: None,
            poisoned: false,
            mask: None,
            replace: false,
            deterministic: false,
            seed: 1,
        }
    }

    /// A case with everything drawn.
    pub fn random(random: &mut Random) -> Self {
        let side = |random: &mut Random| random.pick(&[0, 1, 2, 3, 17, 31, 64, 100, 200]);
        let sizes = [side(random), side(random), side(random)];
        let places = |random: &mut Random| {
            let per_row = random.pick(&[0.3, 1.0, 4.0, 20.0]);
            random.pick(&[
                Places::Drawn(per_row),
                Places::Drawn(per_row),
                Places::Drawn(per_row),
                Places::Full,
                Places::Arrow,
                Places::Diagonal,
            ])
        };
        let semiring = random.pick(&Semiring::ALL);
        let plus_times = semiring == Semiring::PlusTimes;
        let beta = (plus_times && random.chance(0.3)).then(|| random.pick(&[1.0, 0.0, 2.0]));
        let mask = random.chance(0.5).then(|| random.chance(0.5));
        Self {
            sizes,
            places: [places(random), places(random)],
            values: random.pick(&[
                Values::Plain,
                Values::Plain,
                Values::Pattern,
                Values::Cancelling,
            ]),
            disorder: [random.chance(0.3), random.chance(0.3)],
            semiring,
            alpha: if plus_times { random.pick(&[1.0, 1.0, 3.0, 0.0]) } else { 1.0 },
            beta,
            poisoned: false,
            mask,
            replace: mask.is_some() && random.chance(0.3),
            deterministic: random.chance(0.5),
            seed: random.below(1 << 30) as u64,
        }
    }

    /// The options of the call.
    pub fn options(&self) -> Options {
        let mut options = Options::default()
            .with_semiring(self.semiring)
            .with_alpha(self.alpha)
            .with_complement(self.mask == Some(true))
            .with_replace(self.replace)
            .with_deterministic(self.deterministic);
        options.beta = self.beta;
        options
    }

    /// A, B, C0 and mask.
    ///
    /// # Errors
    ///
    /// [`Error::Sparse`](crate::Error::Sparse) where a side is too long.
    pub fn matrices<T: Value>(&self) -> Result<Matrices<Cpu, T>> {
        let [m, k, n] = self.sizes;
        let mut random = Random::new(self.seed);
        let a = self.matrix([m, k], self.places[0], self.disorder[0], &mut random)?;
        let b = self.matrix([k, n], self.places[1], self.disorder[1], &mut random)?;
        let about = Places::Drawn(6.0);
        let c0 = self.beta.map(|_| self.matrix([m, n], about, false, &mut random)).transpose()?;
        let c0 = match c0 {
            Some(c0) if self.poisoned => Some(poison(&c0)?),
            c0 => c0,
        };
        let mask = self.mask.map(|_| self.matrix([m, n], about, self.disorder[0], &mut random));
        Ok(Matrices { a, b, c0, mask: mask.transpose()? })
    }

    fn matrix<T: Value>(
        &self,
        shape: [usize; 2],
        places: Places,
        disorder: bool,
        random: &mut Random,
    ) -> Result<Csr<Cpu, T>> {
        let pattern = pattern(shape, places, disorder, random)?;
        if self.values == Values::Pattern {
            return Ok(pattern.to_pattern());
        }
        let values = (0..pattern.nnz()).map(|_| draw(self.values, random)).collect();
        let (row_ptr, col, _) = pattern.into_arrays()?;
        Csr::new(shape, row_ptr, col, values)
    }

    /// The case in a line.
    pub fn describe(&self) -> String {
        let [m, k, n] = self.sizes;
        let mut line = format!(
            "{m}x{k} {:?} * {k}x{n} {:?}, {:?} values, {}",
            self.places[0], self.places[1], self.values, self.semiring
        );
        let mut add = |part: String| line += &format!(" {part}");
        if self.disorder != [false; 2] {
            add(format!("disorder {:?}", self.disorder));
        }
        if self.alpha != 1.0 {
            add(format!("alpha={}", self.alpha));
        }
        if let Some(beta) = self.beta {
            add(format!("beta={beta}"));
        }
        match self.mask {
            Some(true) => add("complement of a mask".to_owned()),
            Some(false) => add("mask".to_owned()),
            None => {}
        }
        for (name, on) in [("replace", self.replace), ("deterministic", self.deterministic)] {
            if on {
                add(name.to_owned());
            }
        }
        line + &format!(" seed {}", self.seed)
    }
}

/// The same matrix with every value NaN, where there is such a value.
fn poison<T: Value>(matrix: &Csr<Cpu, T>) -> Result<Csr<Cpu, T>> {
    let pattern = matrix.to_pattern::<u32>();
    with_values(&pattern, |_, _| T::from_f64(f64::NAN))
}

fn pattern(
    shape @ [rows, cols]: [usize; 2],
    places: Places,
    disorder: bool,
    random: &mut Random,
) -> Result<Csr<Cpu, u32>> {
    if let (Places::Arrow, true) = (places, rows == cols) {
        return Family::Arrow { side: rows }.pattern(0);
    }
    let permutation = match places {
        Places::Permutation => permutation(cols, random),
        _ => Vec::new(),
    };
    let (mut row_ptr, mut col) = (vec![0], Vec::new());
    for row in 0..rows {
        let start = col.len();
        match places {
            _ if cols == 0 => {}
            Places::Drawn(per_row) => {
                let count = (2.0 * per_row * random.uniform(0.0, 1.0)).round() as usize;
                col.extend((0..count).map(|_| random.below(cols) as u32));
            }
            Places::Full => col.extend(0..cols as u32),
            Places::Upper => col.extend(row.min(cols) as u32..cols as u32),
            Places::Diagonal | Places::Arrow => col.extend((row < cols).then_some(row as u32)),
            Places::OneRow if row == rows / 2 => col.extend(0..cols as u32),
            Places::OneColumn => col.push(cols as u32 / 2),
            Places::Permutation => col.push(permutation[row % cols]),
            Places::Strided => {
                let step = (cols / 64).next_power_of_two();
                let count = random.below(40);
                col.extend((0..count).map(|_| (random.below(64) * step % cols) as u32));
            }
            Places::OneRow | Places::Nowhere => {}
        }
        if !disorder {
            col[start..].sort_unstable();
            let kept = dedup(&mut col[start..]);
            col.truncate(start + kept);
        }
        row_ptr.push(col.len() as u32);
    }
    Csr::pattern(shape, row_ptr, col)
}

fn permutation(length: usize, random: &mut Random) -> Vec<u32> {
    let mut permutation: Vec<u32> = (0..length as u32).collect();
    for i in (1..length).rev() {
        permutation.swap(i, random.below(i + 1));
    }
    permutation
}

/// Moves the first of equal neighbours to the front, and tells how many there are.
fn dedup(columns: &mut [u32]) -> usize {
    let mut kept = 0;
    for i in 0..columns.len() {
        if kept == 0 || columns[kept - 1] != columns[i] {
            columns[kept] = columns[i];
            kept += 1;
        }
    }
    kept
}

fn draw<T: Value>(values: Values, random: &mut Random) -> T {
    let float = T::DTYPE.is_float();
    match values {
        Values::Plain if random.chance(0.125) => T::ZERO,
        Values::Plain if float => T::from_f64(random.normal()),
        Values::Plain => T::from_f64(random.uniform(-100.0, 100.0)),
        Values::Pattern => T::ONE,
        Values::Cancelling => T::from_f64(random.pick(&[-2.0, -1.0, 0.0, 1.0, 2.0])),
        Values::Hostile => T::from_f64(random.pick(&[
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            0.0,
            -0.0,
            1e-45,
            3e38,
            1.0,
        ])),
        Values::Large if float => T::from_f64(random.uniform(-1e18, 1e18)),
        Values::Large => T::from_f64(random.pick(&[-2147483648.0, 2147483647.0, 65_537.0])),
    }
}
