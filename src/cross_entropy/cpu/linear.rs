//! A linear layer: logits of a few columns are made in cache, used, and forgotten.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::rows::{Running, Slopes, told};
use crate::Result;
use crate::backend::Cpu;
use crate::backend::cpu::aligned::{Aligned, elements, elements_mut};
use crate::backend::cpu::disjoint::Disjoint;
use crate::backend::cpu::product::{LANES, Left, Right, Sums, multiply};
use crate::cross_entropy::check::CHECK;
use crate::cross_entropy::plan::cpu_columns;
use crate::cross_entropy::reference::targets;
use crate::cross_entropy::{Options, Plan, Problem};
use crate::element::{DType, DeviceFloat};
use crate::parameter::Indices;
use crate::tensor::{Tensor, View};

/// Tokens whose logits a task makes at once.
const TOKENS: usize = 64;

/// Terms of a sum that are added before the next line's are: of this many lines the second cache
/// holds what a pair of vectors needs.
const TERMS: usize = 256;

/// Lines in f32, each in whole vectors; what follows their numbers is 0.
struct Lines {
    values: Aligned,
    /// Numbers from line to line.
    line: usize,
}

impl Lines {
    /// Some lines of a tensor.
    fn of<T: DeviceFloat>(values: &[T], stride: usize, rows: Range<usize>, width: usize) -> Self {
        let line = width.next_multiple_of(LANES);
        let mut lines = Self { values: Aligned::default(), line };
        lines.values.reset(rows.len() * line);
        let targets = lines.values.par_chunks_mut(line.max(1)).zip(rows);
        targets.for_each(|(to, row)| T::widen(&values[row * stride..][..width], &mut to[..width]));
        lines
    }

    fn part(&self, rows: Range<usize>) -> &[f32] {
        &self.values[rows.start * self.line..rows.end * self.line]
    }
}

/// A line for each feature, of the weights of some columns.
fn transposed<T: DeviceFloat>(
    values: &[T],
    stride: usize,
    columns: Range<usize>,
    width: usize,
    to: &mut Aligned,
) -> usize {
    let line = columns.len().next_multiple_of(LANES);
    to.reset(width * line);
    let mut row = [0.0; 64];
    for (i, column) in columns.enumerate() {
        for first in (0..width).step_by(row.len()) {
            let row = &mut row[..(width - first).min(64)];
            T::widen(&values[column * stride + first..][..row.len()], row);
            row.iter().enumerate().for_each(|(f, value)| to[(first + f) * line + i] = *value);
        }
    }
    line
}

/// What all columns tell of each token: a task has some columns, and walks the tokens.
pub(super) fn statistics<T: DeviceFloat>(
    problem: &Problem,
    [x, weight]: [&Tensor<Cpu, T>; 2],
    target: Indices<'_, Cpu>,
    options: &Options,
    to: &Tensor<Cpu, f32>,
) -> Result<()> {
    let targets = targets(problem, target, options)?;
    let width = problem.width.unwrap_or(0);
    let (x_bytes, weight_bytes) = (x.read()?, weight.read()?);
    let x =
        Lines::of::<T>(elements(CHECK, "x", &x_bytes)?, x.strides()[0], 0..problem.tokens, width);
    let stride = weight.strides()[0];
    let weight: &[T] = elements(CHECK, "weight", &weight_bytes)?;
    let at_once = cpu_columns(width);
    let arch = Arch::new();
    let one = |scratch: &mut Scratch, i: usize| {
        let columns = i * at_once..problem.columns.min((i + 1) * at_once);
        let line = transposed(weight, stride, columns.clone(), width, &mut scratch.weight);
        let logits = Product { x: &x, width, line };
        arch.dispatch(Told { problem, logits, scratch, columns, targets: &targets, options })
    };
    let tasks = problem.columns.div_ceil(at_once);
    let told: Vec<Vec<Running>> =
        (0..tasks).into_par_iter().map_init(Scratch::default, one).collect();
    super::loss::write_statistics(to, |token| {
        let mut whole = Running::NONE;
        told.iter().for_each(|columns| whole.merge(columns[token]));
        whole
    })
}

