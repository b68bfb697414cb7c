//! What is dense in a model: products by `gemm`, the norm, the loss. All matrices lie row by row.

use gemm::{Parallelism, gemm};
use warpwright::Float;

/// A matrix of so many rows and columns, or the transpose of one.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    strides: [isize; 2],
}

impl<'a, T> Matrix<'a, T> {
    /// Values that lie row by row.
    pub fn new(values: &'a [T], columns: usize) -> Self {
        let rows = values.len() / columns;
        assert_eq!(values.len(), rows * columns, "whole rows of {columns}");
        Self { values, rows, columns, strides: [columns as isize, 1] }
    }

    pub fn transposed(self) -> Self {
        let Self { values, rows, columns, strides: [down, right] } = self;
        Self { values, rows: columns, columns: rows, strides: [right, down] }
    }
}

/// `x · y`.
pub fn product<T: Float>(x: Matrix<'_, T>, y: Matrix<'_, T>) -> Vec<T> {
    let mut product = vec![T::from_f32(0.0); x.rows * y.columns];
    add_product(&mut product, x, y);
    product
}

/// `sum += x · y`, of f32 or f64.
pub fn add_product<T: Float>(sum: &mut [T], x: Matrix<'_, T>, y: Matrix<'_, T>) {
    assert_eq!(x.columns, y.rows, "the inner sizes agree");
    assert_eq!(sum.len(), x.rows * y.columns, "the sum has the size of the product");
    let ([x_down, x_right], [y_down, y_right]) = (x.strides, y.strides);
    // SAFETY: `Matrix` has as many values as rows times columns, which its strides cover, and so
    // has `sum`, which nothing else refers to.
    unsafe {
        gemm(
            x.rows,
            y.columns,
            x.columns,
            sum.as_mut_ptr(),
            1,
            y.columns as isize,
            true,
            x.values.as_ptr(),
            x_right,
            x_down,
            y.values.as_ptr(),
            y_right,
            y_down,
            T::from_f32(1.0),
            T::from_f32(1.0),
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}

/// y = x W, for rows x; W is (columns of x, columns of y).
pub fn project<T: Float>(x: &[T], weight: &[T], inner: usize) -> Vec<T> {
    product(Matrix::new(x, inner), Matrix::new(weight, weight.len() / inner))
}

/// Of y = x W: adds to dW, and gives dx.
pub fn project_back<T: Float>(
    x: &[T],
    weight: &[T],
    inner: usize,
    dy: &[T],
    dweight: &mut [T],
) -> Vec<T> {
    let dy = Matrix::new(dy, weight.len() / inner);
    add_product(dweight, Matrix::new(x, inner).transposed(), dy);
    product(dy, Matrix::new(weight, dy.columns).transposed())
}

/// Added to the mean square, so that a row of zeros stays one.
const EPSILON: f32 = 1e-5;

/// Each row by its root mean square, times the scale of each column.
pub fn normalise(x: &[f32], scale: &[f32]) -> Vec<f32> {
    let rows = x.chunks_exact(scale.len());
    rows.flat_map(|row| {
        let factor = root_mean_square(row).recip();
        row.iter().zip(scale).map(move |(x, scale)| x * factor * scale)
    })
    .collect()
}

/// Of [`normalise`]: adds to the gradient of the scale, and to that of x.
pub fn normalise_back(x: &[f32], scale: &[f32], dy: &[f32], dscale: &mut [f32], dx: &mut [f32]) {
    let width = scale.len();
    let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
    for ((x, dy), dx) in rows {
        let factor = root_mean_square(x).recip();
        // The part of dy along the row, which a longer row would not change.
        let along: f32 = x.iter().zip(dy).zip(scale).map(|((x, dy), scale)| x * dy * scale).sum();
        let along = along * factor.powi(3) / width as f32;
        for (column, (x, dy)) in x.iter().zip(dy).enumerate() {
            dscale[column] += dy * x * factor;
            dx[column] += dy * scale[column] * factor - along * x;
        }
    }
}

fn root_mean_square(row: &[f32]) -> f32 {
    (row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32 + EPSILON).sqrt()
}

/// The mean of -ln softmax(row)[wanted] over the rows where something is wanted, and its gradient
/// in place of the rows.
pub fn cross_entropy<T: Float>(rows: &mut [T], wanted: &[Option<usize>]) -> f64 {
    let (symbols, count) = (rows.len() / wanted.len(), wanted.iter().flatten().count() as f64);
    let mut loss = 0.0;
    for (row, &wanted) in rows.chunks_exact_mut(symbols).zip(wanted) {
        let Some(wanted) = wanted else {
            row.fill(T::from_f32(0.0));
            continue;
        };
        let largest = row.iter().fold(f64::MIN, |largest, x| largest.max(x.to_f64()));
        let sum: f64 = row.iter().map(|x| (x.to_f64() - largest).exp()).sum();
        loss += sum.ln() + largest - row[wanted].to_f64();
        for (symbol, x) in row.iter_mut().enumerate() {
            let likelihood = (x.to_f64() - largest).exp() / sum;
            *x = T::from_f64((likelihood - f64::from(u8::from(symbol == wanted))) / count);
        }
    }
    loss / count
}
