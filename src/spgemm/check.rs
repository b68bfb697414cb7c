//! The checks of a product.

use super::{CHECK, Inputs, NAME, Options, Semiring};
use crate::backend::Backend;
use crate::sparse::{Csr, Fault, Offset, Value};
use crate::{Error, Result};

/// A product whose matrices fit together.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Problem {
    /// m.
    pub rows: usize,
    /// k.
    pub inner: usize,
    /// n.
    pub cols: usize,
    /// Entries of A.
    pub nnz_a: usize,
    /// Entries of B.
    pub nnz_b: usize,
    /// Whether each entry can be made by itself, from a row of A and a column of B: a mask names
    /// the places, A, B and mask are canonical, and nothing is added.
    pub dots: bool,
}

impl Problem {
    /// Checks sides, and what options need.
    ///
    /// # Errors
    ///
    /// As [`multiply`](super::multiply).
    pub fn check<B: Backend, T: Value, O: Offset>(
        inputs: &Inputs<'_, B, T, O>,
        options: &Options,
    ) -> Result<Self> {
        let Inputs { a, b, c0, mask } = inputs;
        let ([rows, inner], [b_rows, cols]) = (a.shape(), b.shape());
        if b_rows != inner {
            let expected = format!("{inner} rows, as A has columns");
            return Err(wrong_shape("B", expected, b.shape()));
        }
        for (name, matrix) in [("C0", c0), ("mask", mask)] {
            if let Some(matrix) = matrix.filter(|matrix| matrix.shape() != [rows, cols]) {
                let expected = format!("{rows} x {cols}, as the product");
                return Err(wrong_shape(name, expected, matrix.shape()));
            }
        }
        check_options::<T>(options)?;
        if c0.is_some() && options.semiring != Semiring::PlusTimes {
            let expected = format!("no C0 for {}", options.semiring);
            return Err(CHECK.wrong_option("beta", &expected, "a matrix C0"));
        }
        match (c0, options.beta) {
            (Some(_), None) => return Err(CHECK.wrong_option("beta", "a factor of C0", "none")),
            (None, Some(_)) => {
                return Err(CHECK.wrong_option("beta", "none without C0", "a factor"));
            }
            _ => {}
        }
        if mask.is_none() && (options.complement || options.replace) {
            let option = if options.complement { "complement" } else { "replace" };
            return Err(CHECK.wrong_option(option, "false without a mask", "true"));
        }
        same_device(inputs)?;
        if !options.auto_canonical {
            for (name, matrix) in [("B", Some(b)), ("C0", c0.as_ref()), ("mask", mask.as_ref())] {
                if matrix.is_some_and(|matrix| !matrix.is_canonical()) {
                    return Err(Error::Sparse {
                        operation: NAME,
                        matrix: name.to_owned(),
                        fault: Fault::NotCanonical,
                    });
                }
            }
        }
        let named = !options.complement && mask.is_some_and(Csr::is_canonical) && c0.is_none();
        let dots = named && a.is_canonical() && b.is_canonical();
        Ok(Self { rows, inner, cols, nnz_a: a.nnz(), nnz_b: b.nnz(), dots })
    }
}

/// The ring has these values, and takes these factors.
fn check_options<T: Value>(options: &Options) -> Result<()> {
    let &Options { semiring, alpha, beta, .. } = options;
    if !semiring.values().contains(&T::DTYPE) {
        let names: Vec<&str> = semiring.values().iter().map(|dtype| dtype.name()).collect();
        return Err(Error::Dtype {
            operation: NAME,
            tensor: format!("values of {semiring}"),
            expected: names.join(" or "),
            found: format!("{}; `to_pattern` leaves the values out", T::DTYPE),
        });
    }
    for (name, factor) in [("alpha", Some(alpha)), ("beta", beta)] {
        let Some(factor) = factor.filter(|factor| *factor != 1.0) else { continue };
        if semiring != Semiring::PlusTimes {
            return Err(CHECK.wrong_option(
                name,
                &format!("1 for {semiring}"),
                &factor.to_string(),
            ));
        }
        if !T::DTYPE.is_float() && T::from_f64(factor).to_f64() != factor {
            let expected = format!("a factor that is exact in {}", T::DTYPE);
            return Err(CHECK.wrong_option(name, &expected, &factor.to_string()));
        }
    }
    Ok(())
}

fn same_device<B: Backend, T: Value, O: Offset>(inputs: &Inputs<'_, B, T, O>) -> Result<()> {
    let device = inputs.a.backend();
    let others = [("B", Some(inputs.b)), ("C0", inputs.c0), ("mask", inputs.mask)];
    for (name, matrix) in others {
        if let Some(matrix) = matrix.filter(|matrix| matrix.backend() != device) {
            return Err(Error::Tensor {
                operation: NAME,
                tensor: name.to_owned(),
                expected: format!("a matrix on {}, as A", device.name()),
                found: format!("one on {}", matrix.backend().name()),
            });
        }
    }
    Ok(())
}

fn wrong_shape(matrix: &str, expected: String, [rows, cols]: [usize; 2]) -> Error {
    Error::Shape {
        operation: NAME,
        tensor: matrix.to_owned(),
        expected,
        found: format!("{rows} x {cols}"),
    }
}
