//! Runs kernels on any machine, strictly.
#![allow(dead_code)] // while its parts are being joined

mod arithmetic;
mod counters;
mod decode;
mod exchange;
mod execute;
mod fault;
mod machine;
mod memory;
mod options;
mod random;
mod row;
mod tensor;

pub use counters::{
    Class, Cost, Counters, Estimate, Format, GPUS, Gpu, Launch as LaunchShape, Limit, Limits, Line,
    NoEstimate, Occupancy, Rates, Tally, Tensor, Traffic, Unit, UnknownGpu,
};
pub use fault::{Fault, FaultKind, Other};
pub use machine::{Kernel, Launch, Loaded, Machine};
pub use options::{Approximations, Options, Schedule};
pub use tensor::sums::Sums;
