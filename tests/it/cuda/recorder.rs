//! A CUDA driver that runs nothing: memory lies in the host, launches are written down.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use warpwright::backend::cuda::{
    DeviceHandle, Driver, EventHandle, FunctionAttributes, FunctionHandle, Launch, ModuleHandle,
    Properties, StreamHandle,
};
use warpwright::{Error, Result};

/// One call that the driver got.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    Load(String),
    Unload,
    CreateStream,
    DestroyStream,
    Synchronise,
    Allocate(u64),
    Free,
    Upload,
    Download,
    Record,
    Wait,
    Launch(Launched),
}

/// A launch, with the arguments under the names of the kernel's `.param` list.
#[derive(Clone, Debug, PartialEq)]
pub struct Launched {
    pub kernel: String,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub stream: StreamHandle,
    pub arguments: BTreeMap<String, u64>,
}

impl Launched {
    /// An argument: an address or a whole number, or the bits of an f32.
    pub fn get(&self, name: &str) -> u64 {
        self.arguments.get(name).copied().unwrap_or_else(|| panic!("{} has no {name}", self.kernel))
    }
}

#[derive(Debug, Default)]
pub struct Recorder {
    properties: Properties,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    /// Living allocations by address.
    memory: BTreeMap<u64, Vec<u8>>,
    modules: BTreeMap<u64, String>,
    events: usize,
    last_handle: u64,
    /// Launches of kernels whose name begins so fail.
    failing: Option<&'static str>,
    /// Allocations of more bytes fail.
    largest: Option<u64>,
}

impl State {
    fn handle(&mut self) -> u64 {
        self.last_handle += 1;
        self.last_handle
    }

    /// The bytes from an address on, inside one living allocation.
    fn bytes(&mut self, address: u64, length: usize) -> &mut [u8] {
        let found = self.memory.range_mut(..=address).next_back();
        let (start, memory) = found.expect("an address below all memory");
        let offset = (address - start) as usize;
        memory.get_mut(offset..offset + length).expect("bytes outside an allocation")
    }
}

impl Recorder {
    pub fn new(compute_capability: (u32, u32)) -> Self {
        let mut properties = Properties::default();
        properties.name = "recorder".to_owned();
        properties.compute_capability = compute_capability;
        properties.multiprocessors = 132;
        properties.block_threads = 1024;
        properties.shared_bytes = 227 << 10;
        properties.grid = [i32::MAX as u32, 65_535, 65_535];
        properties.memory_bytes = 1 << 36;
        Self { properties, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calls since the last time this was asked.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state().calls)
    }

    /// The launches since the last time the calls were asked for.
    pub fn launches(&self) -> Vec<Launched> {
        let launched = |call| match call {
            Call::Launch(launched) => Some(launched),
            _ => None,
        };
        self.calls().into_iter().filter_map(launched).collect()
    }

    pub fn fail_launches_of(&self, kernel: &'static str) {
        self.state().failing = Some(kernel);
    }

    pub fn fail_allocations_over(&self, bytes: u64) {
        self.state().largest = Some(bytes);
    }

    pub fn allocations(&self) -> usize {
        self.state().memory.len()
    }

    /// Where the allocation lies that holds an address, and its length.
    pub fn allocation_of(&self, address: u64) -> (u64, u64) {
        let state = self.state();
        let (start, memory) = state.memory.range(..=address).next_back().expect("no memory there");
        (*start, memory.len() as u64)
    }

    pub fn living_events(&self) -> usize {
        self.state().events
    }
}

/// The `.param` list of a kernel: names and sizes in bytes.
fn parameters(text: &str) -> Vec<(String, usize)> {
    let entry = text.split_once(".entry").expect("no entry").1;
    let list = entry.split_once('(').expect("no list").1;
    let code = list.lines().map(|line| line.split("//").next().unwrap_or_default().trim());
    let list = code.take_while(|line| *line != ")");
    list.filter_map(|line| {
        let declaration = line.trim_end_matches(',');
        let words: Vec<&str> = declaration.split_whitespace().collect();
        let bytes = match *words.get(1)? {
            ".u64" => 8,
            ".u32" | ".f32" => 4,
            other => panic!("the recorder does not know {other}"),
        };
        Some(((*words.last()?).to_owned(), bytes))
    })
    .collect()
}

impl Driver for Recorder {
    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn device(&self) -> DeviceHandle {
        DeviceHandle(7)
    }

    fn make_current(&self) -> Result<()> {
        Ok(())
    }

    fn load_module(&self, text: &str) -> Result<ModuleHandle> {
        let mut state = self.state();
        let handle = state.handle();
        let name = text.split_once(".entry").expect("no entry").1.split('(').next().unwrap();
        state.calls.push(Call::Load(name.trim().to_owned()));
        state.modules.insert(handle, text.to_owned());
        Ok(ModuleHandle(handle))
    }

    unsafe fn unload_module(&self, module: ModuleHandle) -> Result<()> {
        let mut state = self.state();
        state.modules.remove(&module.0).expect("no such module");
        state.calls.push(Call::Unload);
        Ok(())
    }

