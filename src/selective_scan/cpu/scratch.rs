//! What a thread works in: tiles and states in f32, aligned for whole vectors.

use std::ops::{Deref, DerefMut};

use bytemuck::{Pod, Zeroable};

/// What a thread keeps between its tasks, all in f32.
#[derive(Default)]
pub(super) struct Scratch {
    /// h, (N, lane).
    pub state: Lanes,
    /// A log2(e), (N, lane) or (lane).
    pub a: Lanes,
    pub d: Lanes,
    pub delta_bias: Lanes,
    /// Δ as the decay sees it, (t, lane): 0 at a reset.
    pub step: Lanes,
    /// u, then Δ u, (t, lane).
    pub input: Lanes,
    /// y, (t, lane).
    pub output: Lanes,
    /// z, (t, lane).
    pub gate: Lanes,
    /// A tile before or after its transposition, (lane, t).
    pub lines: Lanes,
    pub b: MapTile,
    pub c: MapTile,
}

/// The values of B or C in a tile.
#[derive(Default)]
pub(super) struct MapTile {
    pub values: Lanes,
    pub form: Form,
}

/// How the values of a [`MapTile`] lie.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) enum Form {
    /// (N, t): all lanes share them.
    #[default]
    Shared,
    /// (N, t, lane): lanes are of different groups.
    Lanes,
    /// (N, lane): constant in time.
    Constant,
}

/// Numbers for the lanes of vectors, from the begin of a cache line on: no vector lies across two.
#[derive(Default)]
pub(super) struct Lanes {
    lines: Vec<Line>,
    length: usize,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl Lanes {
    /// Makes it `length` zeros.
    pub fn reset(&mut self, length: usize) {
        self.lines.clear();
        self.lines.resize(length.div_ceil(16), Line::zeroed());
        self.length = length;
    }
}

impl Deref for Lanes {
    type Target = [f32];
    #[inline(always)]
    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.length]
    }
}

impl DerefMut for Lanes {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.length]
    }
}
