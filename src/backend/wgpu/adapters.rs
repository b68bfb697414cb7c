//! Which adapters there are, and devices made from them.

use std::sync::{Arc, OnceLock};

use ::wgpu::{Backends, DeviceType, Features};

use super::Wgpu;
use crate::backend::Limits;
use crate::{Error, Result};

/// An adapter of this machine, as [`Wgpu::adapters`] lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Adapter {
    /// The number that [`Wgpu::new`] takes.
    pub index: usize,
    /// What the driver calls it.
    pub name: String,
    /// The driver, with its version.
    pub driver: String,
    /// The interface that it is reached by: `vulkan`, `metal`, `dx12`.
    pub interface: String,
    /// Whether it has memory of its own.
    pub discrete: bool,
    /// Whether it is a program that runs on the CPU.
    pub software: bool,
    /// What plans would know of a device made from it.
    pub limits: Limits,
}

/// How much of an adapter a device is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// All limits, and the features that kernels and benches use.
    Everything,
    /// The default limits of WebGPU, no features.
    Baseline,
}

/// The features that our kernels and benches use where they exist, or that a user's own shaders
/// on the same device are likely to want.
const WANTED: Features =
    Features::SUBGROUP.union(Features::SHADER_F16).union(Features::TIMESTAMP_QUERY);

/// One instance for the process, so that the adapters keep their numbers.
fn enumerate() -> Vec<::wgpu::Adapter> {
    static INSTANCE: OnceLock<::wgpu::Instance> = OnceLock::new();
    if ::wgpu::Instance::enabled_backend_features().is_empty() {
        return Vec::new();
    }
    let instance = INSTANCE.get_or_init(|| {
        ::wgpu::Instance::new(::wgpu::InstanceDescriptor::new_without_display_handle())
    });
    pollster::block_on(instance.enumerate_adapters(Backends::all()))
}

pub(super) fn list() -> Vec<Adapter> {
    let describe = |(index, adapter): (usize, &::wgpu::Adapter)| {
        let info = adapter.get_info();
        Adapter {
            index,
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            interface: info.backend.to_string(),
            discrete: info.device_type == DeviceType::DiscreteGpu,
            software: info.device_type == DeviceType::Cpu,
            limits: limits(&adapter.limits(), adapter.features() & WANTED, &info),
            name: info.name,
        }
    };
    enumerate().iter().enumerate().map(describe).collect()
}

/// The number of the first discrete adapter, else of the first that is not software.
pub(super) fn best_hardware(adapters: &[Adapter]) -> Option<usize> {
    let hardware = || adapters.iter().filter(|adapter| !adapter.software);
    let best = hardware().find(|adapter| adapter.discrete).or_else(|| hardware().next());
    best.map(|adapter| adapter.index)
}

pub(super) fn open(index: usize, extent: Extent) -> Result<Wgpu> {
    let adapters = enumerate();
    let device_name = format!("wgpu:{index}");
    let Some(adapter) = adapters.get(index) else {
        let reason = match adapters.len() {
            0 => "no adapter was found".to_owned(),
            count => format!("the last adapter is wgpu:{}", count - 1),
        };
        return Err(unavailable(&device_name, &reason));
    };
    let (required_features, required_limits) = match extent {
        Extent::Everything => (adapter.features() & WANTED, adapter.limits()),
        Extent::Baseline => (Features::empty(), ::wgpu::Limits::default()),
    };
    let request = adapter.request_device(&::wgpu::DeviceDescriptor {
        label: Some("warpwright"),
        required_features,
        required_limits,
        ..Default::default()
    });
    let (device, queue) = pollster::block_on(request)
        .map_err(|error| unavailable(&device_name, &error.to_string()))?;
    let lost = Arc::new(OnceLock::new());
    let teller = lost.clone();
    device.set_device_lost_callback(move |_, reason| {
        // Only the first reason counts.
        let _ = teller.set(reason);
    });
    let info = adapter.get_info();
    let name = format!("{device_name} ({})", info.name);
    Ok(Wgpu::from_parts(device, queue, &info, name, lost))
}

pub(super) fn unavailable(device: &str, reason: &str) -> Error {
    Error::Unavailable {
        device: device.to_owned(),
        reason: reason.to_owned(),
        instead: "install a Vulkan, Metal or DirectX 12 driver, or use `cpu`".to_owned(),
    }
}

/// What plans need to know.
pub(super) fn limits(
    limits: &::wgpu::Limits,
    features: Features,
    info: &::wgpu::AdapterInfo,
) -> Limits {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    Limits {
        units: match info.device_type {
            DeviceType::Cpu => u32::try_from(cores()).unwrap_or(u32::MAX),
            // WebGPU does not tell.
            _ => 0,
        },
        block_threads: limits
            .max_compute_invocations_per_workgroup
            .min(limits.max_compute_workgroup_size_x),
        shared_bytes: limits.max_compute_workgroup_storage_size,
        grid: [limits.max_compute_workgroups_per_dimension; 3],
        binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
        storage_bindings: limits.max_storage_buffers_per_shader_stage,
        subgroups: features
            .contains(Features::SUBGROUP)
            .then_some((info.subgroup_min_size, info.subgroup_max_size)),
        native_f16: features.contains(Features::SHADER_F16),
        tier: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(index: usize, discrete: bool, software: bool) -> Adapter {
        let limits = Limits::of_webgpu(0);
        let text = String::new;
        Adapter {
            index,
            name: text(),
            driver: text(),
            interface: text(),
            discrete,
            software,
            limits,
        }
    }

    #[test]
    fn discrete_hardware_comes_before_other_hardware_and_software_never() {
        let software = adapter(0, false, true);
        let integrated = adapter(1, false, false);
        let discrete = adapter(2, true, false);
        assert_eq!(best_hardware(std::slice::from_ref(&software)), None);
        assert_eq!(best_hardware(&[software.clone(), integrated.clone()]), Some(1));
        assert_eq!(best_hardware(&[software, integrated, discrete]), Some(2));
    }
}
