//! A tile of the backward pass: weights and gradients of scores, made again from queries and keys.

use std::f32::consts::LOG2_E;
use std::ops::Range;

use pulp::Simd;

use super::forward::{LINE, multiply_panels, whole_panels};
use super::keys::{Form, Packed};
use super::scores::{Query, Scores, weights};
use super::tensors::{Place, Source, padded, read};
use crate::Result;
use crate::attention::check::{CHECK, Sequence};
use crate::attention::{Inputs, Options, Problem};
use crate::backend::Cpu;
use crate::backend::ReadGuard;
use crate::backend::cpu::aligned::{Aligned, elements};
use crate::element::DeviceFloat;
use crate::tensor::Tensor;

/// The bytes of what the backward pass reads, claimed.
pub(super) struct Claims<'a> {
    q: ReadGuard<'a>,
    k: ReadGuard<'a>,
    v: ReadGuard<'a>,
    bias: Option<ReadGuard<'a>>,
    dout: ReadGuard<'a>,
    rows: [ReadGuard<'a>; 2],
}

impl<'a> Claims<'a> {
    pub fn of<T: DeviceFloat>(
        inputs: &Inputs<'a, Cpu, T>,
        [delta, lse]: [&'a Tensor<Cpu, f32>; 2],
        dout: &'a Tensor<Cpu, T>,
    ) -> Result<Self> {
        Ok(Self {
            q: inputs.q.read()?,
            k: inputs.k.read()?,
            v: inputs.v.read()?,
            bias: read(inputs.bias.map(|bias| bias.view()))?,
            dout: dout.read()?,
            rows: [delta.read()?, lse.read()?],
        })
    }
}

/// What tiles are made from.
pub(super) struct Sources<'a, T> {
    pub problem: &'a Problem,
    scores: Scores<'a, T>,
    queries: Source<'a, T>,
    dout: Source<'a, T>,
    keys: Packed<'a, T>,
    values: Packed<'a, T>,
    pub key_lines: Packed<'a, T>,
    pub delta: &'a [f32],
    pub lse: &'a [f32],
    has_softcap: bool,
}

impl<'a, T: DeviceFloat> Sources<'a, T> {
    /// `share` tells whether several tasks use the same keys.
    pub fn new(
        claims: &'a Claims<'_>,
        problem: &'a Problem,
        inputs: &Inputs<'a, Cpu, T>,
        options: &Options,
        dout: &Tensor<Cpu, T>,
        share: bool,
    ) -> Result<Self> {
        let source = |name, bytes, view| Source::new(name, bytes, view, options.layout);
        let sizes = [problem.batch, problem.kv_heads, problem.keys];
        let packed = |source, form| Packed::new(source, form, sizes, share);
        let keys = source("k", &claims.k, inputs.k)?;
        let [delta, lse] = &claims.rows;
        Ok(Self {
            problem,
            scores: Scores::new(problem, inputs, options, claims.bias.as_deref())?,
            queries: source("q", &claims.q, inputs.q)?,
            dout: source("dout", &claims.dout, dout)?,
            keys: packed(keys, Form::Panels),
            values: packed(source("v", &claims.v, inputs.v)?, Form::Panels),
            key_lines: packed(keys, Form::Lines),
            delta: elements(CHECK, "delta", delta)?,
            lse: elements(CHECK, "lse", lse)?,
            has_softcap: options.softcap.is_some(),
        })
    }
}

/// Queries of one head, with some keys.
pub(super) struct Tile<'a> {
    pub sequence: &'a Sequence,
    pub head: usize,
    /// Among those of the sequence.
    pub queries: Range<usize>,
    /// Of the batch entry, within one tile of it.
    pub keys: Range<usize>,
}

/// A tile's numbers.
#[derive(Default)]
pub(super) struct Scratch {
    /// Lines of queries and of gradients of their results; zeros where nothing was seen.
    pub queries: Aligned,
    pub dout: Aligned,
    /// P, with [`LINE`] numbers from row to row.
    pub weights: Aligned,
    /// dS, or dx where a softcap lies between.
    pub gradients: Aligned,
    through: Aligned,
    panels: Aligned,
}

