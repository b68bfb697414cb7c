//! The driver's codes as errors of this crate.

use ::cudarc::driver::DriverError;
use ::cudarc::driver::sys::CUresult;

use crate::Error;

/// The error of a call on a device.
pub(super) fn failed(device: &str, call: &'static str, error: DriverError) -> Error {
    use CUresult as Code;
    let device = device.to_owned();
    let code = error.0;
    match code {
        Code::CUDA_ERROR_ILLEGAL_ADDRESS
        | Code::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | Code::CUDA_ERROR_MISALIGNED_ADDRESS
        | Code::CUDA_ERROR_INVALID_ADDRESS_SPACE
        | Code::CUDA_ERROR_INVALID_PC
        | Code::CUDA_ERROR_HARDWARE_STACK_ERROR
        | Code::CUDA_ERROR_ASSERT
        | Code::CUDA_ERROR_LAUNCH_FAILED
        | Code::CUDA_ERROR_LAUNCH_TIMEOUT
        | Code::CUDA_ERROR_ECC_UNCORRECTABLE
        | Code::CUDA_ERROR_NVLINK_UNCORRECTABLE
        | Code::CUDA_ERROR_CONTEXT_IS_DESTROYED => Error::DeviceLost {
            device,
            reason: format!(
                "{call} reports {code:?}, of this call or of work queued before; the context of \
                 this process on the device is dead"
            ),
        },
        _ => Error::Driver { device, call, reason: format!("{code:?}{}", hint(code)) },
    }
}

/// The error of an allocation: `available` says how many bytes are free, where that is known.
pub(super) fn not_allocated(
    device: &str,
    asked: u64,
    error: DriverError,
    available: Option<u64>,
) -> Error {
    match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            Error::OutOfMemory { device: device.to_owned(), asked, available }
        }
        _ => failed(device, "cuMemAlloc", error),
    }
}

/// The error of a module that did not load, with the assembler's log.
pub(super) fn not_loaded(device: &str, error: DriverError, log: &str) -> Error {
    match failed(device, "cuModuleLoadDataEx", error) {
        Error::Driver { device, call, reason } if !log.is_empty() => {
            Error::Driver { device, call, reason: format!("{reason}\n{log}") }
        }
        other => other,
    }
}

/// The error of opening a device.
pub(super) fn not_opened(ordinal: Option<usize>, error: DriverError) -> Error {
    use CUresult as Code;
    let device = ordinal.map_or("cuda".to_owned(), |ordinal| format!("cuda:{ordinal}"));
    let code = error.0;
    let reason = match code {
        Code::CUDA_ERROR_NO_DEVICE => "the driver sees no NVIDIA GPU".to_owned(),
        Code::CUDA_ERROR_INVALID_DEVICE => "the machine has no GPU of this number".to_owned(),
        Code::CUDA_ERROR_STUB_LIBRARY => {
            "the toolkit's stub of the driver was found in place of the driver".to_owned()
        }
        Code::CUDA_ERROR_OUT_OF_MEMORY => "it has no memory left for a context".to_owned(),
        _ => format!("the driver says {code:?}{}", hint(code)),
    };
    let instead = "`warpwright devices` lists what is there; else use wgpu or cpu".to_owned();
    Error::Unavailable { device, reason, instead }
}

/// What the code means to the one who reads it, where its name does not say so.
fn hint(code: CUresult) -> &'static str {
    use CUresult as Code;
    match code {
        Code::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            ": the driver is older than the kernel's PTX; update it"
        }
        Code::CUDA_ERROR_NO_BINARY_FOR_GPU => ": the kernel is not for this GPU",
        Code::CUDA_ERROR_JIT_COMPILER_NOT_FOUND => {
            ": the driver's PTX assembler (libnvidia-ptxjitcompiler) is not installed"
        }
        Code::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            ": kernel module and library of the driver differ; restart the machine"
        }
        Code::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED => {
            ": a stream that is being captured cannot do this"
        }
        Code::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES => {
            ": a block asks for more registers or shared memory than there are"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_errors_that_can_be_matched() {
        let lost = failed("cuda:0", "cuLaunchKernel", code(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS));
        assert!(
            matches!(&lost, Error::DeviceLost { reason, .. } if reason.contains("ILLEGAL_ADD"))
        );
        let refused = failed("cuda:0", "cuLaunchKernel", code(CUresult::CUDA_ERROR_INVALID_VALUE));
        assert!(matches!(refused, Error::Driver { call: "cuLaunchKernel", .. }));
    }

    #[test]
    fn a_full_device_says_how_much_was_asked_for() {
        let full = code(CUresult::CUDA_ERROR_OUT_OF_MEMORY);
        let expected =
            Error::OutOfMemory { device: "cuda:0".to_owned(), asked: 7, available: Some(3) };
        assert_eq!(not_allocated("cuda:0", 7, full, Some(3)), expected);
        let other = code(CUresult::CUDA_ERROR_INVALID_CONTEXT);
        assert!(matches!(not_allocated("cuda:0", 7, other, None), Error::Driver { .. }));
    }

    #[test]
    fn the_assemblers_log_reaches_the_reader() {
        let log = "ptxas application ptx input, line 7; error: Unknown symbol 'x'";
        let error = not_loaded("cuda:0", code(CUresult::CUDA_ERROR_INVALID_PTX), log);
        assert!(error.to_string().contains("INVALID_PTX\nptxas application"), "{error}");
        let old = not_loaded("cuda:0", code(CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION), "");
        assert!(old.to_string().ends_with("update it"), "{old}");
    }

    #[test]
    fn a_device_that_is_not_there_is_unavailable() {
        let error = not_opened(Some(3), code(CUresult::CUDA_ERROR_INVALID_DEVICE));
        assert!(error.to_string().starts_with("device `cuda:3` is not available: the machine"));
        let stub = not_opened(None, code(CUresult::CUDA_ERROR_STUB_LIBRARY));
        assert!(matches!(stub, Error::Unavailable { .. }));
    }

    fn code(code: CUresult) -> DriverError {
        DriverError(code)
    }
}
