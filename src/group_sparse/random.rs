//! Random matrices, for tests and for the cases of `verify`.

use fastrand::Rng;

use super::format::{Floats, Format, Matrix, Mode, Outliers, Parts, Pattern, ScaleScope, set_code};
use crate::Result;
use crate::element::DType;

/// What a random matrix is like.
#[derive(Clone, Debug)]
pub(crate) struct Like {
    pub format: Format,
    /// Groups that each row keeps; what the pattern says, but for `Free`.
    pub kept: Vec<usize>,
    /// The type of scales and offsets.
    pub scales: DType,
    /// The type of outliers, and the share of elements that are such.
    pub outliers: Option<(DType, f64)>,
    pub is_permuted: bool,
}

impl Like {
    /// A matrix like this.
    ///
    /// # Errors
    ///
    /// Where the format makes no sense.
    pub fn matrix(&self, rng: &mut Rng) -> Result<Matrix> {
        let format = &self.format;
        format.check()?;
        let groups = format.column_groups();
        let kept: Vec<Vec<u32>> = self.kept.iter().map(|&count| some(rng, groups, count)).collect();
        let count = format.scale_count(kept.iter().map(Vec::len).sum());
        let scales = normals(rng, count, 0.1);
        let offsets = normals(rng, count, 0.1);
        let ends = [0, format.middle(), format.largest_code(), format.middle() | 1, 255];
        let zeros: Vec<u8> = (0..count).map(|_| ends[rng.usize(..ends.len())]).collect();
        let codes = codes(rng, format, &kept, &zeros);
        let outliers = self.outliers.map(|(dtype, share)| outliers(rng, format, dtype, share));
        Matrix::new(Parts {
            format: *format,
            row_ptr: if format.pattern == Pattern::Free { pointers(&kept) } else { Vec::new() },
            col_idx: if format.pattern == Pattern::Dense { Vec::new() } else { kept.concat() },
            codes,
            scales: Floats::rounded(self.scales, &scales),
            zeros: if format.mode == Mode::Asym { zeros } else { Vec::new() },
            offsets: (format.mode == Mode::Affine).then(|| Floats::rounded(self.scales, &offsets)),
            outliers,
            perm: self.is_permuted.then(|| shuffled(rng, format.columns)),
        })
    }
}

/// A number near a normal one.
pub(crate) fn normal(rng: &mut Rng) -> f32 {
    (0..12).map(|_| rng.f32()).sum::<f32>() - 6.0
}

fn normals(rng: &mut Rng, count: usize, size: f32) -> Vec<f32> {
    (0..count).map(|_| size * normal(rng)).collect()
}

fn shuffled(rng: &mut Rng, end: usize) -> Vec<u32> {
    let mut all: Vec<u32> = (0..end as u32).collect();
    rng.shuffle(&mut all);
    all
}

/// So many of the numbers below `end`, ascending.
fn some(rng: &mut Rng, end: usize, count: usize) -> Vec<u32> {
    if count == 0 {
        return Vec::new();
    }
    let mut all = shuffled(rng, end);
    all.truncate(count);
    all.sort_unstable();
    all
}

fn pointers(rows: &[Vec<u32>]) -> Vec<u32> {
    let mut pointers = vec![0];
    for row in rows {
        pointers.push(pointers[pointers.len() - 1] + row.len() as u32);
    }
    pointers
}

/// Random codes, with the zero code behind the last column.
fn codes(rng: &mut Rng, format: &Format, kept: &[Vec<u32>], zeros: &[u8]) -> Vec<u8> {
    let mut codes = Vec::new();
    for (row, groups) in kept.iter().enumerate() {
        for &group in groups {
            let at = match format.scope {
                ScaleScope::Group => codes.len() / format.group_bytes(),
                ScaleScope::Row => row,
            };
            let inside = format.group_columns(group as usize).len();
            let mut packed = vec![0; format.group_bytes()];
            for j in 0..format.group {
                let code = match j < inside {
                    true => rng.u8(..=format.largest_code()),
                    false => format.zero_code(zeros[at]),
                };
                set_code(format.bits, &mut packed, j, code);
            }
            codes.extend(packed);
        }
    }
    codes
}

fn outliers(rng: &mut Rng, format: &Format, dtype: DType, share: f64) -> Outliers {
    let (mut row_ptr, mut col, mut val) = (vec![0], Vec::new(), Vec::new());
    for _ in 0..format.rows {
        for column in 0..format.columns {
            if rng.f64() < share {
                col.push(column as u32);
                val.push(3.0 * normal(rng));
            }
        }
        row_ptr.push(col.len() as u32);
    }
    Outliers { row_ptr, col, val: Floats::rounded(dtype, &val) }
}
