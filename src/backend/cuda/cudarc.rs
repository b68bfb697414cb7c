//! The driver of a GPU, through cudarc's bindings.
//!
//! Only symbols and fields that CUDA 12.0 to 13.4 share are touched. Modules, functions, streams
//! and events are kept raw: cudarc's own types throw the assembler's log away and cannot launch
//! clusters.

use std::ffi::{CString, c_void};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::cudarc::driver::result::{self, DriverError};
use ::cudarc::driver::{CudaContext, sys};

use super::driver::{
    DeviceHandle, Driver, EventHandle, FunctionAttributes, FunctionHandle, Launch, ModuleHandle,
    Properties, StreamHandle,
};
use super::failure::{failed, not_allocated, not_loaded, not_opened};
use super::library::{self, DriverLibrary};
use crate::{Error, Result};

/// Bytes for what the assembler says.
const LOG_BYTES: usize = 8192;

/// The largest cluster that every device with clusters takes.
const PORTABLE_CLUSTER: u32 = 8;

/// One GPU, by a context that is shared with everybody else who uses the GPU in this process.
pub(super) struct CudarcDriver {
    context: Arc<CudaContext>,
    library: &'static DriverLibrary,
    properties: Properties,
    /// As messages name the device.
    name: String,
}

/// The properties of every GPU that the driver sees.
pub(super) fn devices() -> Result<Vec<Properties>> {
    let library = library::find()?;
    let list = || -> Result<Vec<Properties>, DriverError> {
        result::init()?;
        (0..result::device::get_count()?)
            .map(|ordinal| properties(result::device::get(ordinal)?, ordinal as usize, library))
            .collect()
    };
    list().map_err(|error| not_opened(None, error))
}

impl CudarcDriver {
    /// The GPU of this number, by its primary context.
    pub fn new(ordinal: usize) -> Result<Self> {
        let library = library::find()?;
        // cudarc takes a number that fits in an i32.
        let invalid = || DriverError(sys::CUresult::CUDA_ERROR_INVALID_DEVICE);
        let context = match i32::try_from(ordinal) {
            Ok(_) => CudaContext::new(ordinal),
            Err(_) => Err(invalid()),
        };
        let context = context.map_err(|error| not_opened(Some(ordinal), error))?;
        Self::with_library(context, library)
    }

    /// The GPU of a context that somebody else opened.
    pub fn with_context(context: Arc<CudaContext>) -> Result<Self> {
        Self::with_library(context, library::find()?)
    }

    fn with_library(context: Arc<CudaContext>, library: &'static DriverLibrary) -> Result<Self> {
        let ordinal = context.ordinal();
        let properties = properties(context.cu_device(), ordinal, library)
            .map_err(|error| not_opened(Some(ordinal), error))?;
        let name = format!("cuda:{ordinal} ({})", properties.name);
        Ok(Self { context, library, properties, name })
    }

    /// Makes the context current on this thread, as every call below needs it.
    fn bind(&self) -> Result<()> {
        // SAFETY: the context is alive as long as `self`.
        let bound = unsafe { result::ctx::set_current(self.context.cu_ctx()) };
        self.check("cuCtxSetCurrent", bound)
    }

    fn check<T>(&self, call: &'static str, result: Result<T, DriverError>) -> Result<T> {
        result.map_err(|error| failed(&self.name, call, error))
    }

    /// A capture keeps the addresses of the host, which are not valid when it is replayed.
    ///
    /// # Safety
    ///
    /// The stream is alive.
    unsafe fn refuse_capture(&self, stream: StreamHandle) -> Result<()> {
        // SAFETY: the caller vouches for the stream.
        let status = unsafe { result::stream::is_capturing(raw_stream(stream)) };
        match self.check("cuStreamIsCapturing", status)? {
            sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE => Ok(()),
            _ => Err(failed(
                &self.name,
                "a copy between host and device",
                DriverError(sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED),
            )),
        }
    }

