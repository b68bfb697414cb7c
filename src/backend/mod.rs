//! Where kernels run.
//!
//! A [`Backend`] allocates, uploads, downloads and synchronises; what it computes is said by
//! one trait per operation, such as [`SelectiveScan`](crate::selective_scan::SelectiveScan).
//! Calls are ordered on the device and block only in `download` and `synchronise`.

use std::fmt::Debug;

use crate::Result;

pub(crate) mod cpu;
#[cfg(feature = "cuda")]
#[cfg_attr(docsrs, doc(cfg(feature = "cuda")))]
pub mod cuda;
#[macro_use]
mod dispatch;
pub mod kernel;
#[cfg(feature = "wgpu")]
#[cfg_attr(docsrs, doc(cfg(feature = "wgpu")))]
pub mod wgpu;

pub use cpu::{Cpu, HostBuffer, ReadGuard, WriteGuard};
pub use dispatch::{AnyTensor, Device, DeviceInfo, DeviceName, Named, in_f64};
pub(crate) use dispatch::{dispatch, on_backend};
pub use kernel::{Language, Tier, VariantInfo};

/// A place where kernels run, as a cheap handle: clones mean the same device.
pub trait Backend: Clone + PartialEq + Debug + Send + Sync + 'static {
    /// A piece of the device's memory.
    type Buffer: Buffer;

    /// The device, as messages and results name it: `cpu`, `wgpu:0 (llvmpipe)`.
    fn name(&self) -> String;

    /// What plans need to know of the device.
    fn limits(&self) -> Limits;

    /// Memory of `bytes` bytes; what it holds is not defined.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), or the driver's refusal.
    fn allocate(&self, bytes: u64) -> Result<Self::Buffer>;

    /// Memory that holds a copy of `bytes`.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), or the driver's refusal.
    fn upload(&self, bytes: &[u8]) -> Result<Self::Buffer>;

    /// Copies from the byte `offset` of `buffer` into `into`, after all work queued before.
    ///
    /// # Errors
    ///
    /// The driver's refusal, or a lost device.
    fn download(&self, buffer: &Self::Buffer, offset: u64, into: &mut [u8]) -> Result<()>;

    /// Copies one buffer into another of the same length, on the device.
    ///
    /// # Errors
    ///
    /// The device's refusal.
    fn copy(&self, from: &Self::Buffer, to: &Self::Buffer) -> Result<()>;

    /// Waits until all queued work is done.
    ///
    /// # Errors
    ///
    /// An error of the work that was queued, or a lost device.
    fn synchronise(&self) -> Result<()>;
}

/// A piece of a device's memory, as a cheap handle.
pub trait Buffer: Clone + Debug + Send + Sync {
    /// Its length in bytes.
    fn bytes(&self) -> u64;

    /// Whether `bytes` of this buffer and `other_bytes` of another are partly the same memory.
    fn overlaps(
        &self,
        bytes: std::ops::Range<u64>,
        other: &Self,
        other_bytes: std::ops::Range<u64>,
    ) -> bool;
}

/// What plans need to know of a device: plain numbers, so that a plan is a pure function.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Cores, or multiprocessors; 0 where the device does not tell.
    pub units: u32,
    /// Most threads in a block or workgroup.
    pub block_threads: u32,
    /// Most bytes of shared or workgroup memory in a block.
    pub shared_bytes: u32,
    /// Most blocks along each axis of the grid.
    pub grid: [u32; 3],
    /// Most bytes in one binding of a buffer.
    pub binding_bytes: u64,
    /// Most storage buffers that a kernel may bind.
    pub storage_bindings: u32,
    /// Smallest and largest width of a subgroup or warp, where kernels may use them.
    pub subgroups: Option<(u32, u32)>,
    /// Whether kernels may have values in f16, and not in storage only.
    pub native_f16: bool,
    /// The PTX that the device takes.
    pub tier: Option<Tier>,
}

#[cfg(all(test, feature = "cuda"))]
impl Limits {
    /// Those of an H100, for tests of plans.
    pub(crate) fn of_h100() -> Self {
        Self {
            units: 132,
            block_threads: 1024,
            shared_bytes: 227 << 10,
            grid: [i32::MAX as u32, 65535, 65535],
            binding_bytes: u64::MAX,
            storage_bindings: u32::MAX,
            subgroups: Some((32, 32)),
            native_f16: true,
            tier: Some(Tier::Sm90a),
        }
    }
}

#[cfg(all(test, feature = "wgpu"))]
impl Limits {
    /// WebGPU's default limits, no features, and so many cores, of software, for tests of plans.
    pub(crate) fn of_webgpu(units: u32) -> Self {
        Self {
            units,
            block_threads: 256,
            shared_bytes: 16 << 10,
            grid: [65535; 3],
            binding_bytes: 1 << 27,
            storage_bindings: 8,
            subgroups: None,
            native_f16: false,
            tier: None,
        }
    }
}
