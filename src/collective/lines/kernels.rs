//! The typed entries of kernels/collective, as `build.rs` writes them.

include!(concat!(env!("OUT_DIR"), "/collective.rs"));
