//! Devices and tensors whose kind is known only at run time.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::backend::{Backend, Cpu, Limits, cpu};
use crate::element::DType;
use crate::shape::{Shape, Strides};
use crate::tensor::{Tensor, View};
use crate::{Error, Result};

#[cfg(feature = "cuda")]
use crate::backend::cuda::Cuda;
#[cfg(feature = "wgpu")]
use crate::backend::wgpu::Wgpu;

/// Runs one piece of code for the backend that a [`Device`] holds.
macro_rules! with_backend {
    ($device:expr, |$backend:ident| $body:expr) => {
        match $device {
            $crate::backend::Device::Cpu($backend) => $body,
            #[cfg(feature = "wgpu")]
            $crate::backend::Device::Wgpu($backend) => $body,
            #[cfg(feature = "cuda")]
            $crate::backend::Device::Cuda($backend) => $body,
        }
    };
}

/// Runs one piece of code for the view that an [`AnyTensor`] holds.
macro_rules! with_view {
    ($tensor:expr, |$view:ident| $body:expr) => {
        match $tensor {
            $crate::backend::AnyTensor::Cpu($view) => $body,
            #[cfg(feature = "wgpu")]
            $crate::backend::AnyTensor::Wgpu($view) => $body,
            #[cfg(feature = "cuda")]
            $crate::backend::AnyTensor::Cuda($view) => $body,
        }
    };
}

/// Runs one piece of code, which gives a [`Result`], with the backend of a [`Device`] and the
/// float that a [`DType`] means: the one place where run-time types become compile-time ones.
macro_rules! dispatch {
    ($operation:expr, $device:expr, $dtype:expr, |$backend:ident, $T:ident| $body:expr) => {
        match ($device, $dtype) {
            ($crate::Device::Cpu($backend), $crate::DType::F32) => {
                type $T = f32;
                $body
            }
            ($crate::Device::Cpu($backend), $crate::DType::F16) => {
                type $T = $crate::f16;
                $body
            }
            ($crate::Device::Cpu($backend), $crate::DType::BF16) => {
                type $T = $crate::bf16;
                $body
            }
            ($crate::Device::Cpu($backend), $crate::DType::F64) => {
                type $T = f64;
                $body
            }
            #[cfg(feature = "wgpu")]
            ($crate::Device::Wgpu($backend), $crate::DType::F32) => {
                type $T = f32;
                $body
            }
            #[cfg(feature = "wgpu")]
            ($crate::Device::Wgpu($backend), $crate::DType::F16) => {
                type $T = $crate::f16;
                $body
            }
            #[cfg(feature = "wgpu")]
            ($crate::Device::Wgpu($backend), $crate::DType::BF16) => {
                type $T = $crate::bf16;
                $body
            }
            #[cfg(feature = "cuda")]
            ($crate::Device::Cuda($backend), $crate::DType::F32) => {
                type $T = f32;
                $body
            }
            #[cfg(feature = "cuda")]
            ($crate::Device::Cuda($backend), $crate::DType::F16) => {
                type $T = $crate::f16;
                $body
            }
            #[cfg(feature = "cuda")]
            ($crate::Device::Cuda($backend), $crate::DType::BF16) => {
                type $T = $crate::bf16;
                $body
            }
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            (device, $crate::DType::F64) => Err($crate::Error::Unsupported {
                operation: $operation,
                backend: device.name(),
                what: "elements f64".to_owned(),
                instead: "use the device cpu, or f32 elements".to_owned(),
            }),
            (_, other) => Err($crate::Error::Dtype {
                operation: $operation,
                tensor: "activations".to_owned(),
                expected: "f32, f16, bf16 or f64".to_owned(),
                found: other.to_string(),
            }),
        }
    };
}

pub(crate) use dispatch;

/// Tensors of one device under their names.
pub type Named<B> = BTreeMap<String, View<B>>;

/// The same tensors with all floats as f64, exactly: what the reference takes.
///
/// # Errors
///
/// [`Error::InUse`] while another call writes one of them.
pub fn in_f64(named: &Named<Cpu>) -> Result<Named<Cpu>> {
    let widen = |(name, view): (&String, &View<Cpu>)| {
        let widened = match view.dtype().is_float() {
            true => Tensor::from_vec(view.to_f64()?, view.shape())?.into_view(),
            false => view.clone(),
        };
        Ok((name.clone(), widened))
    };
    named.iter().map(widen).collect()
}

