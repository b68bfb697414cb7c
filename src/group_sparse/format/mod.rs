//! A compressed matrix as it is stored: which groups of a row are kept, their codes, and how codes
//! become numbers.

use std::fmt;
use std::ops::Range;

use crate::{Error, Result};

mod check;
mod codes;
mod floats;

pub use floats::Floats;

pub(crate) use check::Names;
pub(crate) use codes::{code, set_code};

use super::NAME;

/// The sides, the grouping and the coding of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// N, outputs.
    pub rows: usize,
    /// K, inputs.
    pub columns: usize,
    /// G, the columns of a group: 8, 16, 32, 64 or 128.
    pub group: usize,
    /// b, the bits of a code: 2, 3, 4 or 8.
    pub bits: u32,
    /// How a code becomes a number.
    pub mode: Mode,
    /// Which groups are kept.
    pub pattern: Pattern,
    /// What has a scale of its own.
    pub scope: ScaleScope,
}

/// How a code q becomes a number, with the scale s of its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// s (q - 2^(b-1)).
    #[default]
    Sym,
    /// s (q - z), with an integer z of the group.
    Asym,
    /// s q + m, with an offset m of the group.
    Affine,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sym, Self::Asym, Self::Affine];

    /// As files name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sym => "sym",
            Self::Asym => "asym",
            Self::Affine => "affine",
        }
    }
}

/// Which groups are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// Any groups of any row.
    #[default]
    Free,
    /// So many groups of every row.
    Uniform(usize),
    /// All groups.
    Dense,
}

impl Pattern {
    /// As files name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Uniform(_) => "uniform",
            Self::Dense => "dense",
        }
    }
}

/// What has a scale, and a zero or an offset, of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ScaleScope {
    /// Each kept group.
    #[default]
    Group,
    /// Each row.
    Row,
}

impl ScaleScope {
    /// As files name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Row => "row",
        }
    }
}

macro_rules! shown_by_name {
    ($($type:ty),*) => {
        $(impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        })*
    };
}

shown_by_name!(Mode, Pattern, ScaleScope);

/// Lengths of groups that there are.
pub const GROUPS: [usize; 5] = [8, 16, 32, 64, 128];

/// Widths of codes that there are.
pub const BITS: [u32; 4] = [2, 3, 4, 8];

impl Format {
    /// Groups of a row, kept or not; the last one may be partial.
    pub const fn column_groups(&self) -> usize {
        self.columns.div_ceil(self.group)
    }

    /// Bytes of a group's codes.
    pub const fn group_bytes(&self) -> usize {
        self.group * self.bits as usize / 8
    }

    /// 2^(b-1), the zero of `sym`.
    pub const fn middle(&self) -> u8 {
        1 << (self.bits - 1)
    }

    /// 2^b - 1, the largest code.
    pub const fn largest_code(&self) -> u8 {
        ((1u32 << self.bits) - 1) as u8
    }

    /// The code that stands for no number, where the group has this zero.
    pub fn zero_code(&self, zero: u8) -> u8 {
        match self.mode {
            Mode::Sym => self.middle(),
            Mode::Asym => zero.min(self.largest_code()),
            Mode::Affine => 0,
        }
    }

    /// Scales of a matrix with so many kept groups.
    pub const fn scale_count(&self, kept: usize) -> usize {
        match self.scope {
            ScaleScope::Group => kept,
            ScaleScope::Row => self.rows,
        }
    }

    /// The columns of a group, without those behind the last one.
    pub fn group_columns(&self, column_group: usize) -> Range<usize> {
        let first = column_group * self.group;
        first..(first + self.group).min(self.columns)
    }
}

/// The arrays of a [`Matrix`], for those who make one; [`Matrix::new`] says what must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// The sides, the grouping and the coding.
    pub format: Format,
    /// Where each row's groups begin, and where the last one's end; (N + 1). Of `Free` only.
    pub row_ptr: Vec<u32>,
    /// The column group of each kept group; (T). Not of `Dense`.
    pub col_idx: Vec<u32>,
    /// The codes, G b / 8 bytes a group; (T, G b / 8). See [`code`](Matrix::code).
    pub codes: Vec<u8>,
    /// s; (T), or (N) with a scale per row.
    pub scales: Floats,
    /// z of `Asym`; as many.
    pub zeros: Vec<u8>,
    /// m of `Affine`; as many, of the type of the scales.
    pub offsets: Option<Floats>,
    /// What is added to the decoded groups.
    pub outliers: Option<Outliers>,
    /// Stored column k multiplies x\[perm\[k\]\]; (K).
    pub perm: Option<Vec<u32>>,
}

