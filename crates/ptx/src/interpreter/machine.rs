//! A machine: a device's memory, and the kernels that run on it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::counters::{self, Counters, Gpu, Occupancy};
use super::decode::{self, Code};
use super::execute::{self, Grid};
use super::fault::{Fault, FaultKind};
use super::memory::{Checks, Global};
use super::options::Options;
use super::row::LANES;
use super::variables;
use crate::ast::Module;

/// Bytes between the memories of two machines, so that an address tells its machine.
const SPAN: u64 = 1 << 40;
/// As many memories lie below the windows of the other spaces; numbers begin again then.
const SPANS: u32 = (1 << 16) - 1;
/// The most threads of a block.
const MOST_THREADS: u32 = 1024;
/// The most blocks of a cluster, with the attribute that more than eight need.
const MOST_IN_CLUSTER: u32 = 16;
/// The most warps of a grid: their numbers must fit the stamps of accesses.
const MOST_WARPS: u64 = 1 << 26;
/// The most shared memory of a block, as on compute capability 9.0.
const MOST_SHARED: u64 = 227 * 1024;
/// The most local memory of a thread.
const MOST_LOCAL: u64 = 512 * 1024;
/// The most bytes of parameters.
const MOST_PARAMETERS: u64 = 32_764;

/// A device that runs PTX, with memory of its own. Shared freely between threads; launches run when they
/// are made, and are over when [`launch`](Machine::launch) returns.
///
/// ```
/// use warpwright_ptx::interpreter::{FaultKind, Machine, Options};
///
/// let machine = Machine::new(0, Options::default());
/// let buffer = machine.allocate(8)?;
/// machine.write(buffer, &[1, 2, 3, 4])?; // the other four bytes stay unwritten
/// let mut bytes = [0; 4];
/// machine.read(buffer, &mut bytes)?;
/// assert_eq!(bytes, [1, 2, 3, 4]);
///
/// // Whoever passes the end of an allocation, or its life, is told.
/// assert_eq!(machine.write(buffer + 6, &[0; 4]).unwrap_err().kind, FaultKind::OutOfBounds);
/// machine.free(buffer)?;
/// assert_eq!(machine.read(buffer, &mut bytes).unwrap_err().kind, FaultKind::UseAfterFree);
/// # Ok::<(), warpwright_ptx::interpreter::Fault>(())
/// ```
pub struct Machine {
    options: Options,
    memory: Global,
    launches: AtomicU64,
}

/// A module on a machine: its kernels decoded, its variables in the machine's memory, where they keep their
/// values from launch to launch, as long as the machine lives. Loading a module again gives other variables.
#[derive(Debug)]
pub struct Loaded {
    kernels: HashMap<String, Kernel>,
}

/// A kernel of a loaded module, for launches on the machine that loaded it.
pub struct Kernel {
    code: Code,
    constants: Vec<u8>,
}

/// How a kernel is launched.
///
/// ```
/// use warpwright_ptx::interpreter::{Launch, Machine, Options};
///
/// let module = warpwright_ptx::parse("
/// .version 7.0
/// .target sm_80
/// .address_size 64
/// .extern .shared .align 4 .b8 words[];
/// .visible .entry reverse(.param .u64 .ptr .global .align 4 x, .param .u32 last)
/// {
///     .reg .b32 %thread, %last, %from, %at, %word; .reg .b64 %x, %mine;
///     ld.param.u64 %x, [x];
///     cvta.to.global.u64 %x, %x;
///     ld.param.u32 %last, [last];
///     mov.u32 %thread, %tid.x;
///     mad.wide.u32 %mine, %thread, 4, %x;
///     ld.global.b32 %word, [%mine];
///     mov.u32 %at, words;
///     mad.lo.u32 %from, %thread, 4, %at;
///     st.shared.b32 [%from], %word;
///     bar.sync 0;
///     sub.u32 %from, %last, %thread;
///     mad.lo.u32 %from, %from, 4, %at;
///     ld.shared.b32 %word, [%from];
///     st.global.b32 [%mine], %word;
///     ret;
/// }")?;
/// let machine = Machine::new(0, Options::default());
/// let loaded = machine.load(&module)?;
/// let kernel = loaded.kernel("reverse").ok_or("no such kernel")?;
/// let x = machine.allocate(4 * 64)?;
/// machine.write(x, &(0..64).flat_map(u32::to_le_bytes).collect::<Vec<_>>())?;
///
/// let launch = Launch {
///     grid: [1, 1, 1],
///     block: [64, 1, 1],
///     cluster: None,
///     dynamic_shared: 4 * 64, // `words`
///     cooperative: false,
///     arguments: &[&x.to_le_bytes(), &63u32.to_le_bytes()],
/// };
/// machine.launch(kernel, &launch)?;
/// let mut first = [0; 4];
/// machine.read(x, &mut first)?;
/// assert_eq!(u32::from_le_bytes(first), 63);
///
/// // What does not fit the kernel is refused before anything runs.
/// let none = Launch { arguments: &[], ..launch };
/// let fault = machine.launch(kernel, &none).unwrap_err();
/// assert_eq!(fault.to_string(), "kernel reverse: launch refused: 2 parameters, 0 arguments");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    /// Whether all blocks run at the same time and may wait for one another: as many as an H100 holds at once.
    pub cooperative: bool,
    /// The bytes of each parameter, in order, little-endian.
    pub arguments: &'a [&'a [u8]],
}

