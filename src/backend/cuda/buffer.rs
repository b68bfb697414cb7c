//! Memory of a CUDA device: address, length and owner.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use ::cudarc::driver::{CudaSlice, DevicePtr, sys};

use super::Cuda;
use super::device::warn_on_error;
use super::driver::StreamHandle;
use super::stream::Stream;
use crate::backend::Buffer;
use crate::element::Element;
use crate::{Error, Result};

/// A piece of a CUDA device's memory. Clones share it.
///
/// It carries the stream of the [`Cuda`] that it was made with: all work on it runs there, and
/// memory of our own goes back to the pool in the order of that stream.
#[derive(Clone)]
pub struct CudaBuffer(Arc<Memory>);

struct Memory {
    address: u64,
    bytes: u64,
    owner: Owner,
    stream: Stream,
}

/// Who frees the memory.
enum Owner {
    /// We do, to the stream's pool.
    Pool,
    /// A slice of cudarc's, when nobody holds it any more. Its stream is told to wait for ours
    /// first, where it is another one, because the slice is freed there.
    Slice { _slice: Arc<dyn Any + Send + Sync>, foreign: Option<StreamHandle> },
    /// Somebody who has promised to keep it long enough; or there is nothing to free.
    Nobody,
}

impl CudaBuffer {
    /// Memory from the stream's pool. No bytes take no memory, and have address 0.
    pub(super) fn allocate(stream: &Stream, bytes: u64) -> Result<Self> {
        let (address, owner) = match bytes {
            0 => (0, Owner::Nobody),
            // SAFETY: the stream is alive; the memory is freed in its order, by `Memory::drop`.
            _ => (unsafe { stream.driver().allocate(bytes, stream.handle()) }?, Owner::Pool),
        };
        Ok(Self(Arc::new(Memory { address, bytes, owner, stream: stream.clone() })))
    }

    /// Wraps device memory that somebody else owns, without a copy.
    ///
    /// # Safety
    ///
    /// 1. `address` is the start of `bytes` bytes of the device's memory, which stay allocated
    ///    until all work that was queued on clones of the buffer is done.
    /// 2. While that work is under way, others use the memory only in the order of the stream of
    ///    `device`: what writes it before is ordered before, what reads the results after.
    pub unsafe fn borrow(device: &Cuda, address: u64, bytes: u64) -> Self {
        let stream = device.stream().clone();
        Self(Arc::new(Memory { address, bytes, owner: Owner::Nobody, stream }))
    }

    /// Wraps a slice of cudarc's, without a copy; the slice lives as long as the buffer.
    ///
    /// Work on the buffer runs on the stream of `device`. Where the slice belongs to another
    /// stream, ours waits for what is queued there now, and the slice's stream waits for our work
    /// when the last clone of the buffer is dropped: read the results on it after that.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`] for a slice of another device, or the driver's refusal.
    pub fn from_slice<T: Element>(device: &Cuda, slice: Arc<CudaSlice<T>>) -> Result<Self> {
        let (stream, context) = (device.stream(), slice.context());
        if stream.driver().device().0 != context.cu_ctx() as u64 {
            return Err(Error::Tensor {
                operation: "tensor",
                tensor: "slice".to_owned(),
                expected: format!("memory of {}", stream.device().name),
                found: format!("memory of another context, on cuda:{}", context.ordinal()),
            });
        }
        let theirs = StreamHandle(slice.stream().cu_stream() as u64);
        let foreign = Some(theirs).filter(|&theirs| theirs != stream.handle());
        if let Some(theirs) = foreign {
            // SAFETY: the slice keeps its stream alive; both streams are of this context.
            unsafe { order(stream, theirs, stream.handle()) }?;
        }
        // SAFETY: the stream is of the slice's context, and outlives the wrapper.
        let wrapped = unsafe { context.wrap_borrowed_stream(stream.handle().0 as sys::CUstream) };
        // Where cudarc tracks events, this waits for writes of third streams as well.
        let (address, guard) = slice.device_ptr(&wrapped);
        drop(guard);
        let bytes = slice.num_bytes() as u64;
        let owner = Owner::Slice { _slice: slice, foreign };
        Ok(Self(Arc::new(Memory { address, bytes, owner, stream: stream.clone() })))
    }

