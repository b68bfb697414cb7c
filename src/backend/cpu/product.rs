//! Products of matrices in cache, for operations that do something to them between two products.
//!
//! ```text
//! c[i, j] (+)= Σ_k a[i, k] b[k, j]
//! ```
//!
//! Sums of a tile stay in registers: twelve rows of two vectors where there are 32 registers, six
//! where there are 16. Large products that nothing else meets belong to `gemm`.

use pulp::Simd;

/// Columns come in multiples of this, whole vectors on every machine.
pub(crate) const LANES: usize = 16;

/// The factor whose numbers are spread over vectors.
#[derive(Clone, Copy)]
pub(crate) enum Left<'a> {
    /// a[i, k] = values[i line + k].
    Rows { values: &'a [f32], line: usize },
    /// a[i, k] = values[k line + i].
    Columns { values: &'a [f32], line: usize },
}

/// The factor that is read in vectors: b[k, j] = values[k line + j].
#[derive(Clone, Copy)]
pub(crate) struct Right<'a> {
    pub values: &'a [f32],
    pub line: usize,
}

/// Where sums go: c[i, j] = values[i line + j].
pub(crate) struct Sums<'a> {
    pub values: &'a mut [f32],
    pub line: usize,
    /// Whether they are added to what is there.
    pub add: bool,
}

/// The product of `rows` × `inner` with `inner` × `columns` numbers; columns are a multiple of
/// [`LANES`].
#[inline(always)]
pub(crate) fn multiply<S: Simd>(
    simd: S,
    [rows, columns, inner]: [usize; 3],
    left: Left<'_>,
    right: Right<'_>,
    sums: &mut Sums<'_>,
) {
    let (mut column, pair) = (0, 2 * S::F32_LANES);
    // What a pair of vectors needs of the right factor stays in the first cache for all rows.
    while column < columns {
        if columns - column >= pair {
            strip::<S, 2>(simd, [rows, column, inner], left, right, sums);
            column += pair;
        } else {
            strip::<S, 1>(simd, [rows, column, inner], left, right, sums);
            column += S::F32_LANES;
        }
    }
}

/// All rows of some neighbouring vectors.
#[inline(always)]
fn strip<S: Simd, const VECTORS: usize>(
    simd: S,
    [rows, column, inner]: [usize; 3],
    left: Left<'_>,
    right: Right<'_>,
    sums: &mut Sums<'_>,
) {
    let most = if S::REGISTER_COUNT >= 32 { 12 } else { 6 };
    let mut row = 0;
    while row < rows {
        let count = (rows - row).min(most);
        macro_rules! tile {
            ($($count:literal),*) => {
                match count {
                    $($count.. => {
                        let place = [row, column, inner];
                        tile::<S, $count, VECTORS>(simd, place, left, right, sums);
                        row += $count;
                    })*
                    _ => row += 1,
                }
            };
        }
        tile!(12, 8, 6, 4, 3, 2, 1);
    }
}

#[inline(always)]
fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    [row, column, inner]: [usize; 3],
    left: Left<'_>,
    right: Right<'_>,
    sums: &mut Sums<'_>,
) {
    let mut sum = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    let width = VECTORS * S::F32_LANES;
    let lines = right.values.get(column..).unwrap_or(&[]).chunks(right.line);
    match left {
        Left::Rows { values, line } => {
            let mut factors = [&values[..0]; ROWS];
            for (i, factor) in factors.iter_mut().enumerate() {
                *factor = &values[(row + i) * line..][..inner];
            }
            for (k, right) in lines.take(inner).enumerate() {
                let vectors = S::as_simd_f32s(&right[..width]).0;
                for (sum, factor) in sum.iter_mut().zip(&factors) {
                    let factor = simd.splat_f32s(factor[k]);
                    for (sum, vector) in sum.iter_mut().zip(vectors) {
                        *sum = simd.mul_add_f32s(factor, *vector, *sum);
                    }
                }
            }
        }
        Left::Columns { values, line } => {
            let factors = values[row..].chunks(line);
            for (right, factors) in lines.take(inner).zip(factors) {
                let vectors = S::as_simd_f32s(&right[..width]).0;
                for (sum, factor) in sum.iter_mut().zip(&factors[..ROWS]) {
                    let factor = simd.splat_f32s(*factor);
                    for (sum, vector) in sum.iter_mut().zip(vectors) {
                        *sum = simd.mul_add_f32s(factor, *vector, *sum);
                    }
                }
            }
        }
    }
    for (i, sum) in sum.into_iter().enumerate() {
        let to = &mut sums.values[(row + i) * sums.line + column..][..width];
        for (to, sum) in S::as_mut_simd_f32s(to).0.iter_mut().zip(sum) {
            *to = if sums.add { simd.add_f32s(*to, sum) } else { sum };
        }
    }
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, WithSimd};

    use super::*;

    struct Multiply<'a> {
        sizes: [usize; 3],
        left: Left<'a>,
        right: Right<'a>,
        sums: Sums<'a>,
    }

    impl WithSimd for Multiply<'_> {
        type Output = ();
        fn with_simd<S: Simd>(mut self, simd: S) {
            multiply(simd, self.sizes, self.left, self.right, &mut self.sums);
        }
    }

    /// Small whole numbers, whose sums are exact.
    fn numbers(count: usize, modulus: usize) -> Vec<f32> {
        (0..count).map(|i| (i * 7 % modulus) as f32 - 3.0).collect()
    }

    #[test]
    fn products_of_any_size_are_exact() {
        for (rows, columns, inner) in
            [(1, 16, 1), (2, 32, 5), (3, 48, 16), (7, 16, 9), (13, 80, 3), (25, 64, 20)]
        {
            let (left_line, right_line, line) = (inner + 3, columns + 16, columns + 4);
            let (left, right) = (numbers(rows * left_line, 11), numbers(inner * right_line, 13));
            let across_line = rows + 2;
            let mut across = vec![f32::NAN; inner * across_line];
            for (i, k) in (0..rows).flat_map(|i| (0..inner).map(move |k| (i, k))) {
                across[k * across_line + i] = left[i * left_line + k];
            }
            let exact = |i: usize, j: usize| -> f32 {
                let term = |k| left[i * left_line + k] * right[k * right_line + j];
                (0..inner).map(term).sum()
            };
            let sides = [
                Left::Rows { values: &left, line: left_line },
                Left::Columns { values: &across, line: across_line },
            ];
            for (add, side) in
                [false, true].into_iter().flat_map(|add| sides.map(|side| (add, side)))
            {
                let mut found = vec![1.0; rows * line];
                Arch::new().dispatch(Multiply {
                    sizes: [rows, columns, inner],
                    left: side,
                    right: Right { values: &right, line: right_line },
                    sums: Sums { values: &mut found, line, add },
                });
                for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
                    let expected = exact(i, j) + if add { 1.0 } else { 0.0 };
                    assert_eq!(found[i * line + j], expected, "{rows} x {columns} x {inner}");
                }
                let between = (0..rows).flat_map(|i| &found[i * line + columns..(i + 1) * line]);
                assert!(between.into_iter().all(|x| *x == 1.0), "written beside the sums");
            }
        }
    }
}
