//! The forward scan on the CPU: the call, cut into tasks for the rayon pool.

use pulp::Arch;
use rayon::prelude::*;

use super::block::Block;
use super::call::{Call, Reads, channel_blocks, lane_count};
use super::scratch::Scratch;
use super::tile::{ActivationStrides, Target};
use crate::Result;
use crate::backend::Cpu;
use crate::backend::cpu::aligned::elements_mut;
use crate::backend::cpu::disjoint::Disjoint;
use crate::element::DeviceFloat;
use crate::selective_scan::check::CHECK;
use crate::selective_scan::{Inputs, Options, OutputsMut, Problem};

/// The number of tasks that a call is cut into.
pub(super) fn tasks(problem: &Problem) -> usize {
    problem.rows * channel_blocks(problem, lane_count()).len()
}

/// Runs the scan. The inputs have been checked, values included.
pub(super) fn run<T: DeviceFloat>(
    problem: &Problem,
    inputs: &Inputs<'_, Cpu, T>,
    options: &Options,
    outputs: &OutputsMut<'_, Cpu, T>,
) -> Result<()> {
    let reads = Reads::claim(inputs)?;
    let mut out = outputs.out.write()?;
    let mut last_state = outputs.last_state.as_ref().map(|state| state.write()).transpose()?;
    let mut saved = outputs.saved.as_ref().map(|saved| saved.write()).transpose()?;
    let scan = Scan::<T> {
        call: Call::new(problem, inputs, options, &reads)?,
        out: Target {
            values: Disjoint::new(elements_mut(CHECK, "out", &mut out)?),
            strides: ActivationStrides::of(outputs.out, options.layout),
        },
        last_state: match &mut last_state {
            Some(bytes) => Some(Disjoint::new(elements_mut(CHECK, "last_state", bytes)?)),
            None => None,
        },
        saved: match &mut saved {
            Some(bytes) => Some(Disjoint::new(elements_mut(CHECK, "saved", bytes)?)),
            None => None,
        },
    };
    let rows = inputs.resets.rows(problem.batch, problem.steps)?;
    let blocks = channel_blocks(problem, lane_count());
    let arch = Arch::new();
    (0..rows.len() * blocks.len()).into_par_iter().for_each_init(Scratch::default, |scratch, i| {
        let (row, channels) = (i / blocks.len(), blocks[i % blocks.len()].clone());
        let (batch, steps) = rows[row].clone();
        arch.dispatch(Block { scan: &scan, scratch, row, batch, channels, steps });
    });
    Ok(())
}

/// A call, ready to be run by tasks.
pub(super) struct Scan<'a, T> {
    pub call: Call<'a, T>,
    pub out: Target<'a, T>,
    pub last_state: Option<Disjoint<'a, f32>>,
    pub saved: Option<Disjoint<'a, f32>>,
}