    /// Launches with attributes, which clusters need.
    ///
    /// # Safety
    ///
    /// As [`Driver::launch`].
    unsafe fn launch_clusters(
        &self,
        launch: &Launch<'_>,
        cluster: [u32; 3],
        arguments: &mut [*mut c_void],
    ) -> Result<()> {
        let function = raw_function(launch.function);
        if cluster.iter().product::<u32>() > PORTABLE_CLUSTER {
            let allowed =
                sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED;
            // SAFETY: the caller vouches for the function.
            let set = unsafe { result::function::set_function_attribute(function, allowed, 1) };
            self.check("cuFuncSetAttribute", set)?;
        }
        // SAFETY: the attribute is made of integers and a union of plain data, for which zero is
        // a value.
        let mut attributes: [sys::CUlaunchAttribute; 2] = unsafe { std::mem::zeroed() };
        attributes[0].id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
        let [x, y, z] = cluster;
        attributes[0].value.clusterDim =
            sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x, y, z };
        attributes[1].id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
        attributes[1].value.cooperative = i32::from(launch.cooperative);
        let config = sys::CUlaunchConfig {
            gridDimX: launch.grid[0],
            gridDimY: launch.grid[1],
            gridDimZ: launch.grid[2],
            blockDimX: launch.block[0],
            blockDimY: launch.block[1],
            blockDimZ: launch.block[2],
            sharedMemBytes: launch.dynamic_shared,
            hStream: raw_stream(launch.stream),
            attrs: attributes.as_mut_ptr(),
            numAttrs: 1 + u32::from(launch.cooperative),
        };
        // SAFETY: the caller vouches for function, stream and arguments; the driver copies the
        // configuration, the attributes and the arguments before it returns.
        let launched = unsafe {
            let (parameters, extra) = (arguments.as_mut_ptr(), std::ptr::null_mut());
            sys::cuLaunchKernelEx(&raw const config, function, parameters, extra).result()
        };
        self.check("cuLaunchKernelEx", launched)
    }
}

impl Driver for CudarcDriver {
    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn device(&self) -> DeviceHandle {
        DeviceHandle(self.context.cu_ctx() as u64)
    }

    fn make_current(&self) -> Result<()> {
        self.bind()
    }

    fn load_module(&self, text: &str) -> Result<ModuleHandle> {
        self.bind()?;
        let text = CString::new(text).map_err(|_| Error::Driver {
            device: self.name.clone(),
            call: "cuModuleLoadDataEx",
            reason: "the PTX holds a NUL".to_owned(),
        })?;
        let mut log = vec![0u8; LOG_BYTES];
        let mut options = [
            sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER,
            sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
        ];
        // Numbers among the values are passed in the place of a pointer.
        let mut values = [log.as_mut_ptr().cast::<c_void>(), LOG_BYTES as *mut c_void];
        let mut module = std::ptr::null_mut();
        // SAFETY: the text ends in NUL, the log has the length that is passed, and both arrays
        // have as many elements as said.
        let loaded = unsafe {
            sys::cuModuleLoadDataEx(
                &raw mut module,
                text.as_ptr().cast(),
                options.len() as u32,
                options.as_mut_ptr(),
                values.as_mut_ptr(),
            )
        };
        loaded.result().map_err(|error| {
            let end = log.iter().position(|&byte| byte == 0).unwrap_or(LOG_BYTES);
            not_loaded(&self.name, error, String::from_utf8_lossy(&log[..end]).trim_end())
        })?;
        Ok(ModuleHandle(module as u64))
    }

    unsafe fn unload_module(&self, module: ModuleHandle) -> Result<()> {
        self.bind()?;
        // A launch of the module may still be queued, on any stream.
        self.check("cuCtxSynchronize", result::ctx::synchronize())?;
        // SAFETY: the caller vouches for the module, and nothing runs any more.
        let unloaded = unsafe { result::module::unload(module.0 as sys::CUmodule) };
        self.check("cuModuleUnload", unloaded)
    }