/// Copies named tensors to a device, each by itself and without gaps.
pub(crate) fn on_backend<B: Backend>(backend: &B, named: &Named<Cpu>) -> Result<Named<B>> {
    named.iter().map(|(name, view)| Ok((name.clone(), view.to_backend(backend)?))).collect()
}

/// The name of a device, as the command line gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceName {
    /// The best one there is: CUDA, else a hardware wgpu adapter, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// A wgpu adapter by its number; without one, the first hardware adapter, else the software
    /// one.
    Wgpu(Option<usize>),
    /// A CUDA device by its number.
    Cuda(usize),
    /// The interpreter of PTX: the CUDA kernels on a machine without a GPU.
    Ptx,
}

impl FromStr for DeviceName {
    type Err = Error;

    /// Reads `auto`, `cpu`, `wgpu`, `wgpu:1`, `cuda`, `cuda:1` or `ptx`.
    fn from_str(name: &str) -> Result<Self> {
        let (kind, index) = match name.split_once(':') {
            Some((kind, index)) => (kind, index.parse().ok().map(Some)),
            None => (name, Some(None)),
        };
        match (kind, index) {
            ("auto", Some(None)) => Ok(Self::Auto),
            ("cpu", Some(None)) => Ok(Self::Cpu),
            ("wgpu", Some(index)) => Ok(Self::Wgpu(index)),
            ("cuda", Some(index)) => Ok(Self::Cuda(index.unwrap_or(0))),
            ("ptx", Some(None)) => Ok(Self::Ptx),
            _ => Err(Error::Option {
                operation: "device",
                option: "device".to_owned(),
                expected: "auto, cpu, wgpu, wgpu:INDEX, cuda, cuda:INDEX or ptx".to_owned(),
                found: name.to_owned(),
            }),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Wgpu(None) => f.write_str("wgpu"),
            Self::Wgpu(Some(index)) => write!(f, "wgpu:{index}"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Ptx => f.write_str("ptx"),
        }
    }
}

/// A device chosen at run time.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Device {
    /// The CPU.
    Cpu(Cpu),
    /// A wgpu adapter.
    #[cfg(feature = "wgpu")]
    Wgpu(Wgpu),
    /// A CUDA device.
    #[cfg(feature = "cuda")]
    Cuda(Cuda),
}

impl Device {
    /// The best device of this machine: CUDA, else a hardware wgpu adapter, else the CPU; never
    /// software Vulkan, never the interpreter.
    pub fn best() -> Self {
        #[cfg(feature = "cuda")]
        if let Ok(cuda) = Cuda::new(0) {
            return Self::Cuda(cuda);
        }
        #[cfg(feature = "wgpu")]
        if let Ok(wgpu) = Wgpu::hardware() {
            return Self::Wgpu(wgpu);
        }
        Self::Cpu(Cpu)
    }

    /// Opens the device of this name.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where it is not there, or the build lacks its backend.
    pub fn open(name: DeviceName) -> Result<Self> {
        match name {
            DeviceName::Auto => Ok(Self::best()),
            DeviceName::Cpu => Ok(Self::Cpu(Cpu)),
            #[cfg(feature = "wgpu")]
            DeviceName::Wgpu(index) => index.map_or_else(Wgpu::first, Wgpu::new).map(Self::Wgpu),
            #[cfg(feature = "cuda")]
            DeviceName::Cuda(index) => Cuda::new(index).map(Self::Cuda),
            #[cfg(feature = "interpreter")]
            DeviceName::Ptx => crate::backend::cuda::Interpreter::open().map(Self::Cuda),
            #[cfg(not(all(feature = "wgpu", feature = "cuda", feature = "interpreter")))]
            _ => Err(Error::Unavailable {
                device: name.to_string(),
                reason: "this build lacks its backend".to_owned(),
                instead: "build with the feature of its name".to_owned(),
            }),
        }
    }

    /// The device, as messages and results name it.
    pub fn name(&self) -> String {
        with_backend!(self, |backend| backend.name())
    }

