//! The typed entries of kernels/scan_attention, as `build.rs` writes them.

include!(concat!(env!("OUT_DIR"), "/scan_attention.rs"));
