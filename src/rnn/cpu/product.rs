//! The recurrent product: rows of states, or of gradients, with panels of the matrices.
//!
//! Units are taken in blocks of [`BLOCK`]. A panel has what one block of results needs, in the
//! order in which it is read:
//!
//! ```text
//! forward   block of units d   for each p:              R[k, d, p] of each gate k, units side by side
//! backward  block of units p   for each d and gate k:   R[k, d, p], units side by side
//! ```
//!
//! The other factor lies in blocks too, (block, gate, row, unit): what a block of units writes is
//! in one piece. Sums of up to 24 vectors stay in registers.

use pulp::Simd;
use rayon::prelude::*;

use crate::backend::cpu::aligned::Aligned;
use crate::backend::cpu::prefetch::prefetch;
use crate::rnn::Problem;

/// Units that are taken together: a whole number of vectors on every machine.
pub(super) const BLOCK: usize = 16;

/// Bytes that stay in the second-level cache of any processor that computes much.
const CACHE: usize = 1 << 20;

/// Values of the units of a block.
pub(super) type Units = [f32; BLOCK];

/// Panels of the matrices of all heads: of the head's first block of units, its second, ...
pub(super) struct Panels {
    values: Aligned,
    /// Values of a panel.
    length: usize,
}

impl Panels {
    /// For the forward pass, of matrices (Gr, N, D, D).
    pub fn forward(problem: &Problem, r: &[f32]) -> Self {
        let gates = problem.cell.recurrent_gates().len();
        Self::pack(problem, |panel, head, block| {
            let units = units(problem, block);
            for gate in 0..gates {
                for (lane, d) in units.clone().enumerate() {
                    let row = &r
                        [((gate * problem.heads + head) * problem.width + d) * problem.width..]
                        [..problem.width];
                    for (p, &value) in row.iter().enumerate() {
                        panel[(p * gates + gate) * BLOCK + lane] = value;
                    }
                }
            }
        })
    }

    /// For the backward pass.
    pub fn backward(problem: &Problem, r: &[f32]) -> Self {
        let gates = problem.cell.recurrent_gates().len();
        Self::pack(problem, |panel, head, block| {
            let units = units(problem, block);
            let place = |d: usize, gate| (d / BLOCK * gates + gate) * BLOCK + d % BLOCK;
            for gate in 0..gates {
                for d in 0..problem.width {
                    let row = ((gate * problem.heads + head) * problem.width + d) * problem.width;
                    let from = &r[row + units.start..row + units.end];
                    panel[place(d, gate) * BLOCK..][..from.len()].copy_from_slice(from);
                }
            }
        })
    }

    /// Panels, zero but for what `fill` writes, for each head and block.
    fn pack(problem: &Problem, fill: impl Fn(&mut [f32], usize, usize) + Sync) -> Self {
        let blocks = blocks(problem);
        let length = problem.cell.recurrent_gates().len() * blocks * BLOCK * BLOCK;
        let mut values = Aligned::default();
        values.reset(problem.heads * blocks * length);
        values.par_chunks_exact_mut(length).enumerate().for_each(|(i, panel)| {
            fill(panel, i / blocks, i % blocks);
        });
        Self { values, length }
    }

    /// The panel of a block, counted through all heads.
    pub fn panel(&self, block: usize) -> &[f32] {
        &self.values[block * self.length..][..self.length]
    }

    /// The same, to be brought near the processor while another one is multiplied; empty where all
    /// panels stay there.
    pub fn next(&self, block: usize) -> &[f32] {
        if size_of_val(&*self.values) <= CACHE { &[] } else { self.panel(block) }
    }
}

/// Blocks of the units of a head.
pub(super) fn blocks(problem: &Problem) -> usize {
    problem.width.div_ceil(BLOCK)
}

/// The units of a block.
pub(super) fn units(problem: &Problem, block: usize) -> std::ops::Range<usize> {
    block * BLOCK..((block + 1) * BLOCK).min(problem.width)
}

/// Sums of some rows, for each vector of a panel.
pub(super) type Sums<const VECTORS: usize> = [Units; VECTORS];

/// The products of all rows with a panel that has so many vectors side by side.
///
/// `factor` lies in blocks of (row, unit), and there are as many of these as the panel is long. A
/// panel comes from afar with its first rows; with the next ones, which find it near, the panel
/// `next` is asked for.
#[inline(always)]
pub(super) fn multiply<S: Simd, const VECTORS: usize>(
    simd: S,
    rows: usize,
    factor: &[f32],
    [panel, next]: [&[f32]; 2],
    sums: &mut [Sums<VECTORS>],
) {
    // As many sums as there are registers for, with room for what is multiplied.
    let most = match S::REGISTER_COUNT {
        32.. => [8, 8, 8, 6, 6][VECTORS],
        _ => [8, 8, 6, 4, 3][VECTORS],
    };
    let mut row = 0;
    while row < rows {
        let left = (rows - row).min(most);
        let next = if row > 0 && row <= most { next } else { &[] };
        macro_rules! tile {
            ($($count:literal),*) => {
                match left {
                    $($count.. => {
                        tile::<S, $count, VECTORS>(simd, rows, row, factor, [panel, next], sums);
                        row += $count;
                    })*
                    _ => row += 1,
                }
            };
        }
        tile!(8, 6, 4, 3, 2, 1);
    }
}

