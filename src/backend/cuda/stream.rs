//! A stream: the queue in which a device's work runs, and the way to launch on it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::cudarc::driver::CudaStream;
use bytemuck::{Pod, Zeroable};

use super::Cuda;
use super::buffer::CudaBuffer;
use super::device::{DeviceState, lock, warn_on_error};
use super::driver::{Driver, EventHandle, Launch, StreamHandle};
use crate::Result;
use crate::backend::Limits;
use crate::backend::kernel::VariantInfo;
use crate::tensor::View;

/// A stream of a CUDA device, as a cheap handle. Work runs in the order in which it is queued.
#[derive(Clone)]
pub struct Stream(Arc<StreamState>);

/// A stream, and who destroys it.
#[derive(Debug)]
pub(super) struct StreamState {
    device: Arc<DeviceState>,
    handle: StreamHandle,
    owner: StreamOwner,
}

/// Who destroys a stream.
#[derive(Debug)]
pub(super) enum StreamOwner {
    /// The last of our handles.
    Us,
    /// cudarc, with the last handle of its own.
    Cudarc { _stream: Arc<CudaStream> },
    /// Somebody who has promised to keep it long enough.
    Borrowed,
}

impl Drop for StreamState {
    fn drop(&mut self) {
        if let StreamOwner::Us = self.owner {
            // SAFETY: the driver made this stream, and this was its last handle.
            warn_on_error(unsafe { self.device.driver.destroy_stream(self.handle) });
        }
    }
}

impl Stream {
    /// The stream that all handles made by [`Cuda::new`] share.
    pub(super) fn own(device: &Arc<DeviceState>) -> Result<Self> {
        let mut own = lock(&device.own_stream);
        if let Some(stream) = own.upgrade() {
            return Ok(Self(stream));
        }
        let handle = device.driver.create_stream()?;
        let stream = Self::of(device, handle, StreamOwner::Us);
        *own = Arc::downgrade(&stream.0);
        Ok(stream)
    }

    /// A new stream of the same device.
    pub(super) fn another(&self) -> Result<Self> {
        let device = &self.0.device;
        Ok(Self::of(device, device.driver.create_stream()?, StreamOwner::Us))
    }

    pub(super) fn of(device: &Arc<DeviceState>, handle: StreamHandle, owner: StreamOwner) -> Self {
        Self(Arc::new(StreamState { device: Arc::clone(device), handle, owner }))
    }

    pub(super) fn device(&self) -> &DeviceState {
        &self.0.device
    }

    pub(crate) fn driver(&self) -> &dyn Driver {
        &*self.0.device.driver
    }

    /// The stream as its driver knows it; for a GPU, the `CUstream`.
    pub fn handle(&self) -> StreamHandle {
        self.0.handle
    }

    /// What the device can do.
    pub(crate) fn limits(&self) -> &Limits {
        &self.0.device.limits
    }

    /// The device, as messages name it.
    pub(crate) fn device_name(&self) -> &str {
        &self.0.device.name
    }

    /// Queues a kernel, which is loaded if this is its first use.
    ///
    /// Only the entries that `build.rs` writes call this: their structs have one field per
    /// `.param`, of its size and in its order, and the operations have checked the tensors that
    /// the addresses come from.
    pub(crate) fn launch(&self, info: &VariantInfo, grid: Grid, arguments: &[&[u8]]) -> Result<()> {
        if grid.blocks.contains(&0) {
            return Ok(());
        }
        let kernel = self.0.device.kernel(info)?;
        kernel.allow_dynamic_shared(grid.dynamic_shared)?;
        let launch = Launch {
            function: kernel.function,
            grid: grid.blocks,
            block: grid.threads.map_or(info.block, |threads| [threads, 1, 1]),
            cluster: grid.cluster,
            dynamic_shared: grid.dynamic_shared,
            cooperative: grid.cooperative,
            arguments,
            stream: self.handle(),
        };
        // SAFETY: kernel and stream are this driver's and alive. The arguments fit the kernel and
        // their addresses lie in memory of the call's tensors, as said above; that memory is
        // freed, if at all, in the order of this stream.
        unsafe { self.driver().launch(&launch) }
    }

    /// Loads a kernel, so that its first launch does not wait for the assembler.
    pub(crate) fn preload(&self, info: &VariantInfo) -> Result<()> {
        self.0.device.kernel(info).map(drop)
    }

    /// A point after the work that is queued so far.
    ///
    /// # Errors
    ///
    /// The driver's refusal.
    pub fn record(&self) -> Result<Event> {
        // SAFETY: the stream is this driver's and alive.
        let handle = unsafe { self.driver().record(self.handle()) }?;
        Ok(Event { stream: self.clone(), handle })
    }

