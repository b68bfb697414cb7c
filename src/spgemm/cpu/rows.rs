//! A product by rows: each is summed in an accumulator.

use rayon::prelude::*;

use super::accumulator::Accumulator;
use super::parts::{Parts, RowMaker};
use crate::Result;
use crate::sparse::{Rows, Value};
use crate::spgemm::read::{Operands, Read};
use crate::spgemm::semiring::{Ring, with_ring};
use crate::spgemm::{Options, Problem, Semiring};

/// A product, read.
pub(super) struct Call<'a, T> {
    pub problem: &'a Problem,
    pub operands: Operands<'a, T>,
    complement: bool,
    /// Whether entries of C0 are subject to the mask.
    replace: bool,
    pub semiring: Semiring,
    alpha: T,
    beta: T,
    has_factor: bool,
}

impl<'a, T: Value> Call<'a, T> {
    pub fn of(problem: &'a Problem, read: &'a Read<'_, T>, options: &Options) -> Result<Self> {
        Ok(Self {
            problem,
            operands: read.operands(options)?,
            complement: options.complement,
            replace: options.replace,
            semiring: options.semiring,
            alpha: T::from_f64(options.alpha),
            beta: T::from_f64(options.beta.unwrap_or(0.0)),
            has_factor: options.alpha != 1.0,
        })
    }

    /// Rows and columns of the product.
    pub fn shape(&self) -> [usize; 2] {
        [self.problem.rows, self.problem.cols]
    }

    /// The rows in parts of about as many products.
    pub fn parts(&self) -> Parts {
        let rows = 0..self.problem.rows;
        let products: Vec<u64> =
            rows.into_par_iter().map(|row| self.operands.products(row)).collect();
        let bound = |(row, &products)| self.upper(row, products);
        Parts::new(&products, products.par_iter().enumerate().map(bound).collect())
    }

    /// The most entries that a row of so many products can have.
    fn upper(&self, row: usize, products: u64) -> u32 {
        let Operands { c0, mask, .. } = self.operands;
        let length = |rows: Rows<'_, T>| rows.range(row).len() as u64;
        let reached = products + c0.map_or(0, length);
        let all_masked = !self.complement && (c0.is_none() || self.replace);
        let let_through = mask.filter(|_| all_masked).map_or(u64::MAX, length);
        // A side fits u32.
        reached.min(let_through).min(self.problem.cols as u64) as u32
    }

    /// The value of an entry of A, with the factor α.
    #[inline(always)]
    pub fn left(&self, entry: usize) -> T {
        let value = self.operands.a.value(entry);
        if self.has_factor { self.alpha.multiply(value) } else { value }
    }

    /// Sums one row: C0 first, then the entries of A as they are stored.
    fn sum<A: Accumulator<T>>(&self, row: usize, upper: usize, accumulator: &mut A) {
        let mask = self.operands.mask.map(|mask| mask.columns(row));
        accumulator.begin(upper, mask, self.complement);
        with_ring!(self.semiring, |R| match mask {
            Some(_) => self.sum_with::<R, A, true>(row, accumulator),
            None => self.sum_with::<R, A, false>(row, accumulator),
        });
    }

    fn sum_with<R: Ring<T>, A: Accumulator<T>, const MASKED: bool>(
        &self,
        row: usize,
        accumulator: &mut A,
    ) {
        let Operands { a, b, c0, .. } = self.operands;
        if let Some(c0) = c0 {
            let values = c0.val.map(|val| &val[c0.range(row)]);
            match self.replace {
                true => accumulator.add::<R, MASKED>(self.beta, c0.columns(row), values),
                false => accumulator.add::<R, false>(self.beta, c0.columns(row), values),
            }
        }
        for entry in a.range(row) {
            let inner = b.range(a.col[entry] as usize);
            let values = b.val.map(|val| &val[inner.clone()]);
            accumulator.add::<R, MASKED>(self.left(entry), &b.col[inner], values);
        }
    }
}

/// Makes rows as sums in an accumulator.
pub(super) struct Sums<'a, T, A> {
    call: &'a Call<'a, T>,
    parts: &'a Parts,
    accumulator: A,
}

impl<'a, T: Value, A: Accumulator<T>> Sums<'a, T, A> {
    pub fn new(call: &'a Call<'a, T>, parts: &'a Parts) -> Self {
        Self { call, parts, accumulator: A::new(call.problem.cols) }
    }
}

impl<T: Value, A: Accumulator<T>> RowMaker<T> for Sums<'_, T, A> {
    fn fill(&mut self, row: usize, col: &mut [u32], val: &mut [T]) -> usize {
        self.call.sum(row, self.parts.upper(row), &mut self.accumulator);
        self.accumulator.finish(col, val)
    }

    fn write(&mut self, row: usize, columns: &[u32], values: &mut [T]) {
        self.call.sum(row, self.parts.upper(row), &mut self.accumulator);
        self.accumulator.finish_known(columns, values);
    }
}
