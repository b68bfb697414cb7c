//! What a thread works in: tiles and states of one block of channels.

use std::ops::{Deref, DerefMut};

use bytemuck::{Pod, Zeroable};

/// What a thread keeps between its tasks, all in f32.
#[derive(Default)]
pub(super) struct Scratch {
    /// h, (N, lane).
    pub state: Aligned,
    /// A log2(e), (N, lane) or (lane).
    pub a: Aligned,
    pub d: Aligned,
    pub delta_bias: Aligned,
    /// Δ as the decay sees it, (t, lane): 0 at a reset.
    pub step: Aligned,
    /// u, then Δ u, (t, lane).
    pub input: Aligned,
    /// y, (t, lane).
    pub output: Aligned,
    /// z, (t, lane).
    pub gate: Aligned,
    /// A tile before or after its transposition, (lane, t).
    pub lines: Aligned,
    pub b: MapTile,
    pub c: MapTile,
}

/// The values of B or C in a tile.
#[derive(Default)]
pub(super) struct MapTile {
    pub values: Aligned,
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

/// Numbers from the start of a cache line on, so that no vector of them lies across two lines.
#[derive(Default)]
pub(super) struct Aligned {
    lines: Vec<Line>,
    length: usize,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Numbers in a cache line.
const LINE: usize = 16;

impl Aligned {
    /// Makes it `length` zeros.
    pub fn reset(&mut self, length: usize) {
        self.lines.clear();
        self.lines.resize(length.div_ceil(LINE), Line::zeroed());
        self.length = length;
    }
}

impl Deref for Aligned {
    type Target = [f32];
    #[inline(always)]
    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.length]
    }
}

impl DerefMut for Aligned {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.length]
    }
}
