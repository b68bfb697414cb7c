//! The matrices of a product.

use crate::Result;
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

/// The matrices of a product, owned.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Matrices<B: Backend, T: Value> {
    /// A, (m, k).
    pub a: Csr<B, T>,
    /// B, (k, n).
    pub b: Csr<B, T>,
    /// C0, (m, n).
    pub c0: Option<Csr<B, T>>,
    /// M, (m, n).
    pub mask: Option<Csr<B, T>>,
}

impl<B: Backend, T: Value> Matrices<B, T> {
    /// The inputs of a call.
    pub fn inputs(&self) -> Inputs<'_, B, T> {
        let mut inputs = Inputs::new(&self.a, &self.b);
        (inputs.c0, inputs.mask) = (self.c0.as_ref(), self.mask.as_ref());
        inputs
    }

    /// Copies on another device.
    ///
    /// # Errors
    ///
    /// Either device's refusal.
    pub fn to_backend<C: Backend>(&self, backend: &C) -> Result<Matrices<C, T>> {
        self.inputs().to_backend(backend)
    }
}

impl<B: Backend, T: Value> Inputs<'_, B, T> {
    /// Copies on another device.
    ///
    /// # Errors
    ///
    /// Either device's refusal.
    pub fn to_backend<C: Backend>(&self, backend: &C) -> Result<Matrices<C, T>> {
        let there = |matrix: &Csr<B, T>| matrix.to_backend(backend);
        Ok(Matrices {
            a: there(self.a)?,
            b: there(self.b)?,
            c0: self.c0.map(there).transpose()?,
            mask: self.mask.map(there).transpose()?,
        })
    }
}
