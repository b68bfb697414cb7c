//! The conformance programs of the crate warpwright-ptx, through the driver of a device: what a
//! GPU does, and what the interpreter takes it to do, is held to one definition.

use warpwright_ptx::conformance::{ENTRY, Program, Target, programs};

use crate::backend::cuda::{Cuda, Driver, FunctionHandle, Launch, ModuleHandle, StreamHandle};
use crate::{Error, Result};

/// How a program went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every word is what it must be.
    Passed,
    /// The first word that is not, or the driver's refusal.
    Failed(String),
    /// The device is older than the program, or does not execute it yet.
    LeftOut(String),
}

/// Runs every program on a device and hands the verdicts over one by one.
pub fn run(device: &Cuda, mut report: impl FnMut(&Program, Verdict)) {
    let capability = device.properties().compute_capability;
    for program in programs() {
        let verdict = match admits(capability, program.target) {
            false => Verdict::LeftOut(format!("it is for {}", program.target.name())),
            true => match output(device, &program) {
                Ok(bytes) => match program.check(&bytes) {
                    Ok(()) => Verdict::Passed,
                    Err(mismatch) => Verdict::Failed(mismatch.to_string()),
                },
                Err(error) => Verdict::Failed(error.to_string()),
            },
        };
        report(&program, verdict);
    }
}

fn admits(capability: (u32, u32), target: Target) -> bool {
    match target {
        Target::Sm80 => capability >= (8, 0),
        Target::Sm90 => capability >= (9, 0),
        Target::Sm90a => capability == (9, 0),
    }
}

/// What the program writes.
fn output(device: &Cuda, program: &Program) -> Result<Vec<u8>> {
    let (driver, stream) = (device.stream().driver(), device.stream().handle());
    let module = Module { driver, handle: driver.load_module(&program.text)? };
    // SAFETY: the module was just loaded by this driver.
    let (function, _) = unsafe { driver.function(module.handle, ENTRY) }?;
    let input = Memory::new(driver, stream, &program.input)?;
    let output = Memory::new(driver, stream, &vec![0; program.output_bytes()])?;
    launch(driver, stream, function, program, [input.address, output.address])?;
    let mut bytes = vec![0; program.output_bytes()];
    // SAFETY: the output has that many bytes, and the download waits for the launch.
    unsafe { driver.download(&mut bytes, output.address, stream) }?;
    Ok(bytes)
}

fn launch(
    driver: &dyn Driver,
    stream: StreamHandle,
    function: FunctionHandle,
    program: &Program,
    addresses: [u64; 2],
) -> Result<()> {
    let [input, output] = addresses.map(u64::to_le_bytes);
    let launch = Launch {
        function,
        grid: [program.grid, 1, 1],
        block: [program.block, 1, 1],
        cluster: (program.cluster > 1).then_some([program.cluster, 1, 1]),
        dynamic_shared: 0,
        cooperative: false,
        arguments: &[&input, &output],
        stream,
    };
    // SAFETY: the kernel takes two pointers; the memory lives until the download has waited.
    unsafe { driver.launch(&launch) }
}

/// A module of the driver, unloaded in the end.
struct Module<'a> {
    driver: &'a dyn Driver,
    handle: ModuleHandle,
}

impl Drop for Module<'_> {
    fn drop(&mut self) {
        // SAFETY: the module is this driver's, and nobody else has its handle.
        told(unsafe { self.driver.unload_module(self.handle) });
    }
}

/// Memory of the device that begins with some bytes, freed in the end.
struct Memory<'a> {
    driver: &'a dyn Driver,
    stream: StreamHandle,
    address: u64,
}

impl<'a> Memory<'a> {
    fn new(driver: &'a dyn Driver, stream: StreamHandle, bytes: &[u8]) -> Result<Self> {
        // SAFETY: the stream is alive; the memory is freed in its order.
        let address = unsafe { driver.allocate(bytes.len().max(1) as u64, stream) }?;
        let memory = Self { driver, stream, address };
        if !bytes.is_empty() {
            // SAFETY: the memory has as many bytes.
            unsafe { driver.upload(address, bytes, stream) }?;
        }
        Ok(memory)
    }
}

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        // SAFETY: the memory came from this driver and stream.
        told(unsafe { self.driver.free(self.address, self.stream) });
    }
}

/// What goes wrong while something is given back can only be told.
fn told(result: Result<(), Error>) {
    if let Err(error) = result {
        tracing::warn!(%error, "a resource of the device was not given back");
    }
}
