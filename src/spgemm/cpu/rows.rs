//! A product by rows: each is summed in an accumulator.

use std::ops::{Range, RangeInclusive};
use std::slice;

use rayon::prelude::*;

use super::accumulator::{Accumulator, Scaled};
use super::parts::{Made, PartMaker, Parts, known_rows};
use crate::Result;
use crate::sparse::{Rows, Value};
use crate::spgemm::read::{Operands, Read};
use crate::spgemm::semiring::{Ring, with_ring};
use crate::spgemm::{Options, Problem, Semiring};

/// Products of a part, about: what they leave stays in a cache until its place is known.
const PRODUCTS_IN_PART: usize = 1 << 15;

/// Products of a row that need not be counted, but are bounded.
const FEW: u64 = 32;

/// A product, read.
pub(super) struct Call<'a, T> {
    pub problem: &'a Problem,
    pub operands: Operands<'a, T>,
    /// Entries of the longest row of B.
    longest: u64,
    complement: bool,
    /// Whether entries of C0 are subject to the mask.
    replace: bool,
    pub semiring: Semiring,
    alpha: T,
    beta: T,
}

impl<'a, T: Value> Call<'a, T> {
    pub fn of(problem: &'a Problem, read: &'a Read<'_, T>, options: &Options) -> Result<Self> {
        let operands = read.operands(options)?;
        let lengths = (0..operands.b.len()).into_par_iter().map(|row| operands.b.range(row).len());
        Ok(Self {
            problem,
            operands,
            longest: lengths.max().unwrap_or(0) as u64,
            complement: options.complement,
            replace: options.replace,
            semiring: options.semiring,
            alpha: T::from_f64(options.alpha),
            beta: T::from_f64(options.beta.unwrap_or(0.0)),
        })
    }

    /// Rows and columns of the product.
    pub fn shape(&self) -> [usize; 2] {
        [self.problem.rows, self.problem.cols]
    }

    /// The rows in parts of about as many entries of A, few enough for about as many products as
    /// stay in a cache.
    pub fn parts(&self) -> Parts {
        let Operands { a, b, .. } = self.operands;
        let per_entry = (b.col.len() / b.len().max(1)).max(1);
        let work = |row| a.range(row).len() as u64;
        Parts::new(self.problem.rows, work, (PRODUCTS_IN_PART / per_entry) as u64)
    }

    /// Products of all rows.
    pub fn products(&self) -> u64 {
        (0..self.problem.rows).into_par_iter().map(|row| self.operands.products(row)).sum()
    }

    /// The most entries that a row can have.
    #[inline(always)]
    pub fn bound(&self, row: usize) -> usize {
        let Operands { a, c0, mask, .. } = self.operands;
        let length = |rows: Rows<'_, T>| rows.range(row).len() as u64;
        let mut products = length(a).saturating_mul(self.longest);
        if products > FEW {
            products = self.operands.products(row);
        }
        let reached = products + c0.map_or(0, length);
        let let_through = mask.filter(|_| self.all_masked()).map_or(u64::MAX, length);
        // A side fits usize.
        reached.min(let_through).min(self.problem.cols as u64) as usize
    }

    /// Whether no entry lies outside of the mask.
    fn all_masked(&self) -> bool {
        !self.complement && (self.operands.c0.is_none() || self.replace)
    }

    /// The most entries that the product can have, if each row that A reaches were the longest.
    pub fn most_at_first_sight(&self) -> u64 {
        let Operands { a, c0, mask, .. } = self.operands;
        let products = (a.col.len() as u64).saturating_mul(self.longest);
        let reached = products.saturating_add(c0.map_or(0, |c0| c0.col.len() as u64));
        let masked = mask.filter(|_| self.all_masked());
        reached.min(masked.map_or(u64::MAX, |mask| mask.col.len() as u64))
    }

    /// The most entries that the product can have.
    pub fn most(&self) -> u64 {
        (0..self.problem.rows).into_par_iter().map(|row| self.bound(row) as u64).sum()
    }

    /// The value of an entry of A, with the factor α.
    #[inline(always)]
    pub fn left(&self, entry: usize) -> T {
        self.alpha.multiply(self.operands.a.value(entry))
    }

