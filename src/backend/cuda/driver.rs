//! What a CUDA device is to this crate: one trait, so that launchers, plans, argument packing
//! and PTX are the same code on a GPU and on a machine without one.

use std::fmt::Debug;
use std::time::Duration;

use crate::Result;
use crate::backend::{Limits, Tier};

/// A CUDA device of one kind: a GPU through the driver API, or something that behaves like one.
///
/// One driver is one device; a second device is a second driver. Device memory is a 64-bit
/// address. Everything but [`download`](Self::download), [`elapsed`](Self::elapsed),
/// [`synchronise`](Self::synchronise) and [`unload_module`](Self::unload_module) only queues
/// work, which runs in the order of its stream.
///
/// # Safety
///
/// Implementing the trait is safe; its unsafe methods share these rules:
///
/// 1. Handles come from the same driver and have not been destroyed. Stream handles may also be
///    streams of the same device that somebody else owns.
/// 2. Addresses with the bytes that follow lie in memory of the device which is not freed
///    before the queued work is done.
/// 3. Nobody else uses memory that is written, nor writes memory that is read, other than in the
///    order of the stream.
pub trait Driver: Debug + Send + Sync {
    /// The facts that do not change.
    fn properties(&self) -> &Properties;

    /// How messages name the device.
    fn title(&self) -> String {
        let Properties { ordinal, name, .. } = self.properties();
        format!("cuda:{ordinal} ({name})")
    }

    /// What tells this device from the others of its kind.
    fn device(&self) -> DeviceHandle;

    /// Makes the device that of this thread, for libraries that ask which one is.
    ///
    /// # Errors
    ///
    /// The driver's refusal.
    fn make_current(&self) -> Result<()>;

    /// Assembles PTX.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`](crate::Error::Driver) with the assembler's log.
    fn load_module(&self, text: &str) -> Result<ModuleHandle>;

    /// Unloads a module and its functions, after waiting for the device.
    ///
    /// # Errors
    ///
    /// The driver's refusal.
    ///
    /// # Safety
    ///
    /// The [rules of the trait](Self#safety).
    unsafe fn unload_module(&self, module: ModuleHandle) -> Result<()>;

    /// The kernel of this name, and what the assembler made of it.
    ///
    /// # Errors
    ///
    /// The driver's refusal, for instance where there is no such kernel.
    ///
    /// # Safety
    ///
    /// The [rules of the trait](Self#safety). The handle lives as long as its module.
    unsafe fn function(
        &self,
        module: ModuleHandle,
        name: &str,
    ) -> Result<(FunctionHandle, FunctionAttributes)>;

    /// Lets launches of the function ask for up to `bytes` of dynamic shared memory.
    ///
    /// # Errors
    ///
    /// The driver's refusal, for instance of more than the device has.
    ///
    /// # Safety
    ///
    /// The [rules of the trait](Self#safety).
    unsafe fn allow_dynamic_shared(&self, function: FunctionHandle, bytes: u32) -> Result<()>;

    /// A new stream, which does not wait for the default one.
    ///
    /// # Errors
    ///
    /// The driver's refusal.
    fn create_stream(&self) -> Result<StreamHandle>;

    /// Gives a stream back; work that is queued on it still runs.
    ///
    /// # Errors
    ///
    /// The driver's refusal.
    ///
    /// # Safety
    ///
    /// The [rules of the trait](Self#safety), and the stream came from
    /// [`create_stream`](Self::create_stream).
    unsafe fn destroy_stream(&self, stream: StreamHandle) -> Result<()>;

    /// Waits until the work queued on a stream is done.
    ///
    /// # Errors
    ///
    /// An error of that work, or a lost device.
    ///
    /// # Safety
    ///
    /// The [rules of the trait](Self#safety).
    unsafe fn synchronise(&self, stream: StreamHandle) -> Result<()>;

