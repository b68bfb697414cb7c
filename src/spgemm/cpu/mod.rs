//! The CPU: rows in parallel, in parts of about as many products; each thread sums a row in an
//! accumulator of its own, dense where the matrix is not too wide, else a hash table.

mod accumulator;
mod dense;
mod hash;
mod rows;

use super::read::Read;
use super::{CHECK, Inputs, NAME, Options, Problem, Spgemm, SpgemmPlan, Summary, too_large};
use crate::backend::Cpu;
use crate::backend::cpu::aligned::elements_mut;
use crate::list::CpuVariant;
use crate::sparse::{Csr, Offset, Value};
use crate::tensor::Tensor;
use crate::variant::{forced, no_such_variant};
use crate::{Result, sparse};
use accumulator::Accumulator;

const DENSE: &str = "spgemm_dense";
const HASH: &str = "spgemm_hash";

/// The accumulators, as variants.
pub(crate) const VARIANTS: [CpuVariant; 2] = [variant(DENSE), variant(HASH)];

const fn variant(name: &'static str) -> CpuVariant {
    CpuVariant { operation: NAME, pass: "product", elements: &sparse::VALUES, layout: "", name }
}

/// The widest matrix whose rows are summed in dense accumulators: one of these has a value and a
/// bit for each column.
const WIDEST_DENSE: usize = 1 << 22;

/// Which accumulator a call takes.
fn choose(problem: &Problem, options: &Options) -> Result<&'static str> {
    match forced(NAME, options.variant.as_ref()).as_deref() {
        None if problem.cols <= WIDEST_DENSE => Ok(DENSE),
        None | Some(HASH) => Ok(HASH),
        Some(DENSE) => Ok(DENSE),
        Some(other) => Err(no_such_variant(NAME, "cpu".to_owned(), other, [DENSE, HASH])),
    }
}

/// What would run, and why, in lines.
pub(super) fn explain(problem: &Problem, options: &Options) -> Result<String> {
    let variant = choose(problem, options)?;
    let reason = match variant {
        DENSE => format!("a row of {} columns fits the accumulator of a thread", problem.cols),
        _ => format!("rows of {} columns are too wide for an accumulator each", problem.cols),
    };
    Ok(format!("variant    {variant}\nbecause    {reason}"))
}

impl<T: Value, O: Offset> Spgemm<T, O> for Cpu {
    fn variants(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        Ok(match choose(problem, options)? {
            DENSE if options.variant.is_none() => vec![DENSE, HASH],
            chosen => vec![chosen],
        })
    }

    fn is_ordered(_options: &Options) -> bool {
        true
    }

    fn product(
        &self,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T, O>,
        options: &Options,
    ) -> Result<(Csr<Self, T, O>, Summary)> {
        let variant = choose(problem, options)?;
        let mut summary = Summary { variant, ..Summary::default() };
        let read = Read::of(inputs)?;
        let call = rows::Call::of(problem, &read, options)?;
        let parts = summary.phase("analyse", || call.parts());
        summary.products = parts.products;
        let product = match variant {
            DENSE => make::<dense::Dense<T>, T, O>(&call, &parts, &mut summary),
            _ => make::<hash::Hash<T>, T, O>(&call, &parts, &mut summary),
        }?;
        summary.entries = product.nnz() as u64;
        Ok((product, summary))
    }

    fn values(
        &self,
        plan: &SpgemmPlan<Self, O>,
        inputs: &Inputs<'_, Self, T, O>,
        options: &Options,
        into: &mut Tensor<Self, T>,
    ) -> Result<()> {
        let problem = plan.problem();
        let read = Read::of(inputs)?;
        let call = rows::Call::of(problem, &read, options)?;
        let structure = plan.structure().read()?;
        let structure = structure.rows()?;
        let mut values = into.write()?;
        let values = elements_mut(CHECK, "c_val", &mut values)?;
        match choose(problem, options)? {
            DENSE => call.values::<dense::Dense<T>>(&call.parts(), structure, values),
            _ => call.values::<hash::Hash<T>>(&call.parts(), structure, values),
        }
        Ok(())
    }
}

/// The product with one kind of accumulator. Where it may have more entries than its row pointers
/// can count, they are counted before memory is taken for them.
fn make<A: Accumulator<T>, T: Value, O: Offset>(
    call: &rows::Call<'_, T>,
    parts: &rows::Parts,
    summary: &mut Summary,
) -> Result<Csr<Cpu, T, O>> {
    if parts.most > O::MOST_ENTRIES {
        let entries = summary.phase("count", || call.entries::<A>(parts));
        too_large(sparse::entries::<O>(entries))?;
    }
    let made = summary.phase("product", || call.rows::<A>(parts));
    let shape = call.shape();
    summary.phase("assemble", || too_large(sparse::assemble(shape, &made, true)))
}
