//! The reference: every row summed as it is defined, in one thread.
//!
//! For every entry a_il of a row of A in the order in which it is stored, for every b_lj as it is
//! stored: c_j = c_j ⊕ (a_il ⊗ b_lj), where the first product at a column is stored as it is.
//! Twice, by different means that must agree: with a row at full width and a list of the columns
//! that were touched, and with a map. And in f64 beside the sum of magnitudes, for tolerances.

use std::collections::BTreeMap;

use super::read::{Operands, Read};
use super::semiring::{Ring, with_ring};
use super::{Inputs, Options, Problem};
use crate::Result;
use crate::backend::Cpu;
use crate::sparse::{Csr, Offset, Value};

/// The product, by rows at full width.
///
/// # Errors
///
/// As [`multiply`](super::multiply).
pub fn dense<T: Value, O: Offset>(
    inputs: &Inputs<'_, Cpu, T, O>,
    options: &Options,
) -> Result<Csr<Cpu, T, O>> {
    let cols = inputs.b.shape()[1];
    let mut values = vec![T::ZERO; cols];
    let mut taken = vec![false; cols];
    let mut touched = Vec::new();
    by_rows(inputs, options, |terms, add| {
        for (col, term) in terms {
            let col = col as usize;
            values[col] = if taken[col] { add(values[col], term) } else { term };
            if !std::mem::replace(&mut taken[col], true) {
                touched.push(col);
            }
        }
        touched.sort_unstable();
        let row = touched.iter().map(|&col| (col as u32, values[col])).collect();
        touched.drain(..).for_each(|col| taken[col] = false);
        row
    })
}

/// The product, by maps.
///
/// # Errors
///
/// As [`multiply`](super::multiply).
pub fn mapped<T: Value, O: Offset>(
    inputs: &Inputs<'_, Cpu, T, O>,
    options: &Options,
) -> Result<Csr<Cpu, T, O>> {
    by_rows(inputs, options, |terms, add| {
        let mut sums: BTreeMap<u32, T> = BTreeMap::new();
        for (col, term) in terms {
            sums.entry(col).and_modify(|sum| *sum = add(*sum, term)).or_insert(term);
        }
        sums.into_iter().collect()
    })
}

/// The row that the terms sum to, with this sum.
type Terms<T> = Vec<(u32, T)>;

fn by_rows<T: Value, O: Offset>(
    inputs: &Inputs<'_, Cpu, T, O>,
    options: &Options,
    mut sum: impl FnMut(Terms<T>, fn(T, T) -> T) -> Terms<T>,
) -> Result<Csr<Cpu, T, O>> {
    let Problem { rows, cols, .. } = Problem::check(inputs, options)?;
    let read = Read::of(inputs)?;
    let call = Call { operands: read.operands(options)?, options };
    let (mut row_ptr, mut col, mut val) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..rows {
        row_ptr.push(col.len());
        let (columns, values): (Vec<u32>, Vec<T>) = with_ring!(options.semiring, |R| {
            sum(call.terms::<R>(row), <R as Ring<T>>::add).into_iter().unzip()
        });
        col.extend(columns);
        val.extend(values);
    }
    row_ptr.push(col.len());
    super::too_large(crate::sparse::entries::<O>(col.len() as u64))?;
    let row_ptr = row_ptr.into_iter().map(O::saturating).collect();
    Csr::new([rows, cols], row_ptr, col, val)
}

/// The values of a plus-times product in f64, and for each the sum of the magnitudes of its terms
/// and their number.
///
/// # Errors
///
/// As [`multiply`](super::multiply).
pub fn exact<T: Value, O: Offset>(
    inputs: &Inputs<'_, Cpu, T, O>,
    options: &Options,
) -> Result<Vec<Exact>> {
    let problem = Problem::check(inputs, options)?;
    let read = Read::of(inputs)?;
    let call = Call { operands: read.operands(options)?, options };
    let mut values = Vec::new();
    for row in 0..problem.rows {
        let mut sums: BTreeMap<u32, Exact> = BTreeMap::new();
        for (col, factors) in call.factors(row) {
            let term = factors.iter().product();
            sums.entry(col).or_default().add(term);
        }
        values.extend(sums.into_values());
    }
    Ok(values)
}

/// An entry of a product in f64.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Exact {
    sum: f64,
    /// The sum of the magnitudes of its terms.
    pub magnitude: f64,
    /// How many terms there are.
    pub terms: usize,
    /// What the roundings of `sum` have taken from it.
    lost: f64,
}

impl Exact {
    /// The value, with the rounding of each addition made good.
    pub fn value(&self) -> f64 {
        // Where the sum is no finite number, what was lost is none either.
        if self.sum.is_finite() { self.sum + self.lost } else { self.sum }
    }

    /// Adds a term; two-sum of Knuth.
    fn add(&mut self, term: f64) {
        let sum = self.sum + term;
        let taken = sum - self.sum;
        self.lost += (self.sum - (sum - taken)) + (term - taken);
        self.sum = sum;
        self.magnitude += term.abs();
        self.terms += 1;
    }
}

/// A product, read.
struct Call<'a, T> {
    operands: Operands<'a, T>,
    options: &'a Options,
}

impl<T: Value> Call<'_, T> {
    /// Whether the mask lets a place through.
    fn passes(&self, row: usize, col: u32) -> bool {
        let complement = self.options.complement;
        self.operands.mask.is_none_or(|mask| mask.columns(row).contains(&col) != complement)
    }

    /// The entries of C0 that are added to a row.
    fn added(&self, row: usize) -> impl Iterator<Item = (u32, T)> {
        let c0 = self.operands.c0.into_iter().flat_map(move |c0| c0.row(row));
        c0.filter(move |(col, _)| !self.options.replace || self.passes(row, *col))
    }

    /// Column, a and b of each product of a row, in their order.
    fn products(&self, row: usize) -> impl Iterator<Item = (u32, T, T)> {
        let Operands { a, b, .. } = self.operands;
        let pairs =
            a.row(row).flat_map(move |(l, a)| b.row(l as usize).map(move |(col, b)| (col, a, b)));
        pairs.filter(move |(col, ..)| self.passes(row, *col))
    }

    /// The terms of a row with their columns, in the order in which they are summed.
    fn terms<R: Ring<T>>(&self, row: usize) -> Terms<T> {
        let (alpha, beta) = (self.options.alpha, self.options.beta.unwrap_or(0.0));
        let scaled = |factor: f64, value: T| match factor {
            1.0 => value,
            0.0 => T::ZERO,
            factor => T::from_f64(factor).multiply(value),
        };
        let added = self.added(row).map(|(col, value)| (col, scaled(beta, value)));
        let products = self.products(row);
        let products = products.map(|(col, a, b)| (col, R::multiply(scaled(alpha, a), b)));
        added.chain(products).collect()
    }

    /// The factors of each term of a row of plus-times, exactly.
    fn factors(&self, row: usize) -> Vec<(u32, [f64; 3])> {
        let (alpha, beta) = (self.options.alpha, self.options.beta.unwrap_or(0.0));
        let exact = |factor: f64, first: T, second: T| match factor {
            0.0 => [0.0; 3],
            factor => [T::from_f64(factor).to_f64(), first.to_f64(), second.to_f64()],
        };
        let added = self.added(row).map(|(col, value)| (col, exact(beta, value, T::ONE)));
        let products = self.products(row).map(|(col, a, b)| (col, exact(alpha, a, b)));
        added.chain(products).collect()
    }
}
