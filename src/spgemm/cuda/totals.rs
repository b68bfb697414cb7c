//! What kernels count for the host, as kernels/spgemm/totals.ptx lays it out.

use super::super::gpu::Bins;
use crate::Result;
use crate::backend::Backend;
use crate::backend::cuda::{Address, Cuda, CudaBuffer};

/// Bytes of what the kernels of a pass count.
const BYTES: usize = 256;

/// Where the counts begin, and what resident groups have taken.
const COUNTS: usize = 32;
const TAKEN: u64 = 160;

/// The counts of a pass, on the device.
#[derive(Debug)]
pub(super) struct Totals(CudaBuffer);

impl Totals {
    pub fn new(device: &Cuda) -> Result<Self> {
        device.upload(&[0; BYTES]).map(Self)
    }

    pub fn address(&self) -> Address {
        Address::within(&self.0, 0)
    }

    /// How many rows of a bin groups have taken.
    pub fn taken(&self, bin: usize) -> Address {
        Address::within(&self.0, TAKEN + 4 * bin as u64)
    }

    /// Waits for what has been counted.
    pub fn read(&self, device: &Cuda) -> Result<Counted> {
        let mut bytes = [0; BYTES];
        device.download(&self.0, 0, &mut bytes)?;
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let wide = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        Ok(Counted {
            products: wide(0),
            entries: wide(8),
            slots: wide(16),
            tokens: wide(24),
            bins: Bins(std::array::from_fn(|bin| word(COUNTS + 4 * bin))),
            largest: word(232),
            most_products: word(236),
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
    /// Rows of each bin.
    pub bins: Bins,
    /// The most that a table in global memory holds.
    pub largest: u32,
    /// The most products of a row, up to 2³² - 1.
    pub most_products: u32,
}