/// What a thread keeps between its tasks.
#[derive(Default)]
struct Scratch {
    weight: Aligned,
    logits: Aligned,
}

/// The factors of logits.
struct Product<'a> {
    x: &'a Lines,
    width: usize,
    /// Numbers from a feature of the weights to the next.
    line: usize,
}

impl Product<'_> {
    /// The logits of some tokens.
    #[inline(always)]
    fn make<S: Simd>(
        &self,
        simd: S,
        tokens: Range<usize>,
        weight: &[f32],
        to: &mut [f32],
        line: usize,
    ) {
        let rows = tokens.len();
        let left = self.x.part(tokens);
        if self.width == 0 {
            to.chunks_mut(line).for_each(|row| row[..self.line].fill(0.0));
        }
        for first in (0..self.width).step_by(TERMS) {
            let terms = TERMS.min(self.width - first);
            multiply(
                simd,
                [rows, self.line, terms],
                Left::Rows { values: &left[first..], line: self.x.line },
                Right { values: &weight[first * self.line..], line: self.line },
                &mut Sums { values: to, line, add: first > 0 },
            );
        }
    }
}

/// A task: some columns of all tokens.
struct Told<'a> {
    problem: &'a Problem,
    logits: Product<'a>,
    scratch: &'a mut Scratch,
    columns: Range<usize>,
    targets: &'a [Option<usize>],
    options: &'a Options,
}

impl WithSimd for Told<'_> {
    type Output = Vec<Running>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<Running> {
        let line = self.logits.line;
        let Scratch { weight, logits } = self.scratch;
        let mut all = Vec::with_capacity(self.problem.tokens);
        for tokens in blocks(self.problem.tokens) {
            logits.resize(tokens.len() * line);
            self.logits.make(simd, tokens.clone(), weight, logits, line);
            for (token, row) in tokens.zip(logits.chunks_mut(line.max(1))) {
                let place = (self.problem.first + self.columns.start, self.columns.len());
                let (target, softcap) = (self.targets[token], self.options.softcap);
                all.push(told(simd, row, place, target, softcap));
            }
        }
        all
    }
}

fn blocks(tokens: usize) -> impl Iterator<Item = Range<usize>> {
    (0..tokens).step_by(TOKENS).map(move |first| first..tokens.min(first + TOKENS))
}

/// Gradients of x and the weight. Groups of columns follow each other: tasks make their gradients of
/// logits and of the weight, then others, by tokens, add to the gradient of x.
pub(super) fn gradient<T: DeviceFloat>(
    plan: &Plan,
    problem: &Problem,
    [x, weight]: [&Tensor<Cpu, T>; 2],
    slopes: &Slopes,
    [dx, dweight]: [&View<Cpu>; 2],
) -> Result<()> {
    let width = problem.width.unwrap_or(0);
    let (x_bytes, weight_bytes) = (x.read()?, weight.read()?);
    let x =
        Lines::of::<T>(elements(CHECK, "x", &x_bytes)?, x.strides()[0], 0..problem.tokens, width);
    let stride = weight.strides()[0];
    let weight: &[T] = elements(CHECK, "weight", &weight_bytes)?;
    let mut written = dweight.write()?;
    let target = Disjoint::new(elements_mut::<T>(CHECK, "dweight", &mut written)?);
    let mut sums = Aligned::default();
    sums.reset(problem.tokens * x.line);
    let at_once = cpu_columns(width);
    let mut dz = Aligned::default();
    let arch = Arch::new();
    for first in (0..problem.columns).step_by(plan.columns.max(1)) {
        let group = first..problem.columns.min(first + plan.columns.max(1));
        let line = group.len().next_multiple_of(LANES);
        dz.resize(problem.tokens * line);
        let to = Disjoint::new(&mut dz);
        let tasks = (0..group.len()).into_par_iter().step_by(at_once);
        tasks.for_each_init(<(Scratch, Aligned)>::default, |(scratch, sums), begin| {
            let columns = begin..group.len().min(begin + at_once);
            let place = first + columns.start..first + columns.end;
            let logits = Product {
                x: &x,
                width,
                line: transposed(weight, stride, place, width, &mut scratch.weight),
            };
            let column = problem.first + first + begin;
            let dz = (to, line, begin);
            arch.dispatch(OfColumns {
                problem,
                logits,
                scratch,
                slopes,
                column,
                dz,
                sums,
                count: columns.len(),
            });
            for (i, sums) in sums.chunks(x.line.max(1)).take(columns.len()).enumerate() {
                let at = (first + begin + i) * dweight.strides()[0];
                // SAFETY: a task for each of the columns, whose lines lie apart.
                T::narrow(&sums[..width], unsafe { target.run(at, width) });
            }
        });
        let weight = Lines::of(weight, stride, group.clone(), width);
        let tokens = sums.par_chunks_mut((TOKENS * x.line).max(1)).enumerate();
        tokens.for_each(|(i, sums)| {
            arch.dispatch(OfTokens {
                dz: &dz[i * TOKENS * line..],
                line,
                terms: group.len(),
                weight: &weight,
                sums,
            });
        });
    }
    write_sums::<T>(dx, &sums, x.line, width)
}

