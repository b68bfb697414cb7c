//! The backward scan on the CPU: the call, cut into parts for the rayon pool.
//!
//! A part is some blocks of channels of one batch entry, a channel per SIMD lane. It walks each
//! block from the last step down to the first, and sums over its channels what dB and dC need;
//! then the sums of parts are added up in order. The cut depends on the sizes alone, so equal
//! inputs give equal bits on any number of threads.

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use super::call::{Call, Reads, channel_blocks, lane_count, source};
use super::tile::{ActivationStrides, Source, Target};
use crate::Result;
use crate::backend::cpu::aligned::{elements, elements_mut};
use crate::backend::cpu::disjoint::Disjoint;
use crate::backend::{Cpu, WriteGuard};
use crate::element::DeviceFloat;
use crate::selective_scan::check::CHECK;
use crate::selective_scan::{BackwardCall, GradientsMut, Problem};
use crate::tensor::Tensor;

mod block;
mod reverse;
mod scratch;
mod sums;

use block::Block;
use scratch::Scratch;
use sums::Sums;

/// Some blocks of channels of a batch entry.
pub(super) struct Part {
    batch: usize,
    blocks: Vec<Range<usize>>,
}

/// The parts of a call: a few for each core of a large machine, fewer where their sums would take
/// more than a quarter of a gigabyte.
pub(super) fn parts(problem: &Problem) -> Vec<Part> {
    const PARTS: usize = 64;
    const MOST_SUMS: usize = 1 << 26;
    let blocks = channel_blocks(problem, lane_count());
    let sums = 2 * problem.batch * problem.states * problem.steps;
    let affordable = MOST_SUMS.checked_div(sums).unwrap_or(PARTS).max(2);
    let wanted = PARTS.div_ceil(problem.batch.max(1)).min(affordable);
    let length = blocks.len().div_ceil(wanted).max(1);
    (0..problem.batch)
        .flat_map(|batch| {
            blocks.chunks(length).map(move |blocks| Part { batch, blocks: blocks.to_vec() })
        })
        .collect()
}

/// A call, ready to be run by parts.
struct Reverse<'a, T> {
    call: Call<'a, T>,
    dout: Source<'a, T>,
    /// (B, D, checkpoint, N).
    saved: &'a [f32],
    dlast_state: Option<Vec<f32>>,
    /// The batch entry and the steps of each row.
    rows: Vec<(usize, Range<usize>)>,
    du: Option<Target<'a, T>>,
    ddelta: Option<Target<'a, T>>,
    dz: Option<Target<'a, T>>,
    dh0: Option<Disjoint<'a, f32>>,
    /// Whether dB and dC are asked for.
    maps: (bool, bool),
}

/// Runs the backward pass. The tensors have been checked, values included.
pub(super) fn run<T: DeviceFloat>(
    problem: &Problem,
    call: &BackwardCall<'_, Cpu, T>,
    gradients: &GradientsMut<'_, Cpu, T>,
) -> Result<()> {
    let &BackwardCall { inputs, options, saved, outer } = call;
    let reads = Reads::claim(inputs)?;
    let (dout, saved) = (outer.dout.read()?, saved.read()?);
    let mut du = claim(&gradients.du)?;
    let mut ddelta = claim(&gradients.ddelta)?;
    let mut dz = claim(&gradients.dz)?;
    let mut dh0 = claim(&gradients.dh0)?;
    let layout = options.layout;
    let reverse = Reverse {
        call: Call::new(problem, inputs, options, &reads)?,
        dout: source("dout", &dout, outer.dout, options)?,
        saved: elements(CHECK, "saved", &saved)?,
        dlast_state: outer.dlast_state.map(|state| state.to_f32()).transpose()?,
        rows: inputs.resets.rows(problem.batch, problem.steps)?,
        du: target("du", &mut du, &gradients.du, layout)?,
        ddelta: target("ddelta", &mut ddelta, &gradients.ddelta, layout)?,
        dz: target("dz", &mut dz, &gradients.dz, layout)?,
        dh0: match &mut dh0 {
            Some(bytes) => Some(Disjoint::new(elements_mut(CHECK, "dh0", bytes)?)),
            None => None,
        },
        maps: (gradients.db.is_some(), gradients.dc.is_some()),
    };
    let arch = Arch::new();
    let sums: Vec<Sums> = parts(problem)
        .into_par_iter()
        .map_init(Scratch::default, |scratch, part| {
            let mut sums = Sums::new(&reverse, &part);
            for (row, (batch, steps)) in reverse.rows.iter().enumerate() {
                for channels in part.blocks.iter().filter(|_| *batch == part.batch) {
                    arch.dispatch(Block {
                        reverse: &reverse,
                        scratch,
                        sums: &mut sums,
                        row,
                        batch: *batch,
                        channels: channels.clone(),
                        steps: steps.clone(),
                    });
                }
            }
            sums
        })
        .collect();
    sums::write(problem, layout, &sums, gradients)
}

fn claim<'a, T: crate::Element>(
    tensor: &'a Option<&mut Tensor<Cpu, T>>,
) -> Result<Option<WriteGuard<'a>>> {
    tensor.as_ref().map(|tensor| tensor.write()).transpose()
}

fn target<'a, T: DeviceFloat>(
    name: &str,
    bytes: &'a mut Option<WriteGuard<'_>>,
    tensor: &Option<&mut Tensor<Cpu, T>>,
    layout: crate::selective_scan::Layout,
) -> Result<Option<Target<'a, T>>> {
    let (Some(bytes), Some(tensor)) = (bytes, tensor) else { return Ok(None) };
    let values = Disjoint::new(elements_mut(CHECK, name, bytes)?);
    Ok(Some(Target { values, strides: ActivationStrides::of(tensor, layout) }))
}
