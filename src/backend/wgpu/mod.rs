//! WebGPU devices: WGSL through wgpu on Vulkan, Metal or DirectX 12.
//!
//! ```no_run
//! use warpwright::Tensor;
//! use warpwright::backend::wgpu::Wgpu;
//!
//! for adapter in Wgpu::adapters() {
//!     println!("wgpu:{} {} ({})", adapter.index, adapter.name, adapter.driver);
//! }
//! let device = Wgpu::first()?;
//! let x = Tensor::from_slice(&device, &[1.0f32, 2.0], &[2])?;
//! assert_eq!(x.to_vec()?, [1.0, 2.0]);
//! # Ok::<(), warpwright::Error>(())
//! ```
//!
//! A framework that owns a device hands it over with [`Wgpu::borrow`] and its buffers with
//! [`WgpuBuffer::wrap`], without a copy; operations then plan by the limits and features that the
//! device was made with, and its error handler is left alone. A device of this crate's own is
//! made with all that its adapter offers.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::backend::{Backend, Limits};
use crate::{Error, Result};

mod adapters;
mod buffer;
mod errors;
mod pipelines;
mod recorder;
mod scratch;
mod transfer;

pub use adapters::Adapter;
pub use buffer::WgpuBuffer;
pub(crate) use recorder::{Placed, Recorder, Slice, folded};
pub(crate) use scratch::{Codes, Home, Mode, Scratch, refused, workgroups};

use pipelines::Pipelines;

/// A WebGPU device with its queue, as a cheap handle.
#[derive(Clone)]
pub struct Wgpu {
    shared: Arc<Shared>,
}

struct Shared {
    device: ::wgpu::Device,
    queue: ::wgpu::Queue,
    name: String,
    limits: Limits,
    pipelines: Pipelines,
    /// Why the device is lost, once it is; told for devices of our own only.
    lost: Arc<OnceLock<String>>,
}

impl Wgpu {
    /// Opens the adapter of this number, as [`adapters`](Self::adapters) counts them, with all
    /// the limits and features that it offers.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where there is no such adapter, or it gives no device.
    pub fn new(index: usize) -> Result<Self> {
        adapters::open(index, adapters::Extent::Everything)
    }

    /// Opens the adapter of this number with no more than every WebGPU device has: the default
    /// limits and no features. What runs here runs everywhere.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn baseline(index: usize) -> Result<Self> {
        adapters::open(index, adapters::Extent::Baseline)
    }

    /// Opens the best hardware adapter: a discrete one, else any that is not software.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where there is none.
    pub fn hardware() -> Result<Self> {
        let adapters = Self::adapters();
        match adapters::best_hardware(&adapters) {
            Some(index) => Self::new(index),
            None => Err(adapters::unavailable("wgpu", "no hardware adapter was found")),
        }
    }

    /// Opens the best hardware adapter, else the software one.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where there is no adapter at all.
    pub fn first() -> Result<Self> {
        let adapters = Self::adapters();
        match adapters::best_hardware(&adapters).or(adapters.first().map(|first| first.index)) {
            Some(index) => Self::new(index),
            None => Err(adapters::unavailable("wgpu", "no adapter was found")),
        }
    }

    /// Every adapter of this machine. Empty where there is no driver.
    pub fn adapters() -> Vec<Adapter> {
        adapters::list()
    }

    /// Uses a device that somebody else owns. Its limits and features decide which kernels run;
    /// its error handler and its device-lost callback stay as they are.
    pub fn borrow(device: ::wgpu::Device, queue: ::wgpu::Queue) -> Self {
        let info = device.adapter_info();
        let name = format!("wgpu ({})", info.name);
        Self::from_parts(device, queue, &info, name, Arc::default())
    }

    fn from_parts(
        device: ::wgpu::Device,
        queue: ::wgpu::Queue,
        info: &::wgpu::AdapterInfo,
        name: String,
        lost: Arc<OnceLock<String>>,
    ) -> Self {
        let limits = adapters::limits(&device.limits(), device.features(), info);
        let pipelines = Pipelines::default();
        Self { shared: Arc::new(Shared { device, queue, name, limits, pipelines, lost }) }
    }

    /// The device.
    pub fn device(&self) -> &::wgpu::Device {
        &self.shared.device
    }

    /// The queue that operations submit to.
    pub fn queue(&self) -> &::wgpu::Queue {
        &self.shared.queue
    }

    /// Submits what an encoder holds.
    pub(crate) fn submit(&self, encoder: ::wgpu::CommandEncoder) -> Result<()> {
        self.scoped("submitting commands", 0, || {
            self.queue().submit([encoder.finish()]);
        })
    }

    pub(crate) fn pipelines(&self) -> &Pipelines {
        &self.shared.pipelines
    }

    /// The device still answers, as far as it has told.
    fn check_alive(&self) -> Result<()> {
        match self.shared.lost.get() {
            Some(reason) => Err(Error::DeviceLost { device: self.name(), reason: reason.clone() }),
            None => Ok(()),
        }
    }
}

impl Backend for Wgpu {
    type Buffer = WgpuBuffer;

    fn name(&self) -> String {
        self.shared.name.clone()
    }

    fn limits(&self) -> Limits {
        self.shared.limits.clone()
    }

    fn allocate(&self, bytes: u64) -> Result<WgpuBuffer> {
        self.create_buffer(bytes, None)
    }

    fn upload(&self, bytes: &[u8]) -> Result<WgpuBuffer> {
        self.create_buffer(bytes.len() as u64, Some(bytes))
    }

    fn download(&self, buffer: &WgpuBuffer, offset: u64, into: &mut [u8]) -> Result<()> {
        self.download_blocking(buffer, offset, into)
    }

    fn copy(&self, from: &WgpuBuffer, to: &WgpuBuffer) -> Result<()> {
        self.copy_whole(from, to)
    }

    fn synchronise(&self) -> Result<()> {
        self.wait(None)
    }
}

impl PartialEq for Wgpu {
    fn eq(&self, other: &Self) -> bool {
        self.shared.device == other.shared.device
    }
}

impl fmt::Debug for Wgpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wgpu({})", self.shared.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_may_cross_threads() {
        fn check<T: Send + Sync>() {}
        check::<Wgpu>();
        check::<WgpuBuffer>();
    }

    #[test]
    fn an_adapter_that_is_not_there_is_an_error() {
        let error = Wgpu::new(999).unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    }
}
