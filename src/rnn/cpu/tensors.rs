//! What tasks read and write: units of a block, of one row and step.

use std::ops::Range;

use super::product::{BLOCK, Units, blocks, units};
use crate::Result;
use crate::backend::cpu::aligned::{elements, elements_mut};
use crate::backend::cpu::disjoint::Disjoint;
use crate::backend::cpu::prefetch::prefetch;
use crate::backend::{Cpu, WriteGuard};
use crate::element::DeviceFloat;
use crate::parameter::Parameter;
use crate::rnn::Problem;
use crate::rnn::check::CHECK;
use crate::tensor::View;

/// Row, step, gate and head: 0 where a tensor has no gates.
pub(super) type Place = [usize; 4];

/// Distances in elements between rows, steps, gates and heads.
#[derive(Clone, Copy)]
struct Strides([usize; 4]);

impl Strides {
    /// Of a tensor (B, T, G, N, D) or (B, T, N, D).
    fn of(view: &View<Cpu>) -> Self {
        let strides = view.strides();
        match view.shape().len() {
            5 => Self([strides[0], strides[1], strides[2], strides[3]]),
            _ => Self([strides[0], strides[1], 0, strides[2]]),
        }
    }

    #[inline(always)]
    fn index(self, [row, step, gate, head]: Place) -> usize {
        let [rows, steps, gates, heads] = self.0;
        rows * row + steps * step + gates * gate + heads * head
    }
}

/// A tensor of every step, to be read.
#[derive(Clone, Copy)]
pub(super) struct Source<'a, T> {
    values: &'a [T],
    strides: Strides,
}

impl<'a, T: DeviceFloat> Source<'a, T> {
    pub fn new(name: &str, bytes: &'a [u8], view: &View<Cpu>) -> Result<Self> {
        Ok(Self { values: elements(CHECK, name, bytes)?, strides: Strides::of(view) })
    }

    /// Widens units into the front of `to`.
    #[inline(always)]
    pub fn load(&self, place: Place, units: &Range<usize>, to: &mut Units) {
        let from = &self.values[self.strides.index(place) + units.start..][..units.len()];
        match <&[T; BLOCK]>::try_from(from).ok() {
            Some(from) => T::widen(from, to),
            None => T::widen(from, &mut to[..units.len()]),
        }
    }
}

impl<T> Source<'_, T> {
    /// Asks for units that will be loaded at another step: lines lie so far apart that the machine
    /// does not guess them.
    #[inline(always)]
    pub fn prefetch(&self, place: Place, units: &Range<usize>) {
        let first = self.strides.index(place) + units.start;
        if let Some(values) = self.values.get(first..first + units.len()) {
            prefetch(values);
        }
    }
}

/// A tensor of every step, to be written; each task has units of its own.
#[derive(Clone, Copy)]
pub(super) struct Target<'a, T> {
    values: Disjoint<'a, T>,
    strides: Strides,
}

impl<'a, T: DeviceFloat> Target<'a, T> {
    pub fn new(name: &str, bytes: &'a mut [u8], view: &View<Cpu>) -> Result<Self> {
        let values = Disjoint::new(elements_mut(CHECK, name, bytes)?);
        Ok(Self { values, strides: Strides::of(view) })
    }

    /// Rounds the front of `from` into units.
    ///
    /// # Safety
    ///
    /// No other task writes these units.
    #[inline(always)]
    pub unsafe fn store(&self, place: Place, units: &Range<usize>, from: &Units) {
        let mut rounded = [T::from_f32(0.0); BLOCK];
        T::narrow(from, &mut rounded);
        let first = self.strides.index(place) + units.start;
        // SAFETY: the caller's promise. Of a known length it is a few vectors, not a call.
        unsafe {
            match units.len() {
                BLOCK => self.values.write_run(first, &rounded),
                part => self.values.write_run(first, &rounded[..part]),
            }
        }
    }
}

