//! How many blocks a multiprocessor holds at once.

use super::{Gpu, Launch, Limits};

/// What keeps a multiprocessor from holding more blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// Its warps.
    Warps,
    /// Its slots for blocks.
    Blocks,
    /// Its registers.
    Registers,
    /// Its shared memory.
    Shared,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Self::Warps => "warps",
            Self::Blocks => "blocks",
            Self::Registers => "registers",
            Self::Shared => "shared memory",
        })
    }
}

/// Blocks and warps that one multiprocessor holds at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occupancy {
    /// Blocks; 0 if not even one fits.
    pub blocks: u32,
    /// Their warps.
    pub warps: u32,
    /// What there is too little of.
    pub limit: Limit,
}

impl Occupancy {
    /// The occupancy of a launch on `gpu`; without the registers of a thread, as if they sufficed.
    pub fn of(launch: &Launch, registers: Option<u32>, gpu: &Gpu) -> Self {
        let limits = gpu.limits;
        let warps = launch.threads().div_ceil(32).max(1);
        // Registers are handed out to a warp in units of 256.
        let registers = registers.map_or(0, |each| (u64::from(each) * 32).next_multiple_of(256));
        let shared = launch.shared().saturating_add(u64::from(Limits::RESERVED));
        let fit = |has: u32, wants: u64| u64::from(has).checked_div(wants).unwrap_or(u64::MAX);
        let (blocks, limit) = [
            (fit(limits.warps, warps), Limit::Warps),
            (u64::from(limits.blocks), Limit::Blocks),
            (fit(limits.registers, registers.saturating_mul(warps)), Limit::Registers),
            (fit(limits.shared, shared), Limit::Shared),
        ]
        .into_iter()
        .min()
        .unwrap_or((0, Limit::Warps));
        // Both are bounded by the limits of the machine, which are small.
        Self { blocks: blocks as u32, warps: (blocks * warps) as u32, limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(threads: u32, shared: u32, registers: Option<u32>, gpu: &str) -> Occupancy {
        let launch = Launch {
            grid: [1; 3],
            block: [threads, 1, 1],
            cluster: 1,
            static_shared: 0,
            dynamic_shared: shared,
        };
        Occupancy::of(&launch, registers, Gpu::named(gpu).unwrap())
    }

    #[test]
    fn what_runs_out_first() {
        let found = |blocks, warps, limit| Occupancy { blocks, warps, limit };
        assert_eq!(of(256, 0, Some(32), "h100"), found(8, 64, Limit::Warps));
        assert_eq!(of(32, 0, Some(32), "h100"), found(32, 32, Limit::Blocks));
        // 65,536 / (8 warps × 32 lanes × 72 registers) = 3.6; 65 registers take 72.
        assert_eq!(of(256, 0, Some(65), "h100"), found(3, 24, Limit::Registers));
        // 228 KiB / (64 + 1) KiB
        assert_eq!(of(128, 64 << 10, None, "h100"), found(3, 12, Limit::Shared));
        assert_eq!(of(1024, 0, None, "rtx 4090"), found(1, 32, Limit::Warps));
        assert_eq!(of(128, 200 << 10, None, "a100"), found(0, 0, Limit::Shared));
    }
}
