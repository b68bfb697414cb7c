//! The tests of the crate, a module for each subject, generic over the devices.

mod attention;
mod cases;
mod causal_conv1d;
mod collective;
mod cross_entropy;
#[cfg(feature = "cuda")]
mod cuda;
mod devices;
mod errors;
mod gradients;
mod group_sparse;
#[cfg(feature = "interpreter")]
mod interpreter;
mod lines;
mod properties;
mod resources;
mod ring;
mod rnn;
mod scan_attention;
mod spgemm;
mod state_update;
#[cfg(feature = "wgpu")]
mod wgpu;
