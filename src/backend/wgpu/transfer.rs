//! Memory: allocation, upload, download.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use ::wgpu::{BufferAsyncError, BufferUsages, PollType, SubmissionIndex};

use super::{Wgpu, WgpuBuffer};
use crate::backend::{Backend, Buffer};
use crate::{Error, Result};

/// Most bytes that one staging buffer holds; longer downloads go in pieces.
const PIECE: u64 = 1 << 26;

impl Wgpu {
    /// A new buffer, rounded up to whole words so that every byte can be copied.
    pub(super) fn create_buffer(&self, bytes: u64, contents: Option<&[u8]>) -> Result<WgpuBuffer> {
        let most = self.device().limits().max_buffer_size & !3;
        if bytes > most {
            let device = self.name();
            return Err(Error::OutOfMemory { device, asked: bytes, available: Some(most) });
        }
        // Neither a binding nor a mapping may be empty.
        let size = bytes.next_multiple_of(4).max(4);
        let buffer = self.scoped("creating a buffer", bytes, || {
            let buffer = self.device().create_buffer(&::wgpu::BufferDescriptor {
                label: Some("warpwright"),
                size,
                usage: WgpuBuffer::USAGES,
                mapped_at_creation: contents.is_some(),
            });
            if let Some(contents) = contents {
                // A refused buffer has no memory to map; the scope tells of it.
                if let Ok(mut mapped) = buffer.get_mapped_range_mut(..) {
                    mapped.slice(..contents.len()).copy_from_slice(contents);
                }
                buffer.unmap();
            }
            buffer
        })?;
        WgpuBuffer::wrap(buffer, 0..bytes)
    }

    /// Copies one buffer into another of the same length.
    pub(super) fn copy_whole(&self, from: &WgpuBuffer, to: &WgpuBuffer) -> Result<()> {
        let call = "copying a buffer";
        let bytes = to.bytes();
        let refuse = |reason| Err(Error::Driver { device: self.name(), call, reason });
        if from.bytes() != bytes {
            return refuse(format!("{} bytes do not fit in {bytes} exactly", from.bytes()));
        }
        // WebGPU copies words. A last one that is not whole may be copied where nothing else
        // lies in it: at the end of the buffer.
        let size = bytes.next_multiple_of(4);
        let ends = |buffer: &WgpuBuffer| buffer.offset() + size == buffer.buffer().size();
        if !from.offset().is_multiple_of(4)
            || !to.offset().is_multiple_of(4)
            || size != bytes && !(ends(from) && ends(to))
        {
            return refuse("WebGPU copies ranges that begin and end at multiples of 4".to_owned());
        }
        self.scoped(call, 0, || {
            let mut encoder = self.device().create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(
                from.buffer(),
                from.offset(),
                to.buffer(),
                to.offset(),
                size,
            );
            self.queue().submit([encoder.finish()]);
        })
    }

    /// Waits for a submission, or for everything that was submitted.
    pub(super) fn wait(&self, submission_index: Option<SubmissionIndex>) -> Result<()> {
        let waited = self.scoped("waiting for the device", 0, || {
            self.device().poll(PollType::Wait { submission_index, timeout: None })
        })?;
        match waited {
            Ok(_) => Ok(()),
            Err(error) => Err(self.refused("waiting for the device", &error)),
        }
    }

