//! Products on the CPU: a lane of a SIMD register has a byte of codes, and takes from it one code after the
//! other. x is put into that order first, once for all rows:
//!
//! ```text
//! x of a group:  [block][code of the byte][lane],   element = codes (8 block + lane) + code
//! ```
//!
//! The sums of a group are multiplied with its scale, lane by lane; lanes are added up at the end of
//! a row.

use bytemuck::Zeroable;
use pulp::f32x8;
use rayon::prelude::*;

use super::Held;
use crate::backend::cpu::disjoint::Disjoint;
use crate::group_sparse::format::Matrix;
use crate::group_sparse::partition::{Partition, Split};
use crate::group_sparse::plan::Plan;

mod codes;
mod kernel;

use codes::LANES;
use kernel::Kernel;

/// Vectors that each decoded group is multiplied with, in a run.
const RUN: usize = 4;

/// W x for vectors x that follow one another: (M, N), without bias.
pub(super) fn sums(held: &Held, plan: &Plan, x: &[f32]) -> Vec<f32> {
    let format = held.matrix.format();
    let vectors = x.len() / format.columns;
    let mut y = vec![0.0; vectors * format.rows];
    let staged: Vec<Vec<f32x8>> =
        x.chunks_exact(format.columns).map(|x| stage(&held.matrix, x)).collect();
    let partition = plan.partition(held.matrix.row_ptr());
    let mut first = 0;
    while first < vectors {
        let run = if first + RUN <= vectors { RUN } else { 1 };
        let x = &staged[first..first + run];
        let y = &mut y[first * format.rows..(first + run) * format.rows];
        match run {
            RUN => run_of::<RUN>(held, &partition, x, y),
            _ => run_of::<1>(held, &partition, x, y),
        }
        first += run;
    }
    for (y, x) in y.chunks_exact_mut(format.rows).zip(x.chunks_exact(format.columns)) {
        add_outliers(&held.matrix, x, y);
    }
    y
}

/// The vector in the kernels' order, with zeros where lanes have no element.
fn stage(matrix: &Matrix, x: &[f32]) -> Vec<f32x8> {
    let format = matrix.format();
    let codes = codes::of_a_lane(format.bits);
    let registers = codes::registers(codes, format.group);
    let mut staged = vec![f32x8::zeroed(); format.column_groups() * registers];
    let groups = bytemuck::cast_slice_mut(&mut staged).chunks_exact_mut(registers * LANES);
    for (group, to) in groups.enumerate() {
        for (j, column) in format.group_columns(group).enumerate() {
            let (lane, code) = (j / codes, j % codes);
            to[(lane / LANES * codes + code) * LANES + lane % LANES] = x[matrix.input(column)];
        }
    }
    staged
}

/// Multiplies with M vectors, a task per worker.
fn run_of<const M: usize>(held: &Held, partition: &Partition<'_>, x: &[Vec<f32x8>], y: &mut [f32]) {
    let rows = held.matrix.format().rows;
    let kernel = Kernel::<M>::of(held, std::array::from_fn(|m| x[m].as_slice()));
    let written = Disjoint::new(y);
    let write = |row: usize, sums: [f32; M]| {
        for (m, sum) in sums.into_iter().enumerate() {
            // SAFETY: each row is one worker's, and written once.
            unsafe { written.write(m * rows + row, sum) };
        }
    };
    let parts: Vec<[Option<[f32; M]>; 2]> = (0..partition.workers())
        .into_par_iter()
        .map(|worker| {
            let head = partition.head(worker).map(|(row, kept)| kernel.sum(row, kept));
            let end = partition.share(worker).end;
            let mut tail = None;
            for row in partition.owned(worker) {
                let kept = partition.row(row);
                let sums = kernel.sum(row, kept.start..kept.end.min(end));
                match kept.end <= end {
                    true => write(row, sums),
                    false => tail = Some(sums),
                }
            }
            [head, tail]
        })
        .collect();
    for Split { row, first, last } in partition.splits() {
        let heads = parts[first + 1..=last].iter().filter_map(|[head, _]| *head);
        let mut sums = parts[first][1].unwrap_or([0.0; M]);
        for head in heads {
            (0..M).for_each(|m| sums[m] += head[m]);
        }
        write(row, sums);
    }
}

fn add_outliers(matrix: &Matrix, x: &[f32], y: &mut [f32]) {
    if matrix.parts().outliers.is_none() {
        return;
    }
    y.par_iter_mut().enumerate().for_each(|(row, y)| {
        for (column, value) in matrix.outliers(row) {
            *y += value * x[matrix.input(column)];
        }
    });
}
