//! The flags of kernels/selective_scan/*.wgsl.

use super::super::{Inputs, Layout, Options, Problem, Resets};
use crate::backend::wgpu::Wgpu;
use crate::element::DeviceFloat;

// Of all passes.
const SOFTPLUS: u32 = 1;
const CLAMP: u32 = 2;
pub(super) const TIED: u32 = 4;
const B_CONSTANT: u32 = 8;
const C_CONSTANT: u32 = 16;
const HAS_D: u32 = 32;
const HAS_Z: u32 = 64;
const HAS_BIAS: u32 = 128;
pub(super) const HAS_H0: u32 = 256;
const CODES: u32 = 512;
const PACKED: u32 = 1024;
const CHANNEL_LAST: u32 = 8192;

// Of the forward pass.
pub(super) const SAVE: u32 = 2048;
pub(super) const LAST: u32 = 4096;
pub(super) const CONTINUES: u32 = 16384;

// Of the backward pass.
pub(super) const GOES_ON: u32 = 2048;
pub(super) const HAS_CARRY: u32 = 4096;
pub(super) const BLOCKS_GO_ON: u32 = 16384;
pub(super) const WANTS_DU: u32 = 32768;
pub(super) const WANTS_DDELTA: u32 = 65536;
pub(super) const WANTS_DZ: u32 = 131_072;
pub(super) const WANTS_DB: u32 = 262_144;
pub(super) const WANTS_DC: u32 = 524_288;

/// Those that say what a call is; `HAS_H0` not among them.
pub(super) fn of_call<T: DeviceFloat>(
    problem: &Problem,
    inputs: &Inputs<'_, Wgpu, T>,
    options: &Options,
) -> u32 {
    let codes = matches!(inputs.resets, Resets::Flags(_) | Resets::SeqIdx(_));
    union([
        (options.delta_softplus, SOFTPLUS),
        (options.delta_clamp.is_some(), CLAMP),
        (problem.a_per_channel, TIED),
        (problem.b_constant, B_CONSTANT),
        (problem.c_constant, C_CONSTANT),
        (inputs.d.is_some(), HAS_D),
        (inputs.z.is_some(), HAS_Z),
        (inputs.delta_bias.is_some(), HAS_BIAS),
        (codes && problem.steps > 0, CODES),
        (problem.packed, PACKED),
        (problem.layout == Layout::Bld, CHANNEL_LAST),
    ])
}

/// The flags that are set.
pub(super) fn union<const COUNT: usize>(flags: [(bool, u32); COUNT]) -> u32 {
    flags.into_iter().filter(|(set, _)| *set).fold(0, |flags, (_, flag)| flags | flag)
}
