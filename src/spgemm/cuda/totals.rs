//! What kernels count for the host, as kernels/spgemm/totals.ptx lays it out.

use crate::Result;
use crate::backend::Backend;
use crate::backend::cuda::{Address, Cuda, CudaBuffer};

/// The bins of rows.
pub(super) mod bin {
    pub const COPIED: usize = 1;
    pub const TABLES: usize = 2;
    pub const WINDOW: usize = 10;
    pub const WINDOWS: usize = 11;
    pub const HASHED: usize = 12;
}

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
            rows: std::array::from_fn(|bin| word(COUNTS + 4 * bin)),
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
    rows: [u32; 16],
    /// The most that a table in global memory holds.
    pub largest: u32,
    /// The most products of a row, up to 2³² - 1.
    pub most_products: u32,
}

/// A bin: where its rows begin in their order, and how many there are.
#[derive(Clone, Copy)]
pub(super) struct Bin {
    pub number: usize,
    pub first: u32,
    pub rows: u32,
}

impl Counted {
    /// The rows of a bin; those without an entry are of none.
    pub fn bin(&self, number: usize) -> Bin {
        let first = self.rows[1..number].iter().sum();
        Bin { number, first, rows: self.rows[number] }
    }
}
