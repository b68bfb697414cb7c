//! An interpreter whose kernels have been tampered with: the launcher is the shipped one, the text
//! is not. It also tells how much memory is taken, and fails when it is asked to.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use warpwright::backend::cuda::{
    DeviceHandle, Driver, EventHandle, FunctionAttributes, FunctionHandle, Interpreter, Launch,
    ModuleHandle, Properties, StreamHandle,
};
use warpwright::{Error, Result};

/// Changes a kernel's text.
pub type Edit = Box<dyn Fn(&str) -> String + Send + Sync>;

pub struct Planted {
    interpreter: Arc<Interpreter>,
    edit: Edit,
    meter: Mutex<Meter>,
}

/// What is allocated, and what is to fail.
#[derive(Default)]
struct Meter {
    live: HashMap<u64, u64>,
    bytes: u64,
    peak: u64,
    /// Launches, or allocations, until one fails.
    launches: Option<u64>,
    allocations: Option<u64>,
}

/// Counts down to a failure.
fn fails(left: &mut Option<u64>) -> bool {
    let now = *left == Some(0);
    *left = left.filter(|_| !now).map(|left| left - 1);
    now
}

impl Planted {
    pub fn new(interpreter: Arc<Interpreter>, edit: Edit) -> Self {
        Self { interpreter, edit, meter: Mutex::default() }
    }

    /// With the kernels as they are.
    pub fn untouched(interpreter: Arc<Interpreter>) -> Arc<Self> {
        Arc::new(Self::new(interpreter, Box::new(str::to_owned)))
    }

    /// The most bytes that were allocated at once since it was last asked.
    pub fn peak(&self) -> u64 {
        let mut meter = self.meter();
        let peak = meter.peak;
        meter.peak = meter.bytes;
        peak
    }

    /// Fails once, after so many launches.
    pub fn fail_launch(&self, after: u64) {
        self.meter().launches = Some(after);
    }

    /// Fails once, after so many allocations.
    pub fn fail_allocation(&self, after: u64) {
        self.meter().allocations = Some(after);
    }

    /// Whether what was to fail still waits for its turn.
    pub fn waits(&self) -> bool {
        let meter = self.meter();
        meter.launches.is_some() || meter.allocations.is_some()
    }

    fn meter(&self) -> std::sync::MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.interpreter.fmt(f)
    }
}

/// Hands calls on.
macro_rules! handed_on {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            // SAFETY: the caller's promises hold for the inner driver, whose handles these are.
            unsafe fn $name(&self, $($argument: $type),*) -> $result {
                // SAFETY: see above.
                unsafe { self.interpreter.$name($($argument),*) }
            }
        )*
    };
}

impl Driver for Planted {
    fn properties(&self) -> &Properties {
        self.interpreter.properties()
    }

    fn title(&self) -> String {
        self.interpreter.title()
    }

    fn device(&self) -> DeviceHandle {
        self.interpreter.device()
    }

    fn make_current(&self) -> Result<()> {
        self.interpreter.make_current()
    }

    fn load_module(&self, text: &str) -> Result<ModuleHandle> {
        self.interpreter.load_module(&(self.edit)(text))
    }

    fn create_stream(&self) -> Result<StreamHandle> {
        self.interpreter.create_stream()
    }

    // SAFETY: as the interpreter's own.
    unsafe fn allocate(&self, bytes: u64, stream: StreamHandle) -> Result<u64> {
        if fails(&mut self.meter().allocations) {
            return Err(Error::OutOfMemory {
                device: "ptx".to_owned(),
                asked: bytes,
                available: Some(0),
            });
        }
        // SAFETY: the caller's promises hold for the inner driver.
        let address = unsafe { self.interpreter.allocate(bytes, stream) }?;
        let mut meter = self.meter();
        meter.live.insert(address, bytes);
        meter.bytes += bytes;
        meter.peak = meter.peak.max(meter.bytes);
        Ok(address)
    }

    // SAFETY: as the interpreter's own.
    unsafe fn free(&self, address: u64, stream: StreamHandle) -> Result<()> {
        let mut meter = self.meter();
        let bytes = meter.live.remove(&address).unwrap_or(0);
        meter.bytes -= bytes;
        drop(meter);
        // SAFETY: the caller's promises hold for the inner driver.
        unsafe { self.interpreter.free(address, stream) }
    }

    // SAFETY: as the interpreter's own.
    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        if fails(&mut self.meter().launches) {
            return Err(Error::DeviceLost {
                device: "ptx".to_owned(),
                reason: "as the test wants it".to_owned(),
            });
        }
        // SAFETY: the caller's promises hold for the inner driver.
        unsafe { self.interpreter.launch(launch) }
    }

    handed_on! {
        unload_module(module: ModuleHandle) -> Result<()>;
        function(module: ModuleHandle, name: &str) -> Result<(FunctionHandle, FunctionAttributes)>;
        allow_dynamic_shared(function: FunctionHandle, bytes: u32) -> Result<()>;
        destroy_stream(stream: StreamHandle) -> Result<()>;
        synchronise(stream: StreamHandle) -> Result<()>;
        upload(destination: u64, source: &[u8], stream: StreamHandle) -> Result<()>;
        download(destination: &mut [u8], source: u64, stream: StreamHandle) -> Result<()>;
        copy(destination: u64, source: u64, bytes: u64, stream: StreamHandle) -> Result<()>;
        copy_from_peer(destination: u64, peer: DeviceHandle, source: u64, bytes: u64, stream: StreamHandle) -> Result<()>;
        allow_peer(peer: DeviceHandle) -> Result<()>;
        record(stream: StreamHandle) -> Result<EventHandle>;
        wait(stream: StreamHandle, event: EventHandle) -> Result<()>;
        is_done(event: EventHandle) -> Result<bool>;
        elapsed(start: EventHandle, end: EventHandle) -> Result<Duration>;
        destroy_event(event: EventHandle) -> Result<()>;
    }
}
