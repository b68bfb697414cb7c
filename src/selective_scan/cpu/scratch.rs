//! What a thread works in: tiles and states of one block of channels.

use crate::backend::cpu::aligned::Aligned;

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
