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
    /// Where sums keep an order, a row of B or C0 may not hold a column twice: two threads would
    /// add to one sum.
    pub fn of(device: &Cuda, inputs: &Inputs<'a, Cuda, T, O>, ordered: bool) -> Result<Self> {
        let &Inputs { a, b, c0, mask } = inputs;
        for (name, matrix) in [("A", Some(a)), ("B", Some(b)), ("C0", c0), ("mask", mask)] {
            let Some(matrix) = matrix else { continue };
            let val = matrix.val().map(|val| (name, &**val));
            let places = [(name, &**matrix.row_ptr()), (name, &**matrix.col())];
            device.check_streams(NAME, places.into_iter().chain(val))?;
        }
        let terms = |matrix| if ordered { merged(device, matrix) } else { sorted(device, matrix) };
        Ok(Self {
            a,
            b: terms(b)?,
            c0: c0.map(terms).transpose()?,
            mask: mask.map(|mask| merged(device, mask)).transpose()?,
        })
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

/// The canonical matrix. Each entry of a pattern counts, so that there are values then.
fn merged<'a, T: Value, O: Offset>(
    device: &Cuda,
    matrix: &'a Csr<Cuda, T, O>,
) -> Result<Held<'a, T, O>> {
    if matrix.is_canonical() {
        return Ok(Cow::Borrowed(matrix));
    }
    let valued = matrix.to_backend(&Cpu)?.map_values(|value| value)?;
    valued.canonical(Reducer::Sum)?.to_backend(device).map(Cow::Owned)
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
