//! The matrices of a product on the CPU, for the time of a call.

use super::{Inputs, Options};
use crate::Result;
use crate::backend::Cpu;
use crate::sparse::{Offset, Reading, Rows, Value};

/// Access to the matrices of a call.
pub(super) struct Read<'a, T> {
    a: Reading<'a, T>,
    b: Reading<'a, T>,
    c0: Option<Reading<'a, T>>,
    mask: Option<Reading<'a, T>>,
}

/// The rows of the matrices of a call.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a, T> {
    pub a: Rows<'a, T>,
    pub b: Rows<'a, T>,
    pub c0: Option<Rows<'a, T>>,
    pub mask: Option<Rows<'a, T>>,
}

impl<'a, T: Value> Read<'a, T> {
    pub fn of<O: Offset>(inputs: &Inputs<'a, Cpu, T, O>) -> Result<Self> {
        Ok(Self {
            a: inputs.a.read()?,
            b: inputs.b.read()?,
            c0: inputs.c0.map(|c0| c0.read()).transpose()?,
            mask: inputs.mask.map(|mask| mask.read()).transpose()?,
        })
    }

    /// The rows; values of which a factor of 0 leaves nothing are ones, so that no NaN is met.
    pub fn operands(&self, options: &Options) -> Result<Operands<'_, T>> {
        let mut operands = Operands {
            a: self.a.rows()?,
            b: self.b.rows()?,
            c0: optional(&self.c0)?,
            mask: optional(&self.mask)?,
        };
        if options.alpha == 0.0 {
            (operands.a.val, operands.b.val) = (None, None);
        }
        if let Some(c0) = operands.c0.as_mut().filter(|_| options.beta == Some(0.0)) {
            c0.val = None;
        }
        Ok(operands)
    }
}

impl<T: Value> Operands<'_, T> {
    /// Products of a row.
    #[inline(always)]
    pub fn products(&self, row: usize) -> u64 {
        let mut products = 0;
        for &inner in self.a.columns(row) {
            products += self.b.range(inner as usize).len() as u64;
        }
        products
    }
}

fn optional<'a, T: Value>(reading: &'a Option<Reading<'_, T>>) -> Result<Option<Rows<'a, T>>> {
    reading.as_ref().map(Reading::rows).transpose()
}
