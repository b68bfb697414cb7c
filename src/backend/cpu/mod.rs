//! The CPU as a backend: memory of the process, the caller's rayon pool, SIMD by `pulp`.

use rayon::prelude::*;

use crate::backend::{Backend, Buffer, Limits};
use crate::{Error, Result};

pub(crate) mod aligned;
pub(crate) mod disjoint;
pub(crate) mod lanes;
mod memory;
pub(crate) mod pages;
pub(crate) mod prefetch;
pub(crate) mod product;

pub use memory::{HostBuffer, ReadGuard, WriteGuard};

/// The CPU. Operations run in the rayon pool of the calling thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu;

impl Backend for Cpu {
    type Buffer = HostBuffer;

    fn name(&self) -> String {
        "cpu".to_owned()
    }

    fn limits(&self) -> Limits {
        Limits {
            units: u32::try_from(rayon::current_num_threads()).unwrap_or(u32::MAX),
            block_threads: 1,
            shared_bytes: 0,
            grid: [u32::MAX; 3],
            binding_bytes: isize::MAX as u64,
            storage_bindings: u32::MAX,
            subgroups: None,
            native_f16: false,
            tier: None,
        }
    }

    fn allocate(&self, bytes: u64) -> Result<HostBuffer> {
        HostBuffer::zeroed(bytes).ok_or_else(|| Error::OutOfMemory {
            device: self.name(),
            asked: bytes,
            available: None,
        })
    }

    fn upload(&self, bytes: &[u8]) -> Result<HostBuffer> {
        let buffer = self.allocate(bytes.len() as u64)?;
        buffer.write(0..bytes.len())?.copy_from_slice(bytes);
        Ok(buffer)
    }

    fn download(&self, buffer: &HostBuffer, offset: u64, into: &mut [u8]) -> Result<()> {
        let start = offset as usize;
        into.copy_from_slice(&buffer.read(start..start + into.len())?);
        Ok(())
    }

    fn copy(&self, from: &HostBuffer, to: &HostBuffer) -> Result<()> {
        if from.bytes() != to.bytes() {
            return Err(Error::Shape {
                operation: "copy",
                tensor: "to".to_owned(),
                expected: format!("{} bytes, as in the source", from.bytes()),
                found: format!("{} bytes", to.bytes()),
            });
        }
        let from = from.read(0..from.bytes() as usize)?;
        let mut to = to.write(0..to.bytes() as usize)?;
        let part = to.len().div_ceil(rayon::current_num_threads()).max(1);
        to.par_chunks_mut(part)
            .zip(from.par_chunks(part))
            .for_each(|(to, from)| to.copy_from_slice(from));
        Ok(())
    }

    fn synchronise(&self) -> Result<()> {
        Ok(())
    }
}

/// The SIMD instructions that the kernels use on this machine.
pub(crate) fn simd_name() -> String {
    let level = format!("{:?}", pulp::Arch::new());
    match level.split('(').next().unwrap_or_default() {
        "V3" => "AVX2".to_owned(),
        "V4" => "AVX-512".to_owned(),
        other => other.to_uppercase(),
    }
}
