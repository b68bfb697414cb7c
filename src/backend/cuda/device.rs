//! A device with the modules that have been loaded on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::driver::{Driver, FunctionAttributes, FunctionHandle, ModuleHandle};
use super::stream::StreamState;
use crate::backend::Limits;
use crate::backend::kernel::VariantInfo;
use crate::{Error, Result};

/// What all streams of a device share.
#[derive(Debug)]
pub(super) struct DeviceState {
    pub driver: Arc<dyn Driver>,
    pub name: String,
    pub limits: Limits,
    /// The stream of [`Cuda::new`](super::Cuda::new).
    pub own_stream: Mutex<Weak<StreamState>>,
    /// One slot per variant, so that a kernel which is being assembled holds up nobody but those
    /// who wait for it.
    kernels: Mutex<HashMap<&'static str, Slot>>,
}

type Slot = Arc<Mutex<Option<Arc<Kernel>>>>;

impl DeviceState {
    /// # Errors
    ///
    /// [`Error::Unavailable`] where no PTX of this crate runs on the device.
    pub fn new(driver: Arc<dyn Driver>) -> Result<Self> {
        let properties = driver.properties();
        let name = driver.title();
        let limits = properties.limits();
        if limits.tier.is_none() {
            let (major, minor) = properties.compute_capability;
            return Err(Error::Unavailable {
                device: name,
                reason: format!("its compute capability is {major}.{minor}, 8.0 is needed"),
                instead: "use wgpu, which runs on it".to_owned(),
            });
        }
        Ok(Self { driver, name, limits, own_stream: Mutex::default(), kernels: Mutex::default() })
    }

    /// The kernel of a variant, loaded on its first use and kept.
    pub fn kernel(&self, info: &VariantInfo) -> Result<Arc<Kernel>> {
        let slot = Arc::clone(lock(&self.kernels).entry(info.name).or_default());
        let mut slot = lock(&slot);
        if let Some(kernel) = &*slot {
            return Ok(Arc::clone(kernel));
        }
        let kernel = Arc::new(Kernel::load(&self.driver, info)?);
        *slot = Some(Arc::clone(&kernel));
        Ok(kernel)
    }
}

/// A loaded kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    pub function: FunctionHandle,
    /// Dynamic shared memory that launches may ask for at this moment.
    dynamic_shared: Mutex<u32>,
    module: Module,
}

impl Kernel {
    fn load(driver: &Arc<dyn Driver>, info: &VariantInfo) -> Result<Self> {
        let named = |error| match error {
            Error::Driver { device, call, reason } => {
                Error::Driver { device, call, reason: format!("kernel {}: {reason}", info.name) }
            }
            other => other,
        };
        let handle = driver.load_module(&info.text()).map_err(named)?;
        let module = Module { driver: Arc::clone(driver), handle };
        // SAFETY: the module was just loaded by this driver.
        let (function, attributes) =
            unsafe { driver.function(handle, info.name) }.map_err(named)?;
        let FunctionAttributes { registers, local_bytes, shared_bytes, .. } = attributes;
        tracing::debug!(kernel = info.name, registers, local_bytes, shared_bytes, "loaded");
        let dynamic_shared = Mutex::new(attributes.dynamic_shared);
        Ok(Self { function, dynamic_shared, module })
    }

    /// Makes sure that a launch may ask for this much dynamic shared memory.
    pub fn allow_dynamic_shared(&self, bytes: u32) -> Result<()> {
        let mut allowed = lock(&self.dynamic_shared);
        if bytes > *allowed {
            // SAFETY: the function lives as long as `self.module`.
            unsafe { self.module.driver.allow_dynamic_shared(self.function, bytes) }?;
            *allowed = bytes;
        }
        Ok(())
    }
}

/// A module, unloaded when nobody needs it any more.
#[derive(Debug)]
struct Module {
    driver: Arc<dyn Driver>,
    handle: ModuleHandle,
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: the handle came from this driver, and this is its only owner.
        warn_on_error(unsafe { self.driver.unload_module(self.handle) });
    }
}

/// What goes wrong while something is given back can only be told, not returned.
pub(super) fn warn_on_error(result: Result<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "a resource of the device was not given back");
    }
}

/// Nothing under these locks is left half done by a panic.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
