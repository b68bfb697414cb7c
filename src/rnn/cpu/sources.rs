//! What the backward pass reads at every step.

use super::tensors::{GateSource, Source};
use crate::Result;
use crate::backend::{Cpu, ReadGuard};
use crate::element::DeviceFloat;
use crate::rnn::{OutputGradients, Saved};
use crate::tensor::{Tensor, View};

/// The bytes of what is read at every step.
pub(super) struct Reads<'a> {
    h: ReadGuard<'a>,
    dh: Option<ReadGuard<'a>>,
    gates: Option<ReadGuard<'a>>,
    kept: [Option<ReadGuard<'a>>; 2],
}

/// What is read at every step.
pub(super) struct Sources<'a, T> {
    pub h: Source<'a, T>,
    pub dh: Option<Source<'a, T>>,
    pub gates: Option<GateSource<'a, T>>,
    /// c and n.
    pub kept: [Option<Source<'a, f32>>; 2],
}

impl<'a> Reads<'a> {
    pub fn of<T: DeviceFloat>(
        h: &'a Tensor<Cpu, T>,
        saved: &'a Saved<Cpu, T>,
        given: &OutputGradients<'a, Cpu, T>,
    ) -> Result<Self> {
        let read = |view: Option<&'a View<Cpu>>| view.map(View::read).transpose();
        Ok(Self {
            h: h.read()?,
            dh: read(given.h.map(|dh| &**dh))?,
            gates: read(saved.gates.as_ref())?,
            kept: [read(saved.c.as_deref())?, read(saved.n.as_deref())?],
        })
    }

    pub fn sources<'b, T: DeviceFloat>(
        &'b self,
        h: &Tensor<Cpu, T>,
        saved: &Saved<Cpu, T>,
        given: &OutputGradients<'_, Cpu, T>,
    ) -> Result<Sources<'b, T>> {
        let kept = |name, bytes: &'b Option<ReadGuard<'_>>, view: &Option<Tensor<Cpu, f32>>| {
            let tensor = bytes.as_ref().zip(view.as_ref());
            tensor.map(|(bytes, view)| Source::new(name, bytes, view)).transpose()
        };
        let (dh, gates) = (self.dh.as_ref().zip(given.h), self.gates.as_ref());
        let gates = gates.zip(saved.gates.as_ref());
        Ok(Sources {
            h: Source::new("h", &self.h, h)?,
            dh: dh.map(|(bytes, view)| Source::new("dh", bytes, view)).transpose()?,
            gates: gates.map(|(bytes, view)| GateSource::new(bytes, view)).transpose()?,
            kept: [
                kept("saved c", &self.kept[0], &saved.c)?,
                kept("saved n", &self.kept[1], &saved.n)?,
            ],
        })
    }
}
