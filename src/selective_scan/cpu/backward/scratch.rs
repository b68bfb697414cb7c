//! What a thread works in: the steps between two checkpoints of one block of channels.

use crate::backend::cpu::aligned::Aligned;
use crate::selective_scan::CHECKPOINT;
use crate::selective_scan::cpu::maps::MapTile;
use crate::selective_scan::cpu::tile::TILE;

/// What a thread keeps between its blocks, all in f32.
#[derive(Default)]
pub(super) struct Scratch {
    /// h while the steps are computed again, (N, lane).
    pub state: Aligned,
    /// a_{t+1} g_{t+1} on the way down, (N, lane).
    pub carry: Aligned,
    /// A, (N, lane) or (lane).
    pub a: Aligned,
    /// A log2(e), as `a`.
    pub a_log2: Aligned,
    pub d: Aligned,
    pub delta_bias: Aligned,
    /// The steps between two checkpoints, tile by tile.
    pub tiles: [Tile; CHECKPOINT / TILE],
    /// A tile before or after its transposition, (lane, t).
    pub lines: Aligned,
    /// Of one tile, (t, lane).
    pub dy: Aligned,
    pub gate: Aligned,
    pub dz: Aligned,
    /// w_t = Σ_n g B, then du.
    pub w: Aligned,
    /// Σ_n A g q, then ddelta.
    pub dstep: Aligned,
    /// Sums of a tile, (N, lane) each.
    pub da: Aligned,
    pub db: Aligned,
    pub dc: Aligned,
}

/// What the reverse recurrence needs of a tile, from the way up; (t, lane) where nothing else is
/// said.
#[derive(Default)]
pub(super) struct Tile {
    /// Δ as the decay sees it: 0 at a reset.
    pub step: Aligned,
    /// Δ.
    pub size: Aligned,
    /// dΔ / ddelta.
    pub slope: Aligned,
    pub u: Aligned,
    /// Δ u.
    pub taken: Aligned,
    pub y: Aligned,
    /// h before the tile, (N, lane).
    pub before: Aligned,
    /// h after each step, (N, t, lane).
    pub history: Aligned,
    pub b: MapTile,
    pub c: MapTile,
}
