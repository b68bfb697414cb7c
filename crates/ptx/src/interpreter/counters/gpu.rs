//! The machines that estimates are made for.
//!
//! Marks: \[D] the vendor's data sheets and white papers, \[H] measured in publications, \[M] general knowledge,
//! to be corrected by measurement.

use super::{Class, Format};

/// A GPU and what it can do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gpu {
    /// Its name.
    pub name: &'static str,
    /// Multiprocessors.
    pub sms: u32,
    /// Clock under load in Hz.
    pub clock: f64,
    /// Bandwidth of device memory in bytes per second.
    pub bandwidth: f64,
    /// Bandwidth between the blocks of clusters in bytes per second; `None` without clusters.
    pub cluster_bandwidth: Option<f64>,
    /// Throughput of a multiprocessor.
    pub rates: Rates,
    /// What a multiprocessor holds.
    pub limits: Limits,
}

/// Results per clock of a multiprocessor: 32 are one warp instruction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// f32 add, mul, fma.
    pub fp32: f64,
    /// f64 fma.
    pub fp64: f64,
    /// f16x2 fma, two halves counted as one result.
    pub half: f64,
    /// bf16x2 fma, likewise.
    pub bfloat: f64,
    /// Integer, logic, comparison.
    pub integer: f64,
    /// Integer multiply-add.
    pub multiply: f64,
    /// Special functions.
    pub special: f64,
    /// Conversions between floats and integers.
    pub convert: f64,
    /// Conversions to packed formats.
    pub pack: f64,
    /// `shfl`.
    pub shuffle: f64,
    /// `vote`.
    pub vote: f64,
    /// `match`.
    pub matching: f64,
    /// `redux`.
    pub reduce: f64,
    /// Multiply-adds per clock of the tensor cores, dense.
    pub tensor: Tensor,
    /// The share of that which `mma.sync` reaches.
    pub mma: f64,
    /// The share that `wgmma` reaches; `None` without it.
    pub wgmma: Option<f64>,
}

/// Multiply-adds per clock and multiprocessor by format; `None` where the tensor cores lack it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tensor {
    /// f16 and bf16, sums in f32.
    pub half_to_single: f64,
    /// f16, sums in f16.
    pub half_to_half: f64,
    /// tf32.
    pub tf32: f64,
    /// 8-bit integers.
    pub int8: f64,
    /// 8-bit floats, sums in f32.
    pub fp8: Option<f64>,
    /// f64.
    pub double: f64,
}

/// What a multiprocessor holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Warps.
    pub warps: u32,
    /// Blocks.
    pub blocks: u32,
    /// 32-bit registers.
    pub registers: u32,
    /// Bytes of shared memory, of which every block takes [`Limits::RESERVED`] for the system.
    pub shared: u32,
}

impl Limits {
    /// Bytes of shared memory that the system takes of every block.
    pub const RESERVED: u32 = 1024;
}

impl Rates {
    /// Issue slots per clock. \[D]
    pub const ISSUE: f64 = 4.0;

    /// Results of this class per clock; `None` where only issue slots, memory or waiting bound it.
    pub fn of(&self, class: Class) -> Option<f64> {
        match class {
            Class::Fp32 => Some(self.fp32),
            Class::Fp64 => Some(self.fp64),
            Class::Half => Some(self.half),
            Class::Bfloat => Some(self.bfloat),
            Class::Integer => Some(self.integer),
            Class::Multiply => Some(self.multiply),
            Class::Special => Some(self.special),
            Class::Convert => Some(self.convert),
            Class::Pack => Some(self.pack),
            Class::Shuffle => Some(self.shuffle),
            Class::Vote => Some(self.vote),
            Class::Match => Some(self.matching),
            Class::Reduce => Some(self.reduce),
            _ => None,
        }
    }

    /// Multiply-adds per clock of a tensor class; `None` for other classes and formats the machine lacks.
    pub fn products(&self, class: Class) -> Option<f64> {
        let (format, share) = match class {
            Class::Tensor(format) => (format, self.mma),
            Class::Warpgroup(format) => (format, self.wgmma?),
            _ => return None,
        };
        let rate = match format {
            Format::HalfToSingle => self.tensor.half_to_single,
            Format::HalfToHalf => self.tensor.half_to_half,
            Format::Tf32 => self.tensor.tf32,
            Format::Int8 => self.tensor.int8,
            Format::Fp8 => self.tensor.fp8?,
            Format::Double => self.tensor.double,
        };
        Some(rate * share)
    }
}

const SM_80: Rates = Rates {
    fp32: 64.0,     // [M]
    fp64: 32.0,     // [M]
    half: 128.0,    // [M]
    bfloat: 64.0,   // [M]
    integer: 64.0,  // [M]
    multiply: 64.0, // [M]
    special: 16.0,  // [M]
    convert: 16.0,  // [M] 16 to 64
    pack: 64.0,     // [M]
    shuffle: 32.0,  // [M]
    vote: 64.0,     // [M]
    matching: 2.0,  // [M] 2 to 16
    reduce: 16.0,   // [M]
    tensor: Tensor {
        half_to_single: 1024.0, // [H]
        half_to_half: 1024.0,   // [D]
        tf32: 512.0,            // [D]
        int8: 2048.0,           // [D]
        fp8: None,
        double: 64.0, // [D]
    },
    mma: 1.0, // [H]
    wgmma: None,
};

