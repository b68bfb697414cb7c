//! The matrices of a call as the kernels need them.

use std::borrow::Cow;

use super::super::{Inputs, NAME};
use crate::Result;
use crate::backend::Cpu;
use crate::backend::cuda::{Address, Cuda};
use crate::sparse::{Csr, Offset, Reducer, Value};
use crate::tensor::View;

/// A matrix of the caller's, or a copy in another order.
type Held<'a, T, O> = Cow<'a, Csr<Cuda, T, O>>;

/// The matrices of a call: B and C0 with sorted rows, the mask canonical.
pub(super) struct Matrices<'a, T: Value, O: Offset> {
    pub a: &'a Csr<Cuda, T, O>,
    pub b: Held<'a, T, O>,
    pub c0: Option<Held<'a, T, O>>,
    pub mask: Option<Held<'a, T, O>>,
}

impl<'a, T: Value, O: Offset> Matrices<'a, T, O> {
    pub fn of(device: &Cuda, inputs: &Inputs<'a, Cuda, T, O>) -> Result<Self> {
        let &Inputs { a, b, c0, mask } = inputs;
        for (name, matrix) in [("A", Some(a)), ("B", Some(b)), ("C0", c0), ("mask", mask)] {
            let Some(matrix) = matrix else { continue };
            let val = matrix.val().map(|val| (name, &**val));
            let places = [(name, &**matrix.row_ptr()), (name, &**matrix.col())];
            device.check_streams(NAME, places.into_iter().chain(val))?;
        }
        let sorted = |matrix| sorted(device, matrix);
        Ok(Self {
            a,
            b: sorted(b)?,
            c0: c0.map(sorted).transpose()?,
            mask: mask.map(|mask| canonical(device, mask)).transpose()?,
        })
    }
}

impl<T: Value, O: Offset> Matrices<'_, T, O> {
    /// Whether a row whose entries are terms of sums may hold a column twice.
    pub fn repeats(&self) -> bool {
        !self.b.is_unique() || self.c0.as_ref().is_some_and(|c0| !c0.is_unique())
    }
}

/// The matrix with sorted rows. A copy is made on the host: it is asked for rarely.
fn sorted<'a, T: Value, O: Offset>(
    device: &Cuda,
    matrix: &'a Csr<Cuda, T, O>,
) -> Result<Held<'a, T, O>> {
    if matrix.is_sorted() {
        return Ok(Cow::Borrowed(matrix));
    }
    matrix.to_backend(&Cpu)?.sorted()?.to_backend(device).map(Cow::Owned)
}

/// The same places, each once, in order.
fn canonical<'a, T: Value, O: Offset>(
    device: &Cuda,
    matrix: &'a Csr<Cuda, T, O>,
) -> Result<Held<'a, T, O>> {
    if matrix.is_canonical() {
        return Ok(Cow::Borrowed(matrix));
    }
    matrix.to_backend(&Cpu)?.canonical(Reducer::Sum)?.to_backend(device).map(Cow::Owned)
}

/// The address of a tensor that may be absent.
pub(super) fn optional(view: Option<&View<Cuda>>) -> Address {
    view.map_or(Address::NULL, Address::of)
}

/// Where a matrix's row pointers and columns lie.
pub(super) fn places<T: Value, O: Offset>(matrix: Option<&Csr<Cuda, T, O>>) -> [Address; 2] {
    let row_ptr = matrix.map(|matrix| &**matrix.row_ptr());
    [optional(row_ptr), optional(matrix.map(|matrix| &**matrix.col()))]
}
