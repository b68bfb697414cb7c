//! The matrices of a product.

use crate::backend::Backend;
use crate::sparse::{Csr, Offset, Value};

/// The matrices of a product. Made by [`Inputs::new`] and the `with_…` methods.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Inputs<'a, B: Backend, T: Value, O: Offset = u32> {
    /// A, (m, k).
    pub a: &'a Csr<B, T, O>,
    /// B, (k, n).
    pub b: &'a Csr<B, T, O>,
    /// C0, (m, n), which is added with the factor β.
    pub c0: Option<&'a Csr<B, T, O>>,
    /// M, (m, n): its places, whatever its values.
    pub mask: Option<&'a Csr<B, T, O>>,
}

impl<'a, B: Backend, T: Value, O: Offset> Inputs<'a, B, T, O> {
    /// The factors.
    pub fn new(a: &'a Csr<B, T, O>, b: &'a Csr<B, T, O>) -> Self {
        Self { a, b, c0: None, mask: None }
    }

    /// With a matrix to be added; give its factor with
    /// [`Options::with_beta`](super::Options::with_beta).
    pub fn with_c0(mut self, c0: &'a Csr<B, T, O>) -> Self {
        self.c0 = Some(c0);
        self
    }

    /// With a mask: only its places are computed, or only the others, as
    /// [`Options::complement`](super::Options::complement) says.
    pub fn with_mask(mut self, mask: &'a Csr<B, T, O>) -> Self {
        self.mask = Some(mask);
        self
    }
}
