//! The sums of a part, and their sum over the parts, in order.

use std::ops::Range;

use rayon::prelude::*;

use super::{Part, Reverse};
use crate::Result;
use crate::backend::Cpu;
use crate::backend::cpu::aligned::elements_mut;
use crate::backend::cpu::disjoint::Disjoint;
use crate::element::{DType, DeviceFloat};
use crate::selective_scan::check::CHECK;
use crate::selective_scan::cpu::maps::Form;
use crate::selective_scan::cpu::tile::TILE;
use crate::selective_scan::{GradientsMut, Layout, Problem};
use crate::tensor::{Tensor, View};

/// What a part sums over its batch entry, of its own channels.
pub(super) struct Sums {
    batch: usize,
    states: usize,
    first_channel: usize,
    /// (channel, N), as all that follow in f64: sums over many steps.
    da: Vec<f64>,
    /// (channel).
    dd: Vec<f64>,
    ddelta_bias: Vec<f64>,
    pub db: MapSums,
    pub dc: MapSums,
}

/// The sums of dB or dC.
pub(super) struct MapSums {
    wanted: bool,
    states: usize,
    steps: usize,
    first_channel: usize,
    first_group: usize,
    group_channels: usize,
    /// (channel, N), where constant.
    constant: Vec<f64>,
    /// (group, N, L), where variable.
    variable: Vec<f32>,
}

impl Sums {
    pub fn new<T>(reverse: &Reverse<'_, T>, part: &Part) -> Self {
        let problem = reverse.call.problem;
        let first_channel = part.blocks.first().map_or(0, |channels| channels.start);
        let end = part.blocks.last().map_or(0, |channels| channels.end);
        let (channels, states) = (first_channel..end, problem.states);
        let (db, dc) = reverse.maps;
        Self {
            batch: part.batch,
            states,
            first_channel,
            da: vec![0.0; channels.len() * states],
            dd: vec![0.0; channels.len()],
            ddelta_bias: vec![0.0; channels.len()],
            db: MapSums::new(problem, db, problem.b_constant, &channels),
            dc: MapSums::new(problem, dc, problem.c_constant, &channels),
        }
    }

    /// Adds a tile of `length` steps: dD = Σ dy u, ddelta_bias = Σ ddelta, and dA as it is.
    #[inline(always)]
    pub fn add_per_channel(
        &mut self,
        channels: &Range<usize>,
        lanes: usize,
        length: usize,
        (dy, u, ddelta): (&[f32], &[f32], &[f32]),
        da: &[f32],
    ) {
        let first = channels.start - self.first_channel;
        for lane in 0..channels.len() {
            let line = |tile: &[f32], i: usize| f64::from(tile[i * lanes + lane]);
            self.dd[first + lane] += (0..length).map(|i| line(dy, i) * line(u, i)).sum::<f64>();
            self.ddelta_bias[first + lane] += (0..length).map(|i| line(ddelta, i)).sum::<f64>();
        }
        add_lines(&mut self.da[first * self.states..], self.states, channels.len(), lanes, da);
    }
}

/// Adds (N, lane) to (channel, N).
fn add_lines(to: &mut [f64], states: usize, channels: usize, lanes: usize, from: &[f32]) {
    for n in 0..states {
        for lane in 0..channels {
            to[lane * states + n] += f64::from(from[n * lanes + lane]);
        }
    }
}

impl MapSums {
    fn new(problem: &Problem, wanted: bool, constant: bool, channels: &Range<usize>) -> Self {
        let &Problem { states, steps, .. } = problem;
        let group_channels = problem.group_channels().max(1);
        let groups = channels.start / group_channels..channels.end.div_ceil(group_channels);
        let (wanted_constant, wanted_variable) = (wanted && constant, wanted && !constant);
        Self {
            wanted,
            states,
            steps,
            first_channel: channels.start,
            first_group: groups.start,
            group_channels,
            constant: vec![0.0; if wanted_constant { channels.len() * states } else { 0 }],
            variable: vec![0.0; if wanted_variable { groups.len() * states * steps } else { 0 }],
        }
    }

    /// Adds the sums of a tile, which lie as its form says.
    #[inline(always)]
    pub fn add(
        &mut self,
        form: Form,
        channels: &Range<usize>,
        lanes: usize,
        steps: Range<usize>,
        sums: &[f32],
    ) {
        if !self.wanted {
            return;
        }
        let (states, all) = (self.states, self.steps);
        match form {
            Form::Constant => {
                let first = (channels.start - self.first_channel) * states;
                add_lines(&mut self.constant[first..], states, channels.len(), lanes, sums);
            }
            Form::Shared => {
                let group = channels.start / self.group_channels - self.first_group;
                for (n, sums) in sums.chunks_exact(TILE).enumerate() {
                    let line = &mut self.variable[(group * states + n) * all + steps.start..];
                    for (total, sum) in line[..steps.len()].iter_mut().zip(sums) {
                        *total += sum;
                    }
                }
            }
            Form::Lanes => {
                for (n, products) in sums.chunks_exact(TILE * lanes).enumerate() {
                    for (t, line) in steps.clone().zip(products.chunks_exact(lanes)) {
                        for (channel, product) in channels.clone().zip(line) {
                            let group = channel / self.group_channels - self.first_group;
                            self.variable[(group * states + n) * all + t] += product;
                        }
                    }
                }
            }
        }
    }

