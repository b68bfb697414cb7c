//! The interpreter of PTX as a CUDA device: for machines without one, and for tests everywhere.
//!
//! Launches run on the host's cores when they are made, and are over when the call returns:
//! streams keep their order by that alone, and a mistake of a kernel is the error of its launch.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use warpwright_ptx::interpreter as ptx;
use warpwright_ptx::interpreter::{Counters, Fault, FaultKind, Loaded, Machine, Options};

use super::Cuda;
use super::device::lock;
use super::driver::{
    DeviceHandle, Driver, EventHandle, FunctionAttributes, FunctionHandle, Launch, ModuleHandle,
    Properties, StreamHandle,
};
use crate::backend::kernel;
use crate::{Error, Result};

/// How messages name the device.
const NAME: &str = "ptx";

/// The machines that are there, so that one can copy from another.
static MACHINES: Mutex<Vec<(DeviceHandle, Weak<Machine>)>> = Mutex::new(Vec::new());

/// A device that runs PTX on the CPU, checks it strictly and counts what it does.
///
/// ```
/// use warpwright::backend::cuda::{Cuda, Interpreter};
/// use warpwright::ptx::interpreter::Options;
///
/// let interpreter = Interpreter::new(Options::default());
/// let device = Cuda::with_driver(interpreter.clone())?;
/// // … work on tensors of the device …
/// for counted in interpreter.take_counters() {
///     println!("{counted}");
/// }
/// # Ok::<(), warpwright::Error>(())
/// ```
#[derive(Debug)]
pub struct Interpreter {
    machine: Arc<Machine>,
    device: DeviceHandle,
    properties: Properties,
    state: Mutex<State>,
    last_handle: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    modules: HashMap<ModuleHandle, Arc<Loaded>>,
    /// The module and the name of each kernel.
    functions: HashMap<FunctionHandle, (ModuleHandle, String)>,
    events: HashMap<EventHandle, Instant>,
    /// One per kernel that has been launched, in the order of their first launches.
    counters: Vec<Counters>,
}

impl Interpreter {
    /// A new device, with memory of its own.
    pub fn new(options: Options) -> Arc<Self> {
        Self::with_properties(options, Self::properties())
    }

    /// The same with other limits than an A100's, from which plans choose otherwise.
    pub fn with_properties(options: Options, properties: Properties) -> Arc<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let machine = Arc::new(Machine::new(number, options));
        let device = DeviceHandle(u64::from(number) + 1);
        let mut machines = lock(&MACHINES);
        machines.retain(|(_, machine)| machine.strong_count() > 0);
        machines.push((device, Arc::downgrade(&machine)));
        Arc::new(Self {
            machine,
            device,
            properties,
            state: Mutex::default(),
            last_handle: AtomicU64::new(0),
        })
    }

    /// The interpreter as a CUDA device, with the default options.
    ///
    /// # Errors
    ///
    /// None in practice; the type is that of every way to open a device.
    pub fn open() -> Result<Cuda> {
        Cuda::with_driver(Self::new(Options::default()))
    }

    /// What each kernel has done since this was last asked, launches of one kernel together.
    pub fn take_counters(&self) -> Vec<Counters> {
        std::mem::take(&mut lock(&self.state).counters)
    }

    /// An A100's limits: what plans see, so that they choose as they would for a GPU of the tier
    /// that the kernels are written for.
    pub fn properties() -> Properties {
        Properties {
            ordinal: 0,
            name: format!("interpreter of PTX, {} threads", rayon::current_num_threads()),
            compute_capability: (8, 0),
            multiprocessors: 108,
            block_threads: 1024,
            shared_bytes: 163 << 10,
            grid: [i32::MAX as u32, 65_535, 65_535],
            memory_bytes: 1 << 32,
            pools: true,
            cooperative: true,
            clusters: false,
            driver_version: (12, 0),
        }
    }

    fn handle(&self) -> u64 {
        1 + self.last_handle.fetch_add(1, Ordering::Relaxed)
    }

    fn refused(&self, call: &'static str, reason: impl ToString) -> Error {
        Error::Driver { device: NAME.to_owned(), call, reason: reason.to_string() }
    }

    fn memory(&self, call: &'static str, result: Result<(), Fault>) -> Result<()> {
        result.map_err(|fault| self.refused(call, fault))
    }

    fn counted(&self, counters: Counters) {
        let mut state = lock(&self.state);
        let added = state.counters.iter_mut().any(|known| known.add(&counters));
        if !added {
            state.counters.push(counters);
        }
    }

    /// A fault with the lines of the templates beside those of the expanded text.
    fn told(&self, fault: &Fault) -> Error {
        let source = |line: u32| {
            let info = kernel::all().find(|info| info.name == fault.kernel)?;
            let (file, line) = info.source(line)?;
            Some(format!("kernels/{file}:{line}"))
        };
        let mut reason = fault.to_string();
        if let Some(place) = source(fault.line) {
            reason.push_str(&format!(" [{place}]"));
        }
        if let Some(place) = fault.other.and_then(|other| source(other.line)) {
            reason.push_str(&format!(" [the other: {place}]"));
        }
        let call = match fault.kind {
            FaultKind::Launch => "a launch",
            _ => "running a kernel",
        };
        self.refused(call, reason)
    }
}

