//! Memory of a WebGPU device.

use std::fmt;
use std::ops::Range;

use ::wgpu::BufferUsages;

use crate::backend::Buffer;
use crate::{Error, Result};

/// A range of bytes of a [`wgpu::Buffer`](::wgpu::Buffer). Clones share the memory.
#[derive(Clone, PartialEq, Eq)]
pub struct WgpuBuffer {
    buffer: ::wgpu::Buffer,
    offset: u64,
    bytes: u64,
}

impl WgpuBuffer {
    /// The usages that a buffer needs before an operation can take it: kernels bind it, small
    /// tensors are copied out of it and results into it.
    pub const USAGES: BufferUsages =
        BufferUsages::STORAGE.union(BufferUsages::COPY_SRC).union(BufferUsages::COPY_DST);

    /// Wraps a range of a buffer that somebody else owns, without a copy. The buffer must be of
    /// the device that the operations run on. Bytes outside the range are never changed.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where the range leaves the buffer.
    pub fn wrap(buffer: ::wgpu::Buffer, range: Range<u64>) -> Result<Self> {
        if range.start > range.end || range.end > buffer.size() {
            return Err(Error::Shape {
                operation: "tensor",
                tensor: "range of a wgpu buffer".to_owned(),
                expected: format!("a range within the buffer's {} bytes", buffer.size()),
                found: format!("{range:?}"),
            });
        }
        Ok(Self { buffer, offset: range.start, bytes: range.end - range.start })
    }

    /// The whole buffer that the range lies in.
    pub fn buffer(&self) -> &::wgpu::Buffer {
        &self.buffer
    }

    /// The first byte's place in the whole buffer.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The buffer can be used by an operation.
    pub(crate) fn check_usages(&self, operation: &'static str, tensor: &str) -> Result<()> {
        let missing = Self::USAGES.difference(self.buffer.usage());
        if !missing.is_empty() {
            return Err(Error::Unsupported {
                operation,
                backend: "wgpu".to_owned(),
                what: format!("tensor `{tensor}` in a buffer without the usages {missing:?}"),
                instead: format!("create the buffer with the usages {:?}", Self::USAGES),
            });
        }
        if !self.buffer.size().is_multiple_of(4) {
            return Err(Error::Unsupported {
                operation,
                backend: "wgpu".to_owned(),
                what: format!("tensor `{tensor}` in a buffer of {} bytes", self.buffer.size()),
                instead: "create the buffer with a size that is a multiple of 4".to_owned(),
            });
        }
        Ok(())
    }
}

impl Buffer for WgpuBuffer {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn overlaps(&self, bytes: Range<u64>, other: &Self, other_bytes: Range<u64>) -> bool {
        let start = (self.offset + bytes.start).max(other.offset + other_bytes.start);
        let end = (self.offset + bytes.end).min(other.offset + other_bytes.end);
        self.buffer == other.buffer && start < end
    }
}

impl fmt::Debug for WgpuBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WgpuBuffer({} bytes at {} of {:?})", self.bytes, self.offset, self.buffer)
    }
}
