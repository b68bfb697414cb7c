//! Matrices of every kind, for tests.

use fastrand::Rng;

use crate::element::DType;
use crate::group_sparse::format::{
    BITS, Floats, Format, GROUPS, Matrix, Mode, Outliers, Parts, Pattern, ScaleScope, set_code,
};

/// A matrix of some sides and kind.
pub fn matrix(rng: &mut Rng) -> Matrix {
    let group = GROUPS[rng.usize(..GROUPS.len())];
    let columns = rng.usize(1..4 * group);
    let rows = rng.usize(1..20);
    let of_row = columns.div_ceil(group);
    let pattern = match rng.u8(..3) {
        0 => Pattern::Free,
        1 => Pattern::Uniform(rng.usize(1..=of_row)),
        _ => Pattern::Dense,
    };
    let format = Format {
        rows,
        columns,
        group,
        bits: BITS[rng.usize(..BITS.len())],
        mode: Mode::ALL[rng.usize(..3)],
        pattern,
        scope: if rng.bool() { ScaleScope::Group } else { ScaleScope::Row },
    };
    of_format(rng, format)
}

/// A matrix of this format; of the pattern `free` with a random count in every row.
pub fn of_format(rng: &mut Rng, format: Format) -> Matrix {
    let groups = format.column_groups();
    let kept: Vec<Vec<u32>> = (0..format.rows)
        .map(|_| match format.pattern {
            Pattern::Free => {
                let count = rng.usize(..=groups);
                some(rng, groups, count)
            }
            Pattern::Uniform(count) => some(rng, groups, count),
            Pattern::Dense => some(rng, groups, groups),
        })
        .collect();
    let count = format.scale_count(kept.iter().map(Vec::len).sum());
    let dtype = [DType::F16, DType::BF16, DType::F32][rng.usize(..3)];
    let zeros: Vec<u8> = (0..count).map(|_| rng.u8(..)).collect();
    let codes = codes(rng, &format, &kept, &zeros);
    let col: Vec<Vec<u32>> = (0..format.rows)
        .map(|_| {
            let count = rng.usize(..=format.columns.min(3));
            some(rng, format.columns, count)
        })
        .collect();
    let outliers = rng.bool().then(|| Outliers {
        row_ptr: pointers(&col),
        val: floats(rng, dtype, col.iter().map(Vec::len).sum()),
        col: col.concat(),
    });
    let mut perm: Vec<u32> = (0..format.columns as u32).collect();
    rng.shuffle(&mut perm);
    Matrix::new(Parts {
        format,
        row_ptr: if format.pattern == Pattern::Free { pointers(&kept) } else { Vec::new() },
        col_idx: if format.pattern == Pattern::Dense { Vec::new() } else { kept.concat() },
        codes,
        scales: floats(rng, dtype, count),
        zeros: if format.mode == Mode::Asym { zeros } else { Vec::new() },
        offsets: (format.mode == Mode::Affine).then(|| floats(rng, dtype, count)),
        outliers,
        perm: rng.bool().then_some(perm),
    })
    .expect("a matrix that keeps the rules")
}

/// So many of the numbers below `end`, ascending.
fn some(rng: &mut Rng, end: usize, count: usize) -> Vec<u32> {
    let mut all: Vec<u32> = (0..end as u32).collect();
    rng.shuffle(&mut all);
    all.truncate(count);
    all.sort_unstable();
    all
}

fn pointers(rows: &[Vec<u32>]) -> Vec<u32> {
    let mut end = 0;
    let ends = rows.iter().map(|row| {
        end += row.len() as u32;
        end
    });
    std::iter::once(0).chain(ends.collect::<Vec<_>>()).collect()
}

fn floats(rng: &mut Rng, dtype: DType, count: usize) -> Floats {
    let values: Vec<f32> = (0..count).map(|_| rng.f32() - 0.5).collect();
    Floats::rounded(dtype, &values)
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
            let real = format.group_columns(group as usize).len();
            let mut packed = vec![0; format.group_bytes()];
            for j in 0..format.group {
                let code = match j < real {
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
