//! NCCL's library, found at run time.
//!
//! cudarc has bindings, too, but looks for other names than the library is installed under, and
//! panics where it finds none.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use libloading::Library;

use crate::{Error, Result};

#[cfg(windows)]
const NAMES: [&str; 1] = ["nccl.dll"];
#[cfg(not(windows))]
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];

/// The oldest version with communicators that do not block: 2.17.
const OLDEST_VERSION: c_int = 21_700;

/// What tells ranks that they belong together, to be brought to each of them.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct UniqueId(pub [u8; 128]);

/// A communicator, as NCCL knows it.
pub(super) type Handle = *mut c_void;

/// How a communicator is made, as version 2.17 has it; later ones take it as well.
#[repr(C)]
pub(super) struct Config {
    size: usize,
    magic: c_uint,
    version: c_uint,
    blocking: c_int,
    cluster_size: c_int,
    least_blocks: c_int,
    most_blocks: c_int,
    net_name: *const c_char,
    split_share: c_int,
}

impl Config {
    /// Nothing waits: what is under way is asked for.
    pub fn without_blocking() -> Self {
        const UNDEFINED: c_int = c_int::MIN;
        Self {
            size: size_of::<Self>(),
            magic: 0xcafe_beef,
            version: OLDEST_VERSION as c_uint,
            blocking: 0,
            cluster_size: UNDEFINED,
            least_blocks: UNDEFINED,
            most_blocks: UNDEFINED,
            net_name: std::ptr::null(),
            split_share: UNDEFINED,
        }
    }
}

/// What calls return.
pub(super) const SUCCESS: c_int = 0;
pub(super) const IN_PROGRESS: c_int = 7;
/// The type of bytes.
pub(super) const BYTES: c_int = 1;

/// The functions that are called, with NCCL's signatures.
pub(super) struct Nccl {
    pub unique_id: unsafe extern "C" fn(*mut UniqueId) -> c_int,
    pub init: unsafe extern "C" fn(*mut Handle, c_int, UniqueId, c_int, *mut Config) -> c_int,
    pub async_error: unsafe extern "C" fn(Handle, *mut c_int) -> c_int,
    pub destroy: unsafe extern "C" fn(Handle) -> c_int,
    pub abort: unsafe extern "C" fn(Handle) -> c_int,
    pub group_start: unsafe extern "C" fn() -> c_int,
    pub group_end: unsafe extern "C" fn() -> c_int,
    pub send:
        unsafe extern "C" fn(*const c_void, usize, c_int, c_int, Handle, *mut c_void) -> c_int,
    pub receive:
        unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, Handle, *mut c_void) -> c_int,
    error_string: unsafe extern "C" fn(c_int) -> *const c_char,
    /// Keeps the functions valid.
    _library: Library,
}

impl Nccl {
    /// What a status means.
    pub fn meaning(&self, status: c_int) -> String {
        // SAFETY: any status may be asked for; the answer is a text that stays.
        let text = unsafe { (self.error_string)(status) };
        if text.is_null() {
            return format!("status {status}");
        }
        // SAFETY: as above.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }
}

/// The library, looked for once.
///
/// # Errors
///
/// [`Error::Unavailable`] where it is missing or too old.
pub(super) fn find() -> Result<&'static Nccl> {
    static FOUND: OnceLock<Result<Nccl, String>> = OnceLock::new();
    FOUND.get_or_init(open).as_ref().map_err(|reason| Error::Unavailable {
        device: "nccl".to_owned(),
        reason: reason.clone(),
        instead: "install NCCL, 2.17 or later, or use `CudaPeer` for the GPUs of one process"
            .to_owned(),
    })
}

fn open() -> Result<Nccl, String> {
    let library = NAMES
        .iter()
        // SAFETY: loading NCCL runs its initialisers, which any program that uses it runs.
        .find_map(|&name| unsafe { Library::new(name) }.ok())
        .ok_or_else(|| format!("there is no NCCL: {} was not found", NAMES.join(" or ")))?;
    /// A function of the library.
    ///
    /// # Safety
    ///
    /// `F` is its signature.
    unsafe fn function<F: Copy>(library: &Library, name: &str) -> Result<F, String> {
        // SAFETY: the caller's promise.
        let found = unsafe { library.get::<F>(name) };
        found.map(|found| *found).map_err(|error| format!("NCCL lacks a symbol: {error}"))
    }
    // SAFETY: these are the signatures of nccl.h, where handles, streams and addresses are pointers,
    // and enumerations are ints.
    unsafe {
        let version: unsafe extern "C" fn(*mut c_int) -> c_int =
            function(&library, "ncclGetVersion")?;
        let mut found = 0;
        if version(&raw mut found) != SUCCESS || found < OLDEST_VERSION {
            return Err(format!("NCCL is of version {found}, {OLDEST_VERSION} is needed"));
        }
        Ok(Nccl {
            unique_id: function(&library, "ncclGetUniqueId")?,
            init: function(&library, "ncclCommInitRankConfig")?,
            async_error: function(&library, "ncclCommGetAsyncError")?,
            destroy: function(&library, "ncclCommDestroy")?,
            abort: function(&library, "ncclCommAbort")?,
            group_start: function(&library, "ncclGroupStart")?,
            group_end: function(&library, "ncclGroupEnd")?,
            send: function(&library, "ncclSend")?,
            receive: function(&library, "ncclRecv")?,
            error_string: function(&library, "ncclGetErrorString")?,
            _library: library,
        })
    }
}
