//! The CPU: rows in parallel, in parts of about as many entries; each thread sums a row in an
//! accumulator of its own, dense where the matrix is not too wide, else a hash table. Where a mask
//! lets few entries through, each is made by itself.

mod accumulator;
mod dense;
mod dot;
mod fill;
mod hash;
mod marks;
mod parts;
mod rows;

use super::read::Read;
use super::{
    CHECK, Inputs, NAME, Options, Planned, Problem, Spgemm, SpgemmPlan, Summary, too_large,
};
use crate::backend::Cpu;
use crate::backend::cpu::aligned::elements_mut;
use crate::list::CpuVariant;
use crate::sparse::{Csr, Offset, Value};
use crate::tensor::Tensor;
use crate::variant::{forced, no_such_variant};
use crate::{Result, sparse};
use dense::Dense;
use dot::Dots;
use fill::{Filled, count, fill};
use hash::Hash;
use parts::{PartMaker, Parts};
use rows::{Call, Sums};

const DENSE: &str = "spgemm_dense";
const HASH: &str = "spgemm_hash";
const DOT: &str = "spgemm_dot";

/// The ways to make rows, as variants.
pub(crate) const VARIANTS: [CpuVariant; 3] = [variant(DENSE), variant(HASH), variant(DOT)];

const fn variant(name: &'static str) -> CpuVariant {
    CpuVariant { operation: NAME, pass: "product", elements: &sparse::VALUES, layout: "", name }
}

/// The widest matrix whose rows are summed in dense accumulators: one of these has a value and a
/// bit for each column.
const WIDEST_DENSE: usize = 1 << 22;

