//! The rows of a product, in parts that threads take.

use std::ops::Range;

use rayon::prelude::*;

use super::accumulator::Accumulator;
use crate::Result;
use crate::sparse::{Part, Rows, Value};
use crate::spgemm::read::{Operands, Read};
use crate::spgemm::semiring::{Ring, with_ring};
use crate::spgemm::{Options, Problem, Semiring};

/// Parts for each thread, so that none waits long for the last.
const PARTS_PER_THREAD: usize = 16;

/// A product, read.
pub(super) struct Call<'a, T> {
    problem: &'a Problem,
    matrices: Operands<'a, T>,
    complement: bool,
    /// Whether entries of C0 are subject to the mask.
    replace: bool,
    semiring: Semiring,
    alpha: T,
    beta: T,
    has_factor: bool,
}

/// Some consecutive rows, and their products.
pub(super) struct Parts {
    rows: Vec<Range<usize>>,
    /// Products of all rows.
    pub products: u64,
    /// The most entries that the product can have.
    pub most: u64,
}

impl<'a, T: Value> Call<'a, T> {
    pub fn of(problem: &'a Problem, read: &'a Read<'_, T>, options: &Options) -> Result<Self> {
        Ok(Self {
            problem,
            matrices: read.matrices(options)?,
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

    /// Products of a row.
    fn products(&self, row: usize) -> usize {
        let Operands { a, b, .. } = self.matrices;
        a.columns(row).iter().map(|&inner| b.range(inner as usize).len()).sum()
    }

    /// Rows in parts of about as many products; rows without any count a little too.
    pub fn parts(&self) -> Parts {
        let rows = self.problem.rows;
        let products: Vec<usize> =
            (0..rows).into_par_iter().map(|row| self.products(row)).collect();
        let total: u64 = products.iter().map(|&products| products as u64).sum();
        let parts = (rayon::current_num_threads() * PARTS_PER_THREAD) as u64;
        let most = (total + rows as u64).div_ceil(parts).max(1);
        let (mut ranges, mut start, mut work) = (Vec::new(), 0, 0);
        for (row, &products) in products.iter().enumerate() {
            work += products as u64 + 1;
            if work >= most || row + 1 == rows {
                ranges.push(start..row + 1);
                (start, work) = (row + 1, 0);
            }
        }
        let added = self.matrices.c0.map_or(0, |c0| c0.col.len() as u64);
        let widest = self.problem.cols as u64;
        let most = products.iter().map(|&products| widest.min(products as u64)).sum::<u64>();
        Parts { rows: ranges, products: total, most: most + added }
    }

    /// Entries of the product, counted without keeping any.
    pub fn entries<A: Accumulator<T>>(&self, parts: &Parts) -> u64 {
        let count = |rows: &Range<usize>| {
            let mut accumulator = A::new(self.problem.cols);
            let (mut col, mut val) = (Vec::new(), Vec::new());
            let mut entries = 0;
            for row in rows.clone() {
                self.sum(row, &mut accumulator);
                accumulator.finish(&mut col, &mut val);
                entries += col.len() as u64;
                col.clear();
                val.clear();
            }
            entries
        };
        parts.rows.par_iter().map(count).sum()
    }

    /// The rows of the product.
    pub fn rows<A: Accumulator<T>>(&self, parts: &Parts) -> Vec<Part<T>> {
        let make = |rows: &Range<usize>| self.part::<A>(rows.clone());
        parts.rows.par_iter().map(make).collect()
    }

    fn part<A: Accumulator<T>>(&self, rows: Range<usize>) -> Part<T> {
        let mut accumulator = A::new(self.problem.cols);
        let mut part = Part::default();
        for row in rows {
            self.sum(row, &mut accumulator);
            accumulator.finish(&mut part.col, &mut part.val);
            part.end_row();
        }
        part
    }

    /// The values of the product, whose places are those of `structure`.
    pub fn values<A: Accumulator<T>>(
        &self,
        parts: &Parts,
        structure: Rows<'_, u32>,
        values: &mut [T],
    ) {
        let (mut rest, mut work) = (values, Vec::with_capacity(parts.rows.len()));
        for rows in &parts.rows {
            let entries = structure.places[rows.end] - structure.places[rows.start];
            let (own, after) = rest.split_at_mut(entries);
            work.push((rows.clone(), own));
            rest = after;
        }
        work.into_par_iter().for_each(|(rows, mut values)| {
            let mut accumulator = A::new(self.problem.cols);
            for row in rows {
                self.sum(row, &mut accumulator);
                let columns = structure.columns(row);
                let (own, after) = values.split_at_mut(columns.len());
                accumulator.finish_known(columns, own);
                values = after;
            }
        });
    }

    /// Sums one row: C0 first, then the entries of A as they are stored.
    fn sum<A: Accumulator<T>>(&self, row: usize, accumulator: &mut A) {
        let Operands { c0, mask, .. } = self.matrices;
        let mask = mask.map(|mask| mask.columns(row));
        let added = c0.map_or(0, |c0| c0.range(row).len());
        let upper = (self.products(row) + added).min(self.problem.cols);
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
        let Operands { a, b, c0, .. } = self.matrices;
        if let Some(c0) = c0 {
            let values = c0.val.map(|val| &val[c0.range(row)]);
            match self.replace {
                true => accumulator.add::<R, MASKED>(self.beta, c0.columns(row), values),
                false => accumulator.add::<R, false>(self.beta, c0.columns(row), values),
            }
        }
        for entry in a.range(row) {
            let inner = b.range(a.col[entry] as usize);
            let value = match self.has_factor {
                true => self.alpha.multiply(a.value(entry)),
                false => a.value(entry),
            };
            let values = b.val.map(|val| &val[inner.clone()]);
            accumulator.add::<R, MASKED>(value, &b.col[inner], values);
        }
    }
}
