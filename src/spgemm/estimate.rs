//! What a product will take, without making it.

use rayon::prelude::*;

use super::read::{Operands, Read};
use super::{Inputs, Options, Problem};
use crate::Result;
use crate::backend::Cpu;
use crate::sparse::{Csr, Offset, Rows, Value};

/// What a product A B of m rows will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Estimate {
    /// P = Σ_i P_i, where P_i = Σ_l (entries of row l of B) over the entries a_il.
    pub products: u64,
    /// max_i P_i.
    pub most_products: u64,
    /// Σ_i min(P_i, R_i), where R_i counts the columns from the first to the last that row i
    /// reaches: the product has no more entries.
    pub most_entries: u64,
    /// P Σ_s z_s / Σ_s P_s over about √m rows s, whose entries z_s are counted: about as many
    /// entries the product has. Where those rows have no products, the most.
    pub entries: u64,
}

/// Estimates the product A B. It takes time of the order of the entries of A and of B, and of the
/// products of about √m rows.
///
/// ```
/// use warpwright::sparse::Csr;
/// use warpwright::spgemm;
///
/// // [1 1] has two products with the two rows of [1 0; 1 0], both at one column.
/// let a = Csr::<_, f32>::pattern([1, 2], vec![0u32, 2], vec![0, 1])?;
/// let b = Csr::pattern([2, 2], vec![0, 1, 2], vec![0, 0])?;
/// let estimate = spgemm::estimate(&a, &b)?;
/// assert_eq!((estimate.products, estimate.most_products), (2, 2));
/// assert_eq!((estimate.most_entries, estimate.entries), (1, 1));
/// # Ok::<(), warpwright::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape) where sides do not match.
pub fn estimate<T: Value, O: Offset>(a: &Csr<Cpu, T, O>, b: &Csr<Cpu, T, O>) -> Result<Estimate> {
    // Places alone matter, so values of any type are left out.
    let (a, b) = (a.to_pattern::<u32>(), b.to_pattern::<u32>());
    let (inputs, options) = (Inputs::new(&a, &b), Options::default());
    let problem = Problem::check(&inputs, &options)?;
    let read = Read::of(&inputs)?;
    let operands = read.operands(&options)?;
    let products = |row| operands.products(row);
    let rows = || (0..problem.rows).into_par_iter();
    let spans = spans(operands.b);
    let most_entries = rows().map(|row| products(row).min(reach(&operands, &spans, row))).sum();
    let all: u64 = rows().map(products).sum();
    let sample = sample(problem.rows);
    let found: u64 = sample.par_iter().map(|&row| entries(&operands, row)).sum();
    let of: u64 = sample.iter().copied().map(products).sum();
    let scaled = (all as f64 * found as f64 / of as f64).round() as u64;
    Ok(Estimate {
        products: all,
        most_products: rows().map(products).max().unwrap_or(0),
        most_entries,
        entries: if of == 0 { most_entries } else { scaled.min(most_entries) },
    })
}

/// The first and the last column of each row; none of an empty one.
fn spans(rows: Rows<'_, u32>) -> Vec<Option<(u32, u32)>> {
    let span = |row| {
        let columns = rows.columns(row).iter().copied();
        Some((columns.clone().min()?, columns.max()?))
    };
    (0..rows.len()).into_par_iter().map(span).collect()
}

/// How many columns there are from the first to the last that a row of the product reaches.
fn reach(operands: &Operands<'_, u32>, spans: &[Option<(u32, u32)>], row: usize) -> u64 {
    let reached = operands.a.columns(row).iter().filter_map(|&inner| spans[inner as usize]);
    let all = reached.reduce(|(first, last), (low, high)| (first.min(low), last.max(high)));
    all.map_or(0, |(first, last)| u64::from(last - first) + 1)
}

/// About √m of m rows: one of each √m neighbours, at a place without pattern, so that rows that
/// repeat periodically are not all alike in the sample.
fn sample(rows: usize) -> Vec<usize> {
    let width = rows.isqrt().max(1);
    let drawn = |number: usize| (number as u32).wrapping_mul(2_654_435_769) >> 8;
    let starts = (0..rows).step_by(width).enumerate();
    starts.map(|(i, start)| start + drawn(i) as usize % width.min(rows - start)).collect()
}

/// Entries of a row of the product.
fn entries(operands: &Operands<'_, u32>, row: usize) -> u64 {
    let inner = operands.a.columns(row).iter();
    let mut columns: Vec<u32> =
        inner.flat_map(|&inner| operands.b.columns(inner as usize)).copied().collect();
    columns.sort_unstable();
    columns.dedup();
    columns.len() as u64
}
