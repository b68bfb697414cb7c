//! The devices that tests run on.

use std::sync::OnceLock;

use warpwright::{Device, DeviceName};

/// The CPU, a wgpu adapter where there is one, software or not, and the interpreter of PTX where
/// it is built in. A missing device is a printed skip, and a failure where `WARPWRIGHT_REQUIRE`
/// names it.
pub fn devices() -> &'static [Device] {
    static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let names =
            [("cpu", DeviceName::Cpu), ("wgpu", DeviceName::Wgpu(None)), ("ptx", DeviceName::Ptx)];
        names.into_iter().filter_map(|(kind, name)| open(kind, name)).collect()
    })
}

/// The devices on which NaN and infinity are what they are; WGSL may assume that there are none.
pub fn ieee_devices() -> impl Iterator<Item = &'static Device> {
    devices().iter().filter(|device| is_ieee(device))
}

fn is_ieee(device: &Device) -> bool {
    !device.name().starts_with("wgpu")
}

/// What spoils every sum that it meets on a device.
pub fn poison(device: &Device) -> f32 {
    if is_ieee(device) { f32::NAN } else { 1e30 }
}

fn open(kind: &str, name: DeviceName) -> Option<Device> {
    match Device::open(name) {
        Ok(device) => Some(device),
        Err(error) => {
            let required = std::env::var("WARPWRIGHT_REQUIRE").unwrap_or_default();
            assert!(
                !required.split(',').any(|required| required == kind),
                "WARPWRIGHT_REQUIRE names {kind}: {error}"
            );
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// Runs one piece of code for the backend that a device holds.
macro_rules! on_backend {
    ($device:expr, |$backend:ident| $body:expr) => {
        match $device {
            warpwright::Device::Cpu($backend) => $body,
            #[cfg(feature = "wgpu")]
            warpwright::Device::Wgpu($backend) => $body,
            #[cfg(feature = "cuda")]
            warpwright::Device::Cuda($backend) => $body,
            other => panic!("{} is not known here", other.name()),
        }
    };
}

pub(crate) use on_backend;
