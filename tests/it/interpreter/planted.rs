//! An interpreter whose kernels have been tampered with: the launcher is the shipped one, the text
//! is not.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use warpwright::Result;
use warpwright::backend::cuda::{
    DeviceHandle, Driver, EventHandle, FunctionAttributes, FunctionHandle, Interpreter, Launch,
    ModuleHandle, Properties, StreamHandle,
};

/// Changes a kernel's text.
pub type Edit = Box<dyn Fn(&str) -> String + Send + Sync>;

pub struct Planted {
    interpreter: Arc<Interpreter>,
    edit: Edit,
}

impl Planted {
    pub fn new(interpreter: Arc<Interpreter>, edit: Edit) -> Self {
        Self { interpreter, edit }
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

    fn load_module(&self, text: &str) -> Result<ModuleHandle> {
        self.interpreter.load_module(&(self.edit)(text))
    }

    fn create_stream(&self) -> Result<StreamHandle> {
        self.interpreter.create_stream()
    }

    handed_on! {
        unload_module(module: ModuleHandle) -> Result<()>;
        function(module: ModuleHandle, name: &str) -> Result<(FunctionHandle, FunctionAttributes)>;
        allow_dynamic_shared(function: FunctionHandle, bytes: u32) -> Result<()>;
        destroy_stream(stream: StreamHandle) -> Result<()>;
        synchronise(stream: StreamHandle) -> Result<()>;
        allocate(bytes: u64, stream: StreamHandle) -> Result<u64>;
        free(address: u64, stream: StreamHandle) -> Result<()>;
        upload(destination: u64, source: &[u8], stream: StreamHandle) -> Result<()>;
        download(destination: &mut [u8], source: u64, stream: StreamHandle) -> Result<()>;
        copy(destination: u64, source: u64, bytes: u64, stream: StreamHandle) -> Result<()>;
        copy_from_peer(destination: u64, peer: DeviceHandle, source: u64, bytes: u64, stream: StreamHandle) -> Result<()>;
        launch(launch: &Launch<'_>) -> Result<()>;
        record(stream: StreamHandle) -> Result<EventHandle>;
        wait(stream: StreamHandle, event: EventHandle) -> Result<()>;
        elapsed(start: EventHandle, end: EventHandle) -> Result<Duration>;
        destroy_event(event: EventHandle) -> Result<()>;
    }
}
