//! A machine: a device's memory, and the kernels that run on it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::counters::{self, Counters};
use super::decode::{self, Code, Symbols, action::Place};
use super::execute::{self, Grid};
use super::fault::{Fault, FaultKind};
use super::memory::{Checks, Global};
use super::options::Options;
use crate::ast::{Initial, Module, Variable};
use crate::types::{Space, Type};

/// Bytes between the memories of two machines, so that an address tells its machine.
const SPAN: u64 = 1 << 40;
/// The most threads of a block.
const MOST_THREADS: u32 = 1024;
/// The most shared memory of a block, as on compute capability 9.0.
const MOST_SHARED: u64 = 227 * 1024;

/// A device that runs PTX, with memory of its own. Shared freely between threads; launches run when they
/// are made, and are over when [`launch`](Machine::launch) returns.
pub struct Machine {
    options: Options,
    memory: Global,
    launches: AtomicU64,
}

/// A module on a machine: its kernels decoded, its variables in the machine's memory.
#[derive(Debug)]
pub struct Loaded {
    kernels: HashMap<String, Kernel>,
}

/// A kernel of a loaded module.
pub struct Kernel {
    code: Code,
    constants: Vec<u8>,
}

/// How a kernel is launched.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Blocks along each axis.
    pub grid: [u32; 3],
    /// Threads of a block along each axis.
    pub block: [u32; 3],
    /// Blocks of a cluster along each axis, where the kernel runs in clusters.
    pub cluster: Option<[u32; 3]>,
    /// Bytes of shared memory besides those that the kernel declares.
    pub dynamic_shared: u32,
    /// Whether all blocks run at the same time and may wait for one another.
    pub cooperative: bool,
    /// The bytes of each parameter, in order.
    pub arguments: &'a [&'a [u8]],
}

impl Machine {
    /// The machine of this number. The memories of machines with different numbers do not overlap.
    pub fn new(number: u32, options: Options) -> Self {
        let checks = Checks { races: options.races, uninitialised: options.uninitialised };
        let memory = Global::new((u64::from(number) + 1) * SPAN, checks);
        Self { options, memory, launches: AtomicU64::new(0) }
    }

    /// How it runs kernels.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Memory, whose bytes count as unwritten.
    ///
    /// # Errors
    ///
    /// Where there is none left.
    pub fn allocate(&self, bytes: u64) -> Result<u64, Fault> {
        self.memory.allocate(bytes).map_err(host)
    }

    /// Gives memory back; whoever uses it from now on is told.
    ///
    /// # Errors
    ///
    /// Where no allocation begins at the address.
    pub fn free(&self, address: u64) -> Result<(), Fault> {
        self.memory.free(address).map_err(host)
    }