impl Tile<'_> {
    /// Where its keys lie, in whole panels.
    pub fn columns(&self) -> Range<usize> {
        whole_panels(&self.keys)
    }

    pub fn place(&self, problem: &Problem) -> Place {
        [self.sequence.batch, self.head / problem.group()]
    }

    fn query(&self, row: usize) -> Query<'_> {
        Query { sequence: self.sequence, head: self.head, token: self.queries.start + row }
    }

    /// The number of a row among all.
    fn number(&self, problem: &Problem, row: usize) -> usize {
        super::parts::number(problem, self.query(row))
    }

    /// Reads the rows of the queries.
    #[inline(always)]
    pub fn load<T: DeviceFloat>(&self, sources: &Sources<'_, T>, scratch: &mut Scratch) {
        let problem = sources.problem;
        let [line, dout_line] = [problem.width, problem.value_width].map(padded);
        scratch.queries.reset(self.queries.len() * line);
        scratch.dout.reset(self.queries.len() * dout_line);
        for row in 0..self.queries.len() {
            let query = self.query(row);
            // What is in a row that has seen nothing must not reach the sums.
            if sources.lse[self.number(problem, row)] == f32::NEG_INFINITY {
                continue;
            }
            let to = &mut scratch.queries[row * line..][..problem.width];
            sources.queries.line(query.place(), query.row(), to);
            let to = &mut scratch.dout[row * dout_line..][..problem.value_width];
            sources.dout.line(query.place(), query.row(), to);
        }
    }

    /// Makes P and dS, or with `whole` dx, from the loaded rows.
    #[inline(always)]
    pub fn differentiate<S: Simd, T: DeviceFloat>(
        &self,
        simd: S,
        sources: &Sources<'_, T>,
        scratch: &mut Scratch,
        whole: bool,
    ) {
        let (problem, rows, columns) = (sources.problem, self.queries.len(), self.columns());
        let tokens = columns.start..columns.end.min(problem.keys);
        let Scratch { queries, dout, weights, gradients, through, panels } = scratch;
        weights.resize(rows * LINE);
        gradients.resize(rows * LINE);
        if sources.has_softcap {
            through.resize(LINE);
        }
        for (packed, width, left, scores) in [
            (&sources.keys, problem.width, &*queries, &mut *weights),
            (&sources.values, problem.value_width, &*dout, &mut *gradients),
        ] {
            let panels = packed.tokens(self.place(problem), tokens.clone(), panels);
            multiply_panels(simd, rows, left, (padded(width), width), panels, scores);
        }
        for row in 0..rows {
            let weights = &mut weights[row * LINE..][..columns.len()];
            let gradients = &mut gradients[row * LINE..][..columns.len()];
            let through = sources.has_softcap.then(|| &mut through[..columns.len()]);
            self.row(simd, sources, row, [weights, gradients], through.filter(|_| whole));
        }
    }

    /// A row's weights and gradients, in place of its products.
    #[inline(always)]
    fn row<S: Simd, T: DeviceFloat>(
        &self,
        simd: S,
        sources: &Sources<'_, T>,
        row: usize,
        [scores, gradients]: [&mut [f32]; 2],
        mut through: Option<&mut [f32]>,
    ) {
        let query = self.query(row);
        let (number, seen) = (self.number(sources.problem, row), query.keys(&self.keys));
        let lse = sources.lse[number];
        if seen.is_empty() || lse == f32::NEG_INFINITY {
            scores.fill(0.0);
            gradients.fill(0.0);
            return;
        }
        let first = self.columns().start;
        sources.scores.row(simd, scores, query, (first, seen), through.as_deref_mut());
        weights(simd, scores, lse * LOG2_E);
        let (zero, delta) = (simd.splat_f32s(0.0), simd.splat_f32s(sources.delta[number]));
        let pairs = S::as_simd_f32s(scores).0.iter().zip(S::as_mut_simd_f32s(gradients).0);
        for (weight, gradient) in pairs {
            let product = simd.mul_f32s(*weight, simd.sub_f32s(*gradient, delta));
            // What is not seen stays out, whatever it holds.
            *gradient = simd.select_f32s(simd.equal_f32s(*weight, zero), zero, product);
        }
        if let Some(through) = through {
            let through = S::as_simd_f32s(through).0;
            for (gradient, through) in S::as_mut_simd_f32s(gradients).0.iter_mut().zip(through) {
                *gradient = simd.mul_f32s(*gradient, *through);
            }
        }
    }
}