const SM_89: Rates = Rates {
    fp32: 128.0,   // [D]
    fp64: 2.0,     // [D]
    half: 64.0,    // [D] halves at the rate of f32
    bfloat: 64.0,  // [M]
    convert: 64.0, // [M]
    tensor: Tensor {
        half_to_single: 256.0, // [D]
        half_to_half: 512.0,   // [D]
        tf32: 128.0,           // [D]
        int8: 1024.0,          // [D]
        fp8: Some(512.0),      // [D]
        double: 2.0,           // [M]
    },
    ..SM_80
};

const SM_90: Rates = Rates {
    fp32: 128.0,   // [M]
    fp64: 64.0,    // [M]
    bfloat: 128.0, // [M]
    convert: 64.0, // [M]
    tensor: Tensor {
        half_to_single: 2048.0, // [H]
        half_to_half: 2048.0,   // [D]
        tf32: 1024.0,           // [D]
        int8: 4096.0,           // [D]
        fp8: Some(4096.0),      // [D]
        double: 128.0,          // [D]
    },
    mma: 0.62,        // [H]
    wgmma: Some(1.0), // [H] above 0.95
    ..SM_80
};

const LIMITS: Limits = Limits { warps: 64, blocks: 32, registers: 65_536, shared: 228 * 1024 }; // [M]

pub(crate) const H100: Gpu = Gpu {
    name: "H100",
    sms: 132,                        // [D]
    clock: 1.755e9,                  // [M]
    bandwidth: 3.35e12,              // [D]
    cluster_bandwidth: Some(3.3e12), // [H] clusters of 2; 2.7 at 4
    rates: SM_90,
    limits: LIMITS,
};

/// The machines known by name.
pub const GPUS: &[Gpu] = &[
    H100,
    Gpu { name: "H200", bandwidth: 4.8e12, ..H100 }, // [D]
    Gpu {
        name: "A100",
        sms: 108,            // [D]
        clock: 1.41e9,       // [D]
        bandwidth: 2.039e12, // [D] 80 GB
        cluster_bandwidth: None,
        rates: SM_80,
        limits: Limits { shared: 164 * 1024, ..LIMITS }, // [M]
    },
    Gpu {
        name: "RTX 4090",
        sms: 128,            // [D]
        clock: 2.52e9,       // [D]
        bandwidth: 1.008e12, // [D]
        cluster_bandwidth: None,
        rates: SM_89,
        limits: Limits { warps: 48, blocks: 24, shared: 100 * 1024, ..LIMITS }, // [M]
    },
];

/// No machine of this name is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no GPU `{name}` is known; these are: {}", GPUS.iter().map(|gpu| gpu.name).collect::<Vec<_>>().join(", "))]
pub struct UnknownGpu {
    /// The name that was asked for.
    pub name: String,
}

impl Gpu {
    /// The machine of this name, whatever its case and spaces: `"h100"`, `"RTX4090"`.
    ///
    /// # Errors
    ///
    /// If no such machine is in [`GPUS`]; the message lists those that are.
    pub fn named(name: &str) -> Result<&'static Self, UnknownGpu> {
        let plain = |text: &str| text.replace([' ', '-', '_'], "").to_ascii_lowercase();
        GPUS.iter()
            .find(|gpu| plain(gpu.name) == plain(name))
            .ok_or_else(|| UnknownGpu { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ignore_case_and_spaces() {
        assert_eq!(Gpu::named("h100").map(|gpu| gpu.sms), Ok(132));
        assert_eq!(Gpu::named("rtx4090").map(|gpu| gpu.name), Ok("RTX 4090"));
        assert_eq!(
            Gpu::named("tpu").unwrap_err().to_string(),
            "no GPU `tpu` is known; these are: H100, H200, A100, RTX 4090"
        );
    }

    /// Peak rates of the data sheets in units of 10^12 operations per second. They are stated at the highest
    /// clock, which is up to 12 % above that under load.
    #[test]
    fn peaks_agree_with_the_data_sheets() {
        let near = |found: f64, stated: f64| (found / stated - 1.0).abs() < 0.12;
        for (name, single, tensor) in
            [("A100", 19.5, 312.0), ("H100", 66.9, 989.4), ("RTX 4090", 82.6, 165.2)]
        {
            let gpu = Gpu::named(name).unwrap();
            let peak = |rate: f64| 2e-12 * rate * f64::from(gpu.sms) * gpu.clock;
            assert!(near(peak(gpu.rates.fp32), single), "{name}: {}", peak(gpu.rates.fp32));
            let dense = gpu.rates.tensor.half_to_single;
            assert!(near(peak(dense), tensor), "{name}: {}", peak(dense));
        }
    }
}
