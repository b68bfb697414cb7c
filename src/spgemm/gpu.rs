//! What the launchers of PTX and of WGSL share.

use std::borrow::Cow;

use super::plan::Table;
use super::{Hash, Inputs, NAME, Options, Problem, Semiring};
use crate::Result;
use crate::backend::{Backend, Cpu};
use crate::sparse::{Csr, Offset, Reducer, Value};
use crate::variant::{forced, no_such_variant};

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
    pub fn of(device: &B, inputs: &Inputs<'a, B, T, O>) -> Result<Self> {
        let sorted = |matrix| sorted(device, matrix);
        Ok(Self {
            a: inputs.a,
            b: sorted(inputs.b)?,
            c0: inputs.c0.map(sorted).transpose()?,
            mask: inputs.mask.map(|mask| canonical(device, mask)).transpose()?,
        })
    }

    /// Whether a row whose entries are terms of sums may hold a column twice.
    pub fn repeats(&self) -> bool {
        !self.b.is_unique() || self.c0.as_ref().is_some_and(|c0| !c0.is_unique())
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

/// The same places, each once, in order.
fn canonical<'a, B: Backend, T: Value, O: Offset>(
    device: &B,
    matrix: &'a Csr<B, T, O>,
) -> Result<Held<'a, B, T, O>> {
    if matrix.is_canonical() {
        return Ok(Cow::Borrowed(matrix));
    }
    matrix.to_backend(&Cpu)?.canonical(Reducer::Sum)?.to_backend(device).map(Cow::Owned)
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
    let row_ptr = vec![O::saturating(0); problem.rows + 1];
    let nothing = Csr::canonical_parts(shape, row_ptr, Vec::new(), Some(Vec::new()))?;
    nothing.to_backend(device).map(Some)
}

/// The variant of a call, of the kernels that sum by these names: all of them together where none
/// is asked for.
pub(super) fn variant<N: Iterator<Item = &'static str>>(
    device: &impl Backend,
    options: &Options,
    names: impl Fn() -> N,
) -> Result<&'static str> {
    let all = || std::iter::once(BINS).chain(names());
    match forced(NAME, options.variant.as_ref()) {
        None => Ok(BINS),
        Some(asked) => all()
            .find(|&name| name == asked)
            .ok_or_else(|| no_such_variant(NAME, device.name(), &asked, all())),
    }
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
const GOLDEN: u32 = 2_654_435_769;

/// Multiplier and shift of a hash into a table; a shift above 32 goes by the row's width.
pub(super) fn hash(hash: Hash, table: Table) -> (u32, u32) {
    hash_with(hash, 32 - table.slots_log)
}

/// The same for tables whose rows take as many slots as they need: a shift of 32 goes by those.
pub(super) fn hash_by_row(hash: Hash) -> (u32, u32) {
    hash_with(hash, 32)
}

fn hash_with(hash: Hash, shift: u32) -> (u32, u32) {
    match hash {
        Hash::Multiplicative => (GOLDEN, shift),
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
#[derive(Debug)]
pub(super) struct Bins(pub [u32; 16]);

/// A bin: where its rows begin in their order, and how many there are.
#[derive(Clone, Copy)]
pub(super) struct Bin {
    #[cfg(feature = "cuda")]
    pub number: usize,
    pub first: u32,
    pub rows: u32,
}

impl Bins {
    /// The rows of a bin; those without an entry are of none.
    pub fn bin(&self, number: usize) -> Bin {
        let first = self.0[1..number].iter().sum();
        Bin {
            #[cfg(feature = "cuda")]
            number,
            first,
            rows: self.0[number],
        }
    }
}
