//! The device of a command: one of the library's, or the reference.

use std::str::FromStr;

use warpwright::{Device, DeviceName, Error};

/// What `--device` names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// The f64 reference.
    Reference,
    /// A device of the library.
    Device(DeviceName),
}

impl FromStr for Target {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "reference" => Ok(Self::Reference),
            name => name.parse().map(Self::Device),
        }
    }
}

impl Target {
    /// Opens the device; the reference runs on the CPU.
    pub fn open(self) -> Result<Device, Error> {
        match self {
            Self::Reference => Device::open(DeviceName::Cpu),
            Self::Device(name) => Device::open(name),
        }
    }
}