/// Which variant a call takes, unless a look at its matrices shows that dots pay.
fn choose(problem: &Problem, options: &Options) -> Result<&'static str> {
    match forced(NAME, options.variant.as_ref()).as_deref() {
        None if problem.cols <= WIDEST_DENSE => Ok(DENSE),
        None | Some(HASH) => Ok(HASH),
        Some(DENSE) => Ok(DENSE),
        Some(DOT) if problem.dots => Ok(DOT),
        Some(other) => {
            let fitting = [DENSE, HASH].into_iter().chain(problem.dots.then_some(DOT));
            Err(no_such_variant(NAME, "cpu".to_owned(), other, fitting))
        }
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

/// The variant of a call, and how its rows are shared.
fn plan<T: Value>(call: &Call<'_, T>, options: &Options) -> Result<(&'static str, Parts)> {
    let chosen = choose(call.problem, options)?;
    let free = call.problem.dots && forced(NAME, options.variant.as_ref()).is_none();
    let steps = match chosen {
        DOT => dot::steps(call, u64::MAX),
        _ if free => dot::steps(call, call.products()),
        _ => None,
    };
    Ok(match steps {
        Some(steps) => (DOT, Parts::new(steps.len(), |row| steps[row], u64::MAX)),
        None => (chosen, call.parts()),
    })
}

/// Bytes of room for rows before their entries are known, at the most.
const MOST_ROOM: u64 = 2 << 30;

/// Bytes of room for rows that nobody has looked at, at the most.
const ROOM_AT_FIRST_SIGHT: u64 = 512 << 20;

/// The product with one way to make rows, written where it stays. Where it may have more entries
/// than its row pointers can count, or would need much more room than it takes, they are counted
/// before memory is taken for them.
fn make<M: PartMaker<T>, T: Value, O: Offset>(
    call: &Call<'_, T>,
    parts: &Parts,
    maker: impl Fn() -> M + Sync,
    summary: &mut Summary,
) -> Result<Csr<Cpu, T, O>> {
    let entry = (size_of::<u32>() + size_of::<T>()) as u64;
    let room = O::MOST_ENTRIES.min(MOST_ROOM / entry);
    let mut most = call.most_at_first_sight();
    if most > room.min(ROOM_AT_FIRST_SIGHT / entry) {
        most = summary.phase("bound", || call.most());
    }
    if most > room {
        most = summary.phase("count", || count(parts, &maker));
        too_large(sparse::entries::<O>(most))?;
    }
    let most = most.to_usize();
    let Filled { row_ptr, col, val, products } =
        summary.phase("product", || fill(parts, &maker, most));
    summary.products = products;
    Csr::canonical_parts(call.shape(), row_ptr, col, Some(val))
}

impl<O: Offset> Planned<O> for Cpu {
    /// How threads share the rows.
    type Kept = Parts;

    fn prints<T: Value>(
        &self,
        matrices: [Option<&Csr<Self, T, O>>; 4],
    ) -> Result<[Option<u64>; 4]> {
        let mut prints = [None; 4];
        for (print, matrix) in prints.iter_mut().zip(matrices) {
            *print = matrix.map(hash_of_places).transpose()?;
        }
        Ok(prints)
    }
}

fn hash_of_places<T: Value, O: Offset>(matrix: &Csr<Cpu, T, O>) -> Result<u64> {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(&matrix.row_ptr().read()?);
    hasher.write(&matrix.col().read()?);
    Ok(hasher.finish())
}

impl<T: Value, O: Offset> Spgemm<T, O> for Cpu {
    fn variants(&self, problem: &Problem, options: &Options) -> Result<Vec<&'static str>> {
        let chosen = choose(problem, options)?;
        if options.variant.is_some() {
            return Ok(vec![chosen]);
        }
        let others = [(HASH, chosen == DENSE), (DOT, problem.dots && chosen != DOT)];
        let others = others.into_iter().filter(|(_, fits)| *fits).map(|(other, _)| other);
        Ok([chosen].into_iter().chain(others).collect())
    }

    fn is_ordered(_options: &Options) -> bool {
        true
    }

    fn product(
        &self,
        problem: &Problem,
        inputs: &Inputs<'_, Self, T, O>,
        options: &Options,
    ) -> Result<(Csr<Self, T, O>, Summary, Parts)> {
        let mut summary = Summary::default();
        let read = Read::of(inputs)?;
        let call = Call::of(problem, &read, options)?;
        let (variant, parts) = summary.phase("analyse", || plan(&call, options))?;
        summary.variant = variant;
        let product = match variant {
            DENSE => make(&call, &parts, || Sums::<_, Dense<T>>::new(&call), &mut summary),
            HASH => make(&call, &parts, || Sums::<_, Hash<T>>::new(&call), &mut summary),
            _ => {
                let transposed =
                    summary.phase("transpose", || dot::transposed(inputs.b, options))?;
                let transposed = transposed.read()?;
                let transposed = transposed.rows()?;
                make(&call, &parts, || Dots { call: &call, transposed }, &mut summary)
            }
        }?;
        summary.entries = product.nnz() as u64;
        Ok((product, summary, parts))
    }

    fn values(
        &self,
        plan: &SpgemmPlan<Self, O>,
        inputs: &Inputs<'_, Self, T, O>,
        options: &Options,
        into: &mut Tensor<Self, T>,
    ) -> Result<()> {
        let (problem, parts) = (plan.problem(), plan.kept());
        let variant = match options.variant {
            Some(_) => choose(problem, options)?,
            None => plan.summary().variant,
        };
        let read = Read::of(inputs)?;
        let call = Call::of(problem, &read, options)?;
        let structure = plan.structure().read()?;
        let structure = structure.rows()?;
        let mut values = into.write()?;
        let values = elements_mut(CHECK, "c_val", &mut values)?;
        match variant {
            DENSE => parts.values(|| Sums::<_, Dense<T>>::new(&call), structure, values),
            HASH => parts.values(|| Sums::<_, Hash<T>>::new(&call), structure, values),
            _ => {
                let transposed = dot::transposed(inputs.b, options)?;
                let transposed = transposed.read()?;
                let transposed = transposed.rows()?;
                parts.values(|| Dots { call: &call, transposed }, structure, values);
            }
        }
        Ok(())
    }
}