/// A part of some units, a register's lanes.
#[inline(always)]
pub(super) fn lanes<S: Simd>(units: &Units, part: usize) -> S::f32s {
    S::as_simd_f32s(units).0[part]
}

/// The same of several. A loop: closures over arrays would be called, with the registers in memory.
#[inline(always)]
pub(super) fn gathered<S: Simd, const COUNT: usize>(
    simd: S,
    units: &[Units],
    part: usize,
) -> [S::f32s; COUNT] {
    let mut gathered = [simd.splat_f32s(0.0); COUNT];
    for (gathered, units) in gathered.iter_mut().zip(units) {
        *gathered = lanes::<S>(units, part);
    }
    gathered
}

/// Puts lanes into a part of some units, for several.
#[inline(always)]
pub(super) fn scatter<S: Simd, const COUNT: usize>(
    values: [S::f32s; COUNT],
    units: &mut [Units; COUNT],
    part: usize,
) {
    for (units, value) in units.iter_mut().zip(values) {
        S::as_mut_simd_f32s(units).0[part] = value;
    }
}

/// The products of `ROWS` rows.
#[inline(always)]
fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    rows: usize,
    first: usize,
    factor: &[f32],
    [panel, next]: [&[f32]; 2],
    sums: &mut [Sums<VECTORS>],
) {
    let (factor, _) = factor.as_chunks::<BLOCK>();
    let (panel, _) = panel.as_chunks::<BLOCK>();
    let mut next = next.chunks_exact(BLOCK * VECTORS);
    for part in 0..BLOCK / S::F32_LANES {
        let mut sum = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        let blocks = factor.chunks_exact(rows).zip(panel.chunks_exact(BLOCK * VECTORS));
        for (factor, panel) in blocks {
            let factor: [&Units; ROWS] = std::array::from_fn(|row| &factor[first + row]);
            for (lane, panel) in panel.chunks_exact(VECTORS).enumerate() {
                if let Some(next) = next.next() {
                    prefetch(next);
                }
                let panel: [S::f32s; VECTORS] =
                    std::array::from_fn(|vector| S::as_simd_f32s(&panel[vector]).0[part]);
                for row in 0..ROWS {
                    let value = simd.splat_f32s(factor[row][lane]);
                    for vector in 0..VECTORS {
                        sum[row][vector] =
                            simd.mul_add_f32s(value, panel[vector], sum[row][vector]);
                    }
                }
            }
        }
        for (sums, sum) in sums[first..].iter_mut().zip(sum) {
            scatter::<S, VECTORS>(sum, sums, part);
        }
    }
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, WithSimd};

    use super::*;
    use crate::element::DType;
    use crate::rnn::{Cell, Options};

    /// The products of rows with all panels.
    struct All<'a> {
        panels: &'a Panels,
        blocks: usize,
        rows: usize,
        factor: &'a [f32],
    }

    impl WithSimd for All<'_> {
        type Output = Vec<Vec<Sums<3>>>;
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            let product = |block| {
                let mut sums = vec![[[f32::NAN; BLOCK]; 3]; self.rows];
                let panel = self.panels.panel(block);
                multiply::<S, 3>(simd, self.rows, self.factor, [panel, panel], &mut sums);
                sums
            };
            (0..self.blocks).map(product).collect()
        }
    }

    /// Small whole numbers, whose sums are exact.
    #[test]
    fn products_of_any_count_of_rows_are_exact() {
        let options = Options::new(Cell::Gru);
        for (rows, width) in [(1, 1), (2, 16), (5, 17), (7, 33), (8, 20), (17, 40)] {
            let problem = Problem::new(DType::F32, [rows, 1, 1, width], &options).unwrap();
            let blocks = blocks(&problem);
            let value = |i: usize, modulus: usize| (i * 7 % modulus) as f32 - 3.0;
            let r: Vec<f32> = (0..3 * width * width).map(|i| value(i, 11)).collect();
            let mut factor = vec![0.0; blocks * rows * BLOCK];
            for row in 0..rows {
                for p in 0..width {
                    factor[(p / BLOCK * rows + row) * BLOCK + p % BLOCK] =
                        value(row * width + p, 13);
                }
            }
            let panels = Panels::forward(&problem, &r);
            let all = All { panels: &panels, blocks, rows, factor: &factor };
            let found = Arch::new().dispatch(all);
            for (row, gate, d) in (0..rows).flat_map(|row| {
                (0..3).flat_map(move |gate| (0..width).map(move |d| (row, gate, d)))
            }) {
                let terms = (0..width)
                    .map(|p| r[(gate * width + d) * width + p] * value(row * width + p, 13));
                let expected: f32 = terms.sum();
                let sum = found[d / BLOCK][row][gate][d % BLOCK];
                assert_eq!(
                    sum, expected,
                    "{rows} rows of {width}: row {row}, gate {gate}, unit {d}"
                );
            }
        }
    }
}
