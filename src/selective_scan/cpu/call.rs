//! A call on the CPU as its tasks see it: what both passes read.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::tile::{ActivationStrides, MapStrides, Source};
use crate::Result;
use crate::backend::cpu::aligned::elements;
use crate::backend::{Cpu, ReadGuard};
use crate::element::DeviceFloat;
use crate::parameter::Parameter;
use crate::resets::Step;
use crate::selective_scan::check::CHECK;
use crate::selective_scan::{Inputs, Options, Problem, Resets};
use crate::tensor::Tensor;

/// The inputs of a call.
pub(super) struct Call<'a, T> {
    pub problem: &'a Problem,
    pub options: &'a Options,
    pub decays: Decays,
    pub u: Source<'a, T>,
    pub delta: Source<'a, T>,
    pub z: Option<Source<'a, T>>,
    /// (D, N) or (D).
    pub a: Vec<f32>,
    pub b: Map<'a, T>,
    pub c: Map<'a, T>,
    pub d: Option<Vec<f32>>,
    pub delta_bias: Option<Vec<f32>>,
    pub h0: Option<Vec<f32>>,
    /// (B, L), where the call has resets or padding.
    pub meanings: Option<Vec<Step>>,
}

impl<'a, T: DeviceFloat> Call<'a, T> {
    /// Reads the parameters; activations and maps stay where they are.
    pub fn new(
        problem: &'a Problem,
        inputs: &Inputs<'_, Cpu, T>,
        options: &'a Options,
        reads: &'a Reads<'_>,
    ) -> Result<Self> {
        let a = inputs.a.to_f32()?;
        let optional = |parameter: Option<Parameter<'_, Cpu>>| {
            parameter.map(|parameter| parameter.to_f32()).transpose()
        };
        Ok(Self {
            problem,
            options,
            decays: Decays::of(problem, options, &a),
            u: source("u", &reads.u, inputs.u, options)?,
            delta: source("delta", &reads.delta, inputs.delta, options)?,
            z: match (&reads.z, inputs.z) {
                (Some(read), Some(z)) => Some(source("z", read, z, options)?),
                _ => None,
            },
            a,
            b: Map::new("B", &reads.b, inputs.b, problem.b_constant, options)?,
            c: Map::new("C", &reads.c, inputs.c, problem.c_constant, options)?,
            d: optional(inputs.d)?,
            delta_bias: optional(inputs.delta_bias)?,
            h0: optional(inputs.h0)?,
            meanings: match inputs.resets {
                Resets::Flags(_) | Resets::SeqIdx(_) => {
                    Some(inputs.resets.meanings(problem.batch, problem.steps)?)
                }
                Resets::None | Resets::CuSeqlens(_) => None,
            },
        })
    }

    /// A_n of a channel.
    pub fn a(&self, channel: usize, n: usize) -> f32 {
        match self.problem.a_per_channel {
            true => self.a[channel],
            false => self.a[channel * self.problem.states + n],
        }
    }

    /// The runs of ordinary steps among `steps`; padding belongs to none.
    pub fn segments(&self, batch: usize, steps: Range<usize>) -> Vec<Segment> {
        let whole = Segment { steps: 0..steps.len(), from_zero: false };
        let Some(meanings) = self.meanings(batch, steps) else { return vec![whole] };
        let mut segments: Vec<Segment> = Vec::new();
        for (i, meaning) in meanings.iter().enumerate() {
            match (meaning, segments.last_mut()) {
                (Step::Padding, _) => {}
                (Step::Ordinary, Some(last)) if last.steps.end == i => last.steps.end += 1,
                _ => {
                    let from_zero = *meaning == Step::Reset;
                    segments.push(Segment { steps: i..i + 1, from_zero });
                }
            }
        }
        segments
    }

    /// Fills the lines of padding, of (t, lane), with zeros.
    pub fn clear_padding(&self, batch: usize, steps: Range<usize>, lanes: usize, tile: &mut [f32]) {
        let Some(meanings) = self.meanings(batch, steps) else { return };
        for (line, meaning) in tile.chunks_exact_mut(lanes).zip(meanings) {
            if *meaning == Step::Padding {
                line.fill(0.0);
            }
        }
    }

    fn meanings(&self, batch: usize, steps: Range<usize>) -> Option<&[Step]> {
        let first = batch * self.problem.steps;
        self.meanings.as_ref().map(|all| &all[first + steps.start..first + steps.end])
    }
}

/// Steps of a tile without a reset in between.
pub(super) struct Segment {
    pub steps: Range<usize>,
    pub from_zero: bool,
}

/// Writes the values of each channel to (row, lane), 0 in the lanes that have no channel.
pub(super) fn spread(
    place: &mut [f32],
    lanes: usize,
    channels: &Range<usize>,
    value: impl Fn(usize, usize) -> f32,
) {
    for (row, line) in place.chunks_exact_mut(lanes).enumerate() {
        line.fill(0.0);
        for (place, channel) in line.iter_mut().zip(channels.clone()) {
            *place = value(channel, row);
        }
    }
}

/// Lanes of a SIMD register on this machine.
pub(super) fn lane_count() -> usize {
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
pub(super) fn channel_blocks(problem: &Problem, lanes: usize) -> Vec<Range<usize>> {
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
pub(super) struct Reads<'a> {
    u: ReadGuard<'a>,
    delta: ReadGuard<'a>,
    b: ReadGuard<'a>,
    c: ReadGuard<'a>,
    z: Option<ReadGuard<'a>>,
}

impl<'a> Reads<'a> {
    pub fn claim<T: DeviceFloat>(inputs: &'a Inputs<'_, Cpu, T>) -> Result<Self> {
        Ok(Self {
            u: inputs.u.read()?,
            delta: inputs.delta.read()?,
            b: inputs.b.read()?,
            c: inputs.c.read()?,
            z: inputs.z.map(|z| z.read()).transpose()?,
        })
    }
}

pub(super) fn source<'a, T: DeviceFloat>(
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
    pub fn of(problem: &Problem, options: &Options, a: &[f32]) -> Self {
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
