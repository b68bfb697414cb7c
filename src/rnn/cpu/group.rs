//! How heads of rows are shared out to tasks.

use std::ops::Range;

use rayon::prelude::*;

use super::product::{BLOCK, Panels, blocks};
use crate::rnn::{Direction, Path, Plan, Problem};

/// Heads of some rows, which a task has by itself, or all tasks together.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub heads: Range<usize>,
    pub rows: Range<usize>,
    /// Blocks of units of a head.
    pub blocks: usize,
    stepwise: bool,
}

/// The groups of a call.
pub(super) fn groups(plan: &Plan, problem: &Problem) -> Vec<Group> {
    let &Problem { batch, heads, .. } = problem;
    let blocks = blocks(problem);
    if batch == 0 || heads == 0 {
        return Vec::new();
    }
    match plan.path {
        Path::Stepwise => {
            vec![Group { heads: 0..heads, rows: 0..batch, blocks, stepwise: true }]
        }
        Path::Resident => {
            let rows = (plan.rows as usize).max(1);
            let of_head = |head| {
                (0..batch).step_by(rows).map(move |first| Group {
                    heads: head..head + 1,
                    rows: first..(first + rows).min(batch),
                    blocks,
                    stepwise: false,
                })
            };
            (0..heads).flat_map(of_head).collect()
        }
    }
}

impl Group {
    /// Blocks of units of all its heads.
    pub fn all_blocks(&self) -> usize {
        self.heads.len() * self.blocks
    }

    /// Values of a block, one for each unit of each row.
    pub fn block_values(&self) -> usize {
        self.rows.len() * BLOCK
    }

    /// The head of one of its blocks, and the block's number in it.
    pub fn place(&self, block: usize) -> (usize, usize) {
        (self.heads.start + block / self.blocks, block % self.blocks)
    }

    /// The part of values of all heads, so many for each block, that the head of a block has.
    pub fn of_head<'a>(&self, values: &'a [f32], per_block: usize, block: usize) -> &'a [f32] {
        let per_head = self.blocks * per_block;
        &values[block / self.blocks * per_head..][..per_head]
    }

    /// The panel of a block, and that of the one which is visited next.
    pub fn panels<'a>(
        &self,
        panels: &'a Panels,
        block: usize,
        next: Option<usize>,
    ) -> [&'a [f32]; 2] {
        let panel_of = |block| {
            let (head, number) = self.place(block);
            head * self.blocks + number
        };
        let next = next.filter(|&next| next != block);
        let next = next.map_or(&[][..], |next| panels.next(panel_of(next)));
        [panels.panel(panel_of(block)), next]
    }

    /// Runs a step: calls `work` with blocks and with what they write, so many values of two kinds
    /// for each block. All blocks at once, or pieces of them side by side.
    pub fn share(
        &self,
        [(first, per_first), (second, per_second)]: [(&mut [f32], usize); 2],
        work: impl Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync,
    ) {
        let all = self.all_blocks();
        if !self.stepwise {
            return work(0..all, first, second);
        }
        // A thread finds part of its piece in its own cache, step after step.
        let piece = all.div_ceil(rayon::current_num_threads()).max(1);
        let pieces = first
            .par_chunks_mut(piece * per_first)
            .zip(second.par_chunks_mut(piece * per_second))
            .enumerate();
        pieces.for_each(|(i, (first, second))| {
            work(i * piece..((i + 1) * piece).min(all), first, second);
        });
    }
}

/// Some blocks in the order in which they are visited at a step: there and back in turns, so that
/// what was read last is still in the cache. With each the block and the step that are visited
/// next, of which `later` is the step that follows.
pub(super) fn visited(
    blocks: Range<usize>,
    step: usize,
    later: Option<usize>,
) -> impl Iterator<Item = (usize, Option<(usize, usize)>)> {
    let (first, count) = (blocks.start, blocks.len());
    let at = move |i| first + if step.is_multiple_of(2) { i } else { count - 1 - i };
    (0..count).map(move |i| {
        let next = match i + 1 < count {
            true => Some((at(i + 1), step)),
            // The way back begins with the same block.
            false => later.map(|later| (at(i), later)),
        };
        (at(i), next)
    })
}

/// The step of a row's tensors that is the `step`-th to be run, of so many steps of the row.
pub(super) fn time(direction: Direction, step: usize, length: usize) -> usize {
    match direction {
        Direction::Reverse if step < length => length - 1 - step,
        _ => step,
    }
}