    /// Memory for work that is queued on the stream from now on; `bytes` is not 0.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), or the driver's refusal.
    ///
    /// # Safety
    ///
    /// The [rules of the trait](Self#safety).
    unsafe fn allocate(&self, bytes: u64, stream: StreamHandle) -> Result<u64>;

    /// Gives memory back once the work queued on the stream so far is done.
    ///
    /// # Errors
    ///
    /// The driver's refusal.
    ///
    /// # Safety
    ///
    /// The [rules of the trait](Self#safety); the address came from
    /// [`allocate`](Self::allocate), and other streams are done with it.
    unsafe fn free(&self, address: u64, stream: StreamHandle) -> Result<()>;

    /// Copies host memory to the device. `source` may be reused at once.
    ///
    /// # Errors
    ///
    /// The driver's refusal; a stream that is being captured refuses.
    ///
    /// # Safety
    ///
    /// The [rules of the trait](Self#safety).
    unsafe fn upload(&self, destination: u64, source: &[u8], stream: StreamHandle) -> Result<()>;

    /// Copies device memory to the host, and waits for it.
    ///
    /// # Errors
    ///
    /// An error of the work queued before, or the driver's refusal; a stream that is being
    /// captured refuses.
    ///
    /// # Safety
    ///
    /// The [rules of the trait](Self#safety).
    unsafe fn download(
        &self,
        destination: &mut [u8],
        source: u64,
        stream: StreamHandle,
    ) -> Result<()>;

    /// Copies within the device.
    ///
    /// # Errors
    ///
    /// The driver's refusal.
    ///
    /// # Safety
    ///
    /// The [rules of the trait](Self#safety), and the two ranges do not overlap.
    unsafe fn copy(
        &self,
        destination: u64,
        source: u64,
        bytes: u64,
        stream: StreamHandle,
    ) -> Result<()>;

    /// Copies from the memory of another device of the same kind into this one's.
    ///
    /// # Errors
    ///
    /// The driver's refusal.
    ///
    /// # Safety
    ///
    /// The [rules of the trait](Self#safety); `source` is memory of `peer`, whose work on it is
    /// done or ordered before.
    unsafe fn copy_from_peer(
        &self,
        destination: u64,
        peer: DeviceHandle,
        source: u64,
        bytes: u64,
        stream: StreamHandle,
    ) -> Result<()>;

    /// Lets this device's copies reach the memory of another one of the same kind without a detour,
    /// where the two are connected so.
    ///
    /// # Errors
    ///
    /// The driver's refusal; not where there is no such connection.
    ///
    /// # Safety
    ///
    /// The [rules of the trait](Self#safety).
    unsafe fn allow_peer(&self, peer: DeviceHandle) -> Result<()>;

    /// Queues a kernel.
    ///
    /// # Errors
    ///
    /// The driver's refusal, or an error of earlier work.
    ///
    /// # Safety
    ///
    /// The [rules of the trait](Self#safety) for every address among the arguments, which fit
    /// the kernel's parameters in number, order and size.
    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()>;

    /// A point in a stream's work.
    ///
    /// # Errors
    ///
    /// The driver's refusal.
    ///
    /// # Safety
    ///
    /// The [rules of the trait](Self#safety).
    unsafe fn record(&self, stream: StreamHandle) -> Result<EventHandle>;

    /// What is queued on the stream from now on waits for the event.
    ///
    /// # Errors
    ///
    /// The driver's refusal.
    ///
    /// # Safety
    ///
    /// The [rules of the trait](Self#safety).
    unsafe fn wait(&self, stream: StreamHandle, event: EventHandle) -> Result<()>;

    /// Whether the work before an event is done.
    ///
    /// # Errors
    ///
    /// An error of that work, or the driver's refusal.
    ///
    /// # Safety
    ///
    /// The [rules of the trait](Self#safety).
    unsafe fn is_done(&self, event: EventHandle) -> Result<bool>;