/// A few exact elements, in compressed rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Outliers {
    /// Where each row begins, and where the last one ends; (N + 1).
    pub row_ptr: Vec<u32>,
    /// The columns, ascending in every row; (O).
    pub col: Vec<u32>,
    /// What is added there; (O).
    pub val: Floats,
}

/// A compressed matrix in memory, checked.
///
/// With n the row and k the column of element j of kept group t:
///
/// ```text
/// D[n, k] = s_t (q_tj - z_t)   or   s_t q_tj + m_t
/// ```
///
/// and +0 where no group is kept; outliers are added to that.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    parts: Parts,
    /// (N + 1), whatever the pattern.
    row_ptr: Vec<u32>,
}

impl Matrix {
    /// Takes the arrays, after a look at all of them.
    ///
    /// # Errors
    ///
    /// [`Error::Value`], [`Error::Shape`] or [`Error::Option`] with the tensor, the row, and the
    /// first place and value that break a rule: sides from 1 to 2³¹ - 1; row pointers from 0 to T that
    /// never descend; column groups that ascend in every row; finite scales, offsets and outliers;
    /// the zero code behind the last column; zeros and offsets exactly where the mode has them; a
    /// `perm` that names each column once.
    pub fn new(parts: Parts) -> Result<Self> {
        Self::named(parts, &Names::default())
    }

    /// The same, with the names that tensors have in a file.
    pub(crate) fn named(parts: Parts, names: &Names) -> Result<Self> {
        let row_ptr = check::row_ptr(&parts, names)?;
        let matrix = Self { parts, row_ptr };
        check::all(&matrix, names)?;
        Ok(matrix)
    }

    /// Takes the arrays of a source that is trusted, without a look at their values; their lengths
    /// are still compared.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where lengths do not fit one another.
    ///
    /// # Safety
    ///
    /// All that [`new`](Self::new) checks must hold: kernels read where the arrays point.
    pub unsafe fn new_trusted(parts: Parts) -> Result<Self> {
        let row_ptr = check::row_ptr(&parts, &Names::default())?;
        let matrix = Self { parts, row_ptr };
        check::lengths(&matrix, &Names::default())?;
        Ok(matrix)
    }

    /// The arrays.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The arrays, for those who take them elsewhere.
    pub fn into_parts(self) -> Parts {
        self.parts
    }

    /// The sides, the grouping and the coding.
    pub fn format(&self) -> &Format {
        &self.parts.format
    }

    /// T, kept groups.
    pub fn kept(&self) -> usize {
        self.row_ptr[self.parts.format.rows] as usize
    }

    /// 1 - T / (N ⌈K/G⌉).
    pub fn sparsity(&self) -> f64 {
        let all = self.parts.format.rows * self.parts.format.column_groups();
        1.0 - self.kept() as f64 / all as f64
    }

    /// Where each row's groups begin, and where the last one's end, whatever the pattern.
    pub fn row_ptr(&self) -> &[u32] {
        &self.row_ptr
    }

    /// The kept groups of a row.
    pub fn row(&self, row: usize) -> Range<usize> {
        self.row_ptr[row] as usize..self.row_ptr[row + 1] as usize
    }

    /// c_t, the column group of a kept group.
    pub fn column_group(&self, kept: usize) -> usize {
        match self.parts.format.pattern {
            Pattern::Dense => kept % self.parts.format.column_groups(),
            Pattern::Free | Pattern::Uniform(_) => self.parts.col_idx[kept] as usize,
        }
    }

    /// The codes of a kept group, packed.
    pub fn packed(&self, kept: usize) -> &[u8] {
        let bytes = self.parts.format.group_bytes();
        &self.parts.codes[kept * bytes..(kept + 1) * bytes]
    }