    /// The address of the first byte.
    pub fn address(&self) -> u64 {
        self.0.address
    }

    /// The stream that work on the buffer runs on.
    pub fn stream(&self) -> &Stream {
        &self.0.stream
    }

    /// Queues a copy of `bytes` to the start of the buffer, which is as long.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<()> {
        debug_assert_eq!(bytes.len() as u64, self.0.bytes);
        if bytes.is_empty() {
            return Ok(());
        }
        let stream = self.stream();
        // SAFETY: the memory is as long as `bytes`, alive, and freed in the order of its stream.
        unsafe { stream.driver().upload(self.address(), bytes, stream.handle()) }
    }

    /// Queues a copy of another buffer of the same stream and length, which shares no memory.
    pub(super) fn copy_from(&self, from: &Self) -> Result<()> {
        let (stream, bytes) = (self.stream(), self.0.bytes);
        if stream != from.stream()
            || bytes != from.0.bytes
            || self.overlaps(0..bytes, from, 0..bytes)
        {
            return Err(Error::Driver {
                device: stream.device().name.clone(),
                call: "copy",
                reason: format!("{from:?} and {self:?} are not two buffers alike of one stream"),
            });
        }
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: both lie on this stream, are as long, alive, and apart.
        unsafe { stream.driver().copy(self.address(), from.address(), bytes, stream.handle()) }
    }

    /// Copies from the byte `offset` on, and waits.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(into.len() as u64);
        if end.is_none_or(|end| end > self.0.bytes) {
            return Err(Error::Driver {
                device: self.stream().device().name.clone(),
                call: "download",
                reason: format!(
                    "{} bytes from {offset} on lie outside the buffer's {}",
                    into.len(),
                    self.0.bytes
                ),
            });
        }
        if into.is_empty() {
            return Ok(());
        }
        let stream = self.stream();
        // SAFETY: the range was just checked; memory and stream are alive.
        unsafe { stream.driver().download(into, self.address() + offset, stream.handle()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let Self { address, owner, stream, .. } = self;
        match owner {
            Owner::Pool => {
                // SAFETY: the address came from this stream's pool, and this was its last owner.
                warn_on_error(unsafe { stream.driver().free(*address, stream.handle()) });
            }
            Owner::Slice { foreign: Some(theirs), .. } => {
                // SAFETY: the slice, which is dropped after this, keeps its stream alive.
                warn_on_error(unsafe { order(stream, stream.handle(), *theirs) });
            }
            Owner::Slice { foreign: None, .. } | Owner::Nobody => {}
        }
    }
}

/// Makes what is queued on `later` from now on wait for what is queued on `earlier` so far.
///
/// # Safety
///
/// Both streams are alive and of the device of `stream`.
unsafe fn order(stream: &Stream, earlier: StreamHandle, later: StreamHandle) -> Result<()> {
    let driver = stream.driver();
    // SAFETY: the caller vouches for the streams; the event is this driver's. It may be destroyed
    // before it has happened.
    unsafe {
        let event = driver.record(earlier)?;
        let queued = driver.wait(later, event);
        warn_on_error(driver.destroy_event(event));
        queued
    }
}

impl Buffer for CudaBuffer {
    fn bytes(&self) -> u64 {
        self.0.bytes
    }

    fn overlaps(&self, bytes: Range<u64>, other: &Self, other_bytes: Range<u64>) -> bool {
        let absolute = |buffer: &Self, byte| buffer.address().saturating_add(byte);
        let start = absolute(self, bytes.start).max(absolute(other, other_bytes.start));
        let end = absolute(self, bytes.end).min(absolute(other, other_bytes.end));
        start < end
    }
}

impl fmt::Debug for CudaBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CudaBuffer({} bytes at {:#x})", self.0.bytes, self.address())
    }
}