    unsafe fn function(
        &self,
        module: ModuleHandle,
        name: &str,
    ) -> Result<(FunctionHandle, FunctionAttributes)> {
        use sys::CUfunction_attribute as Attribute;
        self.bind()?;
        let missing = |_| DriverError(sys::CUresult::CUDA_ERROR_NOT_FOUND);
        let name = self.check("cuModuleGetFunction", CString::new(name).map_err(missing))?;
        // SAFETY: the caller vouches for the module.
        let function = unsafe { result::module::get_function(module.0 as sys::CUmodule, name) };
        let function = self.check("cuModuleGetFunction", function)?;
        let attribute = |attribute: Attribute| {
            // SAFETY: the function was just found.
            let value = unsafe { result::function::get_function_attribute(function, attribute) };
            self.check("cuFuncGetAttribute", value.map(i32::unsigned_abs))
        };
        let attributes = FunctionAttributes {
            registers: attribute(Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            local_bytes: attribute(Attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
            shared_bytes: attribute(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?,
            dynamic_shared: attribute(Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)?,
            block_threads: attribute(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
        };
        Ok((FunctionHandle(function as u64), attributes))
    }

    unsafe fn allow_dynamic_shared(&self, function: FunctionHandle, bytes: u32) -> Result<()> {
        self.bind()?;
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        // SAFETY: the caller vouches for the function.
        let set = unsafe {
            result::function::set_function_attribute(
                raw_function(function),
                sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                bytes,
            )
        };
        self.check("cuFuncSetAttribute", set)
    }

    fn create_stream(&self) -> Result<StreamHandle> {
        self.bind()?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking);
        Ok(StreamHandle(self.check("cuStreamCreate", stream)? as u64))
    }

    unsafe fn destroy_stream(&self, stream: StreamHandle) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller vouches for the stream.
        let destroyed = unsafe { result::stream::destroy(raw_stream(stream)) };
        self.check("cuStreamDestroy", destroyed)
    }

    unsafe fn synchronise(&self, stream: StreamHandle) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller vouches for the stream.
        let done = unsafe { result::stream::synchronize(raw_stream(stream)) };
        self.check("cuStreamSynchronize", done)
    }

    unsafe fn allocate(&self, bytes: u64, stream: StreamHandle) -> Result<u64> {
        self.bind()?;
        // SAFETY: the caller vouches for the stream, and for what becomes of the memory.
        let address = unsafe {
            match self.properties.pools {
                true => result::malloc_async(raw_stream(stream), bytes as usize),
                false => result::malloc_sync(bytes as usize),
            }
        };
        address.map_err(|error| {
            let available = result::mem_get_info().ok().map(|(free, _)| free as u64);
            not_allocated(&self.name, bytes, error, available)
        })
    }

    unsafe fn free(&self, address: u64, stream: StreamHandle) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller vouches for address and stream; without pools the driver waits for
        // the device by itself.
        let freed = unsafe {
            match self.properties.pools {
                true => result::free_async(address, raw_stream(stream)),
                false => result::free_sync(address),
            }
        };
        self.check("cuMemFree", freed)
    }

