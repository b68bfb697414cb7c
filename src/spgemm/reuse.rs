//! Products of the same patterns, again and again.

use super::cpu::{self, Parts};
use super::{Inputs, NAME, Options, Problem, Spgemm, Summary};
use crate::backend::{Backend, Cpu};
use crate::sparse::{Csr, Fault, Offset, Value};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// What does not depend on the values of a product: where its entries lie. For products of other
/// values at the same places.
///
/// ```
/// use warpwright::sparse::Csr;
/// use warpwright::spgemm::{Inputs, Options, SpgemmPlan};
///
/// let a = Csr::new([2, 2], vec![0u32, 1, 2], vec![1, 0], vec![2.0f32, 3.0])?;
/// let (plan, product) = SpgemmPlan::new(&Inputs::new(&a, &a), &Options::default())?;
/// assert_eq!(product.val().expect("values").to_vec()?, [6.0, 6.0]);
/// let other = Csr::new([2, 2], vec![0u32, 1, 2], vec![1, 0], vec![5.0f32, 1.0])?;
/// let product = plan.execute(&Inputs::new(&other, &a), &Options::default())?;
/// assert_eq!(product.val().expect("values").to_vec()?, [15.0, 2.0]);
/// # Ok::<(), warpwright::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SpgemmPlan<B: Backend, O: Offset = u32> {
    problem: Problem,
    /// Where entries of the product lie. The type of values is not used.
    structure: Csr<B, u32, O>,
    /// What may not change: patterns of A, B, C0, mask, and what the mask means.
    prints: [Option<u64>; 4],
    complement: bool,
    replace: bool,
    /// How the threads of the CPU share the rows.
    parts: Parts,
    summary: Summary,
}

impl<O: Offset> SpgemmPlan<Cpu, O> {
    /// Multiplies, and keeps where the entries of the product lie.
    ///
    /// # Errors
    ///
    /// As [`multiply`](super::multiply).
    pub fn new<T: Value>(
        inputs: &Inputs<'_, Cpu, T, O>,
        options: &Options,
    ) -> Result<(Self, Csr<Cpu, T, O>)> {
        let problem = Problem::check(inputs, options)?;
        let (product, summary, parts) = cpu::product(&problem, inputs, options)?;
        let plan = Self {
            problem,
            structure: product.to_pattern(),
            prints: prints(inputs)?,
            complement: options.complement,
            replace: options.replace,
            parts,
            summary,
        };
        Ok((plan, product))
    }

    /// The product of matrices with other values at the same places. Its row pointers and columns
    /// are the plan's, shared.
    ///
    /// # Errors
    ///
    /// [`Error::Sparse`] with [`Fault::PatternMismatch`] where entries lie elsewhere, and as
    /// [`multiply`](super::multiply).
    pub fn execute<T: Value>(
        &self,
        inputs: &Inputs<'_, Cpu, T, O>,
        options: &Options,
    ) -> Result<Csr<Cpu, T, O>> {
        let mut val = Tensor::new(&Cpu, &[self.structure.nnz()])?;
        self.execute_into(inputs, options, &mut val)?;
        self.structure.with_values(val)
    }

    /// Writes the values of the product into `val`, one for each of its entries; no memory of the
    /// size of the product is allocated.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), and [`Error::Shape`] where `val` has another length or
    /// gaps; nothing is written then.
    pub fn execute_into<T: Value>(
        &self,
        inputs: &Inputs<'_, Cpu, T, O>,
        options: &Options,
        val: &mut Tensor<Cpu, T>,
    ) -> Result<()> {
        self.check(inputs, options)?;
        self.structure.with_values(val.clone())?;
        Cpu.values(self, inputs, options, val)
    }

    fn check<T: Value>(&self, inputs: &Inputs<'_, Cpu, T, O>, options: &Options) -> Result<()> {
        let problem = Problem::check(inputs, options)?;
        let mismatch = |matrix: &str| Error::Sparse {
            operation: NAME,
            matrix: matrix.to_owned(),
            fault: Fault::PatternMismatch,
        };
        let found = prints(inputs)?;
        let names = ["A", "B", "C0", "mask"];
        if let Some(changed) = (0..names.len()).find(|&i| found[i] != self.prints[i]) {
            return Err(mismatch(names[changed]));
        }
        let same_meaning = options.complement == self.complement && options.replace == self.replace;
        if problem != self.problem || !same_meaning {
            return Err(mismatch("C"));
        }
        Ok(())
    }
}

impl<B: Backend, O: Offset> SpgemmPlan<B, O> {
    /// What the first product took.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Entries of the product.
    pub fn nnz(&self) -> usize {
        self.structure.nnz()
    }

    pub(super) fn problem(&self) -> &Problem {
        &self.problem
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.parts
    }

    pub(super) fn structure(&self) -> &Csr<B, u32, O> {
        &self.structure
    }
}

/// A hash of each matrix's places.
fn prints<T: Value, O: Offset>(inputs: &Inputs<'_, Cpu, T, O>) -> Result<[Option<u64>; 4]> {
    let print = |matrix: Option<&Csr<Cpu, T, O>>| matrix.map(print).transpose();
    Ok([print(Some(inputs.a))?, print(Some(inputs.b))?, print(inputs.c0)?, print(inputs.mask)?])
}

fn print<T: Value, O: Offset>(matrix: &Csr<Cpu, T, O>) -> Result<u64> {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(&matrix.row_ptr().read()?);
    hasher.write(&matrix.col().read()?);
    Ok(hasher.finish())
}