    pub(super) fn download_blocking(
        &self,
        buffer: &WgpuBuffer,
        offset: u64,
        into: &mut [u8],
    ) -> Result<()> {
        let mut offset = offset;
        for piece in into.chunks_mut(PIECE as usize) {
            let (staging, submission) = self.stage(buffer, offset, piece.len() as u64)?;
            self.wait(Some(submission))?;
            // Another thread that polls at the same time may have taken the callback with it and
            // not called it yet.
            pollster::block_on(Mapping { device: self, mapped: &staging.mapped })?;
            piece.copy_from_slice(&staging.read(self)?);
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// Copies `bytes` bytes from the byte `offset` of `buffer`, after all work queued before,
    /// without blocking. The future asks the device for progress each time that it is polled.
    ///
    /// # Errors
    ///
    /// The driver's refusal, or a lost device.
    pub async fn download_async(
        &self,
        buffer: &WgpuBuffer,
        offset: u64,
        bytes: u64,
    ) -> Result<Vec<u8>> {
        let mut contents = Vec::new();
        let mut start = 0;
        while start < bytes {
            let piece = PIECE.min(bytes - start);
            let (staging, _) = self.stage(buffer, offset + start, piece)?;
            Mapping { device: self, mapped: &staging.mapped }.await?;
            contents.extend_from_slice(&staging.read(self)?);
            start += piece;
        }
        Ok(contents)
    }

    /// Queues a copy into a buffer that the host can map, and its mapping.
    fn stage(
        &self,
        buffer: &WgpuBuffer,
        offset: u64,
        bytes: u64,
    ) -> Result<(Staging, SubmissionIndex)> {
        let call = "downloading";
        if offset.checked_add(bytes).is_none_or(|end| end > buffer.bytes()) {
            let end = offset.saturating_add(bytes);
            let reason =
                format!("bytes {offset}..{end} lie outside the buffer's {}", buffer.bytes());
            return Err(Error::Driver { device: self.name(), call, reason });
        }
        // Copies go by words: from the word boundary below to the one above, which lies within
        // the buffer but for foreign buffers of odd sizes, where wgpu refuses.
        let first = buffer.offset() + offset;
        let aligned = first & !3;
        let size = (first + bytes).next_multiple_of(4) - aligned;
        self.scoped(call, size, || {
            let staging = self.device().create_buffer(&::wgpu::BufferDescriptor {
                label: Some("warpwright download"),
                size: size.max(4),
                usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            let mut encoder = self.device().create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(buffer.buffer(), aligned, &staging, 0, size);
            let submission = self.queue().submit([encoder.finish()]);
            let mapped = Arc::new(OnceLock::new());
            let teller = mapped.clone();
            staging.map_async(::wgpu::MapMode::Read, .., move |result| {
                // It is called once.
                let _ = teller.set(result);
            });
            let skipped = (first - aligned) as usize;
            (Staging { buffer: staging, skipped, bytes: bytes as usize, mapped }, submission)
        })
    }

    fn refused(&self, call: &'static str, error: &dyn std::error::Error) -> Error {
        match self.check_alive() {
            Err(lost) => lost,
            Ok(()) => Error::Driver { device: self.name(), call, reason: error.to_string() },
        }
    }
}

/// Set once the mapping is there or has failed.
type Mapped = Arc<OnceLock<Result<(), BufferAsyncError>>>;

/// A copy on its way to the host.
struct Staging {
    buffer: ::wgpu::Buffer,
    /// Bytes between the word boundary and the first byte that was asked for.
    skipped: usize,
    bytes: usize,
    mapped: Mapped,
}

impl Staging {
    /// The bytes, once the device has been waited for.
    fn read(&self, device: &Wgpu) -> Result<Vec<u8>> {
        let refused = |error: &dyn std::error::Error| device.refused("mapping a download", error);
        match self.mapped.get() {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(refused(error)),
            None => return Err(refused(&std::io::Error::other("the device did not answer"))),
        }
        let range = self.buffer.get_mapped_range(..).map_err(|error| refused(&error))?;
        Ok(range[self.skipped..][..self.bytes].to_vec())
    }
}

/// Waits for a mapping. Nobody calls back unless the device is polled, so each poll of the
/// future polls the device and asks to be polled again.
struct Mapping<'a> {
    device: &'a Wgpu,
    mapped: &'a Mapped,
}

impl Future for Mapping<'_> {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        if let Err(error) = self.device.device().poll(PollType::Poll) {
            return Poll::Ready(Err(self.device.refused("waiting for the device", &error)));
        }
        if self.mapped.get().is_some() {
            return Poll::Ready(Ok(()));
        }
        if let Err(lost) = self.device.check_alive() {
            return Poll::Ready(Err(lost));
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_any_offset() {
        let Ok(device) = Wgpu::first() else { return };
        let bytes: Vec<u8> = (0..=250).collect();
        let buffer = device.upload(&bytes).unwrap();
        for (offset, length) in [(0, 251), (1, 7), (3, 1), (250, 1), (251, 0), (2, 4)] {
            let mut into = vec![0; length];
            device.download(&buffer, offset as u64, &mut into).unwrap();
            assert_eq!(into, bytes[offset..][..length]);
            let from = device.download_async(&buffer, offset as u64, length as u64);
            assert_eq!(pollster::block_on(from).unwrap(), into);
        }
        let mut outside = [0; 2];
        let error = device.download(&buffer, 250, &mut outside).unwrap_err();
        assert!(matches!(error, Error::Driver { .. }), "{error}");
    }

    #[test]
    fn threads_download_side_by_side() {
        let Ok(device) = Wgpu::first() else { return };
        std::thread::scope(|scope| {
            for number in 0..4u8 {
                let device = &device;
                scope.spawn(move || {
                    for round in 0..200u8 {
                        let buffer = device.upload(&[number, round]).unwrap();
                        let mut into = [0; 2];
                        device.download(&buffer, 0, &mut into).unwrap();
                        assert_eq!(into, [number, round]);
                    }
                });
            }
        });
    }

    #[test]
    fn a_wrapped_range_counts_from_its_start() {
        let Ok(device) = Wgpu::first() else { return };
        let whole = device.upload(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
        let part = WgpuBuffer::wrap(whole.buffer().clone(), 3..9).unwrap();
        let mut into = [0; 2];
        device.download(&part, 1, &mut into).unwrap();
        assert_eq!(into, [4, 5]);
        assert!(part.overlaps(0..1, &whole, 3..4));
        assert!(!part.overlaps(0..1, &whole, 0..3));
        assert!(WgpuBuffer::wrap(whole.buffer().clone(), 3..99).is_err());
    }

    #[test]
    fn buffers_are_copied_on_the_device() {
        let Ok(device) = Wgpu::first() else { return };
        let from = device.upload(&[1, 2, 3, 4, 5]).unwrap();
        let to = device.allocate(5).unwrap();
        device.copy(&from, &to).unwrap();
        let mut into = [0; 5];
        device.download(&to, 0, &mut into).unwrap();
        assert_eq!(into, [1, 2, 3, 4, 5]);
        assert!(device.copy(&from, &device.allocate(6).unwrap()).is_err());
        let odd = WgpuBuffer::wrap(to.buffer().clone(), 1..6).unwrap();
        assert!(device.copy(&from, &odd).is_err());
    }

    #[test]
    fn more_than_a_buffer_can_hold_is_out_of_memory() {
        let Ok(device) = Wgpu::first() else { return };
        let error = device.allocate(u64::MAX - 7).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    }
}