    /// Makes the stream's device that of this thread, for libraries that ask which one is.
    pub(crate) fn make_current(&self) -> Result<()> {
        self.driver().make_current()
    }

    /// What is queued here from now on waits for an event, of any stream of any device of this kind.
    ///
    /// # Errors
    ///
    /// The driver's refusal.
    pub fn wait_for(&self, event: &Event) -> Result<()> {
        // SAFETY: stream and event are alive.
        unsafe { self.driver().wait(self.handle(), event.handle) }
    }

    /// Queues a copy of a tensor without gaps to another one, which may lie on another device. Both
    /// are ready, for this stream waits for the events that say so, and both stay until it is done.
    pub(crate) fn copy_from_peer(&self, from: &View<Cuda>, to: &View<Cuda>) -> Result<()> {
        debug_assert!(from.is_contiguous() && to.is_contiguous());
        debug_assert_eq!((from.elements(), from.dtype()), (to.elements(), to.dtype()));
        let bytes = (to.elements() * to.dtype().bytes()) as u64;
        let peer = from.buffer().stream().driver().device();
        // SAFETY: both ranges lie in their tensors; order and lifetime are as said above.
        unsafe {
            self.driver().copy_from_peer(
                Address::of(to).0,
                peer,
                Address::of(from).0,
                bytes,
                self.handle(),
            )
        }
    }

    /// Waits until the work that is queued so far is done.
    ///
    /// # Errors
    ///
    /// An error of that work, or a lost device.
    pub fn synchronise(&self) -> Result<()> {
        // SAFETY: the stream is this driver's and alive.
        unsafe { self.driver().synchronise(self.handle()) }
    }

    /// Device memory without a tensor, freed in the order of the stream.
    pub(crate) fn workspace(&self, bytes: u64) -> Result<CudaBuffer> {
        CudaBuffer::allocate(self, bytes)
    }
}

/// The same queue of the same device.
impl PartialEq for Stream {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.device, &other.0.device) && self.handle() == other.handle()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {:#x} of {}", self.handle().0, self.0.device.name)
    }
}

/// A point in a stream's work, to measure the device's time or to wait for.
#[must_use]
#[derive(Debug)]
pub struct Event {
    stream: Stream,
    handle: EventHandle,
}

impl Event {
    /// Whether the work before it is done.
    ///
    /// # Errors
    ///
    /// An error of that work.
    pub fn is_done(&self) -> Result<bool> {
        // SAFETY: the event is of this driver and alive.
        unsafe { self.stream.driver().is_done(self.handle) }
    }

    /// The device's time since an earlier event of the same stream. Waits for this event.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`](crate::Error::Driver) for an event of another stream; an error of the
    /// work before the events.
    pub fn since(&self, start: &Self) -> Result<Duration> {
        if self.stream != start.stream {
            return Err(crate::Error::Driver {
                device: self.stream.device().name.clone(),
                call: "time between two events",
                reason: "the events belong to different streams".to_owned(),
            });
        }
        // SAFETY: both events are of this driver and alive.
        unsafe { self.stream.driver().elapsed(start.handle, self.handle) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is of this driver, and this is its only owner.
        warn_on_error(unsafe { self.stream.driver().destroy_event(self.handle) });
    }
}

/// How a launch is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Blocks along each axis. Nothing is launched where one is 0.
    pub blocks: [u32; 3],
    /// Threads of a block, of a kernel that takes fewer than its variant's.
    pub threads: Option<u32>,
    /// Blocks of a cluster along each axis.
    pub cluster: Option<[u32; 3]>,
    /// Bytes of shared memory besides those that the kernel declares.
    pub dynamic_shared: u32,
    /// Whether all blocks run at the same time.
    pub cooperative: bool,
}

/// An address in device memory, as a kernel gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct Address(u64);

impl Address {
    /// The address of a tensor that is absent.
    pub const NULL: Self = Self(0);

    /// The address of a tensor's first element.
    pub fn of(view: &View<Cuda>) -> Self {
        Self(view.buffer().address() + view.offset())
    }

    /// Whether it is a multiple of some bytes.
    pub fn is_multiple_of(self, bytes: u64) -> bool {
        self.0.is_multiple_of(bytes)
    }

    /// The address so many bytes further on.
    pub fn plus(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }

    /// The address of a byte in workspace.
    pub fn within(buffer: &CudaBuffer, offset: u64) -> Self {
        Self(buffer.address() + offset)
    }
}
