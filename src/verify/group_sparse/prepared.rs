//! A case with its tensors and its exact results, run and compared.

use super::Case;
use crate::backend::{Cpu, Named};
use crate::element::{DType, Float};
use crate::group_sparse::reference::{self, Exact};
use crate::group_sparse::{GroupSparse, Matrix, Weights, decompress};
use crate::tensor::View;
use crate::verify::place::OneBuffer;
use crate::verify::{Comparison, Random};
use crate::{Error, Result};

/// A case with its tensors and its exact results.
pub struct Prepared {
    case: Case,
    matrix: Matrix,
    inputs: Named<Cpu>,
    exact: Exact,
}

/// 2^-24
const ROUNDOFF: f64 = 1.0 / (1 << 24) as f64;

impl Prepared {
    /// Draws the tensors, x in this type, and evaluates the reference.
    ///
    /// # Errors
    ///
    /// Where the case makes no sense.
    pub fn new(case: &Case, x: DType) -> Result<Self> {
        let mut random = Random::new(case.seed);
        let matrix = case.matrix(&mut random)?;
        let shape = [case.vectors, case.format.columns];
        let x = Case::numbers(x, &shape, true, &mut random)?;
        let bias =
            case.bias.map(|dtype| Case::numbers(dtype, &[case.format.rows], false, &mut random));
        let bias = bias.transpose()?;
        let of_bias = bias.as_ref().map(View::to_f64).transpose()?;
        let exact = reference::forward(&matrix, &x.to_f64()?, of_bias.as_deref());
        let mut inputs = Named::from([("x".to_owned(), x)]);
        inputs.extend(bias.map(|bias| ("bias".to_owned(), bias)));
        Ok(Self { case: case.clone(), matrix, inputs, exact })
    }

    /// The variants of a backend that fit the case.
    ///
    /// # Errors
    ///
    /// As [`GroupSparse::variants`].
    pub fn variants<B: GroupSparse>(&self, backend: &B) -> Result<Vec<&'static str>> {
        let weights = Weights::new(backend, &self.matrix)?;
        let problem = weights.problem().with_vectors(self.case.vectors);
        backend.variants(&problem, &self.case.options())
    }

    /// Multiplies with a variant, twice, and compares with the reference.
    ///
    /// # Errors
    ///
    /// The call's error, or [`Error::Value`] where it wrote what it must not, or the second call gave
    /// other bits.
    pub fn product<B: GroupSparse>(
        &self,
        backend: &B,
        variant: &'static str,
    ) -> Result<Vec<Comparison>> {
        let weights = Weights::new(backend, &self.matrix)?;
        let options = self.case.options().with_variant(variant);
        let mut product = weights.product(self.case.vectors, &options)?;
        let shape = vec![self.case.vectors, self.case.format.rows];
        let mut found = None;
        for _ in 0..2 {
            let y = match self.case.one_buffer {
                true => {
                    let outputs = [("y", self.case.y, shape.clone())];
                    let placed = OneBuffer::new(backend, &self.inputs, &outputs, &["x", "y"])?;
                    let (x, bias) = (&placed.inputs["x"], placed.inputs.get("bias"));
                    product.run(x, bias, &placed.outputs["y"])?;
                    placed.check_guards()?;
                    placed.outputs["y"].to_backend(&Cpu)?
                }
                false => {
                    let x = self.inputs["x"].to_backend(backend)?;
                    let bias = self.inputs.get("bias").map(|bias| bias.to_backend(backend));
                    let y = View::new(backend, self.case.y, &shape)?;
                    product.run(&x, bias.transpose()?.as_ref(), &y)?;
                    y.to_backend(&Cpu)?
                }
            };
            match found.replace(y.to_bytes()?) {
                Some(before) if before != y.to_bytes()? => return Err(self.other_bits()),
                Some(_) => return self.compare(&y),
                None => {}
            }
        }
        Ok(Vec::new())
    }

    fn other_bits(&self) -> Error {
        Error::Value {
            operation: crate::group_sparse::NAME,
            tensor: "y".to_owned(),
            expected: "equal bits of equal calls".to_owned(),
            found: "others in the second one".to_owned(),
        }
    }

    /// Section 12 of the specification: each element by itself, and of y in f32 the mean square.
    fn compare(&self, y: &View<Cpu>) -> Result<Vec<Comparison>> {
        let Exact { y: exact, terms } = &self.exact;
        let (rounding, smallest) = match self.case.y {
            DType::F16 => (2f64.powi(-11), 2f64.powi(-25)),
            DType::BF16 => (2f64.powi(-8), 2f64.powi(-134)),
            _ => (ROUNDOFF, 2f64.powi(-150)),
        };
        let allowed = |i: usize| rounding * exact[i].abs() + 8.0 * ROUNDOFF * terms[i] + smallest;
        let mut comparisons = vec![Comparison::within("y", y, exact, allowed)?];
        if self.case.y == DType::F32 && !exact.is_empty() {
            let found = y.to_f64()?;
            let units = found.iter().zip(exact).zip(terms).map(|((found, exact), terms)| {
                let apart = (found - exact).abs() - rounding * exact.abs();
                if apart > 0.0 { apart / (ROUNDOFF * terms) } else { 0.0 }
            });
            let mean = units.map(|unit| unit * unit).sum::<f64>() / exact.len() as f64;
            let (tensor, error) = ("y, mean square", mean.sqrt());
            comparisons.push(Comparison { tensor, error, tolerance: 1.0, worst: None });
        }
        Ok(comparisons)
    }

    /// Decodes all rows, and some of them, and compares them bit for bit.
    ///
    /// # Errors
    ///
    /// The call's error, or [`Error::Value`] where a row alone is not what it is among all.
    pub fn decompress<B: GroupSparse, T: Float>(&self, backend: &B) -> Result<Vec<Comparison>> {
        let weights = Weights::new(backend, &self.matrix)?;
        let rows = self.case.format.rows;
        let exact = self.decoded::<T>();
        let mut comparisons = Vec::new();
        for part in [0..rows, rows / 3..rows / 2 + 1] {
            let dense = decompress::<B, T>(&weights, part.clone())?.to_backend(&Cpu)?;
            let columns = self.case.format.columns;
            let exact = &exact[part.start * columns..part.end * columns];
            comparisons.push(Comparison::new("dense", &dense, exact, 0.0)?);
        }
        Ok(comparisons)
    }

    /// The decoded matrix: f32 operations, rounded to T.
    fn decoded<T: Float>(&self) -> Vec<f64> {
        let format = self.matrix.format();
        let mut all = vec![0f32; format.rows * format.columns];
        for (row, to) in all.chunks_exact_mut(format.columns).enumerate() {
            for kept in self.matrix.row(row) {
                let coding = self.matrix.coding(row, kept);
                let columns = format.group_columns(self.matrix.column_group(kept));
                for (j, column) in columns.enumerate() {
                    to[self.matrix.input(column)] = coding.decode(self.matrix.code(kept, j));
                }
            }
            for (column, value) in self.matrix.outliers(row) {
                to[self.matrix.input(column)] += value;
            }
        }
        all.into_iter().map(|value| T::from_f32(value).to_f64()).collect()
    }
}
