//! The typed entries of kernels/selective_scan, as `build.rs` writes them.

include!(concat!(env!("OUT_DIR"), "/selective_scan.rs"));
