//! Dispatches and copies, recorded into a command encoder.

use std::ops::Range;

use super::{Wgpu, WgpuBuffer};
use crate::backend::kernel::VariantInfo;
use crate::backend::{Backend, Buffer};
use crate::tensor::View;
use crate::{Error, Result};

/// Bytes of a buffer that a kernel is to see. They may begin anywhere: the binding begins at the
/// boundary below that the device asks for, and the kernel gets the rest as an index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice<'a> {
    buffer: &'a ::wgpu::Buffer,
    offset: u64,
    bytes: u64,
}

impl<'a> Slice<'a> {
    /// Bytes of a tensor's buffer, counted from its start.
    pub(crate) fn new(buffer: &'a WgpuBuffer, bytes: Range<u64>) -> Self {
        let offset = buffer.offset() + bytes.start;
        Self { buffer: buffer.buffer(), offset, bytes: bytes.end - bytes.start }
    }

    /// All of a buffer.
    pub(crate) fn whole(buffer: &'a WgpuBuffer) -> Self {
        Self::new(buffer, 0..buffer.bytes())
    }

    /// So many of its bytes, from a 32-bit word on.
    pub(crate) fn part(&self, word: u32, bytes: u64) -> Self {
        Self { offset: self.offset + 4 * u64::from(word), bytes, ..*self }
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes between the start of the binding and the first one of the slice.
    pub(crate) fn skipped(&self, device: &Wgpu) -> u64 {
        self.offset % device.binding_alignment()
    }

    /// The range that is bound: whole words from the boundary below.
    fn bound(&self, device: &Wgpu) -> Range<u64> {
        let start = self.offset - self.skipped(device);
        start..(self.offset + self.bytes).next_multiple_of(4).max(start + 4)
    }
}

/// A tensor, and its first element's index in the binding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed<'a> {
    pub slice: Slice<'a>,
    pub at: u32,
}

impl<'a> Placed<'a> {
    pub(crate) fn of(device: &Wgpu, view: &'a View<Wgpu>) -> Self {
        let slice = Slice::new(view.buffer(), view.byte_range());
        let at = (slice.skipped(device) / view.dtype().bytes() as u64) as u32;
        Self { slice, at }
    }
}

/// Records the copies and dispatches of one operation, the dispatches in one compute pass.
pub(crate) struct Recorder<'a> {
    device: &'a Wgpu,
    encoder: &'a mut ::wgpu::CommandEncoder,
    /// Open while dispatches follow each other. It is dropped before the encoder is used again.
    pass: Option<::wgpu::ComputePass<'static>>,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(device: &'a Wgpu, encoder: &'a mut ::wgpu::CommandEncoder) -> Self {
        Self { device, encoder, pass: None }
    }

    /// Records a dispatch: `params` go to the uniform at binding 0, `bindings` to the storage
    /// bindings from 1 on.
    pub(crate) fn dispatch(
        &mut self,
        info: &VariantInfo,
        workgroups: [u32; 3],
        params: &[u8],
        bindings: &[Slice<'_>],
    ) -> Result<()> {
        if workgroups.contains(&0) {
            return Ok(());
        }
        let device = self.device;
        let limits = device.limits();
        let refuse = |what: String| Error::Unsupported {
            operation: info.operation,
            backend: device.name(),
            what,
            instead: "split the batch, or use `cpu`".to_owned(),
        };
        if let Some((&asked, &most)) =
            workgroups.iter().zip(&limits.grid).find(|(asked, most)| asked > most)
        {
            return Err(refuse(format!("{asked} workgroups along an axis, {most} are most")));
        }
        let ranges: Vec<Range<u64>> = bindings.iter().map(|slice| slice.bound(device)).collect();
        let most = limits.binding_bytes;
        if let Some(range) = ranges.iter().find(|range| range.end - range.start > most) {
            let asked = range.end - range.start;
            return Err(refuse(format!("{asked} bytes in one binding, {most} are most")));
        }
        let pipeline = device.pipelines().get(device, info)?;
        let group = device.scoped("binding tensors", params.len() as u64, || {
            let uniform = uniform(device.device(), params);
            let storage = bindings.iter().zip(ranges).map(|(slice, range)| ::wgpu::BufferBinding {
                buffer: slice.buffer,
                offset: range.start,
                size: std::num::NonZeroU64::new(range.end - range.start),
            });
            let entries: Vec<::wgpu::BindGroupEntry<'_>> =
                std::iter::once(uniform.as_entire_buffer_binding())
                    .chain(storage)
                    .zip(0..)
                    .map(|(binding, number)| ::wgpu::BindGroupEntry {
                        binding: number,
                        resource: ::wgpu::BindingResource::Buffer(binding),
                    })
                    .collect();
            device.device().create_bind_group(&::wgpu::BindGroupDescriptor {
                label: Some(info.name),
                layout: &pipeline.layout,
                entries: &entries,
            })
        })?;
        let pass = self.pass.get_or_insert_with(|| {
            let descriptor = ::wgpu::ComputePassDescriptor {
                label: Some(info.operation),
                timestamp_writes: None,
            };
            self.encoder.begin_compute_pass(&descriptor).forget_lifetime()
        });
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &group, &[]);
        let [x, y, z] = workgroups;
        pass.dispatch_workgroups(x, y, z);
        Ok(())
    }

    /// Records a copy of whole words into another buffer, as many as `target` holds.
    pub(crate) fn copy(&mut self, source: Slice<'_>, target: Slice<'_>) {
        self.pass = None;
        if target.bytes > 0 {
            self.encoder.copy_buffer_to_buffer(
                source.buffer,
                source.offset,
                target.buffer,
                target.offset,
                target.bytes,
            );
        }
    }
}

