//! Matrices of every kind, for tests.

use fastrand::Rng;

use crate::element::DType;
use crate::group_sparse::format::{BITS, Format, GROUPS, Matrix, Mode, Pattern, ScaleScope};
use crate::group_sparse::random::Like;

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
    let kept = (0..format.rows).map(|_| match format.pattern {
        Pattern::Free => rng.usize(..=groups),
        Pattern::Uniform(count) => count,
        Pattern::Dense => groups,
    });
    let kept = kept.collect();
    let dtype = [DType::F16, DType::BF16, DType::F32][rng.usize(..3)];
    let like = Like {
        format,
        kept,
        scales: dtype,
        outliers: rng.bool().then_some((dtype, 0.02)),
        is_permuted: rng.bool(),
    };
    like.matrix(rng).expect("a matrix that keeps the rules")
}