    /// A tensor on the device that holds a copy of `bytes`, without gaps.
    ///
    /// # Errors
    ///
    /// As [`View::from_bytes`].
    pub fn upload(&self, dtype: DType, bytes: &[u8], shape: &[usize]) -> Result<AnyTensor> {
        with_backend!(self, |backend| View::from_bytes(backend, dtype, bytes, shape)
            .map(AnyTensor::from))
    }

    /// Waits until all queued work is done.
    ///
    /// # Errors
    ///
    /// As [`Backend::synchronise`].
    pub fn synchronise(&self) -> Result<()> {
        with_backend!(self, |backend| backend.synchronise())
    }
}

/// A device of this machine, as `warpwright devices` lists it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// The name that opens it.
    pub name: DeviceName,
    /// What its maker calls it, and the driver.
    pub title: String,
    /// Whether it only imitates a GPU on the CPU.
    pub software: bool,
    /// What plans know of it.
    pub limits: Limits,
}

impl DeviceInfo {
    /// The devices of this machine, and for each kind that has none the reason.
    pub fn list() -> (Vec<Self>, Vec<Error>) {
        let cpu = Self {
            name: DeviceName::Cpu,
            title: format!("{} threads, {}", rayon::current_num_threads(), cpu::simd_name()),
            software: false,
            limits: Cpu.limits(),
        };
        // Without GPU backends nothing is added.
        #[allow(unused_mut)]
        let (mut found, mut missing) = (vec![cpu], Vec::new());
        #[cfg(feature = "wgpu")]
        {
            let adapters = Wgpu::adapters();
            if adapters.is_empty() {
                missing.extend(Wgpu::first().err());
            }
            found.extend(adapters.into_iter().map(|adapter| Self {
                name: DeviceName::Wgpu(Some(adapter.index)),
                title: format!("{}, {} ({})", adapter.name, adapter.driver, adapter.interface),
                software: adapter.software,
                limits: adapter.limits,
            }));
        }
        #[cfg(feature = "cuda")]
        match Cuda::devices() {
            Err(error) => missing.push(error),
            Ok(devices) => found.extend(devices.into_iter().map(|properties| {
                let (major, minor) = properties.compute_capability;
                let title = format!("{}, compute capability {major}.{minor}", properties.name);
                let name = DeviceName::Cuda(properties.ordinal);
                Self { name, title, software: false, limits: properties.limits() }
            })),
        }
        #[cfg(feature = "interpreter")]
        {
            let properties = crate::backend::cuda::Interpreter::properties();
            found.push(Self {
                name: DeviceName::Ptx,
                title: properties.name.clone(),
                software: true,
                limits: properties.limits(),
            });
        }
        (found, missing)
    }
}

/// A tensor whose device and element type are known only at run time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AnyTensor {
    /// On the CPU.
    Cpu(View<Cpu>),
    /// On a wgpu adapter.
    #[cfg(feature = "wgpu")]
    Wgpu(View<Wgpu>),
    /// On a CUDA device.
    #[cfg(feature = "cuda")]
    Cuda(View<Cuda>),
}

impl AnyTensor {
    /// The device.
    pub fn device(&self) -> Device {
        match self {
            Self::Cpu(view) => Device::Cpu(*view.backend()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(view) => Device::Wgpu(view.backend().clone()),
            #[cfg(feature = "cuda")]
            Self::Cuda(view) => Device::Cuda(view.backend().clone()),
        }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        with_view!(self, |view| view.dtype())
    }

    /// The lengths of the axes.
    pub fn shape(&self) -> &Shape {
        with_view!(self, |view| view.shape())
    }

    /// The distances between neighbours along each axis, in elements.
    pub fn strides(&self) -> &Strides {
        with_view!(self, |view| view.strides())
    }

    /// A copy of the elements in order, the last axis fastest. Waits for the device.
    ///
    /// # Errors
    ///
    /// As [`View::to_bytes`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        with_view!(self, |view| view.to_bytes())
    }
}

macro_rules! any_tensor_from {
    ($($(#[$gate:meta])* $variant:ident),*) => {
        $(
            $(#[$gate])*
            impl From<View<$variant>> for AnyTensor {
                fn from(view: View<$variant>) -> Self {
                    Self::$variant(view)
                }
            }
        )*
    };
}

any_tensor_from!(
    Cpu,
    #[cfg(feature = "wgpu")]
    Wgpu,
    #[cfg(feature = "cuda")]
    Cuda
);