    /// The groups that the part has channels of.
    fn groups(&self) -> Range<usize> {
        let each = self.states * self.steps;
        self.first_group..self.first_group + self.variable.len().checked_div(each).unwrap_or(0)
    }
}

/// Adds the parts up and rounds the sums into the gradients that are asked for.
pub(super) fn write<T: DeviceFloat>(
    problem: &Problem,
    layout: Layout,
    parts: &[Sums],
    gradients: &GradientsMut<'_, Cpu, T>,
) -> Result<()> {
    let states = problem.states;
    let total = |width: usize, part_sums: &dyn Fn(&Sums) -> &[f64]| {
        let mut total = vec![0.0; problem.channels * width];
        for part in parts {
            let place = &mut total[part.first_channel * width..];
            for (total, sum) in place.iter_mut().zip(part_sums(part)) {
                *total += sum;
            }
        }
        total
    };
    if let Some(da) = &gradients.da {
        let total = total(states, &|part| &part.da);
        match problem.a_per_channel {
            false => da.write_f64(&total)?,
            true if states == 0 => da.write_f64(&vec![0.0; problem.channels])?,
            true => {
                let over_states = total.chunks_exact(states).map(|line| line.iter().sum());
                da.write_f64(&over_states.collect::<Vec<f64>>())?;
            }
        }
    }
    let per_channel = |gradient: Option<&Tensor<Cpu, f32>>, part_sums: &dyn Fn(&Sums) -> &[f64]| {
        gradient.map_or(Ok(()), |gradient| gradient.write_f64(&total(1, part_sums)))
    };
    per_channel(gradients.dd.as_deref(), &|part| &part.dd)?;
    per_channel(gradients.ddelta_bias.as_deref(), &|part| &part.ddelta_bias)?;
    let maps: [MapGradient<'_>; 2] = [
        ("dB", gradients.db.as_deref(), problem.b_constant, |part| &part.db),
        ("dC", gradients.dc.as_deref(), problem.c_constant, |part| &part.dc),
    ];
    for (name, gradient, constant, sums) in maps {
        match gradient {
            None => {}
            Some(gradient) if constant => {
                gradient.write_f64(&total(states, &|part| &sums(part).constant))?;
            }
            Some(gradient) if gradient.dtype() == DType::F32 => {
                write_map::<f32>(name, gradient, problem, layout, parts, sums)?;
            }
            Some(gradient) => write_map::<T>(name, gradient, problem, layout, parts, sums)?,
        }
    }
    Ok(())
}

/// A map's name, its gradient, whether it is constant, and its sums in those of a part.
type MapGradient<'a> = (&'static str, Option<&'a View<Cpu>>, bool, fn(&Sums) -> &MapSums);

/// Adds up and rounds the gradient of a variable map, whose elements are `E`.
fn write_map<E: DeviceFloat>(
    name: &str,
    gradient: &View<Cpu>,
    problem: &Problem,
    layout: Layout,
    parts: &[Sums],
    sums: fn(&Sums) -> &MapSums,
) -> Result<()> {
    let &Problem { batch, groups, states, steps, .. } = problem;
    let mut bytes = gradient.write()?;
    let place = Disjoint::new(elements_mut::<E>(CHECK, name, &mut bytes)?);
    (0..batch * groups).into_par_iter().for_each(|i| {
        let (batch, group) = (i / groups, i % groups);
        let mut total = vec![0.0f32; states * steps];
        for part in parts.iter().filter(|part| part.batch == batch).map(sums) {
            if part.groups().contains(&group) {
                let first = (group - part.first_group) * total.len();
                for (total, sum) in total.iter_mut().zip(&part.variable[first..]) {
                    *total += sum;
                }
            }
        }
        for (n, line) in total.chunks_exact(steps.max(1)).enumerate() {
            for (t, &value) in line.iter().enumerate() {
                let index = match layout {
                    Layout::Bdl => ((batch * groups + group) * states + n) * steps + t,
                    Layout::Bld => ((batch * steps + t) * groups + group) * states + n,
                };
                // SAFETY: each task has a batch entry and group of its own.
                unsafe { place.write(index, E::from_f32(value)) };
            }
        }
    });
    Ok(())
}
