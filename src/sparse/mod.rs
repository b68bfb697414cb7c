//! Sparse matrices in compressed rows (CSR).
//!
//! A matrix of `rows` x `cols` is three arrays: the entries of row i are those from
//! `row_ptr[i]` to `row_ptr[i + 1]`, each with its column in `col` and its value in `val`. The
//! entry of the mathematical matrix is the sum of all that are stored at its place; where nothing
//! is stored it is zero. A **pattern** has no values: each is one.
//!
//! Columns are `u32`, row pointers [`Offset`]s: `u32` for up to 2^31 - 1 entries, `u64` for more.
//! The longest side is 2^31 - 1.
//!
//! A matrix is **canonical** where the columns of each row ascend strictly. Every matrix carries
//! two flags, [`is_sorted`](Csr::is_sorted) and [`is_unique`](Csr::is_unique), which the checks
//! of its constructor set, or the kernel that made it; they are never guessed. Unsorted or
//! repeated columns are no error.
//!
//! ```
//! use warpwright::sparse::{Csr, Reducer};
//!
//! // [1 0 2]
//! // [0 0 3], the 3 in two parts, and one column after the other out of order.
//! let a = Csr::new([2, 3], vec![0u32, 2, 4], vec![2, 0, 2, 2], vec![2.0f32, 1.0, 1.0, 2.0])?;
//! assert!(!a.is_sorted() && !a.is_unique());
//! let a = a.canonical(Reducer::Sum)?;
//! assert_eq!(a.val().expect("values").to_vec()?, [1.0, 2.0, 3.0]);
//! assert_eq!(a.transposed()?.row_ptr().to_vec()?, [0, 1, 1, 3]);
//! # Ok::<(), warpwright::Error>(())
//! ```

mod build;
mod canonical;
mod check;
mod fault;
pub mod matrix_market;
mod parts;
mod read;
mod scale;
mod sums;
mod transpose;
mod value;

use std::fmt;

pub use canonical::Reducer;
pub use fault::Fault;
pub use sums::EntriesPerRow;
pub use value::{Offset, Value};

pub(crate) use check::entries;
pub(crate) use read::{Reading, Rows};

use crate::backend::{Backend, Cpu};
use crate::element::DType;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// The longest side of a matrix; so that a column fits an `i32`, and `u32::MAX` is no column.
pub const MAX_SIDE: usize = i32::MAX as usize;

/// A matrix in compressed rows on a device. Cloning shares the memory.
#[derive(Clone)]
pub struct Csr<B: Backend, T: Value, O: Offset = u32> {
    rows: usize,
    cols: usize,
    row_ptr: Tensor<B, O>,
    col: Tensor<B, u32>,
    val: Option<Tensor<B, T>>,
    sorted: bool,
    unique: bool,
}

impl<T: Value, O: Offset> Csr<Cpu, T, O> {
    /// A matrix of these arrays, which are checked.
    ///
    /// # Errors
    ///
    /// [`Error::Sparse`] with the first [`Fault`] in the order of its variants.
    pub fn new(
        [rows, cols]: [usize; 2],
        row_ptr: Vec<O>,
        col: Vec<u32>,
        val: Vec<T>,
    ) -> Result<Self> {
        let (sorted, unique) = check::arrays([rows, cols], &row_ptr, &col, Some(val.len()))?;
        Self::assemble([rows, cols], row_ptr, col, Some(val), sorted, unique)
    }

    /// A pattern of these arrays, which are checked.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn pattern([rows, cols]: [usize; 2], row_ptr: Vec<O>, col: Vec<u32>) -> Result<Self> {
        let (sorted, unique) = check::arrays([rows, cols], &row_ptr, &col, None)?;
        Self::assemble([rows, cols], row_ptr, col, None, sorted, unique)
    }

    /// A canonical matrix of arrays that its maker knows to be right.
    pub(crate) fn canonical_parts(
        shape: [usize; 2],
        row_ptr: Vec<O>,
        col: Vec<u32>,
        val: Option<Vec<T>>,
    ) -> Result<Self> {
        Self::assemble(shape, row_ptr, col, val, true, true)
    }

    fn assemble(
        [rows, cols]: [usize; 2],
        row_ptr: Vec<O>,
        col: Vec<u32>,
        val: Option<Vec<T>>,
        sorted: bool,
        unique: bool,
    ) -> Result<Self> {
        let (lines, entries) = (row_ptr.len(), col.len());
        Ok(Self {
            rows,
            cols,
            row_ptr: Tensor::from_vec(row_ptr, &[lines])?,
            col: Tensor::from_vec(col, &[entries])?,
            val: val.map(|val| Tensor::from_vec(val, &[entries])).transpose()?,
            sorted,
            unique,
        })
    }

    /// The matrix with ones on the diagonal.
    ///
    /// # Errors
    ///
    /// [`Error::Sparse`] where the side is too long.
    pub fn identity(side: usize) -> Result<Self> {
        check::sides([side, side])?;
        let row_ptr = (0..=side).map(O::saturating).collect();
        let col = (0..side as u32).collect();
        Self::new([side, side], row_ptr, col, vec![T::ONE; side])
    }

    /// The arrays, for reading.
    pub(crate) fn read(&self) -> Result<Reading<'_, T>> {
        Reading::of(self)
    }

    /// The arrays themselves, without a copy where nobody shares them: row pointers, columns and
    /// values.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] while another call writes them.
    #[allow(clippy::type_complexity)]
    pub fn into_arrays(self) -> Result<(Vec<O>, Vec<u32>, Option<Vec<T>>)> {
        let val = self.val.map(Tensor::into_vec).transpose()?;
        Ok((self.row_ptr.into_vec()?, self.col.into_vec()?, val))
    }
}

