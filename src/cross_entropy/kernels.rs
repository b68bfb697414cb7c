//! The typed entries of kernels/cross_entropy, as `build.rs` writes them.

include!(concat!(env!("OUT_DIR"), "/cross_entropy.rs"));
