//! What is dense in the model: products by `gemm`, the norm, the loss. All matrices lie row by row.

use gemm::{Parallelism, gemm};

/// A matrix of so many rows and columns, or the transpose of one.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    strides: [isize; 2],
}

impl<'a> Matrix<'a> {
    /// Values that lie row by row.
    pub fn new(values: &'a [f32], columns: usize) -> Self {
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
pub fn product(x: Matrix<'_>, y: Matrix<'_>) -> Vec<f32> {
    let mut product = vec![0.0; x.rows * y.columns];
    add_product(&mut product, x, y);
    product
}

/// `sum += x · y`.
pub fn add_product(sum: &mut [f32], x: Matrix<'_>, y: Matrix<'_>) {
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
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}

/// y = x W, for rows x; W is (columns of x, columns of y).
pub fn project(x: &[f32], weight: &[f32], inner: usize) -> Vec<f32> {
    product(Matrix::new(x, inner), Matrix::new(weight, weight.len() / inner))
}

/// Of y = x W: adds to dW, and gives dx.
pub fn project_back(
    x: &[f32],
    weight: &[f32],
    inner: usize,
    dy: &[f32],
    dweight: &mut [f32],
) -> Vec<f32> {
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

/// The mean of -ln softmax(row)[next] over the rows, and its gradient in place of the rows.
pub fn cross_entropy(rows: &mut [f32], next: &[usize]) -> f64 {
    let (symbols, count) = (rows.len() / next.len(), next.len());
    let mut loss = 0.0;
    for (row, &next) in rows.chunks_exact_mut(symbols).zip(next) {
        let largest = row.iter().copied().fold(f32::MIN, f32::max);
        let expected = row[next] - largest;
        row.iter_mut().for_each(|x| *x = (*x - largest).exp());
        let sum: f32 = row.iter().sum();
        loss += f64::from(sum.ln() - expected);
        row.iter_mut().for_each(|x| *x /= sum * count as f32);
        row[next] -= 1.0 / count as f32;
    }
    loss / count as f64
}