impl Machine {
    /// The machine of this number. The memories of machines with different numbers do not overlap, as long as
    /// the numbers are below 65,535.
    pub fn new(number: u32, options: Options) -> Self {
        let checks = Checks { races: options.races, uninitialised: options.uninitialised };
        let memory = Global::new(u64::from(number % SPANS + 1) * SPAN, checks);
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

    /// Writes memory. A launch that runs meanwhile may see the bytes or not.
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
    /// [`FaultKind::Unsupported`] for what is in the grammar and is not executed, [`FaultKind::Launch`] for what
    /// no device has: 64 KiB of `.const`, 256 MiB of `.global` and 32,764 bytes of parameters at most.
    pub fn load(&self, module: &Module) -> Result<Loaded, Fault> {
        let (symbols, constants) = variables::place(module, &self.memory)?;
        let mut kernels = HashMap::new();
        for entry in &module.entries {
            let code = decode::decode(entry, &symbols)?;
            fits(&code)?;
            kernels.insert(entry.name.clone(), Kernel { code, constants: constants.clone() });
        }
        Ok(Loaded { kernels })
    }

    /// Runs a kernel to its end, and gives what it did.
    ///
    /// # Errors
    ///
    /// The first mistake that was found, or a launch that does not fit the kernel.
    pub fn launch(&self, kernel: &Kernel, launch: &Launch<'_>) -> Result<Counters, Fault> {
        let code = &kernel.code;
        let device = &counters::H100;
        check(code, launch, device)?;
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
            multiprocessors: device.sms,
            number,
            progress: AtomicU64::new(0),
            ran: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        };
        let mut counters = code.blank.clone();
        counters.launches = vec![shape(code, launch, grid.geometry().cluster)];
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

/// What no device has.
fn fits(code: &Code) -> Result<(), Fault> {
    let rules = [
        ("parameters", code.parameter_bytes, MOST_PARAMETERS),
        ("local memory of a thread", code.local_bytes, MOST_LOCAL),
        ("shared memory of a block", code.static_shared, MOST_SHARED),
    ];
    match rules.into_iter().find(|(_, bytes, most)| bytes > most) {
        Some((what, bytes, most)) => {
            Err(refused(code, format!("{bytes} bytes of {what}, at most {most} are possible")))
        }
        None => Ok(()),
    }
}

/// The shape of the launch as it is counted.
fn shape(code: &Code, launch: &Launch<'_>, cluster: u32) -> counters::Launch {
    counters::Launch {
        grid: launch.grid,
        block: launch.block,
        cluster,
        static_shared: u32::try_from(code.static_shared).unwrap_or(u32::MAX),
        dynamic_shared: launch.dynamic_shared,
    }
}

/// The blocks of a cooperative launch must all find room on the device at once.
fn check_resident(code: &Code, launch: &Launch<'_>, blocks: u64, gpu: &Gpu) -> Result<(), Fault> {
    let each = Occupancy::of(&shape(code, launch, 1), None, gpu).blocks;
    let most = u64::from(gpu.sms) * u64::from(each);
    if !launch.cooperative || blocks <= most {
        return Ok(());
    }
    let message = format!(
        "a cooperative grid of {blocks} blocks: {most} run at the same time on {}",
        gpu.name
    );
    Err(refused(code, message))
}

/// The rules of a launch.
fn check(code: &Code, launch: &Launch<'_>, gpu: &Gpu) -> Result<(), Fault> {
    let refuse = |message: String| Err(refused(code, message));
    let [x, y, z] = launch.block;
    let product = |extents: [u32; 3]| {
        extents.iter().fold(1u64, |all, &extent| all.saturating_mul(u64::from(extent)))
    };
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
    let warps = blocks.saturating_mul(threads.div_ceil(LANES as u64));
    if height > 65_535 || depth > 65_535 || warps > MOST_WARPS {
        return refuse(format!(
            "a grid of {:?} blocks: at most 65535 along y and z, and {MOST_WARPS} warps, are possible here",
            launch.grid
        ));
    }
    let shared = code.static_shared.saturating_add(u64::from(launch.dynamic_shared));
    if shared > MOST_SHARED {
        return refuse(format!(
            "{shared} bytes of shared memory, at most {MOST_SHARED} are possible"
        ));
    }
    check_resident(code, launch, blocks, gpu)?;
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
        if product(cluster) > u64::from(MOST_IN_CLUSTER) {
            return refuse(format!(
                "clusters of {cluster:?} blocks: at most {MOST_IN_CLUSTER} are possible"
            ));
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