impl Driver for Interpreter {
    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn title(&self) -> String {
        NAME.to_owned()
    }

    fn device(&self) -> DeviceHandle {
        self.device
    }

    fn make_current(&self) -> Result<()> {
        Ok(())
    }

    fn load_module(&self, text: &str) -> Result<ModuleHandle> {
        let call = "loading a module";
        let module = warpwright_ptx::parse(text).map_err(|error| self.refused(call, error))?;
        let loaded = self.machine.load(&module).map_err(|fault| self.refused(call, fault))?;
        let handle = ModuleHandle(self.handle());
        lock(&self.state).modules.insert(handle, Arc::new(loaded));
        Ok(handle)
    }

    unsafe fn unload_module(&self, module: ModuleHandle) -> Result<()> {
        let mut state = lock(&self.state);
        state.modules.remove(&module);
        state.functions.retain(|_, (of, _)| *of != module);
        Ok(())
    }

    unsafe fn function(
        &self,
        module: ModuleHandle,
        name: &str,
    ) -> Result<(FunctionHandle, FunctionAttributes)> {
        let call = "looking up a kernel";
        let mut state = lock(&self.state);
        let loaded = state.modules.get(&module).ok_or_else(|| self.refused(call, "no module"))?;
        let kernel = loaded.kernel(name).ok_or_else(|| self.refused(call, name))?;
        let attributes = FunctionAttributes {
            shared_bytes: u32::try_from(kernel.static_shared()).unwrap_or(u32::MAX),
            dynamic_shared: self.properties.shared_bytes,
            block_threads: self.properties.block_threads,
            // Registers are handed out by an assembler, of which there is none here.
            ..FunctionAttributes::default()
        };
        let handle = FunctionHandle(self.handle());
        state.functions.insert(handle, (module, name.to_owned()));
        Ok((handle, attributes))
    }

    unsafe fn allow_dynamic_shared(&self, _function: FunctionHandle, bytes: u32) -> Result<()> {
        let most = self.properties.shared_bytes;
        match bytes <= most {
            true => Ok(()),
            false => Err(self.refused("raising shared memory", format!("{bytes} of {most} bytes"))),
        }
    }

    fn create_stream(&self) -> Result<StreamHandle> {
        Ok(StreamHandle(self.handle()))
    }

    unsafe fn destroy_stream(&self, _stream: StreamHandle) -> Result<()> {
        Ok(())
    }

    unsafe fn synchronise(&self, _stream: StreamHandle) -> Result<()> {
        Ok(())
    }