/// A task: the gradients of the logits of some columns, and of their weights.
struct OfColumns<'a> {
    problem: &'a Problem,
    logits: Product<'a>,
    scratch: &'a mut Scratch,
    slopes: &'a Slopes,
    /// Of the vocabulary.
    column: usize,
    count: usize,
    /// Where the gradients go, numbers from token to token, and the first one's place.
    dz: (Disjoint<'a, f32>, usize, usize),
    /// The weights' gradients.
    sums: &'a mut Aligned,
}

impl WithSimd for OfColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (line, x) = (self.logits.line, self.logits.x);
        let Scratch { weight, logits } = self.scratch;
        self.sums.reset(self.count * x.line);
        for tokens in blocks(self.problem.tokens) {
            logits.resize(tokens.len() * line);
            self.logits.make(simd, tokens.clone(), weight, logits, line);
            for (token, row) in tokens.clone().zip(logits.chunks_mut(line.max(1))) {
                self.slopes.turn(simd, token, row, (self.column, self.count));
                let (to, stride, at) = self.dz;
                // SAFETY: a task for each of the columns.
                unsafe { to.write_run(token * stride + at, &row[..self.count]) };
            }
            multiply(
                simd,
                [self.count, x.line, tokens.len()],
                Left::Columns { values: logits, line },
                Right { values: x.part(tokens), line: x.line },
                &mut Sums { values: self.sums, line: x.line, add: true },
            );
        }
    }
}

/// A task: what a group of columns adds to the gradient of some tokens' x.
struct OfTokens<'a> {
    dz: &'a [f32],
    line: usize,
    terms: usize,
    weight: &'a Lines,
    sums: &'a mut [f32],
}

impl WithSimd for OfTokens<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let line = self.weight.line;
        let rows = self.sums.len() / line.max(1);
        for first in (0..self.terms).step_by(TERMS) {
            let terms = TERMS.min(self.terms - first);
            multiply(
                simd,
                [rows, line, terms],
                Left::Rows { values: &self.dz[first..], line: self.line },
                Right { values: self.weight.part(first..first + terms), line },
                &mut Sums { values: self.sums, line, add: true },
            );
        }
    }
}

/// Rounds sums into x's gradient, or leaves them f32 where it is.
fn write_sums<T: DeviceFloat>(
    to: &View<Cpu>,
    sums: &[f32],
    line: usize,
    width: usize,
) -> Result<()> {
    fn write<T: DeviceFloat>(
        to: &View<Cpu>,
        sums: &[f32],
        line: usize,
        width: usize,
    ) -> Result<()> {
        let mut bytes = to.write()?;
        let target = Disjoint::new(elements_mut::<T>(CHECK, "dx", &mut bytes)?);
        sums.par_chunks(line.max(1)).enumerate().for_each(|(token, sums)| {
            // SAFETY: a task for each token, whose lines lie apart.
            T::narrow(&sums[..width], unsafe { target.run(token * to.strides()[0], width) });
        });
        Ok(())
    }
    match to.dtype() {
        DType::F32 => write::<f32>(to, sums, line, width),
        _ => write::<T>(to, sums, line, width),
    }
}
