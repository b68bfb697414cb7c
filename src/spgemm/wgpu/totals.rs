//! What kernels count for the host, as kernels/spgemm/totals.wgsl lays it out.

use super::super::gpu::Bins;
use crate::Result;
use crate::backend::Backend;
use crate::backend::wgpu::{Slice, Wgpu, WgpuBuffer};

/// Words of what the kernels of a pass count.
const WORDS: usize = 64;

/// Where the counts of bins begin, and the most that a table in global memory holds.
const COUNTS: usize = 8;
const LARGEST: usize = 42;

/// The counts of a pass, on the device.
pub(super) struct Totals(WgpuBuffer);

impl Totals {
    pub fn new(device: &Wgpu) -> Result<Self> {
        device.upload(&[0; 4 * WORDS]).map(Self)
    }

    pub fn slice(&self) -> Slice<'_> {
        Slice::whole(&self.0)
    }

    /// Waits for what has been counted.
    pub fn read(&self, device: &Wgpu) -> Result<Counted> {
        let mut words = [0_u32; WORDS];
        device.download(&self.0, 0, bytemuck::cast_slice_mut(&mut words))?;
        let wide = |at: usize| u64::from(words[at]) | u64::from(words[at + 1]) << 32;
        Ok(Counted {
            products: wide(0),
            entries: wide(2),
            slots: wide(4),
            tokens: wide(6),
            largest: words[LARGEST],
            bins: Bins(std::array::from_fn(|bin| words[COUNTS + bin])),
        })
    }
}

/// What the host knows of a pass.
#[derive(Debug)]
pub(super) struct Counted {
    /// Products of all rows.
    pub products: u64,
    /// Entries of the product.
    pub entries: u64,
    /// Windows of long rows in which values may be summed.
    pub slots: u64,
    /// Windows of long rows in which entries are counted.
    pub tokens: u64,
    /// The most that a table in global memory holds.
    pub largest: u32,
    /// Rows of each bin.
    pub bins: Bins,
}
