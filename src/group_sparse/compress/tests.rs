//! Tests of the compressor as a whole.

use super::*;
use crate::group_sparse::format::Coding;
use crate::tensor::Tensor;
use crate::{DType, Element};

mod edges;
mod golden;
mod outliers;
mod quality;
mod refit;
mod selection;

fn view<T: Element>(values: &[T], shape: &[usize]) -> View<Cpu> {
    View::clone(&Tensor::from_vec(values.to_vec(), shape).unwrap())
}

/// Weights in f32 with the options' defaults otherwise, without a calibration.
fn compressed(values: &[f32], rows: usize, options: &Options) -> Compressed {
    tried(values, rows, options).unwrap()
}

fn tried(values: &[f32], rows: usize, options: &Options) -> Result<Compressed> {
    let weight = view(values, &[rows, values.len() / rows]);
    compress("w", &weight, &Calibration::none(), options)
}

fn message(values: &[f32], rows: usize, options: &Options) -> String {
    tried(values, rows, options).unwrap_err().to_string()
}

/// Round to nearest in groups of 8.
fn rtn() -> Options {
    Options::default().with_group(8).with_range(Range::Rtn)
}

/// What the matrix represents, element by element.
fn represented(matrix: &Matrix) -> Vec<f64> {
    let format = matrix.format();
    let mut values = vec![0.0; format.rows * format.columns];
    for (row, values) in values.chunks_mut(format.columns).enumerate() {
        for kept in matrix.row(row) {
            let coding: Coding = matrix.coding(row, kept);
            for (j, k) in format.group_columns(matrix.column_group(kept)).enumerate() {
                values[k] = coding.exact(matrix.code(kept, j));
            }
        }
        for (column, value) in matrix.outliers(row) {
            values[column] += f64::from(value);
        }
    }
    values
}

fn gaussian(random: &mut fastrand::Rng) -> f32 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * random.f64()).cos()) as f32
}

/// Student's t with 5 degrees of freedom.
fn student(random: &mut fastrand::Rng) -> f32 {
    let square: f32 = (0..5).map(|_| gaussian(random).powi(2)).sum();
    gaussian(random) / (square / 5.0).sqrt()
}

/// Gaussian weights whose rows have scales of their own.
fn weights(rows: usize, columns: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut values = Vec::with_capacity(rows * columns);
    for _ in 0..rows {
        let scale = (0.2 * gaussian(&mut random)).exp();
        values.extend((0..columns).map(|_| scale * gaussian(&mut random)));
    }
    values
}

fn close(found: f64, right: f64, what: &str) {
    let tolerance = 1e-9 * right.abs().max(1e-300);
    assert!((found - right).abs() <= tolerance, "{what}: {found}, but naively {right}");
}
