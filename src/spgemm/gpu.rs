//! What the launchers of PTX and of WGSL share.

use std::borrow::Cow;

use super::plan::Table;
use super::{Hash, Inputs, NAME, Options, Problem, Semiring};
use crate::backend::{Backend, Cpu};
use crate::sparse::{Csr, Offset, Reducer, Value};
use crate::{Error, Result};

/// All kernels that sum, each for the rows that suit it.
pub(super) const BINS: &str = "spgemm_bins";

/// The widest matrix of which all rows may go by windows.
pub(super) const WIDEST_OF_WINDOWS: usize = 1 << 22;

/// A matrix of the caller's, or a copy in another order.
pub(super) type Held<'a, B, T, O> = Cow<'a, Csr<B, T, O>>;

/// The matrices of a call: B and C0 with sorted rows, the mask canonical.
pub(super) struct Matrices<'a, B: Backend, T: Value, O: Offset> {
    pub a: &'a Csr<B, T, O>,
    pub b: Held<'a, B, T, O>,
    pub c0: Option<Held<'a, B, T, O>>,
    pub mask: Option<Held<'a, B, T, O>>,
}

impl<'a, B: Backend, T: Value, O: Offset> Matrices<'a, B, T, O> {
    /// Where sums keep an order, a row of B or C0 may not hold a column twice: two threads would
    /// add to one sum.
    pub fn of(device: &B, inputs: &Inputs<'a, B, T, O>, ordered: bool) -> Result<Self> {
        let terms = |matrix| if ordered { merged(device, matrix) } else { sorted(device, matrix) };
        Ok(Self {
            a: inputs.a,
            b: terms(inputs.b)?,
            c0: inputs.c0.map(terms).transpose()?,
            mask: inputs.mask.map(|mask| merged(device, mask)).transpose()?,
        })
    }

    /// Whether rows with one entry of A are those of B: nothing is left out, added or merged.
    pub fn copies(&self) -> bool {
        self.c0.is_none() && self.mask.is_none() && self.b.is_unique()
    }

    /// Whether the mask has to be searched: entries of C0 outside of it are kept beside products
    /// that it does not let through, so that its places cannot lie in the tables.
    pub fn searches(&self, options: &Options) -> bool {
        self.mask.is_some() && self.c0.is_some() && !options.replace
    }
}

/// The matrix with sorted rows. A copy is made on the host: it is asked for rarely.
fn sorted<'a, B: Backend, T: Value, O: Offset>(
    device: &B,
    matrix: &'a Csr<B, T, O>,
) -> Result<Held<'a, B, T, O>> {
    if matrix.is_sorted() {
        return Ok(Cow::Borrowed(matrix));
    }
    matrix.to_backend(&Cpu)?.sorted()?.to_backend(device).map(Cow::Owned)
}

/// The canonical matrix. Each entry of a pattern counts, so that there are values then.
fn merged<'a, B: Backend, T: Value, O: Offset>(
    device: &B,
    matrix: &'a Csr<B, T, O>,
) -> Result<Held<'a, B, T, O>> {
    if matrix.is_canonical() {
        return Ok(Cow::Borrowed(matrix));
    }
    let valued = matrix.to_backend(&Cpu)?.map_values(|value| value)?;
    valued.canonical(Reducer::Sum)?.to_backend(device).map(Cow::Owned)
}

/// The product of nothing, where there is nothing to multiply or add.
pub(super) fn empty<B: Backend, T: Value, O: Offset>(
    device: &B,
    problem: &Problem,
    inputs: &Inputs<'_, B, T, O>,
) -> Result<Option<Csr<B, T, O>>> {
    let nothing = problem.nnz_a == 0 || problem.nnz_b == 0;
    if problem.rows > 0 && problem.cols > 0 && !(nothing && inputs.c0.is_none()) {
        return Ok(None);
    }
    let shape = [problem.rows, problem.cols];
    let zero = O::of(0).unwrap_or(O::MOST);
    let row_ptr = vec![zero; problem.rows + 1];
    let nothing = Csr::canonical_parts(shape, row_ptr, Vec::new(), Some(Vec::new()))?;
    nothing.to_backend(device).map(Some)
}

/// What sum and product mean, and of what values, as the kernels' tables name it.
pub(super) fn kind<T: Value>(semiring: Semiring) -> String {
    format!("{}_{}", semiring.name().replace('-', "_"), T::DTYPE)
}

/// Whether sums are asked to go from left to right, and it shows.
pub(super) fn is_ordered<T: Value>(options: &Options) -> bool {
    options.deterministic && !options.semiring.is_exact(T::DTYPE)
}

/// 2³² over the golden ratio.
pub(super) const GOLDEN: u32 = 2_654_435_769;

/// Multiplier and shift of a hash into a table; a shift above 31 goes by the row's width.
pub(super) fn hash(hash: Hash, table: Table) -> (u32, u32) {
    match hash {
        Hash::Multiplicative => (GOLDEN, 32 - table.slots_log),
        Hash::LowBits => (1, 0),
        Hash::HighBits => (1, u32::MAX),
    }
}

/// The bins of rows.
pub(super) mod bin {
    pub const COPIED: usize = 1;
    pub const TABLES: usize = 2;
    pub const WINDOW: usize = 10;
    pub const WINDOWS: usize = 11;
    pub const HASHED: usize = 12;
}

/// How many rows each bin has.
pub(super) struct Bins(pub [u32; 16]);

/// A bin: where its rows begin in their order, and how many there are.
#[derive(Clone, Copy)]
pub(super) struct Bin {
    pub number: usize,
    pub first: u32,
    pub rows: u32,
}

impl Bins {
    /// The rows of a bin; those without an entry are of none.
    pub fn bin(&self, number: usize) -> Bin {
        let first = self.0[1..number].iter().sum();
        Bin { number, first, rows: self.0[number] }
    }
}

/// Products of known places do not run on GPUs yet.
pub(super) fn no_values(backend: String) -> Error {
    Error::Unsupported {
        operation: NAME,
        backend,
        what: "products of known places yet".to_owned(),
        instead: "multiply again, or use the device cpu".to_owned(),
    }
}
