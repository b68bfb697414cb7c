//! Finding the driver's library before cudarc does, which panics where it is missing.

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use libloading::Library;

use crate::{Error, Result};

#[cfg(windows)]
const NAMES: [&str; 1] = ["nvcuda.dll"];
#[cfg(not(windows))]
const NAMES: [&str; 2] = ["libcuda.so.1", "libcuda.so"];

/// The oldest driver whose symbols are all those that this crate calls, as the driver counts
/// versions: 12.0.
const OLDEST_VERSION: i32 = 12_000;

type ElapsedTime = unsafe extern "C" fn(*mut f32, *mut c_void, *mut c_void) -> c_int;

/// What is needed of the library besides the symbols that cudarc looks up.
pub(super) struct DriverLibrary {
    /// The driver's CUDA version, major and minor.
    pub version: (u32, u32),
    /// `cuEventElapsedTime`, which every driver has; cudarc binds a successor that drivers
    /// before 12.8 lack, and would panic.
    pub elapsed_time: ElapsedTime,
    /// Keeps the symbols valid.
    _library: Library,
}

/// The driver's library, looked for once.
///
/// # Errors
///
/// [`Error::Unavailable`] where it is missing or too old.
pub(super) fn find() -> Result<&'static DriverLibrary> {
    static FOUND: OnceLock<Result<DriverLibrary, String>> = OnceLock::new();
    FOUND.get_or_init(open).as_ref().map_err(|reason| Error::Unavailable {
        device: "cuda".to_owned(),
        reason: reason.clone(),
        instead: "install or update the NVIDIA driver (no toolkit is needed), or use wgpu or cpu"
            .to_owned(),
    })
}

fn open() -> Result<DriverLibrary, String> {
    let library = NAMES
        .iter()
        // SAFETY: loading the driver's library runs its initialisers, which any program that
        // uses CUDA runs.
        .find_map(|&name| unsafe { Library::new(name) }.ok())
        .ok_or_else(|| {
            format!("there is no NVIDIA driver: {} was not found", NAMES.join(" or "))
        })?;
    let missing = |error: libloading::Error| format!("the NVIDIA driver lacks a symbol: {error}");
    // SAFETY: this is the symbol's signature in the driver API.
    let get_version = unsafe {
        library.get::<unsafe extern "C" fn(*mut c_int) -> c_int>(b"cuDriverGetVersion\0")
    };
    let mut version = 0;
    // SAFETY: the pointer is valid for the call, which needs no initialisation.
    let status = unsafe { get_version.map_err(missing)?(&raw mut version) };
    if status != 0 {
        return Err(format!("the NVIDIA driver does not tell its version: status {status}"));
    }
    if version < OLDEST_VERSION {
        let (major, minor) = split(version);
        return Err(format!("the NVIDIA driver supports CUDA {major}.{minor}, 12.0 is needed"));
    }
    // SAFETY: this is the symbol's signature in the driver API; events are opaque pointers.
    let elapsed_time = unsafe { library.get::<ElapsedTime>(b"cuEventElapsedTime\0") };
    let elapsed_time = *elapsed_time.map_err(missing)?;
    Ok(DriverLibrary { version: split(version), elapsed_time, _library: library })
}

/// 12080 → 12.8
fn split(version: c_int) -> (u32, u32) {
    let version = version.unsigned_abs();
    (version / 1000, version % 1000 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_split() {
        assert_eq!(split(12_080), (12, 8));
        assert_eq!(split(13_000), (13, 0));
    }
}
