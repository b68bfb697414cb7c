//! Where everything lies in the scratch buffer of a part.

use std::ops::Range;

use super::super::parts::Part;
use super::super::tensors::{positions, rows};
use super::Call;
use crate::Result;
use crate::backend::wgpu::{Home, Scratch, Slice, Wgpu};
use crate::element::DeviceFloat;
use crate::parameter::Parameter;
use crate::selective_scan::{BackwardCall, Problem};
use crate::tensor::View;

/// First words.
#[derive(Clone, Copy)]
pub(super) struct Places {
    pub a: u32,
    pub d: u32,
    pub delta_bias: u32,
    pub h0: u32,
    pub positions: u32,
    pub saved: u32,
    /// Variable B and C of a segment, or constant ones.
    pub maps: [u32; 2],
    /// The gradient of the state behind a segment, then of the one before it.
    pub carry: u32,
    /// Parts of dB and dC, or sums over time where they are constant.
    pub map_sums: [u32; 2],
    pub da: u32,
    pub dd: u32,
    pub ddelta_bias: u32,
}

impl Places {
    /// Lays scratch out; [`Rooms`](crate::selective_scan::plan::Rooms) tells how long it gets at most.
    pub fn new<'a, T: DeviceFloat>(
        call: &'a Call<'_, T>,
        part: &Part,
        scratch: &mut Scratch<'a>,
    ) -> Result<Self> {
        let &Call { device, problem, call: backward, gradients, spread, cut, .. } = call;
        let &BackwardCall { inputs, saved, outer, .. } = backward;
        let &Problem { channels, states, groups, b_constant, c_constant, .. } = problem;
        let codes = positions(device, problem, &inputs.resets, part, scratch)?;
        let mut plot = Plot { device, scratch, rows: &part.rows, state: channels * states };
        let lines = part.rows.len() * channels;
        let length = part.batch.len() * groups * cut.length(problem);
        let capacity = spread.capacity() as usize;
        let map = |plot: &mut Plot<'_, 'a>, map: Parameter<'a, Wgpu>, constant| match constant {
            true => plot.parameter(Some(map)),
            false => plot.room(&[length, capacity]),
        };
        let map_sum = |plot: &mut Plot<'_, 'a>, constant, wanted| match (constant, wanted) {
            (true, _) => plot.room(&[lines, states]),
            (false, true) => plot.room(&[cut.side_by_side, length, states]),
            (false, false) => Ok(0),
        };
        Ok(Self {
            a: plot.parameter(Some(inputs.a))?,
            d: plot.parameter(inputs.d)?,
            delta_bias: plot.parameter(inputs.delta_bias)?,
            h0: plot.state(inputs.h0)?,
            positions: first_word(codes),
            saved: plot.filled(saved, rows(saved, &part.batch, saved_states(problem)))?,
            maps: [map(&mut plot, inputs.b, b_constant)?, map(&mut plot, inputs.c, c_constant)?],
            carry: match outer.dlast_state {
                Some(_) => plot.state(outer.dlast_state)?,
                None => plot.room(&[lines, states])?,
            },
            map_sums: [
                map_sum(&mut plot, b_constant, gradients.db.is_some())?,
                map_sum(&mut plot, c_constant, gradients.dc.is_some())?,
            ],
            da: plot.room(&[lines, states])?,
            dd: plot.room(&[lines])?,
            ddelta_bias: plot.room(&[lines, spread.lanes() as usize])?,
        })
    }
}

/// Numbers in `saved` of a batch entry.
fn saved_states(problem: &Problem) -> usize {
    problem.channels * problem.states * problem.checkpoints()
}

/// Scratch while it is laid out.
struct Plot<'b, 'a> {
    device: &'b Wgpu,
    scratch: &'b mut Scratch<'a>,
    /// Those of the part.
    rows: &'b Range<usize>,
    /// Numbers in the states of a row.
    state: usize,
}

impl<'a> Plot<'_, 'a> {
    /// A parameter in f32.
    fn parameter(&mut self, parameter: Option<Parameter<'a, Wgpu>>) -> Result<u32> {
        parameter.map_or(Ok(0), |parameter| {
            let view = parameter.view();
            self.filled(view, Slice::new(view.buffer(), view.byte_range()))
        })
    }

    /// States of the part's rows.
    fn state(&mut self, state: Option<Parameter<'a, Wgpu>>) -> Result<u32> {
        state.map_or(Ok(0), |state| {
            let view = state.view();
            self.filled(view, rows(view, self.rows, self.state))
        })
    }

    fn filled(&mut self, view: &View<Wgpu>, source: Slice<'a>) -> Result<u32> {
        self.scratch.parameter(self.device, source, view.dtype(), true).map(first_word)
    }

    fn room(&mut self, sizes: &[usize]) -> Result<u32> {
        let words = sizes.iter().fold(1u64, |words, &size| words.saturating_mul(size as u64));
        self.scratch.reserve(self.device, words)
    }
}

fn first_word(home: Home<'_>) -> u32 {
    match home {
        Home::Scratch(word) => word,
        Home::Absent | Home::Tensor(_) => 0,
    }
}
