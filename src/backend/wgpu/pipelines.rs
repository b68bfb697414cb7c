//! Compiled kernels, kept per device.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ::wgpu::{BindGroupLayoutEntry, BindingType, BufferBindingType, ShaderStages};

use super::Wgpu;
use crate::Result;
use crate::backend::kernel::VariantInfo;

/// A compiled kernel with the layout of its bindings.
#[derive(Clone)]
pub(super) struct Pipeline {
    pub(super) pipeline: ::wgpu::ComputePipeline,
    pub(super) layout: ::wgpu::BindGroupLayout,
}

/// The kernels of a device that have been compiled, by the name of their variant.
#[derive(Default)]
pub(crate) struct Pipelines {
    compiled: Mutex<HashMap<&'static str, Pipeline>>,
}

impl Pipelines {
    /// The variant, compiled when it is asked for the first time.
    pub(super) fn get(&self, device: &Wgpu, info: &VariantInfo) -> Result<Pipeline> {
        // Nothing that could panic happens under the lock; two threads may compile the same
        // kernel, and the first one's is kept.
        let compiled = || self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = compiled().get(info.name) {
            return Ok(pipeline.clone());
        }
        let pipeline = compile(device, info)?;
        Ok(compiled().entry(info.name).or_insert(pipeline).clone())
    }
}

impl Wgpu {
    /// Compiles a variant, so that its first dispatch does not wait for it.
    pub(crate) fn preload(&self, info: &VariantInfo) -> Result<()> {
        self.pipelines().get(self, info).map(drop)
    }
}

/// The uniform at binding 0 and as many storage buffers as the text declares; all of them can be
/// written, since wgpu refuses one buffer bound both ways in one dispatch.
fn layout_entries(text: &str) -> Vec<BindGroupLayoutEntry> {
    let storage = text.matches("var<storage").count();
    let types = std::iter::once(BufferBindingType::Uniform)
        .chain(std::iter::repeat_n(BufferBindingType::Storage { read_only: false }, storage));
    types
        .zip(0..)
        .map(|(ty, binding)| BindGroupLayoutEntry {
            binding,
            visibility: ShaderStages::COMPUTE,
            ty: BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        })
        .collect()
}

fn compile(device: &Wgpu, info: &VariantInfo) -> Result<Pipeline> {
    device.scoped("compiling a kernel", 0, || {
        let label = Some(info.name);
        let (gpu, text) = (device.device(), info.text());
        let source = ::wgpu::ShaderModuleDescriptor {
            label,
            source: ::wgpu::ShaderSource::Wgsl(Cow::Borrowed(&text)),
        };
        let checks = ::wgpu::ShaderRuntimeChecks {
            force_loop_bounding: false,
            int_div_checks: false,
            ..::wgpu::ShaderRuntimeChecks::checked()
        };
        // SAFETY: the text is one of this crate's kernels. Each of their loops counts up to a
        // bound, or down to one, and ends whatever the tensors hold; each divisor is a constant or
        // a size that the launcher has found to be more than 0. Indices stay checked.
        let module = unsafe { gpu.create_shader_module_trusted(source, checks) };
        // Not derived from the text: a binding that a variant leaves unused would be missing.
        let layout = gpu.create_bind_group_layout(&::wgpu::BindGroupLayoutDescriptor {
            label,
            entries: &layout_entries(&text),
        });
        let pipeline_layout = gpu.create_pipeline_layout(&::wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            ..Default::default()
        });
        let pipeline = gpu.create_compute_pipeline(&::wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(info.name),
            compilation_options: ::wgpu::PipelineCompilationOptions {
                // Our kernels write workgroup memory before they read it.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        Pipeline { pipeline, layout }
    })
}
