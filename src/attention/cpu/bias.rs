//! The gradient of the bias: a walk of its own, so that pairs of several heads that share a bias
//! are added up in one order, by one task.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::forward::{LINE, tiles};
use super::scores::within;
use super::tile::{Scratch, Sources, Tile};
use crate::Result;
use crate::attention::check::{CHECK, Sequence};
use crate::attention::plan::CPU_ROWS;
use crate::backend::Cpu;
use crate::backend::cpu::aligned::elements_mut;
use crate::element::DeviceFloat;
use crate::tensor::Tensor;

/// dbias = Σ dS over the batch entries and heads that share it. Sequences are batch entries.
pub(super) fn run<T: DeviceFloat>(
    sources: &Sources<'_, T>,
    sequences: &[Sequence],
    dbias: &Tensor<Cpu, f32>,
) -> Result<()> {
    let problem = sources.problem;
    let [batches, heads] = [dbias.shape()[0], dbias.shape()[1]];
    let mut to = dbias.write()?;
    let to: &mut [f32] = elements_mut(CHECK, "dbias", &mut to)?;
    to.fill(0.0);
    let of_tile = (CPU_ROWS * problem.keys).max(1);
    // Tiles of queries, of each plane of the bias.
    let planes = to.par_chunks_mut((problem.queries * problem.keys).max(1)).enumerate();
    let tiles = planes.flat_map(|(plane, to)| {
        to.par_chunks_mut(of_tile).enumerate().map(move |(tile, to)| (plane, tile, to))
    });
    let arch = Arch::new();
    tiles.for_each_init(Scratch::default, |scratch, (plane, tile, to)| {
        let first = tile * CPU_ROWS;
        let queries = first..(first + CPU_ROWS).min(problem.queries);
        let shares = |own: usize, all: usize, i: usize| all == 1 || own == i;
        let sequences = sequences.iter().filter(|one| shares(plane / heads, batches, one.batch));
        let pairs = sequences.flat_map(|sequence| {
            let of_plane = move |head: &usize| shares(plane % heads, heads, *head);
            (0..problem.heads).filter(of_plane).map(move |head| (sequence, head))
        });
        for (sequence, head) in pairs {
            let queries = queries.clone();
            arch.dispatch(Add { sources, sequence, head, queries, scratch, to });
        }
    });
    Ok(())
}

/// Adds the gradients of one head's scores.
struct Add<'a, 'b, T> {
    sources: &'a Sources<'b, T>,
    sequence: &'a Sequence,
    head: usize,
    queries: std::ops::Range<usize>,
    scratch: &'a mut Scratch,
    /// Rows of all keys.
    to: &'a mut [f32],
}

impl<T: DeviceFloat> WithSimd for Add<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sources, sequence, head, queries, scratch, to } = self;
        let all = sequence.keys.clone();
        for keys in tiles(within(sequence, sequence.sight.keys_of_any(queries.clone()), &all)) {
            let tile = Tile { sequence, head, queries: queries.clone(), keys: keys.clone() };
            tile.load(sources, scratch);
            tile.differentiate(simd, sources, scratch, false);
            let before = keys.start - tile.columns().start;
            for (row, to) in to.chunks_exact_mut(sources.problem.keys).enumerate() {
                let from = &scratch.gradients[row * LINE + before..][..keys.len()];
                to[keys.clone()].iter_mut().zip(from).for_each(|(to, x)| *to += x);
            }
        }
    }
}
