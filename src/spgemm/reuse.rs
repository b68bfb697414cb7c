//! Products of the same patterns, again and again.

use super::{Inputs, NAME, Options, Planned, Problem, Spgemm, Summary};
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
pub struct SpgemmPlan<B: Planned<O>, O: Offset = u32> {
    problem: Problem,
    /// Where entries of the product lie. The type of values is not used.
    structure: Csr<B, u32, O>,
    /// What may not change: patterns of A, B, C0, mask, and what the mask means.
    prints: [Option<u64>; 4],
    complement: bool,
    replace: bool,
    kept: B::Kept,
    summary: Summary,
}

impl<B: Planned<O>, O: Offset> SpgemmPlan<B, O> {
    /// Multiplies, and keeps where the entries of the product lie.
    ///
    /// # Errors
    ///
    /// As [`multiply`](super::multiply).
    pub fn new<T: Value>(
        inputs: &Inputs<'_, B, T, O>,
        options: &Options,
    ) -> Result<(Self, Csr<B, T, O>)>
    where
        B: Spgemm<T, O>,
    {
        let problem = Problem::check(inputs, options)?;
        let (product, summary, kept) = inputs.a.backend().product(&problem, inputs, options)?;
        let plan = Self {
            problem,
            structure: product.to_pattern(),
            prints: prints(inputs)?,
            complement: options.complement,
            replace: options.replace,
            kept,
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
        inputs: &Inputs<'_, B, T, O>,
        options: &Options,
    ) -> Result<Csr<B, T, O>>
    where
        B: Spgemm<T, O>,
    {
        let mut val = Tensor::new(inputs.a.backend(), &[self.structure.nnz()])?;
        self.execute_into(inputs, options, &mut val)?;
        self.structure.with_values(val)
    }

    /// Writes the values of the product into `val`, one for each of its entries; no memory of the
    /// size of the product is allocated. Waits for the device, to compare the places.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), and [`Error::Shape`] where `val` has another length or
    /// gaps; nothing is written then.
    pub fn execute_into<T: Value>(
        &self,
        inputs: &Inputs<'_, B, T, O>,
        options: &Options,
        val: &mut Tensor<B, T>,
    ) -> Result<()>
    where
        B: Spgemm<T, O>,
    {
        let found = prints(inputs)?;
        let names = ["A", "B", "C0", "mask"];
        if let Some(changed) = (0..names.len()).find(|&i| found[i] != self.prints[i]) {
            return Err(mismatch(names[changed]));
        }
        // SAFETY: the places are those of the first product, or their hashes would differ.
        unsafe { self.execute_trusted(inputs, options, val) }
    }

    /// The same without a look at the places: nothing is waited for, and on CUDA nothing is
    /// allocated where B, C0 and the mask are canonical, so that a graph can capture it.
    ///
    /// # Errors
    ///
    /// As [`execute_into`](Self::execute_into), but for the places.
    ///
    /// # Safety
    ///
    /// The entries of all matrices lie where those of the first product did: kernels rely on what
    /// was counted then.
    pub unsafe fn execute_trusted<T: Value>(
        &self,
        inputs: &Inputs<'_, B, T, O>,
        options: &Options,
        val: &mut Tensor<B, T>,
    ) -> Result<()>
    where
        B: Spgemm<T, O>,
    {
        let problem = Problem::check(inputs, options)?;
        let same_meaning = options.complement == self.complement && options.replace == self.replace;
        if problem != self.problem || !same_meaning {
            return Err(mismatch("C"));
        }
        self.structure.with_values(val.clone())?;
        inputs.a.backend().values(self, inputs, options, val)
    }

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

    pub(super) fn kept(&self) -> &B::Kept {
        &self.kept
    }

    pub(super) fn structure(&self) -> &Csr<B, u32, O> {
        &self.structure
    }
}

/// Where a matrix's entries lie is not where they did.
fn mismatch(matrix: &str) -> Error {
    Error::Sparse { operation: NAME, matrix: matrix.to_owned(), fault: Fault::PatternMismatch }
}

/// A hash of each matrix's places.
fn prints<B: Planned<O>, T: Value, O: Offset>(
    inputs: &Inputs<'_, B, T, O>,
) -> Result<[Option<u64>; 4]> {
    let &Inputs { a, b, c0, mask } = inputs;
    a.backend().prints([Some(a), Some(b), c0, mask])
}
