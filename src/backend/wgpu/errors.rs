//! wgpu's errors as ours.
//!
//! An error that no scope catches ends in the device's handler, which panics by default. So
//! every call that can fail stands between scopes; the handler of a borrowed device is never
//! replaced.

use ::wgpu::ErrorFilter;

use super::Wgpu;
use crate::backend::Backend;
use crate::{Error, Result};

impl Wgpu {
    /// Runs `body` between error scopes. `asked` is the memory that it asks for, for messages.
    pub(crate) fn scoped<R>(
        &self,
        call: &'static str,
        asked: u64,
        body: impl FnOnce() -> R,
    ) -> Result<R> {
        self.check_alive()?;
        let device = self.device();
        let internal = device.push_error_scope(ErrorFilter::Internal);
        let memory = device.push_error_scope(ErrorFilter::OutOfMemory);
        let validation = device.push_error_scope(ErrorFilter::Validation);
        let result = body();
        // Scopes are popped in the reverse order. On native the futures are ready at once.
        let validation = pollster::block_on(validation.pop());
        let memory = pollster::block_on(memory.pop());
        let internal = pollster::block_on(internal.pop());
        self.check_alive()?;
        match memory.or(validation).or(internal) {
            None => Ok(result),
            Some(error) => Err(self.error(call, asked, &error)),
        }
    }

    fn error(&self, call: &'static str, asked: u64, error: &::wgpu::Error) -> Error {
        match error {
            ::wgpu::Error::OutOfMemory { .. } => {
                Error::OutOfMemory { device: self.name(), asked, available: None }
            }
            ::wgpu::Error::Validation { .. } | ::wgpu::Error::Internal { .. } => {
                Error::Driver { device: self.name(), call, reason: error.to_string() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wgpu_refuses_becomes_an_error() {
        let Ok(device) = Wgpu::first() else { return };
        let refused = device.scoped("a test", 0, || {
            device.device().create_buffer(&::wgpu::BufferDescriptor {
                label: None,
                size: 16,
                usage: ::wgpu::BufferUsages::empty(),
                mapped_at_creation: false,
            })
        });
        assert!(matches!(refused, Err(Error::Driver { call: "a test", .. })), "{refused:?}");
    }

    #[test]
    fn a_lost_device_is_an_error() {
        let Ok(device) = Wgpu::first() else { return };
        device.device().destroy();
        let refused = device.synchronise().and_then(|()| device.upload(&[1, 2, 3]));
        assert!(matches!(refused, Err(Error::DeviceLost { .. })), "{refused:?}");
    }
}
