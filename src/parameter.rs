//! Tensors whose element type is settled at run time: parameters and indices.

use std::fmt;
use std::ops::Deref;

use crate::backend::{Backend, Cpu};
use crate::element::{DType, Float, Index};
use crate::tensor::{Tensor, View};
use crate::{Error, Result};

/// A tensor of floats whose type the specification fixes, usually to f32; the activation's type
/// is accepted as well. Made from a reference to a tensor of any float.
pub struct Parameter<'a, B: Backend>(&'a View<B>);

/// A tensor of integers of any width. Values must fit in 32 bits.
pub struct Indices<'a, B: Backend>(&'a View<B>);

macro_rules! view_references {
    ($($name:ident: $bound:ident, $is_right:expr, $what:literal;)*) => {
        $(
            impl<'a, B: Backend, T: $bound> From<&'a Tensor<B, T>> for $name<'a, B> {
                fn from(tensor: &'a Tensor<B, T>) -> Self {
                    Self(tensor)
                }
            }
            impl<'a, B: Backend> $name<'a, B> {
                /// Wraps a view whose element type is known only at run time.
                ///
                /// # Errors
                ///
                /// [`Error::Dtype`] where the elements are of another kind.
                pub fn from_view(view: &'a View<B>) -> Result<Self> {
                    let is_right: fn(DType) -> bool = $is_right;
                    if is_right(view.dtype()) {
                        return Ok(Self(view));
                    }
                    Err(Error::Dtype {
                        operation: "tensor",
                        tensor: "view".to_owned(),
                        expected: $what.to_owned(),
                        found: view.dtype().to_string(),
                    })
                }

                /// The view, for as long as the tensor lives.
                pub(crate) fn view(&self) -> &'a View<B> {
                    self.0
                }
            }
            impl<B: Backend> Clone for $name<'_, B> {
                fn clone(&self) -> Self {
                    *self
                }
            }
            impl<B: Backend> Copy for $name<'_, B> {}
            impl<B: Backend> Deref for $name<'_, B> {
                type Target = View<B>;
                fn deref(&self) -> &View<B> {
                    self.0
                }
            }
            impl<B: Backend> fmt::Debug for $name<'_, B> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    self.0.fmt(f)
                }
            }
        )*
    };
}

view_references! {
    Parameter: Float, DType::is_float, "of a float type";
    Indices: Index, |dtype| !dtype.is_float(), "of an integer type";
}

impl Parameter<'_, Cpu> {
    /// The elements in order, rounded to f32.
    pub(crate) fn to_f32(self) -> Result<Vec<f32>> {
        if self.dtype() == DType::F32 && self.is_contiguous() {
            return self.as_typed::<f32>()?.to_vec();
        }
        Ok(self.to_f64()?.into_iter().map(|value| value as f32).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_elements_are_told_apart() {
        let floats = Tensor::from_vec(vec![1.0f32], &[1]).unwrap();
        let integers = Tensor::from_vec(vec![1i64], &[1]).unwrap();
        assert!(Parameter::from_view(&floats).is_ok() && Indices::from_view(&integers).is_ok());
        assert!(Parameter::from_view(&integers).is_err() && Indices::from_view(&floats).is_err());
    }
}