    /// Sums one row: C0 first, then the entries of A as they are stored. How many products it has.
    #[inline(always)]
    fn sum<R: Ring<T>, A: Accumulator<T>, const MASKED: bool>(
        &self,
        row: usize,
        upper: usize,
        accumulator: &mut A,
        list: &mut [u32],
    ) -> u64 {
        let Operands { a, b, c0, mask } = self.operands;
        accumulator.begin(upper, || self.span(row));
        if MASKED && let Some(mask) = mask {
            accumulator.set_mask(mask.columns(row), self.complement);
        }
        if let Some(c0) = c0 {
            let row = std::iter::once(scaled(c0, row, self.beta));
            match self.replace {
                true => accumulator.add::<R, MASKED>(row, list),
                false => accumulator.add::<R, false>(row, list),
            };
        }
        let (columns, values) = a.entries(row);
        let (columns, values) = (columns.iter(), values.map(<[T]>::iter));
        let reached = Reached { columns, values, b, alpha: self.alpha };
        accumulator.add::<R, MASKED>(reached, list)
    }

    /// The columns between the first and the last that a row reaches, where rows are sorted.
    fn span(&self, row: usize) -> Option<RangeInclusive<u32>> {
        let Operands { a, b, c0, .. } = self.operands;
        if !(b.sorted && c0.is_none_or(|c0| c0.sorted)) {
            return None;
        }
        let reached = a.columns(row).iter().map(|&inner| b.columns(inner as usize));
        let ends = |columns: &[u32]| Some((*columns.first()?, *columns.last()?));
        let (mut low, mut high) = (u32::MAX, 0);
        for (first, last) in
            c0.map(|c0| c0.columns(row)).into_iter().chain(reached).filter_map(ends)
        {
            (low, high) = (low.min(first), high.max(last));
        }
        Some(low..=high).filter(|span| !span.is_empty())
    }
}

/// The rows of B that entries of A reach. Not a `map`, which would be called for each.
struct Reached<'a, T> {
    columns: slice::Iter<'a, u32>,
    values: Option<slice::Iter<'a, T>>,
    b: Rows<'a, T>,
    alpha: T,
}

impl<'a, T: Value> Iterator for Reached<'a, T> {
    type Item = Scaled<'a, T>;

    #[inline(always)]
    fn next(&mut self) -> Option<Scaled<'a, T>> {
        let inner = *self.columns.next()? as usize;
        let value = match &mut self.values {
            Some(values) => *values.next()?,
            None => T::ONE,
        };
        Some(scaled(self.b, inner, self.alpha.multiply(value)))
    }
}

/// A row of a matrix, and what multiplies it.
#[inline(always)]
fn scaled<T: Value>(matrix: Rows<'_, T>, row: usize, factor: T) -> Scaled<'_, T> {
    let (columns, values) = matrix.entries(row);
    Scaled { factor, columns, values }
}

/// Makes rows as sums in an accumulator.
pub(super) struct Sums<'a, T, A> {
    call: &'a Call<'a, T>,
    accumulator: A,
    /// Of rows whose columns are known already.
    list: Vec<u32>,
}

impl<'a, T: Value, A: Accumulator<T>> Sums<'a, T, A> {
    pub fn new(call: &'a Call<'a, T>) -> Self {
        let neutral = with_ring!(call.semiring, |R| <R as Ring<T>>::NEUTRAL);
        Self { call, accumulator: A::new(call.problem.cols, neutral), list: Vec::new() }
    }

    fn fill<R: Ring<T>, const MASKED: bool>(&mut self, rows: Range<usize>, made: &mut Made<T>) {
        let mut products = 0;
        for row in rows {
            let upper = self.call.bound(row);
            let (col, val) = made.room(upper);
            products += self.call.sum::<R, A, MASKED>(row, upper, &mut self.accumulator, col);
            let entries = self.accumulator.finish(col, val);
            made.end_row(entries);
        }
        made.products += products;
    }

    fn write<R: Ring<T>, const MASKED: bool>(
        &mut self,
        rows: Range<usize>,
        structure: Rows<'_, u32>,
        values: &mut [T],
    ) {
        for (row, columns, values) in known_rows(rows, structure, values) {
            if self.list.len() < columns.len() {
                self.list.resize(columns.len(), 0);
            }
            let (accumulator, list) = (&mut self.accumulator, &mut self.list);
            self.call.sum::<R, A, MASKED>(row, columns.len(), accumulator, list);
            self.accumulator.finish_known(columns, values);
        }
    }
}

impl<T: Value, A: Accumulator<T>> PartMaker<T> for Sums<'_, T, A> {
    fn fill(&mut self, rows: Range<usize>, made: &mut Made<T>) {
        with_ring!(self.call.semiring, |R| match self.call.operands.mask {
            Some(_) => self.fill::<R, true>(rows, made),
            None => self.fill::<R, false>(rows, made),
        });
    }

    fn write(&mut self, rows: Range<usize>, structure: Rows<'_, u32>, values: &mut [T]) {
        with_ring!(self.call.semiring, |R| match self.call.operands.mask {
            Some(_) => self.write::<R, true>(rows, structure, values),
            None => self.write::<R, false>(rows, structure, values),
        });
    }
}