    /// Writes memory.
    ///
    /// # Errors
    ///
    /// Where the bytes do not lie within one allocation.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.memory.write(address, bytes).map_err(host)
    }

    /// Reads memory; bytes that were never written are zero.
    ///
    /// # Errors
    ///
    /// Where the bytes do not lie within one allocation.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        self.memory.read(address, bytes).map_err(host)
    }

    /// Copies within the memory, and with it what is unwritten.
    ///
    /// # Errors
    ///
    /// Where the bytes of an end do not lie within one allocation.
    pub fn copy(&self, destination: u64, source: u64, bytes: u64) -> Result<(), Fault> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.memory.copy(source, destination, bytes).map_err(host)
    }

    /// Decodes the kernels of a module and gives its variables a place.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Unsupported`] for what is in the grammar and is not executed yet.
    pub fn load(&self, module: &Module) -> Result<Loaded, Fault> {
        let (symbols, constants) = self.place(module)?;
        let mut kernels = HashMap::new();
        for entry in &module.entries {
            let code = decode::decode(entry, &symbols)?;
            kernels.insert(entry.name.clone(), Kernel { code, constants: constants.clone() });
        }
        Ok(Loaded { kernels })
    }

    /// Gives the module's variables their places.
    fn place(&self, module: &Module) -> Result<(Symbols, Vec<u8>), Fault> {
        let mut symbols = Symbols { places: HashMap::new(), shared: 0, dynamic: Vec::new() };
        let mut bank: Vec<u8> = Vec::new();
        for variable in &module.variables {
            let align = u64::from(variable.align.max(1));
            let found = match variable.space {
                Space::Shared if variable.extents.first() == Some(&0) => {
                    symbols.dynamic.push((variable.name.clone(), variable.align));
                    continue;
                }
                Space::Shared => {
                    let start = symbols.shared.next_multiple_of(align);
                    symbols.shared = start.saturating_add(variable.size());
                    (Place::Shared, start)
                }
                Space::Const => {
                    let start = (bank.len() as u64).next_multiple_of(align);
                    bank.resize(start as usize, 0);
                    bank.extend(initial(variable, &symbols)?);
                    (Place::Const, start)
                }
                Space::Global => {
                    let start = self.allocate(variable.size().max(1))?;
                    self.write(start, &initial(variable, &symbols)?)?;
                    (Place::Global, start)
                }
                _ => continue,
            };
            symbols.places.insert(variable.name.clone(), found);
        }
        Ok((symbols, bank))
    }

    /// Runs a kernel to its end.
    ///
    /// # Errors
    ///
    /// The first mistake that was found, or a launch that does not fit the kernel.
    pub fn launch(&self, kernel: &Kernel, launch: &Launch<'_>) -> Result<Counters, Fault> {
        let code = &kernel.code;
        check(code, launch)?;
        let arguments = pack(code, launch.arguments)?;
        let number = self.launches.fetch_add(1, Ordering::Relaxed);
        let grid = Grid {
            code,
            options: &self.options,
            constants: &kernel.constants,
            arguments,
            blocks: launch.grid,
            block: launch.block,
            cluster: launch.cluster.or(code.shape.cluster),
            cooperative: launch.cooperative,
            dynamic_shared: launch.dynamic_shared,
            multiprocessors: 132,
            number,
            progress: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        };
        let mut counters = code.blank.clone();
        counters.launches = vec![counters::Launch {
            grid: launch.grid,
            block: launch.block,
            cluster: grid.geometry().cluster,
            static_shared: u32::try_from(code.static_shared).unwrap_or(u32::MAX),
            dynamic_shared: launch.dynamic_shared,
        }];
        match grid.count() {
            0 => Ok(counters),
            _ => execute::run(&grid, &self.memory.begin_launch(), counters),
        }
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Loaded {
    /// The kernel of this name.
    pub fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.kernels.get(name)
    }
}

impl Kernel {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.code.name
    }

    /// Bytes of shared memory that it declares.
    pub fn static_shared(&self) -> u64 {
        self.code.static_shared
    }
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel").field("name", &self.code.name).finish_non_exhaustive()
    }
}

/// A refusal of the memory to the host.
fn host(fault: super::memory::Fault) -> Fault {
    let kind = match fault {
        super::memory::Fault::Freed { .. } => FaultKind::UseAfterFree,
        super::memory::Fault::OutOfMemory { .. } => FaultKind::Launch,
        _ => FaultKind::OutOfBounds,
    };
    Fault {
        kind,
        kernel: "the host".to_owned(),
        line: 0,
        block: None,
        thread: None,
        address: None,
        other: None,
        message: fault.to_string(),
    }
}

fn refused(code: &Code, message: String) -> Fault {
    Fault {
        kind: FaultKind::Launch,
        kernel: code.name.clone(),
        line: 0,
        block: None,
        thread: None,
        address: None,
        other: None,
        message,
    }
}

