//! Where the matrices of a call lie.

use super::super::gpu::Matrices;
use super::super::{Inputs, NAME};
use crate::Result;
use crate::backend::cuda::{Address, Cuda};
use crate::sparse::{Csr, Offset, Value};
use crate::tensor::View;

/// The matrices of a call, whose arrays belong to the stream.
pub(super) fn matrices<'a, T: Value, O: Offset>(
    device: &Cuda,
    inputs: &Inputs<'a, Cuda, T, O>,
) -> Result<Matrices<'a, Cuda, T, O>> {
    let &Inputs { a, b, c0, mask } = inputs;
    for (name, matrix) in [("A", Some(a)), ("B", Some(b)), ("C0", c0), ("mask", mask)] {
        let Some(matrix) = matrix else { continue };
        let val = matrix.val().map(|val| (name, &**val));
        let places = [(name, &**matrix.row_ptr()), (name, &**matrix.col())];
        device.check_streams(NAME, places.into_iter().chain(val))?;
    }
    Matrices::of(device, inputs)
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