/// Gates that are kept, or were, in the type of activations or in f32.
pub(super) enum Kept<N, W> {
    Narrow(N),
    Wide(W),
}

/// Gates to be kept.
pub(super) type GateTarget<'a, T> = Kept<Target<'a, T>, Target<'a, f32>>;

/// Gates that were kept.
pub(super) type GateSource<'a, T> = Kept<Source<'a, T>, Source<'a, f32>>;

impl<'a, T: DeviceFloat> GateTarget<'a, T> {
    pub fn new(bytes: &'a mut [u8], view: &View<Cpu>) -> Result<Self> {
        Ok(match view.dtype() == T::DTYPE {
            true => Self::Narrow(Target::new("saved gates", bytes, view)?),
            false => Self::Wide(Target::new("saved gates", bytes, view)?),
        })
    }

    /// # Safety
    ///
    /// As [`Target::store`].
    #[inline(always)]
    pub unsafe fn store(&self, place: Place, units: &Range<usize>, from: &Units) {
        match self {
            // SAFETY: the caller's promise, here and below.
            Self::Narrow(target) => unsafe { target.store(place, units, from) },
            // SAFETY: as above.
            Self::Wide(target) => unsafe { target.store(place, units, from) },
        }
    }
}

impl<'a, T: DeviceFloat> GateSource<'a, T> {
    pub fn new(bytes: &'a [u8], view: &View<Cpu>) -> Result<Self> {
        Ok(match view.dtype() == T::DTYPE {
            true => Self::Narrow(Source::new("saved gates", bytes, view)?),
            false => Self::Wide(Source::new("saved gates", bytes, view)?),
        })
    }

    #[inline(always)]
    pub fn load(&self, place: Place, units: &Range<usize>, to: &mut Units) {
        match self {
            Self::Narrow(source) => source.load(place, units, to),
            Self::Wide(source) => source.load(place, units, to),
        }
    }

    #[inline(always)]
    pub fn prefetch(&self, place: Place, units: &Range<usize>) {
        match self {
            Self::Narrow(source) => source.prefetch(place, units),
            Self::Wide(source) => source.prefetch(place, units),
        }
    }
}

/// The bytes of a tensor, claimed for writing, where there is one.
pub(super) fn claimed(view: Option<&View<Cpu>>) -> Result<Option<WriteGuard<'_>>> {
    view.map(View::write).transpose()
}

/// Parameters in f32; none where absent.
pub(super) fn optional(parameter: Option<Parameter<'_, Cpu>>) -> Result<Option<Vec<f32>>> {
    parameter.map(|parameter| parameter.to_f32()).transpose()
}

/// The units of one row and head of a state (B, N, D); zeros where there is none.
pub(super) fn of_state(
    problem: &Problem,
    state: Option<&[f32]>,
    [row, head]: [usize; 2],
    units: &Range<usize>,
) -> Units {
    let mut values = [0.0; BLOCK];
    if let Some(state) = state {
        let first = (row * problem.heads + head) * problem.width + units.start;
        values[..units.len()].copy_from_slice(&state[first..][..units.len()]);
    }
    values
}

/// A bias (Gb, N, D), or none, by blocks of all heads.
pub(super) fn bias_by_block(problem: &Problem, bias: Option<&[f32]>) -> Vec<[Units; 4]> {
    let place = |block: usize| (block / blocks(problem), block % blocks(problem));
    let of_block = |block| {
        let ((head, block), mut units_of_gates) = (place(block), [[0.0; BLOCK]; 4]);
        let units = units(problem, block);
        let gates = problem.cell.bias_gates().len();
        for (gate, values) in units_of_gates[..gates].iter_mut().enumerate() {
            // A bias is a state of as many rows as gates.
            *values = of_state(problem, bias, [gate, head], &units);
        }
        units_of_gates
    };
    (0..problem.heads * blocks(problem)).map(of_block).collect()
}