impl<B: Backend, T: Value, O: Offset> Csr<B, T, O> {
    /// A matrix of arrays on a device: `row_ptr` of rows + 1, `col` and `val` of the same length,
    /// without gaps. `sorted` and `unique` are what its owner knows of the columns.
    ///
    /// # Errors
    ///
    /// [`Error::Sparse`] where a side is too long or lengths differ, [`Error::Shape`] where an
    /// array has gaps or more than one axis.
    ///
    /// # Safety
    ///
    /// Row pointers ascend from 0 to the number of columns, every column is below `cols`, and
    /// what is said of their order is true: kernels follow them without a check.
    pub unsafe fn from_tensors(
        [rows, cols]: [usize; 2],
        row_ptr: Tensor<B, O>,
        col: Tensor<B, u32>,
        val: Option<Tensor<B, T>>,
        [sorted, unique]: [bool; 2],
    ) -> Result<Self> {
        check::lengths(
            [rows, cols],
            row_ptr.elements(),
            col.elements(),
            val.as_ref().map(|val| val.elements()),
        )?;
        check::lines("row_ptr", &row_ptr)?;
        check::lines("col", &col)?;
        if let Some(val) = &val {
            check::lines("val", val)?;
        }
        Ok(Self { rows, cols, row_ptr, col, val, sorted, unique })
    }

    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// Stored entries.
    pub fn nnz(&self) -> usize {
        self.col.elements()
    }

    /// Where each row's entries begin, and the end of the last; (rows + 1).
    pub fn row_ptr(&self) -> &Tensor<B, O> {
        &self.row_ptr
    }

    /// The column of each entry; (nnz).
    pub fn col(&self) -> &Tensor<B, u32> {
        &self.col
    }

    /// The value of each entry; (nnz). A pattern has none.
    pub fn val(&self) -> Option<&Tensor<B, T>> {
        self.val.as_ref()
    }

    /// Whether the columns of each row never descend.
    pub fn is_sorted(&self) -> bool {
        self.sorted
    }

    /// Whether no row holds a column twice.
    pub fn is_unique(&self) -> bool {
        self.unique
    }

    /// Whether the columns of each row ascend strictly.
    pub fn is_canonical(&self) -> bool {
        self.sorted && self.unique
    }

    /// The device.
    pub fn backend(&self) -> &B {
        self.col.backend()
    }

    /// The same places without values, to be counted in another type; the memory is shared.
    pub fn to_pattern<U: Value>(&self) -> Csr<B, U, O> {
        let Self { rows, cols, sorted, unique, .. } = *self;
        let (row_ptr, col) = (self.row_ptr.clone(), self.col.clone());
        Csr { rows, cols, row_ptr, col, val: None, sorted, unique }
    }

    /// The same places with other values; row pointers and columns are shared.
    ///
    /// # Errors
    ///
    /// [`Error::Sparse`] where there are not as many values as entries, [`Error::Shape`] where
    /// they have gaps.
    pub fn with_values<U: Value>(&self, val: Tensor<B, U>) -> Result<Csr<B, U, O>> {
        let lines = self.row_ptr.elements();
        check::lengths(self.shape(), lines, self.nnz(), Some(val.elements()))?;
        check::lines("val", &val)?;
        Ok(Csr { val: Some(val), ..self.to_pattern() })
    }

    /// A copy on another device.
    ///
    /// # Errors
    ///
    /// Either device's refusal.
    pub fn to_backend<C: Backend>(&self, backend: &C) -> Result<Csr<C, T, O>> {
        let Self { rows, cols, sorted, unique, .. } = *self;
        Ok(Csr {
            rows,
            cols,
            row_ptr: self.row_ptr.to_backend(backend)?.typed()?,
            col: self.col.to_backend(backend)?.typed()?,
            val: self.val.as_ref().map(|val| val.to_backend(backend)?.typed()).transpose()?,
            sorted,
            unique,
        })
    }
}

impl<B: Backend, T: Value, O: Offset> fmt::Debug for Csr<B, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.val.is_some() { T::DTYPE.name() } else { "pattern" };
        write!(
            f,
            "{} x {} matrix of {} entries ({kind}, row pointers {}) on {}",
            self.rows,
            self.cols,
            self.nnz(),
            O::DTYPE,
            self.backend().name()
        )
    }
}

/// The types that values may have.
pub const VALUES: [DType; 5] = [DType::F32, DType::F64, DType::I32, DType::U32, DType::U8];

/// An [`Error::Sparse`] of the matrix itself.
pub(crate) fn fault(fault: Fault) -> Error {
    Error::Sparse { operation: "matrix", matrix: String::new(), fault }
}
