//! What a thread works in: tiles and states of one block of channels.

use super::maps::MapTile;
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
