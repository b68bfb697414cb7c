//! CUDA devices: PTX, assembled by the driver.
//!
//! No toolkit is needed, neither to build nor to run, and a machine without a driver gets
//! [`Error::Unavailable`]. A [`Cuda`] is a device with a stream. All
//! work on tensors of one call runs on that stream, in order; launches neither wait nor allocate
//! outside the stream's pool, so that a CUDA graph can capture them once their kernels are loaded
//! ([`selective_scan::preload`](crate::selective_scan::preload)).
//!
//! A framework owns memory, stream and the order of work: [`Cuda::on`] and [`Cuda::with_stream`]
//! make a device of its stream, [`CudaBuffer::from_slice`] and [`CudaBuffer::borrow`] a buffer of
//! its memory, [`Tensor::from_buffer`](crate::Tensor::from_buffer) a tensor of that.

use std::sync::{Arc, Mutex, Weak};

use ::cudarc::driver::sys::CUstream;
use ::cudarc::driver::{CudaContext, CudaStream};

use crate::backend::{Backend, Limits};
use crate::tensor::View;
use crate::{Error, Result};

mod buffer;
mod cudarc;
mod device;
mod driver;
mod failure;
#[cfg(feature = "interpreter")]
mod interpreter;
mod library;
mod prepare;
mod stream;

pub use buffer::CudaBuffer;
pub use driver::{
    DeviceHandle, Driver, EventHandle, FunctionAttributes, FunctionHandle, Launch, ModuleHandle,
    Properties, StreamHandle,
};
#[cfg(feature = "interpreter")]
#[cfg_attr(docsrs, doc(cfg(feature = "interpreter")))]
pub use interpreter::Interpreter;
pub(crate) use prepare::{
    Codes, Place, Workspace, bytes, element, grid_length, linear, only, preload, sign_at, variant,
    within, word,
};
pub(crate) use stream::{Address, Grid};
pub use stream::{Event, Stream};

use self::cudarc::CudarcDriver;
use device::{DeviceState, lock};
use stream::StreamOwner;

/// A CUDA device with a stream, as a cheap handle.
///
/// Two handles are equal where they mean the same stream of the same device; the tensors of a
/// call must have equal ones. Loaded kernels are kept as long as any handle, tensor or stream of
/// the device lives, and shared among all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Cuda {
    stream: Stream,
}

/// The devices in use, so that handles of one device share what is loaded on it.
static OPEN: Mutex<Vec<Weak<DeviceState>>> = Mutex::new(Vec::new());

impl Cuda {
    /// The GPU of this number, by its primary context, with a stream that all handles made in
    /// this way share. The stream does not wait for the default stream, nor that for it.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where there is no driver, no such GPU,
    /// or it is older than compute capability 8.0.
    pub fn new(ordinal: usize) -> Result<Self> {
        let device = shared(CudarcDriver::new(ordinal)?)?;
        Ok(Self { stream: Stream::own(&device)? })
    }

    /// The GPUs that the driver sees, whether kernels of this crate run on them
    /// ([`Properties::tier`]) or not.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where there is no driver or no GPU.
    pub fn devices() -> Result<Vec<Properties>> {
        cudarc::devices()
    }

    /// A stream of cudarc's, which candle and burn use too, with its context. The handle keeps
    /// the stream alive.
    ///
    /// The per-thread default stream means another stream on each thread: use the handle and
    /// what is made with it on one thread then.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where the GPU is older than compute
    /// capability 8.0.
    pub fn on(stream: Arc<CudaStream>) -> Result<Self> {
        let device = shared(CudarcDriver::with_context(Arc::clone(stream.context()))?)?;
        let handle = StreamHandle(stream.cu_stream() as u64);
        let owner = StreamOwner::Cudarc { _stream: stream };
        Ok(Self { stream: Stream::of(&device, handle, owner) })
    }

