//! The typed entries of kernels/causal_conv1d, as `build.rs` writes them.

include!(concat!(env!("OUT_DIR"), "/causal_conv1d.rs"));
