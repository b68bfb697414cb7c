//! The product of a matrix and its transpose.

use super::{Inputs, NAME, Options, Semiring, multiply};
use crate::backend::Cpu;
use crate::sparse::{Csr, Fault, Offset, Value};
use crate::{Error, Result};

/// A ⊕.⊗ Aᵀ, all pairs of rows: c_ij = ⊕_l a_il ⊗ a_jl. It equals its transpose to the bit. That
/// of columns, Aᵀ A, is `gram(&a.transposed()?, semiring)`.
///
/// ```
/// use warpwright::sparse::Csr;
/// use warpwright::spgemm::{self, Semiring};
///
/// // [1 2]
/// // [0 3]
/// let a = Csr::new([2, 2], vec![0u32, 2, 3], vec![0, 1, 1], vec![1.0f32, 2.0, 3.0])?;
/// let pairs = spgemm::gram(&a, Semiring::PlusTimes)?;
/// assert_eq!(pairs.val().expect("values").to_vec()?, [5.0, 6.0, 6.0, 9.0]);
/// # Ok::<(), warpwright::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Sparse`] where A is not canonical, and as [`multiply`].
pub fn gram<T: Value, O: Offset>(a: &Csr<Cpu, T, O>, semiring: Semiring) -> Result<Csr<Cpu, T, O>> {
    // Columns of canonical rows ascend and do not repeat. So c_ij and c_ji are sums of the same
    // products, whose factors commute, in the same order.
    if !a.is_canonical() {
        let (matrix, fault) = ("A".to_owned(), Fault::NotCanonical);
        return Err(Error::Sparse { operation: NAME, matrix, fault });
    }
    let transposed = a.transposed()?;
    multiply(&Inputs::new(a, &transposed), &Options::default().with_semiring(semiring))
}