impl Wgpu {
    fn binding_alignment(&self) -> u64 {
        u64::from(self.device().limits().min_storage_buffer_offset_alignment)
    }
}

/// A buffer of its own for each dispatch: `queue.write_buffer` would be ordered before the whole
/// submission, not at its place in the encoder.
fn uniform(device: &::wgpu::Device, params: &[u8]) -> ::wgpu::Buffer {
    let buffer = device.create_buffer(&::wgpu::BufferDescriptor {
        label: Some("warpwright parameters"),
        size: (params.len() as u64).next_multiple_of(16),
        usage: ::wgpu::BufferUsages::UNIFORM,
        mapped_at_creation: true,
    });
    // A refused buffer has no memory to map; the scope tells of it.
    if let Ok(mut mapped) = buffer.get_mapped_range_mut(..) {
        mapped.slice(..params.len()).copy_from_slice(params);
    }
    buffer.unmap();
    buffer
}

/// As many workgroups as `count`, folded onto the axes of a grid whose sides are limited; `None`
/// where even three axes do not hold them. Kernels pass over the surplus.
pub(crate) fn folded(count: u64, most: [u32; 3]) -> Option<[u32; 3]> {
    let x = count.min(u64::from(most[0]));
    let y = count.div_ceil(x.max(1)).min(u64::from(most[1]));
    let z = count.div_ceil((x * y).max(1));
    if z > u64::from(most[2]) || x * y * z > u64::from(u32::MAX) {
        return None;
    }
    Some([x as u32, y as u32, z as u32])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_holds_all_workgroups_and_few_more() {
        let most = [65535; 3];
        assert_eq!(folded(0, most), Some([0, 0, 0]));
        assert_eq!(folded(1, most), Some([1, 1, 1]));
        assert_eq!(folded(65535, most), Some([65535, 1, 1]));
        assert_eq!(folded(65536, most), Some([65535, 2, 1]));
        let [x, y, z] = folded(1 << 31, most).unwrap();
        let held = u64::from(x) * u64::from(y) * u64::from(z);
        assert!((1 << 31..(1 << 31) + (1 << 16)).contains(&held));
        assert_eq!(folded(1 << 40, most), None);
    }

    #[test]
    fn a_binding_begins_at_the_boundary_below() {
        let Ok(device) = Wgpu::baseline(0) else { return };
        let buffer = device.allocate(1024).unwrap();
        let part = WgpuBuffer::wrap(buffer.buffer().clone(), 300..900).unwrap();
        let slice = Slice::new(&part, 2..8);
        assert_eq!(slice.skipped(&device), 46);
        assert_eq!(slice.bound(&device), 256..308);
        let empty = Slice::new(&part, 0..0);
        assert_eq!(empty.bound(&device), 256..300);
    }
}
