//! The typed entries of kernels/attention, as `build.rs` writes them.

include!(concat!(env!("OUT_DIR"), "/attention.rs"));
