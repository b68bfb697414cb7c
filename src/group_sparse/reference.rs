//! The reference: loops over what is kept, in f64.

use super::format::Matrix;

/// y, and the sum of the magnitudes of all that was added up, which rounding errors are measured by.
#[derive(Clone, Debug)]
pub struct Exact {
    /// (M, N)
    pub y: Vec<f64>,
    /// Σ |s| (q + z) |x|, of `affine` Σ (|s| q + |m|) |x|, with outliers and bias; (M, N).
    pub terms: Vec<f64>,
}

/// y = W x + bias for vectors x that follow one another.
pub fn forward(matrix: &Matrix, x: &[f64], bias: Option<&[f64]>) -> Exact {
    let format = matrix.format();
    let mut exact = Exact { y: Vec::new(), terms: Vec::new() };
    for x in x.chunks_exact(format.columns) {
        for row in 0..format.rows {
            let bias = bias.map_or(0.0, |bias| bias[row]);
            let (mut sum, mut terms) = (0.0, bias.abs());
            for kept in matrix.row(row) {
                let coding = matrix.coding(row, kept);
                for (j, column) in format.group_columns(matrix.column_group(kept)).enumerate() {
                    let (code, x) = (matrix.code(kept, j), x[matrix.input(column)]);
                    sum += coding.exact(code) * x;
                    terms += coding.magnitude(code) * x.abs();
                }
            }
            for (column, value) in matrix.outliers(row) {
                let product = f64::from(value) * x[matrix.input(column)];
                sum += product;
                terms += product.abs();
            }
            exact.y.push(sum + bias);
            exact.terms.push(terms);
        }
    }
    exact
}