    unsafe fn allocate(&self, bytes: u64, _stream: StreamHandle) -> Result<u64> {
        if bytes > self.properties.memory_bytes {
            let available = Some(self.properties.memory_bytes);
            return Err(Error::OutOfMemory { device: NAME.to_owned(), asked: bytes, available });
        }
        self.machine.allocate(bytes).map_err(|fault| self.refused("allocating", fault))
    }

    unsafe fn free(&self, address: u64, _stream: StreamHandle) -> Result<()> {
        self.memory("freeing", self.machine.free(address))
    }

    unsafe fn upload(&self, destination: u64, source: &[u8], _stream: StreamHandle) -> Result<()> {
        self.memory("uploading", self.machine.write(destination, source))
    }

    unsafe fn download(
        &self,
        destination: &mut [u8],
        source: u64,
        _stream: StreamHandle,
    ) -> Result<()> {
        self.memory("downloading", self.machine.read(source, destination))
    }

    unsafe fn copy(
        &self,
        destination: u64,
        source: u64,
        bytes: u64,
        _stream: StreamHandle,
    ) -> Result<()> {
        self.memory("copying", self.machine.copy(destination, source, bytes))
    }

    unsafe fn copy_from_peer(
        &self,
        destination: u64,
        peer: DeviceHandle,
        source: u64,
        bytes: u64,
        _stream: StreamHandle,
    ) -> Result<()> {
        let call = "copying from a peer";
        let machines = lock(&MACHINES);
        let found = machines.iter().find(|(device, _)| *device == peer);
        let Some(peer) = found.and_then(|(_, machine)| machine.upgrade()) else {
            return Err(self.refused(call, "there is no such device"));
        };
        drop(machines);
        let length = usize::try_from(bytes).map_err(|error| self.refused(call, error))?;
        let mut through = vec![0; length];
        self.memory(call, peer.read(source, &mut through))?;
        self.memory(call, self.machine.write(destination, &through))
    }

    unsafe fn allow_peer(&self, _peer: DeviceHandle) -> Result<()> {
        Ok(())
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        let (loaded, name) = {
            let state = lock(&self.state);
            let known = state.functions.get(&launch.function);
            let found = known.and_then(|(module, name)| {
                Some((Arc::clone(state.modules.get(module)?), name.clone()))
            });
            found.ok_or_else(|| self.refused("a launch", "there is no such kernel"))?
        };
        let kernel = loaded.kernel(&name).ok_or_else(|| self.refused("a launch", &name))?;
        let counters = self.machine.launch(
            kernel,
            &ptx::Launch {
                grid: launch.grid,
                block: launch.block,
                cluster: launch.cluster,
                dynamic_shared: launch.dynamic_shared,
                cooperative: launch.cooperative,
                arguments: launch.arguments,
            },
        );
        self.counted(counters.map_err(|fault| self.told(&fault))?);
        Ok(())
    }

    unsafe fn record(&self, _stream: StreamHandle) -> Result<EventHandle> {
        let handle = EventHandle(self.handle());
        lock(&self.state).events.insert(handle, Instant::now());
        Ok(handle)
    }

    unsafe fn wait(&self, _stream: StreamHandle, _event: EventHandle) -> Result<()> {
        Ok(())
    }

    unsafe fn is_done(&self, _event: EventHandle) -> Result<bool> {
        Ok(true)
    }

    unsafe fn elapsed(&self, start: EventHandle, end: EventHandle) -> Result<Duration> {
        let state = lock(&self.state);
        match (state.events.get(&start), state.events.get(&end)) {
            (Some(start), Some(end)) => Ok(end.duration_since(*start)),
            _ => Err(self.refused("timing", "there is no such event")),
        }
    }

    unsafe fn destroy_event(&self, event: EventHandle) -> Result<()> {
        lock(&self.state).events.remove(&event);
        Ok(())
    }
}
