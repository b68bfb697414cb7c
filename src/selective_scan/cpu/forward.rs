//! The forward scan on the CPU: the call, cut into tasks for the rayon pool.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::block::Block;
use super::scratch::Scratch;
use super::tile::{ActivationStrides, MapStrides, Source, Target};
use crate::Result;
use crate::backend::cpu::aligned::{elements, elements_mut};
use crate::backend::cpu::disjoint::Disjoint;
use crate::backend::{Cpu, ReadGuard};
use crate::element::DeviceFloat;
use crate::parameter::Parameter;
use crate::resets::Step;
use crate::selective_scan::check::CHECK;
use crate::selective_scan::{Inputs, Options, OutputsMut, Problem, Resets};
use crate::tensor::Tensor;

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
    let a = inputs.a.to_f32()?;
    let scan = Scan::<T> {
        problem,
        options,
        decays: Decays::of(problem, options, &a),
        u: source("u", &reads.u, inputs.u, options)?,
        delta: source("delta", &reads.delta, inputs.delta, options)?,
        z: match (&reads.z, inputs.z) {
            (Some(read), Some(z)) => Some(source("z", read, z, options)?),
            _ => None,
        },
        a: a.into_iter().map(|a| a * std::f32::consts::LOG2_E).collect(),
        b: Map::new("B", &reads.b, inputs.b, problem.b_constant, options)?,
        c: Map::new("C", &reads.c, inputs.c, problem.c_constant, options)?,
        d: inputs.d.map(|parameter| parameter.to_f32()).transpose()?,
        delta_bias: inputs.delta_bias.map(|parameter| parameter.to_f32()).transpose()?,
        h0: inputs.h0.map(|parameter| parameter.to_f32()).transpose()?,
        meanings: match inputs.resets {
            Resets::Flags(_) | Resets::SeqIdx(_) => {
                Some(inputs.resets.meanings(problem.batch, problem.steps)?)
            }
            Resets::None | Resets::CuSeqlens(_) => None,
        },
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

/// Lanes of a SIMD register on this machine.
fn lane_count() -> usize {
    struct Count;
    impl WithSimd for Count {
        type Output = usize;
        fn with_simd<S: Simd>(self, _simd: S) -> usize {
            S::F32_LANES
        }
    }
    Arch::new().dispatch(Count)
}

/// The channels of each task: lanes of one group where groups are wide enough to fill them,
/// so that B and C are broadcasts.
fn channel_blocks(problem: &Problem, lanes: usize) -> Vec<Range<usize>> {
    let within =
        if wide_groups(problem, lanes) { problem.group_channels() } else { problem.channels };
    (0..problem.channels)
        .step_by(within.max(1))
        .flat_map(|first| {
            let end = first + within;
            (first..end).step_by(lanes).map(move |first| first..end.min(first + lanes))
        })
        .collect()
}

pub(super) fn wide_groups(problem: &Problem, lanes: usize) -> bool {
    problem.group_channels() >= lanes
}

/// The bytes of the tensors that are read in place.
struct Reads<'a> {
    u: ReadGuard<'a>,
    delta: ReadGuard<'a>,
    b: ReadGuard<'a>,
    c: ReadGuard<'a>,
    z: Option<ReadGuard<'a>>,
}

impl<'a> Reads<'a> {
    fn claim<T: DeviceFloat>(inputs: &'a Inputs<'_, Cpu, T>) -> Result<Self> {
        Ok(Self {
            u: inputs.u.read()?,
            delta: inputs.delta.read()?,
            b: inputs.b.read()?,
            c: inputs.c.read()?,
            z: inputs.z.map(|z| z.read()).transpose()?,
        })
    }
}

fn source<'a, T: DeviceFloat>(
    name: &str,
    bytes: &'a [u8],
    tensor: &Tensor<Cpu, T>,
    options: &Options,
) -> Result<Source<'a, T>> {
    let strides = ActivationStrides::of(tensor, options.layout);
    Ok(Source { values: elements(CHECK, name, bytes)?, strides })
}

/// How the decays of a call are made.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Decays {
    /// An exponential for each state and step.
    Own,
    /// A is (D): one for each step.
    Shared,
    /// A_n = (n + 1) A_0, as Mamba begins: the powers of one for each step.
    Powers,
}

impl Decays {
    /// Powers are taken where they are exact in A, and lose no digits: of decays that are no
    /// growth, and up to the state size for which the specification admits them.
    fn of(problem: &Problem, options: &Options, a: &[f32]) -> Self {
        const MOST_STATES: usize = 64;
        let states = problem.states;
        let decays = a.iter().all(|a| *a <= 0.0);
        let positive = match options.delta_clamp {
            Some((min, _)) => min >= 0.0,
            None => options.delta_softplus,
        };
        let multiples =
            |line: &[f32]| line.iter().enumerate().all(|(n, a)| *a == (n + 1) as f32 * line[0]);
        if problem.a_per_channel {
            Self::Shared
        } else if (2..=MOST_STATES).contains(&states)
            && decays
            && positive
            && a.chunks_exact(states).all(multiples)
        {
            Self::Powers
        } else {
            Self::Own
        }
    }
}

/// B or C.
pub(super) enum Map<'a, T> {
    /// (D, N).
    Constant(Vec<f32>),
    Variable {
        values: &'a [T],
        strides: MapStrides,
    },
}

impl<'a, T: DeviceFloat> Map<'a, T> {
    fn new(
        name: &str,
        bytes: &'a [u8],
        map: Parameter<'_, Cpu>,
        constant: bool,
        options: &Options,
    ) -> Result<Self> {
        if constant {
            return Ok(Self::Constant(map.to_f32()?));
        }
        let strides = MapStrides::of(&map, options.layout);
        Ok(Self::Variable { values: elements(CHECK, name, bytes)?, strides })
    }
}

/// A call, ready to be run by tasks.
pub(super) struct Scan<'a, T> {
    pub problem: &'a Problem,
    pub options: &'a Options,
    pub decays: Decays,
    pub u: Source<'a, T>,
    pub delta: Source<'a, T>,
    pub z: Option<Source<'a, T>>,
    /// A log2(e), (D, N) or (D).
    pub a: Vec<f32>,
    pub b: Map<'a, T>,
    pub c: Map<'a, T>,
    pub d: Option<Vec<f32>>,
    pub delta_bias: Option<Vec<f32>>,
    pub h0: Option<Vec<f32>>,
    /// (B, L), where the call has resets or padding.
    pub meanings: Option<Vec<Step>>,
    pub out: Target<'a, T>,
    pub last_state: Option<Disjoint<'a, f32>>,
    pub saved: Option<Disjoint<'a, f32>>,
}