    unsafe fn upload(&self, destination: u64, source: &[u8], stream: StreamHandle) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller vouches for the stream.
        unsafe { self.refuse_capture(stream) }?;
        // SAFETY: the caller vouches for the destination; see below for the source.
        let copied = unsafe { result::memcpy_htod_async(destination, source, raw_stream(stream)) };
        self.check("cuMemcpyHtoDAsync", copied)?;
        // Pageable memory has been read when the call returns. Pinned memory, which the driver
        // knows, is read later, when the caller may have changed it.
        let mut kind = 0u32;
        // SAFETY: the driver writes a u32 for this attribute; it looks the address up only.
        let known = unsafe {
            sys::cuPointerGetAttribute(
                (&raw mut kind).cast(),
                sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                source.as_ptr() as u64,
            )
        };
        match known.result() {
            // SAFETY: as above.
            Ok(()) => unsafe { self.synchronise(stream) },
            Err(_) => Ok(()),
        }
    }

    unsafe fn download(
        &self,
        destination: &mut [u8],
        source: u64,
        stream: StreamHandle,
    ) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller vouches for the stream.
        unsafe { self.refuse_capture(stream) }?;
        // SAFETY: the caller vouches for the source; the destination is ours until the stream is
        // synchronised below.
        let copied = unsafe { result::memcpy_dtoh_async(destination, source, raw_stream(stream)) };
        self.check("cuMemcpyDtoHAsync", copied)?;
        // SAFETY: as above.
        unsafe { self.synchronise(stream) }
    }

    unsafe fn copy(
        &self,
        destination: u64,
        source: u64,
        bytes: u64,
        stream: StreamHandle,
    ) -> Result<()> {
        self.bind()?;
        let stream = raw_stream(stream);
        // SAFETY: the caller vouches for addresses and stream.
        let copied =
            unsafe { result::memcpy_dtod_async(destination, source, bytes as usize, stream) };
        self.check("cuMemcpyDtoDAsync", copied)
    }

    unsafe fn copy_from_peer(
        &self,
        destination: u64,
        peer: DeviceHandle,
        source: u64,
        bytes: u64,
        stream: StreamHandle,
    ) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller vouches for addresses, devices and stream.
        let copied = unsafe {
            result::memcpy_peer_async(
                self.context.cu_ctx(),
                destination,
                peer.0 as sys::CUcontext,
                source,
                bytes as usize,
                raw_stream(stream),
            )
        };
        self.check("cuMemcpyPeerAsync", copied)
    }

    unsafe fn allow_peer(&self, peer: DeviceHandle) -> Result<()> {
        use sys::CUresult;
        if peer == self.device() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: the caller vouches for the peer's context.
        match unsafe { sys::cuCtxEnablePeerAccess(peer.0 as sys::CUcontext, 0) } {
            CUresult::CUDA_SUCCESS
            | CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED
            | CUresult::CUDA_ERROR_PEER_ACCESS_UNSUPPORTED
            | CUresult::CUDA_ERROR_TOO_MANY_PEERS => Ok(()),
            other => self.check("cuCtxEnablePeerAccess", Err(DriverError(other))),
        }
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        self.bind()?;
        // The driver reads through these pointers; that they are mutable is C's way.
        let mut arguments: Vec<*mut c_void> =
            launch.arguments.iter().map(|bytes| bytes.as_ptr().cast_mut().cast()).collect();
        if let Some(cluster) = launch.cluster {
            // SAFETY: the caller vouches for the launch.
            return unsafe { self.launch_clusters(launch, cluster, &mut arguments) };
        }
        let function = raw_function(launch.function);
        let (grid, block) = (launch.grid.into(), launch.block.into());
        let (shared, stream) = (launch.dynamic_shared, raw_stream(launch.stream));
        // SAFETY: the caller vouches that the arguments fit the kernel and that their addresses
        // are valid; the driver copies the arguments before it returns.
        unsafe {
            match launch.cooperative {
                true => self.check(
                    "cuLaunchCooperativeKernel",
                    result::launch_cooperative_kernel(
                        function,
                        grid,
                        block,
                        shared,
                        stream,
                        &mut arguments,
                    ),
                ),
                false => self.check(
                    "cuLaunchKernel",
                    result::launch_kernel(function, grid, block, shared, stream, &mut arguments),
                ),
            }
        }
    }

    unsafe fn record(&self, stream: StreamHandle) -> Result<EventHandle> {
        self.bind()?;
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT);
        let event = self.check("cuEventCreate", event)?;
        // SAFETY: the event was just made; the caller vouches for the stream.
        let recorded = unsafe { result::event::record(event, raw_stream(stream)) };
        let handle = EventHandle(event as u64);
        self.check("cuEventRecord", recorded).inspect_err(|_| {
            // SAFETY: nobody else has the event. The first error is the one to report.
            let _ = unsafe { self.destroy_event(handle) };
        })?;
        Ok(handle)
    }

    unsafe fn wait(&self, stream: StreamHandle, event: EventHandle) -> Result<()> {
        self.bind()?;
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: the caller vouches for stream and event.
        let queued =
            unsafe { result::stream::wait_event(raw_stream(stream), raw_event(event), flags) };
        self.check("cuStreamWaitEvent", queued)
    }

    unsafe fn is_done(&self, event: EventHandle) -> Result<bool> {
        self.bind()?;
        // SAFETY: the caller vouches for the event.
        match unsafe { result::event::query(raw_event(event)) } {
            Err(DriverError(sys::CUresult::CUDA_ERROR_NOT_READY)) => Ok(false),
            other => self.check("cuEventQuery", other).map(|()| true),
        }
    }

    unsafe fn elapsed(&self, start: EventHandle, end: EventHandle) -> Result<Duration> {
        self.bind()?;
        // SAFETY: the caller vouches for the events.
        let done = unsafe { result::event::synchronize(raw_event(end)) };
        self.check("cuEventSynchronize", done)?;
        let mut milliseconds = 0.0;
        let (start, end) = (raw_event(start).cast(), raw_event(end).cast());
        // SAFETY: as above; the pointer is valid for the call.
        let status = unsafe { (self.library.elapsed_time)(&raw mut milliseconds, start, end) };
        if status != 0 {
            return Err(Error::Driver {
                device: self.name.clone(),
                call: "cuEventElapsedTime",
                reason: format!("status {status}"),
            });
        }
        Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) * 1e-3))
    }

    unsafe fn destroy_event(&self, event: EventHandle) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller vouches for the event.
        let destroyed = unsafe { result::event::destroy(raw_event(event)) };
        self.check("cuEventDestroy", destroyed)
    }
}

impl fmt::Debug for CudarcDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn properties(
    device: sys::CUdevice,
    ordinal: usize,
    library: &DriverLibrary,
) -> Result<Properties, DriverError> {
    use sys::CUdevice_attribute as Attribute;
    let attribute = |attribute: Attribute| {
        // SAFETY: the device came from the driver.
        unsafe { result::device::get_attribute(device, attribute) }.map(i32::unsigned_abs)
    };
    Ok(Properties {
        ordinal,
        name: result::device::get_name(device)?,
        compute_capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        block_threads: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
        shared_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        grid: [
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z)?,
        ],
        // SAFETY: as above.
        memory_bytes: unsafe { result::device::total_mem(device) }? as u64,
        pools: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED)? != 0,
        cooperative: attribute(Attribute::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH)? != 0,
        clusters: attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH)? != 0,
        driver_version: library.version,
    })
}

fn raw_stream(stream: StreamHandle) -> sys::CUstream {
    stream.0 as sys::CUstream
}

fn raw_function(function: FunctionHandle) -> sys::CUfunction {
    function.0 as sys::CUfunction
}

fn raw_event(event: EventHandle) -> sys::CUevent {
    event.0 as sys::CUevent
}