    /// q, the code of an element of a kept group.
    ///
    /// With 8 bits byte j is code j; with 4, byte i holds codes 2i and 2i + 1, low bits first; with 2,
    /// byte i holds four; with 3, the two low bits of all codes come first, as with 2 bits, then
    /// the high bits, eight to a byte.
    pub fn code(&self, kept: usize, element: usize) -> u8 {
        code(self.parts.format.bits, self.packed(kept), element)
    }

    /// How the codes of a kept group of a row become numbers.
    pub fn coding(&self, row: usize, kept: usize) -> Coding {
        let Parts { format, scales, zeros, offsets, .. } = &self.parts;
        let at = match format.scope {
            ScaleScope::Group => kept,
            ScaleScope::Row => row,
        };
        let scale = scales.get(at);
        match format.mode {
            Mode::Sym => Coding::Integer { scale, zero: format.middle() },
            Mode::Asym => Coding::Integer { scale, zero: zeros[at] },
            Mode::Affine => {
                Coding::Affine { scale, offset: offsets.as_ref().map_or(0.0, |m| m.get(at)) }
            }
        }
    }

    /// The outliers of a row: column and value.
    pub fn outliers(&self, row: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        self.parts.outliers.iter().flat_map(move |outliers| {
            let of_row = outliers.row_ptr[row] as usize..outliers.row_ptr[row + 1] as usize;
            of_row.map(|i| (outliers.col[i] as usize, outliers.val.get(i)))
        })
    }

    /// The column of x that a stored column multiplies.
    pub fn input(&self, column: usize) -> usize {
        self.parts.perm.as_ref().map_or(column, |perm| perm[column] as usize)
    }

    /// Bytes of the arrays as files hold them.
    pub fn bytes(&self) -> usize {
        let Parts { format, codes, scales, zeros, offsets, outliers, perm, .. } = &self.parts;
        let floats = |floats: &Floats| floats.len() * floats.dtype().bytes();
        let outlier = |outliers: &Outliers| {
            let wide = if format.columns > 1 << 16 { 4 } else { 2 };
            4 * outliers.row_ptr.len() + wide * outliers.col.len() + floats(&outliers.val)
        };
        self.index_bytes()
            + codes.len()
            + floats(scales)
            + zeros.len()
            + offsets.as_ref().map_or(0, floats)
            + outliers.as_ref().map_or(0, outlier)
            + perm.as_ref().map_or(0, |perm| 4 * perm.len())
    }

    /// Bytes of what says which groups are kept.
    pub fn index_bytes(&self) -> usize {
        let wide = if self.parts.format.column_groups() > 1 << 16 { 4 } else { 2 };
        4 * self.parts.row_ptr.len() + wide * self.parts.col_idx.len()
    }
}

/// How codes become numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Coding {
    /// s (q - z).
    Integer {
        /// s.
        scale: f32,
        /// z.
        zero: u8,
    },
    /// s q + m.
    Affine {
        /// s.
        scale: f32,
        /// m.
        offset: f32,
    },
}

impl Coding {
    /// The number of a code, rounded once to f32.
    pub fn decode(self, code: u8) -> f32 {
        match self {
            Self::Integer { scale, zero } => scale * (f32::from(code) - f32::from(zero)),
            Self::Affine { scale, offset } => scale.mul_add(f32::from(code), offset),
        }
    }

    /// The magnitudes that the number of a code is made of.
    pub(crate) fn magnitude(self, code: u8) -> f64 {
        match self {
            Self::Integer { scale, zero } => {
                f64::from(scale.abs()) * (f64::from(code) + f64::from(zero))
            }
            Self::Affine { scale, offset } => {
                f64::from(scale.abs()) * f64::from(code) + f64::from(offset.abs())
            }
        }
    }

    /// The number of a code, exactly.
    pub fn exact(self, code: u8) -> f64 {
        match self {
            Self::Integer { scale, zero } => f64::from(scale) * (f64::from(code) - f64::from(zero)),
            // The product has at most 32 bits; the sum is rounded to 53.
            Self::Affine { scale, offset } => {
                f64::from(scale).mul_add(f64::from(code), f64::from(offset))
            }
        }
    }
}

/// An error of an option, with the operation's name.
pub(crate) fn wrong_option(option: &str, expected: &str, found: impl fmt::Display) -> Error {
    Error::Option {
        operation: NAME,
        option: option.to_owned(),
        expected: expected.to_owned(),
        found: found.to_string(),
    }
}