    /// The device's time from one event to a later one, for which it waits.
    ///
    /// # Errors
    ///
    /// An error of the work before the events, or the driver's refusal.
    ///
    /// # Safety
    ///
    /// The [rules of the trait](Self#safety).
    unsafe fn elapsed(&self, start: EventHandle, end: EventHandle) -> Result<Duration>;

    /// Gives an event back.
    ///
    /// # Errors
    ///
    /// The driver's refusal.
    ///
    /// # Safety
    ///
    /// The [rules of the trait](Self#safety).
    unsafe fn destroy_event(&self, event: EventHandle) -> Result<()>;
}

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
            pub struct $name(pub u64);
        )*
    };
}

handles! {
    /// A device, among those of one kind of driver.
    DeviceHandle;
    /// A stream: a queue whose work runs in order. For CUDA the `CUstream`.
    StreamHandle;
    /// A loaded module.
    ModuleHandle;
    /// A kernel of a loaded module.
    FunctionHandle;
    /// A point in a stream's work.
    EventHandle;
}

/// A kernel, how it is laid out, and what it is given.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The kernel.
    pub function: FunctionHandle,
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
    /// The bytes of each `.param`, in order.
    pub arguments: &'a [&'a [u8]],
    /// The stream.
    pub stream: StreamHandle,
}

/// The facts of a CUDA device; what `warpwright devices` lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Properties {
    /// Its number.
    pub ordinal: usize,
    /// Its name, as the driver gives it.
    pub name: String,
    /// Compute capability, major and minor.
    pub compute_capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Most threads in a block.
    pub block_threads: u32,
    /// Most bytes of shared memory in a block, when the kernel asks for them.
    pub shared_bytes: u32,
    /// Most blocks along each axis of the grid.
    pub grid: [u32; 3],
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Whether memory comes from a pool, in the order of a stream.
    pub pools: bool,
    /// Whether grids may be cooperative.
    pub cooperative: bool,
    /// Whether blocks may form clusters.
    pub clusters: bool,
    /// The CUDA version of the driver, major and minor.
    pub driver_version: (u32, u32),
}

impl Properties {
    /// The highest level of PTX that the device runs; `None` where it is too old for any.
    /// sm_90a is not forward compatible: it runs on 9.0 only.
    pub fn tier(&self) -> Option<Tier> {
        match self.compute_capability {
            (9, 0) => Some(Tier::Sm90a),
            (8.., _) => Some(Tier::Sm80),
            _ => None,
        }
    }

    /// What plans need to know of the device.
    pub fn limits(&self) -> Limits {
        Limits {
            units: self.multiprocessors,
            block_threads: self.block_threads,
            shared_bytes: self.shared_bytes,
            grid: self.grid,
            binding_bytes: self.memory_bytes,
            storage_bindings: u32::MAX,
            subgroups: Some((32, 32)),
            native_f16: true,
            tier: self.tier(),
        }
    }
}

/// What the assembler made of a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FunctionAttributes {
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of local memory of a thread: spilled registers.
    pub local_bytes: u32,
    /// Bytes of shared memory that the kernel declares.
    pub shared_bytes: u32,
    /// Bytes of dynamic shared memory that a launch may ask for, until
    /// [`allow_dynamic_shared`](Driver::allow_dynamic_shared) raises it.
    pub dynamic_shared: u32,
    /// Most threads in a block.
    pub block_threads: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tier_follows_the_compute_capability() {
        let of =
            |compute_capability| Properties { compute_capability, ..Properties::default() }.tier();
        assert_eq!(of((7, 5)), None);
        assert_eq!(of((8, 0)), Some(Tier::Sm80));
        assert_eq!(of((8, 9)), Some(Tier::Sm80));
        assert_eq!(of((9, 0)), Some(Tier::Sm90a));
        assert_eq!(of((10, 0)), Some(Tier::Sm80));
        assert_eq!(of((12, 0)), Some(Tier::Sm80));
    }
}