    /// A stream that somebody else owns, by its raw handle.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where the GPU is older than compute
    /// capability 8.0.
    ///
    /// # Safety
    ///
    /// 1. `stream` is a stream of `context`, or one of the driver's own values: null and 1 for
    ///    the legacy default stream, 2 for the per-thread one.
    /// 2. It stays alive until the last handle, tensor and event that was made with it is gone.
    /// 3. With the per-thread default stream, all of these are used and dropped on one thread.
    pub unsafe fn with_stream(context: &Arc<CudaContext>, stream: CUstream) -> Result<Self> {
        let device = shared(CudarcDriver::with_context(Arc::clone(context))?)?;
        let handle = StreamHandle(stream as u64);
        Ok(Self { stream: Stream::of(&device, handle, StreamOwner::Borrowed) })
    }

    /// A device of another kind than a GPU, with a stream of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where its compute capability is below
    /// 8.0, or the driver's refusal of a stream.
    pub fn with_driver(driver: Arc<dyn Driver>) -> Result<Self> {
        let device = Arc::new(DeviceState::new(driver)?);
        Ok(Self { stream: Stream::own(&device)? })
    }

    /// The stream that work on tensors of this handle runs on.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Another stream of the device.
    pub(crate) fn new_stream(&self) -> Result<Stream> {
        self.stream.another()
    }

    /// Lets copies reach another device's memory without a detour, where the two are connected so.
    pub(crate) fn reach(&self, peer: &Self) -> Result<()> {
        let peer = peer.stream.driver().device();
        // SAFETY: both devices are alive.
        unsafe { self.stream.driver().allow_peer(peer) }
    }

    /// The memory of a call's tensors belongs to the stream that the call runs on. A tensor can
    /// be made of this device and a buffer of another one, and a freed buffer goes back in the
    /// order of its own stream.
    pub(crate) fn check_streams<'a>(
        &self,
        operation: &'static str,
        tensors: impl IntoIterator<Item = (&'a str, &'a View<Self>)>,
    ) -> Result<()> {
        for (tensor, view) in tensors {
            if view.buffer().stream() != &self.stream {
                return Err(Error::Tensor {
                    operation,
                    tensor: tensor.to_owned(),
                    expected: format!("memory of {:?}", self.stream),
                    found: format!("memory of {:?}", view.buffer().stream()),
                });
            }
        }
        Ok(())
    }

    /// The facts of the device.
    pub fn properties(&self) -> &Properties {
        self.stream.driver().properties()
    }
}

/// The device of this driver, or the one that is open already.
fn shared(driver: CudarcDriver) -> Result<Arc<DeviceState>> {
    let mut open = lock(&OPEN);
    open.retain(|device| device.strong_count() > 0);
    let same = |device: &Arc<DeviceState>| device.driver.device() == driver.device();
    if let Some(device) = open.iter().filter_map(Weak::upgrade).find(same) {
        return Ok(device);
    }
    let device = Arc::new(DeviceState::new(Arc::new(driver))?);
    open.push(Arc::downgrade(&device));
    Ok(device)
}

impl Backend for Cuda {
    type Buffer = CudaBuffer;

    fn name(&self) -> String {
        self.stream.device().name.clone()
    }

    fn limits(&self) -> Limits {
        self.stream.device().limits.clone()
    }

    fn allocate(&self, bytes: u64) -> Result<CudaBuffer> {
        CudaBuffer::allocate(&self.stream, bytes)
    }

    fn upload(&self, bytes: &[u8]) -> Result<CudaBuffer> {
        let buffer = self.allocate(bytes.len() as u64)?;
        buffer.write(bytes)?;
        Ok(buffer)
    }

    fn download(&self, buffer: &CudaBuffer, offset: u64, into: &mut [u8]) -> Result<()> {
        buffer.read(offset, into)
    }

    fn copy(&self, from: &CudaBuffer, to: &CudaBuffer) -> Result<()> {
        to.copy_from(from)
    }

    fn synchronise(&self) -> Result<()> {
        self.stream.synchronise()
    }
}

// Handles, buffers and events cross threads.
const _: () = {
    const fn crosses_threads<T: Send + Sync>() {}
    crosses_threads::<Cuda>();
    crosses_threads::<CudaBuffer>();
    crosses_threads::<Stream>();
    crosses_threads::<Event>();
};
