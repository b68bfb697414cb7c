//! The typed entries of kernels/spgemm, as `build.rs` writes them.

include!(concat!(env!("OUT_DIR"), "/spgemm.rs"));