/// The rules of a launch.
fn check(code: &Code, launch: &Launch<'_>) -> Result<(), Fault> {
    let refuse = |message: String| Err(refused(code, message));
    let [x, y, z] = launch.block;
    let product =
        |extents: [u32; 3]| extents.iter().map(|&extent| u64::from(extent)).product::<u64>();
    let threads = product(launch.block);
    if threads == 0 || threads > u64::from(MOST_THREADS) || z > 64 {
        return refuse(format!(
            "blocks of {x} x {y} x {z} threads: 1 to {MOST_THREADS} are possible, 64 along z"
        ));
    }
    if let Some(required) = code.shape.required.filter(|required| *required != launch.block) {
        return refuse(format!(
            "the kernel requires blocks of {required:?} threads, the launch has {:?}",
            launch.block
        ));
    }
    if let Some(most) = code.shape.most.filter(|most| threads > product(*most)) {
        return refuse(format!(
            "the kernel takes blocks of at most {most:?} threads, the launch has {:?}",
            launch.block
        ));
    }
    let [_, height, depth] = launch.grid;
    let blocks = product(launch.grid);
    if height > 65_535 || depth > 65_535 || blocks.saturating_mul(threads) > u64::from(u32::MAX) {
        return refuse(format!(
            "a grid of {:?} blocks: at most 65535 along y and z, and 2^32 - 1 threads in all, are possible here",
            launch.grid
        ));
    }
    let shared = code.static_shared + u64::from(launch.dynamic_shared);
    if shared > MOST_SHARED {
        return refuse(format!(
            "{shared} bytes of shared memory, at most {MOST_SHARED} are possible"
        ));
    }
    if let Some(cluster) = launch.cluster.or(code.shape.cluster) {
        let fits = launch
            .grid
            .iter()
            .zip(cluster)
            .all(|(&grid, cluster)| cluster > 0 && grid.is_multiple_of(cluster));
        if !fits {
            return refuse(format!(
                "clusters of {cluster:?} blocks do not divide the grid {:?}",
                launch.grid
            ));
        }
        if product(cluster) > 1 {
            let message = "clusters of more than one block are not executed yet".to_owned();
            return Err(Fault { kind: FaultKind::Unsupported, ..refused(code, message) });
        }
    }
    Ok(())
}

/// The argument buffer: each parameter at its own alignment.
fn pack(code: &Code, arguments: &[&[u8]]) -> Result<Vec<u8>, Fault> {
    if arguments.len() != code.parameters.len() {
        let message =
            format!("{} parameters, {} arguments", code.parameters.len(), arguments.len());
        return Err(refused(code, message));
    }
    let mut buffer = vec![0; usize::try_from(code.parameter_bytes).unwrap_or(0)];
    for ((parameter, offset), argument) in code.parameters.iter().zip(arguments) {
        if argument.len() as u64 != parameter.size() {
            let message = format!(
                "the parameter {} has {} bytes, the argument {}",
                parameter.name,
                parameter.size(),
                argument.len()
            );
            return Err(refused(code, message));
        }
        let start = usize::try_from(*offset).unwrap_or(0);
        buffer[start..][..argument.len()].copy_from_slice(argument);
        let Some(pointer) = parameter.pointer else { continue };
        let address = argument.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
        if !address.is_multiple_of(u64::from(pointer.align.max(1))) {
            let message = format!(
                "the parameter {} promises multiples of {}, the address is {address:#x}",
                parameter.name, pointer.align
            );
            return Err(refused(code, message));
        }
    }
    Ok(buffer)
}

/// The bytes that a variable begins with.
fn initial(variable: &Variable, symbols: &Symbols) -> Result<Vec<u8>, Fault> {
    let size = usize::try_from(variable.size()).unwrap_or(usize::MAX);
    // The bank has 64 KiB and a machine's memory is no larger than the host's: refuse before allocating.
    if size > 1 << 30 {
        let message = format!("the variable {} has {size} bytes", variable.name);
        let fault = Fault {
            line: variable.line,
            ..host(super::memory::Fault::OutOfMemory { bytes: size as u64 })
        };
        return Err(Fault { message, ..fault });
    }
    let mut bytes = Vec::with_capacity(size);
    for value in &variable.initial {
        let bits = match value {
            Initial::Literal(value) => value.bits(variable.ty),
            Initial::Address { name, generic } => match symbols.places.get(name) {
                Some(&(place, address)) if *generic => execute::to_generic(place, address),
                Some(&(_, address)) => address,
                None => 0,
            },
        };
        let element = if variable.ty == Type::B128 { 16 } else { variable.ty.bytes() as usize };
        bytes.extend_from_slice(&u128::from(bits).to_le_bytes()[..element]);
    }
    bytes.resize(size, 0);
    Ok(bytes)
}