    unsafe fn function(
        &self,
        module: ModuleHandle,
        name: &str,
    ) -> Result<(FunctionHandle, FunctionAttributes)> {
        assert!(self.state().modules[&module.0].contains(name), "no kernel {name}");
        Ok((FunctionHandle(module.0), FunctionAttributes::default()))
    }

    unsafe fn allow_dynamic_shared(&self, _function: FunctionHandle, _bytes: u32) -> Result<()> {
        Ok(())
    }

    fn create_stream(&self) -> Result<StreamHandle> {
        let mut state = self.state();
        state.calls.push(Call::CreateStream);
        Ok(StreamHandle(state.handle()))
    }

    unsafe fn destroy_stream(&self, _stream: StreamHandle) -> Result<()> {
        self.state().calls.push(Call::DestroyStream);
        Ok(())
    }

    unsafe fn synchronise(&self, _stream: StreamHandle) -> Result<()> {
        self.state().calls.push(Call::Synchronise);
        Ok(())
    }

    unsafe fn allocate(&self, bytes: u64, _stream: StreamHandle) -> Result<u64> {
        let mut state = self.state();
        if let Some(largest) = state.largest.filter(|&largest| bytes > largest) {
            let device = "cuda:0 (recorder)".to_owned();
            return Err(Error::OutOfMemory { device, asked: bytes, available: Some(largest) });
        }
        state.calls.push(Call::Allocate(bytes));
        let address = 0x7000_0000_0000 + (state.handle() << 32);
        state.memory.insert(address, vec![0xA5; bytes as usize]);
        Ok(address)
    }

    unsafe fn free(&self, address: u64, _stream: StreamHandle) -> Result<()> {
        let mut state = self.state();
        state.memory.remove(&address).expect("freed twice, or never allocated");
        state.calls.push(Call::Free);
        Ok(())
    }

    unsafe fn upload(&self, destination: u64, source: &[u8], _stream: StreamHandle) -> Result<()> {
        let mut state = self.state();
        state.calls.push(Call::Upload);
        state.bytes(destination, source.len()).copy_from_slice(source);
        Ok(())
    }

    unsafe fn download(
        &self,
        destination: &mut [u8],
        source: u64,
        _stream: StreamHandle,
    ) -> Result<()> {
        let mut state = self.state();
        state.calls.push(Call::Download);
        destination.copy_from_slice(state.bytes(source, destination.len()));
        Ok(())
    }

    unsafe fn copy(
        &self,
        destination: u64,
        source: u64,
        bytes: u64,
        _stream: StreamHandle,
    ) -> Result<()> {
        let mut state = self.state();
        let copied = state.bytes(source, bytes as usize).to_vec();
        state.bytes(destination, copied.len()).copy_from_slice(&copied);
        Ok(())
    }

    unsafe fn copy_from_peer(
        &self,
        _destination: u64,
        _peer: DeviceHandle,
        _source: u64,
        _bytes: u64,
        _stream: StreamHandle,
    ) -> Result<()> {
        unimplemented!("the recorder has no peers")
    }

    unsafe fn allow_peer(&self, _peer: DeviceHandle) -> Result<()> {
        unimplemented!("the recorder has no peers")
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        let mut state = self.state();
        let text = &state.modules[&launch.function.0];
        let kernel = text.split_once(".entry").unwrap().1.split('(').next().unwrap().trim();
        let parameters = parameters(text);
        assert_eq!(parameters.len(), launch.arguments.len(), "{kernel}: number of arguments");
        let arguments = parameters.iter().zip(launch.arguments).map(|((name, bytes), argument)| {
            assert_eq!(*bytes, argument.len(), "{kernel}: size of {name}");
            let mut padded = [0; 8];
            padded[..argument.len()].copy_from_slice(argument);
            (name.clone(), u64::from_le_bytes(padded))
        });
        let launched = Launched {
            kernel: kernel.to_owned(),
            grid: launch.grid,
            block: launch.block,
            stream: launch.stream,
            arguments: arguments.collect(),
        };
        assert!(launch.cluster.is_none() && !launch.cooperative && launch.dynamic_shared == 0);
        if state.failing.is_some_and(|failing| launched.kernel.starts_with(failing)) {
            return Err(Error::Driver {
                device: "cuda:0 (recorder)".to_owned(),
                call: "launch",
                reason: "it was told to fail".to_owned(),
            });
        }
        state.calls.push(Call::Launch(launched));
        Ok(())
    }

    unsafe fn record(&self, _stream: StreamHandle) -> Result<EventHandle> {
        let mut state = self.state();
        state.calls.push(Call::Record);
        state.events += 1;
        Ok(EventHandle(state.handle()))
    }

    unsafe fn wait(&self, _stream: StreamHandle, _event: EventHandle) -> Result<()> {
        self.state().calls.push(Call::Wait);
        Ok(())
    }

    unsafe fn is_done(&self, _event: EventHandle) -> Result<bool> {
        Ok(true)
    }

    unsafe fn elapsed(&self, start: EventHandle, end: EventHandle) -> Result<Duration> {
        Ok(Duration::from_millis(end.0 - start.0))
    }

    unsafe fn destroy_event(&self, _event: EventHandle) -> Result<()> {
        self.state().events -= 1;
        Ok(())
    }
}
